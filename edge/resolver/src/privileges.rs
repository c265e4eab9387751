//! What the process may do: as little as answering takes.

use std::io;

/// Binding to a bridge, and to a port below 1024 (capabilities(7)).
const KEPT: u64 = 1 << CAP_NET_RAW | 1 << CAP_NET_BIND_SERVICE;
const CAP_NET_BIND_SERVICE: u64 = 10;
const CAP_NET_RAW: u64 = 13;

/// `_LINUX_CAPABILITY_VERSION_3` (`linux/capability.h`).
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all capabilities but those that binding sockets takes, for this thread and those it
/// starts, and the ways to get them back.
///
/// # Errors
/// What the system calls say.
pub(crate) fn drop_most() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let mut header = Header { version: VERSION, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: the kernel reads one header and writes two halves, as version 3 says; both are
    // valid for that and outlive the call.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    for (half, kept) in halves.iter_mut().zip([KEPT as u32, (KEPT >> 32) as u32]) {
        half.permitted &= kept;
        half.effective = half.permitted;
        half.inheritable = 0;
    }
    // SAFETY: the kernel reads one header and two halves, which outlive the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for as many descriptors as the process may have: each query under way upstream holds one.
///
/// # Errors
/// What the system calls say.
pub(crate) fn raise_descriptors() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit, which is valid and outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one rlimit, which outlives the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
