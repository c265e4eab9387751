//! A host loses power and comes back.
//!
//! ```text
//!          a (server)             b
//!  ┌───────────────┐      ┌───────────────┐
//!  │ web-1         │      │ web-2         │   ← power cut, then again with the other
//!  └───────────────┘      └───────────────┘
//! ```

use std::time::Duration;

use weft_tests::{Cluster, until};

const WEB: [&str; 4] = ["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"];

#[test]
fn a_host_comes_back_as_the_node_it_was_and_its_containers_can_come_again() {
    let cluster = Cluster::up("reboot", 2);
    cluster.network("web", &WEB);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    one.ping("web-2");
    let nodes = cluster.json("a", &["node", "ls"]);

    cluster.power_cut("b", &[&two]);
    assert!(!one.pings(&two.v4().to_string()));
    cluster.start_daemon("b");
    cluster.wait_until_connected();
    let ids = |nodes: &serde_json::Value| -> Vec<String> {
        nodes.as_array().unwrap().iter().map(|n| n["id"].to_string()).collect()
    };
    assert_eq!(ids(&nodes), ids(&cluster.json("a", &["node", "ls"])));
    until(Duration::from_secs(10), "the endpoint of the lost container is gone", || {
        one.dig("web-2", "A").is_empty()
    });
    let again = cluster.attach("b", "web-2", &["--network", "web"]);
    one.ping("web-2");
    again.ping("web-1");
    assert_eq!(cluster.json("a", &["endpoint", "ls"]).as_array().unwrap().len(), 2);
}

#[test]
fn the_server_comes_back_with_everything_it_knew() {
    let cluster = Cluster::up("reserver", 2);
    cluster.network("web", &WEB);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    let three = cluster.attach("b", "web-3", &["--network", "web"]);
    one.ping("web-2");
    let before = cluster.json("a", &["network", "ls"]);

    cluster.power_cut("a", &[&one]);
    two.ping("web-3");
    cluster.start_daemon("a");
    cluster.wait_until_connected();
    assert_eq!(cluster.json("a", &["network", "ls"]), before);
    until(Duration::from_secs(10), "the endpoint of the lost container is gone", || {
        cluster.json("a", &["endpoint", "ls"]).as_array().unwrap().len() == 2
    });
    let again = cluster.attach("a", "web-1", &["--network", "web"]);
    again.ping("web-3");
    two.ping("web-1");
    three.ping("web-1");
}

#[test]
fn a_container_whose_namespace_is_gone_is_forgotten() {
    let cluster = Cluster::up("gone", 2);
    cluster.network("web", &WEB);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    one.ping("web-2");
    cluster.lab().remove_container(&two.container).unwrap();
    until(Duration::from_secs(10), "its name is gone", || one.dig("web-2", "A").is_empty());
    let left = cluster.json("a", &["endpoint", "ls"]);
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    let links = cluster.on("b", &["ip", "-br", "link"]).ok();
    assert!(!links.contains(&two.host_end()), "{links}");
}
