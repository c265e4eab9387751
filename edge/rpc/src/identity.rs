//! Who is on the other side: read from its certificate, and from nothing else.

use std::fmt;

use weft_model::{ClusterId, NodeId, Role};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Who is on the other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Somebody without a certificate.
    Stranger,
    /// A node of the cluster.
    Node(NodeIdentity),
    /// Root of this host, on the local socket.
    LocalRoot,
}

/// What a node's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster that vouches for it.
    pub cluster: ClusterId,
    /// The node.
    pub id: NodeId,
    /// What it may do.
    pub role: Role,
    /// When the certificate ends, in seconds since 1970-01-01 UTC.
    pub not_after: u64,
}

/// A certificate that says nothing about a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate names no node of a Weft cluster: {0}")]
pub struct InvalidIdentity(pub &'static str);

/// Kinds of identities, as the access table knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Without a certificate.
    Stranger,
    /// With a certificate that has ended.
    Expired,
    /// See [`Role::Agent`].
    Agent,
    /// See [`Role::Operator`].
    Operator,
    /// See [`Role::Server`].
    Server,
    /// Root of this host, on the local socket.
    LocalRoot,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Stranger, Self::Expired, Self::Agent, Self::Operator, Self::Server, Self::LocalRoot];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stranger => "a host without a certificate",
            Self::Expired => "a node with an expired certificate",
            Self::Agent => "an agent",
            Self::Operator => "an operator",
            Self::Server => "a server",
            Self::LocalRoot => "root of this host",
        })
    }
}

impl Identity {
    /// The kind it is at `now`, in seconds since 1970-01-01 UTC: certificates end during
    /// connections too.
    pub fn kind(&self, now: u64) -> Kind {
        match self {
            Self::Stranger => Kind::Stranger,
            Self::LocalRoot => Kind::LocalRoot,
            Self::Node(node) if node.not_after < now => Kind::Expired,
            Self::Node(node) => match node.role {
                Role::Agent => Kind::Agent,
                Role::Operator => Kind::Operator,
                Role::Server => Kind::Server,
            },
        }
    }
}

/// The URI a certificate carries for its node (after SPIFFE-ID: scheme, trust domain, path).
pub fn uri(cluster: ClusterId, role: Role, node: NodeId) -> String {
    format!("spiffe://{cluster}/{role}/{node}")
}

impl NodeIdentity {
    /// Reads the identity out of a certificate (DER). It does not check who signed it: that is
    /// TLS's business.
    ///
    /// # Errors
    /// [`InvalidIdentity`] unless there is exactly one URI and it names a node.
    pub fn of_certificate(der: &[u8]) -> Result<Self, InvalidIdentity> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| InvalidIdentity("it cannot be parsed"))?;
        if !rest.is_empty() {
            return Err(InvalidIdentity("something follows it"));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| InvalidIdentity("its alternative names cannot be parsed"))?
            .ok_or(InvalidIdentity("it has no alternative names"))?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(InvalidIdentity("it does not have exactly one URI"));
        };
        let (cluster, role, id) = parse(uri).ok_or(InvalidIdentity("its URI is another's"))?;
        let not_after = u64::try_from(certificate.validity().not_after.timestamp())
            .map_err(|_| InvalidIdentity("it ended before 1970"))?;
        Ok(Self { cluster, id, role, not_after })
    }
}

fn parse(uri: &str) -> Option<(ClusterId, Role, NodeId)> {
    let mut parts = uri.strip_prefix("spiffe://")?.split('/');
    let cluster = parts.next()?.parse().ok()?;
    let role = parts.next()?.parse().ok()?;
    let node = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((cluster, role, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_node() {
        let good = uri(ClusterId(1), Role::Operator, NodeId(2));
        assert_eq!(good, "spiffe://0000000000000001/operator/0000000000000002");
        assert_eq!(parse(&good), Some((ClusterId(1), Role::Operator, NodeId(2))));
        for bad in [
            "",
            "spiffe://",
            "spiffe://0000000000000001/operator",
            "spiffe://0000000000000001/operator/0000000000000002/",
            "spiffe://0000000000000001/operator/2",
            "spiffe://0000000000000001/root/0000000000000002",
            "https://0000000000000001/operator/0000000000000002",
            "spiffe://0000000000000001/Operator/0000000000000002",
            "spiffe://user@0000000000000001/operator/0000000000000002",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_certificate_ends_during_a_connection() {
        let node = NodeIdentity {
            cluster: ClusterId(1),
            id: NodeId(2),
            role: Role::Server,
            not_after: 1000,
        };
        let identity = Identity::Node(node);
        assert_eq!(identity.kind(1000), Kind::Server);
        assert_eq!(identity.kind(1001), Kind::Expired);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(NodeIdentity::of_certificate(b"").is_err());
        assert!(NodeIdentity::of_certificate(&[0x30, 0x82, 0xff, 0xff]).is_err());
    }
}
