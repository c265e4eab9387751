//! Watches the kernel for what others do.
//!
//! Two multicast sockets feed one thread, which sorts what it hears (see [`sort`]), keeps it for a
//! moment, since little happens alone, and hands on each thing once. Sysctls send no events, and
//! what happens inside containers is not heard here.

mod sort;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv, setsockopt, sockopt};
use weft_kernel::{Fault, Scope};

use crate::fault::Trouble;
use crate::netlink::socket::{raw_socket, set_netlink_value};
use crate::netlink::{Refusal, Socket};
use crate::own::Own;
use sort::Sorter;

/// How long events are collected after the first.
const COLLECT: Duration = Duration::from_millis(50);
/// Room for tens of thousands of events: a burst of rows must not overrun it.
const BUFFER: usize = 32 * 1024 * 1024;
/// Datagrams read from one socket before the other has its turn.
const TURN: usize = 4096;

/// `RTNLGRP_LINK`, `_NEIGH`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`,
/// `_IPV6_ROUTE`, `_IPV6_RULE`, `_NEXTHOP`
const ROUTE_GROUPS: [i32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];
/// `NFNLGRP_NFTABLES`
const FILTER_GROUPS: [i32; 1] = [7];

/// What happened in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Somebody changed something within this scope: read it anew.
    Dirty(Scope),
    /// More happened than the socket could hold: read everything anew.
    Overrun,
    /// The host itself changed (links, addresses, routes, the rules by which routes are chosen, or
    /// filters that are not ours): read the facts anew.
    HostChanged,
}

/// A thread that watches; it ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    // Closing our end of the pair is the sign to stop.
    stop: Option<UnixStream>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watcher {
    /// Starts to watch the calling thread's network namespace. Events come from another thread,
    /// several alike within a twentieth of a second as one. What [`crate::Linux`] does itself is
    /// told as if others had done it; [`crate::Linux::watch`] knows better.
    ///
    /// # Errors
    /// When the kernel grants no sockets.
    pub fn start(on_event: impl Fn(Event) + Send + 'static) -> Result<Self, Fault> {
        Self::with_own(Arc::new(Own::new([0, 0])), on_event)
    }

    pub(crate) fn with_own(
        own: Arc<Own>,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<Self, Fault> {
        Self::open(own, on_event).map_err(|trouble| trouble.of("ip monitor; nft monitor"))
    }

    fn open(own: Arc<Own>, on_event: impl Fn(Event) + Send + 'static) -> Result<Self, Trouble> {
        let route = listen(libc::NETLINK_ROUTE, &ROUTE_GROUPS)?;
        let filters = listen(libc::NETLINK_NETFILTER, &FILTER_GROUPS)?;
        let links = Socket::open(libc::NETLINK_ROUTE)?;
        let (stop, stopped) = UnixStream::pair()?;
        let mut sorter = Sorter::new(own, links);
        sorter.read_links()?;
        let ears = Ears { sockets: [route, filters], stopped, sorter };
        let thread = std::thread::Builder::new().name("weft-watch".into());
        let thread = thread.spawn(move || ears.run(on_event))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watched the kernel broke");
        }
    }
}

fn listen(protocol: i32, groups: &[i32]) -> Result<OwnedFd, Refusal> {
    let fd = raw_socket(protocol)?;
    if setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &BUFFER)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &NetlinkAddr::new(0, 0))?;
    for group in groups {
        set_netlink_value(&fd, libc::NETLINK_ADD_MEMBERSHIP, *group)?;
    }
    Ok(fd)
}

struct Ears {
    sockets: [OwnedFd; 2],
    stopped: UnixStream,
    sorter: Sorter,
}

impl Ears {
    fn run(mut self, on_event: impl Fn(Event)) {
        let mut events = BTreeSet::new();
        let mut due: Option<Instant> = None;
        while let Some(ready) = self.wait(due) {
            for (number, ready) in ready.into_iter().enumerate() {
                if ready {
                    self.hear(number, &mut events);
                }
            }
            match due {
                Some(time) if time <= Instant::now() => {
                    due = None;
                    tell(std::mem::take(&mut events), &on_event);
                }
                None if !events.is_empty() => due = Some(Instant::now() + COLLECT),
                Some(_) | None => {}
            }
        }
    }

    /// Waits for something to hear, or until `due`; `None` when it is time to stop.
    fn wait(&self, due: Option<Instant>) -> Option<[bool; 2]> {
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let [route, filters] = &self.sockets;
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [watch(route.as_fd()), watch(filters.as_fd()), watch(self.stopped.as_fd())];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::error!(%errno, "the kernel cannot be watched any more");
                return None;
            }
        }
        let ready = |fd: &PollFd<'_>| fd.any() == Some(true);
        let [route, filters, stopped] = &fds;
        (!ready(stopped)).then(|| [ready(route), ready(filters)])
    }

    fn hear(&mut self, number: usize, events: &mut BTreeSet<Event>) {
        let mut buffer = [0; 64 * 1024];
        for _ in 0..TURN {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&self.sockets[number]);
            match recv(fd, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => self.sorter.sort(&buffer[..length], events),
                Err(Errno::ENOBUFS) => {
                    events.insert(Event::Overrun);
                    if let Err(refusal) = self.sorter.read_links() {
                        tracing::warn!(?refusal, "links could not be listed after an overrun");
                    }
                }
                Err(_) => return,
            }
        }
    }
}

fn tell(events: BTreeSet<Event>, on_event: &impl Fn(Event)) {
    let overrun = events.contains(&Event::Overrun);
    for event in events {
        // After an overrun everything is read anyway.
        if !(overrun && matches!(event, Event::Dirty(_))) {
            on_event(event);
        }
    }
    if overrun {
        on_event(Event::HostChanged);
    }
}
