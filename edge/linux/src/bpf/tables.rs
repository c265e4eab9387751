//! The tables (BPF maps) that the programs look into, typed by the layout that both sides share.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use weft_ebpf::layout;

use super::sys::{self, ARRAY, ARRAY_PER_CPU, HASH, HASH_PER_CPU, LONGEST_PREFIX, Map, MapInfo};
use crate::fault::Trouble;

/// Key and value.
type Entry<const K: usize, const V: usize> = ([u8; K], [u8; V]);

/// Key, and the values of all CPUs.
type Entries<const K: usize, const V: usize> = ([u8; K], Vec<[u8; V]>);

/// A table with keys of `K` octets and values of `V`.
#[derive(Debug)]
pub(super) struct Table<const K: usize, const V: usize> {
    map: Map,
    name: &'static str,
    most: u32,
}

/// One that holds a value for each CPU.
#[derive(Debug)]
pub(super) struct PerCpu<const K: usize, const V: usize> {
    map: Map,
    cpus: usize,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) node: Table<4, { layout::WEFT_NODE }>,
    pub(super) endpoints: Table<4, { layout::WEFT_ENDPOINT }>,
    pub(super) granted: Table<{ layout::WEFT_GRANTED_KEY }, 4>,
    pub(super) fdb: Table<{ layout::WEFT_FDB_KEY }, { layout::WEFT_FDB }>,
    pub(super) members: Table<{ layout::WEFT_ADDRESS_KEY }, { layout::WEFT_MAC }>,
    pub(super) neighbours: Table<{ layout::WEFT_ADDRESS_KEY }, { layout::WEFT_MAC }>,
    pub(super) vteps: Table<16, { layout::WEFT_VTEP }>,
    pub(super) counters: PerCpu<4, { layout::WEFT_COUNTERS }>,
    pub(super) drops: PerCpu<{ layout::WEFT_DROP_KEY }, { layout::WEFT_COUNT }>,
}

/// What a table must be to be ours: name, kind, octets of key and value.
type Definition = (&'static str, u32, usize, usize);

const DEFINITIONS: [Definition; 9] = [
    ("node", ARRAY, 4, layout::WEFT_NODE),
    ("endpoints", HASH, 4, layout::WEFT_ENDPOINT),
    ("granted", LONGEST_PREFIX, layout::WEFT_GRANTED_KEY, 4),
    ("fdb", HASH, layout::WEFT_FDB_KEY, layout::WEFT_FDB),
    ("members", HASH, layout::WEFT_ADDRESS_KEY, layout::WEFT_MAC),
    ("neighbours", HASH, layout::WEFT_ADDRESS_KEY, layout::WEFT_MAC),
    ("vteps", HASH, 16, layout::WEFT_VTEP),
    ("counters", ARRAY_PER_CPU, 4, layout::WEFT_COUNTERS),
    ("drops", HASH_PER_CPU, layout::WEFT_DROP_KEY, layout::WEFT_COUNT),
];

/// Looks at the tables that are pinned in `dir` already: the programs will be bound to those, and
/// with one of another shape nothing would fit.
pub(super) fn check(dir: &Path) -> Result<(), Trouble> {
    for definition in &DEFINITIONS {
        if let Some(fd) = sys::pinned(&dir.join(definition.0))? {
            // Where something else than a table is pinned, this fails too.
            fits(sys::map_info(fd.as_fd())?, definition, dir)?;
        }
    }
    Ok(())
}

fn fits(info: MapInfo, definition: &Definition, dir: &Path) -> Result<(), Trouble> {
    let (name, kind, key, value) = *definition;
    if (info.kind, info.key as usize, info.value as usize) == (kind, key, value) {
        return Ok(());
    }
    let text = format!(
        "the table {} is not Weft's: map type {}, {} octets of key and {} of value instead of type {kind}, {key} and {value}",
        dir.join(name).display(),
        info.kind,
        info.key,
        info.value,
    );
    Err(Trouble::new(Errno::EINVAL, text).hint(format!(
        "something else made it: remove what is pinned there, `rm -r {}`, and restart the daemon",
        dir.display()
    )))
}

/// The numbers of the tables that are pinned in `dir`.
pub(super) fn numbers(dir: &Path) -> Result<BTreeSet<u32>, Trouble> {
    let mut numbers = BTreeSet::new();
    for (name, ..) in &DEFINITIONS {
        if let Some(fd) = sys::pinned(&dir.join(name))? {
            numbers.insert(sys::map_info(fd.as_fd())?.id);
        }
    }
    Ok(numbers)
}

impl Tables {
    /// Opens the tables that are pinned in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, Trouble> {
        let cpus = cpus()?;
        Ok(Self {
            node: table(dir, "node", cpus)?,
            endpoints: table(dir, "endpoints", cpus)?,
            granted: table(dir, "granted", cpus)?,
            fdb: table(dir, "fdb", cpus)?,
            members: table(dir, "members", cpus)?,
            neighbours: table(dir, "neighbours", cpus)?,
            vteps: table(dir, "vteps", cpus)?,
            counters: per_cpu(dir, "counters", cpus)?,
            drops: per_cpu(dir, "drops", cpus)?,
        })
    }
}

