//! A cluster with an authority, certificates of every kind, and a server that answers every call
//! with nothing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::Stream;
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use weft_model::{ClusterId, NodeId, Role};
use weft_rpc::access::{AccessLayer, Caller};
use weft_rpc::ca::{CertificateAuthority, LIFETIME, NodeKey, SigningRequest, Subject};
use weft_rpc::listen::{self, Limits};
use weft_rpc::tls::{self, Certificates};
use weft_rpc::wire::{self, cluster_server::Cluster};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(crate) const SERVER: NodeId = NodeId(1);
pub(crate) const REMOVED: NodeId = NodeId(13);

pub(crate) fn authority() -> CertificateAuthority {
    CertificateAuthority::create(CLUSTER).unwrap()
}

pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

pub(crate) fn long_ago() -> SystemTime {
    now() - Duration::from_secs(400 * 24 * 60 * 60)
}

/// A certificate made at `at`.
pub(crate) fn certificates(
    ca: &CertificateAuthority,
    (node, role): (NodeId, Role),
    at: SystemTime,
) -> Arc<Certificates> {
    let key = NodeKey::generate().unwrap();
    let request = SigningRequest::from_pem(&key.signing_request().unwrap()).unwrap();
    let subject = Subject { cluster: CLUSTER, node, role };
    let certificate = ca.sign(&request, subject, at, LIFETIME).unwrap();
    Certificates::new(&certificate, ca.certificate(), &key.to_pem()).unwrap()
}

pub(crate) fn client(
    certificates: Arc<Certificates>,
    ca: &CertificateAuthority,
) -> Arc<ClientConfig> {
    tls::client(certificates, ca.certificate(), CLUSTER).unwrap()
}

/// A running server; dropping it stops it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A server that shows `shown` and lets in whom `ca` vouches for.
pub(crate) async fn start(
    ca: &CertificateAuthority,
    shown: Arc<Certificates>,
    limits: Limits,
) -> Running {
    let tls = tls::server(shown, ca.certificate(), CLUSTER).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let ended = tokio::spawn(async move {
        listen::serve(listener, tls, limits, access(), routes(), stopped).await.unwrap();
    });
    Running { address, stop, ended }
}

pub(crate) async fn server(ca: &CertificateAuthority) -> Running {
    start(ca, certificates(ca, (SERVER, Role::Server), now()), Limits::default()).await
}

pub(crate) fn access() -> AccessLayer {
    AccessLayer::new(Arc::new(|node| node == REMOVED))
}

pub(crate) fn routes() -> tonic::service::Routes {
    tonic::service::Routes::new(wire::cluster_server::ClusterServer::new(Stub))
}

struct Stub;

macro_rules! nothing {
    ($($call:ident($request:ty) -> $reply:ty;)*) => {
        #[tonic::async_trait]
        impl Cluster for Stub {
            type FollowStream =
                Pin<Box<dyn Stream<Item = Result<wire::Update, Status>> + Send + 'static>>;

            async fn follow(
                &self,
                request: Request<tonic::Streaming<wire::Report>>,
            ) -> Result<Response<Self::FollowStream>, Status> {
                Caller::of(&request)?;
                let beat = wire::update::Kind::Heartbeat(wire::Heartbeat {});
                let first = futures_util::stream::iter([Ok(wire::Update { kind: Some(beat) })]);
                let rest = futures_util::stream::pending();
                Ok(Response::new(Box::pin(futures_util::StreamExt::chain(first, rest))))
            }

            $(async fn $call(&self, request: Request<$request>) -> Result<Response<$reply>, Status> {
                Caller::of(&request)?;
                Ok(Response::new(Default::default()))
            })*
        }
    };
}

nothing! {
    join(wire::JoinRequest) -> wire::JoinReply;
    renew(wire::RenewRequest) -> wire::RenewReply;
    lease(wire::LeaseRequest) -> wire::RowReply;
    release(wire::ReleaseRequest) -> wire::RowReply;
    put_endpoint(wire::Row) -> wire::Committed;
    delete_endpoint(wire::DeleteEndpointRequest) -> wire::Committed;
    await_applied(wire::AwaitAppliedRequest) -> wire::AwaitAppliedReply;
    move_node(wire::MoveNodeRequest) -> wire::Committed;
    list(wire::ListRequest) -> wire::ListReply;
    status(wire::StatusRequest) -> wire::StatusReply;
    create_network(wire::CreateNetworkRequest) -> wire::RowReply;
    remove_network(wire::RemoveRequest) -> wire::Committed;
    create_token(wire::CreateTokenRequest) -> wire::CreateTokenReply;
    revoke_token(wire::RemoveRequest) -> wire::Committed;
    remove_node(wire::RemoveRequest) -> wire::Committed;
}

/// Makes every call of the Cluster service, and gives each one's path and answer.
pub(crate) async fn call_everything(
    client: &mut weft_rpc::connect::Client,
) -> Vec<(&'static str, Result<(), Status>)> {
    let mut answers = Vec::new();
    macro_rules! calls {
        ($($path:literal $call:ident),* $(,)?) => {$(
            let answer = client.$call(Request::new(Default::default())).await.map(drop);
            answers.push((concat!("/weft.v1.Cluster/", $path), answer));
        )*};
    }
    calls! {
        "Join" join, "Renew" renew, "Lease" lease, "Release" release, "PutEndpoint" put_endpoint,
        "DeleteEndpoint" delete_endpoint, "AwaitApplied" await_applied, "MoveNode" move_node,
        "List" list, "Status" status, "CreateNetwork" create_network,
        "RemoveNetwork" remove_network, "CreateToken" create_token, "RevokeToken" revoke_token,
        "RemoveNode" remove_node,
    }
    let follow = client.follow(futures_util::stream::pending()).await.map(drop);
    answers.push(("/weft.v1.Cluster/Follow", follow));
    answers
}
