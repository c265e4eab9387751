//! What happens to containers in their life: started, stopped, connected, published, restarted.

use std::time::Duration;

use weft_docker_tests::{Engines, wait_until};

use super::{is_of_web, web};

/// Waits until a container of `a` runs, and gives its address on `web`.
#[track_caller]
fn comes_back(story: &Engines, name: &str) -> String {
    wait_until(Duration::from_secs(30), &format!("{name} runs again"), || {
        story.inspect("a", name, "{{.State.Running}}") == "true"
            && is_of_web(&story.address("a", name, "web"))
    });
    story.address("a", name, "web")
}

/// Waits until Weft knows one endpoint of this name, with this address.
#[track_caller]
fn known_as(story: &Engines, name: &str, address: &str) {
    let what = format!("Weft knows {name} at {address} and nowhere else");
    wait_until(Duration::from_secs(10), &what, || {
        let all = story.endpoints(name);
        all.len() == 1 && all[0]["addresses"] == serde_json::json!([address])
    });
}

#[test]
fn stopped_it_is_gone_and_started_it_is_back() {
    let story = web("stop");
    story.run("a", "api", &["--network", "web"]);
    story.run("b", "front", &["--network", "web"]);
    let job = story.cluster().attach("b", "job", &["--network", "web"]);
    for _ in 0..3 {
        let api = comes_back(&story, "api");
        known_as(&story, "api", &api);
        assert!(story.pings("b", "front", &api));
        assert_eq!(job.dig("api", "A"), [api]);
        story.docker("a", &["stop", "api"]).ok();
        story.gone("api");
        assert!(job.dig("api", "A").is_empty());
        story.docker("a", &["start", "api"]).ok();
    }
    let links = story.cluster().on("a", &["ip", "-o", "link"]).ok();
    assert_eq!(links.matches(": we-").count(), 1, "{links}");
}

#[test]
fn a_container_is_on_several_networks_and_leaves_them_one_by_one() {
    let story = web("several");
    for host in ["a", "b"] {
        story.network(host, "db", &["--subnet", "10.4.0.0/24"]).ok();
    }
    story.run("a", "api", &["--network", "web"]);
    story.run("b", "front", &["--network", "web"]);
    story.run("b", "store", &["--network", "db"]);
    let (front, store) = (story.address("b", "front", "web"), story.address("b", "store", "db"));
    story.docker("a", &["network", "connect", "db", "api"]).ok();
    assert!(story.pings("a", "api", &front) && story.pings("a", "api", &store));
    // The networks stay apart.
    assert!(!story.pings("b", "front", &store));
    story.docker("a", &["network", "disconnect", "web", "api"]).ok();
    assert!(!story.pings("a", "api", &front));
    assert!(story.pings("a", "api", &store));
    let left = story.endpoint("api");
    assert_eq!(left["network_name"], "db");
    story.docker("a", &["network", "disconnect", "db", "api"]).ok();
    story.gone("api");
    story.docker("a", &["network", "connect", "web", "api"]).ok();
    assert!(story.pings("a", "api", &front));
}

#[test]
fn ports_are_published_and_the_outside_is_reached() {
    let story = web("publish");
    story.run("a", "api", &["--network", "web", "--publish", "8080:80", "--hostname", "api"]);
    for host in ["a", "b"] {
        assert_eq!(story.fetch(host, "http://172.10.0.15:8080/").ok(), "api\n", "from {host}");
    }
    let ports = story.docker("a", &["ps", "--format", "{{.Names}} {{.Ports}}"]).ok();
    assert!(ports.contains("api 0.0.0.0:8080->80/tcp"), "{ports}");
    // Another host, and the world.
    for outside in ["172.10.0.16", "192.0.2.1"] {
        assert!(story.pings("a", "api", outside), "{outside} is not reached");
    }
    // The bridge to the outside is no way from one container to another.
    story.run("a", "other", &["--network", "web"]);
    assert!(story.pings("a", "other", &story.address("a", "api", "web")));
    story.docker("a", &["rm", "--force", "api"]).ok();
    story.fetch("b", "http://172.10.0.15:8080/").fails(7);
}

#[test]
fn restart_policies_hold_when_the_engine_is_restarted() {
    let story = web("policy");
    story.run("a", "api", &["--network", "web", "--restart", "always"]);
    story.run("a", "once", &["--network", "web"]);
    story.run("b", "front", &["--network", "web"]);
    story.endpoint("once");
    story.restart("a");
    let api = comes_back(&story, "api");
    assert!(story.pings("b", "front", &api));
    known_as(&story, "api", &api);
    story.gone("once");
    story.docker("a", &["start", "once"]).ok();
    assert!(story.pings("b", "front", &comes_back(&story, "once")));
}

#[test]
fn a_killed_engine_leaves_no_endpoint_behind() {
    let story = web("killed");
    story.run("a", "api", &["--network", "web", "--restart", "always"]);
    story.run("a", "once", &["--network", "web"]);
    story.run("b", "front", &["--network", "web"]);
    story.endpoint("once");
    story.kill("a");
    // Its containers run on for now, and nothing live is swept.
    let api = story.endpoint("api")["addresses"][0].as_str().unwrap().to_owned();
    std::thread::sleep(Duration::from_secs(2));
    assert!(story.pings("b", "front", &api));
    story.start("a");
    let api = comes_back(&story, "api");
    assert!(story.pings("b", "front", &api));
    known_as(&story, "api", &api);
    story.gone("once");
    let links = story.cluster().on("a", &["ip", "-o", "link"]).ok();
    assert_eq!(links.matches(": we-").count(), 1, "{links}");
}
