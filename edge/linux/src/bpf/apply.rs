//! Takes steps.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use weft_ebpf::abi::{self, Fdb};
use weft_kernel::{Attach, Key, Object, ShortcutKey, ShortcutObject, Step, UnderlayPath};

use super::sys::TcxInfo;
use super::{NODE, Shortcut, ShortcutOn, clsact, endpoints, pins, sys};
use crate::apply::mismatch;
use crate::fault::Trouble;
use crate::netlink::Socket;

/// A link of the host, by both of its names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Device<'a> {
    pub(crate) ifindex: u32,
    pub(crate) name: &'a str,
}

/// The rows that `steps` begin with, as `row` makes them.
fn rows<T>(steps: &[Step], row: impl Fn(&ShortcutKey, &ShortcutObject) -> Option<T>) -> Vec<T> {
    let put = |step: &Step| match step {
        Step::Put(Key::Shortcut(key), Object::Shortcut(object)) => row(key, object),
        Step::Put(..) | Step::Delete(_) => None,
    };
    steps.iter().map_while(put).collect()
}

impl Shortcut {
    /// Puts the rows that `steps` begin with: of the kind of the first, all together. One result
    /// for each; none when the first is no row.
    pub(crate) fn put_rows(&self, steps: &[Step]) -> Vec<Result<(), Trouble>> {
        let neighbours = rows(steps, |key, object| match (key, object) {
            (ShortcutKey::Neighbour(vni, ip), ShortcutObject::Neighbour(mac)) => {
                Some((abi::address_key(*vni, *ip), abi::mac_value(*mac)))
            }
            _ => None,
        });
        if !neighbours.is_empty() {
            return self.tables.neighbours.put_all(&neighbours);
        }
        let members = rows(steps, |key, object| match (key, object) {
            (ShortcutKey::Member(vni, vtep), ShortcutObject::Member(mac)) => {
                Some((abi::address_key(*vni, *vtep), abi::mac_value(*mac)))
            }
            _ => None,
        });
        if !members.is_empty() {
            return self.tables.members.put_all(&members);
        }
        let fdb = rows(steps, |key, object| match (key, object) {
            (ShortcutKey::Fdb(vni, mac), ShortcutObject::Fdb(vtep)) => {
                Some((abi::fdb_key(*vni, *mac), Fdb::Remote(*vtep).encode()))
            }
            _ => None,
        });
        self.tables.fdb.put_all(&fdb)
    }

    /// Puts an object that is about no device and is no row.
    pub(crate) fn put(
        &mut self,
        key: &ShortcutKey,
        object: &ShortcutObject,
    ) -> Result<(), Trouble> {
        match (key, object) {
            (ShortcutKey::Node, ShortcutObject::Node { data_address, port }) => {
                self.put_node(abi::Node { address: *data_address, port: *port })
            }
            _ => Err(mismatch()),
        }
    }

    /// Puts an object that is about a device.
    pub(crate) fn put_at(
        &mut self,
        route: &mut Socket,
        device: Device<'_>,
        key: &ShortcutKey,
        object: &ShortcutObject,
    ) -> Result<(), Trouble> {
        let (tables, ifindex) = (&self.tables, device.ifindex);
        match (key, object) {
            (ShortcutKey::Vtep(vtep), ShortcutObject::Vtep(path)) => {
                self.put_vtep(*vtep, ifindex, path)
            }
            (ShortcutKey::Granted(_, net), ShortcutObject::Granted) => {
                let key = abi::granted_key(ifindex, net.addr(), net.prefix_len());
                tables.granted.put(&key, &abi::granted_value(net.addr()))
            }
            (ShortcutKey::Endpoint(_), ShortcutObject::Endpoint(endpoint)) => {
                endpoints::put(tables, &mut self.slots, ifindex, endpoint)
            }
            (ShortcutKey::Program(_, attach), ShortcutObject::Program) => {
                self.attach(route, device, *attach)
            }
            _ => Err(mismatch()),
        }
    }

