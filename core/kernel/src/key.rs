//! Where an object lies in the kernel. The order of keys is the order of creation.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::shortcut::ShortcutKey;

/// A network namespace, by the kernel's own cookie (`SO_NETNS_COOKIE`, socket(7)): unique until
/// the next boot, so a path that leads elsewhere by now cannot be mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId(pub u64);

/// Which network namespace an object lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Netns {
    /// The one the daemon runs in.
    Host,
    /// A container's.
    Container(NetnsId),
}

/// A MAC address in the kernel's eyes.
pub type MacBytes = [u8; 6];

/// Which of its two forwarding tables a row belongs to (`bridge(8)`: `self` and `master`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FdbTable {
    /// The device's own: for a VXLAN device, MAC → remote VTEP.
    Device,
    /// Its bridge's: MAC → port. On the bridge device itself: MAC → delivered to the host.
    Bridge,
}

/// A nftables table: family and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The family.
    pub family: NftFamily,
    /// The name.
    pub name: String,
}

/// The families of nftables that Weft uses (`nft(8)`, address families), and the two interfaces
/// of legacy iptables, whose tables are others than those of nftables even where their names are
/// the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NftFamily {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// One device's ingress or egress.
    Netdev,
    /// IPv4 in legacy iptables (`iptables-legacy(8)`): never tables of ours.
    Iptables,
    /// IPv6 in legacy iptables (`ip6tables-legacy(8)`): never tables of ours.
    Ip6tables,
}

impl NftFamily {
    /// As `nft` writes it; of legacy iptables, the name of the program.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Netdev => "netdev",
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
        }
    }
}

impl fmt::Display for NftFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// Where an object lies. `Ord` is the order of creation: what comes later sits on what comes
/// earlier; deletions go the other way round.
///
/// Filters come before the links they guard, so that no frame passes unfiltered; a device's own
/// chain can only come after it, and comes before the device is brought up.
/// Of sysctls, those that switch on forwarding come last: `accept_ra=2` must stand on an uplink
/// before, or the kernel drops the default route that a router advertised to it
/// (`ip-sysctl.rst`, `accept_ra`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A nftables table of ours.
    Table(TableName),
    /// A set in a table of ours.
    Set(TableName, String),
    /// An element of a set: `element` as `nft` prints it, e.g. `172.10.0.16 . 5701632`.
    Element(TableName, String, String),
    /// A chain in a table of ours with all its rules, not bound to a device.
    Chain(TableName, String),
    /// A link. A veth pair is two links: the container's end comes into being with the host's.
    Link(Netns, String),
    /// A chain in a netdev table of ours, bound to a link of the host: table, link, chain.
    DeviceChain(TableName, String, String),
    /// A sysctl, by its path below `/proc/sys`, e.g. `net/ipv4/ip_forward`.
    Sysctl(Netns, String),
    /// An address with its prefix length on a link.
    Address(Netns, String, IpNet),
    /// That a link is administratively up.
    Up(Netns, String),
    /// A route: to where, and out of which link.
    Route(Netns, IpNet, String),
    /// A neighbour row on a link of the host.
    Neighbour(String, IpAddr),
    /// An FDB row: link, table, MAC.
    Fdb(String, FdbTable, MacBytes),
    /// A flood row of a VXLAN device: link, remote VTEP. The all-zero MAC has one per remote.
    Flood(String, IpAddr),
    /// A rule of ours at the head of somebody else's chain: table, chain, the rule as text.
    ForeignRule(TableName, String, String),
    /// An object of the shortcut. It comes last: until it is there, the bridge path carries.
    Shortcut(ShortcutKey),
}

