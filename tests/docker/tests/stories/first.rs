//! Two hosts, one network.
//!
//! ```text
//!          a                                b
//!  ┌──────────────────┐        ┌──────────────────────────┐
//!  │ api (Docker)     │        │ (Docker)   job (Weft)    │
//!  └────┬─────────────┘        └───┬───────────┬──────────┘
//!       └────────── web 10.3.0.0/24 ───────────┘
//! ```

use serde_json::json;
use weft_docker_tests::IMAGE;

use super::{is_of_web, web};

#[test]
fn containers_of_two_engines_reach_each_other() {
    let story = web("first");
    story.run("a", "api", &["--network", "web"]);
    let api = story.address("a", "api", "web");
    assert!(is_of_web(&api), "{api}");
    story.docker("b", &["run", "--rm", "--network", "web", IMAGE, "ping", "-c1", "-W2", &api]).ok();
    // More than a packet, and the other way round.
    story.run("b", "front", &["--network", "web", "--hostname", "front"]);
    let front = story.address("b", "front", "web");
    assert_ne!(front, api);
    let page = story.exec("a", "api", &["wget", "-q", "-O", "-", &format!("http://{front}/")]).ok();
    assert_eq!(page, "front");
}

#[test]
fn docker_and_weft_tell_the_same_of_a_container() {
    let story = web("same");
    story.run("a", "api", &["--network", "web"]);
    let endpoint = story.endpoint("api");
    assert_eq!(endpoint["addresses"], json!([story.address("a", "api", "web")]));
    assert_eq!((&endpoint["network_name"], &endpoint["node_name"]), (&json!("web"), &json!("a")));
    let mac = "{{(index .NetworkSettings.Networks \"web\").MacAddress}}";
    assert_eq!(endpoint["mac"], story.inspect("a", "api", mac));
    // And so does the container itself.
    let inside = story.exec("a", "api", &["ip", "address"]).ok();
    assert!(inside.contains(endpoint["mac"].as_str().unwrap()), "{inside}");
    assert!(inside.contains(&format!("{}/24", story.address("a", "api", "web"))), "{inside}");
}

#[test]
fn what_joined_by_weft_finds_a_docker_container_by_name_and_is_reached_from_it() {
    let story = web("mixed");
    story.run("a", "api", &["--network", "web"]);
    let api = story.address("a", "api", "web");
    story.endpoint("api");
    for host in ["a", "b"] {
        let job = story.cluster().attach(host, &format!("job-{host}"), &["--network", "web"]);
        assert_eq!(job.dig("api", "A"), std::slice::from_ref(&api), "from {host}");
        job.ping("api");
        assert!(story.pings("a", "api", &job.v4().to_string()), "to {host}");
    }
    let ran = story.cluster().weft(
        "b",
        &["run", "--network", "web", "--name", "once", "--", "ping", "-n", "-c1", "-W2", "api"],
    );
    assert!(ran.is_ok(), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_container_that_is_gone_leaves_neither_endpoint_nor_name() {
    let story = web("gone");
    story.run("a", "api", &["--network", "web"]);
    story.endpoint("api");
    let job = story.cluster().attach("b", "job", &["--network", "web"]);
    job.ping("api");
    story.docker("a", &["rm", "--force", "api"]).ok();
    story.gone("api");
    assert!(job.dig("api", "A").is_empty());
    let links = story.cluster().on("a", &["ip", "-br", "link"]).ok();
    assert!(!links.contains("we-"), "{links}");
}
