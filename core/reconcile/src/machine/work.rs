//! What is to be done: the steps of what may have changed, and which of them now.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use weft_kernel::{Key, Section, Step};

use super::{Machine, Plan};
use crate::config::Millis;
use crate::diff::diff_in;
use crate::late::is_late;
use crate::order::{Planned, Turn};
use crate::sieve::{Sieve, Verdict};

impl Machine {
    /// What was seen is acted upon when all that was asked for has been read, or when that takes
    /// too long.
    pub(super) fn settle_doubts(&mut self, now: Millis) {
        if self.doubtful.is_empty() {
            return;
        }
        let since = *self.doubtful_since.get_or_insert(now);
        if !self.watch.has_requests(now) || since + self.config.grace <= now {
            self.dirty.append(&mut self.doubtful);
            self.doubtful_since = None;
        }
    }

    /// The next steps, none of which depends on another one.
    pub(super) fn next_batch(&mut self, now: Millis) -> Option<Vec<Step>> {
        let turn: Turn = self.queue.front()?.turn;
        if let Some(step) = self.late.overdue(now, &self.queue, &self.doubtful) {
            self.unshared.insert(step.key().section());
            return Some(vec![step]);
        }
        let together = self.queue.iter().take(self.config.batch.max(1));
        let size = together.take_while(|planned| planned.turn == turn).count();
        let batch = self.queue.drain(..size).map(|planned| planned.step).collect();
        if self.queue.is_empty() {
            self.working.clear();
        }
        Some(batch)
    }

    /// The next step that waited until there was nothing else to do. As long as something is still
    /// to be read, it may turn out to be wrong: then only one that waited too long.
    pub(super) fn next_late(&mut self, now: Millis) -> Option<Step> {
        let step = if self.is_sure(now) {
            self.late.next(now)
        } else {
            self.late.overdue(now, &self.queue, &self.doubtful)
        }?;
        self.unshared.insert(step.key().section());
        Some(step)
    }

    /// When that one's time comes.
    pub(super) fn next_late_at(&self, now: Millis) -> Option<Millis> {
        if self.is_sure(now) { self.late.next_at() } else { self.late.overdue_at() }
    }

    fn is_sure(&self, now: Millis) -> bool {
        self.doubtful.is_empty() && !self.watch.has_requests(now)
    }

    /// Finds the steps of everything that may have changed.
    pub(super) fn compare(&mut self, now: Millis) {
        // One that can wait is not looked at again while it does.
        let due = self.troubles.due(now).filter(|key| !self.late.contains(key));
        let due: Vec<Section> = due.map(Key::section).collect();
        self.dirty.extend(due);
        let Some(plan) = &self.plan else { return };
        if self.dirty.is_empty() {
            return;
        }
        self.dirty.append(&mut self.working);
        self.working = std::mem::take(&mut self.dirty);
        let stuck = |key: &Key| self.troubles.waits(key, now);
        let found = diff_in(&plan.want, &self.have, &self.working, &stuck);
        self.forget_solved(&found);
        self.queue = self.sieve(found, now);
        self.unshared.extend(self.working.iter().cloned());
        if self.queue.is_empty() {
            self.working.clear();
        }
    }

    /// A trouble without a step is none: reality is as wanted, or nothing is wanted any more.
    fn forget_solved(&mut self, found: &[Planned]) {
        if self.troubles.is_empty() {
            return;
        }
        let open: BTreeSet<&Key> = found.iter().map(|planned| planned.step.key()).collect();
        let solved = self.troubles.iter().map(|(key, _)| key);
        let solved =
            solved.filter(|key| !open.contains(key) && self.working.contains(&key.section()));
        let solved: Vec<Key> = solved.cloned().collect();
        for key in solved {
            self.relieve(&key);
        }
    }

    /// Leaves out what must wait, or needs something that must.
    fn sieve(&mut self, found: Vec<Planned>, now: Millis) -> VecDeque<Planned> {
        for section in &self.working {
            self.held.remove(section);
        }
        let Some(Plan { want, .. }) = &self.plan else { return VecDeque::new() };
        let (have, gone) = (&self.have, &self.gone);
        let mut sieve = Sieve::new(want, have, &self.troubles, gone, now);
        let (mut queue, mut moot) = (VecDeque::with_capacity(found.len()), Vec::new());
        let mut late = Vec::new();
        for planned in found {
            match sieve.verdict(&planned.step) {
                Verdict::Go if is_late(planned.step.key()) => late.push(planned.step),
                Verdict::Go => queue.push_back(planned),
                Verdict::Wait => {}
                Verdict::Gone => moot.push(planned.step.key().clone()),
                Verdict::Held => {
                    *self.held.entry(planned.step.key().section()).or_default() += 1;
                    moot.push(planned.step.key().clone());
                }
            }
        }
        for key in moot {
            self.troubles.remove(&key);
        }
        self.late.replace(&self.working, late, now);
        queue
    }

    /// `key` is no trouble any more, so what was held back may go on.
    pub(super) fn relieve(&mut self, key: &Key) {
        if self.troubles.remove(key).is_some() {
            self.dirty_held();
        }
    }

    pub(super) fn dirty_held(&mut self) {
        self.dirty.extend(self.held.keys().cloned());
    }

    /// A section that has become as wanted shares the wanted one's memory: a large network is held
    /// once.
    pub(super) fn share(&mut self) {
        let Some(Plan { want, .. }) = &self.plan else { return };
        for section in std::mem::take(&mut self.unshared) {
            let (Some(wanted), Some(known)) = (want.section(&section), self.have.section(&section))
            else {
                continue;
            };
            if !Arc::ptr_eq(wanted, known) && wanted.len() == known.len() && wanted == known {
                self.have.set_section(section, Arc::clone(wanted));
            }
        }
    }
}
