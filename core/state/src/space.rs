//! Which positions of a network are still free.

use weft_model::{ClusterState, Lease, Mac, Network, Offset};

/// The lowest position that is given to containers: 0 is the network's own address, 1 the gateway.
pub(crate) const FIRST: u64 = 2;

/// The positions of a network that somebody holds.
pub(crate) struct Space<'a> {
    network: &'a Network,
    /// Inclusive ranges in ascending order; they may touch, but share nothing.
    taken: Vec<(u64, u64)>,
}

impl<'a> Space<'a> {
    pub(crate) fn of(state: &ClusterState, network: &'a Network) -> Self {
        let mut taken = Vec::new();
        for lease in state.leases_of(network.id) {
            taken.extend_from_slice(lease.offsets.ranges());
            taken.push((lease.node_offset.0, lease.node_offset.0));
        }
        taken.sort_unstable();
        Self { network, taken }
    }

    /// Somebody holds `offset` from now on.
    pub(crate) fn take(&mut self, offset: Offset) {
        let at = self.taken.partition_point(|range| *range < (offset.0, offset.0));
        self.taken.insert(at, (offset.0, offset.0));
    }

    /// The free ranges, ascending. Only positions that exist in every subnet.
    pub(crate) fn gaps(&self) -> Vec<(u64, u64)> {
        let last = self.network.last_offset().0;
        let mut gaps = Vec::new();
        let mut next = Some(FIRST);
        for &(low, high) in &self.taken {
            let Some(first) = next.filter(|n| *n <= last) else { return gaps };
            if low > first {
                gaps.push((first, last.min(low - 1)));
            }
            next = if high >= first { high.checked_add(1) } else { Some(first) };
        }
        if let Some(first) = next.filter(|n| *n <= last) {
            gaps.push((first, last));
        }
        gaps
    }

    /// How many positions are free.
    pub(crate) fn free(&self) -> u64 {
        self.gaps()
            .iter()
            .fold(0_u64, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// Whether the MAC that belongs to `offset` belongs to a position that somebody holds.
    ///
    /// Only MACs of positions from 2³² on are hashes, so only those can collide, and only among
    /// themselves; a network with an IPv4 subnet has none that count.
    pub(crate) fn collides(&self, offset: Offset) -> bool {
        let hashed = |o: u64| o > u64::from(u32::MAX);
        if !hashed(offset.0) || self.network.last_offset() < offset {
            return false;
        }
        let mac = Mac::of_endpoint(self.network.vni, offset);
        let from = self.taken.partition_point(|range| !hashed(range.1));
        let held = self.taken[from..].iter().flat_map(|&(low, high)| low..=high);
        held.filter(|o| *o != offset.0)
            .any(|o| Mac::of_endpoint(self.network.vni, Offset(o)) == mac)
    }
}

/// The node that holds `offset` of `network`, for its containers or for itself.
pub(crate) fn holder<'a>(
    state: &'a ClusterState,
    network: &Network,
    offset: Offset,
) -> Option<&'a Lease> {
    state
        .leases_of(network.id)
        .find(|lease| lease.node_offset == offset || lease.offsets.contains(offset))
}
