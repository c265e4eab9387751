//! The kernel said no.

/// What the kernel refused, in its own words, with what the person can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {message}")]
pub struct Fault {
    /// The operation, as one would type it, e.g. `ip link add wv-570001 type vxlan`.
    pub call: String,
    /// `errno`, positive.
    pub errno: i32,
    /// The kernel's extended error text, or the errno's.
    pub message: String,
    /// What it means for the reconciler.
    pub kind: FaultKind,
    /// What a person can do; empty when there is nothing better than to wait.
    pub hint: String,
}

/// What a fault means for the reconciler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Try again later.
    Again,
    /// The namespace is gone, and everything in it.
    NetnsGone,
    /// Somebody else's object is in the way; it stays, ours waits.
    Taken,
}
