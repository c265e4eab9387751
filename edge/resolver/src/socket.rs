//! Sockets at a gateway's address, bound to its bridge.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::{
    AttachReusePortCbpf, BindToDevice, IpFreebind, Ipv6V6Only, RcvBuf, ReuseAddr, ReusePort,
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};
use tokio::net::{TcpListener, UdpSocket};

/// A UDP socket. Because it is bound to the one address, replies come from the address asked.
pub(crate) fn datagrams(bridge: &str, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(bridge, address, SockType::Datagram)?;
    // The kernel gives what `net.core.rmem_max` allows of it.
    setsockopt(&socket, RcvBuf, &(1 << 20))?;
    UdpSocket::from_std(socket.into())
}

/// A listening TCP socket.
pub(crate) fn streams(bridge: &str, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(bridge, address, SockType::Stream)?;
    listen(&socket, Backlog::new(128)?)?;
    TcpListener::from_std(socket.into())
}

/// A socket that takes only what comes in at the bridge.
///
/// * `SO_BINDTODEVICE` makes two networks with the same gateway address two different places.
/// * Free binding lets it open before the bridge has the address.
/// * `SO_REUSEPORT` lets the next resolver open its own before this one closes.
fn open(bridge: &str, address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    setsockopt(&socket, ReusePort, &true)?;
    setsockopt(&socket, BindToDevice, &bridge.into())?;
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, IpFreebind, &true)?,
        SocketAddr::V6(_) => {
            setsockopt(&socket, Ipv6V6Only, &true)?;
            free_binding_v6(&socket)?;
        }
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Sends what comes in from now on to the second socket at this address, which the next resolver
/// opened; what is queued here stays. Where there is no second, everything stays as it is: the
/// kernel passes over an answer that names no socket.
pub(crate) fn hand_over(socket: &impl AsFd) -> io::Result<()> {
    let second =
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 1 };
    let mut code = [second];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    Ok(setsockopt(socket, AttachReusePortCbpf, &program)?)
}

/// `IPV6_FREEBIND` (Linux 4.15), which `nix` does not know.
fn free_binding_v6(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the option's value is an int of the length given, which
    // the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_FREEBIND,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
