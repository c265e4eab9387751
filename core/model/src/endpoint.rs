//! Endpoints: one container's connection to one network.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, EndpointId, Mac, Name, NetworkId, NodeId};

/// One container's connection to one network, as every node of that network knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Identity.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// The node that runs the container.
    pub node: NodeId,
    /// The container: a noun of its own, it may have several endpoints.
    pub container: ContainerId,
    /// The container's name; others may share it, then a query answers all of them.
    pub name: Name,
    /// Further names, in this network only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Name>,
    /// One per subnet of the network.
    pub addresses: Vec<IpAddr>,
    /// What frames to it carry; a function of network and offset.
    pub mac: Mac,
    /// Source prefixes beyond its own addresses that it may send from (a router).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_source: Vec<IpNet>,
}
