//! Daemons die, start again and are told otherwise; the shortcut goes on without them, or goes.
//!
//! ```text
//!     a (server)                     b
//!  ┌───────────────┐        ┌───────────────┐
//!  │ web-1 ────────┼─1,000──┼──────▶ web-2  │
//!  │       ◀───────┼──a─s───┼─────── │      │
//!  └───────────────┘        └───────────────┘
//!   kill -9, again             kill -9, again;  auto, off, auto, clsact
//! ```

use std::time::Duration;

use weft_tests::{Attached, Cluster, Probe, Traffic, bpf};

use super::{Pair, pair};

/// That no packet is lost, and how long that is watched.
const WATCHED: Duration = Duration::from_millis(700);

/// The packets of both probes so far, in every count that grows with them.
fn counts(pair: &Pair) -> [Traffic; 2] {
    pair.both().map(|attached| pair.cluster.traffic(attached))
}

/// Programs at the links of a host, by either hook.
fn programs(cluster: &Cluster, host: &str, endpoint: &Attached) -> usize {
    let links = ["eth0".to_owned(), endpoint.host_end()];
    let tcx = links.iter().map(|link| bpf::programs(&cluster.host(host).netns_file(), link));
    let filters = links.iter().map(|link| {
        let shown = cluster.on(host, &["tc", "filter", "show", "dev", link, "ingress"]).stdout;
        shown.lines().filter(|l| l.contains("from_")).count()
    });
    tcx.chain(filters).sum()
}

#[track_caller]
fn nothing_lost(probes: [Probe; 2]) {
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
}

#[track_caller]
fn goes_on(name: &str, setting: &'static str) {
    let pair = pair(name, [setting, setting]);
    let pinned = ["a", "b"].map(|host| bpf::pins(pair.cluster.host(host)));
    assert!(pinned.iter().all(|pins| !pins.is_empty()));
    let probes = pair.probes();
    std::thread::sleep(WATCHED);
    let before = counts(&pair);
    assert!(before.iter().all(|t| t.sent_shortcut > 300), "{before:?}");
    for host in ["b", "a"] {
        pair.cluster.kill_daemon(host);
        std::thread::sleep(WATCHED);
        let endpoint = if host == "a" { &pair.one } else { &pair.two };
        assert_eq!(
            programs(&pair.cluster, host, endpoint),
            2,
            "while the daemon of {host} is dead"
        );
        assert_eq!(bpf::pins(pair.cluster.host(host)), pinned[usize::from(host == "b")]);
        pair.cluster.start_daemon(host);
    }
    pair.cluster.wait_until_connected();
    pair.cluster.wait_for_programs();
    let after = counts(&pair);
    nothing_lost(probes);
    // What was counted is still known, and what went while nobody was there was counted.
    for (before, after) in before.iter().zip(&after) {
        let since = after.since(before);
        since.assert_by_shortcut(1_200, "with dead daemons");
        assert!(after.sent_shortcut > before.sent_shortcut, "{before:?} {after:?}");
    }
    assert_eq!(["a", "b"].map(|host| bpf::pins(pair.cluster.host(host))), pinned);
    for host in ["a", "b"] {
        let status = pair.cluster.json(host, &["status"]);
        assert_eq!(status["repairs"].as_array().map(Vec::len), Some(0), "{host}: {status}");
    }
}

#[test]
fn the_shortcut_goes_on_without_a_daemon() {
    goes_on("widow", "auto");
}

#[test]
fn so_it_does_by_clsact() {
    goes_on("widowcls", "clsact");
}

/// Starts the daemon of `b` with each setting; the most that each probe may lose in all.
#[track_caller]
fn switched(name: &str, settings: &[(&'static str, &str)], lost: u64) {
    let pair = pair(name, ["auto", "auto"]);
    let probes = pair.probes();
    for (setting, hook) in settings {
        pair.cluster.restart_with("b", setting);
        pair.warm(["auto", setting]);
        let before = counts(&pair);
        std::thread::sleep(WATCHED);
        let after = counts(&pair);
        let two = after[1].since(&before[1]);
        let shortcut = pair.cluster.shortcut("b");
        assert_eq!(shortcut["hook"], *hook, "{shortcut}");
        if *setting == "off" {
            assert_eq!(programs(&pair.cluster, "b", &pair.two), 0);
            assert_eq!(bpf::pins(pair.cluster.host("b")), Vec::<std::path::PathBuf>::new());
            two.assert_by_bridge(300, setting);
        } else {
            assert_eq!(programs(&pair.cluster, "b", &pair.two), 2, "{setting}");
            two.assert_by_shortcut(300, setting);
        }
        let qdisc = pair.cluster.on("b", &["tc", "qdisc", "show", "dev", "eth0", "clsact"]).ok();
        assert_eq!(qdisc.contains("clsact"), *setting == "clsact", "{setting}: {qdisc}");
    }
    for probe in probes {
        let report = probe.end();
        assert!(report.sent > 1_000 && report.lost <= lost && report.duplicates == 0, "{report:?}");
    }
}

#[test]
fn switching_it_off_and_on_loses_no_packet_and_leaves_nothing() {
    switched("switch", &[("off", ""), ("auto", "tcx"), ("off", "")], 0);
}

/// Where a qdisc is made or deleted, the kernel stops the link's own queues for a moment.
#[test]
fn switching_between_hooks_leaves_the_new_one_only() {
    switched(
        "hooks",
        &[("clsact", "clsact"), ("auto", "tcx"), ("clsact", "clsact"), ("off", "")],
        50,
    );
}

#[test]
fn an_endpoint_that_goes_and_a_lab_that_goes_leave_no_pins() {
    let pair = pair("leave", ["auto", "clsact"]);
    let lab = pair.cluster.host("a").bpf_dir();
    let lab = lab.parent().unwrap().to_owned();
    let of_links = |host: &str| -> Vec<String> {
        let pins = bpf::pins(pair.cluster.host(host));
        let names = pins.iter().filter_map(|p| p.file_name()?.to_str());
        names.filter(|name| name.contains("from_container")).map(str::to_owned).collect()
    };
    assert_eq!(of_links("a").len(), 1);
    pair.cluster.detach(&pair.one);
    weft_tests::until(Duration::from_secs(5), "its program's pin is gone", || {
        of_links("a").is_empty()
    });
    let endpoints = bpf::Table::of(pair.cluster.host("a"), "endpoints");
    weft_tests::until(Duration::from_secs(5), "its entries are gone", || {
        endpoints.keys().is_empty()
    });
    assert!(lab.exists());
    drop(pair);
    assert!(!lab.exists(), "{} is still there", lab.display());
}
