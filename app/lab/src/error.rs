//! Why a lab could not be had.

use std::io;

/// Why a lab could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be one.
    #[error(
        "'{0}' cannot name a lab: use at most 40 lower-case letters, digits and '-', starting with a letter or digit"
    )]
    Name(String),
    /// A lab of this name is up.
    #[error("a lab called '{0}' is up already")]
    Exists(String),
    /// No lab of this name is up.
    #[error("there is no lab called '{0}'")]
    NotFound(String),
    /// The lab has no such host.
    #[error("lab '{lab}' has no host '{host}'")]
    NoHost {
        /// The lab.
        lab: String,
        /// The host that was asked for.
        host: String,
    },
    /// A network namespace of this name is somebody else's.
    #[error("a network namespace called '{0}' exists and is not this lab's")]
    Taken(String),
    /// Not more than 26 hosts, named a to z, and at least one.
    #[error("a lab has 1 to 26 hosts, not {0}")]
    Hosts(usize),
    /// A cable has two ends.
    #[error("a single cable joins 2 hosts, not {0}")]
    Cable(usize),
    /// The system says no.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// What a person can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Name(_) => "for example: lab, test-2",
            Self::Exists(_) => {
                "remove it with `weft lab down --name NAME`, or choose another --name"
            }
            Self::NotFound(_) => "see `weft lab status`, or make one with `weft lab up`",
            Self::NoHost { .. } => "see `weft lab status`",
            Self::Taken(_) => "choose another --name, or remove it with `ip netns del NAME`",
            Self::Hosts(_) => "choose another --hosts",
            Self::Cable(_) => "make it of 2 hosts, or without a direct cable",
            Self::System { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "labs are made of network namespaces: run this as root"
            }
            Self::System { .. } => "",
        }
    }

    /// Wraps what the system said about `action`.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
