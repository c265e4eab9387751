//! A change of the cluster state, and what must still be true for it to happen.

use weft_model::{Generation, Row, RowKey};

/// Writes that happen all together, at one new revision, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// All must hold at the moment of commit.
    pub preconditions: Vec<Precondition>,
    /// In no particular order; no key twice.
    pub writes: Vec<Write>,
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
