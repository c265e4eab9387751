//! A kernel made of values, for tests and the simulator: takes steps as Linux does, refuses what
//! Linux refuses, and lets tests break it.
//!
//! What it knows of Linux was looked up on a real one: a bridge whose MAC changes loses its
//! neighbour rows, a link that goes down loses routes, neighbour rows and IPv6 addresses, a port
//! that changes its bridge loses its rows there, an IPv6 address cannot change its prefix length.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::key::{Key, Netns, NetnsId, Section};
use crate::object::{Link, LinkKind};
use crate::{Fault, FaultKind, KernelState, Object, Scope, Step};

mod consequence;
mod refusal;

use refusal::Refusal;

/// For how long an injected fault stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next step on the key fails.
    Once,
    /// Every step on the key fails until [`FakeKernel::heal`].
    Always,
}

/// One host's kernel.
#[derive(Debug, Clone, Default)]
pub struct FakeKernel {
    ours: KernelState,
    foreign: BTreeMap<Key, Object>,
    netns: BTreeSet<NetnsId>,
    faults: BTreeMap<Key, (i32, Times)>,
    script: VecDeque<Option<i32>>,
    chains_outlive_links: bool,
}

impl FakeKernel {
    /// A host with nothing on it, and no container.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a chain bound to a device stays when the device goes, and is bound again when a
    /// device of that name comes back: so since Linux 6.16; before, the chain went too.
    pub fn chains_outlive_links(&mut self, yes: bool) {
        self.chains_outlive_links = yes;
    }

    /// A container's namespace comes into being.
    pub fn add_netns(&mut self, id: NetnsId) {
        self.netns.insert(id);
    }

    /// A container's namespace dies: with it all that is in it, and the host's end of every veth
    /// that leads into it.
    pub fn remove_netns(&mut self, id: NetnsId) {
        self.netns.remove(&id);
        let leads_there = |object: &Object| {
            matches!(object, Object::Link(link)
                if matches!(&link.kind, LinkKind::Veth { peer_netns, .. } if *peer_netns == Netns::Container(id)))
        };
        let ends: Vec<Key> =
            self.ours.iter().filter(|(_, o)| leads_there(o)).map(|(k, _)| k.clone()).collect();
        for end in ends {
            self.take_away(&end);
        }
        self.ours.set_section(Section::Container(id), std::sync::Arc::default());
        self.foreign.retain(|key, _| key.section() != Section::Container(id));
    }

    /// A container runtime is lent the other end of a new pair: the host's end is there as `link`
    /// says, but down and on no bridge yet. One that is lent already is kept where it is.
    ///
    /// # Errors
    /// When somebody else's link has the name.
    pub fn lend(&mut self, name: &str, link: &Link) -> Result<(), Fault> {
        let key = Key::Link(Netns::Host, name.to_owned());
        let kept = match self.ours.get(&key) {
            Some(Object::Link(link)) if link.kind == LinkKind::Lent => Some(link.port.clone()),
            _ => None,
        };
        if kept.is_none() {
            self.take_away(&key);
        }
        let port = kept.unwrap_or_default();
        let link = Link { kind: LinkKind::Lent, port, ..link.clone() };
        let step = Step::Put(key, Object::Link(link));
        if self.foreign.contains_key(step.key()) {
            return Err(refusal::fault(&step, &Refusal::Taken));
        }
        self.commit(&step);
        Ok(())
    }

    /// Everything of ours.
    pub fn observe(&self) -> KernelState {
        self.ours.clone()
    }

    /// What is ours within `scope`.
    pub fn observe_scope(&self, scope: &Scope) -> KernelState {
        if *scope == Scope::All {
            return self.observe();
        }
        let within = self.ours.iter().filter(|(key, _)| scope.contains(key));
        within.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Everything that belongs to others.
    pub const fn foreign(&self) -> &BTreeMap<Key, Object> {
        &self.foreign
    }

    /// Whether `step` would change nothing.
    pub fn holds(&self, step: &Step) -> bool {
        match step {
            Step::Put(key, object) => self.ours.get(key) == Some(object),
            Step::Delete(key) => self.ours.get(key).is_none(),
        }
    }

    /// Takes the steps one after the other; a failed one does not stop the next.
    ///
    /// # Errors
    /// One result per step: what the kernel refused.
    pub fn apply(&mut self, steps: &[Step]) -> Vec<Result<(), Fault>> {
        steps.iter().map(|step| self.apply_one(step)).collect()
    }

    fn apply_one(&mut self, step: &Step) -> Result<(), Fault> {
        if let Some(errno) = self.injected(step.key()) {
            return Err(refusal::fault(step, &Refusal::Errno(errno)));
        }
        if matches!(step, Step::Delete(key) if self.foreign.contains_key(key)) {
            return Ok(());
        }
        match self.refusal(step) {
            Some(refused) => Err(refusal::fault(step, &refused)),
            None => {
                self.commit(step);
                Ok(())
            }
        }
    }

    fn injected(&mut self, key: &Key) -> Option<i32> {
        if let Some(Some(errno)) = self.script.pop_front() {
            return Some(errno);
        }
        let (errno, times) = *self.faults.get(key)?;
        if times == Times::Once {
            self.faults.remove(key);
        }
        Some(errno)
    }

    /// Steps on `key` fail with `errno` (positive).
    pub fn fail(&mut self, key: Key, errno: i32, times: Times) {
        self.faults.insert(key, (errno, times));
    }

    /// Steps on `key` no longer fail.
    pub fn heal(&mut self, key: &Key) {
        self.faults.remove(key);
    }

    /// The outcome of the next steps, in order, whatever they are: an errno, or `None` for as it
    /// would be.
    pub fn script(&mut self, outcomes: impl IntoIterator<Item = Option<i32>>) {
        self.script.extend(outcomes);
    }

    /// No injected fault is left.
    pub fn heal_all(&mut self) {
        self.faults.clear();
        self.script.clear();
    }

    /// Somebody else changes an object of ours, as far as the kernel lets them.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn tamper(&mut self, step: &Step) -> Result<(), Fault> {
        if let Some(refused) = self.refusal(step) {
            return Err(refusal::fault(step, &refused));
        }
        self.commit(step);
        Ok(())
    }

    /// Somebody else puts an object of their own: one without our mark.
    pub fn put_foreign(&mut self, key: Key, object: Object) {
        self.foreign.insert(key, object);
    }

    /// Somebody else takes their object away, and with it our rules in it, or our programs at it.
    pub fn remove_foreign(&mut self, key: &Key) {
        self.foreign.remove(key);
        match key {
            Key::Chain(table, chain) => self.drop_where(
                |k, _| matches!(k, Key::ForeignRule(t, c, _) if t == table && c == chain),
            ),
            Key::Link(ns, link) => self.drop_where(|k, _| {
                matches!(k, Key::Shortcut(_)) && k.sits_on() == Some((*ns, link.as_str()))
            }),
            _ => {}
        }
    }
}

/// Which kind of fault an errno is, as `weft-linux` sorts them.
const fn kind_of(refused: &Refusal) -> FaultKind {
    match refused {
        Refusal::Errno(_) | Refusal::NotLent => FaultKind::Again,
        Refusal::NetnsGone => FaultKind::NetnsGone,
        Refusal::Taken => FaultKind::Taken,
    }
}
