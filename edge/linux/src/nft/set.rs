//! Sets and their elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use weft_kernel::nft::{Field, Set};

use crate::fault::Trouble;
use crate::netlink::{Writer, attributes};

/// Types of `nft` (`enum datatypes` there); the kernel only keeps them.
const TYPE_INTEGER: u32 = 4;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_BITS: u32 = 6;

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;

/// Octets of an element, each part padded to a register.
fn key_length(of: &[Field]) -> u32 {
    match of {
        // A single part is not padded.
        [Field::Vni] => 3,
        _ => of.iter().map(|field| if *field == Field::SourceV6 { 16 } else { 4 }).sum(),
    }
}

const fn type_of(field: Field) -> u32 {
    match field {
        Field::SourceV4 => TYPE_IPV4,
        Field::SourceV6 => TYPE_IPV6,
        Field::Vni => TYPE_INTEGER,
    }
}

/// Writes the attributes of a set.
pub(crate) fn write(w: &mut Writer, table: &str, name: &str, set: &Set, id: u32) {
    w.text(NFTA_SET_TABLE, table);
    w.text(NFTA_SET_NAME, name);
    w.u32_be(3, 0);
    let key_type = set.of.iter().fold(0, |sum, field| (sum << TYPE_BITS) | type_of(*field));
    w.u32_be(NFTA_SET_KEY_TYPE, key_type);
    w.u32_be(NFTA_SET_KEY_LEN, key_length(&set.of));
    w.u32_be(NFTA_SET_ID, id);
    w.attr(NFTA_SET_USERDATA, &user_data(&set.of));
}

/// What `nft` needs to show elements as addresses and VNIs: `typeof ip saddr . @th,96,24`.
fn user_data(of: &[Field]) -> Vec<u8> {
    const KEY_BYTE_ORDER: u8 = 0;
    const KEY_TYPEOF: u8 = 3;
    const EXPRESSION: u8 = 0;
    const DATA: u8 = 1;
    const PAYLOAD: u32 = 7;
    const CONCATENATION: u32 = 13;
    const BIG_ENDIAN: u32 = 2;
    let typeof_field = |field: &Field| {
        let mut out = Vec::new();
        number(&mut out, EXPRESSION, PAYLOAD);
        entry(&mut out, DATA, &payload(*field));
        out
    };
    let mut out = Vec::new();
    match of {
        [field] => {
            number(&mut out, KEY_BYTE_ORDER, BIG_ENDIAN);
            entry(&mut out, KEY_TYPEOF, &typeof_field(field));
        }
        fields => {
            let mut parts = Vec::new();
            for (field, index) in fields.iter().zip(0..) {
                entry(&mut parts, index, &typeof_field(field));
            }
            let mut concatenation = Vec::new();
            number(&mut concatenation, EXPRESSION, CONCATENATION);
            entry(&mut concatenation, DATA, &parts);
            number(&mut out, KEY_BYTE_ORDER, 0);
            entry(&mut out, KEY_TYPEOF, &concatenation);
        }
    }
    out
}

/// A payload expression as `nft` describes it to itself: a field of a known header, or a range
/// of bits after one.
fn payload(field: Field) -> Vec<u8> {
    let mut out = Vec::new();
    let described: &[u32] = match field {
        Field::SourceV4 => &[12, 11],
        Field::SourceV6 => &[13, 8],
        // No header, no field; transport header, from bit 96, 24 bits.
        Field::Vni => &[0, 0, 3, 96, 24],
    };
    for (value, kind) in described.iter().zip(0..) {
        number(&mut out, kind, *value);
    }
    out
}

fn number(out: &mut Vec<u8>, kind: u8, value: u32) {
    entry(out, kind, &value.to_ne_bytes());
}

