//! The uplink: one connection to a server, over which rows come down and reports go up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use weft_model::{Generation, Row, RowKey};
use weft_rpc::{rows, wire};
use weft_state::Write;

use super::Agent;
use super::driver::Progress;

/// A client of the cluster's servers.
pub(crate) type Client = weft_rpc::connect::Client;

/// Servers send at least a heartbeat every 5 s: silence for three of them is a dead connection.
const SILENCE: Duration = Duration::from_secs(15);

/// Why a connection ends that is to be made anew at once.
const RENEWED: &str = "the certificate was renewed";

/// Faults told to a server: with more of them, something is wrong that the first ones show.
const MOST_FAULTS: usize = 200;

/// How long a wish that needs a server waits for one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before trying again: at first, and at most. Jittered, so that the nodes of a
/// restarted server do not come all at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The state of the connection, for everybody who needs a server.
pub(crate) struct Uplink {
    client: watch::Sender<Option<Client>>,
    generation: watch::Sender<Generation>,
    last: Mutex<Last>,
    renewed: Notify,
}

/// What was tried last, for `weft status`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    pub(crate) server: Option<SocketAddr>,
    pub(crate) error: String,
}

impl Uplink {
    pub(crate) fn new() -> Self {
        Self {
            client: watch::Sender::new(None),
            generation: watch::Sender::new(Generation::default()),
            last: Mutex::new(Last::default()),
            renewed: Notify::new(),
        }
    }

    /// A client, while a server is connected.
    pub(crate) fn client(&self) -> Option<Client> {
        self.client.borrow().clone()
    }

    /// A client, as soon as a server is connected, within `limit`: a daemon that has just begun,
    /// or a server that has just come back, need a moment to find each other.
    pub(crate) async fn client_within(&self, limit: Duration) -> Option<Client> {
        let mut client = self.client.subscribe();
        let connected = client.wait_for(Option::is_some);
        tokio::time::timeout(limit, connected).await.ok()?.ok()?.clone()
    }

    /// Whether a server is connected and has sent everything.
    pub(crate) fn is_current(&self) -> bool {
        self.client.borrow().is_some()
    }

    /// How far the rows that have arrived have advanced.
    pub(crate) fn generation(&self) -> watch::Receiver<Generation> {
        self.generation.subscribe()
    }

    /// Has the connection made anew: a server knows a node by the certificate that its connection
    /// began with, and refuses it once that one has ended.
    pub(crate) fn on_renewed(&self) {
        self.renewed.notify_one();
    }

    /// What was tried last.
    pub(crate) fn last(&self) -> Last {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, server: SocketAddr, error: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Last { server: Some(server), error };
    }

    /// Keeps a connection up for as long as the process lives.
    pub(crate) async fn run(
        agent: Arc<Agent>,
        tls: Arc<ClientConfig>,
        servers: watch::Receiver<Vec<SocketAddr>>,
    ) {
        let mut backoff = BACKOFF.0;
        loop {
            let addresses = servers.borrow().clone();
            for address in addresses {
                let begun = Instant::now();
                let ended = follow(&agent, address, tls.clone()).await;
                agent.uplink.client.send_replace(None);
                tracing::info!(server = %address, reason = %ended, "not connected to a server");
                agent.uplink.note(address, ended.clone());
                if begun.elapsed() > Duration::from_secs(10) {
                    backoff = BACKOFF.0;
                }
                if ended == RENEWED {
                    break;
                }
                tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.5))).await;
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }
}

