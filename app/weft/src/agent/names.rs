//! Keeps the resolver process running and its table current.
//!
//! The resolver outlives this daemon: the one of its next life finds it by its control socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use weft_dns::NameTable;
use weft_model::Generation;
use weft_resolver::{Client, ClientError, Config};

use super::driver::{Progress, WantedNames};

/// The resolver of this version replaces one of another.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long to wait before the resolver is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long names wait for the kernel.
const KERNEL: Duration = Duration::from_secs(1);

/// The resolver, as the daemon sees it.
pub(crate) struct Names {
    config: Config,
    client: Mutex<Client>,
    handed: watch::Sender<Handed>,
}

/// How far the resolver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Handed {
    /// Whether it answered when last asked.
    pub(crate) up: bool,
    /// Number of the newest view whose names it has.
    pub(crate) sequence: u64,
    /// The cluster generation of that view.
    pub(crate) generation: Generation,
}

/// How the resolver is set up, by the directory for what need not survive a reboot.
pub(crate) fn resolver_config(run_dir: &Path, resolv_conf: &Path) -> Config {
    let (state, control) = (run_dir.join("resolver"), run_dir.join("resolver.sock"));
    Config { resolv_conf: resolv_conf.to_owned(), ..Config::new(state, control, VERSION) }
}

impl Names {
    pub(crate) fn new(run_dir: &Path, resolv_conf: &Path) -> Self {
        let config = resolver_config(run_dir, resolv_conf);
        let client = Client::new(config.state.clone(), config.control.clone());
        Self { config, client: Mutex::new(client), handed: watch::Sender::new(Handed::default()) }
    }

    /// How far the resolver is.
    pub(crate) fn handed(&self) -> watch::Receiver<Handed> {
        self.handed.subscribe()
    }

    /// Whether the resolver answered when last asked.
    pub(crate) fn is_up(&self) -> bool {
        self.handed.borrow().up
    }

    /// Waits until the resolver has the names of view `sequence`, for `limit` at most. A resolver
    /// that is down is not waited for: it begins with the newest names.
    pub(crate) async fn reached(&self, sequence: u64, limit: Duration) {
        let mut handed = self.handed.subscribe();
        let wait = handed.wait_for(|h| !h.up || h.sequence >= sequence);
        // Whether it came in time or not, the caller goes on.
        let _ = tokio::time::timeout(limit, wait).await;
    }

    /// Hands every new table over, and starts the resolver whenever it is not there.
    /// A table goes out once the kernel holds what its names lead to: a name that is answered can
    /// be reached, and the bridge it is answered at is there.
    pub(crate) async fn keep(
        self: Arc<Self>,
        mut wanted: watch::Receiver<WantedNames>,
        mut progress: watch::Receiver<Arc<Progress>>,
    ) {
        // The first table is the empty one from before the first plan: nothing to hand over.
        if wanted.changed().await.is_err() {
            return;
        }
        let mut last: Option<Arc<NameTable>> = None;
        loop {
            let now = wanted.borrow_and_update().clone();
            let applied = progress.wait_for(|p| p.sequence >= now.sequence);
            // Whether the kernel came in time or not, names must not wait for a broken one.
            let _ = tokio::time::timeout(KERNEL, applied).await;
            let same = last.as_ref().is_some_and(|last| same_names(last, &now.table));
            let up = (same && self.is_up()) || self.hand_over_table(now.table.clone()).await;
            last = up.then_some(now.table);
            self.handed.send_replace(Handed {
                up,
                sequence: now.sequence,
                generation: now.generation,
            });
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.clone().until_gone(up) => last = None,
            }
        }
    }

    async fn hand_over_table(self: &Arc<Self>, table: Arc<NameTable>) -> bool {
        let names = self.clone();
        match tokio::task::spawn_blocking(move || names.hand_over(&table)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "names are not handed over");
                false
            }
            Err(error) => {
                tracing::error!(%error, "names are not handed over");
                false
            }
        }
    }

    fn hand_over(&self, table: &NameTable) -> Result<(), ClientError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match client.push(table) {
            Ok(_) if client.ping().is_ok_and(|version| version == VERSION) => return Ok(()),
            Ok(_) | Err(ClientError::Silent { .. }) => {}
            Err(error) => return Err(error),
        }
        // The table is stored, and the resolver that starts now begins with it.
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("weft"));
        let run_dir = self.config.control.parent().unwrap_or(Path::new("/"));
        let arguments = [
            "resolver".to_owned(),
            "--run-dir".to_owned(),
            run_dir.display().to_string(),
            "--resolv-conf".to_owned(),
            self.config.resolv_conf.display().to_string(),
        ];
        client.ensure(VERSION, &program, &arguments, &run_dir.join("resolver.log"))
    }

    /// Returns when the resolver has ended, or when it is time to try again.
    async fn until_gone(self: Arc<Self>, up: bool) {
        if !up {
            tokio::time::sleep(AGAIN).await;
            return;
        }
        let mut stream = match tokio::net::UnixStream::connect(&self.config.control).await {
            Ok(stream) => stream,
            Err(_) => return,
        };
        // The resolver never speaks first: whatever reading gives, the other end is gone.
        let _gone = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
        self.handed.send_modify(|handed| handed.up = false);
    }
}

/// Whether two tables differ in nothing but how far they are.
fn same_names(one: &NameTable, other: &NameTable) -> bool {
    one.networks == other.networks && one.askers == other.askers
}
