//! What waits to be sent to one connected node.
//!
//! Changes that come while the node is slow are folded into one patch: what waits is bounded by
//! the number of rows, not of commits.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tonic::Status;
use weft_model::{ClusterState, Generation, NodeId, RowKey};
use weft_rpc::{error, rows, wire};
use weft_state::{Write, needed_by};

/// How many recalls wait for a slow node; who asks for addresses asks again.
const MAX_RECALLS: usize = 64;

/// One connection's outbox.
pub(super) struct Outbox {
    node: NodeId,
    backlog: usize,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The node has been sent a snapshot: from here on it gets patches.
    begun: bool,
    rows: BTreeMap<RowKey, Write>,
    /// Generation of the newest thing that was put in here or sent.
    wanted: Generation,
    recalls: Vec<wire::Recall>,
    end: Option<End>,
}

/// How a stream ends.
#[derive(Clone)]
enum End {
    /// The node has been told why, or needs not be.
    Quiet,
    /// The node is told.
    Told(Status),
}

/// What to do next for the node.
pub(super) enum Next {
    /// Send this.
    Send(wire::Update),
    /// Send this and end the stream.
    Fail(Status),
    /// End the stream.
    End,
    /// Nothing yet.
    Wait,
}

impl Outbox {
    pub(super) fn new(node: NodeId, backlog: usize) -> Self {
        Self { node, backlog, waiting: Mutex::default(), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts changes in. Must be called in the order of generations, under the same lock of the
    /// state that [`Self::begin`] is called under.
    pub(super) fn push(&self, generation: Generation, changes: Vec<Write>) {
        let mut waiting = self.lock();
        if !waiting.begun || waiting.end.is_some() || changes.is_empty() {
            return;
        }
        waiting.wanted = generation;
        for change in changes {
            waiting.rows.insert(change.key(), change);
        }
        if waiting.rows.len() > self.backlog {
            waiting.rows.clear();
            waiting.end = Some(End::Told(error::relist()));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Asks the node for addresses.
    pub(super) fn recall(&self, recall: wire::Recall) {
        let mut waiting = self.lock();
        let same = |r: &&mut wire::Recall| {
            r.network_id == recall.network_id && r.offsets == recall.offsets
        };
        if let Some(earlier) = waiting.recalls.iter_mut().find(same) {
            earlier.count = earlier.count.max(recall.count);
        } else if waiting.recalls.len() < MAX_RECALLS {
            waiting.recalls.push(recall);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Ends the stream, and tells the node why.
    pub(super) fn fail(&self, status: Status) {
        self.end(End::Told(status));
    }

    /// Ends the stream.
    pub(super) fn close(&self) {
        self.end(End::Quiet);
    }

    fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.wake.notify_one();
    }

    /// Generation that the node has been told of, or is about to be; `None` before its snapshot.
    pub(super) fn wanted(&self) -> Option<Generation> {
        let waiting = self.lock();
        waiting.begun.then_some(waiting.wanted)
    }

    /// What to do next. `read` gives the state, locked against changes.
    pub(super) fn next(&self, read: impl FnOnce(&dyn Fn(&ClusterState) -> Next) -> Next) -> Next {
        {
            let mut waiting = self.lock();
            match &waiting.end {
                Some(End::Quiet) => return Next::End,
                Some(End::Told(status)) => return Next::Fail(status.clone()),
                None => {}
            }
            if waiting.begun {
                return next_of(&mut waiting);
            }
        }
        // The state's lock is taken before the outbox's, as everywhere.
        read(&|state| self.begin(state))
    }

    fn begin(&self, state: &ClusterState) -> Next {
        let mut waiting = self.lock();
        waiting.begun = true;
        waiting.wanted = state.generation;
        drop(waiting);
        let rows = needed_by(state, self.node).map(|row| rows::put(&row)).collect();
        let snapshot = wire::Rows { generation: state.generation.0, rows };
        Next::Send(update(wire::update::Kind::Snapshot(snapshot)))
    }

    /// Waits until [`Self::next`] may have something.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

fn next_of(waiting: &mut Waiting) -> Next {
    if !waiting.rows.is_empty() {
        let rows = std::mem::take(&mut waiting.rows);
        let rows = rows.values().map(rows::change).collect();
        let patch = wire::Rows { generation: waiting.wanted.0, rows };
        return Next::Send(update(wire::update::Kind::Patch(patch)));
    }
    match waiting.recalls.pop() {
        Some(recall) => Next::Send(update(wire::update::Kind::Recall(recall))),
        None => Next::Wait,
    }
}

/// An update of `kind`.
pub(super) fn update(kind: wire::update::Kind) -> wire::Update {
    wire::Update { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Lease, NetworkId, Offset, Row};

    fn lease(network: u64, offset: u64) -> Write {
        Write::Put(Row::Lease(Lease {
            network: NetworkId(network),
            node: NodeId(1),
            node_offset: Offset(offset),
            offsets: "2".parse().unwrap(),
        }))
    }

    fn next(outbox: &Outbox) -> Next {
        let state = ClusterState { generation: Generation(5), ..Default::default() };
        outbox.next(|look| look(&state))
    }

    fn sent(outbox: &Outbox) -> wire::update::Kind {
        match next(outbox) {
            Next::Send(update) => update.kind.unwrap(),
            _ => panic!("nothing to send"),
        }
    }

    #[test]
    fn first_a_snapshot_then_what_came_since_as_one_patch() {
        let outbox = Outbox::new(NodeId(1), 10);
        outbox.push(Generation(4), vec![lease(1, 1)]);
        assert_eq!(outbox.wanted(), None);
        assert!(matches!(sent(&outbox), wire::update::Kind::Snapshot(s) if s.generation == 5));
        assert!(matches!(next(&outbox), Next::Wait));
        outbox.push(Generation(6), vec![lease(1, 1), lease(2, 1)]);
        outbox.push(Generation(7), Vec::new());
        outbox.push(Generation(8), vec![lease(1, 2)]);
        let wire::update::Kind::Patch(patch) = sent(&outbox) else { panic!("no patch") };
        assert_eq!(patch.generation, 8);
        let changes = rows::read_changes(&patch.rows).unwrap();
        assert_eq!(changes, [lease(1, 2), lease(2, 1)]);
        assert_eq!(outbox.wanted(), Some(Generation(8)));
        assert!(matches!(next(&outbox), Next::Wait));
    }

    #[test]
    fn a_node_too_far_behind_is_told_to_begin_anew() {
        let outbox = Outbox::new(NodeId(1), 2);
        sent(&outbox);
        // Any number of commits about the same rows is fine.
        for generation in 6..1000 {
            outbox.push(Generation(generation), vec![lease(generation % 2, generation)]);
        }
        assert!(matches!(sent(&outbox), wire::update::Kind::Patch(p) if p.rows.len() == 2));
        outbox.push(Generation(1000), vec![lease(1, 1), lease(2, 1), lease(3, 1)]);
        let Next::Fail(status) = next(&outbox) else { panic!("not told") };
        assert_eq!(error::told(&status).code, error::word::RELIST);
    }

    #[test]
    fn recalls_do_not_pile_up() {
        let outbox = Outbox::new(NodeId(1), 10);
        sent(&outbox);
        let recall = |network: u32, count| wire::Recall {
            network_id: network.to_string(),
            offsets: String::new(),
            count,
        };
        for count in 1..1000 {
            outbox.recall(recall(1, count));
        }
        assert!(matches!(sent(&outbox), wire::update::Kind::Recall(r) if r.count == 999));
        assert!(matches!(next(&outbox), Next::Wait));
        for network in 0..1000 {
            outbox.recall(recall(network, 1));
        }
        let mut heard = 0;
        while matches!(next(&outbox), Next::Send(_)) {
            heard += 1;
        }
        assert_eq!(heard, MAX_RECALLS);
    }

    #[test]
    fn an_ended_stream_stays_ended_for_its_first_reason() {
        let outbox = Outbox::new(NodeId(1), 2);
        outbox.fail(error::superseded());
        outbox.close();
        outbox.push(Generation(6), vec![lease(1, 1)]);
        assert!(matches!(next(&outbox), Next::Fail(_)));
    }
}