/// Follows one server until it ends, and says why it ended.
async fn follow(agent: &Arc<Agent>, address: SocketAddr, tls: Arc<ClientConfig>) -> String {
    let mut client = match weft_rpc::connect::cluster(address, tls).await {
        Ok(client) => client,
        Err(error) => return error.to_string(),
    };
    let (reports, outgoing) = mpsc::channel(16);
    let hello = wire::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
    if reports.send(report(wire::report::Kind::Hello(hello))).await.is_err() {
        return "the connection closed at once".to_owned();
    }
    let mut updates = match client.follow(ReceiverStream::new(outgoing)).await {
        Ok(updates) => updates.into_inner(),
        Err(status) => return weft_rpc::error::told(&status).message,
    };
    let mut follower = Follower { agent: agent.clone(), reports, said: Said::default() };
    let mut progress = agent.progress();
    let mut names = agent.names.handed();
    let mut current = false;
    let mut routes = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            // Both are cancel-safe: a message is either taken whole or left, a change is either
            // seen or still unseen.
            update = tokio::time::timeout(SILENCE, updates.message()) => {
                match update {
                    Err(_) => return format!("nothing heard for {} s", SILENCE.as_secs()),
                    Ok(Err(status)) => return weft_rpc::error::told(&status).message,
                    Ok(Ok(None)) => return "the server closed the connection".to_owned(),
                    Ok(Ok(Some(update))) => {
                        if let Err(reason) = follower.take(update).await {
                            return reason;
                        }
                        if !current && agent.state().complete {
                            current = true;
                            agent.uplink.note(address, String::new());
                            agent.uplink.client.send_replace(Some(client.clone()));
                            tracing::info!(server = %address, "connected");
                        }
                    }
                }
            }
            changed = async { tokio::select! { c = progress.changed() => c, c = names.changed() => c } } => {
                if changed.is_err() {
                    return "the driver has stopped".to_owned();
                }
                let now = progress.borrow_and_update().clone();
                if current && follower.say_applied(&now).await.is_err() {
                    return "the connection closed".to_owned();
                }
            }
            () = agent.uplink.renewed.notified() => {
                return RENEWED.to_owned();
            }
            _ = routes.tick() => {
                // What others' filters refuse comes and goes without the driver.
                let now = progress.borrow().clone();
                if current && follower.say_applied(&now).await.is_err() {
                    return "the connection closed".to_owned();
                }
                if follower.say_routes().await.is_err() {
                    return "the connection closed".to_owned();
                }
            }
        }
    }
}

struct Follower {
    agent: Arc<Agent>,
    reports: mpsc::Sender<wire::Report>,
    said: Said,
}

/// What was reported on this connection, to report only what is new.
#[derive(Default)]
struct Said {
    applied: Option<wire::Applied>,
    routes: Option<wire::HostRoutes>,
}

struct Closed;

impl Follower {
    async fn take(&mut self, update: wire::Update) -> Result<(), String> {
        match update.kind {
            Some(wire::update::Kind::Snapshot(snapshot)) => self.take_snapshot(snapshot).await?,
            Some(wire::update::Kind::Patch(patch)) => self.take_patch(patch).await?,
            Some(wire::update::Kind::Recall(recall)) => {
                let agent = self.agent.clone();
                tokio::spawn(async move { agent.on_recall(recall).await });
            }
            Some(wire::update::Kind::Heartbeat(_)) | None => {}
        }
        Ok(())
    }

    async fn take_snapshot(&mut self, snapshot: wire::Rows) -> Result<(), String> {
        let generation = Generation(snapshot.generation);
        let decoded: Result<Vec<Row>, _> = snapshot.rows.iter().map(rows::read).collect();
        let decoded = decoded.map_err(|e| e.to_string())?;
        {
            let mut state = self.agent.state();
            if !state.knowledge.replace(generation, decoded) {
                let known = state.knowledge.rows.generation;
                return Err(format!(
                    "the server is at generation {generation}, behind {known} that this node has seen: \
                     was it restored from a backup? remove this node and join again"
                ));
            }
            state.complete = true;
            state.exhausted.clear();
            self.agent.replan_locked(&mut state);
        }
        self.said = Said::default();
        self.agent.uplink.generation.send_replace(generation);
        self.agent.settle_returns();
        let agent = self.agent.clone();
        let pairs = snapshot.rows.into_iter().map(|r| (r.key, r.value.unwrap_or_default()));
        let pairs: Vec<(String, Vec<u8>)> = pairs.collect();
        written(
            tokio::task::spawn_blocking(move || agent.store.replace_rows(generation, pairs)).await,
        );
        Ok(())
    }

