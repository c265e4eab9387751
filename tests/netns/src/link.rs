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
        if bound < 0 { Err(io::Error::last_os_error()) } else { tell_of_tags(socket) }
    })
}

/// The kernel takes a VLAN's tag out of a frame; it is to say so.
fn tell_of_tags(socket: OwnedFd) -> io::Result<OwnedFd> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_AUXDATA);
    // SAFETY: the pointer leads to an integer of the length given.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
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
    receive(socket).ok()
}

/// A frame as it was on the cable, with the tag that the kernel took out of it.
fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 70_000];
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: all-zero bytes are a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message leads to two buffers of the lengths given, alive until the call is done.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    frame.truncate(usize::try_from(length).map_err(|_| io::Error::last_os_error())?);
    // SAFETY: the kernel has filled in the message and its control buffer.
    if let Some(tag) = unsafe { tag(&message) }
        && frame.len() >= 12
    {
        frame.splice(12..12, tag);
    }
    Ok(frame)
}

/// The tag that is told of beside a frame: kind and number (`packet(7)`, `PACKET_AUXDATA`).
///
/// # Safety
/// The kernel has filled in the message.
unsafe fn tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the message has been filled in; the header is looked at only if there is one.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref()? };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: what follows a header of this type is a `tpacket_auxdata`.
    let beside: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    if beside.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let ([a, b], [c, d]) = (beside.tp_vlan_tpid.to_be_bytes(), beside.tp_vlan_tci.to_be_bytes());
    Some([a, b, c, d])
}
