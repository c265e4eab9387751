//! Network namespaces of containers.
//!
//! `setns` moves a thread; here only threads that end right after are ever moved. No descriptor of
//! a container's namespace outlives a call, for it would keep a dead container's namespace alive;
//! instead the path is opened anew each time, and the namespace told by its cookie.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use weft_kernel::{Fault, FaultKind, NetnsId};

use crate::fault::Trouble;
use crate::netlink::Socket;

/// A container's namespace, held open for the length of one call.
#[derive(Debug)]
pub(crate) struct Inside {
    /// The namespace, for `IFLA_NET_NS_FD`.
    pub(crate) fd: OwnedFd,
    /// A route socket opened inside; it works from any thread.
    pub(crate) route: Socket,
}

/// The cookie of the network namespace that `path` leads to.
///
/// # Errors
/// [`FaultKind::NetnsGone`] when nothing is there; any other when `path` is not a network
/// namespace or may not be entered (setns(2)).
pub fn netns_id(path: &Path) -> Result<NetnsId, Fault> {
    enter(path, None, |_, id| Ok(id)).map_err(|trouble| trouble.of(call(path)))
}

/// The cookie of the calling thread's own network namespace.
///
/// # Errors
/// When the kernel has no netlink sockets, or no cookies (before Linux 5.14).
pub fn host_netns_id() -> Result<NetnsId, Fault> {
    let socket = Socket::open(libc::NETLINK_ROUTE).map_err(Trouble::from);
    socket
        .and_then(|socket| Ok(NetnsId(socket.netns_cookie()?)))
        .map_err(|trouble| trouble.of("getsockopt SO_NETNS_COOKIE"))
}

/// What one would type to go there.
pub(crate) fn call(path: &Path) -> String {
    format!("nsenter --net={}", path.display())
}

/// Opens a route socket inside the namespace.
pub(crate) fn open(path: &Path, wanted: NetnsId) -> Result<Inside, Trouble> {
    enter(path, Some(wanted), |inside, _| Ok(inside))
}

/// Runs `act` on a thread of its own inside the namespace, after it was found to be the wanted one.
pub(crate) fn enter<T: Send>(
    path: &Path,
    wanted: Option<NetnsId>,
    act: impl FnOnce(Inside, NetnsId) -> Result<T, Trouble> + Send,
) -> Result<T, Trouble> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("weft-netns".into());
        let handle = thread.spawn_scoped(scope, || {
            let (inside, id) = go(path, wanted)?;
            act(inside, id)
        })?;
        handle.join().unwrap_or_else(|_| {
            Err(Trouble::new(Errno::EIO, "the thread inside the namespace broke"))
        })
    })
}

/// Moves the calling thread, for ever.
fn go(path: &Path, wanted: Option<NetnsId>) -> Result<(Inside, NetnsId), Trouble> {
    // Not blocking: a path may lead to a pipe by now.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let fd: OwnedFd = match file {
        Ok(file) => file.into(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Trouble::netns_gone(format!("{} does not exist", path.display())));
        }
        Err(error) => return Err(error.into()),
    };
    match setns(fd.as_fd(), CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        Err(Errno::EINVAL) if wanted.is_some() => {
            // A bind mount that was taken away leaves the empty file it was mounted on.
            return Err(Trouble::netns_gone(not_a_netns(path)));
        }
        Err(Errno::EINVAL) => {
            return Err(Trouble::new(Errno::EINVAL, not_a_netns(path))
                .hint("give a path such as /run/netns/NAME or /proc/PID/ns/net"));
        }
        Err(errno) => return Err(errno.into()),
    }
    let route = Socket::open(libc::NETLINK_ROUTE)?;
    let id = NetnsId(route.netns_cookie()?);
    if wanted.is_some_and(|wanted| wanted != id) {
        let text = format!("{} leads to another network namespace by now", path.display());
        return Err(Trouble::netns_gone(text));
    }
    Ok((Inside { fd, route }, id))
}

fn not_a_netns(path: &Path) -> String {
    format!("{} is not a network namespace", path.display())
}

/// Whether a trouble means that the namespace is gone.
pub(crate) fn is_gone(trouble: &Trouble) -> bool {
    trouble.kind() == FaultKind::NetnsGone
}

impl Socket {
    /// The cookie of the socket's network namespace (`SO_NETNS_COOKIE`, since Linux 5.14).
    pub(crate) fn netns_cookie(&self) -> Result<u64, Errno> {
        let mut cookie = 0_u64;
        let mut size = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or_default();
        // SAFETY: pointer and size are those of `cookie`, which outlives the call.
        let result = unsafe {
            libc::getsockopt(
                self.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                std::ptr::from_mut(&mut cookie).cast(),
                &raw mut size,
            )
        };
        Errno::result(result).map(|_| cookie)
    }
}
