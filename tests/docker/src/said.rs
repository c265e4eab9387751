//! What came of a `docker` command.

use std::process::Command;
use std::time::{Duration, Instant};

use weft_lab::docker::Engine;
use weft_tests::Ran;

/// With what `timeout(1)` ends when the time is over.
const TIME_IS_OVER: i32 = 124;

/// What came of a `docker` command.
#[derive(Debug)]
pub struct Said {
    /// Exit status and what was printed.
    pub ran: Ran,
    /// How long it took.
    pub took: Duration,
    words: String,
}

impl Said {
    /// Runs `docker WORDS` against an engine; panics when it does not end within `limit`.
    #[track_caller]
    pub(crate) fn by(engine: &Engine, limit: Duration, words: &[&str]) -> Self {
        let client = engine.client();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit.as_secs_f64().to_string()]);
        command.arg(client.get_program()).args(client.get_args()).args(words);
        for (name, value) in client.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let (begin, words) = (Instant::now(), format!("docker {}", words.join(" ")));
        let ran = weft_tests::run(command);
        let took = begin.elapsed();
        let over = ran.code == Some(TIME_IS_OVER) && took >= limit;
        assert!(!over, "not within {limit:?}: {words}\n{}{}", ran.stdout, ran.stderr);
        Self { ran, took, words }
    }

    /// Whether it ended with 0.
    pub fn is_ok(&self) -> bool {
        self.ran.is_ok()
    }

    /// What it printed, trimmed; panics when it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        let Ran { code, stdout, stderr } = &self.ran;
        assert!(self.is_ok(), "{} failed with {code:?}:\n{stdout}{stderr}", self.words);
        stdout.trim().to_owned()
    }

    /// What it complained about, trimmed; panics when it did not fail.
    #[track_caller]
    pub fn fails(self) -> String {
        let Ran { stdout, stderr, .. } = &self.ran;
        assert!(!self.is_ok(), "{} did not fail:\n{stdout}{stderr}", self.words);
        stderr.trim().to_owned()
    }
}
