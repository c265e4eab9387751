//! Nodes: the hosts of the cluster.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Name, NodeId};

/// What a node may do in the cluster. Its certificate says so, and nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs containers and writes its own rows.
    Agent,
    /// Also lets its local root administer the cluster: networks, tokens, nodes.
    Operator,
    /// Also holds the cluster state and its certificate authority.
    Server,
}

impl Role {
    /// The word on the command line and in certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Server => "server",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "agent" => Ok(Self::Agent),
            "operator" => Ok(Self::Operator),
            "server" => Ok(Self::Server),
            other => Err(format!("'{other}' is not a role: expected agent, operator or server")),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A host that joined the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Identity, given at join and written into its certificate.
    pub id: NodeId,
    /// What people call it; unique in the cluster.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// The VTEP's address: where other nodes send its containers' packets.
    pub data_address: IpAddr,
    /// SHA-256 of its public key (subject public key info), in hexadecimal: the same key that
    /// asks again is the same node.
    pub key_digest: String,
    /// Removed by an operator: refused everywhere, and fenced by its peers.
    #[serde(default)]
    pub removed: bool,
}
