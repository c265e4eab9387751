//! The smallest thing that is done to a kernel.

use crate::{Key, Object};

/// One change. Idempotent: putting what is there and deleting what is not both succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The object should be at the key, whatever was there before. Mutable attributes are set in
    /// place; a changed immutable one is planned as `Delete` and `Put`.
    Put(Key, Object),
    /// Nothing of ours should be at the key. Deleting a link takes along what sits on it.
    Delete(Key),
}

impl Step {
    /// The key it works on.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}
