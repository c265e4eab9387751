//! A watch: first what is in the file, then what happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::stream;
use weft_model::Generation;

use super::hub::{Hub, Subscription};
use super::{SharedFile, tables};
use crate::contract::{Batch, Watch, WatchItem};

/// How many revisions are read from the file at a time.
const CHUNK: usize = 256;

struct Watching {
    file: Arc<SharedFile>,
    live: Subscription,
    /// The newest revision that the reader has, or will have from `ready`.
    seen: u64,
    /// Read from the file, not yet handed over.
    ready: VecDeque<Batch>,
    ended: bool,
}

/// What to do next, in a watch.
enum Next {
    Item(WatchItem),
    End,
}

pub(super) fn start(file: Arc<SharedFile>, hub: &Hub, from: Generation) -> Watch {
    // Subscribed before anything is read, so that nothing falls in between.
    let live = hub.subscribe();
    let ready = VecDeque::new();
    let watching = Watching { file, live, seen: from.0, ready, ended: false };
    let items = stream::unfold(watching, |mut watching| async move {
        if watching.ended {
            return None;
        }
        match watching.next().await {
            Next::Item(item) => {
                watching.ended = item == WatchItem::Relist;
                Some((item, watching))
            }
            Next::End => None,
        }
    });
    Watch(items.boxed())
}

impl Watching {
    async fn next(&mut self) -> Next {
        if let Some(batch) = self.ready.pop_front() {
            return Next::Item(WatchItem::Batch(batch));
        }
        if self.seen < self.live.since {
            return self.replay().await;
        }
        if self.seen > self.live.since && !self.known().await {
            return Next::Item(WatchItem::Relist);
        }
        self.follow().await
    }

    /// The next revisions from the file.
    async fn replay(&mut self) -> Next {
        let (first, last) = (self.seen + 1, self.live.since);
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            file.with("read its history", |db| tables::history(db, first, last, CHUNK))
        });
        match read.await {
            Ok(Ok(batches)) => self.ready = batches.into(),
            Ok(Err(error)) => tracing::warn!(%error, "a watch has to re-list"),
            // The runtime is going down.
            Err(_) => return Next::End,
        }
        self.seen += self.ready.len() as u64;
        match self.ready.pop_front() {
            Some(batch) => Next::Item(WatchItem::Batch(batch)),
            None => Next::Item(WatchItem::Relist),
        }
    }

    /// Whether the revision to watch from exists. It may be newer than what was handed out when
    /// the watch began, as snapshots see a commit a moment before watchers do; but one that the
    /// file does not know of comes from another life of the cluster, say before a restore.
    async fn known(&mut self) -> bool {
        let file = self.file.clone();
        let read =
            tokio::task::spawn_blocking(move || file.with("read its revision", tables::revision));
        match read.await {
            Ok(Ok(newest)) if self.seen <= newest => {
                self.live.since = self.seen;
                true
            }
            _ => false,
        }
    }

    /// The next commit as it happens.
    async fn follow(&mut self) -> Next {
        loop {
            match self.live.queue.recv().await {
                Some(batch) if batch.revision.0 <= self.seen => {}
                Some(batch) if batch.revision.0 == self.seen + 1 => {
                    self.seen = batch.revision.0;
                    self.live.since = self.seen;
                    return Next::Item(WatchItem::Batch((*batch).clone()));
                }
                Some(_) => return Next::Item(WatchItem::Relist),
                None if self.live.behind.load(Ordering::Acquire) => {
                    return Next::Item(WatchItem::Relist);
                }
                None => return Next::End,
            }
        }
    }
}
