//! Keeps the resolver process running and its table current.
//!
//! The resolver outlives this daemon: the one of its next life finds it by its control socket.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use weft_dns::NameTable;
use weft_resolver::{Client, ClientError, Config};

use crate::cli::DaemonConfig;

/// The resolver of this version replaces one of another.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long to wait before the resolver is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The resolver, as the daemon sees it.
pub(crate) struct Names {
    config: Config,
    client: Mutex<Client>,
    up: AtomicBool,
}

/// How the resolver is set up, by the directory for what need not survive a reboot.
pub(crate) fn resolver_config(run_dir: &Path, resolv_conf: &Path) -> Config {
    let (state, control) = (run_dir.join("resolver"), run_dir.join("resolver.sock"));
    Config { resolv_conf: resolv_conf.to_owned(), ..Config::new(state, control, VERSION) }
}

impl Names {
    pub(crate) fn new(config: &DaemonConfig) -> Self {
        let config = resolver_config(&config.run_dir, &config.resolv_conf);
        let client = Client::new(config.state.clone(), config.control.clone());
        Self { config, client: Mutex::new(client), up: AtomicBool::new(false) }
    }

    /// Whether the resolver answered when last asked.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Hands every new table over, and starts the resolver whenever it is not there.
    pub(crate) async fn keep(self: Arc<Self>, mut tables: watch::Receiver<Arc<NameTable>>) {
        // The first table is the empty one from before the first plan: nothing to hand over.
        if tables.changed().await.is_err() {
            return;
        }
        loop {
            let table = tables.borrow_and_update().clone();
            let names = self.clone();
            let done = tokio::task::spawn_blocking(move || names.hand_over(&table)).await;
            let up = match done {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "names are not handed over");
                    false
                }
                Err(error) => {
                    tracing::error!(%error, "names are not handed over");
                    false
                }
            };
            self.up.store(up, Ordering::Relaxed);
            let names = self.clone();
            tokio::select! {
                changed = tables.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = names.until_gone(up) => {}
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
        self.up.store(false, Ordering::Relaxed);
    }
}
