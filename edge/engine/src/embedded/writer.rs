//! The one thread that writes.

use std::sync::Arc;

use redb::{Database, Durability, ReadableTable, Table};
use tokio::sync::{mpsc, oneshot};
use weft_model::{Generation, RowKey};
use weft_state::{Transaction, Write};

use super::hub::Hub;
use super::tables::{self, COMPACTED, HISTORY, META, REVISION, ROWS};
use super::{SharedFile, storage};
use crate::contract::{Batch, EngineError};

pub(super) const ACTION: &str = "commit";
/// The most requests in one commit: what comes later waits for the next, a few milliseconds.
const GROUP: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What the writer is asked to do.
pub(super) enum Request {
    Transact(Transaction, Reply<Generation>),
    Compact(Generation, Reply<()>),
}

pub(super) struct Writer {
    pub(super) file: Arc<SharedFile>,
    pub(super) hub: Arc<Hub>,
    pub(super) keep: u64,
}

/// What became of a transaction in a group, once the group is on disk.
enum Verdict {
    /// It has this revision; or, without writes, this one is the newest.
    Done(Generation),
    /// This row was not as expected.
    Conflict(RowKey),
}

/// The failure of a whole group, told to each of its members.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct GroupFailure(String);

impl Writer {
    /// Works until nobody can ask any more and everything asked is done.
    pub(super) fn run(self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP {
                match queue.try_recv() {
                    Ok(next) => group.push(next),
                    Err(_) => break,
                }
            }
            self.serve(group);
        }
    }

    fn serve(&self, group: Vec<Request>) {
        let committed = self.file.with(ACTION, |database| self.commit(database, &group));
        let (verdicts, batches) = match committed {
            Ok(committed) => committed,
            Err(error) => return refuse(group, &error),
        };
        // Watchers first: whoever is answered finds its own commit on its way to everybody.
        self.hub.publish(batches);
        for (request, verdict) in group.into_iter().zip(verdicts) {
            match (request, verdict) {
                (Request::Transact(_, reply), Verdict::Done(revision)) => {
                    drop(reply.send(Ok(revision)));
                }
                (Request::Transact(_, reply), Verdict::Conflict(key)) => {
                    drop(reply.send(Err(EngineError::Conflict(key))));
                }
                (Request::Compact(_, reply), _) => drop(reply.send(Ok(()))),
            }
        }
    }

    fn commit(
        &self,
        database: &Database,
        group: &[Request],
    ) -> Result<(Vec<Verdict>, Vec<Batch>), redb::Error> {
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        let mut verdicts = Vec::with_capacity(group.len());
        let mut batches = Vec::new();
        let changed = {
            let mut open = Open {
                rows: txn.open_table(ROWS)?,
                history: txn.open_table(HISTORY)?,
                meta: txn.open_table(META)?,
            };
            let (old, old_compacted) = (open.number(REVISION)?, open.number(COMPACTED)?);
            let (mut revision, mut compacted) = (old, old_compacted);
            for request in group {
                match request {
                    Request::Transact(transaction, _) => {
                        let verdict = open.transact(transaction, &mut revision, &mut batches)?;
                        verdicts.push(verdict);
                    }
                    Request::Compact(upto, _) => {
                        compacted = compacted.max(upto.0.min(revision));
                        verdicts.push(Verdict::Done(Generation(revision)));
                    }
                }
            }
            // Some slack, so that not every commit has to clean up.
            if revision - compacted > self.keep + self.keep / 4 {
                compacted = revision - self.keep;
            }
            open.meta.insert(REVISION, revision)?;
            open.meta.insert(COMPACTED, compacted)?;
            if compacted != old_compacted {
                open.history.retain_in(..=compacted, |_, _| false)?;
            }
            (old, old_compacted) != (revision, compacted)
        };
        if changed {
            txn.commit()?
        } else {
            txn.abort()?
        }
        Ok((verdicts, batches))
    }
}

/// The tables, open for writing.
struct Open<'txn> {
    rows: Table<'txn, &'static str, (u64, &'static [u8])>,
    history: Table<'txn, u64, &'static [u8]>,
    meta: Table<'txn, &'static str, u64>,
}

impl Open<'_> {
    fn number(&self, key: &str) -> Result<u64, redb::Error> {
        Ok(self.meta.get(key)?.map_or(0, |v| v.value()))
    }

    /// Writes everything of `transaction`, or nothing.
    fn transact(
        &mut self,
        transaction: &Transaction,
        revision: &mut u64,
        batches: &mut Vec<Batch>,
    ) -> Result<Verdict, redb::Error> {
        for precondition in &transaction.preconditions {
            let key = precondition.key.to_string();
            let written = self.rows.get(key.as_str())?.map(|stored| stored.value().0);
            if written != precondition.written.map(|g| g.0) {
                return Ok(Verdict::Conflict(precondition.key));
            }
        }
        if transaction.writes.is_empty() {
            return Ok(Verdict::Done(Generation(*revision)));
        }
        *revision += 1;
        let mut changes = Vec::new();
        for write in &transaction.writes {
            let key = write.key().to_string();
            match write {
                Write::Put(row) => {
                    let value = row.value();
                    tables::encode(&mut changes, &key, Some(&value));
                    self.rows.insert(key.as_str(), (*revision, value.as_slice()))?;
                }
                Write::Delete(_) => {
                    tables::encode(&mut changes, &key, None);
                    self.rows.remove(key.as_str())?;
                }
            }
        }
        self.history.insert(*revision, changes.as_slice())?;
        let revision = Generation(*revision);
        batches.push(Batch { revision, changes: transaction.writes.clone() });
        Ok(Verdict::Done(revision))
    }
}

/// Tells everybody in the group that it failed.
fn refuse(group: Vec<Request>, error: &EngineError) {
    let cause = std::error::Error::source(error);
    let failure = GroupFailure(cause.map_or_else(|| error.to_string(), ToString::to_string));
    tracing::error!(error = %failure, "the state engine cannot commit");
    for request in group {
        match request {
            Request::Transact(_, reply) => {
                drop(reply.send(Err(storage(ACTION, failure.clone()))));
            }
            Request::Compact(_, reply) => {
                drop(reply.send(Err(storage("compact", failure.clone()))));
            }
        }
    }
}
