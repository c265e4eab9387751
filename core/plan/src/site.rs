//! One network as this node has it: what its devices and rows are planned from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_model::{Endpoint, Mac, Network, NodeId, device};

use crate::attachment::Attachment;
use crate::ground::Ground;
use crate::{NetworkView, Peer};

/// One network as this node has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The node and its host.
    pub(crate) ground: &'a Ground,
    /// The network's rows.
    pub(crate) view: &'a NetworkView,
    /// The endpoints that are inside containers of this node.
    pub(crate) local: &'a [Attachment<'a>],
}

impl<'a> Site<'a> {
    pub(crate) fn network(&self) -> &'a Network {
        &self.view.network
    }

    pub(crate) fn bridge(&self) -> String {
        device::bridge(self.network().vni)
    }

    pub(crate) fn vtep(&self) -> String {
        device::vtep(self.network().vni)
    }

    /// The MAC under which the host itself is known to the other nodes.
    pub(crate) fn node_mac(&self) -> Mac {
        Mac::of_endpoint(self.network().vni, self.view.lease.node_offset)
    }

    /// The host's own address in the subnet of `other`'s family.
    pub(crate) fn node_address(&self, other: IpAddr) -> Option<IpAddr> {
        let own = self.network().addresses(self.view.lease.node_offset);
        own.into_iter().find(|a| a.is_ipv4() == other.is_ipv4())
    }

    /// The other nodes. One that claims this node's identity or address is none: its frames
    /// would come back to us.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &'a Peer> {
        let (ground, view) = (self.ground, self.view);
        view.peers.iter().filter(move |(node, peer)| is_other(ground, **node, peer)).map(|(_, p)| p)
    }

    /// The other nodes as such, each with the MAC under which its host itself is known.
    pub(crate) fn remote_nodes(&self) -> impl Iterator<Item = (Mac, &'a Peer)> {
        let (vni, taken) = (self.network().vni, self.own_macs());
        self.peers()
            .map(move |peer| (Mac::of_endpoint(vni, peer.node_offset), peer))
            .filter(move |(mac, _)| !taken.contains(mac))
    }

    /// The endpoints that can be reached on other nodes, with those nodes.
    pub(crate) fn remote(&self) -> impl Iterator<Item = (&'a Endpoint, &'a Peer)> {
        let (ground, view) = (self.ground, self.view);
        let taken = self.own_macs();
        view.endpoints.values().filter_map(move |endpoint| {
            let peer = view.peers.get(&endpoint.node)?;
            let reachable = is_other(ground, endpoint.node, peer) && !taken.contains(&endpoint.mac);
            reachable.then_some((endpoint, peer))
        })
    }

    /// The MACs that are behind this node: a row that says otherwise would be rewritten for ever.
    fn own_macs(&self) -> BTreeSet<Mac> {
        let host = [self.node_mac(), self.network().gateway_mac()];
        self.local.iter().map(|a| a.endpoint.mac).chain(host).collect()
    }
}

fn is_other(ground: &Ground, node: NodeId, peer: &Peer) -> bool {
    node != ground.node && peer.data_address != ground.data_address
}
