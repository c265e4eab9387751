//! What is read from the kernel, and when.

use std::collections::BTreeMap;

use weft_kernel::Scope;

use crate::config::{Config, Millis};

/// So many links with doubtful rows are read in one go with everything else.
const MANY_LINKS: usize = 16;

/// When each scope is read next. A request never waits for a period, but two readings of one scope
/// keep a distance, so that a storm of events is one reading.
#[derive(Debug)]
pub(crate) struct Watch {
    every_all: Millis,
    every_cheap: Millis,
    few_shortcut_objects: usize,
    /// Whether a plan has a shortcut, and how much was there of one.
    shortcut_wanted: bool,
    shortcut_seen: usize,
    distance: Millis,
    due: BTreeMap<Scope, Millis>,
    last: BTreeMap<Scope, Millis>,
    failures: u32,
    complete: bool,
}

impl Watch {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            every_all: config.observe_all_every,
            every_cheap: config.observe_cheap_every,
            few_shortcut_objects: config.few_shortcut_objects,
            shortcut_wanted: false,
            shortcut_seen: 0,
            distance: config.distance,
            due: BTreeMap::from([(Scope::All, 0)]),
            last: BTreeMap::new(),
            failures: 0,
            complete: false,
        }
    }

    /// Whether everything has been read once.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the plan has a shortcut.
    pub(crate) const fn shortcut_wanted(&mut self, yes: bool) {
        self.shortcut_wanted = yes;
    }

    /// So many objects of the shortcut were read.
    pub(crate) const fn shortcut_seen(&mut self, objects: usize) {
        self.shortcut_seen = objects;
    }

    /// How often the shortcut is read; `None` where there is none.
    fn every_shortcut(&self) -> Option<Millis> {
        match self.shortcut_seen {
            0 if !self.shortcut_wanted => None,
            few if few <= self.few_shortcut_objects => Some(self.every_cheap),
            _ => Some(self.every_all),
        }
    }

    /// It is `now`: nobody tells of what happens to the shortcut.
    pub(crate) fn tick(&mut self, now: Millis) {
        if self.complete
            && let Some(every) = self.every_shortcut()
        {
            self.due.entry(Scope::Shortcut).or_insert(now + every);
        }
    }

    /// `scope` should be read at `at`, if it is not read before.
    pub(crate) fn request(&mut self, scope: Scope, at: Millis) {
        if self.due.get(&Scope::All).is_some_and(|all| *all <= at) {
            return;
        }
        let due = self.due.entry(scope).or_insert(at);
        *due = at.min(*due);
        let links = self.due.keys().filter(|scope| matches!(scope, Scope::Rows(_)));
        if links.count() > MANY_LINKS {
            let soonest =
                |(scope, at): (&Scope, &Millis)| matches!(scope, Scope::Rows(_)).then_some(*at);
            let at = self.due.iter().filter_map(soonest).min().unwrap_or(at);
            self.due.retain(|scope, _| !matches!(scope, Scope::Rows(_)));
            self.request(Scope::All, at);
        }
    }

    /// What to read now: the one that has waited longest.
    pub(crate) fn due(&self, now: Millis) -> Option<Scope> {
        let (at, scope) = self.soonest()?;
        (at <= now).then(|| scope.clone())
    }

    /// Whether something waits to be read, be it only for the distance.
    pub(crate) fn has_requests(&self, now: Millis) -> bool {
        self.due.values().any(|at| *at <= now)
    }

    /// What has been due for so long that other work must wait.
    pub(crate) fn overdue(&self, now: Millis, grace: Millis) -> Option<Scope> {
        let (at, scope) = self.soonest()?;
        (!self.complete || at.saturating_add(grace) <= now)
            .then(|| scope.clone())
            .filter(|_| at <= now)
    }

    /// When something has to be read next.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.soonest().map(|(at, _)| at)
    }

    fn soonest(&self) -> Option<(Millis, &Scope)> {
        self.due.iter().map(|(scope, at)| ((*at).max(self.earliest(scope)), scope)).min()
    }

    /// The distance to the last reading; four times as much for the dearest.
    fn earliest(&self, scope: &Scope) -> Millis {
        let dear = match scope {
            Scope::All => true,
            Scope::Shortcut => self.shortcut_seen > self.few_shortcut_objects,
            Scope::Cheap | Scope::Rows(_) => false,
        };
        let distance = if dear { 4 * self.distance } else { self.distance };
        let last = self.last.get(scope).into_iter().chain(self.last.get(&Scope::All)).max();
        last.map_or(0, |last| last + distance)
    }

    /// `scope` is being read.
    pub(crate) fn begin(&mut self, scope: &Scope, now: Millis) {
        let distance = self.distance;
        self.last.retain(|scope, last| !matches!(scope, Scope::Rows(_)) || *last + distance > now);
        self.last.insert(scope.clone(), now);
        self.due.remove(scope);
        if *scope == Scope::All {
            self.due.retain(|other, at| *at > now && *other != Scope::Shortcut);
            self.due.insert(Scope::All, now + self.every_all);
        }
        if matches!(scope, Scope::All | Scope::Cheap) {
            self.due.insert(Scope::Cheap, now + self.every_cheap);
        }
    }

    /// It was read.
    pub(crate) const fn done(&mut self, scope: &Scope) {
        self.failures = 0;
        if matches!(scope, Scope::All) {
            self.complete = true;
        }
    }

    /// It could not be read: again later.
    pub(crate) fn failed(&mut self, scope: Scope, now: Millis) {
        self.failures = self.failures.saturating_add(1);
        let wait = self.distance.saturating_mul(1 << self.failures.min(5));
        self.request(scope, now + wait);
    }
}
