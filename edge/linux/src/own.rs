//! What we did ourselves, so that events of it need not be looked at again.
//!
//! Events of FDB rows name no sender, and every write of ours makes one. So the hash of every row
//! that we wrote or saw is kept (16 octets a row): an event that says what we hold is no news.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weft_kernel::{Key, Object};

/// Events of links, and of IPv6 addresses, name no sender either: for this long after we changed
/// anything of that kind, they are ours. What others do meanwhile is found when cheap things are
/// polled.
const SETTLE: Duration = Duration::from_millis(300);

/// A hash is its own hash.
#[derive(Debug, Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Rows = HashMap<u64, u64, BuildHasherDefault<Already>>;

/// Rows by the name of their link, so that a link's can be read anew.
type Links = BTreeMap<String, Rows>;

/// What we wrote, shared with the watcher.
#[derive(Debug)]
pub(crate) struct Own {
    ports: [u32; 2],
    hasher: RandomState,
    rows: Mutex<Links>,
    /// Devices that the shortcut's programs or entries are about.
    devices: Mutex<BTreeSet<u32>>,
    begun: Instant,
    /// Milliseconds since `begun` of the last change to anything but rows, plus one.
    last_change: AtomicU64,
}

impl Own {
    pub(crate) fn new(ports: [u32; 2]) -> Self {
        Self {
            ports,
            hasher: RandomState::new(),
            rows: Mutex::default(),
            devices: Mutex::default(),
            begun: Instant::now(),
            last_change: AtomicU64::new(0),
        }
    }

    /// Whether an event with this sender is ours.
    pub(crate) fn sent(&self, port: u32) -> bool {
        port != 0 && self.ports.contains(&port)
    }

    /// We are about to change something that is no row, or have just done so.
    pub(crate) fn changes(&self) {
        self.last_change.store(self.now() + 1, Ordering::Relaxed);
    }

    /// Whether we changed something that is no row a moment ago.
    pub(crate) fn changed_lately(&self) -> bool {
        let settle = u64::try_from(SETTLE.as_millis()).unwrap_or(u64::MAX);
        let last = self.last_change.load(Ordering::Relaxed);
        last != 0 && self.now() < last.saturating_add(settle)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// These rows are about to be written (`Some`) or deleted.
    pub(crate) fn expect<'a>(
        &self,
        changes: impl Iterator<Item = (&'a str, &'a Key, Option<&'a Object>)>,
    ) {
        let Ok(mut links) = self.rows.lock() else { return };
        for (link, key, object) in changes {
            let key = self.hasher.hash_one(key);
            if !links.contains_key(link) {
                links.insert(link.to_owned(), Rows::default());
            }
            let Some(rows) = links.get_mut(link) else { continue };
            match object {
                Some(object) => drop(rows.insert(key, self.value(object))),
                None => drop(rows.remove(&key)),
            }
        }
    }

    /// The shortcut holds something that is about this device.
    pub(crate) fn look_out_for(&self, ifindex: u32) {
        if let Ok(mut devices) = self.devices.lock() {
            devices.insert(ifindex);
        }
    }

    /// The shortcut holds nothing about this device any more.
    pub(crate) fn look_away_from(&self, ifindex: u32) {
        if let Ok(mut devices) = self.devices.lock() {
            devices.remove(&ifindex);
        }
    }

    /// The shortcut holds something about these devices, and no others.
    pub(crate) fn look_out_for_only(&self, ifindexes: BTreeSet<u32>) {
        if let Ok(mut devices) = self.devices.lock() {
            *devices = ifindexes;
        }
    }

    /// Whether the shortcut holds something that is about this device.
    pub(crate) fn looks_out_for(&self, ifindex: u32) -> bool {
        self.devices.lock().is_ok_and(|devices| devices.contains(&ifindex))
    }

    /// These are all links that there are.
    pub(crate) fn keep<'a>(&self, links: impl Iterator<Item = &'a str>) {
        let there: BTreeSet<&str> = links.collect();
        if let Ok(mut links) = self.rows.lock() {
            links.retain(|link, _| there.contains(link.as_str()));
        }
    }

    /// These are all rows of the link.
    pub(crate) fn saw<'a>(&self, link: &str, rows: impl Iterator<Item = (&'a Key, &'a Object)>) {
        let rows = rows.map(|(key, object)| (self.hasher.hash_one(key), self.value(object)));
        let rows: Rows = rows.collect();
        if let Ok(mut links) = self.rows.lock() {
            if rows.is_empty() {
                links.remove(link);
            } else {
                links.insert(link.to_owned(), rows);
            }
        }
    }

    /// Whether an event that this row is there (`Some`) or gone tells us nothing new.
    pub(crate) fn knows(&self, link: &str, key: &Key, object: Option<&Object>) -> bool {
        let Ok(links) = self.rows.lock() else { return false };
        let known = links.get(link).and_then(|rows| rows.get(&self.hasher.hash_one(key)));
        known.copied() == object.map(|object| self.value(object))
    }

    fn value(&self, object: &Object) -> u64 {
        match object {
            Object::Neighbour(mac) => self.hasher.hash_one(mac),
            Object::Fdb(vtep) => self.hasher.hash_one(vtep),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_kernel::key::FdbTable;
    use weft_kernel::{Key, Object};

    use super::Own;

    #[test]
    fn what_we_wrote_is_known_and_what_others_did_is_not() {
        let own = Own::new([7, 8]);
        let key = Key::Fdb("wv-570001".into(), FdbTable::Device, [2, 0, 0, 0, 0, 1]);
        let vtep = |last: u8| Object::Fdb(Some([172, 10, 0, last].into()));
        let link = "wv-570001";
        assert!(own.knows(link, &key, None) && !own.knows(link, &key, Some(&vtep(1))));
        own.expect([(link, &key, Some(&vtep(1)))].into_iter());
        assert!(own.knows(link, &key, Some(&vtep(1))));
        assert!(!own.knows(link, &key, Some(&vtep(2))), "somebody moved it");
        assert!(!own.knows(link, &key, None), "somebody deleted it");
        own.expect([(link, &key, None)].into_iter());
        assert!(own.knows(link, &key, None));
        own.saw(link, [(&key, &vtep(3))].into_iter());
        assert!(own.knows(link, &key, Some(&vtep(3))));
        assert!(own.sent(7) && !own.sent(9) && !own.sent(0));
    }
}