    /// Deletes what is about no device, or is found without it.
    pub(crate) fn delete(&mut self, key: &ShortcutKey) -> Result<(), Trouble> {
        let tables = &self.tables;
        match key {
            ShortcutKey::Node => {
                self.node = None;
                // The table always has its one entry.
                tables.node.put(&NODE, &[0; weft_ebpf::layout::WEFT_NODE])
            }
            ShortcutKey::Vtep(vtep) => tables.vteps.delete(&abi::mapped(*vtep)).map(drop),
            ShortcutKey::Member(vni, vtep) => {
                tables.members.delete(&abi::address_key(*vni, *vtep)).map(drop)
            }
            ShortcutKey::Neighbour(vni, ip) => {
                tables.neighbours.delete(&abi::address_key(*vni, *ip)).map(drop)
            }
            ShortcutKey::Fdb(vni, mac) => self.delete_remote(*vni, *mac),
            ShortcutKey::Granted(..) | ShortcutKey::Endpoint(_) | ShortcutKey::Program(..) => {
                Err(mismatch())
            }
        }
    }

    /// Deletes what is about a device.
    pub(crate) fn delete_at(
        &mut self,
        route: &mut Socket,
        ifindex: u32,
        key: &ShortcutKey,
    ) -> Result<(), Trouble> {
        match key {
            ShortcutKey::Granted(_, net) => {
                let key = abi::granted_key(ifindex, net.addr(), net.prefix_len());
                self.tables.granted.delete(&key).map(drop)
            }
            ShortcutKey::Endpoint(_) => endpoints::delete(&self.tables, &mut self.slots, ifindex),
            ShortcutKey::Program(_, attach) => self.detach(route, ifindex, *attach),
            _ => Err(mismatch()),
        }
    }

    /// A device of ours is about to be deleted: nothing may lead to it any more.
    pub(crate) fn let_go(&mut self, ifindex: u32) -> Result<(), Trouble> {
        let there = self.tables.endpoints.get(&ifindex.to_ne_bytes())?;
        let there = there.map(|value| abi::Endpoint::decode(&value));
        endpoints::delete(&self.tables, &mut self.slots, ifindex)?;
        if there.is_some_and(|endpoint| endpoint.more) {
            endpoints::delete_granted(&self.tables, ifindex)?;
        }
        Ok(())
    }

    /// A device is gone, and its programs with it: what is left are pins that hold nothing.
    pub(crate) fn gone(&mut self, ifindex: u32) -> Result<(), Trouble> {
        for attach in super::ATTACHES {
            self.left.remove(&(ifindex, attach));
            pins::unpin(&self.pins.link(ifindex, attach))?;
        }
        pins::remove_dir(&self.pins.qdisc(ifindex))
    }

    fn put_node(&mut self, node: abi::Node) -> Result<(), Trouble> {
        self.tables.node.put(&NODE, &node.encode())?;
        if self.node.replace(node) == Some(node) {
            return Ok(());
        }
        // Their headers have the node's address in them.
        for (key, value) in self.tables.vteps.entries()? {
            let Some(vtep) = abi::Vtep::decode(&value) else { continue };
            let vtep = abi::Vtep { source: node.address, port: node.port, ..vtep };
            if vtep.source.is_ipv4() == vtep.destination.is_ipv4() {
                self.tables.vteps.put(&key, &vtep.encode())?;
            }
        }
        Ok(())
    }

    fn put_vtep(&self, vtep: IpAddr, ifindex: u32, path: &UnderlayPath) -> Result<(), Trouble> {
        let Some(node) = self.node else {
            return Err(Trouble::new(Errno::EDESTADDRREQ, "this node's own address comes first"));
        };
        if node.address.is_ipv4() != vtep.is_ipv4() {
            let text = format!("{vtep} is not of the family of this node's {}", node.address);
            return Err(Trouble::new(Errno::EAFNOSUPPORT, text));
        }
        let entry = abi::Vtep {
            ifindex,
            mtu: path.mtu,
            next_hop: path.next_hop.unwrap_or(vtep),
            source: node.address,
            destination: vtep,
            port: node.port,
        };
        self.tables.vteps.put(&abi::mapped(vtep), &entry.encode())
    }

    /// Deletes where a MAC is, unless that is an endpoint of this host: it goes with the endpoint.
    fn delete_remote(&self, vni: u32, mac: [u8; 6]) -> Result<(), Trouble> {
        let key = abi::fdb_key(vni, mac);
        let local = match self.tables.fdb.get(&key)?.map(|value| Fdb::decode(&value)) {
            Some(Fdb::Local { ifindex, .. }) => endpoints::is_at(&self.tables, ifindex, vni, mac)?,
            Some(Fdb::Remote(_)) | None => false,
        };
        if local { Ok(()) } else { self.tables.fdb.delete(&key).map(drop) }
    }

