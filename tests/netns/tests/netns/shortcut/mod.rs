//! The shortcut beside the bridge path: the same network on both, and who takes which.

mod answers;
mod apart;
mod congestion;
mod damage;
mod local;
mod matrix;
mod odd;
mod reasons;
mod restart;
mod router;
mod sizes;
mod underlay;

use std::path::PathBuf;
use std::time::Duration;

use weft_tests::{Attached, Cluster, Probe, Topology, until};

const BOTH: [&str; 4] = ["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"];

/// `web-1` on `a` and `web-2` on `b`, in one network with both families, all programs attached.
struct Pair {
    cluster: Cluster,
    one: Attached,
    two: Attached,
}

/// A pair whose hosts have these settings of the shortcut.
#[track_caller]
fn pair(name: &str, settings: [&'static str; 2]) -> Pair {
    pair_on(name, settings, Topology::default())
}

#[track_caller]
fn pair_on(name: &str, [a, b]: [&'static str; 2], topology: Topology) -> Pair {
    let cluster = Cluster::with(name, Topology { shortcut: vec![("a", a), ("b", b)], ..topology });
    cluster.network("web", &BOTH);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    let pair = Pair { cluster, one, two };
    pair.warm([a, b]);
    pair
}

impl Pair {
    /// Waits until whose host has the shortcut sends by it.
    #[track_caller]
    fn warm(&self, settings: [&str; 2]) {
        self.cluster.wait_for_programs();
        let pairs = [(&self.one, &self.two), (&self.two, &self.one)];
        for (setting, (from, to)) in settings.into_iter().zip(pairs) {
            if setting != "off" {
                self.cluster.wait_for_shortcut(from, to);
            }
            from.ping(&to.v4().to_string());
            from.ping(&to.v6().to_string());
        }
    }

    fn both(&self) -> [&Attached; 2] {
        [&self.one, &self.two]
    }

    /// A thousand datagrams a second, one way in IPv4, the other in IPv6.
    #[track_caller]
    fn probes(&self) -> [Probe; 2] {
        let [here, there] = self.both().map(netns);
        [Probe::begin(&here, &there, self.two.v4()), Probe::begin(&there, &here, self.one.v6())]
    }

    /// Waits until packets arrive again, by the shortcut on both hosts.
    #[track_caller]
    fn resumes(&self, limit: Duration) {
        until(limit, "packets arrive again, by the shortcut", || {
            let target = self.two.v4().to_string();
            let [one, two] = self.cluster.traffic_while(self.both(), || {
                self.one.run(&["ping", "-n", "-c2", "-i0.1", "-W1", &target]);
            });
            [one, two].iter().all(|t| t.sent_shortcut.min(t.received_shortcut) >= 2)
        });
    }
}

fn netns(of: &Attached) -> PathBuf {
    of.container.netns_file()
}

/// A few echo requests, all answered?
#[track_caller]
fn pings(from: &Attached, to: std::net::IpAddr, count: u32) {
    let (count, target) = (format!("-c{count}"), to.to_string());
    let ran = from.run(&["ping", "-n", &count, "-i0.02", "-W2", &target]);
    assert!(ran.is_ok(), "{} does not reach {target}:\n{}", from.name, ran.stdout);
}
