//! A question as the table understands it.

/// The type of record asked for (RFC 1035 section 3.2.2), as far as it makes a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses (RFC 3596).
    Aaaa,
    /// The names of an address.
    Ptr,
    /// Whatever there is; one set of records answers it (RFC 8482 section 4.1).
    Any,
    /// A whole zone, AXFR or IXFR: never given, never forwarded.
    Transfer,
    /// Any other type: our names have none of it.
    Other,
}

impl Kind {
    /// The kind for a type's number on the wire.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => Self::A,
            28 => Self::Aaaa,
            12 => Self::Ptr,
            255 => Self::Any,
            251 | 252 => Self::Transfer,
            _ => Self::Other,
        }
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The labels of the name from left to right, in lower case, without the root's empty one.
    pub labels: Vec<String>,
    /// The type asked for.
    pub kind: Kind,
    /// Whether the class is IN; other classes hold nothing.
    pub internet: bool,
}

impl Query {
    /// A question of class IN from the octets of its labels. Octets that are not UTF-8 turn into
    /// U+FFFD: no name of ours has them, while the labels behind them still tell whose name it is.
    pub fn new<'a>(labels: impl IntoIterator<Item = &'a [u8]>, kind: Kind) -> Self {
        let lower = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        Self { labels: labels.into_iter().map(lower).collect(), kind, internet: true }
    }

    /// A question of class IN for a name as text, a trailing dot being optional.
    pub fn text(name: &str, kind: Kind) -> Self {
        let labels = name.split('.').filter(|label| !label.is_empty());
        Self::new(labels.map(str::as_bytes), kind)
    }
}
