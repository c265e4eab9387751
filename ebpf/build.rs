//! Makes Rust constants of the layout that `include/weft.h` tells, and finds the programs' object:
//! compiled anew where that compiler is there, else the one that lies beside the sources.
//!
//! The compiler takes no header of the system, and names sources from the crate's folder, so that the same
//! compiler makes the same object everywhere (`scripts/ebpf.sh`).

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the object is made of; its includes are found from it.
const SOURCE: &str = "programs/shortcut.c";
/// The object beside the sources.
const COMMITTED: &str = "programs/shortcut.o";
fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for watched in ["include", "programs"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    println!("cargo:rerun-if-env-changed=WEFT_CLANG");
    let header = read(&root.join("include/weft.h"));
    let constants = constants(&header);
    if let Err(error) = fs::write(out.join("layout.rs"), constants) {
        panic!("the layout cannot be written: {error}");
    }
    object(&root, &out.join("shortcut.o"));
}

/// The object, compiled or copied.
fn object(root: &Path, to: &Path) {
    match clang() {
        Some(clang) => {
            compile(&clang, root, to);
            strip(to);
        }
        None => {
            if let Err(error) = fs::copy(root.join(COMMITTED), to) {
                panic!("{COMMITTED}: {error}");
            }
        }
    }
}

/// The compiler: what `WEFT_CLANG` says (`none`: the committed object), else the one that made the committed
/// object. Of any other nobody knows whether the kernel's verifier agrees with what it makes.
fn clang() -> Option<String> {
    match env::var("WEFT_CLANG") {
        Ok(none) if none == "none" => None,
        Ok(given) => Some(given),
        Err(_) => Some("clang-19".to_owned()).filter(|name| runs(name)),
    }
}

fn runs(program: &str) -> bool {
    let quiet = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn compile(clang: &str, root: &Path, to: &Path) {
    let run = Command::new(clang)
        .current_dir(root)
        .args(["@programs/flags", "-c", SOURCE, "-o"])
        .arg(to)
        .output();
    match run {
        Ok(done) if done.status.success() => {}
        Ok(done) => panic!("{clang}: {}", String::from_utf8_lossy(&done.stderr)),
        Err(error) => panic!("{clang}: {error}"),
    }
}

/// Without DWARF, which only debuggers read, the object is a quarter as large. It works with it, too.
fn strip(object: &Path) {
    for strip in ["llvm-strip-19", "llvm-strip"] {
        let run = Command::new(strip).arg("-g").arg(object).status();
        if run.is_ok_and(|status| status.success()) {
            return;
        }
    }
}

fn read(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn number(line: &str, word: &str) -> usize {
    match word.parse() {
        Ok(number) => number,
        Err(error) => panic!("{line}: {word}: {error}"),
    }
}

/// One constant for each `LAYOUT`, `LAYOUT_SIZE` and `CONSTANT` line.
fn constants(header: &str) -> String {
    let mut code = String::new();
    for line in header.lines() {
        let Some((word, rest)) = line.split_once('(') else { continue };
        let Some(inner) = rest.strip_suffix(')') else { continue };
        let words: Vec<&str> = inner.split(',').map(str::trim).collect();
        let written = match (word, &words[..]) {
            ("CONSTANT", [name, value]) => {
                writeln!(code, "/// `{name}`\npub const {name}: u32 = {value};")
            }
            ("LAYOUT_SIZE", [of, size]) => {
                let name = of.to_uppercase();
                writeln!(code, "/// Octets of `struct {of}`.\npub const {name}: usize = {size};")
            }
            ("LAYOUT", [of, field, offset, size]) => {
                let name = format!("{}_{}", of.to_uppercase(), field.to_uppercase());
                let end = number(line, offset) + number(line, size);
                writeln!(
                    code,
                    "/// `{field}` in `struct {of}`.\npub const {name}: core::ops::Range<usize> = {offset}..{end};"
                )
            }
            _ => Ok(()),
        };
        if let Err(error) = written {
            panic!("{line}: {error}");
        }
    }
    assert!(code.contains("WEFT_NODE_ADDRESS"), "weft.h has no LAYOUT lines");
    code
}
