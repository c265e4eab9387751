//! What a node was told and what it found: everything a plan depends on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_kernel::{HostFacts, NetnsId};
use weft_model::{
    ContainerId, Endpoint, EndpointId, Generation, Lease, Name, Network, NetworkId, NodeId,
};

/// Everything a plan depends on. Networks are shared: an unchanged one is told by its pointer.
#[derive(Debug, Clone)]
pub struct View {
    /// How far the cluster rows in it have advanced.
    pub generation: Generation,
    /// This node.
    pub node: NodeId,
    /// Its VTEP's address.
    pub data_address: IpAddr,
    /// UDP port of VXLAN, the same on all nodes.
    pub vxlan_port: u16,
    /// The networks it takes part in.
    pub networks: BTreeMap<NetworkId, Arc<NetworkView>>,
    /// The containers it runs.
    pub containers: BTreeMap<ContainerId, Container>,
    /// What the host is like.
    pub facts: HostFacts,
}

/// One network as its rows and the local attachments say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// The network.
    pub network: Network,
    /// What this node holds of it.
    pub lease: Lease,
    /// The other nodes that take part, with their VTEPs' addresses and own offsets.
    pub peers: BTreeMap<NodeId, Peer>,
    /// All endpoints, local ones included, also those the servers do not know of yet.
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
}

/// Another node that takes part in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its VTEP's address.
    pub data_address: IpAddr,
    /// Its own address in the network.
    pub node_offset: weft_model::Offset,
}

/// A container of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Identity.
    pub id: ContainerId,
    /// What people call it.
    pub name: Name,
    /// Who looks after what is inside.
    pub inside: Inside,
    /// Its endpoints, in order of attachment, with the names of their interfaces inside.
    pub interfaces: Vec<Interface>,
}

/// Who looks after the inside of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// Weft, in this network namespace.
    Netns(NetnsId),
    /// A container runtime, to which one end of a veth pair per endpoint is lent: what the ends are
    /// called inside, their addresses and their routes are its business, and so is the namespace.
    Lent,
}

/// One endpoint inside its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The network.
    pub network: NetworkId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// `eth0`, `eth1` …; not looked at where it is lent.
    pub name: String,
}
