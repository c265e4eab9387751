//! What happened to the queries, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted. Each message that is read ends in exactly one of the outcomes up to
/// [`Count::DroppedRate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Answered,
    NoData,
    NoName,
    Refused,
    Forwarded,
    UpstreamFailed,
    TooManyForwards,
    Malformed,
    NotImplemented,
    DroppedShort,
    DroppedResponse,
    DroppedRate,
    ShutOut,
    ConnectionsRefused,
    UpstreamSilent,
    UpstreamStray,
    Unsendable,
    InnerSilent,
}

const NAMES: [(Count, &str); 18] = [
    (Count::Answered, "answered"),
    (Count::NoData, "no_data"),
    (Count::NoName, "no_name"),
    (Count::Refused, "refused"),
    (Count::Forwarded, "forwarded"),
    (Count::UpstreamFailed, "upstream_failed"),
    (Count::TooManyForwards, "too_many_forwards"),
    (Count::Malformed, "malformed"),
    (Count::NotImplemented, "not_implemented"),
    (Count::DroppedShort, "dropped_short"),
    (Count::DroppedResponse, "dropped_response"),
    (Count::DroppedRate, "dropped_rate"),
    (Count::ShutOut, "shut_out"),
    (Count::ConnectionsRefused, "connections_refused"),
    (Count::UpstreamSilent, "upstream_silent"),
    (Count::UpstreamStray, "upstream_stray"),
    (Count::Unsendable, "unsendable"),
    (Count::InnerSilent, "inner_silent"),
];

/// The counters of this process since it started.
#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; NAMES.len()]);

impl Counters {
    pub(crate) fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<String, u64> {
        NAMES.iter().map(|(count, name)| ((*name).to_owned(), self.get(*count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_place_and_name() {
        for (place, (count, _)) in NAMES.iter().enumerate() {
            assert_eq!(*count as usize, place);
        }
        let counters = Counters::default();
        counters.add(Count::Unsendable);
        assert_eq!(counters.snapshot().get("unsendable"), Some(&1));
        assert_eq!(counters.snapshot().len(), NAMES.len());
    }
}
