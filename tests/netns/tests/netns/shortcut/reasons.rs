//! Who speaks in another's name is dropped, and it is told for what: in the same words on both paths.
//!
//! ```text
//!          a                       b                 c (no member of web)
//!  ┌────────────────┐      ┌────────────────┐      ┌───────────────┐
//!  │ liar-a         │      │ liar-b         │      │ stranger      │
//!  │  (by shortcut) │      │ (bridge path)  │      │               │
//!  │ victim-a       │      │ victim-b       │      │               │
//!  └────────────────┘      └────────────────┘      └───────────────┘
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weft_tests::{Attached, Capture, Cluster, Topology, frame};

use super::{BOTH, netns};

const SENTINEL: &[u8] = b"in-anothers-name";

fn ground(name: &str, hosts: usize) -> (Cluster, u32) {
    let shortcut = vec![("b", "off")];
    let cluster = Cluster::with(name, Topology { hosts, shortcut, ..Topology::default() });
    let network = cluster.network("web", &BOTH);
    (cluster, u32::try_from(network["vni"].as_u64().unwrap()).unwrap())
}

fn datagram(from: (frame::Mac, IpAddr), to: (frame::Mac, IpAddr)) -> Vec<u8> {
    let (source, target) = (SocketAddr::new(from.1, 9), SocketAddr::new(to.1, 9));
    frame::udp((from.0, source), (to.0, target), SENTINEL)
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address}"),
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => panic!("{address}"),
    }
}

/// Lies, by what they are told for.
fn lies(liar: &Attached, victim: &Attached) -> Vec<(&'static str, Vec<u8>)> {
    let stolen = [2, 0, 0, 0, 0, 0x99];
    let mac = liar.mac();
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let (victim_v4, victim_v6) = ((victim.mac(), victim.v4()), (victim.mac(), victim.v6()));
    let to = (victim.mac(), v6(victim.v6()));
    let me = (mac, v6(liar.v6()));
    let arp = |sender: (frame::Mac, Ipv4Addr)| {
        frame::arp(mac, victim.mac(), 2, sender, (victim.mac(), v4(victim.v4())))
    };
    vec![
        ("not_its_mac", datagram((stolen, liar.v4()), victim_v4)),
        ("not_its_mac", datagram((stolen, liar.v6()), victim_v6)),
        ("not_its_mac", datagram((victim.mac(), liar.v4()), victim_v4)),
        ("not_its_address", datagram((mac, address("10.3.0.99")), victim_v4)),
        ("not_its_address", datagram((mac, address("8.8.8.8")), victim_v4)),
        ("not_its_address", datagram((mac, address("10.3.0.1")), victim_v4)),
        ("not_its_address", datagram((mac, victim.v4()), victim_v4)),
        ("not_its_address", datagram((mac, address("fd00:3::99")), victim_v6)),
        ("not_its_address", datagram((mac, address("2001:db8::99")), victim_v6)),
        ("arp_not_its_address", arp((mac, Ipv4Addr::new(10, 3, 0, 1)))),
        ("arp_not_its_address", arp((mac, v4(victim.v4())))),
        ("arp_not_its_mac", arp((stolen, v4(liar.v4())))),
        ("nd_not_its_address", frame::advertisement(me, to, (mac, "fd00:3::1".parse().unwrap()))),
        ("nd_not_its_address", frame::advertisement(me, to, (mac, "fe80::1".parse().unwrap()))),
        // Hop limit 64, other configuration, router for half an hour, never mind reachability.
        ("nd_not_a_router", frame::icmpv6(me, to, 134, [64, 0, 7, 8], &[0; 8])),
    ]
}

