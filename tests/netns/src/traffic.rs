//! Which path packets took, and what was dropped on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::{Attached, Cluster, until};

/// What an endpoint sent and received, as its host's daemon tells it: frames, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Sent by the shortcut.
    pub sent_shortcut: u64,
    /// Sent by the bridge path.
    pub sent_bridge: u64,
    /// Received by the shortcut.
    pub received_shortcut: u64,
    /// Received by the bridge path.
    pub received_bridge: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// What goes the bridge path at any time beside a flow: neighbours are asked for, groups are reported.
const BESIDE: u64 = 12;

/// Of so many packets of a flow, one may pass between the reading of one count and that of the next, and be taken for
/// one of the bridge path.
const BETWEEN: u64 = 50;

impl Traffic {
    fn of(value: &Value) -> Self {
        let packets = |direction: &str, path: &str| {
            let packets = value[direction][path]["packets"].as_u64();
            packets.unwrap_or_else(|| panic!("no {direction} {path} in {value}"))
        };
        Self {
            sent_shortcut: packets("sent", "shortcut"),
            sent_bridge: packets("sent", "bridge"),
            received_shortcut: packets("received", "shortcut"),
            received_bridge: packets("received", "bridge"),
            dropped: drops(&value["dropped"]),
        }
    }

    /// What has come since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent_shortcut: self.sent_shortcut.saturating_sub(before.sent_shortcut),
            sent_bridge: self.sent_bridge.saturating_sub(before.sent_bridge),
            received_shortcut: self.received_shortcut.saturating_sub(before.received_shortcut),
            received_bridge: self.received_bridge.saturating_sub(before.received_bridge),
            dropped: fresh(&self.dropped, &before.dropped),
        }
    }

    /// Panics unless `packets` or more each way took the shortcut, and next to none the bridge path.
    #[track_caller]
    pub fn assert_by_shortcut(&self, packets: u64, what: &str) {
        let by_shortcut = self.sent_shortcut.min(self.received_shortcut);
        let beside = self.sent_bridge.max(self.received_bridge);
        let most = BESIDE + by_shortcut / BETWEEN;
        assert!(by_shortcut >= packets && beside <= most, "{what}: {self:?}");
    }

    /// Panics unless `packets` or more each way took the bridge path, and none the shortcut.
    #[track_caller]
    pub fn assert_by_bridge(&self, packets: u64, what: &str) {
        let by_shortcut = self.sent_shortcut + self.received_shortcut;
        assert!(
            self.sent_bridge.min(self.received_bridge) >= packets && by_shortcut == 0,
            "{what}: {self:?}"
        );
    }
}

/// By reason, what is more than before; reasons with nothing new are left out.
fn fresh(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(reason, count): (&String, &u64)| {
        let more = count - before.get(reason).copied().unwrap_or_default().min(*count);
        (more > 0).then(|| (reason.clone(), more))
    };
    now.iter().filter_map(more).collect()
}

fn drops(value: &Value) -> BTreeMap<String, u64> {
    let each = value.as_array().into_iter().flatten();
    let reason = |d: &Value| Some((d["reason"].as_str()?.to_owned(), d["packets"].as_u64()?));
    each.filter_map(reason).collect()
}

impl Cluster {
    /// What an endpoint has sent and received so far.
    #[track_caller]
    pub fn traffic(&self, of: &Attached) -> Traffic {
        let inspected = self.json(&of.host, &["endpoint", "inspect", &of.name]);
        assert_eq!(inspected["traffic_error"], "", "{inspected}");
        Traffic::of(&inspected["traffic"])
    }

    /// What each of them sends and receives while `work` is done.
    #[track_caller]
    pub fn traffic_while<const N: usize>(
        &self,
        of: [&Attached; N],
        work: impl FnOnce(),
    ) -> [Traffic; N] {
        let before = of.map(|attached| self.traffic(attached));
        work();
        let mut before = before.iter();
        of.map(|attached| {
            let earlier = before.next().cloned().unwrap_or_default();
            self.traffic(attached).since(&earlier)
        })
    }

