//! Nodes: joining, moving, and being removed.

use std::net::IpAddr;

use weft_model::row::Guard;
use weft_model::{ClusterState, Name, Node, NodeId, Role, Row, RowKey, TokenId};

use crate::draft::{Decision, Draft, is_digest, node_name, unchanged};
use crate::{Outcome, Rejection};

/// A host that wants to be a node.
pub(crate) struct Stranger {
    pub(crate) id: NodeId,
    pub(crate) name: Name,
    pub(crate) data_address: IpAddr,
    pub(crate) key_digest: String,
}

pub(crate) fn join(
    state: &ClusterState,
    token: TokenId,
    role: Role,
    stranger: Stranger,
) -> Decision {
    check_key_digest(&stranger.key_digest)?;
    let Stranger { id, name, data_address, key_digest } = stranger;
    let known = state.nodes.values().find(|node| node.key_digest == key_digest);
    if known.is_some_and(|node| node.removed) {
        return Err(Rejection::denied(
            "key",
            "a node with this key was removed from the cluster",
            "to join again as a new node, delete the key in the host's state directory",
        ));
    }
    let node = match known {
        Some(node) => Node { name, data_address, ..node.clone() },
        None if state.nodes.contains_key(&id) => {
            return Err(Rejection::exists(
                "id",
                format!("there is another node {id}"),
                "try again: nodes get random identifiers",
            ));
        }
        None => Node { id, name, role, data_address, key_digest, removed: false },
    };
    check_place(state, &node)?;
    let outcome = Outcome::Joined(node.clone(), node.role);
    // Names are equal whatever their case, but a change of case is a change.
    let same = |old: &Node| *old == node && old.name.as_str() == node.name.as_str();
    if known.is_some_and(same) {
        return unchanged(outcome);
    }
    let mut draft = Draft::new(state);
    draft.depend(RowKey::Token(token));
    draft.depend(RowKey::Guard(Guard::Networks));
    draft.put(Row::Node(node));
    draft.change(Guard::Nodes);
    draft.finish(outcome)
}

pub(crate) fn relocate(state: &ClusterState, id: NodeId, data_address: IpAddr) -> Decision {
    let node = Node { data_address, ..alive(state, id)?.clone() };
    check_place(state, &node)?;
    if state.nodes.get(&id) == Some(&node) {
        return unchanged(Outcome::Node(node));
    }
    let mut draft = Draft::new(state);
    draft.depend(RowKey::Guard(Guard::Networks));
    draft.put(Row::Node(node.clone()));
    draft.change(Guard::Nodes);
    draft.finish(Outcome::Node(node))
}

/// The row stays, marked: its certificate must go on being refused.
pub(crate) fn remove(state: &ClusterState, id: NodeId) -> Decision {
    let node = find(state, id)?;
    if node.removed {
        return unchanged(Outcome::Node(node.clone()));
    }
    let servers = state.nodes.values().filter(|n| n.role == Role::Server && !n.removed);
    if node.role == Role::Server && servers.count() == 1 {
        return Err(Rejection::busy(
            "NODE",
            format!("node '{}' is the only server of the cluster", node.name),
            "let another server join first",
        ));
    }
    let mut draft = Draft::new(state);
    for lease in state.leases.values().filter(|lease| lease.node == id) {
        draft.delete(RowKey::Lease(lease.network, id));
        draft.change(Guard::Leases(lease.network));
    }
    for endpoint in state.endpoints.values().filter(|endpoint| endpoint.node == id) {
        draft.delete(RowKey::Endpoint(endpoint.network, endpoint.id));
    }
    let node = Node { removed: true, ..node.clone() };
    draft.put(Row::Node(node.clone()));
    draft.change(Guard::Nodes);
    draft.finish(Outcome::Node(node))
}

/// The node, removed or not.
fn find(state: &ClusterState, id: NodeId) -> Result<&Node, Rejection> {
    state.nodes.get(&id).ok_or_else(|| {
        Rejection::not_found("NODE", format!("there is no node {id}"), "see `weft node ls`")
    })
}

/// The node, if it may still act.
pub(crate) fn alive(state: &ClusterState, id: NodeId) -> Result<&Node, Rejection> {
    let node = find(state, id)?;
    if node.removed {
        return Err(Rejection::denied(
            "NODE",
            format!("node '{}' was removed from the cluster", node.name),
            "to join again as a new node, delete the key in the host's state directory",
        ));
    }
    Ok(node)
}

/// Nodes that were not removed.
pub(crate) fn living(state: &ClusterState) -> impl Iterator<Item = &Node> {
    state.nodes.values().filter(|node| !node.removed)
}

pub(crate) fn check_key_digest(digest: &str) -> Result<(), Rejection> {
    if is_digest(digest) {
        return Ok(());
    }
    Err(Rejection::invalid(
        "key",
        "the digest of a node's key must be 64 lower-case hexadecimal digits",
        "send the SHA-256 of the public key",
    ))
}

/// Other hosts must be able to send to it.
pub(crate) fn check_data_address(address: IpAddr) -> Result<(), Rejection> {
    let kind = match address {
        a if a.is_unspecified() => "no address of a host",
        a if a.is_multicast() => "a multicast address",
        a if a.is_loopback() => "a loopback address, which other hosts cannot reach",
        IpAddr::V4(a) if a.is_broadcast() => "a broadcast address",
        IpAddr::V6(a) if a.is_unicast_link_local() => {
            "a link-local address, which is not unique among hosts"
        }
        _ => return Ok(()),
    };
    Err(Rejection::invalid(
        "--data-address",
        format!("{address} is {kind}"),
        "give the address of this host that the other hosts send to",
    ))
}

/// Name and data address must be free, and the address must be one that packets can go to.
fn check_place(state: &ClusterState, node: &Node) -> Result<(), Rejection> {
    check_data_address(node.data_address)?;
    let others = || living(state).filter(|other| other.id != node.id);
    if let Some(other) = others().find(|other| other.name == node.name) {
        return Err(Rejection::exists(
            "NAME",
            format!("there is another node called '{}'", other.name),
            "join under another name, or remove the other node: `weft node rm`",
        ));
    }
    let address = node.data_address;
    if let Some(other) = others().find(|other| other.data_address == address) {
        return Err(Rejection::exists(
            "--data-address",
            format!("{address} is the data address of node '{}'", node_name(state, other.id)),
            "give another address of this host, or remove the other node: `weft node rm`",
        ));
    }
    if let Some(other) = others().find(|o| o.data_address.is_ipv4() != address.is_ipv4()) {
        let family = if address.is_ipv4() { "IPv6" } else { "IPv4" };
        return Err(Rejection::invalid(
            "--data-address",
            format!("{address} cannot be reached from node '{}'", other.name),
            format!("give an {family} address of this host: all data addresses are of one family"),
        ));
    }
    let around = state
        .networks
        .values()
        .filter(|n| !n.allow_overlap)
        .find_map(|network| network.subnet_of(address).map(|subnet| (subnet, network)));
    if let Some((subnet, network)) = around {
        return Err(Rejection::overlap(
            "--data-address",
            format!("{address} lies in subnet {subnet} of network '{}'", network.name),
            "give another address of this host, or remove that network",
        ));
    }
    Ok(())
}
