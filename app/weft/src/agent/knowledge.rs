//! What this node was told and what runs on it, folded into the planner's view.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::{
    ClusterState, EndpointId, Generation, Network, NetworkId, NodeId, OffsetSet, Row, RowKey,
};
use weft_plan::{Container, HostFacts, Inside, Interface, NetworkView, Peer, View};
use weft_state::Write;

use super::attachment::Attachment;
use super::tally::Local;

/// The cluster rows this node was sent, and its attachments. Everything else is derived from it.
pub(crate) struct Knowledge {
    pub(crate) node: NodeId,
    pub(crate) data_address: IpAddr,
    pub(crate) vxlan_port: u16,
    pub(crate) rows: ClusterState,
    pub(crate) attachments: BTreeMap<EndpointId, Attachment>,
    /// Addresses that a container runtime has been promised for an endpoint that it will ask for.
    pub(crate) promised: BTreeMap<NetworkId, OffsetSet>,
    networks: BTreeMap<NetworkId, Arc<NetworkView>>,
    /// Where the other nodes of those networks are.
    peers: BTreeSet<IpAddr>,
}

impl Knowledge {
    pub(crate) fn new(node: NodeId, data_address: IpAddr, vxlan_port: u16) -> Self {
        Self {
            node,
            data_address,
            vxlan_port,
            rows: ClusterState::default(),
            attachments: BTreeMap::new(),
            promised: BTreeMap::new(),
            networks: BTreeMap::new(),
            peers: BTreeSet::new(),
        }
    }

    /// Takes a snapshot: the rows become exactly these. One that is older than what is known is
    /// refused, so a late answer never moves the node backwards.
    pub(crate) fn replace(&mut self, generation: Generation, rows: Vec<Row>) -> bool {
        if generation < self.rows.generation {
            return false;
        }
        self.rows = ClusterState::default();
        self.rows.generation = generation;
        for row in rows {
            self.rows.put(row, generation);
        }
        self.rebuild_all();
        true
    }

    /// Takes a patch: what changed since the update before.
    pub(crate) fn patch(&mut self, generation: Generation, changes: Vec<Write>) -> bool {
        if generation <= self.rows.generation {
            return false;
        }
        let mut touched = Touched::default();
        for change in changes {
            touched.note(&change);
            match change {
                Write::Put(row) => self.rows.put(row, generation),
                Write::Delete(key) => self.rows.delete(key, generation),
            }
        }
        self.rows.generation = generation;
        if touched.shape_of_all {
            self.rebuild_all();
            return true;
        }
        if !touched.shape.is_empty() {
            for network in touched.shape {
                self.rebuild(network);
            }
            self.find_peers();
        }
        for (network, endpoint) in touched.endpoints {
            self.refresh_endpoint(network, endpoint);
        }
        true
    }

    /// Adds or replaces an attachment.
    pub(crate) fn attach(&mut self, attachment: Attachment) {
        let (network, endpoint) = (attachment.endpoint.network, attachment.endpoint.id);
        self.attachments.insert(endpoint, attachment);
        self.refresh_endpoint(network, endpoint);
    }

    /// Takes an attachment away.
    pub(crate) fn detach(&mut self, endpoint: EndpointId) -> Option<Attachment> {
        let gone = self.attachments.remove(&endpoint)?;
        self.refresh_endpoint(gone.endpoint.network, endpoint);
        Some(gone)
    }

    /// The offsets of `network` that local containers use, or have been promised.
    pub(crate) fn used(&self, network: &Network) -> OffsetSet {
        let local = self.attachments.values().filter(|a| a.endpoint.network == network.id);
        let taken = local
            .flat_map(|a| a.endpoint.addresses.iter())
            .filter_map(|address| network.offset_of(*address));
        let promised = self.promised.get(&network.id);
        taken.chain(promised.into_iter().flat_map(OffsetSet::iter)).collect()
    }

    /// The offsets of endpoints of this node that are gone, and of which the servers have not heard
    /// yet: they would not have another endpoint there.
    pub(crate) fn untold(&self, network: &Network) -> OffsetSet {
        let ours = self.rows.endpoints_of(network.id).filter(|e| e.node == self.node);
        let gone = ours.filter(|e| !self.attachments.contains_key(&e.id));
        gone.flat_map(|e| e.addresses.iter()).filter_map(|a| network.offset_of(*a)).collect()
    }

    /// What servers should be told: endpoints to write, then rows of ours to delete.
    pub(crate) fn unpublished(&self) -> Vec<Write> {
        let joined = self.attachments.values().filter(|a| a.is_joined());
        let puts = joined.map(|a| &a.endpoint).filter(|e| {
            self.rows.networks.contains_key(&e.network)
                && self.rows.endpoints.get(&(e.network, e.id)) != Some(e)
        });
        let stale = self
            .rows
            .endpoints
            .values()
            .filter(|e| e.node == self.node && !self.attachments.contains_key(&e.id));
        puts.map(|e| Write::Put(Row::Endpoint(e.clone())))
            .chain(stale.map(|e| Write::Delete(RowKey::Endpoint(e.network, e.id))))
            .collect()
    }

