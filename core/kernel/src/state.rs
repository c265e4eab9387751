//! A host's kernel state: objects by key, shared section by section.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Key, Object, Section};

/// The objects of one section.
pub type Objects = BTreeMap<Key, Object>;

/// What a host holds, or should hold. Sections are shared, so a copy is cheap and an unchanged
/// section can be told by its pointer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelState {
    sections: BTreeMap<Section, Arc<Objects>>,
}

impl KernelState {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.sections.get(&key.section())?.get(key)
    }

    /// Puts `object` at `key`.
    pub fn insert(&mut self, key: Key, object: Object) {
        let section = self.sections.entry(key.section()).or_default();
        Arc::make_mut(section).insert(key, object);
    }

    /// Takes away what is at `key`.
    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        let name = key.section();
        let section = self.sections.get_mut(&name)?;
        let removed = Arc::make_mut(section).remove(key);
        if section.is_empty() {
            self.sections.remove(&name);
        }
        removed
    }

    /// The objects of one section, shared.
    pub fn section(&self, section: &Section) -> Option<&Arc<Objects>> {
        self.sections.get(section)
    }

    /// Replaces a whole section. Every key must belong to it; an empty one is dropped.
    pub fn set_section(&mut self, section: Section, objects: Arc<Objects>) {
        debug_assert!(objects.keys().all(|key| key.section() == section));
        if objects.is_empty() {
            self.sections.remove(&section);
        } else {
            self.sections.insert(section, objects);
        }
    }

    /// Sections in order.
    pub fn sections(&self) -> impl Iterator<Item = (&Section, &Arc<Objects>)> {
        self.sections.iter()
    }

    /// All objects, section by section.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.sections.values().flat_map(|objects| objects.iter())
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.sections.values().map(|objects| objects.len()).sum()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }
}

impl FromIterator<(Key, Object)> for KernelState {
    fn from_iter<I: IntoIterator<Item = (Key, Object)>>(objects: I) -> Self {
        let mut sections: BTreeMap<Section, Objects> = BTreeMap::new();
        for (key, object) in objects {
            sections.entry(key.section()).or_default().insert(key, object);
        }
        Self { sections: sections.into_iter().map(|(s, o)| (s, Arc::new(o))).collect() }
    }
}
