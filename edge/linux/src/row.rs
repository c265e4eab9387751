//! Neighbour, FDB and flood rows: the three tables that grow with the cluster (`RTM_NEWNEIGH`).
//!
//! They are written hundreds to a system call. Neighbours carry our protocol number; FDB rows
//! have no place for a mark, but every device whose rows are looked at is ours.

use std::net::IpAddr;

use nix::errno::Errno;
use weft_kernel::key::{FdbTable, Key, MacBytes};
use weft_kernel::{Object, Step};

use crate::PROTOCOL;
use crate::addr::family;
use crate::netlink::{Batch, Refusal, Socket, Writer, attributes};

pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const APPEND: u16 = 0x800;

const AF_BRIDGE: u8 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_VLAN: u16 = 5;
const NDA_IFINDEX: u16 = 8;
const NDA_MASTER: u16 = 9;
const NDA_PROTOCOL: u16 = 12;

const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 0x02;
const NTF_MASTER: u8 = 0x04;

/// The all-zero MAC: where a VXLAN device sends what it has no row for.
const FLOOD: MacBytes = [0; 6];

/// A row as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowInfo {
    pub(crate) family: u8,
    pub(crate) link: u32,
    pub(crate) state: u16,
    pub(crate) flags: u8,
    pub(crate) mac: Option<MacBytes>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) master: Option<u32>,
    pub(crate) protocol: u8,
    pub(crate) vlan: bool,
}

/// What a link is to its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// A bridge with its MAC, whose own row the kernel makes.
    Bridge(MacBytes),
    /// A VXLAN device.
    Vxlan,
    /// Another port.
    Port,
}

/// `struct ndmsg`
fn ndmsg(family: u8, link: u32, state: u16, flags: u8) -> [u8; 12] {
    let [a, b, c, d] = link.to_ne_bytes();
    let [e, f] = state.to_ne_bytes();
    [family, 0, 0, 0, a, b, c, d, e, f, flags, 0]
}

/// Adds the message of a row step on link `link` to a batch. False when key and object do not
/// belong together.
pub(crate) fn write(batch: &mut Batch, id: usize, step: &Step, link: u32, is_bridge: bool) -> bool {
    match step {
        Step::Put(Key::Neighbour(_, ip), Object::Neighbour(mac)) => {
            let w = batch.begin(id, RTM_NEWNEIGH, CREATE | REPLACE);
            w.header(&ndmsg(family(*ip), link, NUD_PERMANENT, 0));
            w.ip(NDA_DST, *ip);
            w.attr(NDA_LLADDR, mac);
            w.u8(NDA_PROTOCOL, PROTOCOL);
        }
        Step::Put(Key::Fdb(_, FdbTable::Device, mac), Object::Fdb(Some(vtep))) => {
            let w = batch.begin(id, RTM_NEWNEIGH, CREATE | REPLACE);
            w.header(&ndmsg(AF_BRIDGE, link, NUD_PERMANENT | NUD_NOARP, NTF_SELF));
            w.attr(NDA_LLADDR, mac);
            w.ip(NDA_DST, *vtep);
        }
        Step::Put(Key::Fdb(_, FdbTable::Bridge, mac), Object::Fdb(None)) => {
            let w = batch.begin(id, RTM_NEWNEIGH, CREATE | REPLACE);
            let (state, flags) = bridge_row(is_bridge);
            w.header(&ndmsg(AF_BRIDGE, link, state, flags));
            w.attr(NDA_LLADDR, mac);
        }
        // The kernel refuses REPLACE for the all-zero MAC, and takes the same one twice in peace.
        Step::Put(Key::Flood(_, vtep), Object::Flood) => {
            let w = batch.begin(id, RTM_NEWNEIGH, CREATE | APPEND);
            w.header(&ndmsg(AF_BRIDGE, link, NUD_PERMANENT | NUD_NOARP, NTF_SELF));
            w.attr(NDA_LLADDR, &FLOOD);
            w.ip(NDA_DST, *vtep);
        }
        Step::Delete(key) => return write_delete(batch, id, key, link, is_bridge),
        Step::Put(..) => return false,
    }
    true
}

const fn bridge_row(is_bridge: bool) -> (u16, u8) {
    // On the bridge itself a row means "for this host", and must be permanent; on a port, a
    // permanent row would mean the same, and `static` is what sends frames out there.
    if is_bridge { (NUD_PERMANENT, NTF_SELF) } else { (NUD_NOARP, NTF_MASTER) }
}

fn write_delete(batch: &mut Batch, id: usize, key: &Key, link: u32, is_bridge: bool) -> bool {
    let (family, flags, mac, ip) = match key {
        Key::Neighbour(_, ip) => (family(*ip), 0, None, Some(*ip)),
        Key::Fdb(_, FdbTable::Device, mac) => (AF_BRIDGE, NTF_SELF, Some(mac), None),
        Key::Fdb(_, FdbTable::Bridge, mac) => (AF_BRIDGE, bridge_row(is_bridge).1, Some(mac), None),
        Key::Flood(_, vtep) => (AF_BRIDGE, NTF_SELF, Some(&FLOOD), Some(*vtep)),
        _ => return false,
    };
    let w = batch.begin(id, RTM_DELNEIGH, 0);
    w.header(&ndmsg(family, link, 0, flags));
    if let Some(mac) = mac {
        w.attr(NDA_LLADDR, mac);
    }
    if let Some(ip) = ip {
        w.ip(NDA_DST, ip);
    }
    true
}

