//! The process inside the namespace of `weft run`: it makes the namespace, waits until the daemon
//! has put it onto its networks, and then becomes the command.
//!
//! A process of its own, because a namespace can only be changed while there is one thread, and
//! because the namespace must exist, in somebody, before the daemon can attach it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Outcome;
use super::args::ContainerInitArgs;
use super::problem::Problem;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Never returns when all is well: it becomes the command.
pub(super) fn init(args: &ContainerInitArgs) -> Outcome {
    let (mut ready, mut go) = (inherited(args.ready)?, inherited(args.go)?);
    // Whoever kills `weft run` means the command, too.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(std::io::Error::from)?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(|e| {
        Problem::new(format!("cannot make a namespace: {e}")).hint("run this as root")
    })?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| Problem::new(format!("cannot make the mounts private: {e}")))?;
    loopback_up().map_err(|e| Problem::new(format!("cannot bring the loopback up: {e}")))?;
    ready.write_all(b"r")?;
    drop(ready);
    let mut resolv_conf = String::new();
    go.read_to_string(&mut resolv_conf)?;
    drop(go);
    if resolv_conf.is_empty() {
        // The attach was refused, and who started us says why.
        return Ok(ExitCode::FAILURE);
    }
    cover_resolv_conf(&resolv_conf)?;
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Problem::new("no command was given").at("CMD"))?;
    let error = Command::new(program).args(arguments).exec();
    Problem::new(format!("cannot run '{}': {error}", program.to_string_lossy())).at("CMD").print();
    // The statuses by which shells tell "not there" from "not possible" (POSIX, 2.8.2).
    let absent = error.kind() == std::io::ErrorKind::NotFound;
    Ok(ExitCode::from(if absent { 127 } else { 126 }))
}

/// A descriptor that `weft run` left open for us.
fn inherited(fd: RawFd) -> Result<File, Problem> {
    if fd < 3 || nix::fcntl::fcntl(borrow(fd), nix::fcntl::FcntlArg::F_GETFD).is_err() {
        return Err(Problem::new("this command is for `weft run` only"));
    }
    // SAFETY: the descriptor is open, was passed to this process for this purpose alone, and each
    // of the two is taken once.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(File::from(owned))
}

fn borrow(fd: RawFd) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: only used to ask whether the descriptor is open, which is harmless when it is not.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

/// Puts `content` over /etc/resolv.conf, in this mount namespace only.
fn cover_resolv_conf(content: &str) -> Result<(), Problem> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Problem::new(format!("cannot {what} {RESOLV_CONF}: {error}"))
    };
    let source = std::env::temp_dir().join(format!("weft-resolv-{}", std::process::id()));
    let _ = std::fs::remove_file(&source);
    File::create_new(&source)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|e| failed("write a private", &e))?;
    let covered = mount(
        Some(source.as_path()),
        Path::new(RESOLV_CONF),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    );
    // The mount keeps the file's content; its name is no longer needed.
    let _ = std::fs::remove_file(&source);
    covered.map_err(|e| failed("cover", &e).hint("the file must exist on the host"))
}

/// `ip link set lo up` (netdevice(7)).
fn loopback_up() -> std::io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all-zero bytes are a valid `ifreq`, which has no references.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the descriptor is a socket and the pointer leads to an `ifreq`, as SIOCSIFFLAGS wants.
    let answer = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw mut request)
    };
    if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
