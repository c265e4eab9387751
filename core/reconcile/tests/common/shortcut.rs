//! A host's shortcut.

use weft_kernel::{Attach, Key, LocalEndpoint, Object, ShortcutKey, ShortcutObject, UnderlayPath};

use std::collections::BTreeSet;

use super::{Local, Net, World, mac, prefix, v4, v6, we};

/// Where a shortcut leads.
#[derive(Debug, Clone)]
pub(crate) struct Shortcut {
    /// The link of the underlay is a bridge, whose name looks like one of our devices'.
    pub(crate) bridge: bool,
    /// Nodes are behind a router.
    pub(crate) routed: bool,
}

impl Shortcut {
    pub(crate) fn link(&self) -> String {
        if self.bridge { "br-lan".into() } else { "eth0".into() }
    }
}

fn put(key: ShortcutKey, object: ShortcutObject, want: &mut Vec<(Key, Object)>) {
    want.push((Key::Shortcut(key), Object::Shortcut(object)));
}

fn program(link: String, attach: Attach, want: &mut Vec<(Key, Object)>) {
    put(ShortcutKey::Program(link, attach), ShortcutObject::Program, want);
}

pub(crate) fn vni(net: u8) -> u32 {
    0x57_0000 + u32::from(net)
}

/// A network with so many endpoints of this host, each in a namespace and interface of its own.
pub(crate) fn world(locals: u8) -> World {
    let net = Net {
        index: 1,
        local: 1,
        mtu: 1450,
        gateway: 1,
        v6_length: Some(64),
        peers: BTreeSet::from([11, 12]),
        remotes: BTreeSet::from([8, 9]),
        open: false,
    };
    let local = |n: u8| Local { id: n, net: 1, container: n % 3, eth: n / 3, offset: n + 2 };
    World {
        nets: vec![net],
        locals: (0..locals).map(local).collect(),
        set_of_two: false,
        helper_chain: false,
        shortcut: Some(Shortcut { bridge: false, routed: false }),
    }
}

impl World {
    /// What a plan for this host would want of its shortcut.
    pub(crate) fn shortcut_wants(&self, shortcut: &Shortcut, want: &mut Vec<(Key, Object)>) {
        if self.nets.is_empty() {
            return;
        }
        let node = ShortcutObject::Node { data_address: v4(172, 10, 0, 1), port: 4789 };
        put(ShortcutKey::Node, node, want);
        for peer in self.nets.iter().flat_map(|net| &net.peers) {
            let next_hop = shortcut.routed.then(|| v4(172, 10, 0, 254));
            let path = UnderlayPath { link: shortcut.link(), next_hop, mtu: 1500 };
            put(ShortcutKey::Vtep(v4(172, 10, 0, *peer)), ShortcutObject::Vtep(path), want);
        }
        program(shortcut.link(), Attach::FromUnderlay, want);
        for net in &self.nets {
            self.shortcut_of_network(net, want);
        }
        for local in &self.locals {
            shortcut_of_endpoint(local, want);
        }
    }

    fn shortcut_of_network(&self, net: &Net, want: &mut Vec<(Key, Object)>) {
        let (n, vni) = (net.index, vni(net.index));
        for peer in &net.peers {
            let member = ShortcutObject::Member(mac(n, net.gateway));
            put(ShortcutKey::Member(vni, v4(172, 10, 0, *peer)), member, want);
        }
        let local = |offset: u8| self.locals.iter().any(|l| l.net == n && l.offset == offset);
        let here = self.locals.iter().filter(|l| l.net == n).map(|l| l.offset);
        for offset in net.remotes.iter().copied().chain(here) {
            let ips = [Some(v4(10, n, 0, offset)), net.v6_length.map(|_| v6(n, offset))];
            for ip in ips.into_iter().flatten() {
                let neighbour = ShortcutObject::Neighbour(mac(n, offset));
                put(ShortcutKey::Neighbour(vni, ip), neighbour, want);
            }
            if !local(offset) {
                let remote = ShortcutObject::Fdb(v4(172, 10, 0, 10 + offset % 4));
                put(ShortcutKey::Fdb(vni, mac(n, offset)), remote, want);
            }
        }
    }
}

/// Every other one is a router.
fn shortcut_of_endpoint(local: &Local, want: &mut Vec<(Key, Object)>) {
    let (link, n) = (we(local.id), local.net);
    let more = local.offset.is_multiple_of(2);
    if more {
        for net in [prefix(v4(192, 168, 0, 0), 16), prefix(v6(9, 9), 128)] {
            put(ShortcutKey::Granted(link.clone(), net), ShortcutObject::Granted, want);
        }
    }
    let endpoint = LocalEndpoint {
        vni: vni(n),
        mac: mac(n, local.offset),
        v4: Some([10, n, 0, local.offset].into()),
        v6: None,
        more,
    };
    put(ShortcutKey::Endpoint(link.clone()), ShortcutObject::Endpoint(endpoint), want);
    program(link, Attach::FromContainer, want);
}
