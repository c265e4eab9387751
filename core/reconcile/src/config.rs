//! How often and how much, and what the driver is told to do.

use weft_kernel::{Scope, Step};

/// Milliseconds on a clock of the caller's that never goes back.
pub type Millis = u64;

/// How often and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Everything is read so often.
    pub observe_all_every: Millis,
    /// Everything but rows and the shortcut is read so often; `grace` more at the most.
    pub observe_cheap_every: Millis,
    /// Up to so many objects of the shortcut are read as often as what is cheap, more of them as
    /// often as everything: no events tell of them.
    pub few_shortcut_objects: usize,
    /// Two readings of one scope on request lie at least so far apart, two of everything four
    /// times as far.
    pub distance: Millis,
    /// Steps go before readings, until a reading is late by so much.
    pub grace: Millis,
    /// Steps in one batch at the most.
    pub batch: usize,
    /// A step that can wait is taken when no plan has come for so long and nothing else is to be
    /// done.
    pub late_quiet: Millis,
    /// If it never is that quiet, such a step is taken after so long all the same, but no more
    /// than one per `late_quiet`.
    pub late_patience: Millis,
}

impl Default for Config {
    /// Repairs within five seconds; within a minute what is many and no event tells of.
    fn default() -> Self {
        Self {
            observe_all_every: 60_000,
            observe_cheap_every: 3_000,
            few_shortcut_objects: 20_000,
            distance: 250,
            grace: 1_500,
            batch: 4_096,
            late_quiet: 100,
            late_patience: 2_000,
        }
    }
}

/// What the driver should do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Read this from the kernel, then call [`crate::Machine::on_observed`] or
    /// [`crate::Machine::on_observe_failed`].
    Observe(Scope),
    /// Take these steps in this order (none depends on another one), then call
    /// [`crate::Machine::on_applied`].
    Apply(Vec<Step>),
    /// Nothing before this time, or before the next call of an `on_…`.
    Sleep(Option<Millis>),
}