#[track_caller]
fn lied(cluster: &Cluster, liar: &Attached, victim: &Attached) -> BTreeMap<String, u64> {
    let there = Capture::begin(&netns(victim), "eth0");
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let [traffic] = cluster.traffic_while([liar], || {
        for (reason, lie) in lies(liar, victim) {
            frame::send(&netns(liar), "eth0", &lie);
            *expected.entry(reason.to_owned()).or_default() += 1;
        }
        // In his own name he is heard.
        let honest = datagram((liar.mac(), liar.v4()), (victim.mac(), victim.v4()));
        frame::send(&netns(liar), "eth0", &honest);
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    let frames = there.end();
    let heard = frames.iter().filter(|f| f[..6] == victim.mac() && f.ends_with(SENTINEL)).count();
    assert_eq!(heard, 1, "{}", liar.name);
    let said =
        |f: &&Vec<u8>| f.get(54).is_some_and(|t| [134, 136].contains(t)) && f[6..12] == liar.mac();
    assert_eq!(frames.iter().filter(said).count(), 0, "{}", liar.name);
    assert_eq!(traffic.dropped, expected, "{}", liar.name);
    traffic.dropped
}

#[test]
fn lies_of_containers_are_told_in_the_same_words_on_both_paths() {
    let (cluster, _) = ground("reasons", 2);
    let on = |host: &str, name: &str| cluster.attach(host, name, &["--network", "web"]);
    let (liar_a, victim_a) = (on("a", "liar-a"), on("a", "victim-a"));
    let (liar_b, victim_b) = (on("b", "liar-b"), on("b", "victim-b"));
    liar_a.ping("victim-b");
    cluster.wait_for_shortcut(&liar_a, &victim_b);
    assert_eq!(cluster.shortcut("b")["state"], "off");
    let to_the_other_host = lied(&cluster, &liar_a, &victim_b);
    assert_eq!(lied(&cluster, &liar_b, &victim_a), to_the_other_host);
    // The same beside each other.
    assert_eq!(lied(&cluster, &liar_a, &victim_a), to_the_other_host);
    assert_eq!(lied(&cluster, &liar_b, &victim_b), to_the_other_host);
    // People read it in words.
    for host in ["a", "b"] {
        let text = cluster.weft(host, &["status"]).ok();
        for words in ["not its MAC: ", "ARP: not its address: ", "ND: not a router: "] {
            assert!(text.contains(words), "{host}: {words} in {text}");
        }
    }
}

#[test]
fn forged_vxlan_is_told_in_the_same_words_on_both_paths() {
    let (cluster, vni) = ground("forged", 3);
    let liar = cluster.attach("a", "near", &["--network", "web"]);
    let far = cluster.attach("b", "far", &["--network", "web"]);
    liar.ping("far");
    cluster.wait_for_shortcut(&liar, &far);
    for (host, victim, other) in [("a", &liar, &far), ("b", &far, &liar)] {
        let gateway = [2, vni.to_be_bytes()[3], 0, 0, 0, 1];
        let inner = datagram((other.mac(), other.v4()), (victim.mac(), victim.v4()));
        let by_gateway = datagram((gateway, other.v4()), (victim.mac(), victim.v4()));
        let target = SocketAddr::new(cluster.host(host).address, 4789);
        let send = |from: &str, inner: &[u8]| {
            let netns = cluster.host(from).netns_file();
            frame::send_vxlan(&netns, target, vni, inner).unwrap();
        };
        let member = if host == "a" { "b" } else { "a" };
        for (from, inner, reason) in [
            (member, &inner, None),
            ("c", &inner, Some("not_a_member")),
            (member, &by_gateway, Some("another_hosts_gateway")),
        ] {
            let there = Capture::begin(&netns(victim), "eth0");
            let dropped = cluster.dropped_while((host, "web"), || {
                for _ in 0..3 {
                    send(from, inner);
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            });
            // What the victim says to it (ICMP quotes it) does not count.
            let heard = |f: &&Vec<u8>| f[..6] == victim.mac() && f.ends_with(SENTINEL);
            let heard = there.end().iter().filter(heard).count();
            let expected = reason.map(|reason| (reason.to_owned(), 3)).into_iter().collect();
            assert_eq!(dropped, expected, "{from} to {host}");
            assert_eq!(heard, if reason.is_some() { 0 } else { 3 }, "{from} to {host}");
        }
    }
}
