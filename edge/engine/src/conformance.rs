//! What every backend must prove: the contract as tests, generic over the backend.
//!
//! A backend joins with one line in a test crate: `weft_engine::conformance!(embedded, MyBackend);`
//! Each proof looks at the engine from outside only. The checker of watches keeps its own books
//! (what was acknowledged, at which revision) and compares them with what watchers were told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "proofs fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use weft_model::{ClusterState, Generation, Role, Row, RowKey, Token, TokenId};
use weft_state::{Precondition, Transaction, Write, fold};

use crate::contract::{Batch, Engine, EngineError, Snapshot, Watch, WatchItem};

/// A kind of engine, and where it keeps its rows.
pub trait Backend: Send + Sync + Sized + 'static {
    /// The engine.
    type Engine: Engine;
    /// A place of its own, with nothing in it.
    fn fresh() -> impl Future<Output = Self> + Send;
    /// An engine on that place. Called again after the one before was dropped.
    fn open(&self) -> impl Future<Output = Self::Engine> + Send;
}

/// Makes one test per proof for a backend.
#[macro_export]
macro_rules! conformance {
    ($name:ident, $backend:ty) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance!(@proofs $backend,
                begins_empty, writes_are_whole, preconditions_hold, conflicts_change_nothing,
                nothing_to_write_is_no_commit, rows_remember_their_revision,
                concurrent_increments_all_count, watches_have_no_gaps, a_watch_replays_then_follows,
                compacted_watches_relist, a_watch_from_the_future_relists,
                a_slow_reader_is_never_fooled, a_dropped_watch_harms_nobody,
                everything_survives_reopening,
            );
        }
    };
    (@proofs $backend:ty, $($proof:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $proof() {
            $crate::conformance::$proof::<$backend>().await;
        }
    )*};
}

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A row to write: `value` is all that matters.
pub fn row(id: u64, value: u64) -> Row {
    let secret_digest = format!("{id:064x}");
    let (id, role) = (TokenId(id), Role::Agent);
    Row::Token(Token { id, secret_digest, role, expires_at: value, revoked: false })
}

/// The key of [`row`].
pub fn key(id: u64) -> RowKey {
    RowKey::Token(TokenId(id))
}

fn put(id: u64, value: u64) -> Transaction {
    Transaction { preconditions: Vec::new(), writes: vec![Write::Put(row(id, value))] }
}

fn when(mut transaction: Transaction, id: u64, written: Option<Generation>) -> Transaction {
    transaction.preconditions.push(Precondition { key: key(id), written });
    transaction
}

fn state_of(snapshot: &Snapshot) -> ClusterState {
    let mut state = ClusterState { generation: snapshot.revision, ..ClusterState::default() };
    for (row, written) in &snapshot.rows {
        state.put(row.clone(), *written);
    }
    state
}

async fn next(watch: &mut Watch) -> Option<WatchItem> {
    tokio::time::timeout(SOON, watch.0.next()).await.expect("the watch says nothing")
}

async fn next_batch(watch: &mut Watch) -> Batch {
    match next(watch).await {
        Some(WatchItem::Batch(batch)) => batch,
        other => panic!("expected a batch, got {other:?}"),
    }
}

async fn expect_relist(watch: &mut Watch) {
    assert_eq!(next(watch).await, Some(WatchItem::Relist));
    assert_eq!(next(watch).await, None, "nothing follows a relist");
}

/// A new engine holds no rows, and its snapshot can be watched from.
pub async fn begins_empty<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let snapshot = engine.snapshot().await.unwrap();
    assert_eq!(snapshot.rows, []);
    let mut watch = engine.watch(snapshot.revision);
    let revision = engine.transact(put(1, 1)).await.unwrap();
    assert!(revision > snapshot.revision);
    let changes = vec![Write::Put(row(1, 1))];
    assert_eq!(next_batch(&mut watch).await, Batch { revision, changes });
}

