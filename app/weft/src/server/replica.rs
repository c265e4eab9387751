//! The cluster state as this server knows it, kept up with the engine's.

use std::sync::{PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;
use weft_engine::{Batch, Engine, Snapshot, WatchItem};
use weft_model::{ClusterState, Generation, Node, Row};
use weft_rpc::error;
use weft_state::{Write, fold};

use super::failure::Failure;
use super::hub::Hub;

/// How long to wait before the engine is read again after it failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The cluster state as this server knows it.
pub(super) struct Replica {
    state: RwLock<ClusterState>,
    reached: watch::Sender<Generation>,
}

impl Replica {
    /// Reads the engine.
    pub(super) async fn open(engine: &impl Engine) -> Result<Self, Failure> {
        let state = state_of(engine.snapshot().await?);
        let reached = watch::Sender::new(state.generation);
        Ok(Self { state: RwLock::new(state), reached })
    }

    /// Looks at the state; nothing changes meanwhile.
    pub(super) fn read<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state, locked for changes. Whoever takes it leaves it whole.
    pub(super) fn lock(&self) -> RwLockWriteGuard<'_, ClusterState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
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

    /// Keeps up with the engine and gives every connected node what concerns it. Never ends.
    pub(super) async fn follow(&self, engine: &impl Engine, hub: &Hub) {
        // Patches are the difference between two states, so there are two: this one is always
        // a commit behind.
        let mut before = self.read(ClusterState::clone);
        loop {
            let mut watch = engine.watch(before.generation).0;
            while let Some(WatchItem::Batch(batch)) = watch.next().await {
                self.fold(&mut before, &batch, hub);
            }
            tracing::info!("the state engine is read anew");
            before = self.read_anew(engine).await;
            hub.relist_all();
        }
    }

    fn fold(&self, before: &mut ClusterState, batch: &Batch, hub: &Hub) {
        {
            let mut state = self.lock();
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

    async fn read_anew(&self, engine: &impl Engine) -> ClusterState {
        let snapshot = loop {
            match engine.snapshot().await {
                Ok(snapshot) => break snapshot,
                Err(error) => tracing::error!(%error, "the state engine cannot be read"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        let state = state_of(snapshot);
        *self.lock() = state.clone();
        self.reached.send_replace(state.generation);
        state
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
