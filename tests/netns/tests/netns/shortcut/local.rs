//! Two containers of one host: straight from one into the other.
//!
//! ```text
//!              a                          b
//!  ┌───────────────────────┐      ┌───────────────┐
//!  │ web-1 ◀──▶ web-2      │      │ (nobody)      │
//!  └───────────────────────┘      └───────────────┘
//! ```

use weft_tests::{Cluster, Topology, Traffic, stream};

use super::{BOTH, netns, pings};

#[track_caller]
fn neighbours(name: &str, setting: &'static str, took: impl Fn(&Traffic, &str)) {
    let cluster =
        Cluster::with(name, Topology { shortcut: vec![("a", setting)], ..Topology::default() });
    cluster.network("web", &BOTH);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("a", "web-2", &["--network", "web"]);
    cluster.wait_for_programs();
    one.ping("web-2");
    for target in two.addresses() {
        pings(&one, target, 1);
        let [here, there] = [&one, &two].map(netns);
        let ping = || pings(&one, target, 20);
        let tcp = || stream::exchange(&here, &there, target, 4_000_000).unwrap();
        let udp = || {
            assert_eq!(stream::datagrams(&here, &there, target, 1_200, 20), Ok(20));
            let source = if target.is_ipv4() { one.v4() } else { one.v6() };
            assert_eq!(stream::datagrams(&there, &here, source, 1_200, 20), Ok(20));
        };
        let works: [(&str, &dyn Fn()); 3] = [("ping", &ping), ("TCP", &tcp), ("UDP", &udp)];
        for (what, work) in works {
            for traffic in cluster.traffic_while([&one, &two], work) {
                took(&traffic, &format!("{what} to {target}"));
            }
        }
    }
}

#[test]
fn with_the_shortcut_they_meet_without_the_bridge() {
    neighbours("near", "auto", |traffic, what| traffic.assert_by_shortcut(20, what));
}

#[test]
fn by_clsact_as_well() {
    neighbours("nearcls", "clsact", |traffic, what| traffic.assert_by_shortcut(20, what));
}

#[test]
fn without_it_they_meet_at_the_bridge() {
    neighbours("nearoff", "off", |traffic, what| traffic.assert_by_bridge(20, what));
}
