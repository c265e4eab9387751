//! What an object occupies besides its key: two cannot be at one place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{KernelState, Key, Netns, Object};

/// Such a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A veth's other end has a name in its namespace.
    PeerName(Netns, String),
    /// VXLAN devices share VNI and port with none.
    Vni(u32, u16),
    /// An IPv6 address has one prefix length on a link: asked for another, the kernel says yes
    /// and keeps the old one.
    Ip6(Netns, String, Ipv6Addr),
}

/// The place that an object takes.
pub(crate) fn place_of(key: &Key, object: &Object) -> Option<Place> {
    match (key, object) {
        (Key::Link(..), Object::Link(link)) => place_of_kind(&link.kind),
        (Key::Address(ns, link, IpNet::V6(net)), _) => {
            Some(Place::Ip6(*ns, link.clone(), net.addr()))
        }
        _ => None,
    }
}

/// The place that a link of this kind takes.
fn place_of_kind(kind: &LinkKind) -> Option<Place> {
    match kind {
        LinkKind::Veth { peer_netns, peer } => Some(Place::PeerName(*peer_netns, peer.clone())),
        LinkKind::Vxlan { vni, port, .. } => Some(Place::Vni(*vni, *port)),
        LinkKind::Bridge | LinkKind::VethPeer | LinkKind::Lent => None,
    }
}

/// The host's end of the veth whose other end is `peer` in `netns`.
pub(crate) fn owner_of(state: &KernelState, netns: Netns, peer: &str) -> Option<Key> {
    let wanted = Place::PeerName(netns, peer.to_owned());
    let mut links = host_links(state);
    links
        .find(|(_, link)| place_of_kind(&link.kind).as_ref() == Some(&wanted))
        .map(|(k, _)| k.clone())
}

/// The host's links.
pub(crate) fn host_links(state: &KernelState) -> impl Iterator<Item = (&Key, &Link)> {
    let first = Key::Link(Netns::Host, String::new());
    state.sections().flat_map(move |(_, objects)| {
        objects.range(first.clone()..).map_while(|(key, object)| match (key, object) {
            (Key::Link(Netns::Host, _), Object::Link(link)) => Some((key, link)),
            _ => None,
        })
    })
}

/// The host's sysctls.
pub(crate) fn host_sysctls(state: &KernelState) -> impl Iterator<Item = (&Key, &str)> {
    let first = Key::Sysctl(Netns::Host, String::new());
    state.sections().flat_map(move |(_, objects)| {
        objects.range(first.clone()..).map_while(|(key, _)| match key {
            Key::Sysctl(Netns::Host, path) => Some((key, path.as_str())),
            _ => None,
        })
    })
}

/// The link that a sysctl belongs to, if it belongs to one.
pub(crate) fn sysctl_link(path: &str) -> Option<&str> {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["net", "ipv4" | "ipv6", "conf" | "neigh", link, _] => Some(link),
        _ => None,
    }
}

/// The first address there is, for ranges of keys.
pub(crate) const FIRST_IP: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// The last one.
pub(crate) const LAST_IP: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