/// All writes of a transaction have one revision, in snapshots and in watches.
pub async fn writes_are_whole<B: Backend>() {
    let engine = B::fresh().await.open().await;
    engine.transact(put(3, 0)).await.unwrap();
    let before = engine.snapshot().await.unwrap();
    let mut watch = engine.watch(before.revision);
    let writes = vec![Write::Put(row(1, 1)), Write::Put(row(2, 2)), Write::Delete(key(3))];
    let transaction = Transaction { preconditions: Vec::new(), writes: writes.clone() };
    let revision = engine.transact(transaction).await.unwrap();
    let after = engine.snapshot().await.unwrap();
    assert_eq!(after.revision, revision);
    assert_eq!(after.rows, [(row(1, 1), revision), (row(2, 2), revision)]);
    let batch = next_batch(&mut watch).await;
    assert_eq!(batch.revision, revision);
    let order = |writes: &[Write]| writes.iter().map(|w| (w.key(), w.clone())).collect::<Vec<_>>();
    let (mut told, mut made) = (order(&batch.changes), order(&writes));
    told.sort_by_key(|(key, _)| *key);
    made.sort_by_key(|(key, _)| *key);
    assert_eq!(told, made);
}

/// A row exists, does not exist, or is of a revision: each can be demanded.
pub async fn preconditions_hold<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let first = engine.transact(when(put(1, 1), 1, None)).await.unwrap();
    let conflict = |result: Result<Generation, EngineError>| match result {
        Err(EngineError::Conflict(key)) => key,
        other => panic!("expected a conflict, got {other:?}"),
    };
    assert_eq!(conflict(engine.transact(when(put(1, 2), 1, None)).await), key(1));
    let older = Some(Generation(first.0 - 1));
    assert_eq!(conflict(engine.transact(when(put(2, 2), 1, older)).await), key(1));
    assert_eq!(conflict(engine.transact(when(put(1, 2), 9, Some(first))).await), key(9));
    let second = engine.transact(when(put(1, 2), 1, Some(first))).await.unwrap();
    assert!(second > first);
    assert_eq!(conflict(engine.transact(when(put(1, 3), 1, Some(first))).await), key(1));
    let several = when(when(put(1, 3), 9, None), 1, Some(first));
    assert_eq!(conflict(engine.transact(several).await), key(1));
    let delete = Transaction { preconditions: Vec::new(), writes: vec![Write::Delete(key(1))] };
    engine.transact(when(delete, 1, Some(second))).await.unwrap();
    engine.transact(when(put(1, 4), 1, None)).await.unwrap();
}

/// After a conflict the state, the revision and the history are as before.
pub async fn conflicts_change_nothing<B: Backend>() {
    let engine = B::fresh().await.open().await;
    engine.transact(put(1, 1)).await.unwrap();
    let before = engine.snapshot().await.unwrap();
    let mut watch = engine.watch(before.revision);
    let writes = vec![Write::Put(row(1, 7)), Write::Put(row(2, 7)), Write::Delete(key(1))];
    let doomed = Transaction { preconditions: Vec::new(), writes };
    let result = engine.transact(when(doomed, 2, Some(Generation(1)))).await;
    assert!(matches!(result, Err(EngineError::Conflict(k)) if k == key(2)), "{result:?}");
    assert_eq!(engine.snapshot().await.unwrap(), before);
    let revision = engine.transact(put(3, 3)).await.unwrap();
    assert_eq!(next_batch(&mut watch).await.revision, revision);
}

/// A transaction without writes checks its preconditions and is no commit.
pub async fn nothing_to_write_is_no_commit<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let revision = engine.transact(put(1, 1)).await.unwrap();
    let answer = engine.transact(when(Transaction::default(), 1, Some(revision))).await.unwrap();
    assert_eq!(answer, revision);
    let refused = engine.transact(when(Transaction::default(), 1, None)).await;
    assert!(matches!(refused, Err(EngineError::Conflict(_))), "{refused:?}");
    assert_eq!(engine.snapshot().await.unwrap().revision, revision);
}

