//! Tells from a message of the kernel's what has to be read anew, if anything.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use weft_kernel::key::FdbTable;
use weft_kernel::{Key, Scope};

use super::Event;
use crate::PROTOCOL;
use crate::addr;
use crate::link::{self, LinkInfo, PortInfo, RTM_DELLINK, RTM_NEWLINK};
use crate::netlink::read::{Header, messages, u32_at};
use crate::netlink::{Refusal, Socket, attributes};
use crate::observe::carrier;
use crate::own::Own;
use crate::row::{self, Carrier, RTM_DELNEIGH, RTM_NEWNEIGH};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTA_OIF: u16 = 4;
const AF_BRIDGE: u8 = 7;
/// Of addresses the host is told by themselves.
const TABLE_LOCAL: u8 = 255;
/// What the names of our links begin with: those that have no mark yet are told by it.
const PREFIXES: [&str; 3] = ["wb-", "wv-", "we-"];
const RTM_F_CLONED: u32 = 0x200;

/// What is known of a link.
#[derive(Debug)]
struct Known {
    name: String,
    marked: bool,
    carrier: Carrier,
    bridge: Option<u32>,
    port: Option<PortInfo>,
    /// Of all else that Weft looks at: carrier and counters change all the time.
    fingerprint: u64,
}

impl Known {
    /// Whether it is one of ours, marked already or not.
    fn is_ours(&self) -> bool {
        self.marked || PREFIXES.iter().any(|prefix| self.name.starts_with(prefix))
    }
}

/// Sorts messages.
#[derive(Debug)]
pub(super) struct Sorter {
    own: Arc<Own>,
    socket: Socket,
    links: BTreeMap<u32, Known>,
}

impl Sorter {
    pub(super) const fn new(own: Arc<Own>, socket: Socket) -> Self {
        Self { own, socket, links: BTreeMap::new() }
    }

    /// Lists all links anew.
    pub(super) fn read_links(&mut self) -> Result<(), Refusal> {
        let links = link::all(&mut self.socket)?;
        self.links = links.into_iter().map(|(index, link)| (index, known(&link))).collect();
        Ok(())
    }

    /// Takes in a datagram.
    pub(super) fn sort(&mut self, datagram: &[u8], events: &mut BTreeSet<Event>) {
        for (header, body) in messages(datagram) {
            match header.kind {
                RTM_NEWLINK | RTM_DELLINK => self.link(header.kind == RTM_NEWLINK, body, events),
                RTM_NEWNEIGH | RTM_DELNEIGH => self.row(header.kind == RTM_NEWNEIGH, body, events),
                RTM_NEWADDR | RTM_DELADDR => self.address(header, body, events),
                RTM_NEWROUTE | RTM_DELROUTE => self.route(header, body, events),
                RTM_NEWRULE | RTM_DELRULE | RTM_NEWNEXTHOP | RTM_DELNEXTHOP
                    if !self.own.sent(header.port) =>
                {
                    events.insert(Event::HostChanged);
                }
                crate::nft::NEWGEN if !self.own.sent(header.port) => {
                    events.insert(Event::Dirty(Scope::Cheap));
                    events.insert(Event::HostChanged);
                }
                _ => {}
            }
        }
    }

    fn link(&mut self, there: bool, body: &[u8], events: &mut BTreeSet<Event>) {
        // Of a port's settings the bridge tells in messages of its own family.
        if body.first() == Some(&AF_BRIDGE) {
            if there {
                self.port(body, events);
            }
            return;
        }
        let Some(link) = link::read(body) else { return };
        let new = there.then(|| known(&link));
        let old = match new {
            Some(new) => self.links.insert(link.index, new),
            None => self.links.remove(&link.index),
        };
        let new = self.links.get(&link.index);
        let same = |old: &Known| {
            new.is_some_and(|new| new.fingerprint == old.fingerprint && new.port == old.port)
        };
        if old.as_ref().is_some_and(same) {
            return;
        }
        let name = |known: Option<&Known>| known.map(|known| known.name.clone());
        if self.own.looks_out_for(link.index) && name(old.as_ref()) != name(new) {
            events.insert(Event::Dirty(Scope::Shortcut));
        }
        let ours = |known: Option<&Known>| known.is_some_and(Known::is_ours);
        if (ours(old.as_ref()) || ours(new)) && self.own.changed_lately() {
            return;
        }
        let marked = |known: Option<&Known>| known.is_some_and(|known| known.marked);
        if marked(old.as_ref()) || marked(new) {
            events.insert(Event::Dirty(Scope::Cheap));
        } else {
            events.insert(Event::HostChanged);
        }
        if let Some(old) = old.filter(|old| old.marked)
            && !there
        {
            events.insert(Event::Dirty(Scope::Rows(old.name)));
        }
    }

