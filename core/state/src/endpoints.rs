//! Endpoints: what nodes tell of their containers.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::{
    ClusterState, Endpoint, EndpointId, Lease, Mac, Network, NetworkId, Offset, Row, RowKey,
};

use crate::draft::{Decision, Draft, node_name, unchanged};
use crate::networks::subnets_text;
use crate::{Outcome, Rejection, leases, networks, nodes};

/// How many further names, and how many further source prefixes, one endpoint may have: its row
/// goes to every node of the network.
const MOST: usize = 64;

pub(crate) fn put(state: &ClusterState, endpoint: Endpoint) -> Decision {
    let node = nodes::alive(state, endpoint.node)?;
    let network = networks::find(state, endpoint.network)?;
    let existing = state.endpoints.get(&(network.id, endpoint.id));
    if let Some(other) = existing.filter(|other| other.node != endpoint.node) {
        return Err(Rejection::denied(
            "endpoint",
            format!("endpoint {} belongs to node '{}'", endpoint.id, node_name(state, other.node)),
            "a node writes its own endpoints only",
        ));
    }
    let Some(lease) = state.leases.get(&(network.id, node.id)) else {
        return Err(Rejection::denied(
            "--network",
            format!("node '{}' does not take part in network '{}'", node.name, network.name),
            "ask for a lease first",
        ));
    };
    check_lists(&endpoint)?;
    let offsets = check_addresses(network, lease, &endpoint)?;
    check_mac(network, &offsets, &endpoint)?;
    check_unique(state, network, &endpoint)?;
    let row = Row::Endpoint(endpoint);
    // Compared as bytes: names that differ in case only are equal, but not the same.
    let old = existing.map(|old| Row::Endpoint(old.clone()).value());
    if old.as_ref() == Some(&row.value()) {
        return unchanged(Outcome::Done);
    }
    let mut draft = Draft::new(state);
    draft.depend(RowKey::Lease(network.id, node.id));
    let Row::Endpoint(endpoint) = &row else { return unchanged(Outcome::Done) };
    if existing.is_none_or(|old| old.addresses != endpoint.addresses) {
        draft.put(Row::Lease(lease.clone()));
    }
    draft.put(row);
    draft.finish(Outcome::Done)
}

pub(crate) fn delete(state: &ClusterState, network: NetworkId, id: EndpointId) -> Decision {
    if !state.endpoints.contains_key(&(network, id)) {
        return unchanged(Outcome::Done);
    }
    let mut draft = Draft::new(state);
    draft.delete(RowKey::Endpoint(network, id));
    draft.finish(Outcome::Done)
}

fn check_lists(endpoint: &Endpoint) -> Result<(), Rejection> {
    if endpoint.aliases.len() > MOST {
        return Err(Rejection::invalid(
            "--alias",
            format!("{} aliases are too many", endpoint.aliases.len()),
            format!("give at most {MOST}"),
        ));
    }
    if endpoint.allow_source.len() > MOST {
        return Err(Rejection::invalid(
            "--allow-source",
            format!("{} source prefixes are too many", endpoint.allow_source.len()),
            format!("give at most {MOST}"),
        ));
    }
    match endpoint.allow_source.iter().find(|prefix| prefix.addr() != prefix.network()) {
        None => Ok(()),
        Some(prefix) => Err(Rejection::invalid(
            "--allow-source",
            format!("{prefix} has host bits set"),
            format!("did you mean {}?", prefix.trunc()),
        )),
    }
}

/// One address per subnet, in their order, each at a position that the node holds.
fn check_addresses(
    network: &Network,
    lease: &Lease,
    endpoint: &Endpoint,
) -> Result<Vec<Offset>, Rejection> {
    let fits = |(subnet, address): (&IpNet, &IpAddr)| subnet.contains(address);
    let one_each = endpoint.addresses.len() == network.subnets.len()
        && network.subnets.iter().zip(&endpoint.addresses).all(fits);
    if !one_each {
        let given: Vec<String> = endpoint.addresses.iter().map(IpAddr::to_string).collect();
        return Err(Rejection::invalid(
            "--ip",
            format!(
                "'{}' must have one address in each subnet of network '{}', not [{}]",
                endpoint.name,
                network.name,
                given.join(", ")
            ),
            format!("give one address in each of, and in this order: {}", subnets_text(network)),
        ));
    }
    let mut offsets = Vec::with_capacity(endpoint.addresses.len());
    for address in &endpoint.addresses {
        let offset = leases::offset_for(network, *address)?;
        if !lease.offsets.contains(offset) {
            return Err(Rejection::denied(
                "--ip",
                format!("{address} is not leased to the node of '{}'", endpoint.name),
                "ask for a lease of this address first",
            ));
        }
        offsets.push(offset);
    }
    Ok(offsets)
}

/// Subnets are in order, the IPv4 one first, and so are the offsets.
fn check_mac(network: &Network, offsets: &[Offset], endpoint: &Endpoint) -> Result<(), Rejection> {
    let right = offsets.first().map(|offset| Mac::of_endpoint(network.vni, *offset));
    match right.filter(|right| *right != endpoint.mac) {
        None => Ok(()),
        Some(right) => Err(Rejection::invalid(
            "mac",
            format!("'{}' cannot have the MAC address {}", endpoint.name, endpoint.mac),
            format!("at its address it is {right}"),
        )),
    }
}

fn check_unique(
    state: &ClusterState,
    network: &Network,
    endpoint: &Endpoint,
) -> Result<(), Rejection> {
    // The MAC tells of the first address. The others are looked at only where they can be equal:
    // on the same node, as they are at positions that it alone holds. Networks may be large.
    let shared = |other: &Endpoint| {
        if other.mac == endpoint.mac {
            return Some(
                endpoint.addresses.first().map_or(other.mac.to_string(), IpAddr::to_string),
            );
        }
        let mut theirs = other.addresses.iter().filter(|_| other.node == endpoint.node);
        theirs.find(|address| endpoint.addresses.contains(address)).map(IpAddr::to_string)
    };
    let mut others = state.endpoints_of(network.id).filter(|other| other.id != endpoint.id);
    let clash = others.find_map(|other| shared(other).map(|what| (other, what)));
    match clash {
        None => Ok(()),
        Some((other, what)) => Err(Rejection::busy(
            "--ip",
            format!(
                "{what} is used by '{}' on node '{}'",
                other.name,
                node_name(state, other.node)
            ),
            "choose another address, or leave out --ip",
        )),
    }
}
