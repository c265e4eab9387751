//! What the machine can tell about its work.

use std::collections::{BTreeMap, VecDeque};

use weft_kernel::{Fault, Key, NetnsId};

use crate::config::Millis;

/// How far the kernel is, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The generation of the plan; `None` before the first one.
    pub generation_wanted: Option<u64>,
    /// The latest generation of which every object is in the kernel, except the faulty ones, those
    /// held back by them, and those that can wait.
    pub generation_applied: Option<u64>,
    /// Whether the present plan has been worked through, be its generation new or not.
    pub settled: bool,
    /// What failed, in the order of creation: a cause comes before its consequences.
    pub faults: Vec<FaultStatus>,
    /// How many objects are held back because something they need has failed.
    pub held: usize,
    /// How many steps wait until nothing else is to be done: programs of the shortcut to be attached
    /// or taken away, one by one.
    pub late: usize,
    /// Containers whose namespace is gone although the plan still has them.
    pub gone: Vec<NetnsId>,
    /// Damage by others that was put right, the latest last; bounded.
    pub repairs: Vec<Repair>,
    /// How many repairs there have been.
    pub repaired: u64,
}

/// An object that could not be brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultStatus {
    /// Which.
    pub key: Key,
    /// What the kernel said last.
    pub fault: Fault,
    /// How often it has failed in a row.
    pub attempts: u32,
    /// When it is tried again; `None`: not before the plan changes.
    pub next: Option<Millis>,
}

/// Damage that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// When it was put right.
    pub at: Millis,
    /// Where.
    pub key: Key,
    /// What it was.
    pub damage: Damage,
}

/// What somebody else did to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It was taken away.
    Missing,
    /// It was changed.
    Changed,
    /// It was put where nothing should be.
    Unexpected,
}

/// Damage seen and put right.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    seen: BTreeMap<Key, Damage>,
    repairs: VecDeque<Repair>,
    repaired: u64,
}

impl Damages {
    /// How many repairs are remembered.
    const KEPT: usize = 256;

    pub(crate) fn see(&mut self, key: Key, damage: Damage) {
        self.seen.insert(key, damage);
    }

    /// There is none at `key`.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.seen.remove(key);
    }

    /// Only what is still wanted as it was can be damaged.
    pub(crate) fn retain(&mut self, still: impl Fn(&Key) -> bool) {
        self.seen.retain(|key, _| still(key));
    }

    /// What should be at `key` is there again.
    pub(crate) fn repaired(&mut self, key: &Key, at: Millis) {
        if let Some((key, damage)) = self.seen.remove_entry(key) {
            self.repaired += 1;
            self.repairs.push_back(Repair { at, key, damage });
            if self.repairs.len() > Self::KEPT {
                self.repairs.pop_front();
            }
        }
    }

    pub(crate) fn repairs(&self) -> (Vec<Repair>, u64) {
        (self.repairs.iter().cloned().collect(), self.repaired)
    }
}
