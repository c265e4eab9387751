//! What programs and tables hold.
//!
//! What belongs to a device that is gone is swept here: nobody asks for it any more. Anything else
//! that is not as we write it is shown as another object, so that it is put right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_ebpf::abi::{self, Fdb};
use weft_kernel::key::MacBytes;
use weft_kernel::{Attach, Key, LocalEndpoint, Object, ShortcutKey, ShortcutObject, UnderlayPath};

use super::{NODE, Shortcut, ShortcutOn, all_filters, endpoints, pins};
use crate::fault::Trouble;
use crate::link::LinkInfo;
use crate::netlink::Socket;

type Links = BTreeMap<u32, LinkInfo>;

/// What is found.
pub(crate) type Found = Vec<(Key, Object)>;

/// What stands for something that is there, but is not as we write it: an object of another kind
/// than belongs there.
const BROKEN: ShortcutObject = ShortcutObject::Granted;

fn show(found: &mut Found, key: ShortcutKey, object: Option<ShortcutObject>) {
    found.push((Key::Shortcut(key), Object::Shortcut(object.unwrap_or(BROKEN))));
}

/// Entries of `fdb` that lead to devices of this host: the device, and the place in the counters.
type Local = BTreeMap<(u32, MacBytes), (u32, u32)>;

impl Shortcut {
    /// Reads everything. Gives the devices that programs or entries are about.
    pub(crate) fn observe(
        &mut self,
        route: &mut Socket,
        links: &Links,
        found: &mut Found,
    ) -> Result<BTreeSet<u32>, Trouble> {
        let mut devices = BTreeSet::new();
        self.see_node(found)?;
        let local = self.see_fdb(found)?;
        self.see_endpoints(links, local, &mut devices, found)?;
        self.see_granted(links, found)?;
        self.see_addresses(found)?;
        self.see_vteps(links, &mut devices, found)?;
        let programs = match self.on {
            ShortcutOn::Tcx => self.see_links(links)?,
            ShortcutOn::Clsact => self.see_filters(route, links)?,
        };
        self.see_programs(links, &programs, &mut devices, found);
        self.sweep_drops(links)?;
        if programs.values().all(|present| *present) && self.left.is_empty() {
            // Nothing looks into them any more.
            for tables in self.pins.other_tables()? {
                pins::remove_dir(&tables)?;
            }
        }
        Ok(devices)
    }

    fn see_node(&mut self, found: &mut Found) -> Result<(), Trouble> {
        let Some(value) = self.tables.node.get(&NODE)? else { return Ok(()) };
        let node = abi::Node::decode(&value);
        self.node = Some(node).filter(|node| node.port != 0);
        if value.iter().any(|octet| *octet != 0) {
            let object = ShortcutObject::Node { data_address: node.address, port: node.port };
            let as_written = node.encode() == value && node.port != 0;
            show(found, ShortcutKey::Node, Some(object).filter(|_| as_written));
        }
        Ok(())
    }

    /// Entries that lead to other hosts are found; those of this host are for the endpoints.
    fn see_fdb(&self, found: &mut Found) -> Result<Local, Trouble> {
        let mut local = Local::new();
        for (key, value) in self.tables.fdb.entries()? {
            let (vni, mac) = abi::fdb_key_of(&key);
            if abi::fdb_key(vni, mac) != key {
                strange("fdb", &key);
                self.tables.fdb.delete(&key)?;
                continue;
            }
            let entry = Fdb::decode(&value);
            let as_written = entry.encode() == value;
            match entry {
                Fdb::Local { ifindex, slot } if as_written => {
                    local.insert((vni, mac), (ifindex, slot));
                }
                Fdb::Remote(vtep) if as_written => {
                    show(found, ShortcutKey::Fdb(vni, mac), Some(ShortcutObject::Fdb(vtep)));
                }
                Fdb::Local { .. } | Fdb::Remote(_) => show(found, ShortcutKey::Fdb(vni, mac), None),
            }
        }
        Ok(local)
    }

    fn see_endpoints(
        &mut self,
        links: &Links,
        mut local: Local,
        devices: &mut BTreeSet<u32>,
        found: &mut Found,
    ) -> Result<(), Trouble> {
        for (key, value) in self.tables.endpoints.entries()? {
            let ifindex = u32::from_ne_bytes(key);
            let Some(link) = links.get(&ifindex) else {
                endpoints::delete(&self.tables, &mut self.slots, ifindex)?;
                local.retain(|_, at| at.0 != ifindex);
                continue;
            };
            devices.insert(ifindex);
            let entry = abi::Endpoint::decode(&value);
            let at = (entry.vni, entry.mac);
            // Where frames for it go must be where they come from.
            let same = local.get(&at) == Some(&(ifindex, entry.slot));
            if same {
                local.remove(&at);
            }
            let whole = same && entry.encode() == value && self.slots.is_of(entry.slot, ifindex);
            let abi::Endpoint { vni, mac, v4, v6, more, .. } = entry;
            let object = ShortcutObject::Endpoint(LocalEndpoint { vni, mac, v4, v6, more });
            show(found, ShortcutKey::Endpoint(link.name.clone()), Some(object).filter(|_| whole));
        }
        for ((vni, mac), (ifindex, _)) in local {
            if links.contains_key(&ifindex) {
                show(found, ShortcutKey::Fdb(vni, mac), None);
            } else {
                self.tables.fdb.delete(&abi::fdb_key(vni, mac))?;
            }
        }
        Ok(())
    }

