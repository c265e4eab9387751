//! Everybody reaches everybody, by name and by address.
//!
//! ```text
//!    a 172.10.0.15            b 172.10.0.16            c 172.10.0.17
//!  ┌───────────────┐        ┌───────────────┐        ┌───────────────┐
//!  │ web-1         │        │ web-2         │        │ web-3         │
//!  └──────┬────────┘        └──────┬────────┘        └──────┬────────┘
//!         └────────── web: 10.3.0.0/24, fd00:3::/64 ────────┘
//! ```

use weft_tests::{Attached, Capture, Cluster, Topology, Vxlan};

const BOTH: [&str; 4] = ["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"];

/// By name in both families, and by every address.
#[track_caller]
fn all_reach_all(containers: &[Attached]) {
    for from in containers {
        for to in containers.iter().filter(|to| to.name != from.name) {
            for address in to.addresses() {
                from.ping(&address.to_string());
                let family = if address.is_ipv4() { "-4" } else { "-6" };
                from.run(&["ping", family, "-n", "-c1", "-W2", &to.name]).ok();
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                assert_eq!(from.dig(&to.name, kind), [address.to_string()]);
            }
        }
    }
}

#[test]
fn two_hosts_by_the_picture() {
    let cluster = Cluster::up("two", 2);
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let one = cluster.attach("a", "web-1", &["--network", "web", "--ip", "10.3.0.2"]);
    let two = cluster.attach("b", "web-2", &["--network", "web", "--ip", "10.3.0.5"]);
    assert_eq!(one.v4().to_string(), "10.3.0.2");
    assert_eq!(two.v4().to_string(), "10.3.0.5");

    let cable = Capture::begin(&cluster.lab().underlay(), "a");
    all_reach_all(&[one, two]);
    let packets: Vec<Vxlan> = cable.end().iter().filter_map(|f| Vxlan::parse(f, 4789)).collect();
    let asked = ("10.3.0.2".parse().unwrap(), "10.3.0.5".parse().unwrap());
    let outer = ("172.10.0.15".parse().unwrap(), "172.10.0.16".parse().unwrap());
    let seen = packets.iter().find(|p| p.inner_addresses() == Some(asked)).expect("no packet seen");
    assert_eq!((seen.source, seen.target), outer);
}

#[test]
fn three_hosts_in_both_families() {
    let cluster = Cluster::up("three", 3);
    cluster.network("web", &BOTH);
    let containers: Vec<Attached> = ["a", "b", "c"]
        .iter()
        .zip(1..)
        .map(|(host, n)| cluster.attach(host, &format!("web-{n}"), &["--network", "web"]))
        .collect();
    all_reach_all(&containers);
}

#[test]
fn several_containers_on_one_host() {
    let cluster = Cluster::up("same", 2);
    cluster.network("web", &BOTH);
    let containers = [("a", "web-1"), ("a", "web-2"), ("b", "web-3")]
        .map(|(h, n)| cluster.attach(h, n, &["--network", "web"]));
    all_reach_all(&containers);
}

#[test]
fn an_ipv6_underlay_carries_both_families() {
    let topology = Topology { ipv6_underlay: true, ..Topology::default() };
    let cluster = Cluster::with("six", topology);
    cluster.network("web", &BOTH);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    assert_eq!(one.endpoints[0]["mtu"], 1430);
    all_reach_all(&[one, two]);
}

#[test]
fn packets_of_exactly_the_mtu_pass_and_larger_ones_do_not() {
    let cluster = Cluster::with("mtu", Topology { mtu: 1400, ..Topology::default() });
    cluster.network("web", &BOTH);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    assert_eq!(one.endpoints[0]["mtu"], 1350);
    let with = |target: String, payload: &str| {
        one.run(&["ping", "-n", "-c1", "-W2", "-M", "do", "-s", payload, &target])
    };
    with(two.v4().to_string(), "1322").ok();
    with(two.v6().to_string(), "1302").ok();
    assert!(!with(two.v4().to_string(), "1323").is_ok());
    assert!(!with(two.v6().to_string(), "1303").is_ok());
}

#[test]
fn names_know_aliases_shared_names_and_the_other_direction() {
    let cluster = Cluster::up("names", 2);
    cluster.network("web", &BOTH);
    cluster.network("only4", &["--subnet", "10.4.0.0/24"]);
    let one = cluster.attach("a", "web", &["--network", "web", "--alias", "front"]);
    let two = cluster.attach("b", "web-b", &["--network", "web", "--alias", "front"]);
    let mut both = vec![one.v4().to_string(), two.v4().to_string()];
    both.sort();
    assert_eq!(one.dig("front", "A"), both);
    assert_eq!(two.dig("FRONT", "A"), both);
    assert_eq!(one.dig("web-b.web", "A"), [two.v4().to_string()]);
    let reverse = one.run(&["dig", "+short", "-x", &two.v4().to_string()]).ok();
    assert!(reverse.contains("web-b"), "{reverse}");

    // A name without an address of the asked family exists all the same (RFC 2308, section 2.2).
    let four = cluster.attach("a", "four", &["--network", "only4"]);
    let answer = four.run(&["dig", "+tries=1", "+time=2", "four", "AAAA"]).ok();
    assert!(answer.contains("status: NOERROR") && answer.contains("ANSWER: 0"), "{answer}");
}

#[test]
fn a_host_reaches_containers_anywhere() {
    let cluster = Cluster::up("fromhost", 2);
    cluster.network("web", &BOTH);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    for target in one.addresses().into_iter().chain(two.addresses()) {
        for host in ["a", "b"] {
            cluster.on(host, &["ping", "-n", "-c1", "-W2", &target.to_string()]).ok();
        }
    }
}
