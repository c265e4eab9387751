//! What a step changes besides its own key.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_kernel::object::{Link, LinkKind};
use weft_kernel::state::Objects;
use weft_kernel::{FdbTable, KernelState, Key, Netns, NetnsId, Object, Scope, Section};

use crate::places::{host_links, owner_of, sysctl_link};

/// A state under change, and which of its sections lost something that was not named by a step.
pub(crate) struct Effects<'a> {
    pub(crate) state: &'a mut KernelState,
    pub(crate) want: &'a KernelState,
    pub(crate) touched: &'a mut BTreeSet<Section>,
}

impl Effects<'_> {
    /// `object` was put at `key`.
    pub(crate) fn put(&mut self, key: Key, object: Object) {
        if let (Key::Link(ns, name), Object::Link(link)) = (&key, &object) {
            match self.state.get(&key) {
                Some(Object::Link(old)) => {
                    let old = old.clone();
                    self.disturb(*ns, name, &old, link);
                }
                _ => self.peer_appears(link),
            }
        }
        self.state.insert(key, object);
    }

    /// A veth brings its other end, with attributes that only an observation can tell.
    fn peer_appears(&mut self, link: &Link) {
        if let LinkKind::Veth { peer_netns, peer } = &link.kind {
            let key = Key::Link(*peer_netns, peer.clone());
            if self.state.get(&key).is_none() {
                let fresh = Link {
                    kind: LinkKind::VethPeer,
                    mac: [0; 6],
                    mtu: 0,
                    alias: String::new(),
                    port: None,
                };
                self.state.insert(key, Object::Link(fresh));
            }
        }
    }

    /// What an existing link loses when `old` becomes `new`.
    pub(crate) fn disturb(&mut self, ns: Netns, name: &str, old: &Link, new: &Link) {
        if ns != Netns::Host {
            return;
        }
        if old.mac != new.mac {
            self.drop_from(
                &Section::of_device(name),
                |key| matches!(key, Key::Neighbour(link, _) if link == name),
            );
        }
        if bridge_of(old) != bridge_of(new) {
            self.leave_bridge(name);
        }
    }

    fn leave_bridge(&mut self, name: &str) {
        self.drop_from(
            &Section::of_device(name),
            |key| matches!(key, Key::Fdb(link, FdbTable::Bridge, _) if link == name),
        );
    }

    /// `key` was deleted.
    pub(crate) fn delete(&mut self, key: &Key) {
        let gone = self.state.remove(key);
        match (key, gone) {
            (Key::Link(ns, name), Some(Object::Link(link))) => self.link_goes(*ns, name, &link),
            (Key::Up(ns, name), Some(_)) => {
                self.drop_from(&section_of(*ns, name), |key| match key {
                    Key::Route(n, _, link) => n == ns && link == name,
                    Key::Address(n, link, net) => n == ns && link == name && net.addr().is_ipv6(),
                    Key::Neighbour(link, _) => *ns == Netns::Host && link == name,
                    _ => false,
                })
            }
            (Key::Set(table, set), Some(_)) => self.drop_from(
                &Section::Host,
                |key| matches!(key, Key::Element(t, s, _) if t == table && s == set),
            ),
            (Key::Table(table), Some(_)) => self.drop_everywhere(|key| {
                matches!(key, Key::Set(t, _) | Key::Element(t, ..) | Key::Chain(t, _)
                    | Key::DeviceChain(t, ..) if t == table)
            }),
            _ => {}
        }
    }

    fn link_goes(&mut self, ns: Netns, name: &str, link: &Link) {
        let want = self.want;
        self.drop_from(&section_of(ns, name), |key| match key {
            // Whether it goes along depends on the kernel: assume the worse, so that one that is
            // wanted is put again and one that is not is deleted.
            Key::DeviceChain(_, l, _) => l == name && want.get(key).is_some(),
            Key::Sysctl(n, path) => *n == ns && sysctl_link(path) == Some(name),
            _ => key.sits_on() == Some((ns, name)),
        });
        match &link.kind {
            LinkKind::Bridge => self.free_ports(name),
            LinkKind::Vxlan { .. } | LinkKind::Lent => {}
            LinkKind::Veth { peer_netns, peer } => {
                self.touched.insert(section_of(*peer_netns, peer));
                self.delete(&Key::Link(*peer_netns, peer.clone()));
            }
            LinkKind::VethPeer => {
                if let Some(owner) = owner_of(self.state, ns, name) {
                    self.touched.insert(owner.section());
                    self.delete(&owner);
                }
            }
        }
    }

    fn free_ports(&mut self, bridge: &str) {
        let ports: Vec<(Key, Link)> = host_links(self.state)
            .filter(|(_, link)| bridge_of(link) == Some(bridge))
            .map(|(key, link)| (key.clone(), Link { port: None, ..link.clone() }))
            .collect();
        for (key, link) in ports {
            if let Key::Link(_, name) = &key {
                self.leave_bridge(name);
            }
            self.touched.insert(key.section());
            self.state.insert(key, Object::Link(link));
        }
    }

    /// A link of the host is gone, as a reading told that does not cover all that sat on it.
    pub(crate) fn link_vanished(&mut self, name: &str) {
        self.drop_from(&Section::of_device(name), |key| {
            key.sits_on() == Some((Netns::Host, name)) && !Scope::Cheap.contains(key)
        });
    }

    /// A container's namespace is gone.
    pub(crate) fn netns_gone(&mut self, id: NetnsId) {
        self.state.set_section(Section::Container(id), Arc::default());
        self.touched.insert(Section::Container(id));
    }

    fn drop_everywhere(&mut self, goes: impl Fn(&Key) -> bool) {
        let sections: Vec<Section> = self.state.sections().map(|(name, _)| name.clone()).collect();
        for section in sections {
            self.drop_from(&section, &goes);
        }
    }

    fn drop_from(&mut self, section: &Section, goes: impl Fn(&Key) -> bool) {
        let Some(objects) = self.state.section(section) else { return };
        if !objects.keys().any(&goes) {
            return;
        }
        let stays: Objects = objects
            .iter()
            .filter(|(key, _)| !goes(key))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        self.state.set_section(section.clone(), Arc::new(stays));
        self.touched.insert(section.clone());
    }
}

fn section_of(ns: Netns, link: &str) -> Section {
    Key::Up(ns, link.to_owned()).section()
}

fn bridge_of(link: &Link) -> Option<&str> {
    link.port.as_ref().map(|port| port.bridge.as_str())
}
