//! The cluster state as this server knows it, and the only way to change it.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use weft_engine::{Batch, Engine, EngineError, Snapshot, WatchItem};
use weft_model::{ClusterState, Generation, Node, Row};
use weft_rpc::Identity;
use weft_rpc::access::may_write;
use weft_rpc::error;
use weft_state::{Command, Outcome, Write, apply, fold};

use super::failure::Failure;
use super::hub::Hub;

/// How often a decision is made again because another server was faster.
const ATTEMPTS: u32 = 16;

/// How long the watch may take to bring what was committed.
const CATCH_UP: Duration = Duration::from_secs(3);

/// How long to wait before the engine is read again after it failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The cluster state, kept up with the engine's.
pub(super) struct Replica<E> {
    engine: E,
    state: RwLock<ClusterState>,
    reached: watch::Sender<Generation>,
    /// Decisions of one server follow one another, so that they do not run into each other's
    /// preconditions.
    deciding: Mutex<()>,
}

/// On whose behalf something is decided; `None`: this server's own.
pub(super) type OnBehalf<'a> = Option<&'a Identity>;

impl<E: Engine> Replica<E> {
    /// Reads the engine.
    pub(super) async fn open(engine: E) -> Result<Self, Failure> {
        let state = state_of(engine.snapshot().await?);
        let reached = watch::Sender::new(state.generation);
        Ok(Self { engine, state: RwLock::new(state), reached, deciding: Mutex::new(()) })
    }

    /// Decides `command` on the newest state and commits it.
    ///
    /// The answer comes when this server's own state contains the change. Its generation is that
    /// of the commit or, when there was nothing to change, the newest one.
    pub(super) async fn decide(
        &self,
        who: OnBehalf<'_>,
        command: Command,
    ) -> Result<(Outcome, Generation), Failure> {
        let _turn = self.deciding.lock().await;
        for _ in 0..ATTEMPTS {
            let (transaction, outcome, seen) = self.read(|state| {
                if let Some(who) = who {
                    let owner = |network, id| state.endpoints.get(&(network, id)).map(|e| e.node);
                    may_write(who, &command, owner)?;
                }
                let (transaction, outcome) = apply(state, command.clone())?;
                Ok::<_, Failure>((transaction, outcome, state.generation))
            })?;
            if transaction.is_empty() {
                return Ok((outcome, seen));
            }
            match self.engine.transact(transaction).await {
                Ok(generation) => {
                    self.reach(generation, CATCH_UP).await;
                    return Ok((outcome, generation));
                }
                Err(EngineError::Conflict(_)) => {
                    self.reach(Generation(seen.0 + 1), CATCH_UP).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::unavailable("other servers change the same things all the time", "try again"))
    }

    /// Keeps up with the engine and gives every connected node what concerns it. Never ends.
    pub(super) async fn follow(&self, hub: &Hub) {
        // Patches are the difference between two states, so there are two: this one is always
        // a commit behind.
        let mut before = self.read(ClusterState::clone);
        loop {
            let mut watch = self.engine.watch(before.generation).0;
            while let Some(WatchItem::Batch(batch)) = watch.next().await {
                self.fold(&mut before, &batch, hub);
            }
            tracing::info!("the state engine is read anew");
            before = self.read_anew().await;
            hub.relist_all();
        }
    }

    fn fold(&self, before: &mut ClusterState, batch: &Batch, hub: &Hub) {
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            fold(&mut state, &batch.changes, batch.revision);
            hub.tell(before, &state, batch);
        }
        fold(before, &batch.changes, batch.revision);
        for change in &batch.changes {
            if let Write::Put(Row::Node(Node { id, removed: true, .. })) = change {
                let why = "this node was removed from the cluster";
                hub.close(*id, error::removed(why, "see 'weft node ls' on a server"));
            }
        }
        self.reached.send_replace(batch.revision);
    }

    async fn read_anew(&self) -> ClusterState {
        let snapshot = loop {
            match self.engine.snapshot().await {
                Ok(snapshot) => break snapshot,
                Err(error) => tracing::error!(%error, "the state engine cannot be read"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        let state = state_of(snapshot);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state.clone();
        self.reached.send_replace(state.generation);
        state
    }
}

impl<E> Replica<E> {
    /// Looks at the state; nothing changes meanwhile.
    pub(super) fn read<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the state has reached `generation`; false when it took too long.
    pub(super) async fn reach(&self, generation: Generation, wait: Duration) -> bool {
        let mut reached = self.reached.subscribe();
        let there = reached.wait_for(|now| *now >= generation);
        matches!(timeout(wait, there).await, Ok(Ok(_)))
    }

    /// Tells of every change of the state from now on.
    pub(super) fn changes(&self) -> watch::Receiver<Generation> {
        self.reached.subscribe()
    }
}

fn state_of(snapshot: Snapshot) -> ClusterState {
    let mut state = ClusterState::default();
    for (row, written) in snapshot.rows {
        state.put(row, written);
    }
    state.generation = state.generation.max(snapshot.revision);
    state
}
