//! An address moves to another host, and who knew it before finds it there.
//!
//! ```text
//!          a                      b                      c
//!  ┌───────────────┐      ┌───────────────┐      ┌───────────────┐
//!  │ old 10.3.0.9  │      │ new 10.3.0.9  │      │ client        │
//!  └───────────────┘      └───────────────┘      └───────────────┘
//!        first                  then            knows 10.3.0.9 from before
//! ```

use std::time::{Duration, Instant};

use weft_tests::{Cluster, until};

const WEB: [&str; 4] = ["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"];

#[test]
fn who_knew_the_address_reaches_its_new_owner_at_once() {
    let cluster = Cluster::up("reuse", 3);
    cluster.network("web", &WEB);
    let asked = ["--network", "web", "--ip", "10.3.0.9"];
    let old = cluster.attach("a", "old", &asked);
    let client = cluster.attach("c", "client", &["--network", "web"]);
    client.ping("10.3.0.9");
    client.ping("old");
    let known = client.run(&["ip", "neigh", "show", "10.3.0.9"]).ok();
    assert!(known.contains("lladdr"), "the client's ARP cache is not warm: {known}");

    cluster.detach(&old);
    let container = cluster.lab().container("new").unwrap();
    // Released addresses cool down for others; asked for by name, it is to be had when its last
    // holder has given it back.
    until(Duration::from_secs(90), "the address can be had on another host", || {
        cluster.attach_to("b", &container, "new", &asked).is_ok()
    });
    let begin = Instant::now();
    until(Duration::from_secs(1), "the new owner answers", || {
        client.run(&["ping", "-n", "-c1", "-W1", "10.3.0.9"]).is_ok()
    });
    let still = client.run(&["ip", "neigh", "show", "10.3.0.9"]).ok();
    let mac = |line: &str| {
        line.split_whitespace().find(|w| w.matches(':').count() == 5).map(str::to_owned)
    };
    assert_eq!(mac(&known), mac(&still), "after {:?}", begin.elapsed());
    assert_eq!(client.dig("new", "A"), ["10.3.0.9"]);
    assert!(client.dig("old", "A").is_empty());
}

#[test]
fn an_address_that_is_in_use_is_given_to_nobody_else() {
    let cluster = Cluster::up("inuse", 2);
    cluster.network("web", &WEB);
    let asked = ["--network", "web", "--ip", "10.3.0.9"];
    let owner = cluster.attach("a", "owner", &asked);
    for host in ["a", "b"] {
        let container = cluster.lab().container(&format!("thief-{host}")).unwrap();
        let complaint = cluster.attach_to(host, &container, "thief", &asked).fails(1);
        assert!(complaint.contains("--ip") && complaint.contains("hint: "), "{complaint}");
    }
    let names: Vec<_> = cluster.json("a", &["endpoint", "ls"]).as_array().unwrap().clone();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(owner.dig("owner", "A"), ["10.3.0.9"]);
}

#[test]
fn many_attaches_at_once_never_share_an_address() {
    let cluster = Cluster::up("many", 2);
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let attached: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let cluster = &cluster;
                let host = if n % 2 == 0 { "a" } else { "b" };
                scope.spawn(move || cluster.attach(host, &format!("c{n}"), &["--network", "web"]))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut addresses: Vec<_> = attached.iter().map(weft_tests::Attached::v4).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 16);
    attached[0].ping("c15");
    attached[1].ping("c14");
}

#[test]
fn addresses_that_one_host_holds_unused_come_back_for_another() {
    let cluster = Cluster::up("recall", 2);
    // Fourteen addresses: the gateway's, one for each host, and eleven for containers.
    cluster.network("small", &["--subnet", "10.3.0.0/28"]);
    let many: Vec<_> =
        (0..6).map(|n| cluster.attach("a", &format!("a{n}"), &["--network", "small"])).collect();
    for gone in &many[1..] {
        cluster.detach(gone);
    }
    let held = cluster.json("a", &["endpoint", "ls"]);
    assert_eq!(held.as_array().unwrap().len(), 1);
    for n in 0..10 {
        cluster.attach("b", &format!("b{n}"), &["--network", "small"]).ping("a0");
    }
    let container = cluster.lab().container("eleventh").unwrap();
    let complaint =
        cluster.attach_to("b", &container, "eleventh", &["--network", "small"]).fails(1);
    assert!(complaint.contains("small"), "{complaint}");
}
