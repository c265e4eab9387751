//! Sockets on links, `packet(7)`: what is on a cable, and what is put there.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Opens a socket that sees every frame of a link, in the namespace at `netns`.
pub(crate) fn open(netns: &Path, link: &str) -> io::Result<OwnedFd> {
    let link = link.to_owned();
    weft_lab::in_netns(netns, move || {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the answer is checked before it is taken as a descriptor.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol)) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let index = nix::net::if_::if_nametoindex(link.as_str())?;
        // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        let length =
            libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
        // SAFETY: the pointer leads to a `sockaddr_ll` of the length given.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    })
}

/// Puts a frame onto the link.
pub(crate) fn send(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    let flags = nix::sys::socket::MsgFlags::empty();
    nix::sys::socket::send(socket.as_raw_fd(), frame, flags)?;
    Ok(())
}

/// Everything that passes over a link, from now until it is stopped.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Begins on `link` in the namespace at `netns`. Frames of both directions are seen.
    ///
    /// # Panics
    /// When the link cannot be listened to.
    #[track_caller]
    pub fn begin(netns: &Path, link: &str) -> Self {
        let socket = open(netns, link).unwrap_or_else(|e| panic!("cannot listen to {link}: {e}"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let reader = std::thread::spawn(move || {
            let mut frames = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                frames.extend(next(&socket, Duration::from_millis(20)));
            }
            // What was on the way when it was stopped.
            while let Some(frame) = next(&socket, Duration::ZERO) {
                frames.push(frame);
            }
            frames
        });
        Self { stop, reader }
    }

    /// Ends, and gives what was seen.
    ///
    /// # Panics
    /// When the reader panicked.
    pub fn end(self) -> Vec<Vec<u8>> {
        // A frame that was sent before this call may still be on its way to the socket.
        std::thread::sleep(Duration::from_millis(50));
        self.stop.store(true, Ordering::Relaxed);
        self.reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The next frame, if there is one within `wait`.
pub(crate) fn next(socket: &OwnedFd, wait: Duration) -> Option<Vec<u8>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN)];
    if poll(&mut fds, timeout).ok()? == 0 {
        return None;
    }
    let mut buffer = vec![0; 70_000];
    let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
    let length = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, flags).ok()?;
    buffer.truncate(length);
    Some(buffer)
}
