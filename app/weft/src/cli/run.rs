//! `weft run`: a command in a fresh network namespace, on networks from its first instruction.
//!
//! ```text
//!  weft run ──starts──▶ weft container-init          its namespace is there: "ready"
//!     │◀────────────────────┘
//!     ├── attach /proc/PID/ns/net ──▶ daemon
//!     ├── resolv.conf, then end ───▶ container-init ──becomes──▶ CMD
//!     ├── signals ────────────────────────────────────────────▶
//!     │◀────────────────────────────────────────── its status ──┘
//!     └── detach ──▶ daemon
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2};
use weft_rpc::wire;

use super::Outcome;
use super::args::RunArgs;
use super::attach;
use super::client;
use super::problem::Problem;

/// What a process may be told from outside; passed on to the command.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Runs the command and ends as it ends.
pub(super) fn run(socket: &Path, args: &RunArgs) -> Outcome {
    attach::requests(&args.wish, Path::new(""))?;
    // Signals wait in the descriptor from here on, so that none is lost between two steps.
    let mut mask: SigSet = PASSED_ON.into_iter().collect();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().map_err(std::io::Error::from)?;
    let signals =
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(std::io::Error::from)?;

    let (child, mut go) = start(args)?;
    let mut guard = Guard(child);
    let netns = format!("/proc/{}/ns/net", guard.0.id());
    // Kept open so that the namespace can be named to the daemon after the command has ended.
    let kept = File::open(&netns)?;
    let attached = client::with(socket, async |mut local| {
        attach::all(&mut local, &args.wish, Path::new(&netns)).await
    })?;
    let handed_over = go.write_all(attached.resolv_conf.as_bytes());
    drop(go);
    let status = match handed_over {
        Ok(()) => watch(&mut guard.0, &signals),
        Err(error) => Err(error.into()),
    };
    let detached = client::with(socket, async |mut local| {
        let netns = format!("/proc/{}/fd/{}", std::process::id(), kept.as_raw_fd());
        local.detach(wire::DetachRequest { netns, ..Default::default() }).await?;
        Ok(())
    });
    if let Err(problem) = detached {
        // The command's status says more; the daemon finds out by itself that the namespace is gone.
        problem.print();
    }
    Ok(exit_code(status?))
}

/// A child that does not outlive its reason.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Starts the process that becomes the command, and waits until its namespace is there.
fn start(args: &RunArgs) -> Result<(Child, File), Problem> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(std::io::Error::from);
    let (ready_here, ready_there) = pipe()?;
    let (go_there, go_here) = pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("container-init")
        .arg(format!("--ready={}", ready_there.as_raw_fd()))
        .arg(format!("--go={}", go_there.as_raw_fd()))
        .arg("--")
        .args(&args.command);
    inherit(&mut command, [ready_there.as_raw_fd(), go_there.as_raw_fd()]);
    let child = command.spawn()?;
    drop((ready_there, go_there));
    let mut word = [0];
    if File::from(ready_here).read(&mut word)? == 0 {
        // It has said why.
        let status = Guard(child).0.wait()?;
        return Err(Problem::new(format!("the namespace was not made ({status})")));
    }
    Ok((child, File::from(go_here)))
}

/// Leaves `fds` open in what `command` starts.
fn inherit(command: &mut Command, fds: [i32; 2]) {
    use std::os::unix::process::CommandExt;
    let open_up = move || {
        for fd in fds {
            // SAFETY: fcntl(2) is async-signal-safe, and the descriptors are open in the parent.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        // The mask is inherited over exec(3); the command must start without ours.
        SigSet::all().thread_unblock().map_err(std::io::Error::from)
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(open_up) };
}

/// Passes signals on until the command has ended.
fn watch(child: &mut Child, signals: &SignalFd) -> Result<ExitStatus, Problem> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(|e| Problem::new(e.to_string()))?);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let Some(info) = signals.read_signal().map_err(std::io::Error::from)? else { continue };
        // What the terminal sends, it sends to the command as well.
        let from_terminal = info.ssi_code == libc::SI_KERNEL;
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|s| Signal::try_from(s).ok());
        if let Some(signal) = signal.filter(|s| *s != Signal::SIGCHLD && !from_terminal) {
            // It may have ended meanwhile; then there is nobody to tell.
            let _ = kill(pid, signal);
        }
    }
}

/// The command's own status, or 128 and the signal that ended it, as shells count.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
