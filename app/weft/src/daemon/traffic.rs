//! What containers sent and received, and how the shortcut is: as the local socket tells it.

use std::time::Duration;

use weft_kernel::{Count, DropReason, EndpointTraffic};
use weft_model::Network;
use weft_rpc::wire;

use crate::agent::shortcut::Shortcut;
use crate::agent::tally::{Drops, Tally};
use crate::agent::{Agent, Counted};

/// How long whoever asks for counters waits for them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How the shortcut is, and what went by it and beside it.
pub(crate) async fn shortcut(agent: &Agent) -> wire::ShortcutStatus {
    let counted = agent.count(PATIENCE).await;
    let state = agent.state();
    let networks = state.knowledge.networks();
    let name = |id| {
        let attachment = state.knowledge.attachments.get(id);
        attachment.map(|a| a.endpoint.name.to_string())
    };
    wire::ShortcutStatus {
        unattached: counted.unattached.iter().filter_map(name).collect(),
        networks: networks.map(|network| of_network(network, &state.tally)).collect(),
        underlay_dropped: drops(&state.tally.underlay(0)),
        ..how(&agent.shortcut, counted)
    }
}

fn how(shortcut: &Shortcut, counted: Counted) -> wire::ShortcutStatus {
    let waiting = u32::try_from(counted.waiting).unwrap_or(u32::MAX);
    let traffic_error = counted.error.unwrap_or_default();
    let status = wire::ShortcutStatus { waiting, traffic_error, ..Default::default() };
    match shortcut {
        Shortcut::On(on) => {
            wire::ShortcutStatus { state: "on".to_owned(), hook: on.to_string(), ..status }
        }
        Shortcut::Off => wire::ShortcutStatus { state: "off".to_owned(), ..status },
        Shortcut::Unavailable(fault) => wire::ShortcutStatus {
            state: "unavailable".to_owned(),
            reason: fault.to_string(),
            hint: fault.hint.clone(),
            ..status
        },
    }
}

fn of_network(network: &Network, tally: &Tally) -> wire::NetworkTraffic {
    wire::NetworkTraffic {
        network_id: network.id.to_string(),
        network_name: network.name.to_string(),
        traffic: Some(to_wire(&tally.network(network.id))),
        underlay_dropped: drops(&tally.underlay(network.vni.get())),
    }
}

/// Traffic for the wire.
pub(crate) fn to_wire(traffic: &EndpointTraffic) -> wire::Traffic {
    wire::Traffic {
        sent_shortcut: Some(count(traffic.sent_shortcut)),
        sent_bridge: Some(count(traffic.sent_bridge)),
        received_shortcut: Some(count(traffic.received_shortcut)),
        received_bridge: Some(count(traffic.received_bridge)),
        dropped: drops(&traffic.dropped),
    }
}

/// Reasons for which nothing was dropped are left out.
fn drops(drops: &Drops) -> Vec<wire::Dropped> {
    let some = drops.iter().filter(|(_, dropped)| dropped.packets > 0);
    let dropped = some.map(|(reason, dropped)| wire::Dropped {
        reason: code(*reason).to_owned(),
        words: reason.as_str().to_owned(),
        count: Some(count(*dropped)),
    });
    dropped.collect()
}

const fn count(count: Count) -> wire::Count {
    wire::Count { packets: count.packets, bytes: count.bytes }
}

/// A reason, for programs: stable, unlike the words for people.
pub(crate) const fn code(reason: DropReason) -> &'static str {
    match reason {
        DropReason::NotItsMac => "not_its_mac",
        DropReason::NotItsAddress => "not_its_address",
        DropReason::ArpNotItsAddress => "arp_not_its_address",
        DropReason::ArpNotItsMac => "arp_not_its_mac",
        DropReason::NdNotARouter => "nd_not_a_router",
        DropReason::NdNotItsAddress => "nd_not_its_address",
        DropReason::NotAMember => "not_a_member",
        DropReason::AnotherHostsGateway => "another_hosts_gateway",
        DropReason::CongestionLost => "congestion_lost",
        DropReason::TooMany => "too_many",
        DropReason::VxlanFromContainer => "vxlan_from_container",
        DropReason::NetworksApart => "networks_apart",
        DropReason::InternalNoWayOut => "internal_no_way_out",
        DropReason::InternalNoWayIn => "internal_no_way_in",
        DropReason::NotAskedFor => "not_asked_for",
        DropReason::GatewayAsksNobody => "gateway_asks_nobody",
        DropReason::NotWritable => "not_writable",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weft_kernel::{Fault, FaultKind};

    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_in_one_form() {
        let codes: BTreeSet<&str> = DropReason::ALL.into_iter().map(code).collect();
        assert_eq!(codes.len(), DropReason::ALL.len());
        for code in codes {
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
        }
    }

    #[test]
    fn what_was_dropped_is_told_and_what_was_not_is_left_out() {
        let some = Count { packets: 3, bytes: 180 };
        let traffic = EndpointTraffic {
            sent_bridge: Count { packets: 7, bytes: 700 },
            dropped: [(DropReason::NotItsMac, some), (DropReason::TooMany, Count::default())]
                .into(),
            ..EndpointTraffic::default()
        };
        let told = to_wire(&traffic);
        assert_eq!(told.sent_bridge, Some(wire::Count { packets: 7, bytes: 700 }));
        assert_eq!(
            told.dropped,
            [wire::Dropped {
                reason: "not_its_mac".to_owned(),
                words: "not its MAC".to_owned(),
                count: Some(wire::Count { packets: 3, bytes: 180 }),
            }]
        );
    }

    #[test]
    fn why_there_is_no_shortcut_is_told_with_what_mends_it() {
        let fault = Fault {
            call: "bpf(BPF_PROG_LOAD)".to_owned(),
            errno: 1,
            message: "Operation not permitted".to_owned(),
            kind: FaultKind::Again,
            hint: "give the daemon CAP_BPF".to_owned(),
        };
        let told = how(&Shortcut::Unavailable(fault), Counted::default());
        assert_eq!(told.state, "unavailable");
        assert_eq!(told.reason, "bpf(BPF_PROG_LOAD): Operation not permitted");
        assert_eq!(told.hint, "give the daemon CAP_BPF");
        let off = how(&Shortcut::Off, Counted { waiting: 2, ..Counted::default() });
        assert_eq!((off.state.as_str(), off.waiting, off.reason.as_str()), ("off", 2, ""));
    }
}