    fn see_granted(&self, links: &Links, found: &mut Found) -> Result<(), Trouble> {
        for (key, value) in self.tables.granted.entries()? {
            let (ifindex, address, length) = abi::granted_key_of(&key);
            let Some(link) = links.get(&ifindex) else {
                self.tables.granted.delete(&key)?;
                continue;
            };
            match ipnet::IpNet::new(address, length) {
                Ok(net)
                    if abi::granted_key(ifindex, address, length) == key
                        && abi::granted_value(address) == value =>
                {
                    let granted = ShortcutKey::Granted(link.name.clone(), net);
                    show(found, granted, Some(ShortcutObject::Granted));
                }
                _ => {
                    strange("granted", &key);
                    self.tables.granted.delete(&key)?;
                }
            }
        }
        Ok(())
    }

    fn see_addresses(&self, found: &mut Found) -> Result<(), Trouble> {
        let mac = |value: &[u8; weft_ebpf::layout::WEFT_MAC]| {
            Some(abi::mac_of(value)).filter(|mac| abi::mac_value(*mac) == *value)
        };
        for (key, value) in self.tables.members.entries()? {
            let (vni, vtep) = abi::address_key_of(&key);
            let object = mac(&value).map(ShortcutObject::Member);
            show(found, ShortcutKey::Member(vni, vtep), object);
        }
        for (key, value) in self.tables.neighbours.entries()? {
            let (vni, ip) = abi::address_key_of(&key);
            let object = mac(&value).map(ShortcutObject::Neighbour);
            show(found, ShortcutKey::Neighbour(vni, ip), object);
        }
        Ok(())
    }

    fn see_vteps(
        &self,
        links: &Links,
        devices: &mut BTreeSet<u32>,
        found: &mut Found,
    ) -> Result<(), Trouble> {
        for (key, value) in self.tables.vteps.entries()? {
            let address = abi::unmapped(key);
            let entry = abi::Vtep::decode(&value);
            let link = entry.map(|entry| (entry, links.get(&entry.ifindex)));
            let object = match link {
                Some((_, None)) => {
                    self.tables.vteps.delete(&key)?;
                    continue;
                }
                Some((entry, Some(link))) => {
                    devices.insert(entry.ifindex);
                    Some(path(&entry, link)).filter(|_| self.is_from_here(&entry, address))
                }
                None => None,
            };
            show(found, ShortcutKey::Vtep(address), object.map(ShortcutObject::Vtep));
        }
        Ok(())
    }

    /// Whether the outer headers are those that this node writes to that address.
    fn is_from_here(&self, entry: &abi::Vtep, address: IpAddr) -> bool {
        let from = abi::Node { address: entry.source, port: entry.port };
        entry.destination == address && self.node == Some(from)
    }

    /// Pinned programs, and whether each is the present one. Pins of what is dead go.
    fn see_links(&mut self, links: &Links) -> Result<BTreeMap<(u32, Attach), bool>, Trouble> {
        let mut programs = BTreeMap::new();
        for (ifindex, attach) in self.pins.all_links()? {
            let Some(link) = self.tcx_at(ifindex, attach)? else { continue };
            if link.ifindex == ifindex && links.contains_key(&ifindex) {
                let present = self.programs.is_present(attach, link.program)?;
                programs.insert((ifindex, attach), present);
            } else {
                pins::unpin(&self.pins.link(ifindex, attach))?;
            }
        }
        Ok(programs)
    }

    /// The same of filters.
    fn see_filters(
        &mut self,
        route: &mut Socket,
        links: &Links,
    ) -> Result<BTreeMap<(u32, Attach), bool>, Trouble> {
        let mut programs = BTreeMap::new();
        for (ifindex, filter) in all_filters(route)? {
            let present = self.programs.is_present(filter.attach, filter.program)?;
            programs.insert((ifindex, filter.attach), present);
        }
        for ifindex in self.pins.all_qdiscs()? {
            if !links.contains_key(&ifindex) {
                pins::remove_dir(&self.pins.qdisc(ifindex))?;
            }
        }
        Ok(programs)
    }

    fn see_programs(
        &mut self,
        links: &Links,
        programs: &BTreeMap<(u32, Attach), bool>,
        devices: &mut BTreeSet<u32>,
        found: &mut Found,
    ) {
        self.left.retain(|(ifindex, _)| links.contains_key(ifindex));
        let left = self.left.iter().map(|at| (at, &false));
        for ((ifindex, attach), present) in programs.iter().chain(left) {
            let Some(link) = links.get(ifindex) else { continue };
            devices.insert(*ifindex);
            let object = Some(ShortcutObject::Program).filter(|_| *present);
            show(found, ShortcutKey::Program(link.name.clone(), *attach), object);
        }
    }

    /// Programs count for a device as long as it is there; afterwards nobody asks.
    fn sweep_drops(&self, links: &Links) -> Result<(), Trouble> {
        for (key, _) in self.tables.drops.entries()? {
            let ifindex = abi::Drop::decode(&key).ifindex;
            if ifindex != 0 && !links.contains_key(&ifindex) {
                self.tables.drops.delete(&key)?;
            }
        }
        Ok(())
    }
}

fn path(entry: &abi::Vtep, link: &LinkInfo) -> UnderlayPath {
    UnderlayPath {
        link: link.name.clone(),
        next_hop: Some(entry.next_hop).filter(|hop| *hop != entry.destination),
        mtu: entry.mtu,
    }
}

/// A key that no program of ours looks for, and that no step could name.
fn strange(table: &str, key: &[u8]) {
    tracing::warn!(table, ?key, "an entry that nobody of ours wrote was deleted");
}
