//! A wish that cannot be, with what would be right.

use serde::{Deserialize, Serialize};

/// A wish that cannot be. `field` names what was wrong with it, `hint` what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// What kind of refusal, for programs: stable words.
    pub code: Code,
    /// The part of the wish that is wrong, as the command line calls it: `--subnet`, `--ip`, `NAME`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What a person can do.
    pub hint: String,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The wish makes no sense by itself.
    Invalid,
    /// It is there already.
    Exists,
    /// It is not there.
    NotFound,
    /// It is used by others.
    Busy,
    /// Outside of what there is to choose from.
    Outside,
    /// Kept for another purpose.
    Reserved,
    /// Nothing left.
    Exhausted,
    /// It overlaps with something else.
    Overlap,
    /// Whoever asks may not.
    Denied,
}
