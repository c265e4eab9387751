//! What was seen, and how it becomes part of what is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_kernel::state::Objects;
use weft_kernel::{FdbTable, KernelState, Key, Object, Scope, Section, ShortcutKey, TableName};

use crate::diff::{Change, join};
use crate::places::{FIRST_IP, LAST_IP};

/// Keys of the shortcut are the last ones, and this is the first of them.
const FIRST_OF_SHORTCUT: Key = Key::Shortcut(ShortcutKey::Node);

/// Whether there is a shortcut, or some of it.
pub(crate) fn holds_shortcut(state: &KernelState) -> bool {
    let last = |objects: &Objects| matches!(objects.last_key_value(), Some((Key::Shortcut(_), _)));
    state.sections().any(|(_, objects)| last(objects))
}

/// How much of a shortcut there is.
pub(crate) fn shortcut_objects(state: &KernelState) -> usize {
    state.sections().map(|(_, objects)| objects.range(FIRST_OF_SHORTCUT..).count()).sum()
}

/// What the kernel holds of ours within a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What was looked at: what is not in `state` although the scope contains it is not there.
    pub scope: Scope,
    /// What was found. Sysctls are here as far as they are wanted.
    pub state: KernelState,
}

/// A key where what was seen is not what was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) key: Key,
    pub(crate) known: Option<Object>,
    pub(crate) seen: Option<Object>,
}

/// Makes what was seen what is known, and says what is new. A section that is as wanted shares
/// the wanted one's memory.
pub(crate) fn learn(
    have: &mut KernelState,
    observed: Observed,
    want: Option<&KernelState>,
) -> Vec<News> {
    let Observed { scope, state } = observed;
    let sections: BTreeSet<Section> = match &scope {
        Scope::All | Scope::Cheap | Scope::Shortcut => {
            have.sections().chain(state.sections()).map(|(name, _)| name.clone()).collect()
        }
        Scope::Rows(link) => BTreeSet::from([Section::of_device(link)]),
    };
    let mut news = Vec::new();
    for section in sections {
        let (known, seen) = (have.section(&section), state.section(&section));
        if let (Some(known), Some(seen)) = (known, seen)
            && Arc::ptr_eq(known, seen)
        {
            continue;
        }
        let changes = join(within(seen, &scope), within(known, &scope));
        let changes: Vec<News> = changes.iter().map(to_news).collect();
        if scope == Scope::All {
            let wanted = want.and_then(|want| want.section(&section));
            take_whole(have, section, wanted, seen, !changes.is_empty());
        } else {
            for News { key, seen, .. } in &changes {
                match seen {
                    Some(object) => have.insert(key.clone(), object.clone()),
                    None => drop(have.remove(key)),
                }
            }
        }
        news.extend(changes);
    }
    news
}

fn take_whole(
    have: &mut KernelState,
    section: Section,
    wanted: Option<&Arc<Objects>>,
    seen: Option<&Arc<Objects>>,
    is_new: bool,
) {
    let shares = |wanted| have.section(&section).is_some_and(|known| Arc::ptr_eq(known, wanted));
    match (wanted, seen) {
        (Some(wanted), _) if !is_new && shares(wanted) => {}
        (Some(wanted), Some(seen)) if wanted == seen => {
            have.set_section(section, Arc::clone(wanted))
        }
        (_, seen) if is_new => have.set_section(section, seen.cloned().unwrap_or_default()),
        _ => {}
    }
}

fn to_news(change: &Change<'_>) -> News {
    News { key: change.key.clone(), known: change.have.cloned(), seen: change.want.cloned() }
}

/// The objects of a section that are in `scope`.
fn within<'a>(
    objects: Option<&'a Arc<Objects>>,
    scope: &Scope,
) -> Box<dyn Iterator<Item = (&'a Key, &'a Object)> + 'a> {
    let Some(objects) = objects else { return Box::new(std::iter::empty()) };
    match scope {
        Scope::All => Box::new(objects.iter()),
        Scope::Cheap => {
            let rows = Key::Neighbour(String::new(), FIRST_IP);
            let table =
                TableName { family: weft_kernel::key::NftFamily::Inet, name: String::new() };
            let after = Key::ForeignRule(table, String::new(), String::new());
            Box::new(objects.range(..rows).chain(objects.range(after..FIRST_OF_SHORTCUT)))
        }
        Scope::Shortcut => Box::new(objects.range(FIRST_OF_SHORTCUT..)),
        Scope::Rows(link) => {
            let (link, scope) = (link.clone(), scope.clone());
            let neighbours = objects.range(
                Key::Neighbour(link.clone(), FIRST_IP)..=Key::Neighbour(link.clone(), LAST_IP),
            );
            let fdb = objects.range(
                Key::Fdb(link.clone(), FdbTable::Device, [0; 6])
                    ..=Key::Fdb(link.clone(), FdbTable::Bridge, [0xff; 6]),
            );
            let flood =
                objects.range(Key::Flood(link.clone(), FIRST_IP)..=Key::Flood(link, LAST_IP));
            let rows = neighbours.chain(fdb).chain(flood);
            Box::new(rows.filter(move |(key, _)| scope.contains(key)))
        }
    }
}
