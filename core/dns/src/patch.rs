//! What changed between two tables, so that a new name among a hundred thousand costs one record.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Asker, NameTable, NetworkNames, Record};

/// How to get from one [`NameTable`] to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Patch {
    /// The generation it leads to.
    pub generation: u64,
    /// The networks that differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, NetworkChange>,
    /// Who asks no longer, and who asks now.
    #[serde(default, skip_serializing_if = "Delta::is_empty")]
    pub askers: Delta<Asker>,
}

/// How one network differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkChange {
    /// The node takes part in it no longer.
    Gone,
    /// It is new, or more than its records differs.
    Whole(Arc<NetworkNames>),
    /// Its records differ.
    Records(Delta<Record>),
}

/// What was taken out of a list, and what put in. Its order means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta<T> {
    /// In the old list and not in the new.
    pub removed: Vec<T>,
    /// In the new list and not in the old.
    pub added: Vec<T>,
}

impl<T> Default for Delta<T> {
    fn default() -> Self {
        Self { removed: Vec::new(), added: Vec::new() }
    }
}

impl<T> Delta<T> {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl<T: Ord + Clone> Delta<T> {
    /// What differs between two lists. Lists that agree but for one stretch, as those of a plan do
    /// from one change to the next, are compared without being sorted.
    pub fn between(old: &[T], new: &[T]) -> Self {
        let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[head..], &new[head..]);
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
        let mut count: BTreeMap<&T, (usize, usize)> = BTreeMap::new();
        for item in old {
            count.entry(item).or_default().0 += 1;
        }
        for item in new {
            count.entry(item).or_default().1 += 1;
        }
        let mut delta = Self::default();
        for (item, (before, after)) in count {
            let surplus = |more: usize, less: usize| {
                std::iter::repeat_n(item.clone(), more.saturating_sub(less))
            };
            delta.removed.extend(surplus(before, after));
            delta.added.extend(surplus(after, before));
        }
        delta
    }
}

impl Patch {
    /// What differs between two tables. A network that both share is known by its pointer.
    pub fn between(old: &NameTable, new: &NameTable) -> Self {
        let mut networks = BTreeMap::new();
        for name in old.networks.keys().filter(|name| !new.networks.contains_key(*name)) {
            networks.insert(name.clone(), NetworkChange::Gone);
        }
        for (name, network) in &new.networks {
            let change = match old.networks.get(name) {
                Some(before) if Arc::ptr_eq(before, network) => None,
                Some(before) => change(before, network),
                None => Some(NetworkChange::Whole(Arc::clone(network))),
            };
            networks.extend(change.map(|change| (name.clone(), change)));
        }
        let askers = Delta::between(&old.askers, &new.askers);
        Self { generation: new.generation, networks, askers }
    }

    /// How many records it puts in or takes out: what it costs to apply.
    pub fn records(&self) -> usize {
        let cost = |change: &NetworkChange| match change {
            NetworkChange::Gone => 1,
            NetworkChange::Whole(network) => network.records.len(),
            NetworkChange::Records(delta) => delta.removed.len() + delta.added.len(),
        };
        self.networks.values().map(cost).sum()
    }
}

fn change(old: &NetworkNames, new: &Arc<NetworkNames>) -> Option<NetworkChange> {
    let NetworkNames { bridge, gateways, subnets, internal, records } = &**new;
    let same = old.bridge == *bridge
        && old.gateways == *gateways
        && old.subnets == *subnets
        && old.internal == *internal;
    if !same {
        return Some(NetworkChange::Whole(Arc::clone(new)));
    }
    let delta = Delta::between(&old.records, records);
    (!delta.is_empty()).then_some(NetworkChange::Records(delta))
}
