//! Which of the steps that were found may be taken now.

use std::collections::BTreeSet;

use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{FdbTable, KernelState, Key, Netns, NetnsId, Object, Step};

use crate::backoff::Troubles;
use crate::config::Millis;
use crate::needs::{is_needed, needs};

/// How far needs are followed: chains that jump in a circle would have no end.
const DEEPEST: u8 = 8;

/// Whether a step may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes.
    Go,
    /// It failed, and its time has not come again.
    Wait,
    /// Its container is gone.
    Gone,
    /// Something it needs is missing and must wait itself.
    Held,
}

/// Judges the steps of one comparison.
pub(crate) struct Sieve<'a> {
    want: &'a KernelState,
    have: &'a KernelState,
    troubles: &'a Troubles,
    gone: &'a BTreeSet<NetnsId>,
    now: Millis,
    /// Whether anything at all can hold another thing back.
    blocking: bool,
    /// The last row's link and table, and whether it was held: the next row's are mostly the same.
    last_row: Option<(String, FdbTable, bool)>,
}

impl<'a> Sieve<'a> {
    pub(crate) fn new(
        want: &'a KernelState,
        have: &'a KernelState,
        troubles: &'a Troubles,
        gone: &'a BTreeSet<NetnsId>,
        now: Millis,
    ) -> Self {
        let blocking = !gone.is_empty() || troubles.iter().any(|(key, _)| is_needed(key));
        Self { want, have, troubles, gone, now, blocking, last_row: None }
    }

    pub(crate) fn verdict(&mut self, step: &Step) -> Verdict {
        if self.troubles.waits(step.key(), self.now) {
            return Verdict::Wait;
        }
        if self.is_gone(step) {
            return Verdict::Gone;
        }
        match step {
            Step::Put(key, object) if self.blocking && self.is_held(key, object) => Verdict::Held,
            _ => Verdict::Go,
        }
    }

    fn is_gone(&self, step: &Step) -> bool {
        if self.gone.is_empty() || matches!(step, Step::Delete(Key::Link(Netns::Host, _))) {
            return false;
        }
        netns_of(step, self.have).is_some_and(|id| self.gone.contains(&id))
    }

    fn is_held(&mut self, key: &Key, object: &Object) -> bool {
        let row = match key {
            Key::Neighbour(link, _) | Key::Flood(link, _) => Some((link, FdbTable::Device)),
            Key::Fdb(link, table, _) => Some((link, *table)),
            _ => None,
        };
        if let (Some((link, table)), Some((last, of, held))) = (row, &self.last_row)
            && link == last
            && table == *of
        {
            return *held;
        }
        let held = self.lacks_a_need(key, object, DEEPEST);
        self.last_row = row.map(|(link, table)| (link.clone(), table, held));
        held
    }

    fn lacks_a_need(&self, key: &Key, object: &Object, depth: u8) -> bool {
        needs(self.want, key, object).into_iter().any(|need| {
            let wanted = self.want.get(&need);
            if serves(key, wanted, self.have.get(&need)) {
                return false;
            }
            self.troubles.waits(&need, self.now)
                || wanted.is_some_and(|object| {
                    let held = depth > 0 && self.lacks_a_need(&need, object, depth - 1);
                    held || self.is_gone(&Step::Put(need, object.clone()))
                })
        })
    }
}

/// Whether what `key` needs serves it as it is: a link of the wanted kind, for a bridge's row a
/// port of that bridge, a set of the wanted type, for a switch of forwarding a sysctl's value.
fn serves(key: &Key, want: Option<&Object>, have: Option<&Object>) -> bool {
    let bridge = |link: &Link| link.port.as_ref().map(|port| port.bridge.clone());
    match (want, have) {
        (_, None) => false,
        (Some(Object::Link(want)), Some(Object::Link(have))) => {
            let is_row = matches!(key, Key::Fdb(_, FdbTable::Bridge, _));
            want.kind == have.kind && (!is_row || bridge(want) == bridge(have))
        }
        (Some(Object::Sysctl(want)), Some(Object::Sysctl(have))) => want == have,
        (Some(Object::Set(want)), Some(Object::Set(have))) => want == have,
        _ => true,
    }
}

/// The container that a step works in, or that its veth leads to.
pub(crate) fn netns_of(step: &Step, have: &KernelState) -> Option<NetnsId> {
    let object = match step {
        Step::Put(_, object) => Some(object),
        Step::Delete(key) => have.get(key),
    };
    match (step.key(), object) {
        (
            Key::Link(Netns::Container(id), _)
            | Key::Sysctl(Netns::Container(id), _)
            | Key::Address(Netns::Container(id), ..)
            | Key::Up(Netns::Container(id), _)
            | Key::Route(Netns::Container(id), ..),
            _,
        ) => Some(*id),
        (
            Key::Link(Netns::Host, _),
            Some(Object::Link(Link {
                kind: LinkKind::Veth { peer_netns: Netns::Container(id), .. },
                ..
            })),
        ) => Some(*id),
        _ => None,
    }
}
