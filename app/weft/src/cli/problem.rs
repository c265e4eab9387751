//! Why a command failed, in the form people see: what was wrong with which word, and what to do.

use std::io::Write;

use tonic::Status;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The word of the command line that was wrong; empty when none was.
    field: String,
    message: String,
    /// What a person can do; empty when there is nothing to say.
    hint: String,
}

impl Problem {
    /// A problem in one line.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { field: String::new(), message: message.into(), hint: String::new() }
    }

    /// Names the word that was wrong.
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Tells the person.
    pub(crate) fn print(&self) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "{self}");
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("error: ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let weft_rpc::error::Told { field, message, hint, .. } = weft_rpc::error::told(&status);
        Self { field, message, hint }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_sentence_with_its_word_and_its_hint() {
        let bare = Problem::new("it broke");
        assert_eq!(bare.to_string(), "error: it broke");
        let whole = bare.at("--ip").hint("choose another");
        assert_eq!(whole.to_string(), "error: --ip: it broke\nhint: choose another");
    }
}
