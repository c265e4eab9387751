//! What Docker's users do, on virtual hosts with an engine and a Weft daemon each. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod compose;
mod create;
mod down;
mod families;
mod first;
mod life;
mod live;
mod managed;
mod many;
mod names;

use weft_docker_tests::Engines;

/// Two hosts with a network `web` of Weft's (10.3.0.0/24) that both engines have.
#[track_caller]
fn web(story: &str) -> Engines {
    on_web(Engines::up(story, 2))
}

/// Gives both engines of a story the network `web`.
#[track_caller]
fn on_web(story: Engines) -> Engines {
    story.cluster().network("web", &["--subnet", "10.3.0.0/24"]);
    for host in ["a", "b"] {
        story.network(host, "web", &[]).ok();
    }
    story
}

/// Whether an address is one of `web`.
fn is_of_web(address: &str) -> bool {
    address.strip_prefix("10.3.0.").is_some_and(|last| last.parse::<u8>().is_ok())
}
