//! The machine: holds what is wanted and what was seen, and says what to do now.

mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use weft_kernel::{
    Fault, FaultKind, KernelState, Key, LinkKind, Netns, NetnsId, Object, Scope, Section, Step,
};

use crate::backoff::Troubles;
use crate::config::{Config, Do, Millis};
use crate::effects::Effects;
use crate::late::Late;
use crate::needs::is_needed;
use crate::observed::{News, Observed, holds_shortcut, learn, shortcut_objects};
use crate::order::Planned;
use crate::sieve::netns_of;
use crate::status::{Damage, Damages, FaultStatus, Status};
use crate::watch::Watch;

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
    /// Steps that wait until nothing else is to be done.
    late: Late,
    /// Sections that may have become as wanted, without sharing the wanted one's memory.
    unshared: BTreeSet<Section>,
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
            late: Late::new(&config),
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
            unshared: BTreeSet::new(),
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
        self.late.plan_came();
        self.watch.shortcut_wanted(holds_shortcut(&want));
        let old = self.plan.replace(Plan { want, generation }).map(|plan| plan.want);
        let (old, Some(Plan { want, .. })) = (old.unwrap_or_default(), &self.plan) else {
            return true;
        };
        for (section, objects) in want.sections() {
            let same = old.section(section).is_some_and(|o| Arc::ptr_eq(o, objects));
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
        if matches!(scope, Scope::All | Scope::Shortcut) {
            self.watch.shortcut_seen(shortcut_objects(&observed.state));
        }
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
            if scope != Scope::All {
                self.forget_what_sat_on(&item);
            }
            let lent = is_lent_anew(&item).then(|| item.key.clone());
            if !first {
                self.judge(item);
            }
            if let Some(key) = lent {
                self.relieve(&key);
            }
        }
    }

    /// With a link that is gone, or another one by now, went what was not read along with it.
    fn forget_what_sat_on(&mut self, news: &News) {
        let Some(Plan { want, .. }) = &self.plan else { return };
        let kind = |object: &Option<Object>| match object {
            Some(Object::Link(link)) => Some(link.kind.clone()),
            _ => None,
        };
        if let Key::Link(Netns::Host, name) = &news.key
            && kind(&news.seen) != kind(&news.known)
        {
            let (state, touched) = (&mut self.have, &mut self.doubtful);
            Effects { state, want, touched }.link_vanished(name);
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
            self.dirty.extend(self.late.sections().cloned());
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
        self.late.tick(now);
        self.watch.tick(now);
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
            if let Some(batch) = self.next_batch(now) {
                self.doing = Doing::Applying;
                return Do::Apply(batch);
            }
            self.applied = Some(generation);
            self.settled = true;
        }
        if let Some(scope) = self.watch.due(now) {
            return self.observe(scope, now);
        }
        self.rest(now)
    }

    /// Everything is as wanted, or waits.
    fn rest(&mut self, now: Millis) -> Do {
        self.share();
        if self.watch.is_complete()
            && let Some(step) = self.next_late(now)
        {
            self.doing = Doing::Applying;
            return Do::Apply(vec![step]);
        }
        let late = self.next_late_at(now);
        let tries = self.troubles.next(|key| self.late.contains(key));
        Do::Sleep([self.watch.next(), tries, late].into_iter().flatten().min())
    }

    fn observe(&mut self, scope: Scope, now: Millis) -> Do {
        self.watch.begin(&scope, now);
        self.doing = Doing::Observing;
        Do::Observe(scope)
    }

    /// Whether the present plan has been worked through: every object of it is in the kernel, except
    /// the faulty ones, those held back by them, and those that can wait. Unlike the applied generation, this also tells
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
            late: self.late.len(),
            gone: self.gone.iter().copied().collect(),
            repairs,
            repaired,
        }
    }
}

/// Whether a pair was lent. No step could make it, so nothing is to be waited for any more.
fn is_lent_anew(news: &News) -> bool {
    let lent = matches!(&news.seen, Some(Object::Link(link)) if link.kind == LinkKind::Lent);
    lent && news.known.is_none()
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