fn entry(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.extend([kind, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    out.extend_from_slice(value);
}

/// A set as the kernel shows it: table, name, and what its elements are made of, empty when that
/// is nothing we know.
pub(crate) fn read(body: &[u8]) -> Option<(String, String, Set)> {
    let (mut table, mut name, mut key_type) = (None, None, 0);
    for attribute in attributes(body.get(4..)?) {
        match attribute.kind {
            NFTA_SET_TABLE => table = Some(attribute.text()),
            NFTA_SET_NAME => name = Some(attribute.text()),
            NFTA_SET_KEY_TYPE => key_type = attribute.u32_be()?,
            _ => {}
        }
    }
    Some((table?, name?, Set { of: fields(key_type).unwrap_or_default() }))
}

fn fields(mut key_type: u32) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while key_type != 0 {
        fields.push(match key_type & ((1 << TYPE_BITS) - 1) {
            TYPE_IPV4 => Field::SourceV4,
            TYPE_IPV6 => Field::SourceV6,
            TYPE_INTEGER => Field::Vni,
            _ => return None,
        });
        key_type >>= TYPE_BITS;
    }
    fields.reverse();
    Some(fields)
}

/// The octets of an element, from its text.
pub(crate) fn key(element: &str) -> Result<Vec<u8>, Trouble> {
    let wrong = || Trouble::new(Errno::EINVAL, format!("{element:?} is no element of a set"));
    let parts: Vec<&str> = element.split(" . ").collect();
    let mut key = Vec::new();
    for part in &parts {
        if let Ok(address) = part.parse::<IpAddr>() {
            match address {
                IpAddr::V4(v4) => key.extend(v4.octets()),
                IpAddr::V6(v6) => key.extend(v6.octets()),
            }
        } else {
            let vni = part.parse::<u32>().ok().filter(|vni| *vni < 1 << 24).ok_or_else(wrong)?;
            key.extend((vni << 8).to_be_bytes());
        }
    }
    if parts.len() == 1 && key.len() == 4 && parts[0].parse::<u32>().is_ok() {
        key.truncate(3);
    }
    Ok(key)
}

/// The text of an element, from its octets.
pub(crate) fn text(of: &[Field], mut key: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for field in of {
        let (length, padded) = match field {
            Field::SourceV6 => (16, 16),
            Field::SourceV4 => (4, 4),
            Field::Vni => (3, 4),
        };
        let value = key.get(..length)?;
        parts.push(match field {
            Field::SourceV4 => Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).to_string(),
            Field::SourceV6 => Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).to_string(),
            Field::Vni => u32::from_be_bytes([0, value[0], value[1], value[2]]).to_string(),
        });
        key = key.get(padded..).unwrap_or_default();
    }
    Some(parts.join(" . "))
}

#[cfg(test)]
mod tests {
    use weft_kernel::nft::Field;

    use super::{key, key_length, text, user_data};

    #[test]
    fn an_element_reads_back_as_it_was_written() {
        let kinds: [(&[Field], &str); 4] = [
            (&[Field::Vni], "5701632"),
            (&[Field::SourceV4], "10.0.0.1"),
            (&[Field::SourceV4, Field::Vni], "172.10.0.16 . 5701632"),
            (&[Field::SourceV6, Field::Vni], "fd00::16 . 16777215"),
        ];
        for (of, element) in kinds {
            let octets = key(element).unwrap();
            assert_eq!(octets.len(), key_length(of) as usize, "{element}");
            assert_eq!(text(of, &octets).as_deref(), Some(element));
        }
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for bad in ["", "x", "16777216", "-1", "10.0.0.1 .", "10.0.0.1 . x", "10.0.0.1.5"] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
        assert_eq!(text(&[Field::SourceV6], &[0; 4]), None);
    }

    /// As `nft` 1.0.6 writes it for `typeof @th,96,24` and `typeof ip saddr . @th,96,24`.
    #[test]
    fn user_data_is_what_nft_itself_writes() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(user_data(&[Field::Vni])),
            "0004020000000326000407000000011e000400000000010400000000020403000000030460000000040418000000"
        );
        assert_eq!(
            hex(user_data(&[Field::SourceV4, Field::Vni])),
            "000400000000034600040d000000013e0014000407000000010c00040c00000001040b0000000126000407000000011e000400000000010400000000020403000000030460000000040418000000"
        );
        assert!(
            hex(user_data(&[Field::SourceV6, Field::Vni])).contains("010c00040d000000010408000000")
        );
    }
}
