//! What is for everybody reaches everybody; what is for one does not.
//!
//! ```text
//!          a                      b                      c
//!  ┌───────────────┐      ┌───────────────┐      ┌───────────────┐
//!  │ web-1         │      │ web-2         │      │ web-3         │
//!  └───────────────┘      └───────────────┘      └───────────────┘
//! ```

use std::net::SocketAddr;

use weft_tests::{Attached, Capture, Cluster, Vxlan, frame};

const SENTINEL: &[u8] = b"to-everybody";

fn three(name: &str) -> (Cluster, [Attached; 3]) {
    let cluster = Cluster::up(name, 3);
    cluster.network("web", &["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"]);
    let on = |host: &str, name: &str| cluster.attach(host, name, &["--network", "web"]);
    let containers = [on("a", "web-1"), on("b", "web-2"), on("c", "web-3")];
    (cluster, containers)
}

#[test]
fn a_broadcast_reaches_every_host_once() {
    let (_cluster, [one, two, three]) = three("broadcast");
    let there = [&two, &three].map(|c| Capture::begin(&c.container.netns_file(), "eth0"));
    let from = SocketAddr::new(one.v4(), 9);
    let broadcast = frame::udp(
        (one.mac(), from),
        (frame::BROADCAST, "10.3.0.255:9".parse().unwrap()),
        SENTINEL,
    );
    frame::send(&one.container.netns_file(), "eth0", &broadcast);
    let from = SocketAddr::new(one.v6(), 9);
    let group = [0x33, 0x33, 0, 0, 0, 1];
    let multicast =
        frame::udp((one.mac(), from), (group, "[ff02::1]:9".parse().unwrap()), SENTINEL);
    frame::send(&one.container.netns_file(), "eth0", &multicast);
    for capture in there {
        let seen = capture.end().iter().filter(|f| f.ends_with(SENTINEL)).count();
        assert_eq!(seen, 2, "one broadcast and one multicast");
    }
}

#[test]
fn who_is_known_is_not_asked_for_on_the_underlay() {
    let (cluster, containers) = three("quiet");
    let [one, two, three] = &containers;
    for container in &containers {
        container.run(&["ip", "neigh", "flush", "all"]).ok();
    }
    let cables = ["a", "b", "c"].map(|link| Capture::begin(&cluster.lab().underlay(), link));
    for (from, to) in [(one, two), (two, three), (three, one)] {
        from.ping(&to.v4().to_string());
        from.ping(&to.v6().to_string());
    }
    // Somebody who is not known is asked for everywhere: the test would see it.
    one.pings("10.3.0.200");
    let packets: Vec<Vxlan> =
        cables.into_iter().flat_map(Capture::end).filter_map(|f| Vxlan::parse(&f, 4789)).collect();
    assert!(packets.iter().any(|p| p.inner_addresses() == Some((one.v4(), two.v4()))));
    let asked: Vec<&Vxlan> = packets.iter().filter(|p| p.resolves_addresses()).collect();
    let unknown = |p: &&Vxlan| p.inner.get(38..42) == Some(&[10, 3, 0, 200]);
    assert!(asked.iter().any(unknown), "not even the unknown was asked for");
    let known: Vec<_> = asked.into_iter().filter(|p| !unknown(p)).collect();
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn a_frame_for_one_goes_to_one_host() {
    let (cluster, [one, two, _]) = three("unicast");
    one.ping("web-2");
    let cable = Capture::begin(&cluster.lab().underlay(), "c");
    one.run(&["ping", "-n", "-c5", "-i0.2", "-W1", &two.v4().to_string()]).ok();
    let packets = cable.end();
    let packets = packets.iter().filter_map(|f| Vxlan::parse(f, 4789));
    // What hosts and containers tell everybody (MLD reports, for one) is no stray.
    let between = |p: &Vxlan| {
        p.inner_addresses().is_some_and(|(from, to)| {
            [one.v4(), two.v4()].contains(&from) || [one.v4(), two.v4()].contains(&to)
        })
    };
    let strays: Vec<Vxlan> = packets.filter(between).collect();
    assert!(strays.is_empty(), "{strays:?}");
}

#[test]
fn the_gateways_mac_never_leaves_a_host() {
    let (cluster, [one, two, _]) = three("gateway");
    let gateway = cluster.json("a", &["network", "ls"])[0]["vni"].as_u64().unwrap();
    let vni = u32::try_from(gateway).unwrap();
    let mac = [2, vni.to_be_bytes()[3], 0, 0, 0, 1];
    let cable = Capture::begin(&cluster.lab().underlay(), "a");
    one.ping("10.3.0.1");
    one.ping("192.0.2.1");
    for host in ["a", "b", "c"] {
        for target in [&one, &two] {
            cluster.on(host, &["ping", "-n", "-c1", "-W2", &target.v4().to_string()]).ok();
            cluster.on(host, &["ping", "-n", "-c1", "-W2", &target.v6().to_string()]).ok();
        }
    }
    let packets: Vec<Vxlan> = cable.end().iter().filter_map(|f| Vxlan::parse(f, 4789)).collect();
    assert!(!packets.is_empty());
    let with_it: Vec<_> = packets.iter().filter(|p| p.inner.get(6..12) == Some(&mac)).collect();
    assert!(with_it.is_empty(), "{with_it:?}");
}
