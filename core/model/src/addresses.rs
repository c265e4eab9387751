//! Positions inside a network's subnets, and sets of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A position in a network: the host part of an address, the same in each of its subnets.
///
/// In a network 10.3.0.0/24 + fd00:3::/64, offset 5 is 10.3.0.5 and fd00:3::5. Granting offsets
/// instead of addresses makes IPv4 and IPv6 one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

/// A set of offsets, kept as ascending, disjoint, non-adjacent inclusive ranges.
///
/// Its text is `2-17,40`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffsetSet(Vec<(u64, u64)>);

impl OffsetSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether `offset` is in the set.
    pub fn contains(&self, offset: Offset) -> bool {
        self.range_at(offset.0).is_ok()
    }

    /// Adds `offset`; false when it was there.
    pub fn insert(&mut self, offset: Offset) -> bool {
        let at = match self.range_at(offset.0) {
            Ok(_) => return false,
            Err(at) => at,
        };
        let joins_left = at > 0 && self.0[at - 1].1.checked_add(1) == Some(offset.0);
        let joins_right = self.0.get(at).is_some_and(|r| offset.0.checked_add(1) == Some(r.0));
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = offset.0,
            (false, true) => self.0[at].0 = offset.0,
            (false, false) => self.0.insert(at, (offset.0, offset.0)),
        }
        true
    }

    /// Takes `offset` out; false when it was not there.
    pub fn remove(&mut self, offset: Offset) -> bool {
        let Ok(at) = self.range_at(offset.0) else { return false };
        let (first, last) = self.0[at];
        match (first == offset.0, last == offset.0) {
            (true, true) => {
                self.0.remove(at);
            }
            (true, false) => self.0[at].0 += 1,
            (false, true) => self.0[at].1 -= 1,
            (false, false) => {
                self.0[at].1 = offset.0 - 1;
                self.0.insert(at + 1, (offset.0 + 1, last));
            }
        }
        true
    }

    /// How many offsets are in the set.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The offsets in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Offset> + '_ {
        self.0.iter().flat_map(|&(first, last)| (first..=last).map(Offset))
    }

    /// The inclusive ranges in ascending order.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.0
    }

    fn range_at(&self, offset: u64) -> Result<usize, usize> {
        self.0.binary_search_by(|&(first, last)| {
            if last < offset {
                std::cmp::Ordering::Less
            } else if first > offset {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
    }
}

impl FromIterator<Offset> for OffsetSet {
    fn from_iter<I: IntoIterator<Item = Offset>>(offsets: I) -> Self {
        let mut set = Self::new();
        for offset in offsets {
            set.insert(offset);
        }
        set
    }
}

impl fmt::Display for OffsetSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// A text that is not a set of offsets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a set of offsets: expected ascending ranges as in 2-17,40")]
pub struct InvalidOffsetSet(pub String);

impl FromStr for OffsetSet {
    type Err = InvalidOffsetSet;
    fn from_str(text: &str) -> Result<Self, InvalidOffsetSet> {
        let wrong = || InvalidOffsetSet(text.to_owned());
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u64 = first.parse().map_err(|_| wrong())?;
            let last: u64 = last.parse().map_err(|_| wrong())?;
            let ascending = ranges.last().is_none_or(|r| r.1 < u64::MAX && r.1 + 1 < first);
            if last < first || !ascending {
                return Err(wrong());
            }
            ranges.push((first, last));
        }
        Ok(Self(ranges))
    }
}

impl Serialize for OffsetSet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OffsetSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0_u64..24), 0..80)) {
            let mut ranges = OffsetSet::new();
            let mut model = BTreeSet::new();
            for (insert, offset) in steps {
                let offset = Offset(offset);
                if insert {
                    prop_assert_eq!(ranges.insert(offset), model.insert(offset));
                } else {
                    prop_assert_eq!(ranges.remove(offset), model.remove(&offset));
                }
                prop_assert_eq!(ranges.iter().collect::<BTreeSet<_>>(), model.clone());
                prop_assert_eq!(ranges.len(), model.len() as u64);
                let text = ranges.to_string();
                prop_assert_eq!(text.parse::<OffsetSet>(), Ok(ranges.clone()));
            }
        }
    }

    #[test]
    fn refuses_what_is_not_a_set() {
        for text in ["x", "3-1", "1,1", "1-2,3", "5,2", "1--2", "-1", "1,"] {
            assert_eq!(text.parse::<OffsetSet>(), Err(InvalidOffsetSet(text.to_owned())));
        }
    }
}
