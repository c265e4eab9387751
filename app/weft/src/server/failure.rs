//! Why a server did not do what it was asked.

use tonic::Status;
use weft_engine::EngineError;
use weft_rpc::error;
use weft_state::Rejection;

use crate::agent::refusal::Refusal;

/// Why not.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// The wish cannot be.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Not now, or not here.
    #[error("{message}")]
    Unavailable {
        /// What is the matter.
        message: String,
        /// What a person can do.
        hint: String,
    },
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    pub(crate) fn internal(error: impl std::error::Error) -> Self {
        Self::Internal(with_causes(&error))
    }

    pub(crate) fn unavailable(message: impl Into<String>, hint: &str) -> Self {
        Self::Unavailable { message: message.into(), hint: hint.to_owned() }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::unavailable(
            with_causes(&error),
            "look at the disk of the state directory and at the log of the server, then try again",
        )
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => error::rejected(&rejection),
            Failure::Unavailable { message, hint } => error::unavailable(message, &hint),
            Failure::Internal(message) => {
                tracing::error!(%message, "internal error");
                error::internal(message)
            }
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => Self::Rejected(rejection),
            Failure::Unavailable { message, hint } => Self::Internal(format!("{message} ({hint})")),
            Failure::Internal(message) => Self::Internal(message),
        }
    }
}
