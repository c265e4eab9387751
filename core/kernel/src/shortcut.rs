//! What the shortcut holds: the programs at links of the host, and the entries of the tables (BPF maps)
//! that they look into.
//!
//! The programs decide by these entries alone; what they find nothing about goes the bridge path,
//! so a missing entry costs speed and never a packet.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::key::{MacBytes, Section};

/// Where an object of the shortcut lies. `Ord` is the order of creation; programs come last, so
/// that a program never sees half of what it should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShortcutKey {
    /// What the programs know of the node.
    Node,
    /// How frames to a remote VTEP leave, by its address.
    Vtep(IpAddr),
    /// That a VTEP takes part in a network: VNI, the VTEP's address.
    Member(u32, IpAddr),
    /// Who answers to an address in a network (ARP, ND): VNI, address.
    Neighbour(u32, IpAddr),
    /// Behind which VTEP a MAC is in a network: VNI, MAC. Remote ones only.
    Fdb(u32, MacBytes),
    /// That an endpoint may send from a prefix that is not its first address of the family: the
    /// host's end of its veth, prefix.
    Granted(String, IpNet),
    /// An endpoint of this host, by the host's end of its veth.
    Endpoint(String),
    /// A program at a link of the host.
    Program(String, Attach),
}

/// Where in a host's network a program is attached: always at ingress (`tc-bpf(8)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attach {
    /// At the host's end of an endpoint's veth: what comes from the container.
    FromContainer,
    /// At a link of the underlay: what comes from other hosts.
    FromUnderlay,
}

/// The value at a [`ShortcutKey`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShortcutObject {
    /// At `Node`: the VTEP's own address and the UDP port of VXLAN.
    Node {
        /// The address other nodes send to.
        data_address: IpAddr,
        /// UDP port of VXLAN.
        port: u16,
    },
    /// At `Vtep`.
    Vtep(UnderlayPath),
    /// At `Member`: the MAC of the network's gateway, which no frame from another host may carry
    /// as its source.
    Member(MacBytes),
    /// At `Neighbour`.
    Neighbour(MacBytes),
    /// At `Fdb`: the remote VTEP.
    Fdb(IpAddr),
    /// At `Granted`.
    Granted,
    /// At `Endpoint`.
    Endpoint(LocalEndpoint),
    /// At `Program`: the present version of it.
    Program,
}

/// How packets to another node leave this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderlayPath {
    /// The link they leave by.
    pub link: String,
    /// The next hop; `None`: the node itself, on the link. May be of the other family (RFC 8950).
    pub next_hop: Option<IpAddr>,
    /// Octets of the largest outer IP packet, as the route says, or its link.
    pub mtu: u32,
}

/// What a program knows of an endpoint of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Its network.
    pub vni: u32,
    /// Its MAC: frames for it go straight to it, frames from it carry no other source.
    pub mac: MacBytes,
    /// Its first IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its first IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Whether it has `Granted` entries: more addresses, or sources granted to a router.
    pub more: bool,
}

impl ShortcutKey {
    /// The section this key belongs to: that of its network, of its endpoint's veth, or the host's.
    pub fn section(&self) -> Section {
        match self {
            Self::Node | Self::Vtep(_) => Section::Host,
            Self::Member(vni, _) | Self::Neighbour(vni, _) | Self::Fdb(vni, _) => {
                Section::Devices(format!("{vni:06x}"))
            }
            Self::Granted(link, _) | Self::Endpoint(link) | Self::Program(link, _) => {
                Section::of_device(link)
            }
        }
    }

    /// The link of the host that this object goes away with, if it belongs to one.
    pub fn sits_on(&self) -> Option<&str> {
        match self {
            Self::Granted(link, _) | Self::Endpoint(link) | Self::Program(link, _) => Some(link),
            Self::Node | Self::Vtep(_) | Self::Member(..) | Self::Neighbour(..) | Self::Fdb(..) => {
                None
            }
        }
    }
}

impl Attach {
    /// The name of the program, as `bpftool prog` shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FromContainer => "from_container",
            Self::FromUnderlay => "from_underlay",
        }
    }
}

impl Display for Attach {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
