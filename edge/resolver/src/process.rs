//! The process from start to end.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use weft_dns::NameIndex;

use crate::config::Config;
use crate::control::{self, Command, Order};
use crate::instance::{self, Instance};
use crate::listen::Listeners;
use crate::privileges;
use crate::service::Service;
use crate::store::{News, Reader, StoreError};

/// How often the bridges are looked at, when all are there and when some are missing.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SOON: Duration = Duration::from_millis(100);

/// Why the resolver ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one of the same version runs on this node; all is well.
    #[error("a resolver of this version runs already")]
    Running,
    /// The lock, the control socket or the runtime cannot be had.
    #[error("{what} ({path}): {error}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What the resolver has done since it started, and where it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Its version.
    pub version: String,
    /// The generation of its names.
    pub generation: u64,
    /// How many networks it knows.
    pub networks: usize,
    /// How many addresses have names.
    pub addresses: usize,
    /// How many gateway addresses it answers at.
    pub listening: usize,
    /// Where it should answer and does not, as `ADDRESS on BRIDGE`, and why.
    pub silent: BTreeMap<String, String>,
    /// What became of the queries, by outcome.
    pub counters: BTreeMap<String, u64>,
}

/// Runs the resolver in a process of its own until it is stopped: with one thread, and with no
/// more privileges than it needs.
///
/// # Errors
/// As [`run`].
pub fn serve(config: Config) -> Result<(), Error> {
    let start = |what| {
        let path = config.state.clone();
        move |error| Error::Start { what, path, error }
    };
    if let Err(error) = privileges::raise_descriptors() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    privileges::drop_most().map_err(start("privileges cannot be dropped"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(start("the runtime cannot start"))?;
    runtime.block_on(run(config))
}

/// Runs the resolver until it is stopped, by command or signal. It answers from the names it finds
/// stored, with or without an agent. One of another version is replaced: this one's sockets open
/// before the other's close.
///
/// # Errors
/// If one of the same version runs, or the lock or the control socket cannot be had.
pub async fn run(config: Config) -> Result<(), Error> {
    let state_error = |what| {
        let path = config.state.clone();
        move |error| Error::Start { what, path, error }
    };
    let looked = instance::look(&config).map_err(state_error("the lock cannot be taken"))?;
    if matches!(looked, Instance::Same) {
        return Err(Error::Running);
    }
    let service = Arc::new(Service::new(&config, NameIndex::default()));
    let reader = Arc::new(Mutex::new(Reader::new(config.state.clone())));
    if let Err(error) = reload(&service, &reader).await {
        tracing::error!(%error, "starting without names");
    }
    let mut listeners = Listeners::new(Arc::clone(&service), config.port, config.limits.idle);
    listeners.settle();
    let lock = match looked {
        Instance::Ours(lock) => lock,
        Instance::Same => return Err(Error::Running),
        Instance::Other(predecessor) => {
            let replaced = spawn_blocking(|| predecessor.replace()).await;
            replaced
                .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
                .map_err(state_error("the other resolver does not leave"))?
        }
    };
    let socket = control::open(&config.control).map_err(|error| Error::Start {
        what: "the control socket cannot be opened",
        path: config.control.clone(),
        error,
    })?;
    let (sender, orders) = mpsc::channel(16);
    let controlling = tokio::spawn(control::serve(socket, sender));
    tracing::info!(version = config.version, generation = service.names().generation(), "running");
    let mut process = Process { config, service, reader, listeners };
    process.work(orders).await;
    process.listeners.close().await;
    controlling.abort();
    if let Err(error) = lock.release() {
        tracing::warn!(%error, "the lock ends with the process");
    }
    process.linger().await;
    Ok(())
}

struct Process {
    config: Config,
    service: Arc<Service>,
    reader: Arc<Mutex<Reader>>,
    listeners: Listeners,
}

impl Process {
    /// Obeys until told to stop.
    async fn work(&mut self, mut orders: mpsc::Receiver<Order>) {
        let mut terminate = signal(SignalKind::terminate()).ok();
        let mut interrupt = signal(SignalKind::interrupt()).ok();
        let mut next = Instant::now() + LOOK_SOON;
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = sleep_until(next) => {
                    self.listeners.settle();
                    next = Instant::now() + self.pause();
                    continue;
                }
                () = received(&mut terminate) => return,
                () = received(&mut interrupt) => return,
            };
            let Some((command, reply)) = order else { return };
            let said = self.obey(command).await;
            next = next.min(Instant::now() + self.pause());
            // Whoever asked may be gone; what was asked for is done all the same.
            let _heard = reply.send(said);
            if command == Command::Stop {
                // Lets the reply get out.
                sleep(Duration::from_millis(1)).await;
                return;
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.listeners.errors().is_empty() { LOOK } else { LOOK_SOON }
    }

    async fn obey(&mut self, command: Command) -> String {
        match command {
            Command::Version => format!("ok {}", self.config.version),
            Command::Stop => "ok".to_owned(),
            Command::Stats => serde_json::to_string(&self.stats())
                .map_or_else(|error| format!("error {error}"), |text| format!("ok {text}")),
            Command::Reload => {
                let reloaded = reload(&self.service, &self.reader).await;
                self.listeners.settle();
                match reloaded {
                    Ok(generation) => format!("ok {generation}"),
                    Err(error) => {
                        tracing::error!(%error, "the names stay as they were");
                        format!("error {}", error.to_string().replace('\n', " "))
                    }
                }
            }
        }
    }

    fn stats(&self) -> Stats {
        let names = self.service.names();
        let silent = self.listeners.errors().iter();
        Stats {
            version: self.config.version.clone(),
            generation: names.generation(),
            networks: names.networks(),
            addresses: names.addresses(),
            listening: self.listeners.open(),
            silent: silent
                .map(|((bridge, address), why)| (format!("{address} on {bridge}"), why.clone()))
                .collect(),
            counters: self.service.counters.snapshot(),
        }
    }

    /// Lets what waits for upstream servers come to its end.
    async fn linger(&self) {
        let end = Instant::now() + 3 * self.config.limits.patience;
        while !self.service.fairness.idle() && Instant::now() < end {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Gives the memory that reading a table took back to the system.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes no pointer and keeps every allocation that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes up what is new on disk, beside the answering of queries; returns the generation.
async fn reload(service: &Arc<Service>, reader: &Arc<Mutex<Reader>>) -> Result<u64, StoreError> {
    let (service, reader) = (Arc::clone(service), Arc::clone(reader));
    let load = move || {
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        match reader.news()? {
            News::Table(new) => {
                let old = service.change_names(|names| std::mem::replace(names, *new));
                drop(old);
                give_back();
            }
            News::Patches(patches) => service.change_names(|names| {
                patches.into_iter().try_for_each(|patch| names.apply(patch))
            })?,
        }
        let names = service.names();
        service.fairness.keep(|bridge, source| names.asker(bridge, source).is_some());
        Ok(names.generation())
    };
    match spawn_blocking(load).await {
        Ok(loaded) => loaded,
        Err(error) => Err(StoreError::File { path: PathBuf::new(), error: error.into() }),
    }
}
