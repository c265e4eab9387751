//! MAC addresses, and the function that gives an endpoint its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{Offset, Vni};

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The all-zero address: in a VXLAN device's FDB it stands for "every frame without a row of
    /// its own" (`bridge(8)`, VXLAN FDB entries).
    pub const ZERO: Self = Self([0; 6]);

    /// The MAC of the endpoint at `offset` of network `vni`.
    ///
    /// A function of the two, so that an address that changes hands keeps its MAC and leaves no
    /// stale ARP or ND entry anywhere. Offsets below 2³² are written out (first octet `02`, the
    /// locally administered bit of IEEE 802-2014 section 8.4; second octet from the VNI so that a
    /// capture tells networks apart); larger ones, which only IPv6 has, are hashed (first octet
    /// `06`), and whoever grants them must refuse a collision.
    pub fn of_endpoint(vni: Vni, offset: Offset) -> Self {
        let tint = vni.get().to_be_bytes()[3];
        match u32::try_from(offset.0) {
            Ok(low) => {
                let o = low.to_be_bytes();
                Self([0x02, tint, o[0], o[1], o[2], o[3]])
            }
            Err(_) => {
                let digest = Sha256::new()
                    .chain_update(vni.get().to_be_bytes())
                    .chain_update(offset.0.to_be_bytes())
                    .finalize();
                Self([0x06, tint, digest[0], digest[1], digest[2], digest[3]])
            }
        }
    }

    /// The MAC of a node's VXLAN device for `vni`: it never sends by it, it only must not equal
    /// an endpoint's (first octet `0a`).
    pub fn of_vtep(vni: Vni) -> Self {
        let v = vni.get().to_be_bytes();
        Self([0x0a, 0x57, 0, v[1], v[2], v[3]])
    }

    /// The link-local IPv6 address that belongs to this MAC (RFC 4291, appendix A).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let m = self.0;
        std::net::Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            m[0] ^ 2,
            m[1],
            m[2],
            0xff,
            0xfe,
            m[3],
            m[4],
            m[5],
        ])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address: expected six hexadecimal octets as in 02:42:0a:03:00:05")]
pub struct InvalidMac(pub String);

impl FromStr for Mac {
    type Err = InvalidMac;
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let wrong = || InvalidMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(octets)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
