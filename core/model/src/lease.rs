//! Leases: the addresses of a network that a node may give out by itself.

use serde::{Deserialize, Serialize};

use crate::{NetworkId, NodeId, Offset, OffsetSet};

/// What one node holds of one network. While it exists, the node takes part in the network: it
/// receives its rows, its VTEP is in everybody's flood list, and its frames are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network: NetworkId,
    /// The holder.
    pub node: NodeId,
    /// The node's own address in the network: the source of what the host itself sends to
    /// containers, so that replies find the right host. From the top of the subnet.
    pub node_offset: Offset,
    /// What it may give to its containers. From the bottom of the subnet, or asked for one by one.
    pub offsets: OffsetSet,
}
