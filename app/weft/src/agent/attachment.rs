//! Attachments: which namespace is connected to which network as which endpoint. The agent's own
//! truth: kept on disk, told to the servers, never the other way round.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_kernel::NetnsId;
use weft_model::{ContainerId, Endpoint};

/// One connection of a local container, as kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// What the servers are told.
    pub(crate) endpoint: Endpoint,
    /// The interface inside the container.
    pub(crate) interface: String,
    /// The container's namespace.
    pub(crate) netns: NetnsRef,
    /// Place in the order of attachment, which decides about the default route.
    pub(crate) order: u64,
}

/// A network namespace that may be gone by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetnsRef {
    /// Where it was found.
    pub(crate) path: PathBuf,
    /// The kernel's cookie for it, unique within a boot.
    pub(crate) cookie: u64,
    /// `/proc/sys/kernel/random/boot_id` at the time: after a reboot no namespace is the same.
    pub(crate) boot: String,
    /// Device and inode of the namespace file: a cheap sign of life.
    pub(crate) inode: (u64, u64),
}

impl NetnsRef {
    /// Whether the path still leads to a namespace with the same inode.
    pub(crate) fn is_alive(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.inode)
    }

    /// The identity the kernel model uses.
    pub(crate) const fn id(&self) -> NetnsId {
        NetnsId(self.cookie)
    }
}

impl Attachment {
    /// The container, as the planner sees it.
    pub(crate) const fn container(&self) -> ContainerId {
        self.endpoint.container
    }

    /// The key of its record on disk.
    pub(crate) fn record_key(&self) -> String {
        format!("attachment/{}", self.endpoint.id)
    }
}
