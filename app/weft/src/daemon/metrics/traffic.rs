//! What containers sent and received, by path, and what was dropped.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use weft_kernel::{Count, DropReason, EndpointTraffic};

use crate::agent::Agent;
use crate::agent::tally::Drops;
use crate::daemon::traffic::code;

/// Endpoints with metrics of their own, each of which makes about ten series. Those of others are in
/// the sums of their networks.
const MOST_ENDPOINTS: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEndpoint {
    network: String,
    endpoint: String,
    direction: &'static str,
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNetwork {
    network: String,
    direction: &'static str,
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropOfEndpoint {
    network: String,
    endpoint: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropOfNetwork {
    network: String,
    reason: &'static str,
}

/// A counter per endpoint or network, direction and path.
type Paths<Of> = Family<Of, Counter>;

/// What the metrics are made of.
#[derive(Debug, Default)]
struct Figures {
    /// By network and name: containers may share a name.
    endpoints: Vec<(String, String, EndpointTraffic)>,
    /// How many there are beyond those.
    left_out: usize,
    networks: BTreeMap<String, EndpointTraffic>,
    /// By network; without one where the reason does not depend on it.
    underlay: BTreeMap<String, Drops>,
}

/// Adds them, as they were read last.
pub(super) fn register(registry: &mut Registry, agent: &Agent) {
    let on = u64::from(agent.shortcut.is_on());
    registry.register("shortcut_on", "Whether this host has the shortcut", ConstGauge::new(on));
    put(registry, &figures(agent));
}

fn figures(agent: &Agent) -> Figures {
    let state = agent.state();
    let mut figures = Figures::default();
    figures.underlay.insert(String::new(), state.tally.underlay(0));
    for network in state.knowledge.networks() {
        let name = network.name.to_string();
        figures.underlay.insert(name.clone(), state.tally.underlay(network.vni.get()));
        figures.networks.insert(name, state.tally.network(network.id));
    }
    for attachment in state.knowledge.attachments.values() {
        let endpoint = &attachment.endpoint;
        let network = state.knowledge.rows.networks.get(&endpoint.network);
        let counts = state.tally.endpoint(endpoint.id);
        let Some((network, counts)) = network.zip(counts) else { continue };
        if figures.endpoints.len() == MOST_ENDPOINTS {
            figures.left_out += 1;
            continue;
        }
        let names = (network.name.to_string(), endpoint.name.to_string());
        figures.endpoints.push((names.0, names.1, counts.clone()));
    }
    figures
}

fn put(registry: &mut Registry, figures: &Figures) {
    let (packets, bytes) = (Paths::<OfEndpoint>::default(), Paths::default());
    let dropped = Family::<DropOfEndpoint, Counter>::default();
    for (network, endpoint, counts) in &figures.endpoints {
        for (direction, path, count) in paths(counts) {
            let (network, endpoint) = (network.clone(), endpoint.clone());
            let labels = OfEndpoint { network, endpoint, direction, path };
            packets.get_or_create(&labels).inc_by(count.packets);
            bytes.get_or_create(&labels).inc_by(count.bytes);
        }
        for (reason, count) in reasons(&counts.dropped) {
            let (network, endpoint) = (network.clone(), endpoint.clone());
            let labels = DropOfEndpoint { network, endpoint, reason };
            dropped.get_or_create(&labels).inc_by(count.packets);
        }
    }
    let frames = || Unit::Other("packets".to_owned());
    let of = "Frames that an endpoint of this host sent or received, by the path they took";
    registry.register_with_unit("endpoint", of, frames(), packets);
    let of = "Octets of those frames, Ethernet header included";
    registry.register_with_unit("endpoint", of, Unit::Bytes, bytes);
    let of = "Frames that an endpoint of this host sent and that were dropped";
    registry.register_with_unit("endpoint_dropped", of, frames(), dropped);
    let of = "Endpoints of this host without metrics of their own";
    let left_out = ConstGauge::new(figures.left_out as u64);
    registry.register("endpoints_left_out", of, left_out);
    put_networks(registry, figures);
}

fn put_networks(registry: &mut Registry, figures: &Figures) {
    let (packets, bytes) = (Paths::<OfNetwork>::default(), Paths::default());
    let dropped = Family::<DropOfNetwork, Counter>::default();
    for (network, counts) in &figures.networks {
        for (direction, path, count) in paths(counts) {
            let labels = OfNetwork { network: network.clone(), direction, path };
            packets.get_or_create(&labels).inc_by(count.packets);
            bytes.get_or_create(&labels).inc_by(count.bytes);
        }
        for (reason, count) in reasons(&counts.dropped) {
            let labels = DropOfNetwork { network: network.clone(), reason };
            dropped.get_or_create(&labels).inc_by(count.packets);
        }
    }
    let underlay = Family::<DropOfNetwork, Counter>::default();
    for (network, drops) in &figures.underlay {
        for (reason, count) in reasons(drops) {
            let labels = DropOfNetwork { network: network.clone(), reason };
            underlay.get_or_create(&labels).inc_by(count.packets);
        }
    }
    let frames = || Unit::Other("packets".to_owned());
    let of = "Frames that this host's endpoints of a network sent or received since the daemon \
              began, by the path they took; those of endpoints that have gone are among them";
    registry.register_with_unit("network", of, frames(), packets);
    let of = "Octets of those frames, Ethernet header included";
    registry.register_with_unit("network", of, Unit::Bytes, bytes);
    let of = "Frames that this host's endpoints of a network sent and that were dropped";
    registry.register_with_unit("network_dropped", of, frames(), dropped);
    let of = "Frames that were dropped on the way from or to other hosts; without a network where a \
              filter of the host as a whole dropped them";
    registry.register_with_unit("underlay_dropped", of, frames(), underlay);
}

const fn paths(counts: &EndpointTraffic) -> [(&'static str, &'static str, Count); 4] {
    [
        ("sent", "shortcut", counts.sent_shortcut),
        ("sent", "bridge", counts.sent_bridge),
        ("received", "shortcut", counts.received_shortcut),
        ("received", "bridge", counts.received_bridge),
    ]
}

/// Reasons for which nothing was dropped make no series.
fn reasons(drops: &BTreeMap<DropReason, Count>) -> impl Iterator<Item = (&'static str, Count)> {
    drops.iter().filter(|(_, c)| c.packets > 0).map(|(reason, count)| (code(*reason), *count))
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(figures: &Figures) -> String {
        let mut registry = Registry::with_prefix("weft");
        put(&mut registry, figures);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    fn traffic(packets: u64) -> EndpointTraffic {
        let count = Count { packets, bytes: packets * 100 };
        EndpointTraffic {
            sent_shortcut: count,
            dropped: [(DropReason::NotItsMac, count), (DropReason::TooMany, Count::default())]
                .into(),
            ..EndpointTraffic::default()
        }
    }

    #[test]
    fn every_count_has_a_series_with_its_unit() {
        let figures = Figures {
            endpoints: vec![("web".into(), "a".into(), traffic(3))],
            left_out: 2,
            networks: [("web".into(), traffic(5))].into(),
            underlay: [
                (String::new(), [(DropReason::TooMany, Count { packets: 1, bytes: 60 })].into()),
                ("web".into(), traffic(4).dropped),
            ]
            .into(),
        };
        let text = text(&figures);
        for line in [
            r#"weft_endpoint_packets_total{network="web",endpoint="a",direction="sent",path="shortcut"} 3"#,
            r#"weft_endpoint_packets_total{network="web",endpoint="a",direction="received",path="bridge"} 0"#,
            r#"weft_endpoint_bytes_total{network="web",endpoint="a",direction="sent",path="shortcut"} 300"#,
            r#"weft_endpoint_dropped_packets_total{network="web",endpoint="a",reason="not_its_mac"} 3"#,
            "weft_endpoints_left_out 2",
            r#"weft_network_packets_total{network="web",direction="sent",path="shortcut"} 5"#,
            r#"weft_network_bytes_total{network="web",direction="sent",path="shortcut"} 500"#,
            r#"weft_network_dropped_packets_total{network="web",reason="not_its_mac"} 5"#,
            r#"weft_underlay_dropped_packets_total{network="",reason="too_many"} 1"#,
            r#"weft_underlay_dropped_packets_total{network="web",reason="not_its_mac"} 4"#,
            "# UNIT weft_endpoint_bytes bytes",
            "# UNIT weft_endpoint_packets packets",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(!text.contains(r#"endpoint="a",reason="too_many""#), "{text}");
    }

    #[test]
    fn containers_that_share_a_name_share_a_series() {
        let one = |packets| ("web".to_owned(), "a".to_owned(), traffic(packets));
        let figures = Figures { endpoints: vec![one(3), one(4)], ..Figures::default() };
        let text = text(&figures);
        let line = r#"weft_endpoint_packets_total{network="web",endpoint="a",direction="sent",path="shortcut"} 7"#;
        assert!(text.lines().any(|l| l == line), "{text}");
    }
}
