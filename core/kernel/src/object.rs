//! What lies at a key: only the attributes that Weft manages. What the kernel adds by itself
//! (flags such as `TENTATIVE`, counters) is not here, or it would be "repaired" for ever.

use std::net::IpAddr;

use crate::key::{MacBytes, Netns};
use crate::nft::{Chain, Set};
use crate::shortcut::ShortcutObject;

/// The value at a [`crate::Key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// At `Key::Table`.
    Table,
    /// At `Key::Set`.
    Set(Set),
    /// At `Key::Element`.
    Element,
    /// At `Key::Chain` and `Key::DeviceChain`.
    Chain(Chain),
    /// At `Key::Link`.
    Link(Link),
    /// At `Key::Sysctl`: the text that reading the file gives, without the newline.
    Sysctl(String),
    /// At `Key::Address`.
    Address,
    /// At `Key::Up`.
    Up,
    /// At `Key::Route`.
    Route(Route),
    /// At `Key::Neighbour`: a permanent row.
    Neighbour(MacBytes),
    /// At `Key::Fdb` in the device's own table: the remote VTEP; `None` for a static row of a bridge.
    Fdb(Option<IpAddr>),
    /// At `Key::Flood`.
    Flood,
    /// At `Key::ForeignRule`.
    ForeignRule(crate::nft::Rule),
    /// At `Key::Shortcut`.
    Shortcut(ShortcutObject),
}

/// A link, without whether it is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it is. Immutable: another kind means delete and create.
    pub kind: LinkKind,
    /// Its address.
    pub mac: MacBytes,
    /// Largest packet, in octets.
    pub mtu: u32,
    /// `IFLA_IFALIAS`: our mark, and who it is for. Empty inside containers.
    pub alias: String,
    /// The bridge it is a port of, with the port's flags.
    pub port: Option<Port>,
}

/// The kind of a link with its immutable attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge: no multicast snooping, no STP, no automatic IPv6 link-local address.
    Bridge,
    /// A VXLAN device: no learning, no proxy, local address pinned, DF set, zero UDP checksums
    /// accepted over IPv6, no automatic IPv6 link-local address.
    Vxlan {
        /// The VXLAN network identifier.
        vni: u32,
        /// The address it sends from and listens at.
        local: IpAddr,
        /// UDP destination port.
        port: u16,
    },
    /// The host's end of a veth pair, with where its other end was put.
    Veth {
        /// The namespace of the other end.
        peer_netns: Netns,
        /// The name of the other end.
        peer: String,
    },
    /// The container's end of a veth pair.
    VethPeer,
    /// The host's end of a veth pair whose other end a container runtime took into the container
    /// and looks after: nothing about that one is wanted, and it is no object of ours. No step
    /// makes such a pair: it is lent when the runtime asks, and gone when the runtime is done.
    Lent,
}

/// A bridge port's flags (`bridge(8)`, `bridge link set`). Learning is always off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The bridge.
    pub bridge: String,
    /// Answer ARP and ND for known neighbours at the bridge, and send none of it out here.
    pub neigh_suppress: bool,
    /// Only frames from MACs with a static row on this port come in.
    pub locked: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The next hop; `None`: on the link.
    pub via: Option<IpAddr>,
    /// The source address that the host prefers for it.
    pub source: Option<IpAddr>,
}