/// Snapshots tell for each row when it was last written, in order of keys.
pub async fn rows_remember_their_revision<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let mut written = BTreeMap::new();
    for (id, value) in [(5, 1), (2, 1), (9, 1), (2, 2), (5, 3), (2, 9)] {
        written.insert(id, (row(id, value), engine.transact(put(id, value)).await.unwrap()));
    }
    let snapshot = engine.snapshot().await.unwrap();
    assert_eq!(snapshot.rows, written.into_values().collect::<Vec<_>>());
}

/// Many read, add one and write on condition that nobody was faster: every success counts.
pub async fn concurrent_increments_all_count<B: Backend>() {
    let engine = Arc::new(B::fresh().await.open().await);
    let first = engine.transact(put(1, 0)).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let engine = engine.clone();
        tasks.push(tokio::spawn(async move {
            let (mut seen, mut value, mut done) = (first, 0, 0);
            while done < 20 {
                match engine.transact(when(put(1, value + 1), 1, Some(seen))).await {
                    Ok(revision) => {
                        (seen, value, done) = (revision, value + 1, done + 1);
                    }
                    Err(EngineError::Conflict(_)) => {
                        let snapshot = engine.snapshot().await.unwrap();
                        let (Row::Token(token), written) = &snapshot.rows[0] else {
                            panic!("another row");
                        };
                        (seen, value) = (*written, token.expires_at);
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(engine.snapshot().await.unwrap().rows[0].0, row(1, 8 * 20));
}

/// Under concurrent writers, each watcher is told every acknowledged commit after its snapshot,
/// in order and once; folded into its snapshot that gives the final state.
pub async fn watches_have_no_gaps<B: Backend>() {
    const WRITERS: u64 = 6;
    const EACH: u64 = 60;
    let engine = Arc::new(B::fresh().await.open().await);
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let engine = engine.clone();
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for i in 0..EACH {
                let mut transaction = put(writer, i);
                let shared = 100 + (writer * 7 + i) % 10;
                transaction.writes.push(if i % 3 == 0 {
                    Write::Delete(key(shared))
                } else {
                    Write::Put(row(shared, i))
                });
                acknowledged.push(engine.transact(transaction).await.unwrap());
            }
            acknowledged
        }));
    }
    let mut watchers = Vec::new();
    for _ in 0..40 {
        let snapshot = engine.snapshot().await.unwrap();
        let mut watch = engine.watch(snapshot.revision);
        watchers.push(tokio::spawn(async move {
            let (mut state, from) = (state_of(&snapshot), snapshot.revision);
            let mut told = Vec::new();
            loop {
                let batch = next_batch(&mut watch).await;
                told.push(batch.revision);
                fold(&mut state, &batch.changes, batch.revision);
                if state.tokens.contains_key(&TokenId(999)) {
                    return (from, told, state);
                }
            }
        }));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        for revision in writer.await.unwrap() {
            assert!(acknowledged.insert(revision), "two commits have revision {revision}");
        }
    }
    acknowledged.insert(engine.transact(put(999, 0)).await.unwrap());
    let last = state_of(&engine.snapshot().await.unwrap());
    for watcher in watchers {
        let (from, told, state) = watcher.await.unwrap();
        let due: Vec<Generation> = acknowledged.iter().copied().filter(|r| *r > from).collect();
        assert_eq!(told, due, "watching from {from}");
        assert_eq!(state, last, "watching from {from}");
    }
}

/// A watch from any older revision tells the commits since, then goes on with new ones.
pub async fn a_watch_replays_then_follows<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let first = engine.snapshot().await.unwrap().revision;
    let mut made = Vec::new();
    for value in 0..600 {
        made.push(engine.transact(put(value % 5, value)).await.unwrap());
    }
    for skipped in [0, 1, 299, 599, 600] {
        let from = if skipped == 0 { first } else { made[skipped - 1] };
        let mut watch = engine.watch(from);
        for revision in &made[skipped..] {
            assert_eq!(next_batch(&mut watch).await.revision, *revision, "from {from}");
        }
        let new = engine.transact(put(1, 1)).await.unwrap();
        assert_eq!(next_batch(&mut watch).await.revision, new, "from {from}");
        made.push(new);
    }
}

/// What was compacted cannot be watched; what was not, can; and rows stay.
pub async fn compacted_watches_relist<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let first = engine.snapshot().await.unwrap().revision;
    let mut made = Vec::new();
    for value in 0..10 {
        made.push(engine.transact(put(value, value)).await.unwrap());
    }
    let before = engine.snapshot().await.unwrap();
    engine.compact(made[4]).await.unwrap();
    assert_eq!(engine.snapshot().await.unwrap(), before);
    for from in [first, made[0], made[3]] {
        expect_relist(&mut engine.watch(from)).await;
    }
    let mut watch = engine.watch(made[4]);
    for revision in &made[5..] {
        assert_eq!(next_batch(&mut watch).await.revision, *revision);
    }
    // Older than what is compacted already: nothing to do.
    engine.compact(made[2]).await.unwrap();
    assert_eq!(next_batch(&mut engine.watch(made[4])).await.revision, made[5]);
}

