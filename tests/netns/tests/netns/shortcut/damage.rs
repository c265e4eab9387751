//! Somebody else damages the shortcut; it is mended within five seconds, and told. Meanwhile the bridge path carries.
//!
//! ```text
//!          a                      b  ← damaged
//!  ┌───────────────┐      ┌───────────────┐
//!  │ web-1         │      │ web-2         │
//!  └───────────────┘      └───────────────┘
//! ```

use std::path::PathBuf;
use std::time::Duration;

use weft_tests::bpf::{self, Table};
use weft_tests::{until, within};

use super::{Pair, pair};

/// What the tables hold, but for counts.
type Held = Vec<(String, Vec<u8>, Option<Vec<u8>>)>;

const TABLES: [&str; 7] = ["node", "endpoints", "granted", "fdb", "members", "neighbours", "vteps"];

fn held(pair: &Pair) -> Held {
    let mut held = Held::new();
    for name in TABLES {
        let table = Table::of(pair.cluster.host("b"), name);
        for key in table.keys() {
            let mut value = table.get(&key);
            // Where an endpoint is counted is nobody's business.
            if let (Some(value), "endpoints" | "fdb") = (&mut value, name) {
                value[4..8].fill(0);
            }
            held.push((name.to_owned(), key, value));
        }
    }
    held.sort();
    held
}

/// Programs at the underlay's link and at the container's, by either hook.
fn programs(pair: &Pair) -> [usize; 2] {
    ["eth0".to_owned(), pair.two.host_end()].map(|link| {
        let shown = pair.cluster.on("b", &["tc", "filter", "show", "dev", &link, "ingress"]).stdout;
        let filters = shown.lines().filter(|l| l.contains("from_")).count();
        bpf::programs(&pair.cluster.host("b").netns_file(), &link) + filters
    })
}

fn repairs(pair: &Pair) -> Vec<String> {
    let status = pair.cluster.json("b", &["status"]);
    let repairs = status["repairs"].as_array().into_iter().flatten();
    repairs.map(|r| r.as_str().map_or_else(|| r.to_string(), str::to_owned)).collect()
}

/// Does the damage, waits for it to be mended and told in these words.
#[track_caller]
fn damaged(pair: &Pair, what: &str, told: &str, damage: impl FnOnce()) {
    let before = (held(pair), programs(pair));
    let told_before = repairs(pair).iter().filter(|r| r.contains(told)).count();
    damage();
    let mut after = (Held::new(), [0; 2]);
    let mended = within(Duration::from_secs(5), || {
        after = (held(pair), programs(pair));
        after == before
    });
    assert!(mended.is_some(), "{what} is not mended:\n{before:?}\n{after:?}");
    until(Duration::from_secs(5), &format!("{what} is told of"), || {
        repairs(pair).iter().filter(|r| r.contains(told)).count() > told_before
    });
    pair.resumes(Duration::from_secs(2));
}

#[track_caller]
fn deleted(name: &str, tables: [(&str, &str); 2]) {
    let pair = pair(name, ["auto", "auto"]);
    let probes = pair.probes();
    for (name, told) in tables {
        let table = Table::of(pair.cluster.host("b"), name);
        let keys = table.keys();
        assert!(!keys.is_empty(), "nothing in {name}");
        damaged(&pair, &format!("a deleted entry of {name}"), told, || table.delete(&keys[0]));
    }
    // A missing entry costs speed, not packets.
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
}

#[test]
fn deleted_entries_of_who_is_where() {
    deleted("where", [("endpoints", "shortcut endpoint"), ("fdb", "shortcut")]);
}

#[test]
fn deleted_entries_of_who_is_whom_and_how_to_get_there() {
    deleted("whom", [("neighbours", "shortcut neigh"), ("vteps", "shortcut vtep")]);
}

#[test]
fn entries_that_are_changed_or_too_many() {
    let pair = pair("changed", ["auto", "auto"]);
    let table = Table::of(pair.cluster.host("b"), "neighbours");
    let key = table.keys().swap_remove(0);
    let wrong = [2, 0, 0, 0, 0, 0x99, 0, 0];
    damaged(&pair, "a changed neighbour", "shortcut neigh", || table.put(&key, &wrong));
    let mut extra = key;
    extra[19] ^= 0x40;
    damaged(&pair, "an entry too many", "shortcut neigh", || table.put(&extra, &wrong));
}

/// The programs cannot know that a member is missing: they drop what a stranger sends.
#[test]
fn a_member_that_is_missing_is_put_back() {
    let pair = pair("member", ["auto", "auto"]);
    let members = Table::of(pair.cluster.host("b"), "members");
    let key = members.keys().swap_remove(0);
    let dropped = pair.cluster.dropped_while(("b", "web"), || {
        damaged(&pair, "a missing member", "shortcut member", || {
            members.delete(&key);
            pair.one.pings(&pair.two.v4().to_string());
        });
    });
    assert!(dropped.get("not_a_member").is_none_or(|packets| *packets < 20), "{dropped:?}");
}

#[test]
fn the_node_itself() {
    let pair = pair("nodeless", ["auto", "auto"]);
    let probes = pair.probes();
    let node = Table::of(pair.cluster.host("b"), "node");
    let key = node.keys().swap_remove(0);
    let value = node.get(&key).unwrap();
    damaged(&pair, "what the programs know of the node", "shortcut node", || {
        node.put(&key, &vec![0; value.len()])
    });
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
}

fn links_of(pair: &Pair) -> Vec<PathBuf> {
    let pins = bpf::pins(pair.cluster.host("b"));
    let of_links = |pin: &PathBuf| pin.parent().is_some_and(|p| p.ends_with("links"));
    pins.into_iter().filter(of_links).collect()
}

#[track_caller]
fn by_tcx(name: &str, damage: impl Fn(&PathBuf)) {
    let pair = pair(name, ["auto", "auto"]);
    let probes = pair.probes();
    let links = links_of(&pair);
    assert_eq!(links.len(), 2, "{links:?}");
    for pin in &links {
        let what = pin.file_name().unwrap().to_string_lossy().into_owned();
        damaged(&pair, &what, "shortcut program", || damage(pin));
    }
    assert_eq!(links_of(&pair), links);
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
}

#[test]
fn programs_that_are_detached() {
    by_tcx("tcxless", |pin| bpf::detach(pin));
}

#[test]
fn programs_whose_pins_are_deleted() {
    by_tcx("pinless", |pin| std::fs::remove_file(pin).unwrap());
}

#[track_caller]
fn by_clsact(name: &str, words: &str) {
    let pair = pair(name, ["auto", "clsact"]);
    let probes = pair.probes();
    for link in ["eth0".to_owned(), pair.two.host_end()] {
        let words = words.replace("LINK", &link);
        damaged(&pair, &words, "shortcut program", || {
            pair.cluster.on("b", &words.split(' ').collect::<Vec<_>>()).ok();
        });
    }
    // Where a qdisc is made or deleted, the kernel stops the link's own queues for a moment.
    for probe in probes {
        let report = probe.end();
        assert!(report.sent > 1_000 && report.lost < 50, "{report:?}");
    }
}

#[test]
fn filters_that_are_deleted() {
    by_clsact("filterless", "tc filter del dev LINK ingress");
}

#[test]
fn qdiscs_that_are_deleted() {
    by_clsact("clsless", "tc qdisc del dev LINK clsact");
}
