//! The machine: holds what is wanted and what was seen, and says what to do now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weft_kernel::{
    Fault, FaultKind, KernelState, Key, Netns, NetnsId, Object, Scope, Section, Step,
};

use crate::backoff::Troubles;
use crate::diff::diff_in;
use crate::effects::Effects;
use crate::needs::is_needed;
use crate::observed::{News, Observed, learn};
use crate::order::{Planned, Turn};
use crate::sieve::{Sieve, Verdict, netns_of};
use crate::status::{Damage, Damages, FaultStatus, Status};
use crate::watch::Watch;

/// Milliseconds on a clock of the caller's that never goes back.
pub type Millis = u64;

/// How often and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Everything is read so often.
    pub observe_all_every: Millis,
    /// Everything but rows is read so often; `grace` more at the most.
    pub observe_cheap_every: Millis,
    /// Two readings of one scope on request lie at least so far apart, two of everything four
    /// times as far.
    pub distance: Millis,
    /// Steps go before readings, until a reading is late by so much.
    pub grace: Millis,
    /// Steps in one batch at the most.
    pub batch: usize,
}

impl Default for Config {
    /// Repairs within five seconds, rows within a minute when no event tells of them.
    fn default() -> Self {
        Self {
            observe_all_every: 60_000,
            observe_cheap_every: 3_000,
            distance: 250,
            grace: 1_500,
            batch: 4_096,
        }
    }
}

/// What the driver should do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Read this from the kernel, then call [`Machine::on_observed`] or
    /// [`Machine::on_observe_failed`].
    Observe(Scope),
    /// Take these steps in this order (none depends on another one), then call
    /// [`Machine::on_applied`].
    Apply(Vec<Step>),
    /// Nothing before this time, or before the next call of an `on_…`.
    Sleep(Option<Millis>),
}

/// What the driver is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Observing,
    Applying,
}

#[derive(Debug)]
struct Plan {
    want: KernelState,
    generation: u64,
}

/// Holds what is wanted and what was seen, and says what to do now. Nothing is touched before there
/// is a plan and everything has been seen once.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    plan: Option<Plan>,
    have: KernelState,
    doing: Doing,
    watch: Watch,
    /// Events that came while steps were under way.
    events: Vec<(Key, Option<Object>)>,
    /// Sections to compare.
    dirty: BTreeSet<Section>,
    /// Sections where something unexpected was seen, and since when they wait. The rest of what
    /// happened is read first: a row may be missing because its link is.
    doubtful: BTreeSet<Section>,
    doubtful_since: Option<Millis>,
    /// Steps to take, and the sections that were compared to find them.
    queue: VecDeque<Planned>,
    working: BTreeSet<Section>,
    troubles: Troubles,
    gone: BTreeSet<NetnsId>,
    /// How many steps are held back in which section.
    held: BTreeMap<Section, usize>,
    damages: Damages,
    applied: Option<u64>,
    /// The present plan has been worked through.
    settled: bool,
}

impl Machine {
    /// A machine that has no plan and has seen nothing.
    pub fn new(config: Config) -> Self {
        Self {
            watch: Watch::new(&config),
            config,
            plan: None,
            have: KernelState::new(),
            doing: Doing::Nothing,
            events: Vec::new(),
            dirty: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            doubtful_since: None,
            queue: VecDeque::new(),
            working: BTreeSet::new(),
            troubles: Troubles::default(),
            gone: BTreeSet::new(),
            held: BTreeMap::new(),
            damages: Damages::default(),
            applied: None,
            settled: false,
        }
    }

    /// What is wanted; `None` before the first plan. The driver reads wanted sysctls and
    /// containers from here.
    pub fn want(&self) -> Option<&KernelState> {
        self.plan.as_ref().map(|plan| &plan.want)
    }

    /// What is known to be there.
    pub const fn have(&self) -> &KernelState {
        &self.have
    }

    /// A complete plan. One of an older generation than the present one is not taken, and the
    /// answer is `false`; the same generation may come with another plan, because local facts
    /// change too.
    pub fn on_plan(&mut self, want: KernelState, generation: u64) -> bool {
        if self.plan.as_ref().is_some_and(|plan| plan.generation > generation) {
            return false;
        }
        self.settled = false;
        let old = self.plan.replace(Plan { want, generation }).map(|plan| plan.want);
        let (old, Some(Plan { want, .. })) = (old.unwrap_or_default(), &self.plan) else {
            return true;
        };
        for (section, objects) in want.sections() {
            let same = old.section(section).is_some_and(|o| std::sync::Arc::ptr_eq(o, objects));
            if !same {
                self.dirty.insert(section.clone());
            }
        }
        let dropped = old.sections().filter(|(section, _)| want.section(section).is_none());
        self.dirty.extend(dropped.map(|(section, _)| section.clone()));
        self.gone.retain(|id| want.section(&Section::Container(*id)).is_some());
        self.damages.retain(|key| old.get(key) == want.get(key));
        let changed = self.troubles.iter().filter(|(key, _)| old.get(key) != want.get(key));
        let changed: Vec<Key> = changed.map(|(key, _)| key.clone()).collect();
        for key in changed {
            self.relieve(&key);
        }
        self.dirty_held();
        true
    }

