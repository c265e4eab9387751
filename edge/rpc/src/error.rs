//! Refusals on the wire: a gRPC status whose details say, as JSON, which part of the wish is
//! wrong and what a person can do.

use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use weft_state::Rejection;
use weft_state::rejection;

/// What a call was answered with instead of a result, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// A stable word: a [`rejection::Code`] (`busy`, `denied` …) or one of [`word`].
    pub code: String,
    /// The part of the wish that is wrong, as the command line calls it; may be empty.
    #[serde(default)]
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What a person can do; may be empty.
    #[serde(default)]
    pub hint: String,
}

/// Words for refusals that are not about the wish itself.
pub mod word {
    /// Nobody answers, or whoever answers cannot do it now: try again.
    pub const UNAVAILABLE: &str = "unavailable";
    /// It took longer than it may.
    pub const DEADLINE: &str = "deadline";
    /// No certificate was shown, or it has expired.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// The node was removed from the cluster by an operator.
    pub const REMOVED: &str = "removed";
    /// The follower fell behind: follow again, beginning with a snapshot.
    pub const RELIST: &str = "re-list";
    /// The same node follows on another connection now.
    pub const SUPERSEDED: &str = "superseded";
    /// A defect of Weft.
    pub const INTERNAL: &str = "internal";
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

impl std::error::Error for Told {}

impl From<Rejection> for Told {
    fn from(rejection: Rejection) -> Self {
        let Rejection { code, field, message, hint } = rejection;
        Self { code: code_word(code).to_owned(), field, message, hint }
    }
}

/// A rejection as a status.
pub fn rejected(rejection: &Rejection) -> Status {
    status(grpc_code(rejection.code), &Told::from(rejection.clone()))
}

/// The wish makes no sense by itself: `field` is wrong.
pub fn invalid(field: &str, message: impl ToString, hint: &str) -> Status {
    rejected(&Rejection {
        code: rejection::Code::Invalid,
        field: field.to_owned(),
        message: message.to_string(),
        hint: hint.to_owned(),
    })
}

/// Whoever asks may not.
pub fn denied(message: impl ToString, hint: &str) -> Rejection {
    Rejection {
        code: rejection::Code::Denied,
        field: String::new(),
        message: message.to_string(),
        hint: hint.to_owned(),
    }
}

/// It cannot be done now, but later, or by another server.
pub fn unavailable(message: impl ToString, hint: &str) -> Status {
    plain(Code::Unavailable, word::UNAVAILABLE, message, hint)
}

/// Who asks is not known.
pub fn unauthenticated(message: impl ToString, hint: &str) -> Status {
    plain(Code::Unauthenticated, word::UNAUTHENTICATED, message, hint)
}

/// The node that asks was removed from the cluster.
pub fn removed(message: impl ToString, hint: &str) -> Status {
    plain(Code::PermissionDenied, word::REMOVED, message, hint)
}

/// The stream ends because its reader fell behind.
pub fn relist() -> Status {
    plain(
        Code::DataLoss,
        word::RELIST,
        "this node fell behind the changes of the cluster",
        "follow again: the next update is a snapshot",
    )
}

/// The stream ends because the same node follows on another one.
pub fn superseded() -> Status {
    plain(
        Code::Aborted,
        word::SUPERSEDED,
        "this node follows on a newer connection",
        "if two hosts run with the same state directory, stop one of them",
    )
}

/// A defect of Weft.
pub fn internal(message: impl ToString) -> Status {
    let hint = "this is a defect of Weft: report it with the log of the server";
    plain(Code::Internal, word::INTERNAL, message, hint)
}

fn plain(code: Code, word: &str, message: impl ToString, hint: &str) -> Status {
    let told = Told {
        code: word.to_owned(),
        field: String::new(),
        message: message.to_string(),
        hint: hint.to_owned(),
    };
    status(code, &told)
}

fn status(code: Code, told: &Told) -> Status {
    // Writing to memory cannot fail, and there are no maps in it.
    let details = serde_json::to_vec(told).unwrap_or_default();
    Status::with_details(code, told.message.clone(), details.into())
}

/// The rejection a status carries; `None` when it is another kind of failure.
pub fn rejection(status: &Status) -> Option<Rejection> {
    let told: Told = serde_json::from_slice(status.details()).ok()?;
    let code = CODES.iter().find(|(_, word, _)| *word == told.code)?.0;
    Some(Rejection { code, field: told.field, message: told.message, hint: told.hint })
}

/// What a status says, whether or not a server of this version wrote it.
pub fn told(status: &Status) -> Told {
    if let Ok(told) = serde_json::from_slice(status.details()) {
        return told;
    }
    let (code, hint) = match status.code() {
        Code::Unavailable => (word::UNAVAILABLE, "try again; is the server running?"),
        Code::DeadlineExceeded | Code::Cancelled => (word::DEADLINE, "try again"),
        Code::Unauthenticated => (word::UNAUTHENTICATED, "join the cluster: weft join"),
        Code::Unimplemented => (word::INTERNAL, "the other side runs another version of Weft"),
        _ => (word::INTERNAL, ""),
    };
    Told {
        code: code.to_owned(),
        field: String::new(),
        message: status.message().to_owned(),
        hint: hint.to_owned(),
    }
}

const CODES: [(rejection::Code, &str, Code); 9] = [
    (rejection::Code::Invalid, "invalid", Code::InvalidArgument),
    (rejection::Code::Exists, "exists", Code::AlreadyExists),
    (rejection::Code::NotFound, "not-found", Code::NotFound),
    (rejection::Code::Busy, "busy", Code::FailedPrecondition),
    (rejection::Code::Outside, "outside", Code::OutOfRange),
    (rejection::Code::Reserved, "reserved", Code::FailedPrecondition),
    (rejection::Code::Exhausted, "exhausted", Code::ResourceExhausted),
    (rejection::Code::Overlap, "overlap", Code::FailedPrecondition),
    (rejection::Code::Denied, "denied", Code::PermissionDenied),
];

fn code_word(code: rejection::Code) -> &'static str {
    CODES.iter().find(|(c, ..)| *c == code).map_or(word::INTERNAL, |(_, word, _)| word)
}

fn grpc_code(code: rejection::Code) -> Code {
    CODES.iter().find(|(c, ..)| *c == code).map_or(Code::Unknown, |(.., grpc)| *grpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_survives_the_wire() {
        for (code, word, _) in CODES {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{word}\""));
            let there = Rejection {
                code,
                field: "--subnet".to_owned(),
                message: "10.3.0.0/24 overlaps with network db".to_owned(),
                hint: "choose another".to_owned(),
            };
            let mut headers = tonic::codegen::http::HeaderMap::new();
            rejected(&there).add_header(&mut headers).unwrap();
            let back = Status::from_header_map(&headers).unwrap();
            assert_eq!(rejection(&back), Some(there));
        }
    }

    #[test]
    fn other_failures_are_no_rejections_but_are_told() {
        let down = unavailable("the state engine cannot write", "free some disk space");
        assert_eq!(rejection(&down), None);
        assert_eq!(told(&down).to_string(), "the state engine cannot write (free some disk space)");
        assert_eq!(told(&Status::unimplemented("what?")).code, word::INTERNAL);
        assert_eq!(told(&superseded()).code, word::SUPERSEDED);
        assert_eq!(told(&relist()).code, word::RELIST);
    }
}
