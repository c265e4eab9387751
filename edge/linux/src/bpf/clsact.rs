//! Programs at devices by traffic control (`tc-bpf(8)`), as kernels before 6.6 have it: a filter
//! in the qdisc `clsact`. A filter has a name, a preference and a handle; ours are known by all three.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use weft_kernel::Attach;

use crate::fault::Trouble;
use crate::netlink::read::u32_at;
use crate::netlink::{Attribute, Refusal, Socket, Writer, attributes};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// The program's result is the verdict (`TCA_BPF_FLAG_ACT_DIRECT`).
const DIRECT: u32 = 1;

/// `TC_H_CLSACT`, which the older qdisc `ingress` shares.
const QDISC: u32 = 0xffff_fff1;
const QDISC_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// After the preference that the kernel gives to the first filter that names none, 49152, and
/// those that follow go down from there: ours runs when others' have let a frame pass.
const PREFERENCE: u32 = 49_239;
/// `ETH_P_ALL`
const ALL: u16 = 3;

/// A filter of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) attach: Attach,
    /// The program's number.
    pub(super) program: u32,
}

/// `struct tcmsg`
fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    for (at, value) in [(4, ifindex), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn ours(ifindex: u32, attach: Attach) -> [u8; 20] {
    tcmsg(ifindex, handle(attach), INGRESS, PREFERENCE << 16 | u32::from(ALL.to_be()))
}

const fn handle(attach: Attach) -> u32 {
    match attach {
        Attach::FromContainer => 0x57,
        Attach::FromUnderlay => 0x58,
    }
}

/// Devices with a qdisc that has room for filters at ingress.
pub(super) fn devices(socket: &mut Socket) -> Result<Vec<u32>, Refusal> {
    let request = |w: &mut Writer| w.header(&tcmsg(0, 0, 0, 0));
    let found = socket.dump(RTM_GETQDISC, request, |found: &mut Vec<u32>, kind, body| {
        let name = attribute(body, TCA_KIND).map(|name| name.text());
        if kind == RTM_NEWQDISC && matches!(name.as_deref(), Some("clsact" | "ingress")) {
            found.extend(u32_at(body, 4));
        }
    });
    match found {
        // A kernel without traffic control may have tcx all the same.
        Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => Ok(Vec::new()),
        other => other,
    }
}

fn attribute(body: &[u8], kind: u16) -> Option<Attribute<'_>> {
    attributes(body.get(20..)?).find(|a| a.kind == kind)
}

/// Our filters at the ingress of a device.
pub(super) fn at_device(socket: &mut Socket, ifindex: u32) -> Result<Vec<Filter>, Refusal> {
    filters(socket, ifindex, INGRESS, read_ours)
}

/// What `read` makes of the filters at a place of a device; none when there is no qdisc.
fn filters<T>(
    socket: &mut Socket,
    ifindex: u32,
    parent: u32,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Refusal> {
    let request = |w: &mut Writer| w.header(&tcmsg(ifindex, 0, parent, 0));
    let found = socket.dump(RTM_GETTFILTER, request, |found: &mut Vec<T>, kind, body| {
        if kind == RTM_NEWTFILTER {
            found.extend(read(body));
        }
    });
    match found {
        Err(refusal) if is_gone(&refusal) => Ok(Vec::new()),
        other => other,
    }
}

/// What the kernel says when there is no such device, qdisc or filter.
fn is_gone(refusal: &Refusal) -> bool {
    matches!(refusal.errno, Errno::ENOENT | Errno::ENODEV | Errno::EINVAL)
}

fn read_ours(body: &[u8]) -> Option<Filter> {
    let place = (u32_at(body, 8)?, u32_at(body, 16)? >> 16);
    let options = attribute(body, TCA_OPTIONS)?;
    let option = |kind| options.nested().find(|a| a.kind == kind);
    let name = option(TCA_BPF_NAME)?.text();
    let attach = super::ATTACHES.into_iter().find(|attach| attach.as_str() == name)?;
    let program = option(TCA_BPF_ID)?.u32()?;
    (place == (handle(attach), PREFERENCE)).then_some(Filter { attach, program })
}

/// Puts a program at the ingress of a device; one of ours that is there already is replaced while
/// frames flow. Says whether the qdisc had to be made.
pub(super) fn put(
    socket: &mut Socket,
    ifindex: u32,
    attach: Attach,
    program: BorrowedFd<'_>,
) -> Result<bool, Trouble> {
    let made = make_qdisc(socket, ifindex)?;
    let request = |w: &mut Writer| {
        w.header(&ours(ifindex, attach));
        w.text(TCA_KIND, "bpf");
        w.nest(TCA_OPTIONS, |w| {
            w.u32(TCA_BPF_FD, program.as_raw_fd().cast_unsigned());
            w.text(TCA_BPF_NAME, attach.as_str());
            w.u32(TCA_BPF_FLAGS, DIRECT);
        });
    };
    match socket.change(RTM_NEWTFILTER, CREATE, request) {
        Err(refusal) if refusal.text.contains("does not match existing") => Err(Trouble::taken(
            format!("a filter of another kind has preference {PREFERENCE} at the link's ingress"),
            "see `tc filter show dev LINK ingress`, and give that filter another preference",
        )),
        Err(refusal) if refusal.errno == Errno::ENOENT => Err(Trouble::from(refusal).hint(
            "the kernel lacks programs as filters (CONFIG_NET_CLS_BPF): packets go the bridge path",
        )),
        other => Ok(other.map(|()| made)?),
    }
}

fn make_qdisc(socket: &mut Socket, ifindex: u32) -> Result<bool, Trouble> {
    let request = |w: &mut Writer| {
        w.header(&tcmsg(ifindex, QDISC_HANDLE, QDISC, 0));
        w.text(TCA_KIND, "clsact");
    };
    match socket.change(RTM_NEWQDISC, CREATE | EXCLUSIVE, request) {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.errno == Errno::EEXIST => Ok(false),
        Err(refusal) if refusal.errno == Errno::ENOENT => {
            Err(Trouble::from(refusal).hint("the kernel lacks the qdisc clsact (CONFIG_NET_SCH_INGRESS): packets go the bridge path"))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Takes our filter away.
pub(super) fn delete(socket: &mut Socket, ifindex: u32, attach: Attach) -> Result<(), Trouble> {
    let request = |w: &mut Writer| {
        w.header(&ours(ifindex, attach));
        w.text(TCA_KIND, "bpf");
    };
    match socket.change(RTM_DELTFILTER, 0, request) {
        Err(refusal) if is_gone(&refusal) => Ok(()),
        other => Ok(other?),
    }
}

/// Takes the qdisc away, unless somebody has a filter in it.
pub(super) fn delete_unused_qdisc(socket: &mut Socket, ifindex: u32) -> Result<(), Trouble> {
    for parent in [INGRESS, EGRESS] {
        if !filters(socket, ifindex, parent, |_| Some(()))?.is_empty() {
            return Ok(());
        }
    }
    let request = |w: &mut Writer| w.header(&tcmsg(ifindex, QDISC_HANDLE, QDISC, 0));
    match socket.change(RTM_DELQDISC, 0, request) {
        Err(refusal) if is_gone(&refusal) => Ok(()),
        other => Ok(other?),
    }
}
