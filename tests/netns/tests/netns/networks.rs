//! Networks are apart from each other, and a container may be on several.
//!
//! ```text
//!          a                              b
//!  ┌───────────────────┐        ┌───────────────────┐
//!  │ red-1     blue-1  │        │ red-2     blue-2  │
//!  └───┬──────────┬────┘        └───┬──────────┬────┘
//!      └── red: 10.9.0.0/24, internal ┘        │
//!                 └─ blue: 10.9.0.0/24, internal, too
//! ```

use weft_tests::{Capture, Cluster, frame};

#[test]
fn two_networks_with_the_same_addresses_do_not_meet() {
    let cluster = Cluster::up("overlap", 2);
    let same = ["--subnet", "10.9.0.0/24", "--internal", "--allow-overlap"];
    cluster.network("red", &same);
    cluster.network("blue", &same);
    let on = |host: &str, name: &str, network: &str, ip: &str| {
        cluster.attach(host, name, &["--network", network, "--ip", ip])
    };
    let red = on("a", "red-1", "red", "10.9.0.2");
    let blue = on("a", "blue-1", "blue", "10.9.0.2");
    let _red_two = on("b", "red-2", "red", "10.9.0.3");
    let blue_two = on("b", "blue-2", "blue", "10.9.0.3");
    red.ping("10.9.0.3");
    blue.ping("10.9.0.3");
    red.ping("red-2");
    blue.ping("blue-2");
    // A name of the other network is none.
    assert!(red.dig("blue-2", "A").is_empty());
    assert!(blue.dig("red-2", "A").is_empty());

    let there = Capture::begin(&blue_two.container.netns_file(), "eth0");
    red.run(&["ping", "-n", "-c5", "-i0.2", "-W1", "10.9.0.3"]).ok();
    let crossed: Vec<_> = there.end().into_iter().filter(|f| f.get(23) == Some(&1)).collect();
    assert!(crossed.is_empty(), "{crossed:?}");
}

#[test]
fn a_container_on_several_networks_reaches_each() {
    let cluster = Cluster::up("several", 2);
    cluster.network("front", &["--subnet", "10.3.0.0/24"]);
    cluster.network("back", &["--subnet", "10.4.0.0/24", "--internal"]);
    let both = cluster.attach("a", "app", &["--network", "front", "--network", "back"]);
    let front = cluster.attach("b", "proxy", &["--network", "front"]);
    let back = cluster.attach("b", "db", &["--network", "back"]);
    assert_eq!(both.endpoints.len(), 2);
    let interfaces: Vec<_> = both.endpoints.iter().map(|e| e["interface"].clone()).collect();
    assert_eq!(interfaces, ["eth0", "eth1"]);
    both.ping("proxy");
    both.ping("db");
    front.ping("app");
    back.ping("app");
    // The two others stay apart: no network joins them.
    assert!(!front.pings(&back.v4().to_string()));
    assert!(front.dig("db", "A").is_empty());
    // The first network that is not internal gives the way out.
    let routes = both.run(&["ip", "route"]).ok();
    assert!(routes.contains("default via 10.3.0.1 dev eth0"), "{routes}");
    both.ping("192.0.2.1");
}

#[test]
fn off_one_network_and_still_on_the_other() {
    let cluster = Cluster::up("leave", 2);
    cluster.network("front", &["--subnet", "10.3.0.0/24"]);
    cluster.network("back", &["--subnet", "10.4.0.0/24"]);
    let app = cluster.attach("a", "app", &["--network", "front", "--network", "back"]);
    let front = cluster.attach("b", "proxy", &["--network", "front"]);
    let back = cluster.attach("b", "db", &["--network", "back"]);
    let netns = app.container.netns_file();
    let netns = netns.to_string_lossy();
    cluster.weft("a", &["detach", "--netns", &netns, "--network", "back"]).ok();
    front.ping("app");
    assert!(!back.pings(&app.addresses()[1].to_string()));
    cluster.detach(&app);
    assert_eq!(
        app.run(&["ip", "-br", "link"]).ok().lines().count(),
        1,
        "only the loopback is left"
    );
    // Detaching what is not attached is done already.
    cluster.detach(&app);
}

