//! Programs and tables of the shortcut.

use std::collections::BTreeMap;

use nix::errno::Errno;
use weft_kernel::{Attach, Key, Netns, Object, ShortcutKey, ShortcutObject, Step};

use super::{Results, Session, mismatch};
use crate::Linux;
use crate::bpf::Device;
use crate::fault::Trouble;
use crate::link;

impl Session<'_> {
    pub(super) fn shortcut(&mut self, steps: &[Step], results: &mut Results) {
        // Links are not made or deleted by these steps, so each is looked up once.
        let mut indexes = BTreeMap::new();
        let mut rest = steps;
        while let [step, after @ ..] = rest {
            let shortcut = self.linux.shortcut.as_ref();
            let rows = shortcut.map(|shortcut| shortcut.put_rows(rest)).unwrap_or_default();
            rest = if rows.is_empty() { after } else { &rest[rows.len()..] };
            if rows.is_empty() {
                results.push(self.shortcut_step(step, &mut indexes));
            }
            results.extend(rows);
        }
    }

    fn shortcut_step(
        &mut self,
        step: &Step,
        indexes: &mut BTreeMap<String, u32>,
    ) -> Result<(), Trouble> {
        match step {
            Step::Put(Key::Shortcut(key), Object::Shortcut(object)) => {
                self.put_shortcut(key, object, indexes)
            }
            Step::Delete(Key::Shortcut(key)) => self.delete_shortcut(key, indexes),
            Step::Put(..) | Step::Delete(_) => Err(mismatch()),
        }
    }

    fn put_shortcut(
        &mut self,
        key: &ShortcutKey,
        object: &ShortcutObject,
        indexes: &mut BTreeMap<String, u32>,
    ) -> Result<(), Trouble> {
        if self.linux.shortcut.is_none() {
            return Err(Trouble::new(Errno::EOPNOTSUPP, "the shortcut was not started"));
        }
        let name = match (key, object) {
            (ShortcutKey::Vtep(_), ShortcutObject::Vtep(path)) => Some(path.link.as_str()),
            _ => key.sits_on(),
        };
        let ifindex = match (name, key) {
            (None, _) => None,
            // Packets of other hosts come in by links that are not ours.
            (Some(name), ShortcutKey::Vtep(_) | ShortcutKey::Program(_, Attach::FromUnderlay)) => {
                Some(self.index(name, indexes)?.ok_or_else(|| link::absent(name))?)
            }
            (Some(name), _) => Some(self.owned(Netns::Host, name)?.index),
        };
        let Linux { shortcut: Some(shortcut), route, own, .. } = &mut *self.linux else {
            return Ok(());
        };
        match (ifindex, name) {
            (Some(ifindex), Some(name)) => {
                own.look_out_for(ifindex);
                shortcut.put_at(route, Device { ifindex, name }, key, object)
            }
            _ => shortcut.put(key, object),
        }
    }

    fn delete_shortcut(
        &mut self,
        key: &ShortcutKey,
        indexes: &mut BTreeMap<String, u32>,
    ) -> Result<(), Trouble> {
        let ifindex = match key.sits_on() {
            // What was about a link that is gone is swept when all is read.
            Some(name) => match self.index(name, indexes)? {
                Some(ifindex) => Some(ifindex),
                None => return Ok(()),
            },
            None => None,
        };
        let Linux { shortcut: Some(shortcut), route, .. } = &mut *self.linux else {
            return Ok(());
        };
        match ifindex {
            Some(ifindex) => shortcut.delete_at(route, ifindex, key),
            None => shortcut.delete(key),
        }
    }

    /// The number of a link of this name, whoever's it is.
    fn index(
        &mut self,
        name: &str,
        indexes: &mut BTreeMap<String, u32>,
    ) -> Result<Option<u32>, Trouble> {
        if let Some(index) = indexes.get(name) {
            return Ok(Some(*index));
        }
        let info = link::by_name(&mut self.linux.route, name)?;
        if let Some(info) = &info {
            indexes.insert(name.to_owned(), info.index);
        }
        Ok(info.map(|info| info.index))
    }

    /// Deletes a link of the host, and what the shortcut holds of it: first what leads to it, and
    /// at last the programs at it, which die with it at no cost.
    pub(super) fn delete_host_link(&mut self, index: u32) -> Result<(), Trouble> {
        let Linux { shortcut, route, own, .. } = &mut *self.linux;
        if let Some(shortcut) = shortcut {
            own.look_away_from(index);
            shortcut.let_go(index)?;
        }
        crate::link_write::delete(route, index)?;
        match shortcut {
            Some(shortcut) => shortcut.gone(index),
            None => Ok(()),
        }
    }
}
