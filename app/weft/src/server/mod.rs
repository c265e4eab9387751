//! The server: holds the cluster state, and tells every node what it needs of it.
//!
//! ```text
//!   call ──▶ access table ──▶ service ──▶ Decider ──▶ apply(state, command)
//!                                              │                    │ transaction
//!                                              │  conflict: again   ▼
//!                                              └──────────────── engine
//!                                                                   │ watch
//!   node ◀── Follow: snapshot, patches ◀── Outbox ◀── Replica::fold ◀┘
//!   node ──▶ Follow: applied generation, faults, routes ──▶ Hub ──▶ AwaitApplied, Status
//! ```
//!
//! A server keeps nothing that the engine does not have, but for what nodes report while they
//! are connected.

mod admission;
mod convergence;
mod decider;
mod failure;
mod follow;
mod founding;
mod hub;
mod leases;
mod outbox;
mod replica;
mod service;
mod wish;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_engine::Engine;
use weft_model::Role;
use weft_rpc::access::AccessLayer;
use weft_rpc::ca::LIFETIME;
use weft_rpc::listen::{self, Limits};
use weft_rpc::tls::{self, Certificates};
use weft_rpc::wire;
use weft_rpc::wire::cluster_server::ClusterServer;

pub(crate) use failure::Failure;
pub(crate) use founding::{Initial, initialise};

use decider::Decider;
use hub::Hub;
use replica::Replica;
use service::Service;

/// How a server behaves. Every default is right for a cluster in use.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// What joining hosts are told to connect to.
    pub(crate) advertised: SocketAddr,
    /// How long the certificates it signs are good.
    pub(crate) lifetime: Duration,
    /// How often a node hears something even if nothing happens.
    pub(crate) heartbeat: Duration,
    /// How long a node that found no free address waits for others to give some back.
    pub(crate) recall: Duration,
    /// How many rows may wait for a slow node before it must begin anew.
    pub(crate) backlog: usize,
    /// Bounds on connections.
    pub(crate) limits: Limits,
}

impl Settings {
    pub(crate) fn new(advertised: SocketAddr) -> Self {
        Self {
            advertised,
            lifetime: LIFETIME,
            heartbeat: Duration::from_secs(5),
            recall: Duration::from_secs(2),
            backlog: 100_000,
            limits: Limits::default(),
        }
    }
}

/// What all parts of a server share.
struct Server {
    replica: Replica,
    decider: Decider,
    hub: Hub,
    settings: Settings,
}

/// A running server.
pub(crate) struct Handle {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    server: Arc<Server>,
    stop: CancellationToken,
    tasks: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// Starts a server over `engine`, which must hold a cluster. It listens on `listen` and shows
/// `certificates`; replacing what is in them takes effect at once.
///
/// # Errors
/// [`Failure`] when the engine cannot be read, holds no cluster, or the port cannot be had.
pub(crate) async fn start<E: Engine>(
    engine: E,
    listen: SocketAddr,
    certificates: Arc<Certificates>,
    settings: Settings,
) -> Result<Handle, Failure> {
    let replica = Replica::open(&engine).await?;
    let (cluster, authority) = replica
        .read(|state| {
            let cluster = state.cluster.as_ref().map(|cluster| cluster.id);
            cluster.zip(state.authority.as_ref().map(|a| a.certificate.clone()))
        })
        .ok_or_else(|| Failure::Internal("the state engine holds no cluster".to_owned()))?;
    let tls = tls::server(certificates, &authority, cluster).map_err(Failure::internal)?;
    let listener = TcpListener::bind(listen).await.map_err(|error| Failure::Unavailable {
        message: format!("cannot listen on {listen}: {error}"),
        hint: "choose another address or port with --listen".to_owned(),
    })?;
    let address = listener.local_addr().map_err(Failure::internal)?;
    tracing::info!(%address, "this host is a server");

    let limits = settings.limits;
    let (decider, queue) = decider::queue();
    let server = Arc::new(Server { replica, decider, hub: Hub::default(), settings });
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (server, stop) = (Arc::clone(&server), stop.clone());
        async move {
            // A server that does not keep up with the engine must not go on answering, whatever
            // it is that ended this.
            let _stop = stop.clone().drop_guard();
            tokio::select! {
                () = server.replica.follow(&engine, &server.hub) => {}
                () = queue.run(&server.replica, &engine) => {}
                () = stop.cancelled() => {}
            }
        }
    });
    let gate = AccessLayer::new({
        let server = Arc::clone(&server);
        Arc::new(move |id| {
            server.replica.read(|state| state.nodes.get(&id).is_none_or(|node| node.removed))
        })
    });
    let routes = tonic::service::Routes::new(ClusterServer::new(Service(Arc::clone(&server))));
    let serving = tokio::spawn({
        let (server, stop) = (Arc::clone(&server), stop.clone());
        async move {
            let stopped = async {
                stop.cancelled().await;
                server.hub.close_all();
            };
            let served = listen::serve(listener, tls, limits, gate, routes, stopped).await;
            if let Err(error) = served {
                tracing::error!(%error, "the server's port is not served any more");
            }
        }
    });
    let tasks = tokio::sync::Mutex::new(vec![following, serving]);
    Ok(Handle { address, server, stop, tasks })
}

impl Handle {
    /// A token to join with, as `weft init` prints it. `lifetime` in seconds.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn create_token(
        &self,
        role: Role,
        lifetime: u64,
    ) -> Result<wire::CreateTokenReply, Failure> {
        self.server.create_token(None, role, Duration::from_secs(lifetime)).await
    }

    /// A fresh certificate for this server's own key, without going over the network: the one it
    /// shows may have expired.
    ///
    /// # Errors
    /// [`Failure`] when no node of the cluster has this key.
    pub(crate) async fn renew_own(&self, request: &str) -> Result<wire::RenewReply, Failure> {
        self.server.renew(None, request)
    }

    /// Stops listening and ends all connections. Nodes go on with what they know.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        for task in self.tasks.lock().await.drain(..) {
            // Either it ended, or it panicked and that has been reported.
            let _ = task.await;
        }
        tracing::info!(address = %self.address, "this host serves no more");
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Seconds since 1970-01-01 UTC.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