    /// What was seen. An observation that began before steps were taken and comes after them
    /// tells of a past: it is not taken, but asked for again.
    pub fn on_observed(&mut self, observed: Observed) {
        if self.doing == Doing::Applying {
            self.watch.request(observed.scope, 0);
            return;
        }
        self.doing = Doing::Nothing;
        let first = !self.watch.is_complete();
        let scope = observed.scope.clone();
        self.troubles.read(&scope);
        self.watch.done(&scope);
        if first && self.watch.is_complete() {
            self.have = observed.state;
            let sections = self.have.sections().map(|(name, _)| name.clone());
            self.dirty.extend(sections);
            return;
        }
        let news = learn(&mut self.have, observed, self.plan.as_ref().map(|plan| &plan.want));
        if !news.is_empty() {
            self.dirty_held();
        }
        for item in news {
            self.doubtful.insert(item.key.section());
            if !first {
                self.judge(item);
            }
        }
    }

    /// A thing that changed with no plan asking for it is damage.
    fn judge(&mut self, News { key, known, seen }: News) {
        let Some(plan) = &self.plan else { return };
        let want = plan.want.get(&key);
        let ours = matches!(key, Key::Sysctl(..)) && want.is_none() || self.troubles.contains(&key);
        if seen.as_ref() == want || ours {
            self.damages.forget(&key);
        } else if known.as_ref() == want {
            let damage = match (known, seen) {
                (Some(_), None) => Damage::Missing,
                (Some(_), Some(_)) => Damage::Changed,
                (None, _) => Damage::Unexpected,
            };
            self.damages.see(key, damage);
        }
    }

    /// Reading failed; it is tried again.
    pub fn on_observe_failed(&mut self, scope: Scope, now: Millis) {
        if self.doing == Doing::Observing {
            self.doing = Doing::Nothing;
        }
        self.watch.failed(scope, now);
    }

    /// Something in this scope changed.
    pub fn on_dirty(&mut self, scope: Scope) {
        self.watch.request(scope, 0);
    }

    /// An event told that `object` is now at `key`, or nothing of ours. One that tells nothing new
    /// costs nothing, so that our own steps do not come back as work.
    pub fn on_event(&mut self, key: Key, object: Option<Object>) {
        if self.doing == Doing::Applying {
            self.events.push((key, object));
        } else if self.have.get(&key) != object.as_ref() {
            self.watch.request(Scope::of(&key), 0);
        }
    }

    /// Events were lost.
    pub fn on_overrun(&mut self) {
        self.watch.request(Scope::All, 0);
    }

    /// The steps of a [`Do::Apply`] were taken, with a result for each.
    pub fn on_applied(&mut self, steps: Vec<Step>, results: Vec<Result<(), Fault>>, now: Millis) {
        if self.doing == Doing::Applying {
            self.doing = Doing::Nothing;
        }
        let mut results = results.into_iter();
        for step in steps {
            match results.next().unwrap_or_else(|| Err(no_answer())) {
                Ok(()) => self.succeeded(step, now),
                Err(fault) => self.failed(step, fault, now),
            }
        }
        for (key, object) in std::mem::take(&mut self.events) {
            self.on_event(key, object);
        }
    }

    fn succeeded(&mut self, step: Step, now: Millis) {
        self.relieve(step.key());
        if let Step::Put(Key::Link(ns, link), _) = &step {
            self.relieve_what_sits_on(*ns, link);
        }
        self.damages.repaired(step.key(), now);
        let mut touched = BTreeSet::new();
        if let Some(plan) = &self.plan {
            let mut effects =
                Effects { state: &mut self.have, want: &plan.want, touched: &mut touched };
            match step {
                Step::Put(key, object) => effects.put(key, object),
                Step::Delete(key) => effects.delete(&key),
            }
        }
        self.dirty.extend(touched);
    }

    /// What failed for want of this link, or of its place in a bridge, need not wait for its turn.
    fn relieve_what_sits_on(&mut self, ns: Netns, link: &str) {
        let sits = |key: &Key| key.sits_on() == Some((ns, link));
        let keys: Vec<Key> =
            self.troubles.iter().map(|(key, _)| key).filter(|key| sits(key)).cloned().collect();
        for key in keys {
            self.dirty.insert(key.section());
            self.relieve(&key);
        }
    }

