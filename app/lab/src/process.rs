//! Processes of virtual hosts and containers.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Error;

/// A command that will run inside the namespace at `netns`. If there is a file at `resolv_conf`,
/// it lies over `/etc/resolv.conf`, as `ip netns exec` does it.
///
/// # Errors
/// When the namespace is not there.
pub fn enter(
    netns: &Path,
    resolv_conf: Option<&Path>,
    program: impl AsRef<OsStr>,
) -> io::Result<Command> {
    let namespace = fs::File::open(netns)?;
    let cover = resolv_conf
        .filter(|path| path.exists())
        .map(|path| CString::new(path.as_os_str().as_bytes()))
        .transpose()?;
    let mut command = Command::new(program);
    let prepare = move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        if let Some(source) = &cover {
            unshare(CloneFlags::CLONE_NEWNS)?;
            // Slave, not private: namespaces that are made later still appear under /run/netns.
            let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
            mount(None::<&str>, c"/", None::<&str>, slave, None::<&str>)?;
            let target = c"/etc/resolv.conf";
            mount(Some(source.as_c_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, on values prepared beforehand.
    unsafe { command.pre_exec(prepare) };
    Ok(command)
}

/// A running process that is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        Ok(Self { child: command.spawn()? })
    }

    /// Its identifier.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its ends of pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.id()).map_err(io::Error::other)?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Waits until it ends, at most `limit`; `None`: it still runs.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes whose network namespace is the one at `netns`: what `ip netns pids` prints.
pub(crate) fn inside(netns: &Path) -> Vec<u32> {
    let Ok(namespace) = fs::metadata(netns) else { return Vec::new() };
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        // A process that ends meanwhile has no namespace any more.
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|m| (m.dev(), m.ino()) == (namespace.dev(), namespace.ino()))
    })
    .collect()
}

/// A field of what the kernel tells of a process, by its number, 3 or more (proc_pid_stat(5)); `None` when
/// there is no such process.
pub(crate) fn field(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, field 2, may hold anything: fields are counted from its last ')'.
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(number.checked_sub(3)?).map(str::to_owned)
}

/// The process that started a process; `None` when there is no such process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    field(pid, 4)?.parse().ok()
}

/// Ends all processes in a namespace of ours. Nobody else's process is in there: the namespace was
/// made for this lab.
pub(crate) fn end_all(netns: &Path) -> Result<(), Error> {
    // Without the mount, the file is a plain one and names no namespace.
    let is_namespace = fs::File::open(netns).is_ok_and(|f| is_nsfs(&f));
    if !is_namespace {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let pids = inside(netns);
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let what = format!("end processes {pids:?} in {}", netns.display());
            return Err(Error::system(what)(io::ErrorKind::TimedOut.into()));
        }
        for pid in pids.into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
            // Gone meanwhile is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_nsfs(file: &fs::File) -> bool {
    // SAFETY: all-zero bytes are a valid `statfs`, which has no references.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the pointer leads to a `statfs` to write to.
    let answer = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut buffer) };
    answer == 0 && buffer.f_type == libc::NSFS_MAGIC
}
