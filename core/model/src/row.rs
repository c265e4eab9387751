//! Rows: the cluster state as the engine stores it and as the wire carries it.
//!
//! A row is a key, a path such as `endpoint/<network>/<endpoint>`, and a JSON value. The same
//! bytes lie in the engine, travel to agents and are kept by them, so there is one encoding.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Endpoint, EndpointId, Lease, Name, Network, NetworkId, Node, NodeId, Token, TokenId,
};

/// Where a row lies. Its text is the key in the state engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// `cluster`: what the cluster is.
    Cluster,
    /// `authority`: the certificate authority with its private key. Never leaves a server.
    Authority,
    /// `node/<node>`
    Node(NodeId),
    /// `network/<network>`
    Network(NetworkId),
    /// `lease/<network>/<node>`
    Lease(NetworkId, NodeId),
    /// `endpoint/<network>/<endpoint>`
    Endpoint(NetworkId, EndpointId),
    /// `token/<token>`
    Token(TokenId),
    /// `guard/<what>`: carries nothing but its revision, which moves with every change of the
    /// things it guards, so that a transaction can be conditional on "none of them changed".
    Guard(Guard),
}

/// What a guard row guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// `guard/nodes`: the set of nodes and their names.
    Nodes,
    /// `guard/networks`: the set of networks, their names, VNIs and subnets.
    Networks,
    /// `guard/leases/<network>`: who holds which addresses of the network.
    Leases(NetworkId),
}

/// What the cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Identity, part of every certificate.
    pub id: ClusterId,
    /// Where networks without a given subnet get theirs from.
    pub pools: Vec<Pool>,
}

/// Addresses to cut subnets from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The whole.
    pub prefix: ipnet::IpNet,
    /// The prefix length of each piece.
    pub size: u8,
}

/// The certificate authority, as stored. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The CA's certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM (PKCS #8).
    pub private_key: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A row with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// See [`RowKey::Cluster`].
    Cluster(Cluster),
    /// See [`RowKey::Authority`].
    Authority(Authority),
    /// See [`RowKey::Node`].
    Node(Node),
    /// See [`RowKey::Network`].
    Network(Network),
    /// See [`RowKey::Lease`].
    Lease(Lease),
    /// See [`RowKey::Endpoint`].
    Endpoint(Endpoint),
    /// See [`RowKey::Token`].
    Token(Token),
    /// See [`RowKey::Guard`].
    Guard(Guard),
}

/// Bytes that are not a row.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRow {
    /// The key is of no kind this version knows: newer versions may have written it.
    #[error("'{0}' is not the key of a row this version knows")]
    Key(String),
    /// The value does not fit its key.
    #[error("the value of row '{key}' cannot be read")]
    Value {
        /// The row's key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl Row {
    /// The row's key.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Cluster(_) => RowKey::Cluster,
            Self::Authority(_) => RowKey::Authority,
            Self::Node(n) => RowKey::Node(n.id),
            Self::Network(n) => RowKey::Network(n.id),
            Self::Lease(l) => RowKey::Lease(l.network, l.node),
            Self::Endpoint(e) => RowKey::Endpoint(e.network, e.id),
            Self::Token(t) => RowKey::Token(t.id),
            Self::Guard(g) => RowKey::Guard(*g),
        }
    }

    /// The value's bytes.
    pub fn value(&self) -> Vec<u8> {
        let json = match self {
            Self::Cluster(v) => serde_json::to_vec(v),
            Self::Authority(v) => serde_json::to_vec(v),
            Self::Node(v) => serde_json::to_vec(v),
            Self::Network(v) => serde_json::to_vec(v),
            Self::Lease(v) => serde_json::to_vec(v),
            Self::Endpoint(v) => serde_json::to_vec(v),
            Self::Token(v) => serde_json::to_vec(v),
            Self::Guard(_) => Ok(b"{}".to_vec()),
        };
        // Writing to memory cannot fail, and all maps in rows have text keys.
        json.unwrap_or_default()
    }

    /// Reads a row back.
    ///
    /// # Errors
    /// [`InvalidRow`] when key or value are not a row's, or do not belong together.
    pub fn decode(key: &str, value: &[u8]) -> Result<Self, InvalidRow> {
        let parsed: RowKey = key.parse()?;
        let row = match parsed {
            RowKey::Cluster => serde_json::from_slice(value).map(Self::Cluster),
            RowKey::Authority => serde_json::from_slice(value).map(Self::Authority),
            RowKey::Node(_) => serde_json::from_slice(value).map(Self::Node),
            RowKey::Network(_) => serde_json::from_slice(value).map(Self::Network),
            RowKey::Lease(..) => serde_json::from_slice(value).map(Self::Lease),
            RowKey::Endpoint(..) => serde_json::from_slice(value).map(Self::Endpoint),
            RowKey::Token(_) => serde_json::from_slice(value).map(Self::Token),
            RowKey::Guard(guard) => Ok(Self::Guard(guard)),
        };
        let row = row.map_err(|source| InvalidRow::Value { key: key.to_owned(), source })?;
        if row.key() == parsed { Ok(row) } else { Err(InvalidRow::Key(key.to_owned())) }
    }

    /// The name that people gave the thing in this row, if they did.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Node(n) => Some(&n.name),
            Self::Network(n) => Some(&n.name),
            Self::Endpoint(e) => Some(&e.name),
            Self::Cluster(_)
            | Self::Authority(_)
            | Self::Lease(_)
            | Self::Token(_)
            | Self::Guard(_) => None,
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Authority => f.write_str("authority"),
            Self::Node(n) => write!(f, "node/{n}"),
            Self::Network(n) => write!(f, "network/{n}"),
            Self::Lease(network, node) => write!(f, "lease/{network}/{node}"),
            Self::Endpoint(network, endpoint) => write!(f, "endpoint/{network}/{endpoint}"),
            Self::Token(t) => write!(f, "token/{t}"),
            Self::Guard(Guard::Nodes) => f.write_str("guard/nodes"),
            Self::Guard(Guard::Networks) => f.write_str("guard/networks"),
            Self::Guard(Guard::Leases(n)) => write!(f, "guard/leases/{n}"),
        }
    }
}

