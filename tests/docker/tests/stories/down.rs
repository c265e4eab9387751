//! The Weft daemon is down while Docker wants something.

use std::time::Duration;

use weft_docker_tests::{IMAGE, wait_until};

use super::web;

/// How long Docker itself goes on trying to reach a plugin that is not there, and a little.
const UNTIL_A_CLEAR_ERROR: Duration = Duration::from_secs(20);

#[test]
fn a_container_cannot_start_without_the_daemon_and_docker_says_so_and_goes_on() {
    let story = web("nodaemon");
    story.run("a", "before", &["--network", "web"]);
    story.run("b", "front", &["--network", "web"]);
    story.endpoint("before");
    story.cluster().stop_daemon("a");
    let words = ["run", "--rm", "--network", "web", IMAGE, "true"];
    let said = story.docker("a", &words);
    assert!(said.took < UNTIL_A_CLEAR_ERROR, "{said:?}");
    let complaint = said.fails();
    assert!(complaint.contains("weft"), "{complaint}");
    // The engine does everything else, and what runs goes on running.
    let limit = Duration::from_secs(5);
    story.docker_within("a", limit, &["ps"]).ok();
    story.docker_within("a", limit, &["run", "--rm", "--network", "none", IMAGE, "true"]).ok();
    assert!(story.pings("b", "front", &story.address("a", "before", "web")));
    story.cluster().start_daemon("a");
    wait_until(Duration::from_secs(10), "containers start again", || {
        story.docker("a", &words).is_ok()
    });
    assert!(story.pings("b", "front", &story.address("a", "before", "web")));
    story.endpoint("before");
}

#[test]
fn what_was_removed_while_the_daemon_was_down_is_let_go_when_it_is_back() {
    let story = web("removed");
    for name in ["stays", "goes"] {
        story.run("a", name, &["--network", "web"]);
        story.endpoint(name);
    }
    story.cluster().kill_daemon("a");
    // Docker tries each of several calls for 15 seconds.
    let limit = Duration::from_secs(120);
    story.docker_within("a", limit, &["rm", "--force", "goes"]).ok();
    story.cluster().start_daemon("a");
    story.gone("goes");
    // What is live is not swept.
    std::thread::sleep(Duration::from_secs(2));
    story.endpoint("stays");
    let job = story.cluster().attach("b", "job", &["--network", "web"]);
    job.ping("stays");
    assert!(job.dig("goes", "A").is_empty());
}

#[test]
fn a_daemon_that_comes_back_serves_the_networks_it_served() {
    let story = web("back");
    story.run("a", "api", &["--network", "web"]);
    story.endpoint("api");
    for _ in 0..2 {
        story.cluster().kill_daemon("a");
        story.cluster().start_daemon("a");
        story.docker("a", &["restart", "api"]).ok();
        let api = story.address("a", "api", "web");
        let words = ["run", "--rm", "--network", "web", IMAGE, "ping", "-c1", "-W2", &api];
        story.docker("b", &words).ok();
        story.endpoint("api");
    }
}
