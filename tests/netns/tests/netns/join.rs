//! Who may become part of a cluster, and who may not.
//!
//! ```text
//!     a: cluster one         b: cluster two        c: wants in
//! ```

use serde_json::Value;
use weft_tests::{Cluster, Topology};

fn hosts(name: &str, hosts: usize) -> Cluster {
    Cluster::daemons_only(name, Topology { hosts, ..Topology::default() })
}

/// What a host without a cluster answers, before and after.
#[track_caller]
fn assert_outside(cluster: &Cluster, host: &str) {
    assert_eq!(cluster.json(host, &["status"])["cluster_id"], "");
}

#[track_caller]
fn refused(cluster: &Cluster, host: &str, address: &str, token: &str) -> String {
    let complaint = cluster.weft(host, &["join", address, "--token", token]).fails(1);
    assert!(complaint.starts_with("error: "), "{complaint}");
    assert_outside(cluster, host);
    complaint
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

/// The token with the letter at `at` exchanged.
fn altered(token: &str, at: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_altered_token_is_no_token() {
    let cluster = hosts("altered", 2);
    let joining = cluster.init();
    let (address, token) = (text(&joining, "address"), text(&joining, "token"));
    for at in [6, token.len() / 2, token.len() - 1] {
        refused(&cluster, "b", address, &altered(token, at));
    }
    for cut in ["", "weft1", &token[..token.len() - 4], &format!("{token}a")] {
        refused(&cluster, "b", address, cut);
    }
    assert_eq!(cluster.json("a", &["node", "ls"]).as_array().unwrap().len(), 1);
    cluster.join("b", &joining);
    cluster.wait_until_connected();
}

#[test]
fn a_revoked_token_lets_nobody_in() {
    let cluster = hosts("revoked", 2);
    let joining = cluster.init();
    cluster.weft("a", &["token", "revoke", text(&joining, "id")]).ok();
    let complaint = refused(&cluster, "b", text(&joining, "address"), text(&joining, "token"));
    assert!(complaint.contains("--token"), "{complaint}");
    let listed = cluster.json("a", &["token", "ls"]);
    assert_eq!(listed[0]["revoked"], true);
    assert!(!listed.to_string().contains(text(&joining, "token")));
    let fresh = cluster.json("a", &["token", "create"]);
    cluster.join("b", &fresh);
    cluster.wait_until_connected();
}

#[test]
fn a_token_that_has_ended_lets_nobody_in() {
    let cluster = hosts("ended", 2);
    cluster.init();
    let short = cluster.json("a", &["token", "create", "--lifetime", "1s"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    refused(&cluster, "b", text(&short, "address"), text(&short, "token"));
}

#[test]
fn a_server_of_another_authority_gets_no_secret() {
    let cluster = hosts("foreign", 3);
    let one = cluster.init();
    let two = cluster.json("b", &["init"]);
    assert_ne!(one["token"], two["token"]);
    // The right token at the wrong door.
    let complaint = refused(&cluster, "c", text(&two, "address"), text(&one, "token"));
    assert!(complaint.contains("hint: "), "{complaint}");
    assert_eq!(cluster.json("b", &["node", "ls"]).as_array().unwrap().len(), 1);
    cluster.join("c", &one);
    assert_eq!(cluster.json("a", &["node", "ls"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_host_is_in_one_cluster_only() {
    let cluster = hosts("once", 2);
    let joining = cluster.init();
    cluster.weft("a", &["init"]).fails(1);
    cluster.join("b", &joining);
    cluster.weft("b", &["init"]).fails(1);
    let words = ["join", text(&joining, "address"), "--token", text(&joining, "token")];
    // Once more is not an error of the host's making, but says so or is the same node.
    cluster.weft("b", &words);
    assert_eq!(cluster.json("a", &["node", "ls"]).as_array().unwrap().len(), 2);
}

#[test]
fn an_agent_administers_nothing() {
    let cluster = Cluster::up("agent", 2);
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let before = cluster.listings();
    for words in [
        &["network", "create", "mine"][..],
        &["network", "rm", "web"],
        &["token", "create", "--role", "server"],
        &["node", "rm", "a"],
    ] {
        let complaint = cluster.weft("b", words).fails(1);
        assert!(complaint.starts_with("error: ") && complaint.contains("hint: "), "{complaint}");
    }
    assert_eq!(cluster.listings(), before);
}

#[test]
fn an_operator_may_what_its_token_says() {
    let cluster = hosts("operator", 2);
    cluster.init();
    let token = cluster.json("a", &["token", "create", "--role", "operator"]);
    cluster.join("b", &token);
    cluster.wait_until_connected();
    cluster.json("b", &["network", "create", "web", "--subnet", "10.3.0.0/24"]);
    cluster.weft("b", &["network", "rm", "web"]).ok();
}

#[test]
fn a_removed_node_is_out() {
    let cluster = Cluster::up("removed", 3);
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let gone = cluster.attach("c", "web-3", &["--network", "web"]);
    gone.ping("web-1");
    cluster.weft("a", &["node", "rm", "c"]).ok();
    weft_tests::until(std::time::Duration::from_secs(5), "its peers fence it", || {
        !gone.run(&["ping", "-n", "-c1", "-W1", &one.v4().to_string()]).is_ok()
    });
    assert!(one.dig("web-3", "A").is_empty());
    let endpoints = cluster.json("a", &["endpoint", "ls"]);
    assert_eq!(endpoints.as_array().unwrap().len(), 1, "{endpoints}");
}
