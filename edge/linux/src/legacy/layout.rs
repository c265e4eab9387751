//! The octets of the interface: `linux/netfilter/x_tables.h`, `linux/netfilter_ipv4/ip_tables.h`
//! and `linux/netfilter_ipv6/ip6_tables.h`, as 64-bit kernels lay them out.
//!
//! IPv4 and IPv6 have the same structures but for the head of an entry, where the addresses are.

use nix::sys::socket::AddressFamily;
use weft_kernel::key::NftFamily;

/// `NF_INET_NUMHOOKS`
pub(super) const HOOKS: usize = 5;
/// `XT_TABLE_MAXNAMELEN`, with the NUL.
pub(super) const TABLE_NAME: usize = 32;
/// `IFNAMSIZ`
pub(super) const LINK_NAME: usize = 16;
/// `struct xt_counters`: packets, octets.
pub(super) const COUNTERS: usize = 16;
/// `struct xt_entry_match` and `struct xt_entry_target`, without what follows: size (2), name
/// (29), revision (1).
pub(super) const EXTENSION: usize = 32;
/// `XT_ALIGN`
pub(super) const ALIGN: usize = 8;
/// `struct xt_standard_target`: the verdict is a signed number, then there is padding.
pub(super) const STANDARD_TARGET: usize = EXTENSION + ALIGN;
/// `-NF_DROP - 1`; verdicts of zero and more are jumps, by the offset of the entry.
pub(super) const DROP: i32 = -1;
/// `-NF_ACCEPT - 1`
pub(super) const ACCEPT: i32 = -2;

/// The head of an entry (`struct ipt_entry`, `struct ip6t_entry`): where its fields are. What it
/// has counted comes last in it.
#[derive(Debug)]
pub(super) struct Layout {
    /// Where the interface is asked for: the socket's family and the option's level.
    pub(super) domain: AddressFamily,
    pub(super) level: libc::c_int,
    /// Source, destination and their masks come first; then come the names of the links.
    pub(super) addresses: usize,
    pub(super) protocol: usize,
    pub(super) flags: usize,
    pub(super) inverted: usize,
    /// What `flags` must have for `protocol` to be looked at.
    pub(super) protocol_flag: u8,
    pub(super) target_offset: usize,
    pub(super) next_offset: usize,
    pub(super) size: usize,
    /// Where the tables in use are listed, below `/proc/thread-self/net`.
    pub(super) names: &'static str,
    pub(super) family: NftFamily,
    /// What to call it.
    pub(super) program: &'static str,
}

pub(super) static V4: Layout = Layout {
    domain: AddressFamily::Inet,
    level: libc::IPPROTO_IP,
    addresses: 16,
    protocol: 80,
    flags: 82,
    inverted: 83,
    protocol_flag: 0,
    target_offset: 88,
    next_offset: 90,
    size: 112,
    names: "ip_tables_names",
    family: NftFamily::Iptables,
    program: "iptables-legacy",
};

pub(super) static V6: Layout = Layout {
    domain: AddressFamily::Inet6,
    level: libc::IPPROTO_IPV6,
    addresses: 64,
    protocol: 128,
    // After the traffic class.
    flags: 131,
    inverted: 132,
    // `IP6T_F_PROTO`
    protocol_flag: 1,
    target_offset: 140,
    next_offset: 142,
    size: 168,
    names: "ip6_tables_names",
    family: NftFamily::Ip6tables,
    program: "ip6tables-legacy",
};

impl Layout {
    /// The layout of this family's tables; `None`: not one of legacy iptables.
    pub(super) const fn of(family: NftFamily) -> Option<&'static Self> {
        match family {
            NftFamily::Iptables => Some(&V4),
            NftFamily::Ip6tables => Some(&V6),
            NftFamily::Inet | NftFamily::Ip | NftFamily::Ip6 | NftFamily::Netdev => None,
        }
    }

    /// Names of the link that a packet came in by and goes out by, then their masks.
    pub(super) const fn link(&self, number: usize) -> usize {
        self.addresses + number * LINK_NAME
    }
}

/// The octets there; `None` beyond the end.
pub(super) fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    octets(bytes, at).map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    octets(bytes, at).map(u32::from_ne_bytes)
}

/// Writes over what is there; nothing when it is too short.
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let there = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len()));
    if let Some(there) = there {
        there.copy_from_slice(value);
    }
}

/// The text before the first NUL.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|octet| *octet == 0).next().unwrap_or_default()
}
