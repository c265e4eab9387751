//! Counts that only grow, out of what the kernel counts for things that come and go.

use std::collections::{BTreeMap, BTreeSet};

use weft_kernel::{Count, DropReason, EndpointTraffic, Traffic};
use weft_model::{EndpointId, NetworkId};

/// Drops by reason.
pub(crate) type Drops = BTreeMap<DropReason, Count>;

/// Everything that has been counted so far: as far back as the kernel knew when the daemon began.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    endpoints: BTreeMap<EndpointId, Series<EndpointTraffic>>,
    networks: BTreeMap<NetworkId, EndpointTraffic>,
    underlay: BTreeMap<(u32, DropReason), Series<Count>>,
}

/// What the kernel said last, and the sum of what it said anew each time.
#[derive(Debug, Default)]
struct Series<T> {
    seen: T,
    sum: T,
}

/// An endpoint of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) endpoint: EndpointId,
    pub(crate) network: NetworkId,
    /// The host's end of its veth.
    pub(crate) link: String,
}

impl Tally {
    /// Takes in what the kernel says now. Endpoints that are not `local` any more are forgotten;
    /// what they sent stays with their network, until that is not one of `networks` any more.
    pub(crate) fn take(&mut self, now: &Traffic, local: &[Local], networks: &BTreeSet<NetworkId>) {
        for Local { endpoint, network, link } in local {
            let Some(now) = now.endpoints.get(link) else { continue };
            let news = self.endpoints.entry(*endpoint).or_default().step(now);
            add(self.networks.entry(*network).or_default(), &news);
        }
        let here: BTreeSet<EndpointId> = local.iter().map(|l| l.endpoint).collect();
        self.endpoints.retain(|id, _| here.contains(id));
        self.networks.retain(|id, _| networks.contains(id));
        for (at, now) in &now.underlay {
            self.underlay.entry(*at).or_default().step(*now);
        }
    }

    /// What an endpoint of this host sent and received.
    pub(crate) fn endpoint(&self, id: EndpointId) -> Option<&EndpointTraffic> {
        self.endpoints.get(&id).map(|series| &series.sum)
    }

    /// What all endpoints that this host has had on a network sent and received.
    pub(crate) fn network(&self, id: NetworkId) -> EndpointTraffic {
        self.networks.get(&id).cloned().unwrap_or_default()
    }

    /// What came from the underlay with this VNI and was dropped; VNI 0: with any.
    pub(crate) fn underlay(&self, vni: u32) -> Drops {
        let of_it = self.underlay.iter().filter(|((v, _), _)| *v == vni);
        of_it.map(|((_, reason), series)| (*reason, series.sum)).collect()
    }
}

impl Series<EndpointTraffic> {
    /// How much more there is than last time.
    fn step(&mut self, now: &EndpointTraffic) -> EndpointTraffic {
        // The four counts are read one after the other while packets flow, and one is what is left when the
        // others are taken off: it may seem to go back a little. A device that was made anew
        // begins from nothing.
        if packets(now) < packets(&self.seen) / 2 {
            self.seen = EndpointTraffic::default();
        }
        let mut news = EndpointTraffic::default();
        for (field, seen, now) in [
            (&mut news.sent_shortcut, &mut self.seen.sent_shortcut, now.sent_shortcut),
            (&mut news.sent_bridge, &mut self.seen.sent_bridge, now.sent_bridge),
            (&mut news.received_shortcut, &mut self.seen.received_shortcut, now.received_shortcut),
            (&mut news.received_bridge, &mut self.seen.received_bridge, now.received_bridge),
        ] {
            *field = Count {
                packets: now.packets.saturating_sub(seen.packets),
                bytes: now.bytes.saturating_sub(seen.bytes),
            };
            *seen =
                Count { packets: now.packets.max(seen.packets), bytes: now.bytes.max(seen.bytes) };
        }
        for (reason, now) in &now.dropped {
            let seen = self.seen.dropped.insert(*reason, *now).unwrap_or_default();
            news.dropped.insert(*reason, since(seen, *now));
        }
        add(&mut self.sum, &news);
        news
    }
}

impl Series<Count> {
    fn step(&mut self, now: Count) {
        self.sum += since(self.seen, now);
        self.seen = now;
    }
}

/// How much a counter has grown. One that went back was begun anew.
fn since(seen: Count, now: Count) -> Count {
    if now.packets < seen.packets || now.bytes < seen.bytes {
        return now;
    }
    Count { packets: now.packets - seen.packets, bytes: now.bytes - seen.bytes }
}

