//! The only room with a netlink socket: observes the kernel and applies steps.
//!
//! Effects live here, decisions do not: what should be is planned by others, in the words of
//! `weft-kernel`; here it is said to Linux, and Linux's answer is said back in the same words.
//!
//! What is ours is known by its mark: links of the host by an `ifalias` that starts with `weft `
//! (`weft lent ` where the other end of a veth pair is a container runtime's business),
//! addresses, routes and neighbours by protocol number 87, nftables objects by their table (`weft`),
//! rules in other people's chains by their user data, or by their comment where they are those of
//! legacy iptables. FDB rows are ours when their device is.
//! Sysctls have no place for a mark: those that were set through this [`Linux`] are watched.
//! Programs and tables of the shortcut are ours when they are pinned in the directory that is this
//! node's, and filters of the qdisc `clsact` by name, preference and handle.
//!
//! Linux 5.18 or newer is needed: addresses have had a mark since then, netdev chains an egress
//! hook since 5.16, namespaces a cookie since 5.14.

mod addr;
mod apply;
mod bpf;
mod call;
mod divert;
mod facts;
mod fault;
mod legacy;
mod link;
mod link_write;
mod netlink;
mod netns;
mod nft;
mod observe;
mod own;
mod route;
mod row;
mod sysctl;
mod traffic;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_kernel::key::MacBytes;
use weft_kernel::object::Link;
use weft_kernel::{Fault, KernelState, Netns, NetnsId, Scope, Step, Traffic};

pub use bpf::{Hook, ShortcutConfig, ShortcutOn, remove_shortcut};
pub use divert::{Divert, Diverted, divert, undivert};
pub use facts::{facts, legacy_iptables_in_use, refusing_chains};
pub use link::links_named;
pub use netns::{host_netns_id, netns_id};
pub use watch::{Event, Watcher};

use bpf::Shortcut;
use fault::Trouble;
use netlink::Socket;
use own::Own;

/// The mark of our addresses, routes and neighbours (`IFA_PROTO`, `RTA_PROTOCOL`,
/// `NDA_PROTOCOL`): `W`.
const PROTOCOL: u8 = 87;

/// One host's kernel, in whose network namespace it was opened.
///
/// It is used from one thread, which must stay in that namespace: sysctls are read and written
/// through `/proc/sys/net`, which shows the namespace of the thread that looks.
#[derive(Debug)]
pub struct Linux {
    route: Socket,
    nft: Socket,
    namespaces: BTreeMap<NetnsId, PathBuf>,
    sysctls: BTreeSet<(Netns, String)>,
    own: Arc<Own>,
    /// What was found in containers, and which one's turn it is to be entered again.
    interiors: BTreeMap<NetnsId, observe::Interior>,
    turn: usize,
    /// Once it was started.
    shortcut: Option<Shortcut>,
}

impl Linux {
    /// Opens the sockets, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no rtnetlink or no nftables.
    pub fn open() -> Result<Self, Fault> {
        let socket = |protocol, name: &str| {
            let opened = Socket::open(protocol).map_err(Trouble::from);
            opened.map_err(|trouble| trouble.of(format!("socket(AF_NETLINK, SOCK_RAW, {name})")))
        };
        let route = socket(libc::NETLINK_ROUTE, "NETLINK_ROUTE")?;
        let nft = socket(libc::NETLINK_NETFILTER, "NETLINK_NETFILTER")?;
        let own = Arc::new(Own::new([route.port(), nft.port()]));
        Ok(Self {
            route,
            nft,
            namespaces: BTreeMap::new(),
            sysctls: BTreeSet::new(),
            own,
            interiors: BTreeMap::new(),
            turn: 0,
            shortcut: None,
        })
    }

    /// Everything of ours within `scope`: of each object only what Weft manages. A link with a
    /// setting that has no field of its own and is not what we set shows it in its alias, e.g.
    /// `weft network web [mcast_snooping on]`, so that it compares unequal.
    ///
    /// # Errors
    /// When the kernel cannot be read. A container whose namespace cannot be entered is left out.
    pub fn observe(&mut self, scope: &Scope) -> Result<KernelState, Fault> {
        observe::observe(self, scope)
    }

