//! Engines that end and come back.

use std::time::Duration;

use weft_docker_tests::{Engines, Setup, wait_until};

/// When a container was started, and its process.
fn life(story: &Engines, name: &str) -> String {
    story.inspect("a", name, "{{.State.StartedAt}} {{.State.Pid}}")
}

#[test]
fn a_killed_engine_comes_back_and_follows_its_restart_policies() {
    let story = Engines::up("killed", 1);
    story.docker("a", &["network", "create", "local"]).ok();
    story.run("a", "stays", &["--network", "local", "--restart", "always"]);
    story.run("a", "goes", &["--network", "local"]);
    let before = life(&story, "stays");
    story.kill("a");
    assert!(!story.engine("a").answers());
    story.docker("a", &["ps"]).fails();
    story.start("a");
    wait_until(Duration::from_secs(20), "it runs again", || {
        story.inspect("a", "stays", "{{.State.Running}}") == "true"
            && story.inspect("a", "goes", "{{.State.Running}}") == "false"
    });
    assert_ne!(life(&story, "stays"), before);
    story.docker("a", &["start", "goes"]).ok();
    assert!(story.pings("a", "goes", "stays"));
}

#[test]
fn an_engine_restarted_well_ends_its_containers() {
    let story = Engines::up("again", 1);
    story.run("a", "goes", &["--network", "none"]);
    story.restart("a");
    assert_eq!(story.inspect("a", "goes", "{{.State.Running}}"), "false");
}

#[test]
fn with_live_restore_containers_outlive_their_engine() {
    let story = Engines::with("live", Setup { hosts: 1, live_restore: true, ..Setup::default() });
    story.docker("a", &["network", "create", "local"]).ok();
    story.run("a", "one", &["--network", "local", "--publish", "8080:80", "--hostname", "one"]);
    let (before, url) = (life(&story, "one"), "http://172.10.0.15:8080/");
    assert_eq!(story.fetch("a", url).ok(), "one\n");
    for end in [Engines::stop, Engines::kill] {
        end(&story, "a");
        assert_eq!(story.fetch("a", url).ok(), "one\n");
        story.start("a");
        assert_eq!(life(&story, "one"), before);
        assert_eq!(story.fetch("a", url).ok(), "one\n");
    }
}