const fn packets(of: &EndpointTraffic) -> u64 {
    of.sent_shortcut
        .packets
        .saturating_add(of.sent_bridge.packets)
        .saturating_add(of.received_shortcut.packets)
        .saturating_add(of.received_bridge.packets)
}

fn add(to: &mut EndpointTraffic, more: &EndpointTraffic) {
    to.sent_shortcut += more.sent_shortcut;
    to.sent_bridge += more.sent_bridge;
    to.received_shortcut += more.received_shortcut;
    to.received_bridge += more.received_bridge;
    for (reason, count) in &more.dropped {
        *to.dropped.entry(*reason).or_default() += *count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId(1);

    fn count(packets: u64) -> Count {
        Count { packets, bytes: packets * 100 }
    }

    fn sent(shortcut: u64, bridge: u64) -> EndpointTraffic {
        EndpointTraffic {
            sent_shortcut: count(shortcut),
            sent_bridge: count(bridge),
            ..EndpointTraffic::default()
        }
    }

    fn local(endpoint: u64) -> Local {
        let endpoint = EndpointId(endpoint);
        Local { endpoint, network: NETWORK, link: format!("we-{endpoint}") }
    }

    /// Takes in counts of endpoints 1, 2 …; `None`: not there.
    fn take(tally: &mut Tally, counts: &[Option<EndpointTraffic>]) {
        let here: Vec<(Local, EndpointTraffic)> = (1..)
            .zip(counts)
            .filter_map(|(id, counts)| Some((local(id), counts.clone()?)))
            .collect();
        let endpoints = here.iter().map(|(l, c)| (l.link.clone(), c.clone())).collect();
        let traffic = Traffic { endpoints, underlay: BTreeMap::new() };
        let locals: Vec<Local> = here.into_iter().map(|(l, _)| l).collect();
        tally.take(&traffic, &locals, &[NETWORK].into());
    }

    #[test]
    fn what_an_endpoint_sent_stays_with_its_network_when_it_goes() {
        let mut tally = Tally::default();
        take(&mut tally, &[Some(sent(5, 1)), Some(sent(7, 0))]);
        take(&mut tally, &[Some(sent(6, 1)), None]);
        assert_eq!(tally.endpoint(EndpointId(1)), Some(&sent(6, 1)));
        assert_eq!(tally.endpoint(EndpointId(2)), None);
        assert_eq!(tally.network(NETWORK), sent(13, 1));
        // Another one comes under the same identifier and begins from nothing.
        take(&mut tally, &[Some(sent(6, 1)), Some(sent(2, 0))]);
        assert_eq!(tally.endpoint(EndpointId(2)), Some(&sent(2, 0)));
        assert_eq!(tally.network(NETWORK), sent(15, 1));
        tally.take(&Traffic::default(), &[], &BTreeSet::new());
        assert_eq!(tally.network(NETWORK), EndpointTraffic::default());
    }

    #[test]
    fn a_count_that_seems_to_go_back_stands_and_a_device_made_anew_adds_up() {
        let mut tally = Tally::default();
        for (now, sum) in [
            (sent(100, 10), sent(100, 10)),
            (sent(150, 8), sent(150, 10)),
            (sent(160, 11), sent(160, 11)),
            (sent(3, 1), sent(163, 12)),
            (sent(4, 1), sent(164, 12)),
        ] {
            take(&mut tally, &[Some(now)]);
            assert_eq!(tally.endpoint(EndpointId(1)), Some(&sum));
            assert_eq!(tally.network(NETWORK), sum);
        }
    }

    #[test]
    fn drops_add_up_though_a_filter_is_made_anew() {
        let mut tally = Tally::default();
        let underlay = |packets| Traffic {
            endpoints: BTreeMap::new(),
            underlay: [
                ((7, DropReason::NotAMember), count(packets)),
                ((0, DropReason::VxlanFromContainer), count(1)),
            ]
            .into(),
        };
        for packets in [3, 5, 1, 2] {
            tally.take(&underlay(packets), &[], &BTreeSet::new());
        }
        assert_eq!(tally.underlay(7), [(DropReason::NotAMember, count(7))].into());
        assert_eq!(tally.underlay(0), [(DropReason::VxlanFromContainer, count(1))].into());
        assert_eq!(tally.underlay(8), Drops::new());
        let dropped = |packets| EndpointTraffic {
            dropped: [(DropReason::NotItsMac, count(packets))].into(),
            ..sent(10, 0)
        };
        for packets in [4, 6, 1] {
            take(&mut tally, &[Some(dropped(packets))]);
        }
        assert_eq!(tally.endpoint(EndpointId(1)), Some(&dropped(7)));
    }
}
