//! What a change brings along.

use std::net::IpAddr;

use super::FakeKernel;
use super::refusal::bridge_of;
use crate::Step;
use crate::key::{FdbTable, Key, MacBytes, Netns};
use crate::object::{Link, LinkKind, Object, Route};

impl FakeKernel {
    pub(super) fn commit(&mut self, step: &Step) {
        match step {
            Step::Put(key, object) => self.lay(key, object),
            Step::Delete(key) => self.take_away(key),
        }
    }

    fn lay(&mut self, key: &Key, object: &Object) {
        match (key, object) {
            (Key::Link(ns, name), Object::Link(link)) => self.before_link(*ns, name, key, link),
            (Key::Fdb(link, FdbTable::Bridge, mac), _) => self.move_row(link, *mac),
            _ => {}
        }
        self.ours.insert(key.clone(), object.clone());
    }

    fn before_link(&mut self, ns: Netns, name: &str, key: &Key, link: &Link) {
        let Some(Object::Link(old)) = self.ours.get(key).cloned() else {
            if let LinkKind::Veth { peer_netns, peer } = &link.kind {
                self.ours.insert(Key::Link(*peer_netns, peer.clone()), Object::Link(fresh_peer()));
            }
            return;
        };
        if ns == Netns::Host && old.mac != link.mac {
            self.drop_where(|k, _| matches!(k, Key::Neighbour(l, _) if l == name));
        }
        let bridge = |link: &Link| link.port.as_ref().map(|port| port.bridge.clone());
        if bridge(&old) != bridge(link) {
            self.leave_bridge(name);
        }
    }

    /// A bridge has one row per MAC: a row on another port moves.
    fn move_row(&mut self, link: &str, mac: MacBytes) {
        let Some(at) = self.ours.get(&Key::Link(Netns::Host, link.to_owned())) else { return };
        let bridge = bridge_of(at).map_or(link, String::as_str);
        let others: Vec<Key> = self
            .ports_of(bridge)
            .map(|(port, _)| port)
            .chain([bridge])
            .filter(|port| *port != link)
            .map(|port| Key::Fdb(port.to_owned(), FdbTable::Bridge, mac))
            .collect();
        for key in others {
            self.ours.remove(&key);
        }
    }

    fn leave_bridge(&mut self, link: &str) {
        self.drop_where(|k, _| matches!(k, Key::Fdb(l, FdbTable::Bridge, _) if l == link));
    }

    pub(super) fn take_away(&mut self, key: &Key) {
        let gone = self.ours.remove(key);
        match (key, gone) {
            (Key::Link(ns, name), Some(Object::Link(link))) => self.after_link(*ns, name, &link),
            (Key::Up(ns, link), Some(_)) => self.after_down(*ns, link),
            (Key::Address(ns, _, net), Some(_)) => self.after_address(*ns, net.addr()),
            (Key::Set(table, set), Some(_)) => {
                self.drop_where(|k, _| matches!(k, Key::Element(t, s, _) if t == table && s == set));
            }
            (Key::Table(table), Some(_)) => self.drop_where(|k, _| {
                matches!(k, Key::Set(t, _) | Key::Element(t, ..) | Key::Chain(t, _) | Key::DeviceChain(t, ..) if t == table)
            }),
            _ => {}
        }
    }

    fn after_link(&mut self, ns: Netns, name: &str, link: &Link) {
        let keep_chains = self.chains_outlive_links;
        self.drop_where(|key, _| match key {
            Key::DeviceChain(..) if keep_chains => false,
            Key::Sysctl(n, path) => *n == ns && sysctl_link(path) == Some(name),
            _ => key.sits_on() == Some((ns, name)),
        });
        match &link.kind {
            LinkKind::Bridge => self.free_ports(name),
            // What is inside a container that a runtime looks after is not ours to see.
            LinkKind::Vxlan { .. } | LinkKind::Lent => {}
            LinkKind::Veth { peer_netns, peer } => {
                self.take_away(&Key::Link(*peer_netns, peer.clone()));
            }
            LinkKind::VethPeer => {
                let owner = self.links().find(|(_, link)| {
                    matches!(&link.kind, LinkKind::Veth { peer_netns, peer }
                        if *peer_netns == ns && peer == name)
                });
                if let Some(owner) = owner.map(|(name, _)| name.to_owned()) {
                    self.take_away(&Key::Link(Netns::Host, owner));
                }
            }
        }
    }

    fn free_ports(&mut self, bridge: &str) {
        let ports: Vec<(String, Link)> =
            self.ports_of(bridge).map(|(name, link)| (name.to_owned(), link.clone())).collect();
        for (name, link) in ports {
            self.leave_bridge(&name);
            let key = Key::Link(Netns::Host, name);
            self.ours.insert(key, Object::Link(Link { port: None, ..link }));
        }
    }

    fn after_down(&mut self, ns: Netns, link: &str) {
        self.drop_where(|key, _| match key {
            Key::Route(n, _, l) => *n == ns && l == link,
            Key::Address(n, l, net) => *n == ns && l == link && net.addr().is_ipv6(),
            Key::Neighbour(l, _) => ns == Netns::Host && l == link,
            _ => false,
        });
    }

    /// IPv4 routes go with the address they prefer as source; IPv6 routes only forget it.
    fn after_address(&mut self, ns: Netns, ip: IpAddr) {
        if self.addresses(ns).any(|(_, net)| net.addr() == ip) {
            return;
        }
        let routes: Vec<(Key, Route)> = self
            .ours
            .iter()
            .filter_map(|(key, object)| match (key, object) {
                (Key::Route(n, ..), Object::Route(r)) if *n == ns && r.source == Some(ip) => {
                    Some((key.clone(), r.clone()))
                }
                _ => None,
            })
            .collect();
        for (key, route) in routes {
            self.ours.remove(&key);
            if ip.is_ipv6() {
                self.ours.insert(key, Object::Route(Route { source: None, ..route }));
            }
        }
    }

    pub(super) fn drop_where(&mut self, goes: impl Fn(&Key, &Object) -> bool) {
        let keys: Vec<Key> =
            self.ours.iter().filter(|(k, o)| goes(k, o)).map(|(k, _)| k.clone()).collect();
        for key in keys {
            self.ours.remove(&key);
        }
    }
}

/// A veth's other end as the kernel makes it.
const fn fresh_peer() -> Link {
    Link {
        kind: LinkKind::VethPeer,
        mac: [0xee, 0, 0, 0, 0, 1],
        mtu: 1500,
        alias: String::new(),
        port: None,
    }
}

/// The link that a sysctl belongs to.
pub(super) fn sysctl_link(path: &str) -> Option<&str> {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["net", "ipv4" | "ipv6", "conf" | "neigh", link, _] => Some(link),
        _ => None,
    }
}
