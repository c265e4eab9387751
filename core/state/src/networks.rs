//! Networks: making and removing them.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use weft_model::row::Guard;
use weft_model::{ClusterState, Network, NetworkId, Row, RowKey, Vni};

use crate::command::CreateNetwork;
use crate::draft::{Decision, Draft, node_name, unchanged};
use crate::{Outcome, Rejection, nodes, pools};

/// Octets of an inner IP packet: IPv6 needs 1,280 (RFC 8200 section 5); beyond 65,000 the outer
/// headers would not fit.
const MTU: RangeInclusive<u16> = 1280..=65000;
/// How many endpoints a refusal names before it only counts.
const NAMED: usize = 3;

pub(crate) fn create(state: &ClusterState, wish: CreateNetwork) -> Decision {
    if let Some(existing) = state.networks.get(&wish.id).filter(|n| n.name == wish.name) {
        return unchanged(Outcome::Network(existing.clone()));
    }
    if let Some(other) = state.network_named(&wish.name) {
        return Err(Rejection::exists(
            "NAME",
            format!("there is a network '{}' already", other.name),
            format!("choose another name, or remove it first: `weft network rm {}`", other.name),
        ));
    }
    if state.networks.contains_key(&wish.id) {
        return Err(Rejection::exists(
            "id",
            format!("there is another network {}", wish.id),
            "try again: networks get random identifiers",
        ));
    }
    check_shape(&wish)?;
    let subnets = subnets(state, &wish)?;
    let network = Network {
        id: wish.id,
        name: wish.name,
        vni: next_vni(state)?,
        subnets,
        mtu: wish.mtu,
        internal: wish.internal,
        allow_overlap: wish.allow_overlap,
    };
    let mut draft = Draft::new(state);
    draft.depend(RowKey::Cluster);
    draft.depend(RowKey::Guard(Guard::Nodes));
    draft.put(Row::Network(network.clone()));
    draft.change(Guard::Networks);
    draft.finish(Outcome::Network(network))
}

pub(crate) fn remove(state: &ClusterState, id: NetworkId) -> Decision {
    let Some(network) = state.networks.get(&id) else { return unchanged(Outcome::Done) };
    let endpoints: Vec<String> = state
        .endpoints_of(id)
        .map(|e| format!("'{}' on node '{}'", e.name, node_name(state, e.node)))
        .collect();
    if !endpoints.is_empty() {
        let named = endpoints[..endpoints.len().min(NAMED)].join(", ");
        let more = match endpoints.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Err(Rejection::busy(
            "NAME",
            format!("network '{}' is used by {named}{more}", network.name),
            "detach the containers first: `weft detach`",
        ));
    }
    let mut draft = Draft::new(state);
    draft.delete(RowKey::Network(id));
    for lease in state.leases_of(id) {
        draft.delete(RowKey::Lease(id, lease.node));
    }
    // Nothing is left to guard. Where the guard was never written, it must still be so.
    let guard = RowKey::Guard(Guard::Leases(id));
    draft.depend(guard);
    if state.written.contains_key(&guard) {
        draft.delete(guard);
    }
    draft.change(Guard::Networks);
    draft.finish(Outcome::Done)
}

/// The network, for commands about things in it.
pub(crate) fn find(state: &ClusterState, id: NetworkId) -> Result<&Network, Rejection> {
    state.networks.get(&id).ok_or_else(|| {
        Rejection::not_found(
            "--network",
            format!("there is no network {id}"),
            "see `weft network ls`, or create it with `weft network create`",
        )
    })
}

