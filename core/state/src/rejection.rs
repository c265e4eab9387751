//! A wish that cannot be, with what would be right.

use serde::{Deserialize, Serialize};

/// A wish that cannot be. `field` names what was wrong with it, `hint` what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// What kind of refusal, for programs: stable words.
    pub code: Code,
    /// The part of the wish that is wrong, as the command line calls it: `--subnet`, `--ip`, `NAME`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What a person can do.
    pub hint: String,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The wish makes no sense by itself.
    Invalid,
    /// It is there already.
    Exists,
    /// It is not there.
    NotFound,
    /// It is used by others.
    Busy,
    /// Outside of what there is to choose from.
    Outside,
    /// Kept for another purpose.
    Reserved,
    /// Nothing left.
    Exhausted,
    /// It overlaps with something else.
    Overlap,
    /// Whoever asks may not.
    Denied,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $code:ident,)*) => {
        impl Rejection {$(
            $(#[$doc])*
            pub fn $name(
                field: &str,
                message: impl Into<String>,
                hint: impl Into<String>,
            ) -> Self {
                Self::new(Code::$code, field, message, hint)
            }
        )*}
    };
}

kinds! {
    /// A [`Code::Invalid`] refusal.
    invalid: Invalid,
    /// A [`Code::Exists`] refusal.
    exists: Exists,
    /// A [`Code::NotFound`] refusal.
    not_found: NotFound,
    /// A [`Code::Busy`] refusal.
    busy: Busy,
    /// A [`Code::Outside`] refusal.
    outside: Outside,
    /// A [`Code::Reserved`] refusal.
    reserved: Reserved,
    /// A [`Code::Exhausted`] refusal.
    exhausted: Exhausted,
    /// A [`Code::Overlap`] refusal.
    overlap: Overlap,
    /// A [`Code::Denied`] refusal.
    denied: Denied,
}

impl Rejection {
    /// A refusal of kind `code`.
    pub fn new(
        code: Code,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { code, field: field.to_owned(), message: message.into(), hint: hint.into() }
    }
}
