//! Leases: which node may give out which addresses of a network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_model::row::Guard;
use weft_model::{
    ClusterState, Endpoint, Lease, Network, NetworkId, Node, NodeId, Offset, OffsetSet, Row, RowKey,
};

use crate::draft::{Decision, Draft, node_name, unchanged};
use crate::networks::subnets_text;
use crate::space::{Space, holder};
use crate::{Outcome, Rejection, networks, nodes};

/// The largest share that a node gets without asking for that many.
const SHARE: u64 = 64;
/// The most addresses that one command grants.
const MOST: u64 = 1024;

pub(crate) fn grant(
    state: &ClusterState,
    network: NetworkId,
    node: NodeId,
    wanted: &[Offset],
    count: u32,
) -> Decision {
    let node = nodes::alive(state, node)?;
    let network = networks::find(state, network)?;
    let mut space = Space::of(state, network);
    let existing = state.leases.get(&(network.id, node.id));
    for &offset in wanted {
        check_wanted(state, network, node, offset)?;
    }
    let mut lease = match existing {
        Some(lease) => lease.clone(),
        None => {
            let node_offset = own_offset(network, &mut space, node, wanted)?;
            let (network, node, offsets) = (network.id, node.id, OffsetSet::new());
            Lease { network, node, node_offset, offsets }
        }
    };
    if wanted.is_empty() && count > 0 {
        let count = u64::from(count).min(MOST);
        share(state, network, &mut space, count, &mut lease.offsets)?;
    }
    for &offset in wanted {
        if !lease.offsets.contains(offset) && space.collides(offset) {
            return Err(Rejection::busy(
                "--ip",
                format!("{} would get a MAC address that is in use", text(network, offset)),
                "choose another address, or leave out --ip",
            ));
        }
        if lease.offsets.insert(offset) {
            space.take(offset);
        }
    }
    let outcome = Outcome::Lease(lease.clone());
    if existing == Some(&lease) {
        return unchanged(outcome);
    }
    let mut draft = Draft::new(state);
    draft.depend(RowKey::Network(network.id));
    // Removing the node deletes its leases; a lease that it does not have yet has to be noticed.
    if existing.is_none() {
        draft.put(Row::Node(node.clone()));
    }
    draft.put(Row::Lease(lease));
    draft.change(Guard::Leases(network.id));
    draft.finish(outcome)
}

pub(crate) fn release(
    state: &ClusterState,
    network: NetworkId,
    node: NodeId,
    offsets: &OffsetSet,
    leave: bool,
) -> Decision {
    let Some(lease) = state.leases.get(&(network, node)) else { return unchanged(Outcome::Done) };
    let network = networks::find(state, network)?;
    let used = used_by(state, network, node);
    let refuse = |endpoint: &Endpoint, what: &str| {
        Rejection::busy(
            "offsets",
            format!("{what} while '{}' uses {}", endpoint.name, addresses_text(endpoint)),
            "detach the container first: `weft detach`",
        )
    };
    if leave {
        if let Some(endpoint) = used.values().next() {
            let what = format!("network '{}' cannot be left", network.name);
            return Err(refuse(endpoint, &what));
        }
        let mut draft = Draft::new(state);
        draft.delete(RowKey::Lease(network.id, node));
        draft.change(Guard::Leases(network.id));
        return draft.finish(Outcome::Done);
    }
    if let Some((offset, endpoint)) = used.iter().find(|(offset, _)| offsets.contains(**offset)) {
        let what = format!("{} cannot be given back", text(network, *offset));
        return Err(refuse(endpoint, &what));
    }
    // What is not held was given back before: the answer to the first call was lost.
    let kept: OffsetSet = lease.offsets.iter().filter(|o| !offsets.contains(*o)).collect();
    let lease = Lease { offsets: kept, ..lease.clone() };
    let outcome = Outcome::Lease(lease.clone());
    if state.leases.get(&(network.id, node)) == Some(&lease) {
        return unchanged(outcome);
    }
    let mut draft = Draft::new(state);
    draft.put(Row::Lease(lease));
    draft.change(Guard::Leases(network.id));
    draft.finish(outcome)
}