/// How many CPUs this host may have.
pub(super) fn cpus() -> Result<usize, Trouble> {
    aya::util::nr_cpus().map_err(|(_, error)| error.into())
}

fn table<const K: usize, const V: usize>(
    dir: &Path,
    name: &'static str,
    cpus: usize,
) -> Result<Table<K, V>, Trouble> {
    let (map, info) = map::<K, V>(dir, name, cpus)?;
    Ok(Table { map, name, most: info.entries })
}

fn per_cpu<const K: usize, const V: usize>(
    dir: &Path,
    name: &'static str,
    cpus: usize,
) -> Result<PerCpu<K, V>, Trouble> {
    let (map, _) = map::<K, V>(dir, name, cpus)?;
    Ok(PerCpu { map, cpus })
}

fn map<const K: usize, const V: usize>(
    dir: &Path,
    name: &'static str,
    cpus: usize,
) -> Result<(Map, MapInfo), Trouble> {
    let fd = sys::pinned(&dir.join(name))?;
    let kind = DEFINITIONS.iter().find(|definition| definition.0 == name).map(|d| d.1);
    let none = || Trouble::new(Errno::ENOENT, format!("the programs have no table {name}"));
    let (Some(fd), Some(kind)) = (fd, kind) else { return Err(none()) };
    let info = sys::map_info(fd.as_fd())?;
    fits(info, &(name, kind, K, V), dir)?;
    Ok((Map::open(fd, cpus)?.ok_or_else(none)?, info))
}

fn cut<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut cut = [0; N];
    cut.copy_from_slice(&octets[..N]);
    cut
}

impl<const K: usize, const V: usize> Table<K, V> {
    pub(super) fn get(&self, key: &[u8; K]) -> Result<Option<[u8; V]>, Trouble> {
        Ok(self.map.get(key)?.map(|value| cut(&value)))
    }

    pub(super) fn put(&self, key: &[u8; K], value: &[u8; V]) -> Result<(), Trouble> {
        self.map.put(key, value).map_err(|errno| self.explain(errno))
    }

    /// Puts many; one result for each.
    pub(super) fn put_all(&self, entries: &[Entry<K, V>]) -> Vec<Result<(), Trouble>> {
        let mut results: Vec<Result<(), Trouble>> = entries.iter().map(|_| Ok(())).collect();
        let keys = entries.iter().flat_map(|(key, _)| *key).collect::<Vec<u8>>();
        let values = entries.iter().flat_map(|(_, value)| *value).collect::<Vec<u8>>();
        let mut at = 0;
        while let Err((done, errno)) = self.map.put_all(&keys[at * K..], &values[at * V..]) {
            if let Some(result) = results.get_mut(at + done) {
                *result = Err(self.explain(errno));
            }
            at = entries.len().min(at + done + 1);
        }
        results
    }

    fn explain(&self, errno: Errno) -> Trouble {
        match errno {
            Errno::E2BIG | Errno::ENOSPC => full(errno, self.name, self.most),
            errno => errno.into(),
        }
    }

    /// Whether there was such an entry.
    pub(super) fn delete(&self, key: &[u8; K]) -> Result<bool, Trouble> {
        Ok(self.map.delete(key)?)
    }

    /// All entries.
    pub(super) fn entries(&self) -> Result<Vec<Entry<K, V>>, Trouble> {
        let mut entries = Vec::new();
        self.map.entries(|key, value| entries.push((cut(key), cut(value))))?;
        Ok(entries)
    }
}

/// The trouble of a table that has no room.
pub(super) fn full(errno: Errno, name: &str, most: u32) -> Trouble {
    Trouble::new(errno, format!("the shortcut's table {name} is full: it holds {most} entries"))
        .hint("nothing is lost: what finds no place in it goes on by the bridge path")
}

impl<const K: usize, const V: usize> PerCpu<K, V> {
    /// The values of all CPUs; none when there is no such entry.
    pub(super) fn get(&self, key: &[u8; K]) -> Result<Vec<[u8; V]>, Trouble> {
        Ok(self.map.get(key)?.map(|values| Self::split(&values)).unwrap_or_default())
    }

    /// Sets the values of all CPUs to nothing.
    pub(super) fn clear(&self, key: &[u8; K]) -> Result<(), Trouble> {
        Ok(self.map.put(key, &vec![0; self.cpus * V.next_multiple_of(8)])?)
    }

    pub(super) fn delete(&self, key: &[u8; K]) -> Result<bool, Trouble> {
        Ok(self.map.delete(key)?)
    }

    /// All entries, with the values of all CPUs.
    pub(super) fn entries(&self) -> Result<Vec<Entries<K, V>>, Trouble> {
        let mut entries = Vec::new();
        self.map.entries(|key, values| entries.push((cut(key), Self::split(values))))?;
        Ok(entries)
    }

    fn split(values: &[u8]) -> Vec<[u8; V]> {
        values.chunks_exact(V.next_multiple_of(8)).map(cut).collect()
    }
}
