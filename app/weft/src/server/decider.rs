//! The only way to change the cluster: commands queue up, are decided one after another, and are
//! committed together.
//!
//! The disk is what takes time, so commands that came while it was busy share the next commit.
//! Each is decided on the state that the ones before it would leave; that state exists only
//! under the lock, and is undone before anybody sees it ([`Speculation`]).

use std::collections::BTreeMap;
use std::sync::RwLockWriteGuard;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use weft_engine::{Engine, EngineError};
use weft_model::{ClusterState, Generation, Row, RowKey};
use weft_rpc::Identity;
use weft_rpc::access::may_write;
use weft_state::{Command, Outcome, Precondition, Transaction, Write, apply, fold};

use super::failure::Failure;
use super::replica::Replica;

/// How many commands share a commit at most.
const MOST: usize = 256;

/// How many commands may wait.
const WAITING: usize = 1024;

/// For how long a decision is made again because another server was faster.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the watch may take to bring what was committed.
const CATCH_UP: Duration = Duration::from_secs(3);

/// What became of a command: its outcome, and the generation that contains it.
pub(super) type Decided = Result<(Outcome, Generation), Failure>;

struct Request {
    /// On whose behalf; `None`: this server's own.
    who: Option<Identity>,
    command: Command,
    answer: oneshot::Sender<Decided>,
}

/// Where commands go.
pub(super) struct Decider(mpsc::Sender<Request>);

/// Where they come from.
pub(super) struct Queue(mpsc::Receiver<Request>);

pub(super) fn queue() -> (Decider, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Decider(sender), Queue(receiver))
}

impl Decider {
    /// Decides `command` on the newest state and commits it.
    ///
    /// The answer comes when this server's own state contains the change.
    pub(super) async fn decide(&self, who: Option<&Identity>, command: Command) -> Decided {
        let stopping = || Failure::unavailable("the server is stopping", "try again");
        let (answer, decided) = oneshot::channel();
        let request = Request { who: who.cloned(), command, answer };
        self.0.send(request).await.map_err(|_| stopping())?;
        decided.await.map_err(|_| stopping())?
    }
}

impl Queue {
    /// Decides whatever comes, for as long as anybody may ask.
    pub(super) async fn run(mut self, replica: &Replica, engine: &impl Engine) {
        let mut batch = Vec::new();
        while self.0.recv_many(&mut batch, MOST).await > 0 {
            let decided = settle(replica, engine, &batch).await;
            for (request, decided) in batch.drain(..).zip(decided) {
                // Who asked may have gone away meanwhile.
                let _ = request.answer.send(decided);
            }
        }
    }
}

async fn settle(replica: &Replica, engine: &impl Engine, batch: &[Request]) -> Vec<Decided> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Draft { transaction, outcomes, seen } = draft(replica, batch);
        let with = |generation| {
            let outcomes = outcomes.into_iter();
            outcomes.map(|decided| decided.map(|outcome| (outcome, generation))).collect()
        };
        if transaction.is_empty() {
            return with(seen);
        }
        let failure: Failure = match engine.transact(transaction).await {
            Ok(generation) => {
                replica.reach(generation, CATCH_UP).await;
                return with(generation);
            }
            Err(EngineError::Conflict(_)) if Instant::now() < deadline => {
                replica.reach(Generation(seen.0 + 1), CATCH_UP).await;
                // Servers that all hear of the same commit at once must not go on in step.
                sleep(Duration::from_micros(rand::random_range(0..5_000))).await;
                continue;
            }
            Err(EngineError::Conflict(_)) => Failure::unavailable(
                "other servers change the same things all the time",
                "try again",
            ),
            Err(error) => error.into(),
        };
        // Refusals too may rest on something in this batch that has not come to be.
        return batch.iter().map(|_| Err(failure.clone())).collect();
    }
}

/// A batch, decided but not committed.
struct Draft {
    transaction: Transaction,
    outcomes: Vec<Result<Outcome, Failure>>,
    seen: Generation,
}