    fn port(&mut self, body: &[u8], events: &mut BTreeSet<Event>) {
        let index = u32_at(body, 4).unwrap_or_default();
        let Some(link) = self.links.get_mut(&index).filter(|link| link.marked) else { return };
        let port = link::read_port(body);
        if port.is_some() && port != link.port {
            link.port = port;
            if !self.own.changed_lately() {
                events.insert(Event::Dirty(Scope::Cheap));
            }
        }
    }

    fn row(&self, there: bool, body: &[u8], events: &mut BTreeSet<Event>) {
        let Some(row) = row::read(body) else { return };
        let Some(link) = self.links.get(&row.link).filter(|link| link.marked) else { return };
        let Some(key) = row::key(&row, &link.name, link.carrier) else { return };
        let object = row::ours(&row, &link.name, link.carrier).filter(|_| there);
        if self.own.knows(&link.name, &key, object.as_ref().map(|(_, object)| object)) {
            return;
        }
        events.insert(Event::Dirty(Scope::Rows(link.name.clone())));
        if let Key::Fdb(_, FdbTable::Bridge, mac) = key {
            self.moved(row.master, mac, events);
        }
    }

    /// A bridge has one row per MAC: one that appears at a port goes from another without a word.
    fn moved(&self, bridge: Option<u32>, mac: [u8; 6], events: &mut BTreeSet<Event>) {
        for (index, link) in &self.links {
            let same_bridge = link.bridge == bridge || Some(*index) == bridge;
            let key = Key::Fdb(link.name.clone(), FdbTable::Bridge, mac);
            if link.marked && same_bridge && !self.own.knows(&link.name, &key, None) {
                events.insert(Event::Dirty(Scope::Rows(link.name.clone())));
            }
        }
    }

    fn address(&self, header: Header, body: &[u8], events: &mut BTreeSet<Event>) {
        let Some((address, marked)) = addr::read(body) else { return };
        if self.own.sent(header.port) || self.is_our_doing(Some(address.link)) {
            return;
        }
        if !self.links.get(&address.link).is_some_and(|link| link.marked) {
            events.insert(Event::HostChanged);
        } else if header.kind == RTM_DELADDR || !marked {
            // One of ours that is there is no news: the kernel says so late, and more than once.
            events.insert(Event::Dirty(Scope::Cheap));
        }
    }

    fn route(&self, header: Header, body: &[u8], events: &mut BTreeSet<Event>) {
        let link = attributes(body.get(12..).unwrap_or_default()).find(|a| a.kind == RTA_OIF);
        let link = link.and_then(|link| link.u32());
        if self.own.sent(header.port) || self.is_our_doing(link) {
            return;
        }
        let (table, protocol) = (body.get(4).copied(), body.get(5).copied());
        let cloned = u32_at(body, 8).unwrap_or_default() & RTM_F_CLONED != 0;
        if protocol == Some(PROTOCOL) {
            events.insert(Event::Dirty(Scope::Cheap));
        } else if table != Some(TABLE_LOCAL) && !cloned {
            events.insert(Event::HostChanged);
        }
    }

    /// Whether something that happened at a link may be what we did a moment ago: not at a link
    /// that is known to be another's.
    fn is_our_doing(&self, link: Option<u32>) -> bool {
        let known = link.map(|link| self.links.get(&link));
        let others = match known {
            Some(Some(link)) => !link.is_ours(),
            Some(None) => false,
            None => true,
        };
        !others && self.own.changed_lately()
    }
}

fn known(link: &LinkInfo) -> Known {
    let mut hasher = DefaultHasher::new();
    (&link.name, link.mac, link.mtu, &link.alias, link.master, link.lower).hash(&mut hasher);
    (link.is_up(), link.addr_gen_mode, link.bridge.stp, link.bridge.mcast_snooping)
        .hash(&mut hasher);
    link.vxlan.is_as_made().hash(&mut hasher);
    Known {
        name: link.name.clone(),
        marked: link.is_marked(),
        carrier: carrier(link),
        bridge: link.master,
        port: link.port.clone(),
        fingerprint: hasher.finish(),
    }
}