/// The position of `address` in `network`, if a container may have it.
///
/// # Errors
/// [`Rejection`] of kind `Outside` or `Reserved` about `--ip`.
pub fn offset_for(network: &Network, address: IpAddr) -> Result<Offset, Rejection> {
    let Some(offset) = network.offset_of(address) else {
        return Err(outside(network, &address.to_string()));
    };
    check_offset(network, offset)?;
    Ok(offset)
}

/// The address that an agent gives to a new container: the lowest position of its lease that is
/// neither used nor cooling down, and exists in every subnet.
pub fn choose(
    network: &Network,
    lease: &Lease,
    used: &OffsetSet,
    cooling: &OffsetSet,
) -> Option<Offset> {
    let last = network.last_offset();
    let mut positions = lease.offsets.iter().take_while(|offset| *offset <= last);
    positions.find(|offset| !used.contains(*offset) && !cooling.contains(*offset))
}

/// Addresses that other nodes than `node` hold but no endpoint uses: what a server may ask back
/// when `node` was refused `wanted`, or `count` of any.
///
/// Of `wanted`, exactly those. Of any, all there are, as a holder may have plans for some; whoever
/// holds most unused ones comes first, and holders beyond those needed for `count` are left out.
pub fn recallable(
    state: &ClusterState,
    network: NetworkId,
    node: NodeId,
    wanted: &[Offset],
    count: u32,
) -> Vec<(NodeId, OffsetSet)> {
    let Some(network) = state.networks.get(&network) else { return Vec::new() };
    let used = used(state, network);
    let mut holders: Vec<(NodeId, OffsetSet)> = state
        .leases_of(network.id)
        .filter(|lease| lease.node != node)
        .map(|lease| {
            let unused = lease.offsets.iter().filter(|o| !used.contains_key(o));
            let unused = unused.filter(|o| wanted.is_empty() || wanted.contains(o));
            (lease.node, unused.collect::<OffsetSet>())
        })
        .filter(|(_, unused)| !unused.is_empty())
        .collect();
    if wanted.is_empty() {
        holders.sort_by_key(|(node, unused)| (std::cmp::Reverse(unused.len()), *node));
        let mut missing = u64::from(count);
        holders.retain(|(_, unused)| {
            let needed = missing > 0;
            missing = missing.saturating_sub(unused.len());
            needed
        });
    }
    holders
}

/// The positions that endpoints of a network use, with them.
pub(crate) fn used<'a>(
    state: &'a ClusterState,
    network: &Network,
) -> BTreeMap<Offset, &'a Endpoint> {
    let endpoints = state.endpoints_of(network.id);
    endpoints.flat_map(|e| offsets_of(network, e).map(move |offset| (offset, e))).collect()
}

fn used_by<'a>(
    state: &'a ClusterState,
    network: &Network,
    node: NodeId,
) -> BTreeMap<Offset, &'a Endpoint> {
    let endpoints = state.endpoints_of(network.id).filter(|e| e.node == node);
    endpoints.flat_map(|e| offsets_of(network, e).map(move |offset| (offset, e))).collect()
}

/// The positions of an endpoint's addresses.
pub(crate) fn offsets_of(network: &Network, endpoint: &Endpoint) -> impl Iterator<Item = Offset> {
    endpoint.addresses.iter().filter_map(|address| network.offset_of(*address))
}

/// The addresses at `offset` as text.
pub(crate) fn text(network: &Network, offset: Offset) -> String {
    let addresses = network.addresses(offset);
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
}

/// The same as the subject of a sentence.
fn text_is(network: &Network, offset: Offset) -> String {
    let verb = if network.addresses(offset).len() == 1 { "is" } else { "are" };
    format!("{} {verb}", text(network, offset))
}

fn addresses_text(endpoint: &Endpoint) -> String {
    endpoint.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
}

fn outside(network: &Network, what: &str) -> Rejection {
    Rejection::outside(
        "--ip",
        format!("{what} is outside of network '{}'", network.name),
        format!("choose an address in {}", subnets_text(network)),
    )
}

