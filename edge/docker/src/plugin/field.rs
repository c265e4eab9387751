//! The fields of a request: texts that are read as what they mean, so that an error is found where
//! its field is.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// What a text of a request can mean.
pub(super) trait Field: Sized {
    /// Reads it; the error says what is wrong with it, and not where it stands.
    fn read(text: &str) -> Result<Self, String>;
}

/// A text that must be there.
#[derive(Debug)]
pub(super) struct Needed<T>(pub(super) T);

impl<'de, T: Field> Deserialize<'de> for Needed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Err(D::Error::custom("is empty"));
        }
        T::read(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A text that may be missing; an engine writes that as no field, as `null`, or as `""`.
#[derive(Debug)]
pub(super) struct Blank<T>(pub(super) Option<T>);

impl<T> Default for Blank<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Field> Deserialize<'de> for Blank<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("") => Ok(Self(None)),
            Some(text) => T::read(text).map(|read| Self(Some(read))).map_err(D::Error::custom),
        }
    }
}

/// A JSON object, and nothing else: `serde` would take an array's elements for its fields.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Go writes an empty map or list as `null` as well.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The identifier of a network or an endpoint.
#[derive(Debug)]
pub(super) struct Identifier(pub(super) String);

impl Field for Identifier {
    fn read(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.len() > 128 || !text.chars().all(plain) {
            return Err(format!(
                "{} is not an identifier (up to 128 letters, digits, '-', '_' and '.')",
                quoted(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The identifier of a pool: whatever the plugin chose.
#[derive(Debug)]
pub(super) struct PoolId(pub(super) String);

impl Field for PoolId {
    fn read(text: &str) -> Result<Self, String> {
        if text.len() > 512 || text.chars().any(char::is_control) {
            return Err(format!("{} is not a pool (up to 512 characters of text)", quoted(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Field for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Field for IpNet {
    fn read(text: &str) -> Result<Self, String> {
        parse(text, "a subnet in CIDR form, like 10.3.0.0/24 or fd00:3::/64")
    }
}

impl Field for Ipv4Net {
    fn read(text: &str) -> Result<Self, String> {
        parse(text, "IPv4 in CIDR form, like 10.3.0.2/24")
    }
}

impl Field for Ipv6Net {
    fn read(text: &str) -> Result<Self, String> {
        parse(text, "IPv6 in CIDR form, like fd00:3::2/64")
    }
}

impl Field for IpAddr {
    fn read(text: &str) -> Result<Self, String> {
        parse(text, "an IP address")
    }
}

/// The MAC of one interface.
#[derive(Debug)]
pub(super) struct Mac(pub(super) [u8; 6]);

impl Field for Mac {
    fn read(text: &str) -> Result<Self, String> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2 && !p.starts_with('+'));
            let read = part.and_then(|p| u8::from_str_radix(p, 16).ok());
            *byte = read.ok_or_else(|| not(text, "a MAC, like 02:42:0a:03:00:02"))?;
        }
        if parts.next().is_some() {
            return Err(not(text, "a MAC, like 02:42:0a:03:00:02"));
        }
        // The lowest bit of the first byte marks a group (IEEE 802, section 8.2).
        if mac[0] & 1 == 1 {
            return Err(not(text, "the MAC of one interface but of a group"));
        }
        Ok(Self(mac))
    }
}

fn parse<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| not(text, what))
}

fn not(text: &str, what: &str) -> String {
    format!("{} is not {what}", quoted(text))
}

/// A text of a request as an error shows it: its beginning, on one line.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("'{}'", shown.escape_debug())
}
