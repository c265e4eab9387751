//! Daemons die; packets and names do not notice.
//!
//! ```text
//!     a (server)                     b
//!  ┌───────────────┐        ┌───────────────┐
//!  │ web-1 ────────┼─1,000──┼──────▶ web-2  │
//!  │       ◀───────┼──a─s───┼─────── │      │
//!  └───────────────┘        └───────────────┘
//!   kill -9, again             kill -9, again
//! ```

use std::time::Duration;

use weft_tests::{Attached, Cluster, Probe, until};

fn pair(cluster: &Cluster) -> (Attached, Attached) {
    cluster.network("web", &["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"]);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    one.ping("web-2");
    two.ping("web-1");
    (one, two)
}

fn probes(one: &Attached, two: &Attached) -> [Probe; 2] {
    let (here, there) = (one.container.netns_file(), two.container.netns_file());
    [Probe::begin(&here, &there, two.v4()), Probe::begin(&there, &here, one.v6())]
}

#[test]
fn killing_any_daemon_loses_no_packet_and_silences_no_name() {
    let cluster = Cluster::up("kill", 2);
    let (one, two) = pair(&cluster);
    let probes = probes(&one, &two);
    for host in ["a", "b", "a"] {
        cluster.kill_daemon(host);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            one.dig("web-2", "A"),
            [two.v4().to_string()],
            "while the daemon of {host} is dead"
        );
        assert_eq!(
            two.dig("web-1", "AAAA"),
            [one.v6().to_string()],
            "while the daemon of {host} is dead"
        );
        cluster.start_daemon(host);
        std::thread::sleep(Duration::from_millis(300));
    }
    cluster.wait_until_connected();
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
    // Everything still works as before.
    let three = cluster.attach("b", "web-3", &["--network", "web"]);
    three.ping("web-1");
    one.ping("web-3");
}

#[test]
fn stopping_and_starting_loses_no_packet() {
    let cluster = Cluster::up("stop", 2);
    let (one, two) = pair(&cluster);
    let before = weft_tests::dump(&cluster, "b");
    let probes = probes(&one, &two);
    for host in ["b", "a"] {
        cluster.stop_daemon(host);
        std::thread::sleep(Duration::from_millis(300));
        cluster.start_daemon(host);
    }
    cluster.wait_until_connected();
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
    cluster.settle();
    let after = weft_tests::dump(&cluster, "b");
    assert_eq!(before, after, "{}", weft_tests::difference(&before, &after));
}

#[test]
fn without_a_server_attach_works_from_leases_and_the_rest_says_why_not() {
    let cluster = Cluster::up("headless", 2);
    let (one, two) = pair(&cluster);
    cluster.kill_daemon("a");
    until(Duration::from_secs(10), "b notices", || {
        cluster.json("b", &["status"])["connected"] == false
    });
    let three = cluster.attach("b", "web-3", &["--network", "web"]);
    assert_eq!(three.endpoints[0]["unpublished"], true);
    three.ping("web-2");
    two.ping("web-3");
    three.ping("web-1");
    let complaint = cluster.weft("b", &["network", "create", "other"]).fails(1);
    assert!(complaint.starts_with("error: ") && complaint.contains("server"), "{complaint}");

    cluster.start_daemon("a");
    cluster.wait_until_connected();
    until(Duration::from_secs(5), "the others learn of it", || {
        one.dig("web-3", "A") == [three.v4().to_string()]
    });
    one.ping("web-3");
}

#[test]
fn a_daemon_that_was_killed_in_the_middle_of_attaching_leaves_nothing_half() {
    let cluster = Cluster::up("torn", 2);
    let (one, two) = pair(&cluster);
    let mut attached = Vec::new();
    for round in 0..5 {
        let container = cluster.lab().container(&format!("x{round}")).unwrap();
        std::thread::scope(|scope| {
            let name = format!("x{round}");
            let cluster = &cluster;
            let in_container = &container;
            let attach = scope.spawn(move || {
                cluster.attach_to("b", in_container, &name, &["--network", "web"]).is_ok()
            });
            std::thread::sleep(Duration::from_millis(2 * round));
            cluster.kill_daemon("b");
            let _ = attach.join();
        });
        cluster.start_daemon("b");
        attached.push((format!("x{round}"), container));
    }
    cluster.wait_until_connected();
    for (name, container) in &attached {
        // Once more: the same, or done at last.
        cluster.attach_to("b", container, name, &["--network", "web"]).ok();
        one.ping(name);
    }
    two.ping("web-1");
    assert_eq!(cluster.json("a", &["endpoint", "ls"]).as_array().unwrap().len(), 7);
}