/// Whether a container may have the position at all.
pub(crate) fn check_offset(network: &Network, offset: Offset) -> Result<(), Rejection> {
    let addresses = network.addresses(offset);
    if addresses.is_empty() {
        return Err(outside(network, &format!("position {}", offset.0)));
    }
    let name = &network.name;
    let last_of_v4 = |address: &IpAddr| {
        address.is_ipv4()
            && network.subnet_of(*address).is_some_and(|net| net.broadcast() == *address)
    };
    let kind = match offset {
        Offset(0) => format!("network '{name}' itself"),
        Network::GATEWAY => format!("the gateway of network '{name}'"),
        _ if addresses.iter().any(last_of_v4) => format!("broadcasts in network '{name}'"),
        _ => return Ok(()),
    };
    Err(Rejection::reserved(
        "--ip",
        format!("{} kept for {kind}", text_is(network, offset)),
        "choose another address, or leave out --ip",
    ))
}

/// Whether `node` can have exactly this position.
fn check_wanted(
    state: &ClusterState,
    network: &Network,
    node: &Node,
    offset: Offset,
) -> Result<(), Rejection> {
    check_offset(network, offset)?;
    let Some(lease) = holder(state, network, offset) else { return Ok(()) };
    let it_is = text_is(network, offset);
    let other = node_name(state, lease.node);
    if lease.node_offset == offset {
        return Err(Rejection::reserved(
            "--ip",
            format!("{it_is} kept for node '{other}' itself in network '{}'", network.name),
            "choose another address, or leave out --ip",
        ));
    }
    if lease.node == node.id {
        return Ok(());
    }
    Err(match used_by(state, network, lease.node).get(&offset) {
        Some(endpoint) => Rejection::busy(
            "--ip",
            format!("{it_is} used by '{}' on node '{other}'", endpoint.name),
            "choose another address, or leave out --ip",
        ),
        None => Rejection::busy(
            "--ip",
            format!("{it_is} leased to node '{other}', which does not use it"),
            "try again in a moment, choose another address, or leave out --ip",
        ),
    })
}

/// The node's own position in the network: the highest that is free.
fn own_offset(
    network: &Network,
    space: &mut Space<'_>,
    node: &Node,
    wanted: &[Offset],
) -> Result<Offset, Rejection> {
    let wanted: BTreeSet<Offset> = wanted.iter().copied().collect();
    let gaps = space.gaps();
    let mut from_top = gaps.iter().rev().flat_map(|&(low, high)| (low..=high).rev()).map(Offset);
    let own = from_top.find(|offset| !wanted.contains(offset) && !space.collides(*offset));
    let own = own.ok_or_else(|| {
        Rejection::exhausted(
            "--network",
            format!(
                "network '{}' ({}) has no address left for node '{}' itself",
                network.name,
                subnets_text(network),
                node.name
            ),
            "detach containers, or make a network with a larger subnet",
        )
    })?;
    space.take(own);
    Ok(own)
}

/// Adds a share of what is free, from the bottom: at least `count`, if there are as many, and
/// more where there is plenty for all nodes.
fn share(
    state: &ClusterState,
    network: &Network,
    space: &mut Space<'_>,
    count: u64,
    offsets: &mut OffsetSet,
) -> Result<(), Rejection> {
    let free = space.free();
    let nodes = nodes::living(state).count().max(1) as u64;
    let size = count.max((free / nodes.saturating_mul(4)).clamp(1, SHARE));
    let mut granted = 0;
    for (low, high) in space.gaps() {
        for offset in (low..=high).map(Offset) {
            if granted == size {
                return Ok(());
            }
            if !space.collides(offset) {
                space.take(offset);
                offsets.insert(offset);
                granted += 1;
            }
        }
    }
    if granted > 0 { Ok(()) } else { Err(exhausted(state, network)) }
}

fn exhausted(state: &ClusterState, network: &Network) -> Rejection {
    let last = network.last_offset();
    let used = used(state, network).into_keys().filter(|offset| *offset <= last).count() as u64;
    let leased: u64 = state
        .leases_of(network.id)
        .map(|lease| lease.offsets.iter().take_while(|offset| *offset <= last).count() as u64)
        .sum();
    Rejection::exhausted(
        "--network",
        format!(
            "network '{}' ({}) has no address left: {used} are in use, {} are leased to nodes \
             that do not use them",
            network.name,
            subnets_text(network),
            leased.saturating_sub(used),
        ),
        "detach containers, or make a network with a larger subnet",
    )
}
