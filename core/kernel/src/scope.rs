//! A part of the kernel's state that is read in one go.

use crate::Key;

/// What an observation covers. The split is by cost: rows can be many and send events, all else
/// is few and partly silent (sysctls), so that it is read every few seconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    All,
    /// Everything but neighbour, FDB and flood rows, and the shortcut.
    Cheap,
    /// The neighbour, FDB and flood rows of one link of the host.
    Rows(String),
    /// The shortcut's programs and the entries of its tables: silent, and many where networks are large.
    Shortcut,
}

impl Scope {
    /// Whether an observation of this scope tells of `key`, be it there or not.
    pub fn contains(&self, key: &Key) -> bool {
        let smallest = Self::of_ref(key);
        match (self, smallest) {
            (Self::All, _) | (Self::Cheap, Kind::Cheap) | (Self::Shortcut, Kind::Shortcut) => true,
            (Self::Rows(link), Kind::Rows(row)) => link == row,
            _ => false,
        }
    }

    /// The smallest scope that covers `key`.
    pub fn of(key: &Key) -> Self {
        match Self::of_ref(key) {
            Kind::Cheap => Self::Cheap,
            Kind::Rows(link) => Self::Rows(link.to_owned()),
            Kind::Shortcut => Self::Shortcut,
        }
    }

    fn of_ref(key: &Key) -> Kind<'_> {
        match key {
            Key::Neighbour(link, _) | Key::Fdb(link, ..) | Key::Flood(link, _) => Kind::Rows(link),
            Key::Shortcut(_) => Kind::Shortcut,
            _ => Kind::Cheap,
        }
    }
}

/// The smallest scope of a key.
enum Kind<'a> {
    Cheap,
    Rows(&'a str),
    Shortcut,
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::Scope;
    use crate::{Key, Netns};

    #[test]
    fn every_key_is_in_all_and_in_exactly_one_of_cheap_and_its_rows() {
        let remote = IpAddr::V4(Ipv4Addr::new(172, 10, 0, 16));
        let row = Key::Flood("wv-570001".into(), remote);
        let link = Key::Link(Netns::Host, "wv-570001".into());
        let rows = Scope::Rows("wv-570001".into());
        assert!(Scope::All.contains(&row) && Scope::All.contains(&link));
        assert!(rows.contains(&row) && !rows.contains(&link));
        assert!(!Scope::Cheap.contains(&row) && Scope::Cheap.contains(&link));
        assert!(!Scope::Rows("wb-570001".into()).contains(&row));
        assert_eq!((Scope::of(&row), Scope::of(&link)), (rows, Scope::Cheap));
    }
}
