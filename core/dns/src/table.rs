//! The names that the containers of one node may ask for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// All names a node knows, and who may ask which. Handed to the resolver whole, network by
/// network shared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NameTable {
    /// How far the cluster rows in it have advanced.
    pub generation: u64,
    /// By the network's name in lower case.
    pub networks: BTreeMap<String, Arc<NetworkNames>>,
    /// Who asks: by (bridge the query came in at, its source address).
    pub askers: Vec<Asker>,
}

/// The names of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkNames {
    /// The bridge whose gateway addresses answer queries, and nothing else does.
    pub bridge: String,
    /// The addresses to answer at.
    pub gateways: Vec<IpAddr>,
    /// Its subnets: reverse names inside them are ours to answer, and nobody else's.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
    /// Nothing is forwarded for containers that are only on internal networks.
    pub internal: bool,
    /// Every endpoint with its names (name and aliases, in lower case) and addresses.
    pub records: Vec<Record>,
}

/// An endpoint's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Record {
    /// Name first, then aliases; lower case.
    pub names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Where the resolver in a container is asked, from its host, at the container's own address.
pub const INNER_PORT: u16 = 7353;

/// A local container's connection to a network, as the source of queries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Asker {
    /// The bridge its queries come in at.
    pub bridge: String,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// The networks it is on, all of them, by name in lower case.
    pub networks: Vec<String>,
    /// Whether names that are not ours may be forwarded: it is on a network that is not internal.
    pub forward: bool,
    /// Who is asked first about names that are not ours, or alone where nothing is forwarded: a
    /// resolver of its own that a container runtime has put into the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<SocketAddr>,
}
