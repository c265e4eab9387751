//! Who belongs to the cluster: tokens, joining, renewal.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use weft_model::{ClusterId, Name, Node, NodeId, Role, Row, Token, TokenId};
use weft_rpc::ca::{CertificateAuthority, SigningRequest, Subject};
use weft_rpc::token::{JoinToken, Secret};
use weft_rpc::{Identity, NodeIdentity, error, rows, wire};
use weft_state::rejection::Code;
use weft_state::{Command, Outcome, Rejection, apply};

use super::failure::Failure;
use super::{Server, now, wish};

/// The longest that a token may be good: 30 days. A token is a key to the cluster that lies
/// around in shell histories.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Server {
    /// Makes a token; its text is in the answer and nowhere else.
    pub(super) async fn create_token(
        &self,
        who: Option<&Identity>,
        role: Role,
        lifetime: Duration,
    ) -> Result<wire::CreateTokenReply, Failure> {
        if role == Role::Server {
            return Err(Failure::Rejected(Rejection {
                code: Code::Invalid,
                field: "--role".to_owned(),
                message: "this cluster keeps its state in a file, so it has one server".to_owned(),
                hint: "use role 'operator' for a host that administers the cluster".to_owned(),
            }));
        }
        if lifetime.is_zero() || lifetime > LONGEST {
            return Err(Failure::Rejected(Rejection {
                code: Code::Invalid,
                field: "--lifetime".to_owned(),
                message: format!("a token cannot be good for {} s", lifetime.as_secs()),
                hint: format!("give 1 to {} s (30 days)", LONGEST.as_secs()),
            }));
        }
        let secret = Secret::generate().map_err(Failure::internal)?;
        let token = Token {
            id: TokenId(rand::random()),
            secret_digest: secret.digest(),
            role,
            expires_at: now() + lifetime.as_secs(),
            revoked: false,
        };
        self.decider.decide(who, Command::CreateToken(token.clone())).await?;
        let (ca, _) = self.authority()?;
        let text = JoinToken { ca: ca.digest(), id: token.id, secret };
        Ok(wire::CreateTokenReply {
            token: text.reveal().to_string(),
            row: Some(rows::put(&Row::Token(token))),
            address: self.settings.advertised.to_string(),
        })
    }

    /// Takes a stranger in. The same key again gives the same node.
    pub(super) async fn join(
        &self,
        who: &Identity,
        request: wire::JoinRequest,
    ) -> Result<wire::JoinReply, Failure> {
        let wire::JoinRequest { token_id, secret, csr, name, data_address } = request;
        let token: TokenId = wish::parse("--token", &token_id)?;
        let secret: Secret = wish::parse("--token", &secret)?;
        let name: Name = wish::parse("--name", &name)?;
        let data_address: IpAddr = wish::parse("--data-address", &data_address)?;
        let request = signing_request(&csr)?;
        let command = Command::Join {
            token,
            secret_digest: secret.digest(),
            now: now(),
            id: NodeId(rand::random()),
            name,
            data_address,
            key_digest: request.digest().to_string(),
        };
        // Anybody can ask: what is hopeless does not stand in the queue of the nodes.
        self.replica.read(|state| apply(state, command.clone()).map(drop))?;
        let (outcome, _) = self.decider.decide(Some(who), command).await?;
        let Outcome::Joined(node, role) = outcome else {
            return Err(Failure::Internal("a join was decided without a node".to_owned()));
        };
        let (certificate, ca, cluster) = self.sign(&request, &node)?;
        tracing::info!(node = %node.name, id = %node.id, %role, "joined");
        Ok(wire::JoinReply {
            node_id: node.id.to_string(),
            cluster_id: cluster.to_string(),
            role: role.to_string(),
            certificate,
            ca_certificate: ca.certificate().to_owned(),
        })
    }

    /// A fresh certificate for the key the node joined with; without a caller, for whichever
    /// node has the key.
    pub(super) fn renew(
        &self,
        who: Option<&NodeIdentity>,
        request: &str,
    ) -> Result<wire::RenewReply, Failure> {
        let request = signing_request(request)?;
        let digest = request.digest().to_string();
        let node = self.replica.read(|state| match who {
            Some(who) => state.nodes.get(&who.id).cloned(),
            None => state.nodes.values().find(|n| n.key_digest == digest).cloned(),
        });
        let Some(node) = node.filter(|n| !n.removed && n.key_digest == digest) else {
            let denied = error::denied(
                "a certificate is renewed for the key that the node joined with only",
                "to change the key of a host, remove its node and let it join again",
            );
            return Err(denied.into());
        };
        let (certificate, ca, _) = self.sign(&request, &node)?;
        Ok(wire::RenewReply { certificate, ca_certificate: ca.certificate().to_owned() })
    }

    fn authority(&self) -> Result<(CertificateAuthority, ClusterId), Failure> {
        let found = self.replica.read(|state| {
            let authority = state.authority.as_ref().map(CertificateAuthority::load);
            authority.zip(state.cluster.as_ref().map(|cluster| cluster.id))
        });
        let (ca, cluster) =
            found.ok_or_else(|| Failure::Internal("the cluster has no authority".to_owned()))?;
        Ok((ca.map_err(Failure::internal)?, cluster))
    }

    fn sign(
        &self,
        request: &SigningRequest,
        node: &Node,
    ) -> Result<(String, CertificateAuthority, ClusterId), Failure> {
        let (ca, cluster) = self.authority()?;
        let subject = Subject { cluster, node: node.id, role: node.role };
        let signed = ca.sign(request, subject, SystemTime::now(), self.settings.lifetime);
        Ok((signed.map_err(Failure::internal)?, ca, cluster))
    }
}

fn signing_request(pem: &str) -> Result<SigningRequest, Failure> {
    SigningRequest::from_pem(pem).map_err(|wrong| {
        Failure::Rejected(Rejection {
            code: Code::Invalid,
            field: "csr".to_owned(),
            message: wrong.to_string(),
            hint: "use the same version of Weft on both hosts".to_owned(),
        })
    })
}
