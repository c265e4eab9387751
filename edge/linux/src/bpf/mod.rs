//! The shortcut: programs at devices and the tables they look into.
//!
//! Both are pinned (see [`pins`]) and live on without the daemon. The tables are filled and read
//! back like anything else of the kernel's; what they hold about a device goes by its number, so
//! that a device of the same name that came later is never taken for it.

mod apply;
mod clsact;
mod endpoints;
mod observe;
mod pins;
mod programs;
mod sys;
mod tables;
mod traffic;

pub(crate) use apply::Device;

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use weft_ebpf::abi;
use weft_kernel::{Attach, Fault};

use crate::fault::Trouble;
use crate::netlink::Socket;
use endpoints::Slots;
use pins::Pins;
use programs::Programs;
use tables::Tables;

const ATTACHES: [Attach; 2] = [Attach::FromContainer, Attach::FromUnderlay];

/// Where the shortcut is pinned, and how its programs are put at devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortcutConfig {
    /// The directory of this node's pins, on a BPF file system. One below `/sys/fs/bpf` is meant
    /// as init sees it, and the file system is mounted there if nobody has.
    pub dir: PathBuf,
    /// How programs are put at devices.
    pub hook: Hook,
}

/// How programs are put at devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// tcx where the kernel has it (since Linux 6.6), else a filter of the qdisc `clsact`.
    Auto,
    /// A filter of the qdisc `clsact` (`tc-bpf(8)`), as on kernels before 6.6.
    Clsact,
}

/// How the shortcut's programs are put at devices, now that it has been started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortcutOn {
    /// By tcx.
    Tcx,
    /// By a filter of the qdisc `clsact`.
    Clsact,
}

impl Display for ShortcutOn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// The shortcut of one host.
#[derive(Debug)]
pub(crate) struct Shortcut {
    pins: Pins,
    on: ShortcutOn,
    programs: Programs,
    tables: Tables,
    slots: Slots,
    node: Option<abi::Node>,
    /// Programs that were put at devices in the other way, by a daemon with another hook.
    left: BTreeSet<(u32, Attach)>,
}

impl Shortcut {
    /// Loads the programs of `object`, with the tables that an earlier daemon left if there are any.
    pub(crate) fn start(
        config: &ShortcutConfig,
        object: &[u8],
        route: &mut Socket,
    ) -> Result<Self, Trouble> {
        let pins = Pins::open(&config.dir)?;
        tables::check(&pins.tables())?;
        let programs = Programs::load(object, &pins.tables())?;
        let tables = Tables::open(&pins.tables())?;
        let on = match config.hook {
            Hook::Auto if Programs::has_tcx() => ShortcutOn::Tcx,
            Hook::Auto | Hook::Clsact => ShortcutOn::Clsact,
        };
        let left = match on {
            ShortcutOn::Clsact => pins.all_links()?.into_iter().collect(),
            ShortcutOn::Tcx => {
                all_filters(route)?.into_iter().map(|(at, f)| (at, f.attach)).collect()
            }
        };
        let slots = Slots::read(&tables)?;
        let node = tables.node.get(&NODE)?.map(|value| abi::Node::decode(&value));
        let node = node.filter(|node| node.port != 0);
        Ok(Self { pins, on, programs, tables, slots, node, left })
    }

    /// How programs are put at devices.
    pub(crate) const fn on(&self) -> ShortcutOn {
        self.on
    }
}

/// The number of the only entry of `node`.
const NODE: [u8; 4] = 0_u32.to_ne_bytes();

/// All filters of ours, with the devices that they are at.
fn all_filters(route: &mut Socket) -> Result<Vec<(u32, clsact::Filter)>, Trouble> {
    let mut all = Vec::new();
    for device in clsact::devices(route)? {
        all.extend(clsact::at_device(route, device)?.into_iter().map(|filter| (device, filter)));
    }
    Ok(all)
}

/// Takes the shortcut away: programs at the devices of the calling thread's network namespace
/// and of the node whose pins are in `dir`, their tables and the directory itself. What others
/// put at devices or pinned elsewhere stays. It is no error when there is nothing.
///
/// # Errors
/// When the kernel refuses it, or the directory cannot be removed.
pub fn remove_shortcut(dir: &Path) -> Result<(), Fault> {
    let call = |trouble: Trouble| trouble.of(format!("rm -r {}", dir.display()));
    let mut route = Socket::open(libc::NETLINK_ROUTE).map_err(|refusal| call(refusal.into()))?;
    remove(&mut route, dir).map_err(call)
}

fn remove(route: &mut Socket, dir: &Path) -> Result<(), Trouble> {
    for (device, filter) in all_filters(route)? {
        clsact::delete(route, device, filter.attach)?;
    }
    let Some(pins) = Pins::find(dir) else { return Ok(()) };
    for device in pins.all_qdiscs()? {
        clsact::delete_unused_qdisc(route, device)?;
    }
    pins.remove()
}
