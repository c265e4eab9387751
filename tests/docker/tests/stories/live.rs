//! An engine that is restarted while its containers run on (`dockerd --live-restore`).

use std::net::IpAddr;

use weft_docker_tests::{Engines, Setup};
use weft_tests::Probe;

use super::on_web;

#[test]
fn traffic_goes_on_while_the_engine_is_restarted() {
    let setup = Setup { live_restore: true, ..Setup::default() };
    let story = on_web(Engines::with("live", setup));
    story.run("a", "api", &["--network", "web"]);
    story.run("b", "front", &["--network", "web"]);
    let api: IpAddr = story.address("a", "api", "web").parse().unwrap();
    let before = story.endpoint("api");
    assert!(story.pings("b", "front", &api.to_string()));
    let (from, to) = (story.netns("b", "front"), story.netns("a", "api"));
    for end in [Engines::stop, Engines::kill] {
        let probe = Probe::begin(&from, &to, api);
        end(&story, "a");
        story.start("a");
        probe.end().assert_nothing_lost();
        assert_eq!(story.endpoint("api"), before);
        assert_eq!(story.address("a", "api", "web"), api.to_string());
    }
    // The engine can still do all with it.
    story.run("a", "next", &["--network", "web"]);
    assert!(story.pings("a", "next", &api.to_string()));
    story.docker("a", &["stop", "api"]).ok();
    story.gone("api");
    story.docker("a", &["start", "api"]).ok();
    assert!(story.pings("b", "front", &story.address("a", "api", "web")));
}
