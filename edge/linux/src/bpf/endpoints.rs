//! Endpoints of this host: an entry in `endpoints`, one in `fdb`, and a place in `counters`, which
//! belong together.

use std::collections::BTreeMap;

use nix::errno::Errno;
use weft_ebpf::abi::{self, Fdb};
use weft_ebpf::layout::WEFT_MAX_ENDPOINTS;
use weft_kernel::{DropReason, LocalEndpoint};

use super::tables::{self, Tables};
use crate::fault::Trouble;

/// Which places in `counters` are taken, and by the endpoint at which device.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: BTreeMap<u32, u32>,
}

impl Slots {
    /// The places that the table's endpoints have. Each belongs to one: another that claims it
    /// has none.
    pub(super) fn read(tables: &Tables) -> Result<Self, Trouble> {
        let mut slots = Self::default();
        for (key, value) in tables.endpoints.entries()? {
            let slot = abi::Endpoint::decode(&value).slot;
            if slot < WEFT_MAX_ENDPOINTS {
                slots.taken.entry(slot).or_insert(u32::from_ne_bytes(key));
            }
        }
        Ok(slots)
    }

    /// Whether the place is that of the endpoint at this device.
    pub(super) fn is_of(&self, slot: u32, ifindex: u32) -> bool {
        self.taken.get(&slot) == Some(&ifindex)
    }

    /// The place of the endpoint at this device, also when its entry in the table is gone.
    fn of(&self, ifindex: u32) -> Option<u32> {
        self.taken.iter().find(|(_, at)| **at == ifindex).map(|(slot, _)| *slot)
    }

    fn free(&self) -> Option<u32> {
        // Ascending: the first that is not where it would be if none was missing is behind a gap.
        let gap = (0..).zip(self.taken.keys()).find(|(place, taken)| place != *taken);
        let slot = gap.map_or(self.taken.len(), |(place, _)| place as usize);
        u32::try_from(slot).ok().filter(|slot| *slot < WEFT_MAX_ENDPOINTS)
    }

    fn give_back(&mut self, ifindex: u32) {
        self.taken.retain(|_, at| *at != ifindex);
    }
}

/// Puts the endpoint whose veth has its host's end at `ifindex`.
pub(super) fn put(
    tables: &Tables,
    slots: &mut Slots,
    ifindex: u32,
    want: &LocalEndpoint,
) -> Result<(), Trouble> {
    let key = ifindex.to_ne_bytes();
    let old = tables.endpoints.get(&key)?.map(|value| abi::Endpoint::decode(&value));
    let kept = old.map(|old| old.slot).filter(|slot| slots.is_of(*slot, ifindex));
    // An entry that somebody deleted comes back to its place, with what was counted there.
    let slot = match kept.or_else(|| slots.of(ifindex)) {
        Some(slot) => slot,
        None => fresh(tables, slots)?,
    };
    let LocalEndpoint { vni, mac, v4, v6, more } = *want;
    let new = abi::Endpoint { vni, slot, mac, more, v4, v6 };
    tables.endpoints.put(&key, &new.encode())?;
    slots.taken.insert(slot, ifindex);
    let local = Fdb::Local { ifindex, slot };
    if let Err(trouble) = tables.fdb.put(&abi::fdb_key(vni, mac), &local.encode()) {
        // Half an endpoint would send by the shortcut and receive by the bridge path.
        delete(tables, slots, ifindex)?;
        return Err(trouble);
    }
    match old {
        Some(old) if (old.vni, old.mac) != (vni, mac) => forget_mac(tables, ifindex, &old),
        _ => Ok(()),
    }
}

/// A free place, with nothing counted in it.
fn fresh(tables: &Tables, slots: &Slots) -> Result<u32, Trouble> {
    let slot =
        slots.free().ok_or_else(|| tables::full(Errno::E2BIG, "endpoints", WEFT_MAX_ENDPOINTS))?;
    tables.counters.clear(&slot.to_ne_bytes())?;
    Ok(slot)
}

/// Deletes the endpoint at the device, with all that was counted.
pub(super) fn delete(tables: &Tables, slots: &mut Slots, ifindex: u32) -> Result<(), Trouble> {
    let key = ifindex.to_ne_bytes();
    let Some(value) = tables.endpoints.get(&key)? else {
        slots.give_back(ifindex);
        return Ok(());
    };
    let old = abi::Endpoint::decode(&value);
    tables.endpoints.delete(&key)?;
    forget_mac(tables, ifindex, &old)?;
    for reason in DropReason::ALL {
        let drop = abi::Drop { vni: old.vni, ifindex, reason: reason as u32 };
        tables.drops.delete(&drop.encode())?;
    }
    slots.give_back(ifindex);
    Ok(())
}

/// Deletes the entry that leads to the device. One that leads elsewhere by now is another's.
fn forget_mac(tables: &Tables, ifindex: u32, old: &abi::Endpoint) -> Result<(), Trouble> {
    let key = abi::fdb_key(old.vni, old.mac);
    let there = tables.fdb.get(&key)?.map(|value| Fdb::decode(&value));
    if matches!(there, Some(Fdb::Local { ifindex: at, .. }) if at == ifindex) {
        tables.fdb.delete(&key)?;
    }
    Ok(())
}

/// Deletes what is granted to the endpoint at the device.
pub(super) fn delete_granted(tables: &Tables, ifindex: u32) -> Result<(), Trouble> {
    for (key, _) in tables.granted.entries()? {
        if abi::granted_key_of(&key).0 == ifindex {
            tables.granted.delete(&key)?;
        }
    }
    Ok(())
}

/// Whether the endpoint at this device is the one with this VNI and MAC.
pub(super) fn is_at(
    tables: &Tables,
    ifindex: u32,
    vni: u32,
    mac: [u8; 6],
) -> Result<bool, Trouble> {
    let there = tables.endpoints.get(&ifindex.to_ne_bytes())?;
    let there = there.map(|value| abi::Endpoint::decode(&value));
    Ok(there.is_some_and(|there| (there.vni, there.mac) == (vni, mac)))
}

#[cfg(test)]
mod tests {
    use weft_ebpf::layout::WEFT_MAX_ENDPOINTS;

    use super::Slots;

    #[test]
    fn the_lowest_free_place_is_given_out_until_there_is_none() {
        let mut slots = Slots::default();
        for place in 0..WEFT_MAX_ENDPOINTS {
            assert_eq!(slots.free(), Some(place));
            slots.taken.insert(place, place + 100);
        }
        assert_eq!(slots.free(), None);
        slots.give_back(7);
        assert_eq!(slots.free(), None, "nothing was at that device");
        slots.give_back(4100);
        slots.give_back(107);
        assert_eq!(slots.free(), Some(7));
        assert_eq!((slots.of(108), slots.of(107)), (Some(8), None));
    }
}