/// Whether a refusal of this step is none: what should go is gone, what should be is there.
pub(crate) fn is_done(step: &Step, refusal: &Refusal) -> bool {
    match step {
        Step::Delete(_) => matches!(refusal.errno, Errno::ENOENT | Errno::ENODEV),
        Step::Put(Key::Flood(..), _) => refusal.errno == Errno::EEXIST,
        Step::Put(..) => false,
    }
}

/// Neighbour rows: of one link, or of all.
pub(crate) fn neighbours<T: Default>(
    socket: &mut Socket,
    link: Option<u32>,
    mut each: impl FnMut(&mut T, RowInfo),
) -> Result<T, Refusal> {
    let request = |w: &mut Writer| {
        w.header(&ndmsg(0, 0, 0, 0));
        if let Some(link) = link {
            w.u32(NDA_IFINDEX, link);
        }
    };
    socket.dump(RTM_GETNEIGH, request, |found, kind, body| {
        if kind == RTM_NEWNEIGH
            && let Some(row) = read(body)
        {
            each(found, row);
        }
    })
}

/// FDB rows: of one link, or of all.
pub(crate) fn fdb<T: Default>(
    socket: &mut Socket,
    link: Option<u32>,
    mut each: impl FnMut(&mut T, RowInfo),
) -> Result<T, Refusal> {
    let request = |w: &mut Writer| w.header(&ndmsg(AF_BRIDGE, link.unwrap_or(0), 0, 0));
    socket.dump(RTM_GETNEIGH, request, |found, kind, body| {
        if kind == RTM_NEWNEIGH
            && let Some(row) = read(body)
        {
            each(found, row);
        }
    })
}

/// Reads the body of an `RTM_NEWNEIGH` or `RTM_DELNEIGH`.
pub(crate) fn read(body: &[u8]) -> Option<RowInfo> {
    let mut row = RowInfo {
        family: *body.first()?,
        link: crate::netlink::read::u32_at(body, 4)?,
        state: crate::netlink::read::u16_at(body, 8)?,
        flags: *body.get(10)?,
        mac: None,
        ip: None,
        master: None,
        protocol: 0,
        vlan: false,
    };
    for attribute in attributes(body.get(12..)?) {
        match attribute.kind {
            NDA_LLADDR => row.mac = attribute.mac(),
            NDA_DST => row.ip = attribute.ip(),
            NDA_MASTER => row.master = attribute.u32(),
            NDA_PROTOCOL => row.protocol = attribute.u8().unwrap_or_default(),
            NDA_VLAN => row.vlan = true,
            _ => {}
        }
    }
    Some(row)
}

/// Where the row lies if it is of a kind that we write, whatever it says: on a link of ours.
pub(crate) fn key(row: &RowInfo, link: &str, carrier: Carrier) -> Option<Key> {
    let name = link.to_owned();
    if row.family != AF_BRIDGE {
        return Some(Key::Neighbour(name, row.ip?));
    }
    let mac = row.mac?;
    match (row.master, carrier) {
        (None, Carrier::Vxlan) if mac == FLOOD => Some(Key::Flood(name, row.ip?)),
        (None, Carrier::Vxlan) => Some(Key::Fdb(name, FdbTable::Device, mac)),
        // With VLANs there is a twin of every row in VLAN 1, which comes and goes with it.
        (Some(_), _) if !row.vlan => Some(Key::Fdb(name, FdbTable::Bridge, mac)),
        _ => None,
    }
}

/// The row as key and object, if it is one that we could have written.
pub(crate) fn ours(row: &RowInfo, link: &str, carrier: Carrier) -> Option<(Key, Object)> {
    let mac = row.mac?;
    let key = key(row, link, carrier)?;
    let permanent = row.state & NUD_PERMANENT != 0;
    let object = match (&key, carrier) {
        (Key::Neighbour(..), _) => {
            (row.protocol == PROTOCOL && permanent).then_some(Object::Neighbour(mac))
        }
        (Key::Flood(..), _) => Some(Object::Flood),
        (Key::Fdb(_, FdbTable::Device, _), _) => Some(Object::Fdb(Some(row.ip?))),
        // The kernel's own permanent rows are the MACs of the bridge and of its ports.
        (_, Carrier::Bridge(own)) => (permanent && mac != own).then_some(Object::Fdb(None)),
        (_, Carrier::Vxlan | Carrier::Port) => {
            (row.state & NUD_NOARP != 0).then_some(Object::Fdb(None))
        }
    };
    Some((key, object?))
}
