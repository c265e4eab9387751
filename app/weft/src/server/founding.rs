//! The beginning of a cluster: its authority, its first node, its address pools.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use weft_engine::{Embedded, Engine, EngineError};
use weft_model::row::{Cluster, Pool};
use weft_model::{ClusterId, ClusterState, Name, Node, NodeId, Role};
use weft_rpc::ca::{CertificateAuthority, NodeKey, SigningRequest, Subject};
use weft_state::{Command, apply};

use super::failure::Failure;
use super::wish::invalid;

/// The IPv4 pool if none is given: private (RFC 1918), and far from what routers and Docker use.
const POOL: &str = "10.128.0.0/9,24";

/// What a cluster begins with.
#[derive(Debug)]
pub(crate) struct Initial<'a> {
    /// What to call the first node.
    pub(crate) name: Name,
    /// Its VTEP's address.
    pub(crate) data_address: IpAddr,
    /// Its key.
    pub(crate) key: &'a NodeKey,
    /// Where networks get their subnets from, as `10.128.0.0/9,24`; empty: that, and a random
    /// unique local prefix (RFC 4193).
    pub(crate) pools: Vec<String>,
    /// How long its certificate is good.
    pub(crate) lifetime: Duration,
}

/// A cluster with one node.
#[derive(Debug, Clone)]
pub(crate) struct Founded {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// Its first node.
    pub(crate) node: Node,
    /// That node's certificate, PEM.
    pub(crate) certificate: String,
    /// The authority's certificate, PEM.
    pub(crate) ca_certificate: String,
}

/// Makes a cluster in the file at `path`. If there is one already, made with the same key, that
/// one is given: the answer to the first wish was lost.
///
/// # Errors
/// [`Failure`]: another cluster is there, the pools make no sense, or the file cannot be used.
pub(crate) async fn initialise(path: &Path, wish: Initial<'_>) -> Result<Founded, Failure> {
    let path = path.to_owned();
    let engine = tokio::task::spawn_blocking(move || Embedded::open(&path))
        .await
        .map_err(Failure::internal)??;
    found(&engine, wish).await
}

/// [`initialise`] on any engine.
pub(super) async fn found<E: Engine>(engine: &E, wish: Initial<'_>) -> Result<Founded, Failure> {
    let snapshot = engine.snapshot().await?;
    let mut state = ClusterState::default();
    for (row, written) in snapshot.rows {
        state.put(row, written);
    }
    let key_digest = wish.key.digest().to_string();
    if let Some(founded) = earlier(&state, &wish, &key_digest)? {
        return Ok(founded);
    }
    let cluster = Cluster { id: ClusterId(rand::random()), pools: pools(&wish.pools)? };
    let ca = CertificateAuthority::create(cluster.id).map_err(Failure::internal)?;
    let node = Node {
        id: NodeId(rand::random()),
        name: wish.name.clone(),
        role: Role::Server,
        data_address: wish.data_address,
        key_digest,
        removed: false,
    };
    let founded = certify(&ca, cluster.id, node.clone(), &wish)?;
    let command = Command::Initialise { cluster, authority: ca.row(), node };
    let (transaction, _) = apply(&state, command)?;
    match engine.transact(transaction).await {
        Ok(_) => Ok(founded),
        Err(EngineError::Conflict(_)) => {
            Err(Failure::unavailable("somebody else makes a cluster here just now", "try again"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The cluster that was made here before by the same key.
fn earlier(
    state: &ClusterState,
    wish: &Initial<'_>,
    key_digest: &str,
) -> Result<Option<Founded>, Failure> {
    let (Some(cluster), Some(authority)) = (&state.cluster, &state.authority) else {
        return Ok(None);
    };
    let same = |node: &&Node| node.key_digest == key_digest && node.role == Role::Server;
    let Some(node) = state.nodes.values().find(same) else { return Ok(None) };
    let ca = CertificateAuthority::load(authority).map_err(Failure::internal)?;
    certify(&ca, cluster.id, node.clone(), wish).map(Some)
}

fn certify(
    ca: &CertificateAuthority,
    cluster: ClusterId,
    node: Node,
    wish: &Initial<'_>,
) -> Result<Founded, Failure> {
    let request = wish.key.signing_request().map_err(Failure::internal)?;
    let request = SigningRequest::from_pem(&request).map_err(Failure::internal)?;
    let subject = Subject { cluster, node: node.id, role: node.role };
    let certificate =
        ca.sign(&request, subject, SystemTime::now(), wish.lifetime).map_err(Failure::internal)?;
    Ok(Founded { cluster, node, certificate, ca_certificate: ca.certificate().to_owned() })
}

fn pools(given: &[String]) -> Result<Vec<Pool>, Failure> {
    if given.is_empty() {
        return Ok(vec![pool(POOL)?, Pool { prefix: unique_local(), size: 64 }]);
    }
    given.iter().map(|text| pool(text)).collect()
}

fn pool(text: &str) -> Result<Pool, Failure> {
    let read = || {
        let (prefix, size) = text.split_once(',')?;
        Some(Pool { prefix: prefix.parse().ok()?, size: size.parse().ok()? })
    };
    let wrong = || format!("'{text}' is not a pool");
    Ok(read().ok_or_else(|| invalid("--pool", wrong(), "write it as 10.128.0.0/9,24"))?)
}

/// A prefix of 48 bits with a random global identifier (RFC 4193 section 3.1).
fn unique_local() -> IpNet {
    let random: [u16; 3] = rand::random();
    let address = Ipv6Addr::new(0xfd00 | (random[0] & 0xff), random[1], random[2], 0, 0, 0, 0, 0);
    // 48 is a length that every IPv6 address can have.
    ipnet::Ipv6Net::new(address, 48).map_or_else(|_| IpNet::from(IpAddr::V6(address)), IpNet::V6)
}
