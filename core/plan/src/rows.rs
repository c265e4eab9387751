//! Rows: what a node knows about endpoints, one set per endpoint.
//!
//! A remote endpoint is a row of the VTEP's own table (MAC → remote VTEP), a row of the bridge
//! (MAC → VTEP) and a neighbour row per address on the bridge. A local one is a row of the bridge
//! (MAC → veth) and the neighbour rows. With them the bridge answers ARP and ND itself, and
//! nobody has to ask over the wire.

use std::net::IpAddr;

use weft_kernel::{FdbTable, Key, Object};
use weft_model::{Mac, device};

use crate::Out;
use crate::attachment::Attachment;
use crate::site::Site;

/// Who is where in a network, for the bridge path and the shortcut: tens of thousands are sorted
/// once, as the few octets that tell them apart.
pub(crate) struct Rows {
    /// The MACs that are behind other nodes, with those nodes' VTEPs, by MAC: the nodes' own and
    /// endpoints'. Of two for one MAC, the later one counts.
    pub(crate) remote: Vec<(Mac, IpAddr)>,
    /// Every address of the network with its MAC, but the host's own, by address.
    pub(crate) neighbours: Vec<(IpAddr, Mac)>,
}

impl Rows {
    pub(crate) fn of(site: &Site<'_>) -> Self {
        Self { remote: remote(site), neighbours: neighbours(site) }
    }
}

/// A network's rows, except those on endpoints' veths, put out in the order of their keys.
pub(crate) fn of_network(site: &Site<'_>, rows: &Rows, out: &mut Out) {
    let (bridge, vtep) = (site.bridge(), site.vtep());
    for (address, mac) in &rows.neighbours {
        out.push((Key::Neighbour(bridge.clone(), *address), Object::Neighbour(mac.0)));
    }
    // The host's own MAC: the bridge takes it for itself as well as the gateway's.
    let own = Key::Fdb(bridge, FdbTable::Bridge, site.node_mac().0);
    out.push((own, Object::Fdb(None)));
    let row = |table, mac: Mac| Key::Fdb(vtep.clone(), table, mac.0);
    for (mac, node) in &rows.remote {
        out.push((row(FdbTable::Device, *mac), Object::Fdb(Some(*node))));
    }
    for (mac, _) in &rows.remote {
        out.push((row(FdbTable::Bridge, *mac), Object::Fdb(None)));
    }
    for peer in site.peers() {
        out.push((Key::Flood(vtep.clone(), peer.data_address), Object::Flood));
    }
}

/// The row on an endpoint's veth: without it, the locked port lets nothing in.
pub(crate) fn of_endpoint(at: &Attachment<'_>, out: &mut Out) {
    let key = Key::Fdb(device::host_end(at.endpoint.id), FdbTable::Bridge, at.endpoint.mac.0);
    out.push((key, Object::Fdb(None)));
}

fn remote(site: &Site<'_>) -> Vec<(Mac, IpAddr)> {
    let nodes = site.remote_nodes().map(|(mac, peer)| (mac, peer.data_address));
    let endpoints = site.remote().map(|(endpoint, peer)| (endpoint.mac, peer.data_address));
    let mut rows: Vec<(Mac, IpAddr)> = nodes.chain(endpoints).collect();
    // Stable, so that the later one of two comes later.
    rows.sort_by_key(|(mac, _)| *mac);
    rows
}

fn neighbours(site: &Site<'_>) -> Vec<(IpAddr, Mac)> {
    let mut rows: Vec<(IpAddr, Mac)> = Vec::new();
    let mut put = |mac: Mac, addresses: &[IpAddr]| {
        let known = addresses.iter().filter(|a| site.ground.speaks(**a));
        rows.extend(known.map(|address| (*address, mac)));
    };
    for (mac, peer) in site.remote_nodes() {
        put(mac, &site.network().addresses(peer.node_offset));
    }
    for (endpoint, _) in site.remote() {
        put(endpoint.mac, &endpoint.addresses);
    }
    for at in site.local {
        put(at.endpoint.mac, &at.endpoint.addresses);
    }
    rows.sort_by_key(|(address, _)| *address);
    rows
}
