//! The nouns of Weft: identifiers, addresses, networks, endpoints and the rows of the cluster.
//!
//! Every other room speaks in these types. Nothing here decides anything: what may become of the
//! cluster is `weft-state`'s business, what a host should hold is `weft-plan`'s.
//!
//! Data comes in as rows (see [`row::Row`]) from the state engine or over the wire, and is folded
//! into a [`cluster::ClusterState`] by servers and into the view of one node by agents.

pub mod addresses;
pub mod cluster;
pub mod device;
pub mod endpoint;
pub mod id;
pub mod lease;
pub mod mac;
pub mod name;
pub mod network;
pub mod node;
pub mod row;
pub mod token;

pub use addresses::{Offset, OffsetSet};
pub use cluster::ClusterState;
pub use endpoint::Endpoint;
pub use id::{ClusterId, ContainerId, EndpointId, Generation, NetworkId, NodeId, TokenId};
pub use lease::Lease;
pub use mac::Mac;
pub use name::Name;
pub use network::{Network, Vni};
pub use node::{Node, Role};
pub use row::{Row, RowKey};
pub use token::Token;
