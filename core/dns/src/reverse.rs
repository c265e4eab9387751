//! Reverse names: `2.0.3.10.in-addr.arpa` (RFC 1035 section 3.5) and `….ip6.arpa` (RFC 3596
//! section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What a reverse name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reverse {
    /// Exactly this address.
    Address(IpAddr),
    /// A prefix: fewer labels than an address has, as resolvers ask that walk down the tree.
    Prefix(IpNet),
    /// Something below this prefix that is not an address, as in RFC 2317.
    Below(IpNet),
}

/// Reads the labels of a name; none if it is not in either reverse tree.
pub(crate) fn reverse(labels: &[String]) -> Option<Reverse> {
    let (tree, digits) = match labels {
        [digits @ .., tree, arpa] if arpa == "arpa" => (tree.as_str(), digits),
        _ => return None,
    };
    let (width, most) = match tree {
        "in-addr" => (8_u8, 4),
        "ip6" => (4, 32),
        _ => return None,
    };
    let mut bits = 0_u128;
    let mut read = 0_u8;
    for label in digits.iter().rev().take(most) {
        let Some(digit) = digit(label, width) else { break };
        bits = (bits << width) | u128::from(digit);
        read += 1;
    }
    let length = read * width;
    let address = if width == 8 {
        let wide = (bits as u32).checked_shl(u32::from(32 - length)).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::from_bits(wide))
    } else {
        let wide = bits.checked_shl(u32::from(128 - length)).unwrap_or(0);
        IpAddr::V6(Ipv6Addr::from_bits(wide))
    };
    let prefix = IpNet::new(address, length).ok()?;
    Some(if usize::from(read) < digits.len() {
        Reverse::Below(prefix)
    } else if usize::from(read) == most {
        Reverse::Address(address)
    } else {
        Reverse::Prefix(prefix)
    })
}

/// One label as a number: decimal 0 to 255 without leading zeros, or one hexadecimal digit.
fn digit(label: &str, width: u8) -> Option<u8> {
    if width == 8 {
        let canonical = label == "0" || !label.starts_with('0');
        let digits = label.bytes().all(|b| b.is_ascii_digit());
        (canonical && digits).then(|| label.parse().ok()).flatten()
    } else {
        (label.len() == 1).then(|| u8::from_str_radix(label, 16).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Query;

    fn of(name: &str) -> Option<Reverse> {
        reverse(&Query::text(name, crate::Kind::Ptr).labels)
    }

    #[test]
    fn addresses_prefixes_and_what_lies_below_them() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let table = [
            ("2.0.3.10.in-addr.arpa.", Some(Reverse::Address("10.3.0.2".parse().unwrap()))),
            ("3.10.IN-ADDR.ARPA", Some(Reverse::Prefix(net("10.3.0.0/16")))),
            ("in-addr.arpa", Some(Reverse::Prefix(net("0.0.0.0/0")))),
            ("ip6.arpa", Some(Reverse::Prefix(net("::/0")))),
            ("d.f.ip6.arpa", Some(Reverse::Prefix(net("fd00::/8")))),
            ("0/25.0.3.10.in-addr.arpa", Some(Reverse::Below(net("10.3.0.0/24")))),
            ("256.3.10.in-addr.arpa", Some(Reverse::Below(net("10.3.0.0/16")))),
            ("02.0.3.10.in-addr.arpa", Some(Reverse::Below(net("10.3.0.0/24")))),
            ("+2.0.3.10.in-addr.arpa", Some(Reverse::Below(net("10.3.0.0/24")))),
            ("x.2.0.3.10.in-addr.arpa", Some(Reverse::Below(net("10.3.0.2/32")))),
            ("1.2.0.3.10.in-addr.arpa", Some(Reverse::Below(net("10.3.0.2/32")))),
            ("g.f.ip6.arpa", Some(Reverse::Below(net("f000::/4")))),
            ("10.3.0.2", None),
            ("arpa", None),
            ("e164.arpa", None),
        ];
        for (name, want) in table {
            assert_eq!(of(name), want, "{name}");
        }
    }

    #[test]
    fn every_address_reads_back() {
        for text in ["0.0.0.0", "255.255.255.255", "10.3.0.2"] {
            let address: Ipv4Addr = text.parse().unwrap();
            let [a, b, c, d] = address.octets();
            let name = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
            assert_eq!(of(&name), Some(Reverse::Address(address.into())));
        }
        for text in ["::", "fd00:3::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            let address: Ipv6Addr = text.parse().unwrap();
            let mut name = String::new();
            for octet in address.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", octet & 15, octet >> 4));
            }
            assert_eq!(of(&(name + "ip6.arpa")), Some(Reverse::Address(address.into())));
        }
    }
}
