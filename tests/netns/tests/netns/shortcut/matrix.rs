//! Nodes with the shortcut, by either hook, and nodes without it are one network.
//!
//! ```text
//!       a: tcx, clsact or off          b: tcx, clsact or off
//!  ┌───────────────────────┐      ┌───────────────────────┐
//!  │ web-1 ◀───────────────┼──────┼──────────────▶ web-2  │
//!  └───────────────────────┘      └───────────────────────┘
//!        underlay: IPv4, IPv6;  inside: IPv4, IPv6;  ping, TCP, UDP
//! ```

use std::net::IpAddr;

use weft_tests::{Topology, Traffic, stream};

use super::{Pair, netns, pair_on, pings};

/// Octets each way.
const STREAM: usize = 2_000_000;

#[track_caller]
fn took(setting: &str, traffic: &Traffic, packets: u64, what: &str) {
    match setting {
        "off" => traffic.assert_by_bridge(packets, what),
        _ => traffic.assert_by_shortcut(packets, what),
    }
}

#[track_caller]
fn flows(pair: &Pair, settings: [&str; 2], target: IpAddr) {
    let [here, there] = pair.both().map(netns);
    let ping = || pings(&pair.one, target, 20);
    let tcp = || stream::exchange(&here, &there, target, STREAM).unwrap();
    let udp = || {
        let source = if target.is_ipv4() { pair.one.v4() } else { pair.one.v6() };
        assert_eq!(stream::datagrams(&here, &there, target, 1_200, 20), Ok(20));
        assert_eq!(stream::datagrams(&there, &here, source, 1_200, 20), Ok(20));
    };
    let works: [(&str, &dyn Fn()); 3] = [("ping", &ping), ("TCP", &tcp), ("UDP", &udp)];
    for (what, work) in works {
        let [one, two] = pair.cluster.traffic_while(pair.both(), work);
        took(settings[0], &one, 20, &format!("{what} to {target}, web-1 on {}", settings[0]));
        took(settings[1], &two, 20, &format!("{what} to {target}, web-2 on {}", settings[1]));
    }
}

#[track_caller]
fn both_families(name: &str, settings: [&'static str; 2], ipv6_underlay: bool) {
    let pair = pair_on(name, settings, Topology { ipv6_underlay, ..Topology::default() });
    for (host, setting) in ["a", "b"].into_iter().zip(settings) {
        let shortcut = pair.cluster.shortcut(host);
        let state = (shortcut["state"].as_str(), shortcut["hook"].as_str());
        let expected = match setting {
            "off" => (Some("off"), Some("")),
            "clsact" => (Some("on"), Some("clsact")),
            _ => (Some("on"), Some("tcx")),
        };
        assert_eq!(state, expected, "{host}: {shortcut}");
    }
    flows(&pair, settings, pair.two.v4());
    flows(&pair, settings, pair.two.v6());
}

#[test]
fn tcx_with_tcx_over_ipv4() {
    both_families("tt4", ["auto", "auto"], false);
}

#[test]
fn tcx_with_tcx_over_ipv6() {
    both_families("tt6", ["auto", "auto"], true);
}

#[test]
fn tcx_with_bridge_path_over_ipv4() {
    both_families("to4", ["auto", "off"], false);
}

#[test]
fn tcx_with_bridge_path_over_ipv6() {
    both_families("to6", ["auto", "off"], true);
}

#[test]
fn tcx_with_clsact_over_ipv4() {
    both_families("tc4", ["auto", "clsact"], false);
}

#[test]
fn tcx_with_clsact_over_ipv6() {
    both_families("tc6", ["auto", "clsact"], true);
}

#[test]
fn clsact_with_bridge_path_over_ipv4() {
    both_families("co4", ["clsact", "off"], false);
}

#[test]
fn clsact_with_bridge_path_over_ipv6() {
    both_families("co6", ["clsact", "off"], true);
}
