//! The newest state and the one before it, side by side.

use weft_model::{ClusterState, Generation};

use crate::{Write, fold};

/// The state before and after the newest commit, for [`patch_for`](crate::patch_for).
///
/// Both follow the commits, one a step behind the other, so that neither is ever copied: a commit
/// costs what it changes, however large the cluster is.
#[derive(Debug, Clone)]
pub struct Pair {
    before: ClusterState,
    after: ClusterState,
    newest: Vec<Write>,
}

impl Pair {
    /// Both are `state`.
    pub fn new(state: ClusterState) -> Self {
        Self { before: state.clone(), after: state, newest: Vec::new() }
    }

    /// Takes in the next commit.
    pub fn advance(&mut self, changes: Vec<Write>, generation: Generation) {
        let newest = std::mem::replace(&mut self.newest, changes);
        fold(&mut self.before, &newest, self.after.generation);
        fold(&mut self.after, &self.newest, generation);
    }

    /// As it was before the newest commit.
    pub fn before(&self) -> &ClusterState {
        &self.before
    }

    /// As it is.
    pub fn after(&self) -> &ClusterState {
        &self.after
    }

    /// The newest commit.
    pub fn changes(&self) -> &[Write] {
        &self.newest
    }
}
