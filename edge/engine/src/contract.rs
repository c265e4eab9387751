//! What every state engine promises.

use weft_model::{Generation, Row, RowKey};
use weft_state::{Transaction, Write};

/// A transactional, watchable store of rows.
///
/// * Revisions count commits: each one is greater than all before, and all writes of a
///   transaction have the same.
/// * A transaction happens whole or not at all. When `transact` has answered `Ok`, it survives
///   the death of the process and of the machine.
/// * A snapshot is the state at one revision. A watch from that revision continues it without a
///   gap, or says so ([`WatchItem::Relist`]).
pub trait Engine: Send + Sync + 'static {
    /// Commits, if all preconditions hold at this moment. A transaction without writes is checked
    /// only: it makes no commit, and the answer is the newest revision.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when one does not, and then nothing happened; [`EngineError::Storage`].
    fn transact(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<Generation, EngineError>> + Send;

    /// Everything at the newest revision.
    ///
    /// # Errors
    /// [`EngineError::Storage`].
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, EngineError>> + Send;

    /// All commits after `from`, in order. When some of them are not kept any more, or the
    /// reader falls too far behind, or `from` does not exist, the last item is
    /// [`WatchItem::Relist`]. Without it the watch ends only when the engine is closed.
    fn watch(&self, from: Generation) -> Watch;

    /// Forgets the history up to and including `upto` (not the rows): watches from before must re-list.
    ///
    /// # Errors
    /// [`EngineError::Storage`].
    fn compact(&self, upto: Generation) -> impl Future<Output = Result<(), EngineError>> + Send;
}

/// Everything at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision.
    pub revision: Generation,
    /// Every row with the revision it was last written at, guards included, in order of key text.
    pub rows: Vec<(Row, Generation)>,
}

/// One commit, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its revision.
    pub revision: Generation,
    /// Its changes.
    pub changes: Vec<Change>,
}

/// One row's change.
pub type Change = Write;

/// What a watch yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// The next commit.
    Batch(Batch),
    /// Something was missed: take a snapshot and watch from there. Nothing follows.
    Relist,
}

/// A running watch. Dropping it ends it.
pub struct Watch(pub futures_util::stream::BoxStream<'static, WatchItem>);

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A precondition did not hold: decide again on newer state.
    #[error("row '{0}' was changed by another transaction")]
    Conflict(RowKey),
    /// The storage failed; nothing was acknowledged.
    #[error("the state engine cannot {action}")]
    Storage {
        /// What it was doing.
        action: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
