//! Links: each network's bridge and VTEP, each endpoint's veth pair.

use weft_kernel::object::{Link, Port};
use weft_kernel::{Key, LinkKind, Netns, Object};
use weft_model::{Mac, device};

use crate::Out;
use crate::attachment::Attachment;
use crate::ground::Ground;
use crate::site::Site;

/// A network's bridge and VTEP.
pub(crate) fn of_network(site: &Site<'_>, out: &mut Out) {
    let network = site.network();
    let alias = format!("weft network {}", network.name);
    let mtu = site.ground.mtu(network);
    let bridge = Link {
        kind: LinkKind::Bridge,
        mac: network.gateway_mac().0,
        mtu,
        alias: alias.clone(),
        port: None,
    };
    let vtep = Link {
        kind: LinkKind::Vxlan {
            vni: network.vni.get(),
            local: site.ground.data_address,
            port: site.ground.vxlan_port,
        },
        mac: Mac::of_vtep(network.vni).0,
        mtu,
        alias,
        port: Some(Port { bridge: site.bridge(), neigh_suppress: true, locked: false }),
    };
    put(Netns::Host, site.bridge(), bridge, out);
    put(Netns::Host, site.vtep(), vtep, out);
}

/// The host's end of an endpoint's veth pair. Its alias tells a lent one from others.
pub(crate) fn of_endpoint(ground: &Ground, at: &Attachment<'_>, out: &mut Out) {
    let network = &at.view.network;
    let bridge = device::bridge(network.vni);
    let (kind, what) = match at.inside {
        Some((peer_netns, link)) => {
            (LinkKind::Veth { peer_netns, peer: link.to_owned() }, "endpoint")
        }
        None => (LinkKind::Lent, "lent"),
    };
    let link = Link {
        kind,
        mac: host_end_mac(at.endpoint.mac).0,
        mtu: ground.mtu(network),
        alias: format!("weft {what} {}", at.endpoint.name),
        port: Some(Port { bridge, neigh_suppress: false, locked: true }),
    };
    put(Netns::Host, at.host_end(), link, out);
}

/// The container's end.
pub(crate) fn of_container(ground: &Ground, at: &Attachment<'_>, out: &mut Out) {
    let Some((netns, name)) = at.inside else { return };
    let link = Link {
        kind: LinkKind::VethPeer,
        mac: at.endpoint.mac.0,
        mtu: ground.mtu(&at.view.network),
        alias: String::new(),
        port: None,
    };
    put(netns, name.to_owned(), link, out);
}

fn put(netns: Netns, name: String, link: Link, out: &mut Out) {
    out.push((Key::Up(netns, name.clone()), Object::Up));
    out.push((Key::Link(netns, name), Object::Link(link)));
}

/// The host end never sends by its own MAC, which only must not equal one that is in use: first
/// octet `0e`, where endpoints have `02` and `06` and VTEPs `0a`.
fn host_end_mac(endpoint: Mac) -> Mac {
    let [_, b, c, d, e, f] = endpoint.0;
    Mac([0x0e, b, c, d, e, f])
}
