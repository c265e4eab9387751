//! `docker network create`: what it makes, and what it refuses.

use serde_json::{Value, json};
use weft_docker_tests::{Engines, IMAGE, wait_until};

use super::web;

/// The names that an engine lists.
#[track_caller]
fn listed(story: &Engines, host: &str) -> String {
    story.docker(host, &["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).ok()
}

/// The network of this name, as Weft tells of it.
#[track_caller]
fn known(story: &Engines, name: &str) -> Option<Value> {
    let all = story.cluster().json("a", &["network", "ls"]);
    all.as_array().unwrap().iter().find(|n| n["name"] == name).cloned()
}

/// The network of this name, as soon as Weft knows it.
#[track_caller]
fn appears(story: &Engines, name: &str) -> Value {
    let limit = std::time::Duration::from_secs(10);
    wait_until(limit, &format!("Weft has the network {name}"), || known(story, name).is_some());
    known(story, name).unwrap()
}

/// Has `docker network create` refused on `a`: nothing is left of it, with Docker or with Weft. Gives the
/// complaint.
#[track_caller]
fn refused(story: &Engines, words: &[&str]) -> String {
    let before = (listed(story, "a"), story.cluster().json("a", &["network", "ls"]));
    let complaint = story.docker("a", &[&["network", "create"], words].concat()).fails();
    assert_eq!(listed(story, "a"), before.0);
    assert_eq!(story.cluster().json("a", &["network", "ls"]), before.1);
    complaint
}

#[test]
fn docker_alone_makes_a_network_of_the_cluster() {
    let story = Engines::up("alone", 2);
    story.network("a", "db", &["--subnet", "10.4.0.0/24"]).ok();
    let made = appears(&story, "db");
    assert_eq!(made["subnets"], json!(["10.4.0.0/24"]));
    story.network("b", "db", &["--subnet", "10.4.0.0/24"]).ok();
    let all = story.cluster().json("a", &["network", "ls"]);
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    assert_eq!(appears(&story, "db")["id"], made["id"]);
    let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
    for host in ["a", "b"] {
        assert_eq!(story.inspect(host, "db", format), "10.4.0.0/24");
        story.run(host, &format!("db-{host}"), &["--network", "db"]);
    }
    assert!(story.pings("a", "db-a", &story.address("b", "db-b", "db")));
    assert!(story.pings("b", "db-b", &story.address("a", "db-a", "db")));
}

#[test]
fn an_address_that_is_asked_for_is_given_once() {
    let story = web("address");
    let ip = ["--network", "web", "--ip", "10.3.0.77"];
    // Docker knows the subnet only where it was told: asked for an address, it wants to know it.
    for host in ["a", "b"] {
        story.docker(host, &["network", "rm", "web"]).ok();
        story.network(host, "web", &["--subnet", "10.3.0.0/24"]).ok();
    }
    story.run("a", "api", &ip);
    assert_eq!(story.address("a", "api", "web"), "10.3.0.77");
    assert_eq!(story.endpoint("api")["addresses"], json!(["10.3.0.77"]));
    let before = story.cluster().listings();
    for host in ["a", "b"] {
        let words = [&["run", "--rm"], &ip[..], &[IMAGE, "true"]].concat();
        let complaint = story.docker(host, &words).fails();
        assert!(complaint.contains("10.3.0.77"), "{complaint}");
    }
    assert_eq!(story.cluster().listings(), before);
    story.docker("a", &["rm", "--force", "api"]).ok();
    story.gone("api");
    story.run("a", "again", &ip);
    assert_eq!(story.address("a", "again", "web"), "10.3.0.77");
}

#[test]
fn an_internal_network_has_no_way_out() {
    let story = Engines::up("internal", 2);
    for host in ["a", "b"] {
        story.network(host, "vault", &["--subnet", "10.5.0.0/24", "--internal"]).ok();
        story.run(host, &format!("vault-{host}"), &["--network", "vault"]);
    }
    assert_eq!(appears(&story, "vault")["internal"], true);
    assert!(story.pings("a", "vault-a", &story.address("b", "vault-b", "vault")));
    for outside in ["192.0.2.1", "172.10.0.16", "172.10.0.1"] {
        assert!(!story.pings("a", "vault-a", outside), "{outside} is reached");
    }
}

#[test]
fn a_subnet_that_overlaps_another_network_is_refused() {
    let story = web("overlap");
    for subnet in ["10.3.0.0/25", "10.3.0.0/16"] {
        let weft = ["--driver", "weft", "--ipam-driver", "weft", "--subnet", subnet, "other"];
        let complaint = refused(&story, &weft);
        assert!(complaint.contains("10.3.0.0/24") || complaint.contains("web"), "{complaint}");
    }
    // What is there still works.
    story.run("a", "api", &["--network", "web"]);
    story.endpoint("api");
}

#[test]
fn another_ipam_driver_is_refused() {
    let story = Engines::up("ipam", 1);
    for words in [
        &["--driver", "weft", "web"][..],
        &["--driver", "weft", "--subnet", "10.3.0.0/24", "web"],
        &["--driver", "weft", "--ipam-driver", "null", "web"],
    ] {
        let complaint = refused(&story, words);
        assert!(complaint.contains("--ipam-driver weft"), "{complaint}");
    }
}

#[test]
fn an_option_that_nobody_knows_is_refused_by_name() {
    let story = Engines::up("options", 1);
    let weft = ["--driver", "weft", "--ipam-driver", "weft", "--subnet", "10.3.0.0/24"];
    for option in ["colour=blue", "encrypted"] {
        let complaint = refused(&story, &[&weft[..], &["--opt", option, "web"]].concat());
        let name = option.split('=').next().unwrap();
        assert!(complaint.contains(name), "{option}: {complaint}");
    }
    let complaint = refused(&story, &[&weft[..], &["--ipam-opt", "shape=round", "web"]].concat());
    assert!(complaint.contains("shape"), "{complaint}");
}

#[test]
fn a_network_in_use_stays_until_it_is_not() {
    let story = web("rm");
    story.run("a", "api", &["--network", "web"]);
    let complaint = story.docker("a", &["network", "rm", "web"]).fails();
    assert!(complaint.contains("active endpoints"), "{complaint}");
    story.run("a", "other", &["--network", "web"]);
    assert!(story.pings("a", "other", &story.address("a", "api", "web")));
    for name in ["api", "other"] {
        story.docker("a", &["rm", "--force", name]).ok();
        story.gone(name);
    }
    story.docker("a", &["network", "rm", "web"]).ok();
    assert!(!listed(&story, "a").contains("weft"));
    // The other engine's is its own matter.
    assert!(listed(&story, "b").contains("web weft"));
    story.run("b", "later", &["--network", "web"]);
    story.network("a", "web", &[]).ok();
    story.run("a", "api", &["--network", "web"]);
    assert!(story.pings("a", "api", &story.address("b", "later", "web")));
}
