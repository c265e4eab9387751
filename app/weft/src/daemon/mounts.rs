//! Mounts that a container runtime made for this process alone.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

const SYSCTLS: &str = "/proc/sys";

/// Container runtimes mount `/proc/sys` read-only, and a managed plugin of Docker's cannot ask for
/// anything else. With CAP_SYS_ADMIN that mount can be changed (mount(2), "Remounting an existing
/// mount"), which nobody else sees. Writable already is fine.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn make_sysctls_writable() -> Result<(), Errno> {
    if !statvfs(SYSCTLS)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    mount(None::<&str>, SYSCTLS, None::<&str>, flags, None::<&str>)
}
