//! What the tests are played with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use weft_engine::{Embedded, Engine};
use weft_model::{
    ClusterId, ContainerId, Endpoint, EndpointId, Lease, Mac, Name, Network, NetworkId, NodeId,
    Offset, Role, Row,
};
use weft_rpc::ca::{CertificateAuthority, NodeKey, SigningRequest, Subject};
use weft_rpc::connect::{self, Client};
use weft_rpc::tls::{self, Certificates};
use weft_rpc::{JoinToken, rows, wire};
use weft_state::Write;

use super::super::founding::Founded;
use super::super::{Handle, Initial, Settings, founding, start};

/// Longer than anything takes.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// A cluster with one server.
pub(super) struct World {
    pub(super) server: Handle,
    pub(super) founded: Founded,
    pub(super) key: NodeKey,
    pub(super) folder: tempfile::TempDir,
}

pub(super) fn settings() -> Settings {
    let advertised: SocketAddr = "192.0.2.1:7373".parse().unwrap();
    Settings {
        heartbeat: Duration::from_millis(200),
        recall: Duration::from_secs(1),
        ..Settings::new(advertised)
    }
}

pub(super) fn initial(key: &NodeKey) -> Initial<'_> {
    Initial {
        name: "host-1".parse().unwrap(),
        data_address: "192.0.2.1".parse().unwrap(),
        key,
        pools: Vec::new(),
        lifetime: Duration::from_secs(3600),
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        Self::on(settings, |engine| engine).await
    }

    /// A cluster on an engine made of the embedded one.
    pub(super) async fn on<E: Engine>(
        settings: Settings,
        wrap: impl FnOnce(Embedded) -> E,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path().join("cluster.redb")).unwrap();
        let key = NodeKey::generate().unwrap();
        let founded = founding::found(&engine, initial(&key)).await.unwrap();
        let shown = Certificates::new(&founded.certificate, &founded.ca_certificate, &key.to_pem());
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = start(wrap(engine), listen, shown.unwrap(), settings).await.unwrap();
        Self { server, founded, key, folder }
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.founded.cluster
    }

    /// The authority, as only the server has it.
    pub(super) fn authority(&self) -> CertificateAuthority {
        let row = self.server.server.replica.read(|state| state.authority.clone()).unwrap();
        CertificateAuthority::load(&row).unwrap()
    }

    /// A client with the server's own certificate.
    pub(super) async fn admin(&self) -> Client {
        let Founded { certificate, ca_certificate, .. } = &self.founded;
        let shown = Certificates::new(certificate, ca_certificate, &self.key.to_pem()).unwrap();
        self.connect(shown).await
    }

    pub(super) async fn connect(&self, shown: Arc<Certificates>) -> Client {
        let tls = tls::client(shown, &self.founded.ca_certificate, self.cluster()).unwrap();
        connect::cluster(self.server.address, tls).await.unwrap()
    }

    /// A client with a certificate for `node` that began at `at` and is good for `lifetime`.
    pub(super) async fn client_as(
        &self,
        node: NodeId,
        role: Role,
        at: SystemTime,
        lifetime: Duration,
    ) -> Client {
        let key = NodeKey::generate().unwrap();
        let request = SigningRequest::from_pem(&key.signing_request().unwrap()).unwrap();
        let subject = Subject { cluster: self.cluster(), node, role };
        let ca = self.authority();
        let certificate = ca.sign(&request, subject, at, lifetime).unwrap();
        let shown = Certificates::new(&certificate, ca.certificate(), &key.to_pem()).unwrap();
        self.connect(shown).await
    }

    pub(super) async fn token(&self, role: Role) -> JoinToken {
        let reply = self.server.create_token(role, 3600).await.unwrap();
        assert_eq!(reply.address, "192.0.2.1:7373");
        reply.token.parse().unwrap()
    }

    /// Asks to join; number `n` is in its name and address.
    pub(super) async fn join(
        &self,
        token: &JoinToken,
        key: &NodeKey,
        n: u8,
    ) -> Result<wire::JoinReply, tonic::Status> {
        let mut client = self.stranger(token).await;
        let request = join_request(token, key, n);
        client.join(request).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn stranger(&self, token: &JoinToken) -> Client {
        let tls = tls::joining(token.ca).unwrap();
        connect::cluster(self.server.address, tls).await.unwrap()
    }

    /// A node that has joined.
    pub(super) async fn node(&self, role: Role, n: u8) -> Member {
        let token = self.token(role).await;
        let key = NodeKey::generate().unwrap();
        let reply = self.join(&token, &key, n).await.unwrap();
        let shown = Certificates::new(&reply.certificate, &reply.ca_certificate, &key.to_pem());
        let client = self.connect(shown.unwrap()).await;
        Member { id: reply.node_id.parse().unwrap(), client, key }
    }

    /// A network of that subnet.
    pub(super) async fn network(&self, name: &str, subnet: &str) -> Network {
        let request = wire::CreateNetworkRequest {
            name: name.to_owned(),
            subnets: vec![subnet.to_owned()],
            ..Default::default()
        };
        let reply = self.admin().await.create_network(request).await.unwrap().into_inner();
        match rows::read_answer(reply.row.as_ref()).unwrap() {
            Row::Network(network) => network,
            other => panic!("{other:?} is no network"),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.server.server.replica.read(|state| state.generation.0)
    }
}

pub(super) fn join_request(token: &JoinToken, key: &NodeKey, n: u8) -> wire::JoinRequest {
    wire::JoinRequest {
        token_id: token.id.to_string(),
        secret: token.secret.reveal().to_string(),
        csr: key.signing_request().unwrap(),
        name: format!("host-{n}"),
        data_address: format!("192.0.2.{n}"),
    }
}

/// A node that has joined.
pub(super) struct Member {
    pub(super) id: NodeId,
    pub(super) client: Client,
    pub(super) key: NodeKey,
}

impl Member {
    pub(super) async fn lease(
        &mut self,
        network: NetworkId,
        wanted: &[u64],
        count: u32,
    ) -> Result<(Lease, u64), tonic::Status> {
        let network_id = network.to_string();
        let request = wire::LeaseRequest { network_id, wanted: wanted.to_vec(), count };
        let reply = self.client.lease(request).await?.into_inner();
        match rows::read_answer(reply.row.as_ref()).unwrap() {
            Row::Lease(lease) => Ok((lease, reply.generation)),
            other => panic!("{other:?} is no lease"),
        }
    }

    pub(super) async fn release(
        &mut self,
        network: NetworkId,
        offsets: &str,
    ) -> Result<(), tonic::Status> {
        let (network_id, offsets) = (network.to_string(), offsets.to_owned());
        let request = wire::ReleaseRequest { network_id, offsets, leave: false };
        self.client.release(request).await.map(drop)
    }

    pub(super) async fn put(&mut self, endpoint: &Endpoint) -> Result<u64, tonic::Status> {
        let row = rows::put(&Row::Endpoint(endpoint.clone()));
        Ok(self.client.put_endpoint(row).await?.into_inner().generation)
    }

    pub(super) async fn await_applied(
        &mut self,
        network: NetworkId,
        generation: u64,
        timeout_ms: u32,
    ) -> Vec<String> {
        let network_id = network.to_string();
        let request = wire::AwaitAppliedRequest { network_id, generation, timeout_ms };
        self.client.await_applied(request).await.unwrap().into_inner().behind
    }

    pub(super) async fn follow(&mut self) -> Following {
        let (reports, outgoing) = mpsc::channel(16);
        let updates = self.client.follow(ReceiverStream::new(outgoing)).await.unwrap();
        Following { reports, updates: updates.into_inner() }
    }
}

/// An endpoint of `node` at `offset`, with number `id`.
pub(super) fn endpoint(network: &Network, node: NodeId, id: u64, offset: Offset) -> Endpoint {
    let name: Name = format!("web-{id}").parse().unwrap();
    Endpoint {
        id: EndpointId(id),
        network: network.id,
        node,
        container: ContainerId(id),
        name,
        aliases: Vec::new(),
        addresses: network.addresses(offset),
        mac: Mac::of_endpoint(network.vni, offset),
        allow_source: Vec::new(),
    }
}

/// A node's stream.
pub(super) struct Following {
    pub(super) reports: mpsc::Sender<wire::Report>,
    pub(super) updates: tonic::Streaming<wire::Update>,
}

impl Following {
    /// The next update that is no heartbeat; `Err` when the stream ends.
    pub(super) async fn next(&mut self) -> Result<wire::update::Kind, Option<tonic::Status>> {
        let heard = async {
            loop {
                match self.updates.message().await {
                    Ok(Some(wire::Update { kind: Some(wire::update::Kind::Heartbeat(_)) })) => {}
                    Ok(Some(update)) => return Ok(update.kind.unwrap()),
                    Ok(None) => return Err(None),
                    Err(status) => return Err(Some(status)),
                }
            }
        };
        timeout(LONG, heard).await.expect("nothing but heartbeats comes")
    }

    pub(super) async fn snapshot(&mut self) -> (u64, Vec<Row>) {
        match self.next().await.unwrap() {
            wire::update::Kind::Snapshot(snapshot) => {
                let rows = snapshot.rows.iter().map(|row| rows::read(row).unwrap());
                (snapshot.generation, rows.collect())
            }
            other => panic!("{other:?} is no snapshot"),
        }
    }

    pub(super) async fn patch(&mut self) -> (u64, Vec<Write>) {
        match self.next().await.unwrap() {
            wire::update::Kind::Patch(patch) => {
                (patch.generation, rows::read_changes(&patch.rows).unwrap())
            }
            other => panic!("{other:?} is no patch"),
        }
    }

    /// Why the stream ends; updates before that are skipped.
    pub(super) async fn end(&mut self) -> Option<tonic::Status> {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    pub(super) async fn say(&self, kind: wire::report::Kind) {
        self.reports.send(wire::Report { kind: Some(kind) }).await.unwrap();
    }

    pub(super) async fn applied(&self, generation: u64) {
        let applied = wire::Applied { generation, faults: Vec::new() };
        self.say(wire::report::Kind::Applied(applied)).await;
    }

    /// Applies whatever comes, at once, for ever.
    pub(super) fn keep_applying(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            while let Ok(update) = self.next().await {
                match update {
                    wire::update::Kind::Snapshot(rows) | wire::update::Kind::Patch(rows) => {
                        self.applied(rows.generation).await;
                    }
                    _ => {}
                }
            }
        })
    }
}

/// Repeats until it holds.
pub(super) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, wait).await.expect("it never came true");
}