    /// What a host has dropped so far as it came from other hosts for a network, by reason; with it, what it counts
    /// for all networks together.
    #[track_caller]
    pub fn dropped_from_underlay(&self, host: &str, network: &str) -> BTreeMap<String, u64> {
        let shortcut = self.shortcut(host);
        let networks = shortcut["networks"].as_array().into_iter().flatten();
        let mut found = networks.filter(|n| n["name"] == network);
        let found = found.next().unwrap_or_else(|| panic!("no {network} in {shortcut}"));
        let mut dropped = drops(&found["underlay_dropped"]);
        for (reason, packets) in drops(&shortcut["underlay_dropped"]) {
            *dropped.entry(reason).or_default() += packets;
        }
        dropped
    }

    /// What a host drops, as it comes from other hosts for a network, while `work` is done.
    #[track_caller]
    pub fn dropped_while(
        &self,
        (host, network): (&str, &str),
        work: impl FnOnce(),
    ) -> BTreeMap<String, u64> {
        let before = self.dropped_from_underlay(host, network);
        work();
        fresh(&self.dropped_from_underlay(host, network), &before)
    }

    /// How a host's shortcut is.
    #[track_caller]
    pub fn shortcut(&self, host: &str) -> Value {
        self.json(host, &["status"])["shortcut"].take()
    }

    /// Waits until every host has applied all it was told, and attached all programs it wants to.
    #[track_caller]
    pub fn wait_for_programs(&self) {
        self.settle();
        for host in self.hosts() {
            let mut last = Value::Null;
            until(Duration::from_secs(10), "all programs are attached", || {
                last = self.shortcut(&host.name);
                let none = last["unattached"].as_array().is_some_and(Vec::is_empty);
                last["state"] != "on" || last["waiting"] == 0 && none
            });
        }
    }

    /// Waits until what `from` sends to `to` takes the shortcut.
    #[track_caller]
    pub fn wait_for_shortcut(&self, from: &Attached, to: &Attached) {
        self.wait_for_programs();
        let target = to.addresses()[0].to_string();
        until(Duration::from_secs(10), "packets take the shortcut", || {
            let [traffic] = self.traffic_while([from], || {
                from.run(&["ping", "-n", "-c1", "-W1", &target]);
            });
            traffic.sent_shortcut > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(shortcut: u64, bridge: u64, dropped: u64) -> Traffic {
        let count = |packets: u64| serde_json::json!({ "packets": packets, "bytes": packets * 60 });
        let paths = serde_json::json!({ "shortcut": count(shortcut), "bridge": count(bridge) });
        let dropped = [serde_json::json!({ "reason": "not_its_mac", "packets": dropped })];
        Traffic::of(&serde_json::json!({ "sent": paths, "received": paths, "dropped": dropped }))
    }

    #[test]
    fn a_path_is_told_by_what_has_come_since() {
        let news = inspected(40, 7, 3).since(&inspected(10, 5, 3));
        assert_eq!(news, Traffic { dropped: BTreeMap::new(), ..inspected(30, 2, 0) });
        news.assert_by_shortcut(30, "");
        for wrong in [
            std::panic::catch_unwind(|| news.assert_by_shortcut(31, "")),
            std::panic::catch_unwind(|| inspected(30, BESIDE + 1, 0).assert_by_shortcut(30, "")),
            std::panic::catch_unwind(|| inspected(1, 30, 0).assert_by_bridge(30, "")),
            std::panic::catch_unwind(|| inspected(0, 30, 0).assert_by_bridge(31, "")),
        ] {
            assert!(wrong.is_err());
        }
        inspected(0, 30, 0).assert_by_bridge(30, "");
        let dropped = inspected(0, 0, 5).since(&inspected(0, 0, 3)).dropped;
        assert_eq!(dropped, [("not_its_mac".to_owned(), 2)].into());
    }
}
