//! Small scenes: a bridge with rows, a veth into a container.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_kernel::nft::Chain;
use weft_kernel::object::{Link, LinkKind, Port};
use weft_kernel::{FdbTable, KernelState, Key, Netns, Object};

use super::{container, netdev, wb, we};

pub(crate) fn link(kind: LinkKind, bridge: Option<&str>) -> Object {
    let port =
        bridge.map(|bridge| Port { bridge: bridge.into(), neigh_suppress: true, locked: false });
    Object::Link(Link { kind, mac: [2, 0, 0, 0, 0, 1], mtu: 1450, alias: "weft".into(), port })
}

pub(crate) fn host_link(name: &str) -> Key {
    Key::Link(Netns::Host, name.into())
}

pub(crate) fn ip(last: u16) -> IpAddr {
    let [high, low] = last.to_be_bytes();
    IpAddr::from([10, 1, high, low])
}

pub(crate) fn row(last: u16) -> (Key, Object) {
    (Key::Neighbour(wb(1), ip(last)), Object::Neighbour([2, 0, 0, 0, 0, 9]))
}

pub(crate) fn with_rows(rows: u16) -> KernelState {
    let bridge = (host_link(&wb(1)), link(LinkKind::Bridge, None));
    std::iter::once(bridge).chain((0..rows).map(row)).collect()
}

/// The host's side of a container that has its end from a runtime.
pub(crate) fn lent() -> KernelState {
    let chain = Chain { hook: None, rules: vec![] };
    [
        (Key::Table(netdev()), Object::Table),
        (host_link(&wb(1)), link(LinkKind::Bridge, None)),
        (host_link(&we(1)), link(LinkKind::Lent, Some(&wb(1)))),
        (Key::DeviceChain(netdev(), we(1), "in".into()), Object::Chain(chain)),
        (Key::Up(Netns::Host, we(1)), Object::Up),
        (Key::Fdb(we(1), FdbTable::Bridge, [2; 6]), Object::Fdb(None)),
    ]
    .into_iter()
    .collect()
}

pub(crate) fn veth() -> KernelState {
    let ns = container(0);
    let kind = LinkKind::Veth { peer_netns: ns, peer: "eth0".into() };
    let chain = Chain { hook: None, rules: vec![] };
    let peer = match link(LinkKind::VethPeer, None) {
        Object::Link(link) => Object::Link(Link { alias: String::new(), ..link }),
        other => other,
    };
    [
        (Key::Table(netdev()), Object::Table),
        (host_link(&wb(1)), link(LinkKind::Bridge, None)),
        (host_link(&we(1)), link(kind, Some(&wb(1)))),
        (Key::Link(ns, "eth0".into()), peer),
        (Key::DeviceChain(netdev(), we(1), "in".into()), Object::Chain(chain)),
        (Key::Address(ns, "eth0".into(), IpNet::new_assert(ip(2), 24)), Object::Address),
        (Key::Up(ns, "eth0".into()), Object::Up),
        (Key::Fdb(we(1), FdbTable::Bridge, [2; 6]), Object::Fdb(None)),
    ]
    .into_iter()
    .collect()
}
