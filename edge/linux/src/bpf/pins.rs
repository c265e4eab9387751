//! Where programs and tables are pinned, so that they outlive the daemon: a directory on a BPF
//! file system (bpffs).
//!
//! Each mount of it is a world of its own. The one that all share is init's, at `/sys/fs/bpf`: a
//! daemon in a mount namespace of its own (`ip netns exec` makes one) reaches it through
//! `/proc/1/root`, and mounts it where nobody has.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::statfs;
use weft_ebpf::layout::WEFT_TABLES_VERSION;
use weft_kernel::Attach;

use crate::fault::Trouble;

/// Where init has it.
const SHARED: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` (`linux/magic.h`)
const MAGIC: i64 = 0xcafe_4a11;

/// A directory of pins:
///
/// * `v1/NAME`: the tables, by version of their layout;
/// * `links/INDEX-PROGRAM`: what holds a program at a device (tcx);
/// * `clsact/INDEX/`: an empty directory that says that the qdisc there was made by us.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pins in `dir`. The shared file system is mounted if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, Trouble> {
        let root = match dir.strip_prefix(SHARED) {
            Ok(below) => mounted()?.join(below),
            Err(_) if lies_on_bpffs(dir) => dir.to_owned(),
            Err(_) => return Err(no_bpffs(dir)),
        };
        let pins = Self { root };
        for dir in [pins.tables(), pins.links(), pins.qdiscs()] {
            make_dir(&dir)?;
        }
        Ok(pins)
    }

    /// The pins in `dir`, if there is any.
    pub(super) fn find(dir: &Path) -> Option<Self> {
        let root = match dir.strip_prefix(SHARED) {
            Ok(below) => shared()?.join(below),
            Err(_) => dir.to_owned(),
        };
        is_bpffs(&root).then_some(Self { root })
    }

    /// The tables of the present layout.
    pub(super) fn tables(&self) -> PathBuf {
        self.root.join(version())
    }

    /// The pin of a program at a device.
    pub(super) fn link(&self, ifindex: u32, attach: Attach) -> PathBuf {
        self.links().join(format!("{ifindex}-{attach}"))
    }

    /// The mark of a qdisc that we made.
    pub(super) fn qdisc(&self, ifindex: u32) -> PathBuf {
        self.qdiscs().join(ifindex.to_string())
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn qdiscs(&self) -> PathBuf {
        self.root.join("clsact")
    }

    /// The programs that are pinned at devices, dead or alive.
    pub(super) fn all_links(&self) -> Result<Vec<(u32, Attach)>, Trouble> {
        let pin = |name: &String| {
            let (ifindex, program) = name.split_once('-')?;
            let attach = super::ATTACHES.into_iter().find(|attach| attach.as_str() == program)?;
            Some((ifindex.parse().ok()?, attach))
        };
        Ok(names(&self.links())?.iter().filter_map(pin).collect())
    }

    /// The devices that have a qdisc of ours.
    pub(super) fn all_qdiscs(&self) -> Result<Vec<u32>, Trouble> {
        Ok(names(&self.qdiscs())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Tables of other versions.
    pub(super) fn other_tables(&self) -> Result<Vec<PathBuf>, Trouble> {
        let is_other = |name: &&String| {
            **name != version() && name.strip_prefix('v').is_some_and(|v| v.parse::<u32>().is_ok())
        };
        let names = names(&self.root)?;
        Ok(names.iter().filter(is_other).map(|name| self.root.join(name)).collect())
    }

    /// Removes all that is pinned, and the directory if nobody else has something in it.
    pub(super) fn remove(&self) -> Result<(), Trouble> {
        remove_dir(&self.links())?;
        remove_dir(&self.qdiscs())?;
        remove_dir(&self.tables())?;
        for tables in self.other_tables()? {
            remove_dir(&tables)?;
        }
        match fs::remove_dir(&self.root) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy
                ) =>
            {
                Ok(())
            }
            other => unless_gone(other, &self.root),
        }
    }
}

fn version() -> String {
    format!("v{WEFT_TABLES_VERSION}")
}

fn at(error: std::io::Error, path: &Path) -> Trouble {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    Trouble::new(errno, format!("{}: {}", path.display(), errno.desc()))
}

fn unless_gone(result: std::io::Result<()>, path: &Path) -> Result<(), Trouble> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| at(error, path)),
    }
}

/// Removes a pin; one that is not there is removed.
pub(super) fn unpin(path: &Path) -> Result<(), Trouble> {
    unless_gone(fs::remove_file(path), path)
}

/// Makes a directory, and those above it.
pub(super) fn make_dir(path: &Path) -> Result<(), Trouble> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| at(error, path))
}

/// Removes a directory with all that is pinned in it.
pub(super) fn remove_dir(path: &Path) -> Result<(), Trouble> {
    unless_gone(fs::remove_dir_all(path), path)
}

fn names(dir: &Path) -> Result<Vec<String>, Trouble> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| at(error, dir))?,
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type().0 == MAGIC)
}

/// Whether what there is of `dir` lies on a BPF file system.
fn lies_on_bpffs(dir: &Path) -> bool {
    dir.ancestors().find(|ancestor| ancestor.exists()).is_some_and(is_bpffs)
}

fn no_bpffs(dir: &Path) -> Trouble {
    let text = format!("{} is not on a BPF file system", dir.display());
    Trouble::new(Errno::EMEDIUMTYPE, text).hint(format!(
        "name a directory below {SHARED}, or mount one there: `mount -t bpf bpf DIRECTORY`"
    ))
}

/// The mount point of the shared file system as this process sees it; a file system need not be there.
fn mount_point() -> PathBuf {
    let inits = Path::new("/proc/1/root").join(SHARED.trim_start_matches('/'));
    let id = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    // Where init's world cannot be seen at all, one's own is all there is.
    if !inits.exists() || id(&inits) == id(Path::new(SHARED)) { SHARED.into() } else { inits }
}

/// The shared file system as this process sees it, if it is mounted.
fn shared() -> Option<PathBuf> {
    Some(mount_point()).filter(|path| is_bpffs(path))
}

/// The shared file system, mounted if it was not.
fn mounted() -> Result<PathBuf, Trouble> {
    if let Some(path) = shared() {
        return Ok(path);
    }
    let thread = std::thread::Builder::new().name("weft-bpffs".into()).spawn(mount_shared);
    let done = thread.map_err(|_| Errno::EAGAIN).and_then(|t| t.join().unwrap_or(Err(Errno::EIO)));
    done.map_err(not_mounted)?;
    shared().ok_or_else(|| not_mounted(Errno::ENODEV))
}

fn not_mounted(errno: Errno) -> Trouble {
    let text = format!("the BPF file system cannot be mounted at {SHARED}: {}", errno.desc());
    Trouble::new(errno, text).hint(match errno {
        Errno::EPERM | Errno::EACCES => {
            "run the daemon as root, or mount it before: `mount -t bpf bpf /sys/fs/bpf`"
        }
        _ => "the kernel has no BPF (CONFIG_BPF_SYSCALL), or sysfs is not mounted at /sys",
    })
}

/// Mounts the file system where all see it. Moves the calling thread to init's mount namespace.
fn mount_shared() -> Result<(), Errno> {
    if let Ok(namespace) = File::open("/proc/1/ns/mnt") {
        // Threads share their root directory; one that moves must not.
        unshare(CloneFlags::CLONE_FS)?;
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?;
    }
    // Several daemons may start at once, and a second mount would hide the first one's pins.
    let below = File::open(SHARED).map_err(|_| Errno::ENOENT)?;
    let _turn = Flock::lock(below, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if is_bpffs(Path::new(SHARED)) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), SHARED, Some("bpf"), flags, Some("mode=0700"))
}
