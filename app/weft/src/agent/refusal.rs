//! Why a wish at the local socket was not fulfilled.

use weft_kernel::Fault;
use weft_state::Rejection;
use weft_state::rejection::Code;

/// Why not.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// The wish cannot be.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The kernel said no.
    #[error("{object}: {fault}")]
    Fault {
        /// The object it refused.
        object: String,
        /// Its words.
        fault: Fault,
    },
    /// Needs a server, and none can be reached.
    #[error("{what} needs a server, and none can be reached")]
    NoServer {
        /// What was wished.
        what: String,
    },
    /// Something of this host's failed: disk, memory.
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    /// A rejection in one line.
    pub(crate) fn reject(
        code: Code,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Rejected(Rejection {
            code,
            field: field.to_owned(),
            message: message.into(),
            hint: hint.into(),
        })
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => weft_rpc::error::rejected(&rejection),
            Refusal::Fault { object, fault } => {
                let hint = if fault.hint.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", fault.hint)
                };
                Self::failed_precondition(format!("{object}: {fault}{hint}"))
            }
            Refusal::NoServer { .. } => Self::unavailable(refusal.to_string()),
            Refusal::Internal(message) => Self::internal(message),
        }
    }
}
