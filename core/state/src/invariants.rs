//! What must always be true of the cluster state, said a second time, independently of `apply`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::row::Guard;
use weft_model::{ClusterState, Mac, Network, NodeId, Offset, Role, RowKey};

use crate::draft::node_name;
use crate::leases::{check_offset, offsets_of};
use crate::nodes::living;

/// Everything about `state` that must not be, in words; empty when all is well.
pub fn invariants(state: &ClusterState) -> Vec<String> {
    let mut broken = Vec::new();
    nodes(state, &mut broken);
    networks(state, &mut broken);
    for network in state.networks.values() {
        leases(state, network, &mut broken);
        endpoints(state, network, &mut broken);
    }
    orphans(state, &mut broken);
    broken
}

/// Reports each value that two things share.
fn unique<K: Ord, T: std::fmt::Display>(
    things: impl Iterator<Item = (K, T)>,
    what: &str,
    broken: &mut Vec<String>,
) {
    let mut seen: BTreeMap<K, T> = BTreeMap::new();
    for (key, thing) in things {
        if let Some(other) = seen.get(&key) {
            broken.push(format!("{other} and {thing} have the same {what}"));
        } else {
            seen.insert(key, thing);
        }
    }
}

fn nodes(state: &ClusterState, broken: &mut Vec<String>) {
    unique(living(state).map(|n| (n.name.folded(), n.id)), "node name", broken);
    unique(living(state).map(|n| (n.data_address, n.id)), "data address", broken);
    unique(state.nodes.values().map(|n| (&n.key_digest, n.id)), "key", broken);
    let v4 = living(state).filter(|n| n.data_address.is_ipv4()).count();
    if v4 != 0 && v4 != living(state).count() {
        broken.push("data addresses are of both families".to_owned());
    }
    if state.cluster.is_some() && !living(state).any(|n| n.role == Role::Server) {
        broken.push("there is no server".to_owned());
    }
}

fn networks(state: &ClusterState, broken: &mut Vec<String>) {
    unique(state.networks.values().map(|n| (n.name.folded(), n.id)), "network name", broken);
    unique(state.networks.values().map(|n| (n.vni, n.id)), "VNI", broken);
    for network in state.networks.values() {
        if network.allow_overlap && !network.internal {
            broken.push(format!("network '{}' may overlap but is not internal", network.name));
        }
        for other in state.networks.range(..network.id).map(|(_, other)| other) {
            let allowed = network.allow_overlap && other.allow_overlap;
            if let Some((mine, theirs)) = network.overlap(&other.subnets).filter(|_| !allowed) {
                broken.push(format!(
                    "{mine} of network '{}' overlaps with {theirs} of network '{}'",
                    network.name, other.name
                ));
            }
        }
        for node in living(state).filter(|_| !network.allow_overlap) {
            if network.subnet_of(node.data_address).is_some() {
                broken.push(format!(
                    "the data address of node '{}' lies in network '{}'",
                    node.name, network.name
                ));
            }
        }
    }
}

fn leases(state: &ClusterState, network: &Network, broken: &mut Vec<String>) {
    let name = &network.name;
    let mut held: BTreeMap<Offset, NodeId> = BTreeMap::new();
    let mut macs: BTreeMap<Mac, Offset> = BTreeMap::new();
    for lease in state.leases_of(network.id) {
        let node = node_name(state, lease.node);
        if state.nodes.get(&lease.node).is_none_or(|n| n.removed) {
            broken.push(format!("node {node} holds addresses of '{name}' but is gone"));
        }
        for offset in std::iter::once(lease.node_offset).chain(lease.offsets.iter()) {
            if let Some(other) = held.insert(offset, lease.node) {
                let other = node_name(state, other);
                broken.push(format!("{} of '{name}' is held by {other} and {node}", offset.0));
            }
            if let Err(rejection) = check_offset(network, offset) {
                broken.push(format!("node {node} holds {} of '{name}': {rejection}", offset.0));
            }
            if offset > network.last_offset() {
                continue;
            }
            if let Some(other) = macs.insert(Mac::of_endpoint(network.vni, offset), offset) {
                broken.push(format!("{} and {} of '{name}' share a MAC", other.0, offset.0));
            }
        }
        if lease.node_offset > network.last_offset() {
            broken.push(format!("node {node}'s own place in '{name}' is not in every subnet"));
        }
        if !state.written.contains_key(&RowKey::Guard(Guard::Leases(network.id))) {
            broken.push(format!("leases of '{name}' were written without their guard"));
        }
    }
}

fn endpoints(state: &ClusterState, network: &Network, broken: &mut Vec<String>) {
    let endpoints = || state.endpoints_of(network.id);
    let addresses = endpoints().flat_map(|e| e.addresses.iter().map(|a: &IpAddr| (*a, e.id)));
    unique(addresses, "address", broken);
    unique(endpoints().map(|e| (e.mac, e.id)), "MAC", broken);
    for endpoint in endpoints() {
        let lease = state.leases.get(&(network.id, endpoint.node));
        let covered = offsets_of(network, endpoint)
            .filter(|offset| lease.is_some_and(|lease| lease.offsets.contains(*offset)))
            .count();
        if covered != network.subnets.len() || covered != endpoint.addresses.len() {
            broken.push(format!(
                "endpoint {} of network '{}' is not covered by its node's lease",
                endpoint.id, network.name
            ));
        }
        let first = offsets_of(network, endpoint).next();
        if first.map(|offset| Mac::of_endpoint(network.vni, offset)) != Some(endpoint.mac) {
            broken.push(format!("endpoint {} has a MAC of its own", endpoint.id));
        }
    }
}

fn orphans(state: &ClusterState, broken: &mut Vec<String>) {
    let missing = |network| !state.networks.contains_key(network);
    for (network, node) in state.leases.keys().filter(|(network, _)| missing(network)) {
        broken.push(format!("node {node} holds addresses of network {network}, which is gone"));
    }
    for (network, id) in state.endpoints.keys().filter(|(network, _)| missing(network)) {
        broken.push(format!("endpoint {id} is on network {network}, which is gone"));
    }
}
