//! Addresses that were just released: nobody gets them for a while, so that what others remember
//! about them has time to fade.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_model::{NetworkId, Offset, OffsetSet};

/// How long a released address cools down, unless nothing else is free and every peer has
/// applied the release.
pub(crate) const COOLDOWN: Duration = Duration::from_secs(60);

/// The cooling addresses of this node.
#[derive(Default)]
pub(crate) struct Cooling(BTreeMap<(NetworkId, Offset), Released>);

struct Released {
    at: Instant,
    applied_by_all: bool,
}

impl Cooling {
    /// Notes that `offset` was released now.
    pub(crate) fn release(&mut self, network: NetworkId, offset: Offset, now: Instant) {
        self.0.insert((network, offset), Released { at: now, applied_by_all: false });
    }

    /// Notes that every node of the network has taken the release in.
    pub(crate) fn applied_by_all(&mut self, network: NetworkId, offsets: &[Offset]) {
        for offset in offsets {
            if let Some(released) = self.0.get_mut(&(network, *offset)) {
                released.applied_by_all = true;
            }
        }
    }

    /// What still cools, and forgets what no longer does.
    pub(crate) fn of(&mut self, network: NetworkId, now: Instant) -> OffsetSet {
        self.0.retain(|_, released| now.duration_since(released.at) < COOLDOWN);
        self.0.keys().filter(|(n, _)| *n == network).map(|(_, offset)| *offset).collect()
    }

    /// What still cools although every peer has applied the release: given out when nothing
    /// else is free.
    pub(crate) fn unsettled(&self, network: NetworkId) -> OffsetSet {
        let of_network = self.0.iter().filter(|((n, _), _)| *n == network);
        of_network.filter(|(_, r)| !r.applied_by_all).map(|((_, offset), _)| *offset).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cools_for_its_time_and_settles_when_all_have_applied() {
        let (network, five, six) = (NetworkId(1), Offset(5), Offset(6));
        let start = Instant::now();
        let mut cooling = Cooling::default();
        cooling.release(network, five, start);
        cooling.release(network, six, start + Duration::from_secs(30));
        cooling.applied_by_all(network, &[five]);
        assert_eq!(cooling.of(network, start + Duration::from_secs(40)).to_string(), "5-6");
        assert_eq!(cooling.unsettled(network).to_string(), "6");
        assert_eq!(cooling.of(NetworkId(2), start).to_string(), "");
        assert_eq!(cooling.of(network, start + Duration::from_secs(61)).to_string(), "6");
        assert_eq!(cooling.of(network, start + Duration::from_secs(95)).to_string(), "");
    }
}
