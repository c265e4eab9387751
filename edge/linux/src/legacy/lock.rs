//! The lock that everybody who changes a table of legacy iptables takes (`iptables(8)`, `-w`).

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::fault::Trouble;

/// `XT_LOCK_NAME`
pub(super) const PATH: &str = "/run/xtables.lock";
/// How long others are waited for: what they do takes milliseconds.
pub(super) const WAIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock.
pub(super) fn take(path: &Path, wait: Duration) -> Result<Lock, Trouble> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            Trouble::new(errno, format!("{}: {error}", path.display()))
                .hint("let the daemon write below /run: iptables-legacy keeps its lock there")
        })?;
    let end = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                let text = format!("another program holds {}", path.display());
                return Err(Trouble::new(Errno::EAGAIN, text).hint(format!(
                    "it is tried again; `fuser {}` names the other program",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::take;

    #[test]
    fn it_is_waited_for_but_not_for_ever() {
        let path = std::env::temp_dir().join(format!("weft-lock-{}", std::process::id()));
        let short = Duration::from_millis(50);
        let held = take(&path, short).unwrap();
        let before = Instant::now();
        let trouble = take(&path, short).unwrap_err().of("x");
        assert!(before.elapsed() >= short);
        assert_eq!(trouble.errno, libc::EAGAIN);
        assert_eq!(trouble.message, format!("another program holds {}", path.display()));
        let waits = std::thread::spawn({
            let path = path.clone();
            move || take(&path, Duration::from_secs(30)).map(drop)
        });
        std::thread::sleep(short);
        drop(held);
        waits.join().unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let nowhere = path.join("x");
        assert_eq!(take(&nowhere, short).unwrap_err().of("x").errno, libc::ENOENT);
    }
}
