//! The state engine in one file, for a cluster with one server.
//!
//! One thread owns all writing. It takes what has queued up, commits it in one go, and so pays
//! for the disk once for many transactions; each has its own revision and is answered only when
//! the disk has it. Readers work on snapshots and wait for nobody.

mod hub;
mod tables;
mod watch;
mod writer;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::Database;
use tokio::sync::{mpsc, oneshot};
use weft_model::Generation;
use weft_state::Transaction;

use crate::contract::{Engine, EngineError, Snapshot, Watch};
use crate::file::{self, FileError};
use hub::Hub;
use writer::{Request, Writer};

/// How the embedded engine uses memory and disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Octets of pages kept in memory.
    pub cache: usize,
    /// At least this many of the newest revisions can be watched from; older ones are forgotten
    /// in due course.
    pub keep: u64,
    /// How many commits a watcher may fall behind before it must re-list.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache: 8 << 20, keep: 10_000, queue: 1024 }
    }
}

/// How many transactions may wait for the writer before `transact` itself waits.
const WAITING: usize = 1024;

/// The state engine in one file. Dropping it finishes what was begun, lets go of the file and ends
/// all watches; it may block for the time of one commit.
#[derive(Debug)]
pub struct Embedded {
    file: Arc<SharedFile>,
    hub: Arc<Hub>,
    /// `None` only while being dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

/// The open file. It is taken out when the engine is dropped, whoever still holds the shell.
#[derive(Debug)]
struct SharedFile(RwLock<Option<Database>>);

/// The engine was dropped meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("the engine was closed")]
struct Closed;

impl SharedFile {
    /// Runs `work` on the open file. Blocks.
    fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, EngineError> {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = guard.as_ref() else {
            return Err(EngineError::Storage { action, source: Box::new(Closed) });
        };
        work(database).map_err(|error| storage(action, error))
    }

    fn close(&self) {
        drop(self.0.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn storage(
    action: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    EngineError::Storage { action, source: source.into() }
}

impl Embedded {
    /// Opens the engine's file, or creates an empty one.
    ///
    /// # Errors
    /// [`EngineError::Storage`] with a [`FileError`] as its source.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open_with(path, Options::default())
    }

    /// [`Self::open`] with other than the usual options.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self, EngineError> {
        let path = path.as_ref();
        let database = file::open(path, options.cache).map_err(|e| storage("open its file", e))?;
        let head = tables::prepare(&database).map_err(|e| storage("prepare its file", e))?;
        if head.format > file::FORMAT {
            let newer = FileError::Newer { path: path.to_owned(), format: head.format };
            return Err(storage("open its file", newer));
        }
        let file = Arc::new(SharedFile(RwLock::new(Some(database))));
        let hub = Arc::new(Hub::new(head.revision, options.queue));
        let (requests, queue) = mpsc::channel(WAITING);
        let writer = Writer { file: file.clone(), hub: hub.clone(), keep: options.keep };
        let thread = std::thread::Builder::new().name("weft-engine".to_owned());
        let writer =
            thread.spawn(move || writer.run(queue)).map_err(|e| storage("start its writer", e))?;
        Ok(Self { file, hub, requests: Some(requests), writer: Some(writer) })
    }

    async fn request<T>(
        &self,
        action: &'static str,
        request: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Request,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let closed = || storage(action, Closed);
        let requests = self.requests.as_ref().ok_or_else(closed)?;
        requests.send(request(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the state engine's writer had died");
        }
        self.file.close();
    }
}

impl Engine for Embedded {
    async fn transact(&self, transaction: Transaction) -> Result<Generation, EngineError> {
        self.request(writer::ACTION, |reply| Request::Transact(transaction, reply)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, EngineError> {
        const ACTION: &str = "take a snapshot";
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || file.with(ACTION, tables::snapshot));
        let (revision, stored) = read.await.map_err(|e| storage(ACTION, e))??;
        let rows = tables::decode(stored).map_err(|e| storage(ACTION, e))?;
        Ok(Snapshot { revision, rows })
    }

    fn watch(&self, from: Generation) -> Watch {
        watch::start(self.file.clone(), &self.hub, from)
    }

    async fn compact(&self, upto: Generation) -> Result<(), EngineError> {
        self.request("compact", |reply| Request::Compact(upto, reply)).await
    }
}