/// A revision that does not exist yet comes from another life of the cluster.
pub async fn a_watch_from_the_future_relists<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let newest = engine.transact(put(1, 1)).await.unwrap();
    expect_relist(&mut engine.watch(Generation(newest.0 + 1_000_000))).await;
}

/// Who reads late gets everything in order, or a part in order and then the word to re-list.
pub async fn a_slow_reader_is_never_fooled<B: Backend>() {
    let engine = Arc::new(B::fresh().await.open().await);
    let mut watch = engine.watch(engine.snapshot().await.unwrap().revision);
    let mut tasks = Vec::new();
    for writer in 0..32 {
        let engine = engine.clone();
        tasks.push(tokio::spawn(async move {
            let mut made = Vec::new();
            for value in 0..80 {
                made.push(engine.transact(put(writer, value)).await.unwrap());
            }
            made
        }));
    }
    let mut made = BTreeSet::new();
    for task in tasks {
        made.extend(task.await.unwrap());
    }
    let mut due = made.into_iter();
    loop {
        match due.next() {
            None => return,
            Some(revision) => match next(&mut watch).await {
                Some(WatchItem::Batch(batch)) => assert_eq!(batch.revision, revision),
                Some(WatchItem::Relist) => break,
                None => panic!("the watch ended without a word"),
            },
        }
    }
    assert_eq!(next(&mut watch).await, None);
}

/// Watches that are given up, read or unread, do not disturb others.
pub async fn a_dropped_watch_harms_nobody<B: Backend>() {
    let engine = B::fresh().await.open().await;
    let from = engine.snapshot().await.unwrap().revision;
    let mut kept = engine.watch(from);
    for value in 0..50 {
        let mut dropped = engine.watch(from);
        let revision = engine.transact(put(1, value)).await.unwrap();
        if value % 2 == 0 {
            next_batch(&mut dropped).await;
        }
        drop(dropped);
        assert_eq!(next_batch(&mut kept).await.revision, revision);
    }
}

/// Rows, revisions and history are there after the engine was closed and opened again.
pub async fn everything_survives_reopening<B: Backend>() {
    let backend = B::fresh().await;
    let mut made = Vec::new();
    let mut last = None;
    for life in 0..4 {
        let engine = backend.open().await;
        if let Some(last) = last {
            assert_eq!(engine.snapshot().await.unwrap(), last);
        }
        for value in 0..5 {
            made.push(engine.transact(put(value, life)).await.unwrap());
        }
        last = Some(engine.snapshot().await.unwrap());
        let mut watch = engine.watch(made[0]);
        for revision in &made[1..] {
            assert_eq!(next_batch(&mut watch).await.revision, *revision);
        }
    }
    assert!(made.is_sorted_by(|a, b| a < b), "revisions go on counting: {made:?}");
}
