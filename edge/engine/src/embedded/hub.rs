//! Handing commits to watchers as they happen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::contract::Batch;

/// Where the writer tells of commits, and watchers listen.
#[derive(Debug)]
pub(super) struct Hub {
    queue: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The newest revision that was handed out.
    published: u64,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    queue: mpsc::Sender<Arc<Batch>>,
    behind: Arc<AtomicBool>,
}

/// A watcher's end.
pub(super) struct Subscription {
    /// Every commit after this revision comes through the queue; those up to it are in the file.
    pub(super) since: u64,
    /// The commits. It ends when the engine is closed or the watcher was too slow.
    pub(super) queue: mpsc::Receiver<Arc<Batch>>,
    /// Set when commits were left out.
    pub(super) behind: Arc<AtomicBool>,
}

impl Hub {
    pub(super) fn new(published: u64, queue: usize) -> Self {
        let inner = Inner { published, watchers: Vec::new() };
        Self { queue: queue.max(1), inner: Mutex::new(inner) }
    }

    pub(super) fn subscribe(&self) -> Subscription {
        let (sender, queue) = mpsc::channel(self.queue);
        let behind = Arc::new(AtomicBool::new(false));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.watchers.push(Watcher { queue: sender, behind: behind.clone() });
        Subscription { since: inner.published, queue, behind }
    }

    /// Hands out commits that are in the file. A watcher whose queue is full is dropped: it reads
    /// what it has, and then must re-list.
    pub(super) fn publish(&self, batches: Vec<Batch>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            inner.published = batch.revision.0;
            let batch = Arc::new(batch);
            inner.watchers.retain(|watcher| match watcher.queue.try_send(batch.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    watcher.behind.store(true, Ordering::Release);
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            });
        }
    }
}