impl FromStr for RowKey {
    type Err = InvalidRow;
    fn from_str(text: &str) -> Result<Self, InvalidRow> {
        fn id<T: FromStr>(text: &str, whole: &str) -> Result<T, InvalidRow> {
            text.parse().map_err(|_| InvalidRow::Key(whole.to_owned()))
        }
        let parts: Vec<&str> = text.split('/').collect();
        Ok(match parts.as_slice() {
            ["cluster"] => Self::Cluster,
            ["authority"] => Self::Authority,
            ["node", n] => Self::Node(id(n, text)?),
            ["network", n] => Self::Network(id(n, text)?),
            ["lease", network, node] => Self::Lease(id(network, text)?, id(node, text)?),
            ["endpoint", network, e] => Self::Endpoint(id(network, text)?, id(e, text)?),
            ["token", t] => Self::Token(id(t, text)?),
            ["guard", "nodes"] => Self::Guard(Guard::Nodes),
            ["guard", "networks"] => Self::Guard(Guard::Networks),
            ["guard", "leases", n] => Self::Guard(Guard::Leases(id(n, text)?)),
            _ => return Err(InvalidRow::Key(text.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_text() {
        let network = NetworkId(3);
        for key in [
            RowKey::Cluster,
            RowKey::Authority,
            RowKey::Node(NodeId(1)),
            RowKey::Network(network),
            RowKey::Lease(network, NodeId(u64::MAX)),
            RowKey::Endpoint(network, EndpointId(4)),
            RowKey::Token(TokenId(5)),
            RowKey::Guard(Guard::Nodes),
            RowKey::Guard(Guard::Networks),
            RowKey::Guard(Guard::Leases(network)),
        ] {
            assert_eq!(key.to_string().parse::<RowKey>().unwrap(), key);
        }
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let lease = Row::Lease(Lease {
            network: NetworkId(1),
            node: NodeId(2),
            node_offset: crate::Offset(254),
            offsets: "2-17".parse().unwrap(),
        });
        let key = lease.key().to_string();
        assert_eq!(Row::decode(&key, &lease.value()).unwrap(), lease);
        let other = RowKey::Lease(NetworkId(1), NodeId(3)).to_string();
        assert!(matches!(Row::decode(&other, &lease.value()), Err(InvalidRow::Key(_))));
        assert!(matches!(Row::decode(&key, b"{}"), Err(InvalidRow::Value { .. })));
        assert!(matches!(Row::decode("nonsense/1", b"{}"), Err(InvalidRow::Key(_))));
    }
}
