//! Which steps lead from what is there to what is wanted.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use weft_kernel::object::{Link, LinkKind};
use weft_kernel::state::Objects;
use weft_kernel::{KernelState, Key, Netns, Object, Section, Step, TableName};

use crate::effects::Effects;
use crate::order::{Planned, Turn, delete_rank, put_rank};
use crate::places::{Place, owner_of, place_of};

/// The steps that make `have` into `want`, in an order in which none can fail for want of an
/// earlier one: puts in the order of creation, then deletions the other way round. Only what must
/// make room for a put is deleted before: a link of another kind, one that sits where a wanted one
/// belongs, a set of another type; then everything that went along with it is put again.
///
/// What goes with a deleted link is not deleted itself, and a sysctl never is.
pub fn diff(want: &KernelState, have: &KernelState) -> Vec<Step> {
    let sections = want.sections().chain(have.sections()).map(|(name, _)| name.clone()).collect();
    let planned = diff_in(want, have, &sections, &|_| false);
    planned.into_iter().map(|planned| planned.step).collect()
}

/// The part of [`diff`] that begins in `sections`; what it brings along may lie in others. A key
/// that is `stuck` is not deleted to make room, so that nothing suffers for a try that must wait.
pub(crate) fn diff_in(
    want: &KernelState,
    have: &KernelState,
    sections: &BTreeSet<Section>,
    stuck: &dyn Fn(&Key) -> bool,
) -> Vec<Planned> {
    let found: Vec<Change<'_>> =
        sections.iter().flat_map(|section| changes_in(want, have, section)).collect();
    let free: Vec<Change<'_>> = found.iter().filter(|change| !stuck(change.key)).copied().collect();
    let room = in_the_way(want, have, &free);
    let disturbed: Vec<_> = free.iter().filter_map(disturbs).collect();
    if room.is_empty() && disturbed.is_empty() {
        return arrange(Vec::new(), found);
    }
    let mut left = have.clone();
    let mut touched = sections.clone();
    let mut effects = Effects { state: &mut left, want, touched: &mut touched };
    let mut first = Vec::new();
    for key in room {
        // It may have gone along with another one.
        if let Some(object) = effects.state.get(&key) {
            let turn = Turn::MakeRoom(delete_rank(&key, object));
            effects.delete(&key);
            first.push(Planned { turn, step: Step::Delete(key) });
        }
    }
    for (ns, name, old, new) in disturbed {
        effects.disturb(ns, name, old, new);
    }
    let found = touched.iter().flat_map(|section| changes_in(want, &left, section)).collect();
    arrange(first, found)
}

/// A key where two states differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) key: &'a Key,
    pub(crate) want: Option<&'a Object>,
    pub(crate) have: Option<&'a Object>,
}

fn changes_in<'a>(
    want: &'a KernelState,
    have: &'a KernelState,
    section: &Section,
) -> Vec<Change<'a>> {
    let (want, have) = (want.section(section), have.section(section));
    if let (Some(want), Some(have)) = (want, have)
        && Arc::ptr_eq(want, have)
    {
        return Vec::new();
    }
    let rows = |objects: Option<&'a Arc<Objects>>| objects.into_iter().flat_map(|o| o.iter());
    let mut changes = join(rows(want), rows(have));
    changes.retain(|change| change.want.is_some() || !matches!(change.key, Key::Sysctl(..)));
    changes
}

/// Where two ascending sequences differ.
pub(crate) fn join<'a>(
    want: impl Iterator<Item = (&'a Key, &'a Object)>,
    have: impl Iterator<Item = (&'a Key, &'a Object)>,
) -> Vec<Change<'a>> {
    let (mut want, mut have) = (want.peekable(), have.peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (want.peek(), have.peek()) {
            (Some((w, _)), Some((h, _))) => w.cmp(h),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return changes,
        };
        let wanted = if order == Ordering::Greater { None } else { want.next() };
        let had = if order == Ordering::Less { None } else { have.next() };
        let Some((key, _)) = wanted.or(had) else { return changes };
        let (want, have) = (wanted.map(|(_, o)| o), had.map(|(_, o)| o));
        if want != have {
            changes.push(Change { key, want, have });
        }
    }
}

/// An existing link that will lose rows when its attributes are set.
fn disturbs<'a>(change: &Change<'a>) -> Option<(Netns, &'a str, &'a Link, &'a Link)> {
    match (change.key, change.want, change.have) {
        (Key::Link(ns, name), Some(Object::Link(new)), Some(Object::Link(old)))
            if old.mac != new.mac || old.port != new.port =>
        {
            Some((*ns, name, old, new))
        }
        _ => None,
    }
}

