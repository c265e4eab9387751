//! Named network namespaces, in the form `ip netns` uses (`ip-netns(8)`): a namespace bound to a
//! file under `/run/netns`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Error;

const DIRECTORY: &str = "/run/netns";

/// The file of the namespace called `name`.
pub fn named(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes a namespace called `name`.
pub(crate) fn create(name: &str) -> Result<(), Error> {
    let file = named(name);
    prepare().map_err(Error::system(format!("prepare {DIRECTORY}")))?;
    if let Err(error) = File::create_new(&file) {
        return Err(match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Taken(name.to_owned()),
            _ => Error::system(format!("make {}", file.display()))(error),
        });
    }
    let made = on_thread({
        let file = file.clone();
        move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &file,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            Ok(())
        }
    });
    made.map_err(|error| {
        let _ = fs::remove_file(&file);
        Error::system(format!("make network namespace {name}"))(error)
    })
}

/// Removes the name; the namespace goes with its last process. One that is not there is fine.
pub(crate) fn remove(name: &str) -> Result<(), Error> {
    let file = named(name);
    let fail = |error| Error::system(format!("remove network namespace {name}"))(error);
    loop {
        match umount2(&file, MntFlags::MNT_DETACH) {
            // It may have been mounted more than once.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(error) => return Err(fail(error.into())),
        }
    }
    match fs::remove_file(&file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail(e)),
        _ => Ok(()),
    }
}

/// Runs `work` inside the namespace at `file`, on a thread of its own, so that no other thread of
/// this process ever leaves its namespace. Sockets that it opens stay there for life.
///
/// # Errors
/// When the namespace cannot be entered, or what `work` returns.
pub fn in_netns<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(file)?;
    on_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("netns".into()).spawn(work)?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes the directory a shared mount, so that namespaces made later appear in mount namespaces made
/// earlier. Under the lock that `ip netns add` takes, too: two at once would mount it over itself twice.
fn prepare() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let _lock = Flock::lock(File::open(DIRECTORY)?, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, DIRECTORY, None::<&str>, flags, None::<&str>)
    };
    match share() {
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(DIRECTORY), DIRECTORY, None::<&str>, flags, None::<&str>)?;
            Ok(share()?)
        }
        other => Ok(other?),
    }
}
