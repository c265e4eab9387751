//! Attachments: which container is connected to which network as which endpoint. The agent's own
//! truth: kept on disk, told to the servers, never the other way round.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_kernel::NetnsId;
use weft_model::{ContainerId, Endpoint};

/// One connection of a local container, as kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// What the servers are told.
    pub(crate) endpoint: Endpoint,
    /// The interface inside the container; empty where a container runtime names it.
    pub(crate) interface: String,
    /// Who looks after the container's end.
    pub(crate) inside: Inside,
    /// Place in the order of attachment, which decides about the default route.
    pub(crate) order: u64,
}

/// Who looks after the container's end of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Inside {
    /// This daemon, in this namespace.
    Netns(NetnsRef),
    /// A container runtime, to which the end is lent.
    Lent(Lent),
}

/// What is known of an end that is lent to a container runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    /// The runtime's identifier of its network.
    pub(crate) network: String,
    /// The runtime's identifier of the endpoint.
    pub(crate) endpoint: String,
    /// The boot of this host that it belongs to.
    pub(crate) boot: String,
    /// Where the runtime keeps the container's namespace, once it has asked for the end: before, there
    /// is an address and nothing in the kernel.
    pub(crate) sandbox: Option<PathBuf>,
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
    /// The container's namespace, where this daemon looks after what is inside.
    pub(crate) const fn netns(&self) -> Option<&NetnsRef> {
        match &self.inside {
            Inside::Netns(netns) => Some(netns),
            Inside::Lent(_) => None,
        }
    }

    /// What is known of the end, where it is lent.
    pub(crate) const fn lent(&self) -> Option<&Lent> {
        match &self.inside {
            Inside::Netns(_) => None,
            Inside::Lent(lent) => Some(lent),
        }
    }

    /// Whether it is to be in the kernel, and other nodes are to know.
    pub(crate) fn is_joined(&self) -> bool {
        self.lent().is_none_or(|lent| lent.sandbox.is_some())
    }

    /// The name of the host's end of its veth pair.
    pub(crate) fn host_end(&self) -> String {
        weft_model::device::host_end(self.endpoint.id)
    }

    /// Whether there is no sign of it any more: its namespace is gone; the host was booted since; or,
    /// lent, its pair is not among the `links` of the host that were looked for.
    pub(crate) fn is_gone(&self, boot: &str, links: &BTreeSet<String>) -> bool {
        match &self.inside {
            Inside::Netns(netns) => netns.boot != boot || !netns.is_alive(),
            Inside::Lent(lent) => {
                lent.boot != boot || lent.sandbox.is_some() && !links.contains(&self.host_end())
            }
        }
    }

    /// The container, as the planner sees it.
    pub(crate) const fn container(&self) -> ContainerId {
        self.endpoint.container
    }

    /// The key of its record on disk.
    pub(crate) fn record_key(&self) -> String {
        format!("attachment/{}", self.endpoint.id)
    }
}
