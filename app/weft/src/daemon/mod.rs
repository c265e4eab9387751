//! The daemon: one per host; the agent always, the server when this host was initialised as one.
//!
//! ```text
//!  run ──▶ local socket (always)
//!      ──▶ identity on disk? ──▶ server (if it is one) ──▶ agent ──▶ driver, uplink, names, facts
//! ```

mod addresses;
mod identity;
mod join;
mod local;
mod metrics;
mod mounts;
mod renew;
mod status;
mod traffic;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use weft_engine::{AgentStore, Embedded};
use weft_linux::{Hook, Linux};
use weft_model::Role;
use weft_rpc::tls::Certificates;
use weft_rpc::wire::local_server::LocalServer;

use crate::agent::driver::Driver;
use crate::agent::facts::Look;
use crate::agent::names::{Names, resolver_config};
use crate::agent::shortcut::{self, Shortcut};
use crate::agent::uplink::Uplink;
use crate::agent::{Agent, OwnNode, facts};
use crate::cli::{DaemonConfig, ShortcutSetting};
use crate::docker;
use crate::server;

use identity::{IdentityFiles, StoredIdentity};

/// The daemon, as the local socket sees it.
pub(crate) struct Daemon {
    config: DaemonConfig,
    identity: IdentityFiles,
    /// Held while this host becomes part of a cluster.
    entering: Mutex<()>,
    running: RwLock<Option<Arc<Running>>>,
}

/// What runs once the host is in a cluster.
struct Running {
    agent: Arc<Agent>,
    server: Option<server::Handle>,
    certificates: Arc<Certificates>,
    servers: watch::Sender<Vec<SocketAddr>>,
    tasks: Mutex<JoinSet<()>>,
}

/// How much Docker's client may log, whatever else is logged.
const DOCKERS_ANSWERS: &str = "bollard=info";

/// Runs the daemon until it is told to stop. Stopping leaves the kernel and the resolver as they are.
///
/// # Errors
/// When the socket, the state directory or the identity cannot be used.
pub(crate) fn run(config: DaemonConfig) -> anyhow::Result<()> {
    init_log(&config.log, config.log_json)?;
    if config.own_mounts {
        mounts::make_sysctls_writable().context("cannot make /proc/sys writable")?;
    }
    // Or what a thread freed before it fell asleep would stay: the start of the shortcut reads all of the
    // kernel's type information.
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "freed memory is given back late");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(config));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

fn init_log(filter: &str, json: bool) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("'{filter}' is not a log filter, as --log takes one"))?
        // What it hears of containers, it would log whole: their environment is full of secrets.
        .add_directive(DOCKERS_ANSWERS.parse().context("the log filter's own part")?);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.init();
    }
    Ok(())
}

/// Runs the resolver process of this host until it is told to stop.
///
/// # Errors
/// When its sockets or its directory cannot be used.
pub(crate) fn resolver(run_dir: &Path, resolv_conf: &Path) -> anyhow::Result<()> {
    init_log("info", false)?;
    Ok(weft_resolver::serve(resolver_config(run_dir, resolv_conf))?)
}

async fn serve(config: DaemonConfig) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("cannot make {}", config.run_dir.display()))?;
    if let Some(parent) = config.socket.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let listener = weft_rpc::local::open(&config.socket).await?;
    let identity = IdentityFiles::open(&config.state_dir)?;
    let daemon =
        Arc::new(Daemon { config, identity, entering: Mutex::new(()), running: RwLock::new(None) });
    match daemon.identity.load()? {
        Some(stored) => {
            daemon.start(stored).await.context("cannot start as the node this host is")?;
        }
        // It may have been a node before, and left.
        None => shortcut::remove_left(&daemon.shortcut_wish(), None),
    }
    if let Some(plugin) = daemon.config.docker_plugin.clone() {
        let (engine, root) =
            (daemon.config.docker_socket.clone(), daemon.config.docker_root.clone());
        let sockets = docker::Sockets { plugin, engine, root };
        // A host need not have Docker, and everything else works without.
        if let Err(error) = docker::start(daemon.clone(), &sockets).await {
            let socket = sockets.plugin.display();
            tracing::warn!(%socket, %error, "Docker is not served; --docker-plugin off says that it need not be");
        }
    }
    if let Some(address) = daemon.config.metrics {
        let metered = daemon.clone();
        tokio::spawn(async move {
            if let Err(error) = metrics::serve(metered, address).await {
                tracing::error!(%address, %error, "metrics are not served");
            }
        });
    }
    let service = LocalServer::new(local::LocalService { daemon: daemon.clone() });
    let routes = tonic::service::Routes::new(service);
    // Absent outside of systemd, which is no error.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(socket = %daemon.config.socket.display(), "ready");
    weft_rpc::local::serve(listener, local::access(), routes, stopped()).await?;
    daemon.stop().await;
    Ok(())
}

