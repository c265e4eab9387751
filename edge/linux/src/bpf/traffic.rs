//! What the programs counted.

use std::collections::BTreeMap;

use weft_ebpf::abi;
use weft_kernel::{Count, DropReason};

use super::Shortcut;
use crate::fault::Trouble;

/// What an endpoint sent and received by the shortcut.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) sent: Count,
    pub(crate) received: Count,
}

/// A frame that was dropped: in which network, and at which device (0: it came from the underlay).
pub(crate) type Place = (u32, u32, DropReason);

impl Shortcut {
    /// What each endpoint sent and received by the shortcut, by its device.
    pub(crate) fn taken(&self) -> Result<BTreeMap<u32, Taken>, Trouble> {
        let mut all = BTreeMap::new();
        for (key, value) in self.tables.endpoints.entries()? {
            let slot = abi::Endpoint::decode(&value).slot;
            let mut taken = Taken::default();
            for value in self.tables.counters.get(&slot.to_ne_bytes())? {
                let of_cpu = abi::Counters::decode(&value);
                taken.sent += Count { packets: of_cpu.sent_packets, bytes: of_cpu.sent_bytes };
                taken.received +=
                    Count { packets: of_cpu.received_packets, bytes: of_cpu.received_bytes };
            }
            all.insert(u32::from_ne_bytes(key), taken);
        }
        Ok(all)
    }

    /// What the programs dropped.
    pub(crate) fn dropped(&self) -> Result<BTreeMap<Place, Count>, Trouble> {
        let mut all: BTreeMap<Place, Count> = BTreeMap::new();
        for (key, values) in self.tables.drops.entries()? {
            let abi::Drop { vni, ifindex, reason } = abi::Drop::decode(&key);
            let Some(reason) = DropReason::of_code(reason) else { continue };
            let count = all.entry((vni, ifindex, reason)).or_default();
            for value in values {
                let (packets, bytes) = abi::count_of(&value);
                *count += Count { packets, bytes };
            }
        }
        Ok(all)
    }
}
