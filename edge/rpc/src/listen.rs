//! The server's port: from TCP connections to connections of known peers, with bounds on
//! everything a peer can make us hold or wait for.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use weft_model::NodeId;

use crate::access::AccessLayer;
use crate::identity::{Identity, NodeIdentity};

/// Bounds on what peers can make the server hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How many handshakes may be under way. When all are, the oldest gives way, unless it is
    /// younger than [`Self::patience`]: then the newcomer does.
    pub handshakes: usize,
    /// How old a handshake must be to be given up for a newcomer.
    pub patience: Duration,
    /// How many connections nodes may hold.
    pub nodes: usize,
    /// How many of them one node may hold.
    pub per_node: usize,
    /// How many connections hosts without a certificate may hold.
    pub strangers: usize,
    /// How long a host without a certificate may hold one.
    pub stranger_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            handshakes: 256,
            patience: Duration::from_millis(500),
            nodes: 8192,
            per_node: 32,
            strangers: 128,
            stranger_lifetime: Duration::from_secs(30),
        }
    }
}

/// Who is on the other side of a connection, as a request extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// Where from; `None` on the local socket.
    pub address: Option<SocketAddr>,
}

/// A connection whose peer is known.
pub struct Connection {
    io: Io,
    peer: Peer,
    /// Resolves when the connection must end whatever the peer does.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _place: Option<Place>,
}

