//! A transaction in the making.

use std::collections::BTreeMap;

use weft_model::row::Guard;
use weft_model::{ClusterState, Generation, NodeId, Row, RowKey};

use crate::{Outcome, Precondition, Rejection, Transaction, Write};

/// What `apply` answers.
pub(crate) type Decision = Result<(Transaction, Outcome), Rejection>;

/// Nothing has to change.
pub(crate) fn unchanged(outcome: Outcome) -> Decision {
    Ok((Transaction::default(), outcome))
}

/// A transaction in the making. Whatever it writes, it also depends on.
pub(crate) struct Draft<'a> {
    state: &'a ClusterState,
    preconditions: BTreeMap<RowKey, Option<Generation>>,
    writes: BTreeMap<RowKey, Write>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a ClusterState) -> Self {
        Self { state, preconditions: BTreeMap::new(), writes: BTreeMap::new() }
    }

    /// The row must be as it is in the state, or as absent.
    pub(crate) fn depend(&mut self, key: RowKey) {
        self.preconditions.insert(key, self.state.written.get(&key).copied());
    }

    /// Writes the row. Writing it as it is makes every decision that depended on it look again.
    pub(crate) fn put(&mut self, row: Row) {
        let key = row.key();
        self.depend(key);
        self.writes.insert(key, Write::Put(row));
    }

    /// Deletes the row.
    pub(crate) fn delete(&mut self, key: RowKey) {
        self.depend(key);
        self.writes.insert(key, Write::Delete(key));
    }

    /// The set behind `guard` was looked at and changes.
    pub(crate) fn change(&mut self, guard: Guard) {
        self.put(Row::Guard(guard));
    }

    pub(crate) fn finish(self, outcome: Outcome) -> Decision {
        let preconditions = self
            .preconditions
            .into_iter()
            .map(|(key, written)| Precondition { key, written })
            .collect();
        Ok((Transaction { preconditions, writes: self.writes.into_values().collect() }, outcome))
    }
}

/// What to call a node in a message.
pub(crate) fn node_name(state: &ClusterState, id: NodeId) -> String {
    state.nodes.get(&id).map_or_else(|| id.to_string(), |node| node.name.to_string())
}

/// Whether `text` is a SHA-256 digest as rows carry it: 64 lower-case hexadecimal digits.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
