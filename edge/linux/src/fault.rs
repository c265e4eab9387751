//! From an errno and the kernel's extended text to a [`Fault`] a person can act on.

use nix::errno::Errno;
use weft_kernel::{Fault, FaultKind};

use crate::netlink::Refusal;

/// A refusal with what it means and what can be done; what was tried comes later.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    errno: Errno,
    text: String,
    kind: FaultKind,
    hint: String,
}

impl Trouble {
    pub(crate) fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self::from(Refusal::new(errno, text))
    }

    /// Somebody else's object is in the way.
    pub(crate) fn taken(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: FaultKind::Taken, ..Self::new(Errno::EEXIST, text) }.hint(hint)
    }

    /// The namespace is gone.
    pub(crate) fn netns_gone(text: impl Into<String>) -> Self {
        Self { kind: FaultKind::NetnsGone, ..Self::new(Errno::ENOENT, text) }
            .hint("the container has stopped; nothing is left to do for it")
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    pub(crate) const fn errno(&self) -> Errno {
        self.errno
    }

    pub(crate) const fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The fault of this call.
    pub(crate) fn of(self, call: impl Into<String>) -> Fault {
        let text = if self.text.is_empty() { self.errno.desc().to_owned() } else { self.text };
        Fault {
            call: call.into(),
            errno: self.errno as i32,
            message: text,
            kind: self.kind,
            hint: self.hint,
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let hint = general_hint(refusal.errno).to_owned();
        Self { errno: refusal.errno, text: refusal.text, kind: FaultKind::Again, hint }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::from(Refusal::from(errno))
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::from(Refusal::from(error))
    }
}

/// What an errno asks of a person, whatever was tried.
const fn general_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => {
            "run the daemon as root, or give it CAP_NET_ADMIN and CAP_SYS_ADMIN"
        }
        Errno::EXFULL => {
            "a bridge has at most 1023 ports: move containers of this network to another host"
        }
        Errno::ENOMEM | Errno::ENOBUFS => "the host is short of memory",
        Errno::EROFS => "mount /proc/sys writable for the daemon",
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP => {
            "the kernel lacks a feature: `weft doctor` lists what is needed"
        }
        Errno::ETIMEDOUT => "the kernel is busy; it is tried again",
        _ => "",
    }
}
