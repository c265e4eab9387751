//! The shortcut: what its programs look up, and where they are attached.
//!
//! The entries say what rows and filters say on the bridge path. What they leave out goes the
//! bridge path: frames for the gateway and for this host, and those for a node that no path
//! leads to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_kernel::facts::ShortcutFacts;
use weft_kernel::{Attach, Key, LocalEndpoint, Object, ShortcutKey, ShortcutObject};

use crate::Out;
use crate::attachment::Attachment;
use crate::ground::Ground;
use crate::rows::Rows;
use crate::site::Site;

/// The node, the ways to the others, and the programs at the links that their packets come in by.
pub(crate) fn of_host(ground: &Ground, facts: &ShortcutFacts, sites: &[Site<'_>], out: &mut Out) {
    let node = ShortcutObject::Node { data_address: ground.data_address, port: ground.vxlan_port };
    put(ShortcutKey::Node, node, out);
    let peers = sites.iter().flat_map(Site::peers).map(|peer| peer.data_address);
    for vtep in peers.collect::<BTreeSet<IpAddr>>() {
        if let Some(path) = facts.paths.get(&vtep) {
            put(ShortcutKey::Vtep(vtep), ShortcutObject::Vtep(path.clone()), out);
        }
    }
    for link in &facts.links {
        program(link.clone(), Attach::FromUnderlay, out);
    }
}

/// A network's members, and who is where, in the order of their keys.
pub(crate) fn of_network(site: &Site<'_>, rows: &Rows, out: &mut Out) {
    let network = site.network();
    let vni = network.vni.get();
    let gateway = network.gateway_mac().0;
    for peer in site.peers() {
        let key = ShortcutKey::Member(vni, peer.data_address);
        put(key, ShortcutObject::Member(gateway), out);
    }
    // For these the host answers itself.
    let mut host = network.gateways();
    host.extend(network.addresses(site.view.lease.node_offset));
    for (address, mac) in rows.neighbours.iter().filter(|(address, _)| !host.contains(address)) {
        let key = ShortcutKey::Neighbour(vni, *address);
        put(key, ShortcutObject::Neighbour(mac.0), out);
    }
    for (mac, vtep) in &rows.remote {
        put(ShortcutKey::Fdb(vni, mac.0), ShortcutObject::Fdb(*vtep), out);
    }
}

/// An endpoint and the sources granted to it: all that the filter at its veth lets in, be the
/// host of that family or not.
pub(crate) fn of_endpoint(at: &Attachment<'_>, out: &mut Out) {
    let (link, endpoint) = (at.host_end(), at.endpoint);
    let v4 = endpoint.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = endpoint.addresses.iter().find_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    let first = [v4.map(IpAddr::V4), v6.map(IpAddr::V6)];
    let further = endpoint.addresses.iter().filter(|address| !first.contains(&Some(**address)));
    let granted: BTreeSet<IpNet> = further
        .map(|address| IpNet::from(*address))
        .chain(endpoint.allow_source.iter().map(IpNet::trunc))
        .collect();
    let local = LocalEndpoint {
        vni: at.view.network.vni.get(),
        mac: endpoint.mac.0,
        v4,
        v6,
        more: !granted.is_empty(),
    };
    for net in granted {
        put(ShortcutKey::Granted(link.clone(), net), ShortcutObject::Granted, out);
    }
    put(ShortcutKey::Endpoint(link.clone()), ShortcutObject::Endpoint(local), out);
    program(link, Attach::FromContainer, out);
}

fn program(link: String, attach: Attach, out: &mut Out) {
    put(ShortcutKey::Program(link, attach), ShortcutObject::Program, out);
}

fn put(key: ShortcutKey, object: ShortcutObject, out: &mut Out) {
    out.push((Key::Shortcut(key), Object::Shortcut(object)));
}
