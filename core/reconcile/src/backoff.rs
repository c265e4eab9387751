//! Steps that failed: when they are tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use weft_kernel::{Fault, FaultKind, Key, Scope};

use crate::config::Millis;

const FIRST: Millis = 100;
const LONGEST: Millis = 30_000;
const TAKEN: Millis = 5_000;
/// Tries are put on this grid, so that many keys that failed together are looked at together.
const GRID: Millis = 50;

/// One failed key.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    /// How often it has failed in a row.
    pub(crate) attempts: u32,
    /// When it is tried again; `None`: not before the plan changes.
    pub(crate) next: Option<Millis>,
    /// Reality has not been read since it failed.
    unread: bool,
}

/// All failed keys.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    by_key: BTreeMap<Key, Trouble>,
    by_time: BTreeSet<(Millis, Key)>,
}

impl Troubles {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Trouble)> {
        self.by_key.iter()
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// Whether `key` must not be tried yet.
    pub(crate) fn waits(&self, key: &Key, now: Millis) -> bool {
        self.by_key.get(key).is_some_and(|t| t.unread || t.next.is_none_or(|next| next > now))
    }

    /// `key` failed; answers when it is tried again.
    pub(crate) fn add(&mut self, key: &Key, fault: Fault, now: Millis) -> Option<Millis> {
        let attempts = self.remove(key).map_or(0, |old| old.attempts).saturating_add(1);
        let next = match fault.kind {
            FaultKind::NetnsGone => None,
            FaultKind::Taken => Some(now + TAKEN),
            FaultKind::Again => Some((now + delay(key, attempts)).next_multiple_of(GRID)),
        };
        if let Some(next) = next {
            self.by_time.insert((next, key.clone()));
        }
        self.by_key.insert(key.clone(), Trouble { fault, attempts, next, unread: true });
        next
    }

    /// Whether `key` has failed once only.
    pub(crate) fn is_first(&self, key: &Key) -> bool {
        self.by_key.get(key).is_some_and(|trouble| trouble.attempts == 1)
    }

    /// `key` is no trouble any more.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Trouble> {
        let trouble = self.by_key.remove(key)?;
        if let Some(next) = trouble.next {
            self.by_time.remove(&(next, key.clone()));
        }
        Some(trouble)
    }

    /// Reality was read.
    pub(crate) fn read(&mut self, scope: &Scope) {
        for (key, trouble) in &mut self.by_key {
            if scope.contains(key) {
                trouble.unread = false;
            }
        }
    }

    /// Keys whose time has come and whose reality has been read.
    pub(crate) fn due(&self, now: Millis) -> impl Iterator<Item = &Key> {
        self.by_time
            .iter()
            .take_while(move |(next, _)| *next <= now)
            .map(|(_, key)| key)
            .filter(move |key| !self.waits(key, now))
    }

    /// When the next one's time comes, but for those whose time came and that wait for something
    /// else since. One that still has to be read comes with the reading.
    pub(crate) fn next(&self, waits: impl Fn(&Key) -> bool) -> Option<Millis> {
        let read = |key: &Key| self.by_key.get(key).is_some_and(|trouble| !trouble.unread);
        let mut open = self.by_time.iter().filter(|(_, key)| read(key) && !waits(key));
        open.next().map(|(next, _)| *next)
    }
}

/// Twice as long each time, less up to a quarter that differs from key to key and time to time,
/// so that what failed together is not tried together for ever.
fn delay(key: &Key, attempts: u32) -> Millis {
    let doubled = FIRST.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST);
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    (key, attempts).hash(&mut hasher);
    doubled - doubled / 4 * (hasher.finish() >> 8 & 0xff) / 0xff
}

/// FNV-1a: the same on every run.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
