//! The cluster state: all rows, folded into maps.

use std::collections::BTreeMap;

use crate::row::{Authority, Cluster};
use crate::{
    Endpoint, EndpointId, Generation, Lease, Name, Network, NetworkId, Node, NodeId, Row, RowKey,
    Token, TokenId,
};

/// All rows at one generation, as maps. Built from rows only, in any order of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterState {
    /// The revision of the newest change folded in.
    pub generation: Generation,
    /// What the cluster is; `None` before it was initialised.
    pub cluster: Option<Cluster>,
    /// The certificate authority; servers only.
    pub authority: Option<Authority>,
    /// The hosts.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The networks.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Who may give out which addresses.
    pub leases: BTreeMap<(NetworkId, NodeId), Lease>,
    /// Containers' connections.
    pub endpoints: BTreeMap<(NetworkId, EndpointId), Endpoint>,
    /// Join tokens.
    pub tokens: BTreeMap<TokenId, Token>,
    /// The revision at which each row, guards included, was last written: what a transaction is
    /// conditional on.
    pub written: BTreeMap<RowKey, Generation>,
}

impl ClusterState {
    /// Folds in that `row` was written at `generation`.
    pub fn put(&mut self, row: Row, generation: Generation) {
        self.generation = self.generation.max(generation);
        self.written.insert(row.key(), generation);
        match row {
            Row::Cluster(v) => self.cluster = Some(v),
            Row::Authority(v) => self.authority = Some(v),
            Row::Node(v) => drop(self.nodes.insert(v.id, v)),
            Row::Network(v) => drop(self.networks.insert(v.id, v)),
            Row::Lease(v) => drop(self.leases.insert((v.network, v.node), v)),
            Row::Endpoint(v) => drop(self.endpoints.insert((v.network, v.id), v)),
            Row::Token(v) => drop(self.tokens.insert(v.id, v)),
            Row::Guard(_) => {}
        }
    }

    /// Folds in that the row at `key` was deleted at `generation`.
    pub fn delete(&mut self, key: RowKey, generation: Generation) {
        self.generation = self.generation.max(generation);
        self.written.remove(&key);
        match key {
            RowKey::Cluster => self.cluster = None,
            RowKey::Authority => self.authority = None,
            RowKey::Node(id) => drop(self.nodes.remove(&id)),
            RowKey::Network(id) => drop(self.networks.remove(&id)),
            RowKey::Lease(network, node) => drop(self.leases.remove(&(network, node))),
            RowKey::Endpoint(network, id) => drop(self.endpoints.remove(&(network, id))),
            RowKey::Token(id) => drop(self.tokens.remove(&id)),
            RowKey::Guard(_) => {}
        }
    }

    /// The network called `name`.
    pub fn network_named(&self, name: &Name) -> Option<&Network> {
        self.networks.values().find(|n| n.name == *name)
    }

    /// The node called `name` that was not removed.
    pub fn node_named(&self, name: &Name) -> Option<&Node> {
        self.nodes.values().find(|n| n.name == *name && !n.removed)
    }

    /// The leases of `network`, in order of node.
    pub fn leases_of(&self, network: NetworkId) -> impl Iterator<Item = &Lease> {
        self.leases.range((network, NodeId(0))..=(network, NodeId(u64::MAX))).map(|(_, l)| l)
    }

    /// The endpoints of `network`, in order of endpoint.
    pub fn endpoints_of(&self, network: NetworkId) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .range((network, EndpointId(0))..=(network, EndpointId(u64::MAX)))
            .map(|(_, e)| e)
    }

    /// All rows with the revisions they were written at, guards left out.
    pub fn rows(&self) -> impl Iterator<Item = (Row, Generation)> + '_ {
        let rows = self
            .cluster
            .iter()
            .cloned()
            .map(Row::Cluster)
            .chain(self.authority.iter().cloned().map(Row::Authority))
            .chain(self.nodes.values().cloned().map(Row::Node))
            .chain(self.networks.values().cloned().map(Row::Network))
            .chain(self.leases.values().cloned().map(Row::Lease))
            .chain(self.endpoints.values().cloned().map(Row::Endpoint))
            .chain(self.tokens.values().cloned().map(Row::Token));
        rows.map(|row| {
            let written = self.written.get(&row.key()).copied().unwrap_or_default();
            (row, written)
        })
    }
}