#[test]
fn the_outside_sees_the_hosts_address_and_an_internal_network_has_no_outside() {
    let cluster = Cluster::up("egress", 2);
    cluster.network("web", &["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"]);
    cluster.network("vault", &["--subnet", "10.5.0.0/24", "--subnet", "fd00:5::/64", "--internal"]);
    let open = cluster.attach("b", "open", &["--network", "web"]);
    let shut = cluster.attach("b", "shut", &["--network", "vault"]);
    let cable = Capture::begin(&cluster.lab().underlay(), "b");
    open.ping("192.0.2.1");
    open.ping("2001:db8::1");
    assert!(!shut.pings("192.0.2.1"));
    assert!(!shut.pings("2001:db8::1"));
    // Not even with a route that somebody adds inside.
    shut.run(&["ip", "route", "add", "default", "via", "10.5.0.1"]).ok();
    shut.run(&["ip", "route", "add", "default", "via", "fd00:5::1"]).ok();
    assert!(!shut.pings("192.0.2.1"));
    assert!(!shut.pings("2001:db8::1"));
    // Nor does the outside get in, knowing the way.
    let outside = |words: &[&str]| {
        let command = weft_lab::enter(&cluster.lab().underlay(), None, words[0]);
        command.unwrap().args(&words[1..]).output().unwrap().status.success()
    };
    for (subnet, inside) in [("10.5.0.0/24", &shut), ("10.3.0.0/24", &open)] {
        assert!(outside(&["ip", "route", "add", subnet, "via", "172.10.0.16"]));
        assert!(!outside(&["ping", "-n", "-c1", "-W1", &inside.v4().to_string()]), "{subnet}");
    }
    let frames = cable.end();
    let plain = |source: &[u8]| {
        frames
            .iter()
            .filter(|f| f.get(12..14) == Some(&[8, 0]) && f.get(26..30) == Some(source))
            .count()
    };
    assert!(plain(&[172, 10, 0, 16]) > 0, "nothing left the host");
    assert_eq!(plain(&[10, 3, 0, 2]), 0, "a container's address was seen outside");
    assert_eq!(plain(&[10, 5, 0, 2]), 0, "an internal network was seen outside");
}

#[test]
fn networks_of_one_host_are_apart_also_by_way_of_the_gateway() {
    let cluster = Cluster::up("apart", 2);
    cluster.network("one", &["--subnet", "10.3.0.0/24"]);
    cluster.network("two", &["--subnet", "10.4.0.0/24"]);
    let one = cluster.attach("a", "in-one", &["--network", "one"]);
    let two = cluster.attach("a", "in-two", &["--network", "two"]);
    let far = cluster.attach("b", "far-two", &["--network", "two"]);
    one.ping("10.3.0.1");
    assert!(!one.pings(&two.v4().to_string()));
    assert!(!one.pings(&far.v4().to_string()));
    // Put straight into the gateway's hands: still no way across.
    let gateway = one.run(&["ip", "neigh", "show", "10.3.0.1"]).ok();
    let gateway: Vec<u8> = gateway
        .split_whitespace()
        .find(|w| w.matches(':').count() == 5)
        .map(|mac| mac.split(':').filter_map(|o| u8::from_str_radix(o, 16).ok()).collect())
        .unwrap();
    let there = Capture::begin(&two.container.netns_file(), "eth0");
    let datagram = frame::udp(
        (one.mac(), format!("{}:7", one.v4()).parse().unwrap()),
        (gateway.try_into().unwrap(), format!("{}:7", two.v4()).parse().unwrap()),
        b"across",
    );
    frame::send(&one.container.netns_file(), "eth0", &datagram);
    let seen = there.end().into_iter().filter(|f| f.ends_with(b"across")).count();
    assert_eq!(seen, 0);
}