/// What keys are ordered by: the variants and fields of [`Key`], in its order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank<'a> {
    Table(&'a TableName),
    Set(&'a TableName, &'a str),
    Element(&'a TableName, &'a str, &'a str),
    Chain(&'a TableName, &'a str),
    Link(Netns, &'a str),
    DeviceChain(&'a TableName, &'a str, &'a str),
    Sysctl(Netns, bool, &'a str),
    Address(Netns, &'a str, IpNet),
    Up(Netns, &'a str),
    Route(Netns, IpNet, &'a str),
    Neighbour(&'a str, IpAddr),
    Fdb(&'a str, FdbTable, MacBytes),
    Flood(&'a str, IpAddr),
    ForeignRule(&'a TableName, &'a str, &'a str),
    Shortcut(&'a ShortcutKey),
}

impl Key {
    fn rank(&self) -> Rank<'_> {
        match self {
            Self::Table(table) => Rank::Table(table),
            Self::Set(table, set) => Rank::Set(table, set),
            Self::Element(table, set, element) => Rank::Element(table, set, element),
            Self::Chain(table, chain) => Rank::Chain(table, chain),
            Self::Link(ns, link) => Rank::Link(*ns, link),
            Self::DeviceChain(table, link, chain) => Rank::DeviceChain(table, link, chain),
            Self::Sysctl(ns, path) => {
                let forwarding = path.ends_with("/forwarding") || path.ends_with("/ip_forward");
                Rank::Sysctl(*ns, forwarding, path)
            }
            Self::Address(ns, link, net) => Rank::Address(*ns, link, *net),
            Self::Up(ns, link) => Rank::Up(*ns, link),
            Self::Route(ns, net, link) => Rank::Route(*ns, *net, link),
            Self::Neighbour(link, ip) => Rank::Neighbour(link, *ip),
            Self::Fdb(link, table, mac) => Rank::Fdb(link, *table, *mac),
            Self::Flood(link, remote) => Rank::Flood(link, *remote),
            Self::ForeignRule(table, chain, rule) => Rank::ForeignRule(table, chain, rule),
            Self::Shortcut(key) => Rank::Shortcut(key),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            // What there are tens of thousands of, without a detour.
            (Self::Shortcut(a), Self::Shortcut(b)) => a.cmp(b),
            (Self::Neighbour(link, a), Self::Neighbour(other, b)) => (link, a).cmp(&(other, b)),
            (Self::Fdb(link, table, a), Self::Fdb(other, at, b)) => {
                (link, table, a).cmp(&(other, at, b))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A part of the kernel's state that is planned and compared on its own: what belongs to one
/// device family of ours (`-570001` of `wb-570001` and `wv-570001`), to one container's
/// namespace, or to the host as a whole. Keys of one section change together, so that a change
/// in one network costs nothing in the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// The host as a whole.
    Host,
    /// All devices of the host that share a suffix after the first `-`.
    Devices(String),
    /// A container's namespace.
    Container(NetnsId),
}

impl Section {
    /// The section of a link of the host.
    pub fn of_device(name: &str) -> Self {
        match name.split_once('-') {
            Some((_, suffix)) => Self::Devices(suffix.to_owned()),
            None => Self::Host,
        }
    }

    fn of(netns: Netns, link: &str) -> Self {
        match netns {
            Netns::Host => Self::of_device(link),
            Netns::Container(id) => Self::Container(id),
        }
    }
}

impl Key {
    /// The section this key belongs to.
    pub fn section(&self) -> Section {
        match self {
            Self::Table(_)
            | Self::Set(..)
            | Self::Element(..)
            | Self::Chain(..)
            | Self::ForeignRule(..) => Section::Host,
            Self::Link(ns, link)
            | Self::Address(ns, link, _)
            | Self::Up(ns, link)
            | Self::Route(ns, _, link) => Section::of(*ns, link),
            Self::Sysctl(Netns::Container(id), _) => Section::Container(*id),
            Self::Sysctl(Netns::Host, path) => match path.split('/').collect::<Vec<_>>()[..] {
                ["net", "ipv4" | "ipv6", "conf" | "neigh", link, _] => Section::of_device(link),
                _ => Section::Host,
            },
            Self::DeviceChain(_, link, _)
            | Self::Neighbour(link, _)
            | Self::Fdb(link, ..)
            | Self::Flood(link, _) => Section::of_device(link),
            Self::Shortcut(key) => key.section(),
        }
    }

    /// The network namespace this object lies in; `None` for what belongs to the host as a whole.
    pub const fn netns(&self) -> Option<Netns> {
        match self {
            Self::Link(ns, _)
            | Self::Sysctl(ns, _)
            | Self::Address(ns, ..)
            | Self::Up(ns, _)
            | Self::Route(ns, ..) => Some(*ns),
            Self::DeviceChain(..) | Self::Neighbour(..) | Self::Fdb(..) | Self::Flood(..) => {
                Some(Netns::Host)
            }
            Self::Table(_)
            | Self::Set(..)
            | Self::Element(..)
            | Self::Chain(..)
            | Self::ForeignRule(..)
            | Self::Shortcut(_) => None,
        }
    }

    /// The link that this object sits on and goes away with, if it sits on one.
    pub fn sits_on(&self) -> Option<(Netns, &str)> {
        match self {
            Self::Address(ns, link, _) | Self::Up(ns, link) | Self::Route(ns, _, link) => {
                Some((*ns, link))
            }
            Self::DeviceChain(_, link, _)
            | Self::Neighbour(link, _)
            | Self::Fdb(link, ..)
            | Self::Flood(link, _) => Some((Netns::Host, link)),
            Self::Table(_)
            | Self::Set(..)
            | Self::Element(..)
            | Self::Chain(..)
            | Self::Link(..)
            | Self::Sysctl(..)
            | Self::ForeignRule(..) => None,
            Self::Shortcut(key) => key.sits_on().map(|link| (Netns::Host, link)),
        }
    }
}
