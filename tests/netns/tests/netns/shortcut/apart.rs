//! Two networks with the same addresses: neither hears the other, on the shortcut either.
//!
//! ```text
//!          a                      b
//!  ┌───────────────┐      ┌───────────────┐
//!  │ red-1  blue-1 │      │ red-2  blue-2 │     red and blue: 10.9.0.0/24, internal
//!  │ red-3  blue-3 │      │               │
//!  └───────────────┘      └───────────────┘
//! ```

use std::net::SocketAddr;

use weft_tests::{Attached, Capture, Cluster, frame, stream};

use super::{netns, pings};

#[test]
fn networks_with_the_same_addresses_do_not_meet_on_the_shortcut() {
    let cluster = Cluster::up("twins", 2);
    let same =
        ["--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64", "--internal", "--allow-overlap"];
    cluster.network("red", &same);
    cluster.network("blue", &same);
    let on = |host: &str, name: &str, network: &str, last: u8| {
        cluster.attach(host, name, &["--network", network, "--ip", &format!("10.9.0.{last}")])
    };
    let of = |network: &str| -> [Attached; 3] {
        let name = |n: u8| format!("{network}-{n}");
        [
            on("a", &name(1), network, 2),
            on("b", &name(2), network, 3),
            on("a", &name(3), network, 4),
        ]
    };
    let (red, blue) = (of("red"), of("blue"));
    for [one, two, three] in [&red, &blue] {
        one.ping("10.9.0.3");
        cluster.wait_for_shortcut(one, two);
        cluster.wait_for_shortcut(three, one);
    }
    let there = blue.each_ref().map(|c| Capture::begin(&netns(c), "eth0"));
    let [one, two, three] = &red;
    for (from, to) in [(one, two), (two, one), (one, three), (three, two)] {
        let traffic = cluster.traffic_while([from, to], || {
            pings(from, to.v4(), 20);
            pings(from, to.v6(), 20);
            stream::exchange(&netns(from), &netns(to), to.v4(), 1_000_000).unwrap();
        });
        for traffic in traffic {
            traffic.assert_by_shortcut(40, &format!("{} to {}", from.name, to.name));
        }
    }
    // Even with the MAC of the other network's container.
    let [other, _, near] = &blue;
    for target in [other, near] {
        let at = |c: &Attached| SocketAddr::new(c.v4(), 9);
        frame::send(
            &netns(one),
            "eth0",
            &frame::udp((one.mac(), at(one)), (target.mac(), at(target)), b"across"),
        );
    }
    let reds: Vec<_> = red.iter().map(Attached::mac).collect();
    for frames in there.map(Capture::end) {
        let crossed: Vec<_> =
            frames.iter().filter(|f| reds.iter().any(|mac| f[6..12] == *mac)).collect();
        assert!(crossed.is_empty(), "{crossed:?}");
    }
}
