//! What a host's kernel holds for networking, as comparable lines.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Cluster;

/// Everything that a third party could damage: links, addresses, routes, neighbours, forwarding rows,
/// bridge ports, filters and the switches of forwarding. What changes by itself (counters, timers,
/// indices, learnt neighbours) is left out.
#[track_caller]
pub fn dump(cluster: &Cluster, host: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let picks: [(&[&str], &[&str]); 6] = [
        (&["ip", "-j", "link"], &["ifname", "mtu", "master", "address", "ifalias", "flags"]),
        (
            &["ip", "-j", "route", "show", "table", "main"],
            &["dst", "gateway", "dev", "prefsrc", "protocol"],
        ),
        (
            &["ip", "-6", "-j", "route", "show", "table", "main"],
            &["dst", "gateway", "dev", "prefsrc", "protocol"],
        ),
        (&["ip", "-j", "neigh", "show", "nud", "permanent"], &["dst", "dev", "lladdr", "protocol"]),
        (&["bridge", "-j", "fdb"], &["mac", "ifname", "master", "dst", "state", "flags"]),
        (
            &["bridge", "-j", "-d", "link"],
            &["ifname", "learning", "locked", "neigh_suppress", "state"],
        ),
    ];
    for (words, keys) in picks {
        for entry in list(cluster, host, words) {
            lines.insert(pick(words[0], &entry, keys));
        }
    }
    for link in list(cluster, host, &["ip", "-j", "addr"]) {
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let address =
                pick("address", address, &["local", "prefixlen", "scope", "noprefixroute"]);
            lines.insert(format!("{address} on {}", link["ifname"]));
        }
    }
    // Without counters and handles; each line with the chain it stands in.
    let mut chain = String::new();
    for line in cluster.on(host, &["nft", "-s", "list", "ruleset"]).ok().lines() {
        let line = line.trim();
        if line.ends_with('{') {
            chain =
                if line.starts_with("table") { line.to_owned() } else { format!("{chain} {line}") };
        } else if line == "}" {
            chain = chain
                .rsplit_once(" chain")
                .or(chain.rsplit_once(" set"))
                .map_or_else(String::new, |(t, _)| t.to_owned());
        } else {
            lines.insert(format!("nft {chain} {line}"));
        }
    }
    for switch in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        lines.insert(format!(
            "{switch} = {}",
            cluster.on(host, &["sysctl", "-n", switch]).ok().trim()
        ));
    }
    lines
}

/// What is in one and not in the other.
pub fn difference(before: &BTreeSet<String>, after: &BTreeSet<String>) -> String {
    let missing = before.difference(after).map(|line| format!("- {line}\n"));
    let extra = after.difference(before).map(|line| format!("+ {line}\n"));
    missing.chain(extra).collect()
}

#[track_caller]
fn list(cluster: &Cluster, host: &str, words: &[&str]) -> Vec<Value> {
    let text = cluster.on(host, words).ok();
    // An empty list is printed as nothing by some versions.
    let value = if text.trim().is_empty() {
        Ok(Value::Array(Vec::new()))
    } else {
        serde_json::from_str(&text)
    };
    match value {
        Ok(Value::Array(entries)) => entries,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn pick(what: &str, entry: &Value, keys: &[&str]) -> String {
    let fields = keys.iter().filter(|key| !entry[**key].is_null());
    let fields: Vec<String> = fields.map(|key| format!("{key}={}", sorted(&entry[*key]))).collect();
    format!("{what} {}", fields.join(" "))
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: BTreeSet<String> = items.iter().map(Value::to_string).collect();
            items.into_iter().collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}