enum Io {
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Connection {
    pub(crate) fn local(stream: UnixStream, cut: CancellationToken) -> Self {
        Self {
            io: Io::Unix(stream),
            peer: Peer { identity: Identity::LocalRoot, address: None },
            cut: Some(Box::pin(cut.cancelled_owned())),
            _place: None,
        }
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(context).is_pending()) {
            return Ok(());
        }
        self.cut = None;
        Err(io::Error::new(io::ErrorKind::TimedOut, "the connection's time is over"))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        match &mut self.io {
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
            Io::Unix(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
            Io::Unix(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tls(io) => Pin::new(io).poll_flush(context),
            Io::Unix(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tls(io) => Pin::new(io).poll_shutdown(context),
            Io::Unix(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}

/// Serves `routes` to whoever connects to `listener`, guarded by `access`, until `shutdown`;
/// then calls under way have [`GRACE`] to finish.
///
/// # Errors
/// When the transport fails as a whole.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
    access: AccessLayer,
    routes: tonic::service::Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let cut = CancellationToken::new();
    let incoming = incoming(listener, tls, limits, cut.clone());
    run(incoming, access, routes, shutdown, cut).await
}

/// How long calls under way have to finish at shutdown.
pub const GRACE: Duration = Duration::from_secs(2);

/// How long any call may take to begin its answer; calls that wait have shorter bounds of their own.
const CALL: Duration = Duration::from_secs(20);

pub(crate) async fn run<I>(
    incoming: I,
    access: AccessLayer,
    routes: tonic::service::Routes,
    shutdown: impl Future<Output = ()> + Send,
    cut: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    I: futures_util::Stream<Item = io::Result<Connection>> + Send,
{
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(256)
        .http2_max_header_list_size(16 * 1024)
        .timeout(CALL)
        .layer(access)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stopping.cancelled());
    let mut serving = std::pin::pin!(serving);
    // Whatever way this function is left, no connection outlives it.
    let _cut = cut.drop_guard();
    tokio::select! {
        ended = &mut serving => return ended,
        () = shutdown => stop.cancel(),
    }
    timeout(GRACE, serving).await.unwrap_or(Ok(()))
}

/// The connections of a listener, handshakes done. Dropping it stops accepting.
struct Incoming {
    ready: mpsc::Receiver<Connection>,
    task: JoinHandle<()>,
}

impl futures_util::Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn incoming(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
    cut: CancellationToken,
) -> Incoming {
    let (sender, ready) = mpsc::channel(64);
    let doorman = Doorman {
        acceptor: TlsAcceptor::from(tls),
        rooms: Rooms::new(&limits),
        limits,
        cut,
        ready: sender,
    };
    Incoming { ready, task: tokio::spawn(accept(listener, Arc::new(doorman))) }
}

async fn accept(listener: TcpListener, doorman: Arc<Doorman>) {
    let mut under_way: VecDeque<(Instant, AbortHandle)> = VecDeque::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: going on at once would only burn the CPU.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        under_way.retain(|(_, handshake)| !handshake.is_finished());
        if under_way.len() >= doorman.limits.handshakes {
            match under_way.front() {
                Some((since, oldest)) if since.elapsed() >= doorman.limits.patience => {
                    oldest.abort();
                    under_way.pop_front();
                }
                _ => continue,
            }
        }
        let doorman = Arc::clone(&doorman);
        let handshake = tokio::spawn(async move { doorman.admit(stream, address).await });
        under_way.push_back((Instant::now(), handshake.abort_handle()));
    }
}

struct Doorman {
    acceptor: TlsAcceptor,
    rooms: Rooms,
    limits: Limits,
    cut: CancellationToken,
    ready: mpsc::Sender<Connection>,
}

impl Doorman {
    async fn admit(&self, stream: TcpStream, address: SocketAddr) {
        match timeout(self.limits.handshake, self.handshake(stream, address)).await {
            Ok(Ok(connection)) => {
                // Fails only when the server is shutting down.
                let _ = self.ready.send(connection).await;
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "a connection was refused"),
            Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
        }
    }

    async fn handshake(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let stream = self.acceptor.accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = match certificate {
            None => Identity::Stranger,
            Some(der) => {
                Identity::Node(NodeIdentity::of_certificate(der).map_err(io::Error::other)?)
            }
        };
        let place = self
            .rooms
            .enter(&identity)
            .ok_or_else(|| io::Error::other("there are too many connections"))?;
        let cut = self.cut.clone();
        let lifetime = match identity {
            Identity::Stranger => Some(self.limits.stranger_lifetime),
            Identity::Node(_) | Identity::LocalRoot => None,
        };
        let cut: Pin<Box<dyn Future<Output = ()> + Send>> = match lifetime {
            None => Box::pin(cut.cancelled_owned()),
            Some(lifetime) => Box::pin(async move {
                let _ = timeout(lifetime, cut.cancelled_owned()).await;
            }),
        };
        Ok(Connection {
            io: Io::Tls(Box::new(stream)),
            peer: Peer { identity, address: Some(address) },
            cut: Some(cut),
            _place: Some(place),
        })
    }
}

/// Who may still come in.
struct Rooms {
    nodes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    per_node: usize,
    held: Arc<Mutex<BTreeMap<NodeId, usize>>>,
}

/// A connection's place in a room, given back when dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    _of_node: Option<PlaceOfNode>,
}

struct PlaceOfNode {
    node: NodeId,
    held: Arc<Mutex<BTreeMap<NodeId, usize>>>,
}

impl Rooms {
    fn new(limits: &Limits) -> Self {
        Self {
            nodes: Arc::new(Semaphore::new(limits.nodes)),
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            per_node: limits.per_node,
            held: Arc::default(),
        }
    }

    /// `None` when there is no room.
    fn enter(&self, identity: &Identity) -> Option<Place> {
        let (room, _of_node) = match identity {
            Identity::Node(node) => (&self.nodes, Some(self.enter_as(node.id)?)),
            Identity::Stranger | Identity::LocalRoot => (&self.strangers, None),
        };
        Some(Place { _permit: Arc::clone(room).try_acquire_owned().ok()?, _of_node })
    }

    fn enter_as(&self, node: NodeId) -> Option<PlaceOfNode> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(node).or_default();
        if *count >= self.per_node {
            return None;
        }
        *count += 1;
        Some(PlaceOfNode { node, held: Arc::clone(&self.held) })
    }
}

impl Drop for PlaceOfNode {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.node);
            }
        }
    }
}