/// Its subnets as text, for messages.
pub(crate) fn subnets_text(network: &Network) -> String {
    network.subnets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

/// What can be told without looking at the rest of the cluster.
fn check_shape(wish: &CreateNetwork) -> Result<(), Rejection> {
    for subnet in &wish.subnets {
        check_subnet(subnet)?;
    }
    for ipv4 in [true, false] {
        let family = wish.subnets.iter().filter(|s| s.addr().is_ipv4() == ipv4);
        if let [first, second, ..] = family.collect::<Vec<_>>()[..] {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            return Err(Rejection::invalid(
                "--subnet",
                format!("{first} and {second} are both {family}"),
                "a network has at most one subnet per address family",
            ));
        }
    }
    if let Some(mtu) = wish.mtu.filter(|mtu| !MTU.contains(mtu)) {
        return Err(Rejection::invalid(
            "--mtu",
            format!("an MTU of {mtu} is out of range"),
            "give 1280 to 65000, or leave it out: it then follows the path between the hosts",
        ));
    }
    if wish.allow_overlap && !wish.internal {
        return Err(Rejection::invalid(
            "--allow-overlap",
            "only an internal network may overlap with others",
            "add --internal, or leave out --allow-overlap",
        ));
    }
    Ok(())
}

/// The prefix lengths that subnets may have.
pub(crate) fn sizes(prefix: &IpNet) -> RangeInclusive<u8> {
    if prefix.addr().is_ipv4() { 8..=29 } else { 64..=120 }
}

fn check_subnet(subnet: &IpNet) -> Result<(), Rejection> {
    check_prefix("--subnet", subnet)?;
    let sizes = sizes(subnet);
    if !sizes.contains(&subnet.prefix_len()) {
        let family = if subnet.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(Rejection::invalid(
            "--subnet",
            format!("{subnet} has a prefix length that cannot be used"),
            format!("{family} subnets may be from /{} to /{}", sizes.start(), sizes.end()),
        ));
    }
    Ok(())
}

/// Host bits zero, and addresses that containers can have.
pub(crate) fn check_prefix(field: &str, prefix: &IpNet) -> Result<(), Rejection> {
    if prefix.addr() != prefix.network() {
        let right = prefix.trunc();
        return Err(Rejection::invalid(
            field,
            format!("{prefix} has host bits set"),
            format!("did you mean {right}?"),
        ));
    }
    const SPECIAL: [(&str, &str); 7] = [
        ("0.0.0.0/8", "the addresses that stand for no host"),
        ("127.0.0.0/8", "the loopback addresses"),
        ("169.254.0.0/16", "the link-local addresses"),
        ("224.0.0.0/3", "the multicast and reserved addresses"),
        ("::/80", "the unspecified, loopback and IPv4-mapped addresses"),
        ("fe80::/10", "the link-local addresses"),
        ("ff00::/8", "the multicast addresses"),
    ];
    for (special, what) in SPECIAL {
        let overlaps = special
            .parse()
            .is_ok_and(|special: IpNet| special.contains(prefix) || prefix.contains(&special));
        if overlaps {
            return Err(Rejection::invalid(
                field,
                format!("{prefix} overlaps with {special}, {what}"),
                "use private addresses, such as 10.0.0.0/8 (RFC 1918) or fd00::/8 (RFC 4193)",
            ));
        }
    }
    Ok(())
}

/// The given subnets, if they are free, and one from the pools per wanted family without.
fn subnets(state: &ClusterState, wish: &CreateNetwork) -> Result<Vec<IpNet>, Rejection> {
    let mut subnets = wish.subnets.clone();
    for subnet in &subnets {
        check_overlap(state, wish, subnet)?;
    }
    let has = |ipv4| subnets.iter().any(|s| s.addr().is_ipv4() == ipv4);
    let (cut_v4, cut_v6) = (subnets.is_empty(), wish.ipv6 && !has(false));
    if cut_v4 || cut_v6 {
        let cluster = state.cluster.iter().flat_map(|cluster| &cluster.pools);
        let pools: Vec<_> = cluster.cloned().collect();
        let obstacles = obstacles(state, wish);
        for ipv4 in [cut_v4.then_some(true), cut_v6.then_some(false)].into_iter().flatten() {
            subnets.push(pools::cut(&pools, ipv4, &obstacles)?);
        }
    }
    subnets.sort_by_key(|subnet| subnet.addr().is_ipv6());
    Ok(subnets)
}

/// Everything that a subnet of our own choice must stay clear of.
fn obstacles(state: &ClusterState, wish: &CreateNetwork) -> Vec<IpNet> {
    let networks = state.networks.values().flat_map(|network| network.subnets.iter().copied());
    let hosts = wish.occupied.iter().map(|(prefix, _)| *prefix);
    let nodes = nodes::living(state).map(|node| IpNet::from(node.data_address));
    networks.chain(hosts).chain(nodes).collect()
}

fn check_overlap(
    state: &ClusterState,
    wish: &CreateNetwork,
    subnet: &IpNet,
) -> Result<(), Rejection> {
    let overlaps = |other: &IpNet| subnet.contains(other) || other.contains(subnet);
    for network in state.networks.values() {
        let Some(theirs) = network.subnets.iter().find(|theirs| overlaps(theirs)) else {
            continue;
        };
        if wish.allow_overlap && network.allow_overlap {
            continue;
        }
        let hint = if wish.allow_overlap {
            format!("choose another subnet: network '{}' does not allow overlaps", network.name)
        } else {
            "choose another subnet, or leave out --subnet to get a free one".to_owned()
        };
        return Err(Rejection::overlap(
            "--subnet",
            format!("{subnet} overlaps with subnet {theirs} of network '{}'", network.name),
            hint,
        ));
    }
    if wish.allow_overlap {
        return Ok(());
    }
    if let Some((route, seen)) = wish.occupied.iter().find(|(route, _)| overlaps(route)) {
        return Err(Rejection::overlap(
            "--subnet",
            format!("{subnet} overlaps with the route {route} of a host ({seen})"),
            "choose another subnet, or leave out --subnet to get a free one",
        ));
    }
    if let Some(node) = nodes::living(state).find(|n| subnet.contains(&n.data_address)) {
        return Err(Rejection::overlap(
            "--subnet",
            format!(
                "{subnet} holds the data address {} of node '{}'",
                node.data_address, node.name
            ),
            "choose another subnet, or leave out --subnet to get a free one",
        ));
    }
    Ok(())
}

/// The lowest unused VNI from a place that moves on with every change of the networks, so that
/// one that was just freed is the last to be used again: a node that has not heard of the removal
/// must not take the new network for the old one.
fn next_vni(state: &ClusterState) -> Result<Vni, Rejection> {
    let used: std::collections::BTreeSet<Vni> = state.networks.values().map(|n| n.vni).collect();
    let (first, last) = (Vni::FIRST.get(), Vni::LAST.get());
    let moved = state.written.get(&RowKey::Guard(Guard::Networks)).map_or(0, |g| g.0);
    let count = u64::from(last - first) + 1;
    let start = first + u32::try_from(moved % count).unwrap_or(0);
    let free =
        (start..=last).chain(first..start).filter_map(Vni::new).find(|vni| !used.contains(vni));
    free.ok_or_else(|| {
        Rejection::exhausted(
            "NAME",
            format!("all {count} VXLAN network identifiers are in use"),
            "remove a network: `weft network rm`",
        )
    })
}