    async fn take_patch(&mut self, patch: wire::Rows) -> Result<(), String> {
        let generation = Generation(patch.generation);
        let changes = rows::read_changes(&patch.rows).map_err(|e| e.to_string())?;
        let leases = changes.iter().any(|change| {
            let key = match change {
                Write::Put(row) => row.key(),
                Write::Delete(key) => *key,
            };
            matches!(key, RowKey::Lease(..))
        });
        {
            let mut state = self.agent.state();
            if state.knowledge.patch(generation, changes) {
                if leases {
                    state.exhausted.clear();
                }
                self.agent.replan_locked(&mut state);
            }
        }
        self.agent.uplink.generation.send_replace(generation);
        if leases {
            self.agent.settle_returns();
        }
        let agent = self.agent.clone();
        let pairs: Vec<_> = patch.rows.into_iter().map(|r| (r.key, r.value)).collect();
        written(
            tokio::task::spawn_blocking(move || agent.store.patch_rows(generation, pairs)).await,
        );
        Ok(())
    }

    async fn say_applied(&mut self, progress: &Progress) -> Result<(), Closed> {
        let mut faults = self.agent.faults(progress);
        faults.truncate(MOST_FAULTS);
        // Applied is what can be reached by name too, unless there is no resolver to wait for.
        let handed = *self.agent.names.handed().borrow();
        let generation = if handed.up {
            progress.generation.min(handed.generation)
        } else {
            progress.generation
        };
        let applied = wire::Applied { generation: generation.0, faults };
        if self.said.applied.as_ref() == Some(&applied) {
            return Ok(());
        }
        self.said.applied = Some(applied.clone());
        self.say(wire::report::Kind::Applied(applied)).await
    }

    async fn say_routes(&mut self) -> Result<(), Closed> {
        let routes = {
            let state = self.agent.state();
            state
                .facts
                .routes
                .iter()
                .map(|(prefix, link)| wire::HostRoute {
                    prefix: prefix.to_string(),
                    link: link.clone(),
                })
                .collect()
        };
        let routes = wire::HostRoutes { routes };
        if self.said.routes.as_ref() == Some(&routes) {
            return Ok(());
        }
        self.said.routes = Some(routes.clone());
        self.say(wire::report::Kind::HostRoutes(routes)).await
    }

    async fn say(&self, kind: wire::report::Kind) -> Result<(), Closed> {
        self.reports.send(report(kind)).await.map_err(|_| Closed)
    }
}

impl Agent {
    /// What the kernel refused, what others' filters refuse, and what the servers refuse about
    /// endpoints of this host.
    pub(crate) fn faults(&self, progress: &Progress) -> Vec<wire::ObjectFault> {
        let of_kernel = progress.faults.iter().map(|f| wire::ObjectFault {
            object: f.key.to_string(),
            message: f.fault.to_string(),
            hint: f.fault.hint.clone(),
        });
        let refusing = self.state().refusing.clone();
        let of_others = refusing.iter().map(super::facts::advice);
        of_kernel.chain(of_others).chain(self.refused_endpoints()).collect()
    }

    fn refused_endpoints(&self) -> Vec<wire::ObjectFault> {
        let state = self.state();
        let named = |id| {
            let attachment = state.knowledge.attachments.get(id);
            attachment.map_or_else(String::new, |a| a.endpoint.name.to_string())
        };
        state
            .refused
            .iter()
            .map(|(id, rejection)| wire::ObjectFault {
                object: format!("endpoint {}", named(id)),
                message: rejection.message.clone(),
                hint: rejection.hint.clone(),
            })
            .collect()
    }
}

const fn report(kind: wire::report::Kind) -> wire::Report {
    wire::Report { kind: Some(kind) }
}

/// Rows on disk are a convenience: a full disk must not stop the network.
pub(super) fn written(
    result: Result<Result<(), weft_engine::agent_store::StoreError>, tokio::task::JoinError>,
) {
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "rows not kept on disk"),
        Err(error) => tracing::warn!(%error, "rows not kept on disk"),
    }
}