    fn attach(
        &mut self,
        route: &mut Socket,
        device: Device<'_>,
        attach: Attach,
    ) -> Result<(), Trouble> {
        match self.on {
            ShortcutOn::Tcx => self.attach_tcx(device, attach)?,
            ShortcutOn::Clsact => self.attach_clsact(route, device.ifindex, attach)?,
        }
        // Only now: in between both run, and what one has taken the other never sees.
        if self.left.contains(&(device.ifindex, attach)) {
            self.detach_other(route, device.ifindex, attach)?;
            self.left.remove(&(device.ifindex, attach));
        }
        Ok(())
    }

    fn attach_tcx(&mut self, device: Device<'_>, attach: Attach) -> Result<(), Trouble> {
        let path = self.pins.link(device.ifindex, attach);
        if let Some(link) = self.tcx_at(device.ifindex, attach)? {
            if link.ifindex == device.ifindex {
                if !self.programs.is_present(attach, link.program)? {
                    self.programs.swap(attach, &path)?;
                }
                return Ok(());
            }
            pins::unpin(&path)?;
        }
        if let Some(dir) = path.parent() {
            pins::make_dir(dir)?;
        }
        self.programs.attach(attach, device.name, &path)
    }

    /// What is pinned as the program at a device. Something that is none shows no device.
    pub(super) fn tcx_at(&self, ifindex: u32, attach: Attach) -> Result<Option<TcxInfo>, Trouble> {
        let Some(fd) = sys::pinned(&self.pins.link(ifindex, attach))? else { return Ok(None) };
        let info = sys::tcx_info(fd.as_fd())?;
        Ok(Some(info.unwrap_or(TcxInfo { program: 0, ifindex: 0 })))
    }

    fn attach_clsact(
        &mut self,
        route: &mut Socket,
        ifindex: u32,
        attach: Attach,
    ) -> Result<(), Trouble> {
        let there = clsact::at_device(route, ifindex)?;
        if let Some(filter) = there.iter().find(|filter| filter.attach == attach)
            && self.programs.is_present(attach, filter.program)?
        {
            return Ok(());
        }
        let put = |program: BorrowedFd<'_>| clsact::put(route, ifindex, attach, program);
        if self.programs.with(attach, put)? {
            pins::make_dir(&self.pins.qdisc(ifindex))?;
        }
        Ok(())
    }

    fn detach(&mut self, route: &mut Socket, ifindex: u32, attach: Attach) -> Result<(), Trouble> {
        match self.on {
            ShortcutOn::Tcx => self.detach_tcx(ifindex, attach)?,
            ShortcutOn::Clsact => self.detach_clsact(route, ifindex, attach)?,
        }
        if self.left.remove(&(ifindex, attach)) {
            self.detach_other(route, ifindex, attach)?;
        }
        Ok(())
    }

    /// Takes away what a daemon with another hook put there.
    fn detach_other(
        &self,
        route: &mut Socket,
        ifindex: u32,
        attach: Attach,
    ) -> Result<(), Trouble> {
        match self.on {
            ShortcutOn::Tcx => self.detach_clsact(route, ifindex, attach),
            ShortcutOn::Clsact => self.detach_tcx(ifindex, attach),
        }
    }

    /// Without its pin a program would go too, but some time later: until then the kernel would
    /// not take it at this device again.
    fn detach_tcx(&self, ifindex: u32, attach: Attach) -> Result<(), Trouble> {
        let path = self.pins.link(ifindex, attach);
        if let Some(fd) = sys::pinned(&path)?
            && sys::tcx_info(fd.as_fd())?.is_some_and(|link| link.ifindex == ifindex)
        {
            sys::detach(fd.as_fd())?;
        }
        pins::unpin(&path)
    }

    fn detach_clsact(
        &self,
        route: &mut Socket,
        ifindex: u32,
        attach: Attach,
    ) -> Result<(), Trouble> {
        clsact::delete(route, ifindex, attach)?;
        let mark = self.pins.qdisc(ifindex);
        // A qdisc that was there before us stays.
        if mark.exists() && clsact::at_device(route, ifindex)?.is_empty() {
            clsact::delete_unused_qdisc(route, ifindex)?;
            pins::remove_dir(&mark)?;
        }
        Ok(())
    }
}
