//! Names that people give: to nodes, networks, containers and aliases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name: one DNS label as Docker users write them, case kept but compared without it.
///
/// Letters, digits, `-` and `_`, starting with a letter or digit, at most 63 octets (RFC 1035
/// section 2.3.4). A dot is refused: `web-2.web` must be readable as name and network.
#[derive(Clone)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than a DNS label can be.
    #[error("'{0}' is too long for a name: at most 63 characters")]
    TooLong(String),
    /// A character that cannot stand in a name, or not at this place.
    #[error(
        "'{0}' is not a name: use letters, digits, '-' and '_', starting with a letter or digit"
    )]
    Character(String),
}

impl Name {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as DNS compares it (RFC 4343): in lower case.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let first = text.bytes().next().ok_or(InvalidName::Empty)?;
        if text.len() > 63 {
            return Err(InvalidName::TooLong(text.to_owned()));
        }
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !first.is_ascii_alphanumeric() || !fits {
            return Err(InvalidName::Character(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let fold = |name: &Self| name.0.bytes().map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
        fold(self).cmp(&fold(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
