//! Steps that can wait. To attach a program or take one away costs the kernel a grace period of
//! RCU, ten milliseconds in which no link can be changed, and until it is there the bridge path
//! carries. So nobody waits for these steps: they come one by one, when all else is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weft_kernel::{Attach, Key, Netns, Section, ShortcutKey, Step};

use crate::config::{Config, Millis};
use crate::order::Planned;

/// Whether a step can wait.
pub(crate) const fn is_late(key: &Key) -> bool {
    matches!(key, Key::Shortcut(ShortcutKey::Program(..)))
}

/// The steps that wait, and when it was last quiet.
#[derive(Debug)]
pub(crate) struct Late {
    quiet: Millis,
    patience: Millis,
    waiting: BTreeMap<Key, Waiting>,
    by_age: BTreeSet<(Millis, Key)>,
    /// A plan has come since the time was last known.
    plan_came: bool,
    /// When the last plan came.
    planned: Millis,
    /// Before this, none is taken while it is not quiet.
    not_before: Millis,
}

#[derive(Debug)]
struct Waiting {
    since: Millis,
    section: Section,
    step: Step,
}

impl Late {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            quiet: config.late_quiet,
            patience: config.late_patience,
            waiting: BTreeMap::new(),
            by_age: BTreeSet::new(),
            plan_came: false,
            planned: 0,
            not_before: 0,
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the step at `key` waits.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.waiting.contains_key(key)
    }

    /// Where they wait.
    pub(crate) fn sections(&self) -> impl Iterator<Item = &Section> {
        self.waiting.values().map(|waiting| &waiting.section)
    }

    /// A plan came.
    pub(crate) const fn plan_came(&mut self) {
        self.plan_came = true;
    }

    /// It is `now`.
    pub(crate) const fn tick(&mut self, now: Millis) {
        if self.plan_came {
            self.plan_came = false;
            self.planned = now;
        }
    }

    /// `steps` are all that wait in `sections`. One that waited already keeps its age.
    pub(crate) fn replace(&mut self, sections: &BTreeSet<Section>, steps: Vec<Step>, now: Millis) {
        let theirs = |_: &Key, old: &mut Waiting| sections.contains(&old.section);
        let mut before: BTreeMap<Key, Waiting> = self.waiting.extract_if(.., theirs).collect();
        for (key, old) in &before {
            self.by_age.remove(&(old.since, key.clone()));
        }
        for step in steps {
            let key = step.key().clone();
            // What another one would take along may lie in another section.
            let old = before.remove(&key).or_else(|| self.remove(&key));
            let since = old.filter(|old| old.step == step).map_or(now, |old| old.since);
            self.by_age.insert((since, key.clone()));
            self.waiting.insert(key.clone(), Waiting { since, section: key.section(), step });
        }
    }

    /// The next one, if there is nothing else to do `now`.
    pub(crate) fn next(&mut self, now: Millis) -> Option<Step> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        if now < self.planned + self.quiet {
            self.not_before = now + self.quiet;
        }
        let (_, key) = self.by_age.first()?.clone();
        self.remove(&key).map(|waiting| waiting.step)
    }

    /// The next one that must not wait any longer although other steps do. Not one at a link that
    /// these are about, or in a section in doubt: it may be wrong by then.
    pub(crate) fn overdue(
        &mut self,
        now: Millis,
        queue: &VecDeque<Planned>,
        doubtful: &BTreeSet<Section>,
    ) -> Option<Step> {
        if self.overdue_at().is_none_or(|at| at > now) {
            return None;
        }
        // Whether or not there is one, to look for it is not free.
        self.not_before = now + self.quiet;
        let busy = Busy::of(queue);
        let oldest = self.by_age.iter().take_while(|(since, _)| since + self.patience <= now);
        let free = oldest.map(|(_, key)| key).find(|key| {
            let section = self.waiting.get(*key).map(|waiting| &waiting.section);
            !busy.concerns(key) && section.is_some_and(|section| !doubtful.contains(section))
        });
        let key = free?.clone();
        self.remove(&key).map(|waiting| waiting.step)
    }

    /// When the next one's time comes, if there is nothing else to do.
    pub(crate) fn next_at(&self) -> Option<Millis> {
        let overdue = self.overdue_at()?;
        Some(overdue.min(self.planned + self.quiet))
    }

    /// When the next one has waited too long.
    pub(crate) fn overdue_at(&self) -> Option<Millis> {
        let (since, _) = self.by_age.first()?;
        Some((since + self.patience).max(self.not_before))
    }

    fn remove(&mut self, key: &Key) -> Option<Waiting> {
        let waiting = self.waiting.remove(key)?;
        self.by_age.remove(&(waiting.since, key.clone()));
        Some(waiting)
    }
}

/// What the steps in a queue are about.
struct Busy<'a> {
    links: BTreeSet<&'a str>,
    /// The tables of the shortcut are being filled.
    tables: bool,
}

impl<'a> Busy<'a> {
    fn of(queue: &'a VecDeque<Planned>) -> Self {
        let mut busy = Self { links: BTreeSet::new(), tables: false };
        for key in queue.iter().map(|planned| planned.step.key()) {
            match key {
                Key::Link(Netns::Host, link) => drop(busy.links.insert(link)),
                Key::Shortcut(_) => busy.tables = true,
                _ => {}
            }
            if let Some((Netns::Host, link)) = key.sits_on() {
                busy.links.insert(link);
            }
        }
        busy
    }

    /// A program for the underlay drops what comes from nobody it knows: it comes after the tables.
    fn concerns(&self, key: &Key) -> bool {
        let underlay = matches!(key, Key::Shortcut(ShortcutKey::Program(_, Attach::FromUnderlay)));
        let at = |(_, link): (Netns, &str)| self.links.contains(link);
        underlay && self.tables || key.sits_on().is_some_and(at)
    }
}
