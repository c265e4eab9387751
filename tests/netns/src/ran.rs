//! Commands that are run to their end.

use std::process::{Command, Output, Stdio};

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status; `None`: ended by a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Whether it ended with 0.
    pub fn is_ok(&self) -> bool {
        self.code == Some(0)
    }

    /// What it printed; panics when it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.is_ok(), "failed with {:?}:\n{}{}", self.code, self.stdout, self.stderr);
        self.stdout
    }

    /// What it complained about; panics when it did not fail with this status.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(mut command: Command) -> Ran {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => output.into(),
        Err(error) => panic!("cannot run {command:?}: {error}"),
    }
}