/// What must be deleted before the puts, the last created first.
fn in_the_way(want: &KernelState, have: &KernelState, found: &[Change<'_>]) -> Vec<Key> {
    let mut room = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for change in found {
        if is_other_kind(change) {
            room.insert(change.key.clone());
        }
        if let Some(object) = change.want
            && (change.have.is_none() || is_other_kind(change))
        {
            wanted.extend(place_of(change.key, object));
        }
        if let (Key::Set(table, _), Some(_), Some(_)) = (change.key, change.want, change.have) {
            room.extend(chains_of(have, table));
            room.insert(change.key.clone());
        }
    }
    for change in found {
        if let (None, Some(object)) = (change.want, change.have)
            && place_of(change.key, object).is_some_and(|place| wanted.contains(&place))
        {
            room.insert(change.key.clone());
        }
        room.extend(orphan(want, have, change, &wanted));
    }
    room.extend(squatters(have, &wanted));
    let mut room: Vec<Key> = room.into_iter().collect();
    room.sort_by_cached_key(|key| have.get(key).map(|object| delete_rank(key, object)));
    room
}

fn is_other_kind(change: &Change<'_>) -> bool {
    matches!((change.want, change.have), (Some(Object::Link(new)), Some(Object::Link(old))) if old.kind != new.kind)
}

/// All chains of a table: the set they may look at cannot go before them.
fn chains_of(have: &KernelState, table: &TableName) -> impl Iterator<Item = Key> {
    have.iter()
        .map(|(key, _)| key)
        .filter(move |key| matches!(key, Key::Chain(t, _) | Key::DeviceChain(t, ..) if t == table))
        .cloned()
}

/// The host's end of a veth whose other end is missing (renamed, or moved elsewhere by somebody):
/// only a new pair brings it back.
fn orphan(
    want: &KernelState,
    have: &KernelState,
    change: &Change<'_>,
    wanted: &BTreeSet<Place>,
) -> Option<Key> {
    let (Key::Link(ns, name), Some(Object::Link(link)), None) =
        (change.key, change.want, change.have)
    else {
        return None;
    };
    if link.kind != LinkKind::VethPeer || wanted.contains(&Place::PeerName(*ns, name.clone())) {
        return None;
    }
    owner_of(want, *ns, name).filter(|owner| have.get(owner).is_some())
}

/// Ends in containers that sit where a wanted pair's other end belongs, and whose host's end is
/// not ours any more.
fn squatters<'a>(
    have: &'a KernelState,
    wanted: &'a BTreeSet<Place>,
) -> impl Iterator<Item = Key> + 'a {
    wanted.iter().filter_map(|place| match place {
        Place::PeerName(ns, name) => {
            let key = Key::Link(*ns, name.clone());
            let alone = have.get(&key).is_some() && owner_of(have, *ns, name).is_none();
            alone.then_some(key)
        }
        Place::Vni(..) | Place::Ip6(..) => None,
    })
}

/// Steps in their order, `first` before all others.
fn arrange(first: Vec<Planned>, found: Vec<Change<'_>>) -> Vec<Planned> {
    let going = Going::new(&found);
    let mut puts = Vec::with_capacity(found.len());
    let mut deletes = Vec::new();
    for change in &found {
        match (change.want, change.have) {
            (Some(object), _) => puts.push((put_rank(change.key, object), change.key, object)),
            (None, Some(object)) if !going.takes_along(change.key) => {
                deletes.push((delete_rank(change.key, object), change.key));
            }
            (None, _) => {}
        }
    }
    // By the rank first: in what is left, keys are mostly in order already, and comparing them is dear.
    puts.sort_by_key(|put| put.0);
    puts.chunk_by_mut(|a, b| a.0 == b.0).for_each(|same| same.sort_by(|a, b| a.1.cmp(b.1)));
    deletes.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    let puts = puts.into_iter().map(|(rank, key, object)| Planned {
        turn: Turn::Put(rank),
        step: Step::Put(key.clone(), object.clone()),
    });
    let deletes = deletes
        .into_iter()
        .map(|(rank, key)| Planned { turn: Turn::Delete(rank), step: Step::Delete(key.clone()) });
    first.into_iter().chain(puts).chain(deletes).collect()
}

/// What is deleted and takes other objects along.
#[derive(Default)]
struct Going<'a> {
    links: BTreeSet<(Netns, &'a str)>,
    peers: BTreeSet<(Netns, &'a str)>,
    tables: BTreeSet<&'a TableName>,
    sets: BTreeSet<(&'a TableName, &'a str)>,
}

impl<'a> Going<'a> {
    fn new(found: &[Change<'a>]) -> Self {
        let mut going = Self::default();
        let gone = found.iter().filter(|change| change.want.is_none());
        for change in gone {
            match (change.key, change.have) {
                (Key::Link(ns, name), Some(Object::Link(link))) => {
                    going.links.insert((*ns, name));
                    if let LinkKind::Veth { peer_netns, peer } = &link.kind {
                        going.peers.insert((*peer_netns, peer));
                    }
                }
                (Key::Table(table), _) => {
                    going.tables.insert(table);
                }
                (Key::Set(table, set), _) => {
                    going.sets.insert((table, set));
                }
                _ => {}
            }
        }
        going
    }

    fn takes_along(&self, key: &Key) -> bool {
        match key {
            Key::Link(ns, name) => self.peers.contains(&(*ns, name.as_str())),
            Key::Element(table, set, _) => {
                self.tables.contains(table) || self.sets.contains(&(table, set))
            }
            Key::Set(table, _) | Key::Chain(table, _) | Key::DeviceChain(table, ..) => {
                self.tables.contains(table)
            }
            _ => key.sits_on().is_some_and(|link| self.links.contains(&link)),
        }
    }
}