/// Resolves when the process is told to end.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Daemon {
    /// The agent, once this host is in a cluster.
    pub(crate) fn agent(&self) -> Option<Arc<Agent>> {
        self.current().map(|running| running.agent.clone())
    }

    fn current(&self) -> Option<Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the resolver answered when last asked.
    pub(crate) fn resolver_is_up(&self) -> bool {
        self.current().is_some_and(|running| running.agent.names.is_up())
    }

    fn shortcut_wish(&self) -> shortcut::Wish {
        let hook = match self.config.shortcut {
            ShortcutSetting::Auto => Some(Hook::Auto),
            ShortcutSetting::Clsact => Some(Hook::Clsact),
            ShortcutSetting::Off => None,
        };
        let (bpf_dir, run_dir) = (self.config.bpf_dir.clone(), self.config.run_dir.clone());
        shortcut::Wish { hook, bpf_dir, run_dir }
    }

    /// Starts everything for a host that is in a cluster.
    async fn start(self: &Arc<Self>, stored: StoredIdentity) -> anyhow::Result<()> {
        let config = &self.config;
        let key = stored.key.to_pem();
        let node = stored.node.clone();
        let certificates = Certificates::new(&stored.certificate, &stored.ca_certificate, &key)?;
        let server = match node.role {
            Role::Server => Some(self.start_server(&stored, certificates.clone()).await?),
            Role::Agent | Role::Operator => None,
        };
        let me = OwnNode {
            cluster: node.cluster,
            node: node.id,
            data_address: node.data_address,
            vxlan_port: config.vxlan_port,
        };
        let mut linux = Linux::open().context("cannot speak with the kernel")?;
        let wish = self.shortcut_wish();
        let started = tokio::task::spawn_blocking(move || {
            let shortcut = Shortcut::start(&mut linux, node.id, &wish);
            (linux, shortcut)
        });
        let (linux, shortcut) = started.await?;
        let look = Arc::new(Look::default());
        let wake = look.clone();
        let driver = Driver::start(linux, move || wake.host.notify_one())
            .context("cannot start the driver")?;
        let store = Arc::new(AgentStore::open(config.state_dir.join("agent.redb"))?);
        let names = Arc::new(Names::new(&config.run_dir, &config.resolv_conf));
        let agent = Agent::start(me, store, driver, Uplink::new(), names.clone(), shortcut, look)?;
        let tls =
            weft_rpc::tls::client(certificates.clone(), &stored.ca_certificate, node.cluster)?;
        let servers = watch::Sender::new(node.servers.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(Uplink::run(agent.clone(), tls, servers.subscribe()));
        tasks.spawn(agent.clone().keep_published());
        tasks.spawn(agent.clone().keep_house());
        tasks.spawn(facts::keep(agent.clone()));
        tasks.spawn(names.keep(agent.driver.names(), agent.progress()));
        let running =
            Arc::new(Running { agent, server, certificates, servers, tasks: Mutex::new(tasks) });
        running.tasks.lock().await.spawn(renew::keep(self.clone(), running.clone()));
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    /// Starts the server over the state engine in the state directory. Its own certificate is
    /// renewed first if it has ended: nobody else could.
    async fn start_server(
        &self,
        stored: &StoredIdentity,
        certificates: Arc<Certificates>,
    ) -> anyhow::Result<server::Handle> {
        let path = self.config.state_dir.join("cluster.redb");
        let engine = tokio::task::spawn_blocking(move || Embedded::open(path)).await??;
        let advertised = stored.node.servers.first().copied();
        let advertised =
            advertised.unwrap_or((stored.node.data_address, self.config.listen.port()).into());
        let settings = server::Settings {
            lifetime: self.config.certificate_lifetime,
            ..server::Settings::new(advertised)
        };
        let handle =
            server::start(engine, self.config.listen, certificates.clone(), settings).await?;
        if certificates.identity().is_ok_and(|identity| identity.not_after <= renew::now()) {
            let renewed = handle.renew_own(&stored.key.signing_request()?).await?;
            let key = stored.key.to_pem();
            certificates.replace(&renewed.certificate, &renewed.ca_certificate, &key)?;
            self.identity.keep_certificate(&renewed.certificate)?;
        }
        Ok(handle)
    }

    /// Ends what runs; the kernel and the resolver stay as they are.
    async fn stop(&self) {
        let Some(running) = self.running.write().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        running.tasks.lock().await.abort_all();
        running.agent.driver.stop();
        if let Some(server) = &running.server {
            server.shutdown().await;
        }
    }
}