fn draft(replica: &Replica, batch: &[Request]) -> Draft {
    let mut ahead = Speculation::new(replica.lock());
    let seen = ahead.state.generation;
    let mut preconditions = BTreeMap::new();
    let mut writes: BTreeMap<RowKey, Write> = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(batch.len());
    for request in batch {
        let decided = decide_one(&ahead.state, request);
        outcomes.push(decided.map(|(transaction, outcome)| {
            // The first one counts: later ones may be about what this batch itself has written,
            // and whatever a command writes it also depends on.
            for Precondition { key, written } in transaction.preconditions {
                preconditions.entry(key).or_insert(written);
            }
            for write in transaction.writes {
                ahead.write(&write);
                writes.insert(write.key(), write);
            }
            outcome
        }));
    }
    let preconditions = preconditions.into_iter();
    let preconditions = preconditions.map(|(key, written)| Precondition { key, written });
    let transaction = Transaction {
        preconditions: preconditions.collect(),
        writes: writes.into_values().collect(),
    };
    Draft { transaction, outcomes, seen }
}

fn decide_one(state: &ClusterState, request: &Request) -> Result<(Transaction, Outcome), Failure> {
    if let Some(who) = &request.who {
        let owner = |network, id| state.endpoints.get(&(network, id)).map(|e| e.node);
        may_write(who, &request.command, owner)?;
    }
    Ok(apply(state, request.command.clone())?)
}

/// The state as it would be after writes that are not committed. Dropping it undoes them, before
/// the lock is given back.
struct Speculation<'a> {
    state: RwLockWriteGuard<'a, ClusterState>,
    generation: Generation,
    /// The rows as they were, with the generations they were written at.
    undo: BTreeMap<RowKey, Option<(Row, Generation)>>,
}

impl<'a> Speculation<'a> {
    fn new(state: RwLockWriteGuard<'a, ClusterState>) -> Self {
        let generation = state.generation;
        Self { state, generation, undo: BTreeMap::new() }
    }

    fn write(&mut self, write: &Write) {
        let key = write.key();
        let state = &mut *self.state;
        self.undo.entry(key).or_insert_with(|| {
            let row = row(state, key)?;
            Some((row, state.written.get(&key).copied().unwrap_or_default()))
        });
        fold(state, [write], Generation(self.generation.0 + 1));
    }
}

impl Drop for Speculation<'_> {
    fn drop(&mut self) {
        for (key, old) in std::mem::take(&mut self.undo) {
            match old {
                Some((row, written)) => self.state.put(row, written),
                None => self.state.delete(key, self.generation),
            }
        }
        self.state.generation = self.generation;
    }
}

fn row(state: &ClusterState, key: RowKey) -> Option<Row> {
    match key {
        RowKey::Cluster => state.cluster.clone().map(Row::Cluster),
        RowKey::Authority => state.authority.clone().map(Row::Authority),
        RowKey::Node(id) => state.nodes.get(&id).cloned().map(Row::Node),
        RowKey::Network(id) => state.networks.get(&id).cloned().map(Row::Network),
        RowKey::Lease(network, node) => state.leases.get(&(network, node)).cloned().map(Row::Lease),
        RowKey::Endpoint(network, id) => {
            state.endpoints.get(&(network, id)).cloned().map(Row::Endpoint)
        }
        RowKey::Token(id) => state.tokens.get(&id).cloned().map(Row::Token),
        RowKey::Guard(guard) => state.written.contains_key(&key).then_some(Row::Guard(guard)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::RwLock;
    use weft_model::row::Guard;
    use weft_model::{NetworkId, NodeId, Offset, Role, Token, TokenId};

    fn rows() -> Vec<Row> {
        let token = Token {
            id: TokenId(1),
            secret_digest: String::new(),
            role: Role::Agent,
            expires_at: 7,
            revoked: false,
        };
        let lease = weft_model::Lease {
            network: NetworkId(1),
            node: NodeId(1),
            node_offset: Offset(254),
            offsets: "2-5".parse().unwrap(),
        };
        vec![Row::Token(token), Row::Lease(lease), Row::Guard(Guard::Nodes)]
    }

    #[test]
    fn what_was_speculated_leaves_no_trace() {
        let mut state = ClusterState::default();
        for (n, row) in rows().into_iter().enumerate() {
            state.put(row, Generation(n as u64 + 3));
        }
        let before = state.clone();
        let lock = RwLock::new(state);
        {
            let mut ahead = Speculation::new(lock.write().unwrap());
            for row in rows() {
                ahead.write(&Write::Delete(row.key()));
                ahead.write(&Write::Put(row));
            }
            ahead.write(&Write::Put(Row::Guard(Guard::Networks)));
            ahead.write(&Write::Delete(RowKey::Token(TokenId(1))));
            assert_eq!(ahead.state.tokens.len(), 0);
            assert_eq!(ahead.state.generation, Generation(6));
        }
        assert_eq!(*lock.read().unwrap(), before);
    }
}