    /// The rows that make this node take part in `network`.
    pub(crate) fn taking_part(&self, network: NetworkId) -> Vec<Row> {
        let lease = self.rows.leases.get(&(network, self.node));
        let network = self.rows.networks.get(&network);
        let rows = [network.cloned().map(Row::Network), lease.cloned().map(Row::Lease)];
        rows.into_iter().flatten().collect()
    }

    /// The networks this node takes part in.
    pub(crate) fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values().map(|view| &view.network)
    }

    /// The data addresses of the other nodes of those networks.
    pub(crate) const fn peers(&self) -> &BTreeSet<IpAddr> {
        &self.peers
    }

    /// The endpoints of this node, with the host's ends of their veths.
    pub(crate) fn local(&self) -> Vec<Local> {
        let endpoints = self.attachments.values().map(|a| &a.endpoint);
        let local = endpoints.map(|e| Local {
            endpoint: e.id,
            network: e.network,
            link: weft_model::device::host_end(e.id),
        });
        local.collect()
    }

    /// Everything a plan depends on.
    pub(crate) fn view(&self, facts: HostFacts) -> View {
        View {
            generation: self.rows.generation,
            node: self.node,
            data_address: self.data_address,
            vxlan_port: self.vxlan_port,
            networks: self.networks.clone(),
            containers: self.containers(),
            facts,
        }
    }

    fn containers(&self) -> BTreeMap<weft_model::ContainerId, Container> {
        let joined = self.attachments.values().filter(|a| a.is_joined());
        let mut ordered: Vec<&Attachment> = joined.collect();
        ordered.sort_by_key(|a| a.order);
        let mut containers = BTreeMap::new();
        for attachment in ordered {
            let container = containers.entry(attachment.container()).or_insert_with(|| Container {
                id: attachment.container(),
                name: attachment.endpoint.name.clone(),
                inside: attachment.netns().map_or(Inside::Lent, |netns| Inside::Netns(netns.id())),
                interfaces: Vec::new(),
            });
            container.interfaces.push(Interface {
                network: attachment.endpoint.network,
                endpoint: attachment.endpoint.id,
                name: attachment.interface.clone(),
            });
        }
        containers
    }

    fn rebuild_all(&mut self) {
        self.networks.clear();
        let all: Vec<NetworkId> = self.rows.networks.keys().copied().collect();
        for network in all {
            self.rebuild(network);
        }
        self.find_peers();
    }

    fn find_peers(&mut self) {
        let peers = self.networks.values().flat_map(|view| view.peers.values());
        self.peers = peers.map(|peer| peer.data_address).collect();
    }

    /// A node takes part in a network while it has a lease on it.
    fn rebuild(&mut self, id: NetworkId) {
        let (Some(network), Some(lease)) =
            (self.rows.networks.get(&id), self.rows.leases.get(&(id, self.node)))
        else {
            self.networks.remove(&id);
            return;
        };
        let peers = self.rows.leases_of(id).filter(|l| l.node != self.node).filter_map(|l| {
            let node = self.rows.nodes.get(&l.node).filter(|n| !n.removed)?;
            Some((l.node, Peer { data_address: node.data_address, node_offset: l.node_offset }))
        });
        let remote = self.rows.endpoints_of(id).filter(|e| e.node != self.node);
        let local = self.attachments.values().map(|a| &a.endpoint).filter(|e| e.network == id);
        let view = NetworkView {
            network: network.clone(),
            lease: lease.clone(),
            peers: peers.collect(),
            endpoints: remote.chain(local).map(|e| (e.id, e.clone())).collect(),
        };
        self.networks.insert(id, Arc::new(view));
    }

    fn refresh_endpoint(&mut self, network: NetworkId, id: EndpointId) {
        let Some(view) = self.networks.get_mut(&network) else { return };
        let remote = self.rows.endpoints.get(&(network, id)).filter(|e| e.node != self.node);
        let local = self.attachments.get(&id).map(|a| &a.endpoint);
        match local.or(remote) {
            Some(endpoint) if view.endpoints.get(&id) == Some(endpoint) => {}
            Some(endpoint) => {
                Arc::make_mut(view).endpoints.insert(id, endpoint.clone());
            }
            None if view.endpoints.contains_key(&id) => {
                Arc::make_mut(view).endpoints.remove(&id);
            }
            None => {}
        }
    }
}

/// What a patch touches.
#[derive(Default)]
struct Touched {
    shape_of_all: bool,
    shape: BTreeSet<NetworkId>,
    endpoints: BTreeSet<(NetworkId, EndpointId)>,
}

impl Touched {
    fn note(&mut self, change: &Write) {
        let key = match change {
            Write::Put(row) => row.key(),
            Write::Delete(key) => *key,
        };
        match key {
            RowKey::Endpoint(network, endpoint) => {
                self.endpoints.insert((network, endpoint));
            }
            RowKey::Network(network) | RowKey::Lease(network, _) => {
                self.shape.insert(network);
            }
            RowKey::Node(_) => self.shape_of_all = true,
            RowKey::Cluster | RowKey::Authority | RowKey::Token(_) | RowKey::Guard(_) => {}
        }
    }
}
