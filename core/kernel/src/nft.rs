//! Filters and address translation, as the part of nftables that Weft uses (`nft(8)`).
//!
//! Rules are values so that they can be compared, printed and tested; `weft-linux` turns them
//! into expressions of the kernel.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::key::MacBytes;

/// A set: the type of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What an element is made of.
    pub of: Vec<Field>,
}

/// A part of a set's element, and of what is looked up in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// IPv4 source address; `172.10.0.16`.
    SourceV4,
    /// IPv6 source address; `fd00::16`.
    SourceV6,
    /// The VNI of the VXLAN header after the UDP header (RFC 7348 section 5), looked up as the
    /// 32 bits `vni << 8 | reserved` less the reserved octet; written in decimal: `5701632`.
    Vni,
}

/// A chain with all its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in; `None`: only jumped to.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A base chain's place. The policy is always accept: denials are rules, so that they can be seen and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// What for.
    pub kind: ChainKind,
    /// Where.
    pub point: HookPoint,
    /// When, among the chains of this place: lower runs earlier.
    pub priority: i32,
}

/// A base chain's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// `filter`
    Filter,
    /// `nat`
    Nat,
}

/// A base chain's hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// `prerouting`
    Prerouting,
    /// `input`
    Input,
    /// `forward`
    Forward,
    /// `output`
    Output,
    /// `postrouting`
    Postrouting,
    /// `ingress` of the chain's device (netdev family).
    Ingress,
    /// `egress` of the chain's device (netdev family).
    Egress,
}

/// A rule: all matches hold, then the statements run in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// In order; at most the last one is a verdict.
    pub statements: Vec<Statement>,
    /// For the reader of `nft list ruleset`.
    pub comment: String,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `iifname`: the whole name, or a prefix when it ends in `*`.
    InLink(Equal, String),
    /// `oifname`
    OutLink(Equal, String),
    /// `ip saddr` / `ip6 saddr`, by the family of the prefix; implies the protocol.
    Source(Equal, IpNet),
    /// `ip daddr` / `ip6 daddr`
    Destination(Equal, IpNet),
    /// `ether saddr`
    EtherSource(Equal, MacBytes),
    /// `ether daddr`
    EtherDestination(Equal, MacBytes),
    /// `ether type` / `meta protocol`: 0x0800, 0x86dd, 0x0806 …
    EtherType(Equal, u16),
    /// `meta nfproto`: IPv4 or IPv6, in the inet family.
    Family(Family),
    /// `meta l4proto`
    Protocol(Equal, u8),
    /// `udp dport`; implies the protocol.
    UdpPort(u16),
    /// `tcp dport`; implies the protocol.
    TcpPort(u16),
    /// `ct state`, any of.
    Tracked(Vec<TrackState>),
    /// `arp saddr ip`: the sender's protocol address (Ethernet and IPv4 only; RFC 826).
    ArpSenderIp(Equal, IpAddr),
    /// `arp saddr ether`: the sender's hardware address.
    ArpSenderMac(Equal, MacBytes),
    /// `icmpv6 type`; implies the protocol.
    Icmp6Type(u8),
    /// The target address of a neighbour solicitation or advertisement (RFC 4861 sections 4.3, 4.4).
    NdTarget(Equal, IpAddr),
    /// `meta pkttype`
    PacketType(PacketType),
    /// The fields of the packet, concatenated, are (not) an element of the set.
    InSet(Equal, Vec<Field>, String),
}

/// Whether a match wants equality or the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equal {
    /// `==`
    Is,
    /// `!=`
    IsNot,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// `meta pkttype` (`linux/if_packet.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketType {
    /// `host`: for this host.
    Host,
    /// `broadcast`
    Broadcast,
    /// `multicast`
    Multicast,
}

/// Connection tracking states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackState {
    /// `established`
    Established,
    /// `related`
    Related,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `counter`
    Counter,
    /// `limit rate over N/second burst N packets`: goes on only beyond the rate.
    LimitOver {
        /// Packets per second.
        rate: u64,
        /// Packets at once.
        burst: u32,
    },
    /// `meta pkttype set host`
    SetPacketTypeHost,
    /// `ether saddr set`
    SetEtherSource(MacBytes),
    /// `notrack`
    Notrack,
    /// `masquerade`, with ports from a range when one is given.
    Masquerade(Option<(u16, u16)>),
    /// `jump`
    Jump(String),
    /// `accept`
    Accept,
    /// `drop`
    Drop,
    /// `return`
    Return,
}
