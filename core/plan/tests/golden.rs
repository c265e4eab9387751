//! Stories with what hosts hold in them, as `ip -d`, `bridge fdb` and `nft` would print it.
//!
//! In `tests/scenarios/*.txt`, lines that are not indented tell the story (see `story`), and
//! between them three questions are asked, each answered by the indented lines below it:
//! `view NODE` is everything on that host, `changes NODE` what has changed since the last
//! question about it, `names NODE` what its resolver knows.
//!
//! `UPDATE=1 cargo test -p weft-plan --test golden` writes the answers anew; read the diff.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod story;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use story::Story;
use weft_dns::NameTable;
use weft_kernel::text::line;
use weft_kernel::{KernelState, render};
use weft_plan::Planner;

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/scenarios");

#[derive(Default)]
struct Host {
    planner: Planner,
    last: KernelState,
}

#[test]
#[expect(clippy::disallowed_methods, reason = "stories are files")]
fn every_host_holds_what_the_story_says() {
    let update = std::env::var("UPDATE").is_ok();
    let mut files: Vec<_> =
        Path::new(SCENARIOS).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no stories in {SCENARIOS}");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let expected = std::fs::read_to_string(&file).unwrap();
        let told = retell(&expected).unwrap_or_else(|error| panic!("{name}: {error}"));
        if update {
            std::fs::write(&file, told).unwrap();
        } else if told != expected {
            wrong.push(format!("{name}:\n{}", first_difference(&expected, &told)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nUPDATE=1 writes the answers anew; read the diff then",
        wrong.join("\n")
    );
}

/// The story with its answers.
fn retell(text: &str) -> Result<String, String> {
    let mut story = Story::default();
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    let mut told = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with(' ') {
            continue;
        }
        told.push_str(line);
        told.push('\n');
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut ask = |node: &str, question: &str| {
            let view = story.view(node)?;
            let host = hosts.entry(node.to_owned()).or_default();
            let plan = host.planner.plan(&view);
            let before = std::mem::replace(&mut host.last, plan.kernel.clone());
            Ok::<_, String>(match question {
                "view" => render(&plan.kernel),
                "changes" => changes(&before, &plan.kernel),
                _ => names(&plan.names),
            })
        };
        let answer = match words.as_slice() {
            [] => Ok(String::new()),
            [question @ ("view" | "changes" | "names"), node] => ask(node, question),
            _ if line.starts_with('#') => Ok(String::new()),
            _ => story.tell(line).map(|()| String::new()),
        };
        let answer = answer.map_err(|error| format!("line {}: {line}: {error}", number + 1))?;
        for line in answer.lines() {
            writeln!(told, "    {line}").unwrap();
        }
    }
    Ok(told)
}

fn changes(before: &KernelState, now: &KernelState) -> String {
    let mut text = String::new();
    for (key, object) in before.iter().filter(|(key, object)| now.get(key) != Some(*object)) {
        text.push_str(&signed('-', &line(key, object)));
    }
    for (key, object) in now.iter().filter(|(key, object)| before.get(key) != Some(*object)) {
        text.push_str(&signed('+', &line(key, object)));
    }
    text
}

fn signed(sign: char, text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + &format!("{sign} {line}\n"))
}

fn names(table: &NameTable) -> String {
    let mut text = String::new();
    for (name, network) in &table.networks {
        let internal = if network.internal { " internal" } else { "" };
        let gateways: Vec<String> = network.gateways.iter().map(ToString::to_string).collect();
        writeln!(text, "network {name} at {} {}{internal}", network.bridge, gateways.join(" "))
            .unwrap();
        for record in &network.records {
            let addresses: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
            writeln!(text, "  {}: {}", record.names.join(" "), addresses.join(" ")).unwrap();
        }
    }
    for asker in &table.askers {
        let addresses: Vec<String> = asker.addresses.iter().map(ToString::to_string).collect();
        let forward = if asker.forward { ", forwarded" } else { "" };
        writeln!(
            text,
            "asker {} at {}: {}{forward}",
            addresses.join(" "),
            asker.bridge,
            asker.networks.join(" ")
        )
        .unwrap();
    }
    text
}

fn first_difference(expected: &str, told: &str) -> String {
    let mut pairs = expected.lines().zip(told.lines()).enumerate();
    match pairs.find(|(_, (a, b))| a != b) {
        Some((number, (a, b))) => format!("line {}\n  file: {a}\n  plan: {b}", number + 1),
        None => "one is longer than the other".to_owned(),
    }
}