    fn failed(&mut self, step: Step, fault: Fault, now: Millis) {
        let key = step.key().clone();
        if fault.kind == FaultKind::NetnsGone
            && let Some(id) = netns_of(&step, &self.have)
        {
            self.netns_gone(id, now);
            if matches!(step, Step::Delete(_)) {
                self.have.remove(&key);
                return;
            }
            self.troubles.add(&key, fault, now);
            self.dirty.insert(key.section());
            return;
        }
        let kind = if fault.kind == FaultKind::NetnsGone { FaultKind::Again } else { fault.kind };
        if let Some(next) = self.troubles.add(&key, Fault { kind, ..fault }, now) {
            self.watch.request(Scope::of(&key), next);
        }
        if key.sits_on().is_some() && self.troubles.is_first(&key) {
            // It may be the link that is missing, with nobody having told.
            self.watch.request(Scope::Cheap, now);
        }
        if is_needed(&key) {
            self.dirty.insert(key.section());
        }
    }

    fn netns_gone(&mut self, id: NetnsId, now: Millis) {
        if let Some(plan) = &self.plan
            && self.gone.insert(id)
        {
            let (state, touched) = (&mut self.have, &mut self.dirty);
            Effects { state, want: &plan.want, touched }.netns_gone(id);
            self.watch.request(Scope::Cheap, now);
        }
    }

    /// What to do now. While the driver is about something there is nothing else to do.
    pub fn poll(&mut self, now: Millis) -> Do {
        if self.doing != Doing::Nothing {
            return Do::Sleep(None);
        }
        if let Some(scope) = self.watch.overdue(now, self.config.grace)
            && (self.plan.is_some() || !self.watch.is_complete())
        {
            return self.observe(scope, now);
        }
        let Some(generation) = self.plan.as_ref().map(|plan| plan.generation) else {
            return Do::Sleep(self.watch.next().filter(|_| !self.watch.is_complete()));
        };
        if self.watch.is_complete() {
            self.settle_doubts(now);
            self.compare(now);
            if let Some(batch) = self.next_batch() {
                self.doing = Doing::Applying;
                return Do::Apply(batch);
            }
            self.applied = Some(generation);
            self.settled = true;
        }
        if let Some(scope) = self.watch.due(now) {
            return self.observe(scope, now);
        }
        Do::Sleep(self.watch.next().into_iter().chain(self.troubles.next()).min())
    }

    /// What was seen is acted upon when all that was asked for has been read, or when that takes
    /// too long.
    fn settle_doubts(&mut self, now: Millis) {
        if self.doubtful.is_empty() {
            return;
        }
        let since = *self.doubtful_since.get_or_insert(now);
        if !self.watch.has_requests(now) || since + self.config.grace <= now {
            self.dirty.append(&mut self.doubtful);
            self.doubtful_since = None;
        }
    }

    fn observe(&mut self, scope: Scope, now: Millis) -> Do {
        self.watch.begin(&scope, now);
        self.doing = Doing::Observing;
        Do::Observe(scope)
    }

    fn next_batch(&mut self) -> Option<Vec<Step>> {
        let turn: Turn = self.queue.front()?.turn;
        let together = self.queue.iter().take(self.config.batch.max(1));
        let size = together.take_while(|planned| planned.turn == turn).count();
        let batch = self.queue.drain(..size).map(|planned| planned.step).collect();
        if self.queue.is_empty() {
            self.working.clear();
        }
        Some(batch)
    }

    /// Finds the steps of everything that may have changed.
    fn compare(&mut self, now: Millis) {
        let due: Vec<Section> = self.troubles.due(now).map(Key::section).collect();
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
        for planned in found {
            match sieve.verdict(&planned.step) {
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
        queue
    }

    /// `key` is no trouble any more, so what was held back may go on.
    fn relieve(&mut self, key: &Key) {
        if self.troubles.remove(key).is_some() {
            self.dirty_held();
        }
    }

    fn dirty_held(&mut self) {
        self.dirty.extend(self.held.keys().cloned());
    }

    /// Whether the present plan has been worked through: every object of it is in the kernel, except
    /// the faulty ones and those held back by them. Unlike the applied generation, this also tells
    /// of a plan that came with the generation of the one before.
    pub const fn is_settled(&self) -> bool {
        self.settled
    }

    /// How far the kernel is, and what is wrong.
    pub fn status(&self) -> Status {
        let (repairs, repaired) = self.damages.repairs();
        let faults = self.troubles.iter().map(|(key, trouble)| FaultStatus {
            key: key.clone(),
            fault: trouble.fault.clone(),
            attempts: trouble.attempts,
            next: trouble.next,
        });
        Status {
            generation_wanted: self.plan.as_ref().map(|plan| plan.generation),
            generation_applied: self.applied,
            settled: self.settled,
            faults: faults.collect(),
            held: self.held.values().sum(),
            gone: self.gone.iter().copied().collect(),
            repairs,
            repaired,
        }
    }
}

fn no_answer() -> Fault {
    Fault {
        call: "apply".to_owned(),
        errno: 5,
        message: "the step got no answer".to_owned(),
        kind: FaultKind::Again,
        hint: String::new(),
    }
}
