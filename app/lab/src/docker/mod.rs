//! Real Docker engines on virtual hosts, for tests and benchmarks.
//!
//! ```text
//!    mounts and processes of the engine            the machine
//!  ┌────────────────────────────────────┐
//!  │ 1: the keeper                      ◀── a pipe: when it closes, all of this ends
//!  │ dockerd, containerd, containers    │   (in the network namespace of the host)
//!  │ /run                 tmpfs, data   │
//!  │ /run/docker/plugins ───────────────┼─▶ HOST/docker/plugins       [`plugins`]
//!  │ /run/api/docker.sock ──────────────┼─▶ HOST/docker/docker.sock   [`socket`]
//!  └────────────────────────────────────┘
//! ```
//!
//! Each engine has mounts and processes of its own, so that several of them, and one that the machine
//! runs anyway, do not know of each other. All that an engine writes lies in memory that goes with it.
//! Its containers' control groups go with the lab.

mod cgroup;
mod engine;
mod image;
mod keeper;

use std::path::PathBuf;

use crate::Host;

pub(crate) use cgroup::remove as remove_cgroups;
pub use engine::Engine;
pub use image::image;

/// What is shared between the engine of a host and whoever talks with it. There before the engine is
/// when [`make_directories`] was called.
pub fn directory(host: &Host) -> PathBuf {
    host.directory.join("docker")
}

/// What the engine of a host has as `/run/docker/plugins`: where plugins put their sockets.
pub fn plugins(host: &Host) -> PathBuf {
    directory(host).join("plugins")
}

/// Where the engine of a host answers its interface.
pub fn socket(host: &Host) -> PathBuf {
    directory(host).join("docker.sock")
}

/// Where the files of the engine of a host are seen from outside, among them its containers' namespaces,
/// while it is there: a link.
pub fn root(host: &Host) -> PathBuf {
    directory(host).join("root")
}

/// Makes what the engine of a host shares with others; done already is fine.
///
/// # Errors
/// When the system refuses.
pub fn make_directories(host: &Host) -> std::io::Result<()> {
    std::fs::create_dir_all(plugins(host))?;
    std::fs::create_dir_all(directory(host).join(keeper::MOUNT_POINT))
}
