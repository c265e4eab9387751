//! A change of the cluster state, and what must still be true for it to happen.

use weft_model::{ClusterState, Generation, Row, RowKey};

/// Writes that happen all together, at one new revision, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// All must hold at the moment of commit.
    pub preconditions: Vec<Precondition>,
    /// In no particular order; no key twice.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// Whether it asks for no change: it need not be committed.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// That the row at `key` is still as it was when the decision was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precondition {
    /// Which row.
    pub key: RowKey,
    /// The revision at which it was last written; `None`: it does not exist.
    pub written: Option<Generation>,
}

/// One row's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The row is written.
    Put(Row),
    /// The row is deleted.
    Delete(RowKey),
}

impl Write {
    /// The key of the row that it changes.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Put(row) => row.key(),
            Self::Delete(key) => *key,
        }
    }
}

/// Folds the writes of one commit into `state`.
pub fn fold<'a>(
    state: &mut ClusterState,
    writes: impl IntoIterator<Item = &'a Write>,
    generation: Generation,
) {
    for write in writes {
        match write {
            Write::Put(row) => state.put(row.clone(), generation),
            Write::Delete(key) => state.delete(*key, generation),
        }
    }
    state.generation = state.generation.max(generation);
}
