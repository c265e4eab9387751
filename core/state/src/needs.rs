//! Which rows a node needs: those of the networks it takes part in, and nothing else.

use std::collections::BTreeSet;

use weft_model::{ClusterState, NetworkId, NodeId, Row, RowKey};

use crate::Write;

/// The rows that `node` needs: its own, those of the networks it holds a lease of (network, all
/// leases, all endpoints), and the nodes that take part in them.
pub fn needed_by(state: &ClusterState, node: NodeId) -> impl Iterator<Item = Row> + '_ {
    let own: Vec<NetworkId> = networks_of(state, node).collect();
    let mut nodes = BTreeSet::from([node]);
    for network in &own {
        nodes.extend(state.leases_of(*network).map(|lease| lease.node));
    }
    let nodes = nodes.into_iter().map(RowKey::Node);
    let rest = own.into_iter().flat_map(|network| keys_of(state, network));
    nodes.chain(rest).filter_map(|key| row(state, key))
}

/// What changes for `node` by the commit that led from `before` to `after` with `changes`: folded
/// into the rows it needed before, it gives the rows it needs now.
///
/// A commit that does not concern the node costs a few look-ups per change and no memory.
pub fn patch_for(
    before: &ClusterState,
    after: &ClusterState,
    changes: &[Write],
    node: NodeId,
) -> Vec<Write> {
    let mut touched = BTreeSet::new();
    for change in changes {
        touch(before, after, change.key(), node, &mut touched);
    }
    touched.into_iter().filter_map(|key| difference(before, after, key, node)).collect()
}

/// Adds the rows whose content, or whose need by `node`, the change of the row at `key` may have
/// changed.
fn touch(
    before: &ClusterState,
    after: &ClusterState,
    key: RowKey,
    node: NodeId,
    touched: &mut BTreeSet<RowKey>,
) {
    let network = match key {
        RowKey::Node(id) => {
            // Mostly it was written as it is, because the node began to take part in a network.
            if !same_node(before, after, id) {
                touched.insert(key);
            }
            return;
        }
        RowKey::Network(network) | RowKey::Lease(network, _) | RowKey::Endpoint(network, _) => {
            network
        }
        RowKey::Cluster | RowKey::Authority | RowKey::Token(_) | RowKey::Guard(_) => return,
    };
    let (was, is) = (takes_part(before, network, node), takes_part(after, network, node));
    if !was && !is {
        return;
    }
    touched.insert(key);
    if let RowKey::Lease(_, holder) = key {
        touched.insert(RowKey::Node(holder));
    }
    if was != is {
        for state in [before, after] {
            touched.extend(keys_of(state, network));
            touched.extend(state.leases_of(network).map(|lease| RowKey::Node(lease.node)));
        }
    }
}

/// How the row at `key` has changed in the eyes of `node`.
fn difference(
    before: &ClusterState,
    after: &ClusterState,
    key: RowKey,
    node: NodeId,
) -> Option<Write> {
    let seen = |state| needs(state, node, key).then(|| row(state, key)).flatten();
    match (seen(before), seen(after)) {
        (Some(_), None) => Some(Write::Delete(key)),
        // Compared as bytes: names that differ in case only are equal, but not the same.
        (Some(old), Some(new)) if old.value() == new.value() => None,
        (_, new) => new.map(Write::Put),
    }
}

fn same_node(before: &ClusterState, after: &ClusterState, id: NodeId) -> bool {
    match (before.nodes.get(&id), after.nodes.get(&id)) {
        (Some(old), Some(new)) => old == new && old.name.as_str() == new.name.as_str(),
        (old, new) => old.is_none() && new.is_none(),
    }
}

fn needs(state: &ClusterState, node: NodeId, key: RowKey) -> bool {
    match key {
        RowKey::Node(other) => {
            other == node || networks_of(state, node).any(|n| takes_part(state, n, other))
        }
        RowKey::Network(network) | RowKey::Lease(network, _) | RowKey::Endpoint(network, _) => {
            takes_part(state, network, node)
        }
        RowKey::Cluster | RowKey::Authority | RowKey::Token(_) | RowKey::Guard(_) => false,
    }
}

fn takes_part(state: &ClusterState, network: NetworkId, node: NodeId) -> bool {
    state.leases.contains_key(&(network, node))
}

fn networks_of(state: &ClusterState, node: NodeId) -> impl Iterator<Item = NetworkId> + '_ {
    state.networks.keys().copied().filter(move |network| takes_part(state, *network, node))
}

/// The keys of a network's rows.
fn keys_of(state: &ClusterState, network: NetworkId) -> impl Iterator<Item = RowKey> + '_ {
    let leases = state.leases_of(network).map(move |lease| RowKey::Lease(network, lease.node));
    let endpoints = state.endpoints_of(network).map(move |e| RowKey::Endpoint(network, e.id));
    let own = state.networks.get(&network).map(move |_| RowKey::Network(network));
    own.into_iter().chain(leases).chain(endpoints)
}

fn row(state: &ClusterState, key: RowKey) -> Option<Row> {
    match key {
        RowKey::Node(id) => state.nodes.get(&id).cloned().map(Row::Node),
        RowKey::Network(id) => state.networks.get(&id).cloned().map(Row::Network),
        RowKey::Lease(network, node) => state.leases.get(&(network, node)).cloned().map(Row::Lease),
        RowKey::Endpoint(network, id) => {
            state.endpoints.get(&(network, id)).cloned().map(Row::Endpoint)
        }
        RowKey::Cluster | RowKey::Authority | RowKey::Token(_) | RowKey::Guard(_) => None,
    }
}