    /// Takes the steps in their order; a failed one does not stop the next. One result per step.
    ///
    /// # Errors
    /// Per step, what the kernel refused: [`weft_kernel::FaultKind::Taken`] when the link, route
    /// or UDP port is somebody else's, [`weft_kernel::FaultKind::NetnsGone`] for a put into a
    /// namespace that is gone or was not registered.
    pub fn apply(&mut self, steps: &[Step]) -> Vec<Result<(), Fault>> {
        apply::apply(self, steps)
    }

    /// Makes the veth pair whose other end, `peer`, a container runtime is about to take: both ends
    /// in the host's namespace, down, and on no bridge. The host's end, `name`, has the MAC, MTU
    /// and alias of `link`, which must be of [`weft_kernel::LinkKind::Lent`] with an alias that
    /// begins with `weft lent `; the other one has `peer_mac` and the same MTU. Its bridge, its
    /// filter and its going up are steps, in that order.
    ///
    /// A pair of ours that nobody has taken from yet is kept, and adjusted; so is one that was left
    /// without a mark by a daemon that died while making it. One whose other end is elsewhere, has
    /// another name or cannot be adjusted is deleted and made anew: call it only when a runtime
    /// asks. All that was known of the link is in doubt then.
    ///
    /// The reconciler deletes ends that no plan wants: the plan that wants this one must come before
    /// the next observation.
    ///
    /// # Errors
    /// [`weft_kernel::FaultKind::Taken`] when one of the two names is somebody else's; what the
    /// kernel refused. Nothing is left of a pair that could not be made.
    pub fn lend(
        &mut self,
        name: &str,
        peer: &str,
        link: &Link,
        peer_mac: MacBytes,
    ) -> Result<(), Fault> {
        apply::lend(self, name, peer, link, peer_mac)
    }

    /// Starts the shortcut: loads its programs, and opens the tables that an earlier daemon left or
    /// makes new ones. Nothing of it is observed or applied before. What programs and tables
    /// that are there already do is not disturbed.
    ///
    /// # Errors
    /// When the kernel has no BPF, its verifier refuses a program, this process may not, or the
    /// directory is on no BPF file system, or has tables in it that are not Weft's. Nothing is
    /// lost: the bridge path carries.
    pub fn start_shortcut(&mut self, config: &ShortcutConfig) -> Result<ShortcutOn, Fault> {
        let started = Shortcut::start(config, weft_ebpf::OBJECT, &mut self.route);
        let shortcut = started.map_err(|trouble| {
            trouble.of(format!("bpftool prog loadall {}", config.dir.display()))
        })?;
        let on = shortcut.on();
        self.shortcut = Some(shortcut);
        Ok(on)
    }

    /// What the kernel has counted: by the shortcut if it was started, and by the bridge path.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn traffic(&mut self) -> Result<Traffic, Fault> {
        traffic::traffic(self)
    }

    /// Makes a container's namespace known by its path (`/run/netns/NAME`, `/proc/PID/ns/net`).
    /// The path is kept, not the namespace: it can die. Whenever it is needed it is opened anew
    /// and must still lead to the same namespace.
    ///
    /// # Errors
    /// As [`netns_id`].
    pub fn register_netns(&mut self, path: &Path) -> Result<NetnsId, Fault> {
        let id = netns_id(path)?;
        self.namespaces.insert(id, path.to_owned());
        Ok(id)
    }

    /// Forgets a namespace: nothing in it is observed any more, and nothing can be put there.
    pub fn forget_netns(&mut self, id: NetnsId) {
        self.namespaces.remove(&id);
        self.interiors.remove(&id);
        self.sysctls.retain(|(ns, _)| *ns != Netns::Container(id));
    }

    /// Forgets all namespaces but these.
    pub fn keep_netns(&mut self, live: &[NetnsId]) {
        let gone: Vec<NetnsId> =
            self.namespaces.keys().copied().filter(|id| !live.contains(id)).collect();
        for id in gone {
            self.forget_netns(id);
        }
    }

    /// Watches the kernel for what others do; what this [`Linux`] does itself is left out as far
    /// as it can be told.
    ///
    /// # Errors
    /// As [`Watcher::start`].
    pub fn watch(&self, on_event: impl Fn(Event) + Send + 'static) -> Result<Watcher, Fault> {
        Watcher::with_own(Arc::clone(&self.own), on_event)
    }
}
