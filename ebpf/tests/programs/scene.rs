//! One scene for all stories: this node, a container on it, a second one, and one behind another node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_ebpf::abi::{Endpoint, Fdb, Vtep, link_local};

use crate::frames::Mac;
use crate::world::World;

pub(crate) const VNI: u32 = 0x57_0203;
pub(crate) const PORT: u16 = 4789;
/// The container that sends.
pub(crate) const MAC: Mac = [2, 0x57, 1, 2, 3, 4];
/// Another one on this node, and its interface.
pub(crate) const LOCAL_MAC: Mac = [2, 0x57, 1, 2, 3, 5];
pub(crate) const LOCAL_IFINDEX: u32 = 77;
/// One behind the other node.
pub(crate) const REMOTE_MAC: Mac = [2, 0x57, 1, 2, 3, 6];
pub(crate) const GATEWAY_MAC: Mac = [2, 0x57, 0, 0, 0, 1];
pub(crate) const SLOT: u32 = 3;
pub(crate) const LOCAL_SLOT: u32 = 4;
pub(crate) const MTU: u32 = 1500;

pub(crate) const V4: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
pub(crate) const LOCAL_V4: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 3);
pub(crate) const REMOTE_V4: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 5);
pub(crate) const V6: Ipv6Addr = Ipv6Addr::new(0xfd57, 0, 0, 3, 0, 0, 0, 2);
pub(crate) const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0xfd57, 0, 0, 3, 0, 0, 0, 5);

/// This node's VTEP and the other's, in either family.
pub(crate) fn underlay(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        let of = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xac0a, last);
        (of(15).into(), of(16).into())
    } else {
        (Ipv4Addr::new(172, 10, 0, 15).into(), Ipv4Addr::new(172, 10, 0, 16).into())
    }
}

/// The container and the remote one, in either family.
pub(crate) fn ends(v6: bool) -> (IpAddr, IpAddr) {
    if v6 { (V6.into(), REMOTE_V6.into()) } else { (V4.into(), REMOTE_V4.into()) }
}

pub(crate) fn endpoint() -> Endpoint {
    Endpoint { vni: VNI, slot: SLOT, mac: MAC, more: false, v4: Some(V4), v6: Some(V6) }
}

pub(crate) fn vtep(v6_underlay: bool) -> Vtep {
    let (source, destination) = underlay(v6_underlay);
    Vtep { ifindex: 9, mtu: MTU, next_hop: destination, source, destination, port: PORT }
}

/// Everything in its place, over an underlay of either family.
pub(crate) fn scene(v6_underlay: bool) -> World {
    let mut world = World::new();
    fill(&mut world, v6_underlay);
    world
}

pub(crate) fn fill(world: &mut World, v6_underlay: bool) {
    let (here, there) = underlay(v6_underlay);
    world.node(here, PORT);
    world.endpoint(endpoint());
    world.fdb(VNI, MAC, Fdb::Local { ifindex: crate::world::IFINDEX, slot: SLOT });
    world.fdb(VNI, LOCAL_MAC, Fdb::Local { ifindex: LOCAL_IFINDEX, slot: LOCAL_SLOT });
    world.fdb(VNI, REMOTE_MAC, Fdb::Remote(there));
    world.member(VNI, there, GATEWAY_MAC);
    world.vtep(&vtep(v6_underlay));
    let neighbours: [(IpAddr, Mac); 6] = [
        (V4.into(), MAC),
        (LOCAL_V4.into(), LOCAL_MAC),
        (REMOTE_V4.into(), REMOTE_MAC),
        (V6.into(), MAC),
        (REMOTE_V6.into(), REMOTE_MAC),
        (link_local(REMOTE_MAC).into(), REMOTE_MAC),
    ];
    for (address, mac) in neighbours {
        world.neighbour(VNI, address, mac);
    }
}
