//! How a host becomes part of a cluster: it makes one, or joins one.

use std::net::SocketAddr;
use std::sync::Arc;

use weft_model::{ClusterId, Name, Node, NodeId, Role};
use weft_rpc::{JoinToken, wire};
use weft_state::rejection::Code;

use crate::agent::lease::refused;
use crate::agent::refusal::Refusal;
use crate::server;

use super::Daemon;
use super::addresses::{data_address, node_name};
use super::identity::StoredNode;
use super::local::required;

/// How long the token that `weft init` prints is good: a day.
const FIRST_TOKEN: u64 = 24 * 60 * 60;

impl Daemon {
    /// Makes the cluster, with this host as its first server; the answer has a token for agents.
    pub(crate) async fn init(
        self: &Arc<Self>,
        request: wire::InitRequest,
    ) -> Result<wire::CreateTokenReply, Refusal> {
        let _entering = self.entering.lock().await;
        self.refuse_if_member()?;
        let name = node_name(&request.name)?;
        let data_address = data_address(&self.asked_address(&request.data_address), None)?;
        let advertised = if request.advertise_address.is_empty() {
            data_address
        } else {
            required(&request.advertise_address, "--advertise")?
        };
        let advertised = SocketAddr::new(advertised, self.config.listen.port());
        let key = self.identity.key().map_err(Refusal::internal)?;
        let wish = server::Initial {
            name: name.clone(),
            data_address,
            key: &key,
            pools: request.pools,
            lifetime: self.config.certificate_lifetime,
        };
        let made = server::initialise(&self.config.state_dir.join("cluster.redb"), wish).await?;
        let node = StoredNode {
            cluster: made.cluster,
            id: made.node.id,
            name,
            role: Role::Server,
            data_address,
            servers: vec![advertised],
        };
        self.enter(&made.certificate, &made.ca_certificate, node).await?;
        let running = self.current().ok_or_else(|| Refusal::Internal("not running".to_owned()))?;
        let server = running.server.as_ref();
        let server = server.ok_or_else(|| Refusal::Internal("no server here".to_owned()))?;
        let mut reply = server.create_token(Role::Agent, FIRST_TOKEN).await?;
        reply.address = advertised.to_string();
        Ok(reply)
    }

    /// Joins the cluster of the server at the given address. Asking again after an answer was
    /// lost gives the same node, because the key is the same.
    pub(crate) async fn join(
        self: &Arc<Self>,
        request: wire::JoinClusterRequest,
    ) -> Result<Node, Refusal> {
        let _entering = self.entering.lock().await;
        self.refuse_if_member()?;
        let address: SocketAddr = required(&request.address, "ADDR:PORT")?;
        let token: JoinToken = required(&request.token, "--token")?;
        let name = node_name(&request.name)?;
        let data_address = data_address(&self.asked_address(&request.data_address), Some(address))?;
        let key = self.identity.key().map_err(Refusal::internal)?;
        let reply = ask_to_join(address, &token, &key, &name, data_address).await?;
        let unreadable = |what: &str| Refusal::Internal(format!("the server sent no {what}"));
        let cluster: ClusterId = reply.cluster_id.parse().map_err(|_| unreadable("cluster"))?;
        let id: NodeId = reply.node_id.parse().map_err(|_| unreadable("node"))?;
        let role: Role = reply.role.parse().map_err(|_| unreadable("role"))?;
        let servers = vec![address];
        let node = StoredNode { cluster, id, name: name.clone(), role, data_address, servers };
        self.enter(&reply.certificate, &reply.ca_certificate, node).await?;
        let key_digest = key.digest().to_string();
        Ok(Node { id, name, role, data_address, key_digest, removed: false })
    }

    fn asked_address(&self, asked: &str) -> String {
        match self.config.data_address {
            Some(configured) if asked.is_empty() => configured.to_string(),
            Some(_) | None => asked.to_owned(),
        }
    }

    fn refuse_if_member(&self) -> Result<(), Refusal> {
        let Some(agent) = self.agent() else { return Ok(()) };
        Err(Refusal::reject(
            Code::Exists,
            "",
            format!(
                "this host is in cluster {} already, as node {}",
                agent.me.cluster, agent.me.node
            ),
            "to leave it, remove the node on a server, stop the daemon and delete its state directory",
        ))
    }

    async fn enter(
        self: &Arc<Self>,
        certificate: &str,
        ca_certificate: &str,
        node: StoredNode,
    ) -> Result<(), Refusal> {
        self.identity.keep(certificate, ca_certificate, &node).map_err(chain)?;
        let stored = self.identity.load().map_err(chain)?;
        let stored =
            stored.ok_or_else(|| Refusal::Internal("the identity was not kept".to_owned()))?;
        self.start(stored).await.map_err(chain)
    }
}

async fn ask_to_join(
    address: SocketAddr,
    token: &JoinToken,
    key: &weft_rpc::ca::NodeKey,
    name: &Name,
    data_address: std::net::IpAddr,
) -> Result<wire::JoinReply, Refusal> {
    let tls = weft_rpc::tls::joining(token.ca).map_err(Refusal::internal)?;
    let mut client = weft_rpc::connect::cluster(address, tls).await.map_err(|error| {
        let untrusted = matches!(error, weft_rpc::connect::ConnectError::Untrusted { .. });
        let (code, field) =
            if untrusted { (Code::Denied, "--token") } else { (Code::NotFound, "ADDR:PORT") };
        let hint = if untrusted {
            "check address and token: `weft token create` on a server prints both"
        } else {
            "check the address, and that its daemon runs and its firewall lets this host in"
        };
        Refusal::reject(code, field, error.to_string(), hint)
    })?;
    let request = wire::JoinRequest {
        token_id: token.id.to_string(),
        secret: token.secret.reveal().to_string(),
        csr: key.signing_request().map_err(Refusal::internal)?,
        name: name.to_string(),
        data_address: data_address.to_string(),
    };
    let reply = client.join(request).await.map_err(|status| refused(&status, "joining"))?;
    Ok(reply.into_inner())
}

#[allow(clippy::needless_pass_by_value, reason = "fits map_err")]
fn chain(error: anyhow::Error) -> Refusal {
    Refusal::Internal(format!("{error:#}"))
}
