//! Wishes towards the cluster, complete with everything a decision needs.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_model::row::{Authority, Cluster};
use weft_model::{
    Endpoint, EndpointId, Lease, Name, Network, NetworkId, Node, NodeId, Offset, Role, Token,
    TokenId,
};

/// A wish. Who may state which is decided before, by `weft-rpc`'s table; `apply` decides whether it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The first host makes the cluster.
    Initialise {
        /// What the cluster is.
        cluster: Cluster,
        /// Its certificate authority.
        authority: Authority,
        /// The first node, a server.
        node: Node,
    },
    /// A token that lets hosts join.
    CreateToken(Token),
    /// The token is refused from now on.
    RevokeToken(TokenId),
    /// A host joins with a token. The same key again gives the same node (its row, unchanged but for
    /// the data address and name it asks for now).
    Join {
        /// The token it showed.
        token: TokenId,
        /// SHA-256 of the secret it showed, in hexadecimal.
        secret_digest: String,
        /// Seconds since 1970.
        now: u64,
        /// Fresh identifier, for a host that is new.
        id: NodeId,
        /// The name it asks for.
        name: Name,
        /// Its VTEP's address.
        data_address: IpAddr,
        /// SHA-256 of its public key.
        key_digest: String,
    },
    /// An operator declares the node dead or unwanted: its endpoints and leases are released, its
    /// certificate refused, its peers fence it.
    RemoveNode(NodeId),
    /// A node's data address changed.
    MoveNode {
        /// Which.
        node: NodeId,
        /// To where.
        data_address: IpAddr,
    },
    /// A network is made.
    CreateNetwork(CreateNetwork),
    /// A network without endpoints is removed; leases on it go along.
    RemoveNetwork(NetworkId),
    /// A node asks for addresses: `wanted` ones by position, else `count` any. With neither, it only takes part.
    Lease {
        /// Of which network.
        network: NetworkId,
        /// For whom.
        node: NodeId,
        /// These, exactly (`--ip`).
        wanted: Vec<Offset>,
        /// This many at least, if nothing is wanted in particular; the size of a share is decided here.
        count: u32,
    },
    /// A node gives back addresses that it does not use; with `leave`, everything, and no longer takes part.
    Release {
        /// Of which network.
        network: NetworkId,
        /// By whom.
        node: NodeId,
        /// These.
        offsets: weft_model::OffsetSet,
        /// Refused while it has endpoints there.
        leave: bool,
    },
    /// A node tells of its endpoint: new, or changed.
    PutEndpoint(Endpoint),
    /// A node's endpoint is gone.
    DeleteEndpoint {
        /// On which network.
        network: NetworkId,
        /// Which.
        endpoint: EndpointId,
    },
}

/// A network to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNetwork {
    /// Fresh identifier.
    pub id: NetworkId,
    /// Unique in the cluster.
    pub name: Name,
    /// Given subnets, at most one per family. Without any, an IPv4 one comes from the cluster's pools.
    pub subnets: Vec<IpNet>,
    /// Also an IPv6 one, from the pools if none is given.
    pub ipv6: bool,
    /// Octets of an inner IP packet, 1280 to 65,000.
    pub mtu: Option<u16>,
    /// No way out.
    pub internal: bool,
    /// Allowed for internal networks only.
    pub allow_overlap: bool,
    /// Prefixes that hosts of the cluster have routes for, each with where it was seen
    /// (`node a, link eth0`): a subnet must not overlap them.
    pub occupied: Vec<(IpNet, String)>,
}

/// What a command brought about, for the answer to whoever stated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing more to say.
    Done,
    /// The network as it is now.
    Network(Network),
    /// The lease as it is now.
    Lease(Lease),
    /// The node as it is now.
    Node(Node),
    /// The token as it is now.
    Token(Token),
    /// The role a joining node was given.
    Joined(Node, Role),
}
