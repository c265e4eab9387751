//! The agent's side: hands over tables, and sees to it that the resolver runs.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weft_dns::NameTable;

use crate::process::Stats;
use crate::store::{StoreError, Writer};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Talks to the resolver of this node. All calls block, for milliseconds as a rule and 5 s at
/// most.
#[derive(Debug)]
pub struct Client {
    control: PathBuf,
    writer: Writer,
}

/// Why the resolver did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the control socket.
    #[error(
        "the resolver does not run or does not answer at {path}: {error}: the agent starts it again"
    )]
    Silent {
        /// The control socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The table could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The resolver says that something is wrong.
    #[error("the resolver says: {0}")]
    Refused(String),
}

impl Client {
    /// A client for the resolver with this state directory and control socket. It does nothing
    /// yet.
    pub fn new(state: PathBuf, control: PathBuf) -> Self {
        Self { control, writer: Writer::new(state) }
    }

    /// Stores a table and has the resolver take it up; returns the generation it answers with.
    /// The first call writes the whole table, later ones what differs.
    ///
    /// # Errors
    /// [`ClientError::Silent`] says that the table is stored, and that no resolver took it up: the
    /// next one to start will. After the others, the next call writes the whole table.
    pub fn push(&mut self, table: &NameTable) -> Result<u64, ClientError> {
        self.writer.write(table)?;
        let reloaded = self.command("reload");
        if matches!(reloaded, Err(ClientError::Refused(_))) {
            self.writer.forget();
        }
        let generation = reloaded?;
        generation.parse().map_err(|_| ClientError::Refused(format!("generation '{generation}'")))
    }

    /// Has the resolver look again at its bridges (and names): to be called when bridges were
    /// made, so that nothing waits for its next look.
    ///
    /// # Errors
    /// If it does not answer, or cannot read its names.
    pub fn look(&self) -> Result<(), ClientError> {
        self.command("reload").map(drop)
    }

    /// The version of the resolver that runs.
    ///
    /// # Errors
    /// If none answers.
    pub fn ping(&self) -> Result<String, ClientError> {
        self.command("version")
    }

    /// What it has done, and where it answers.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn stats(&self) -> Result<Stats, ClientError> {
        let text = self.command("stats")?;
        serde_json::from_str(&text).map_err(|error| ClientError::Refused(error.to_string()))
    }

    /// Ends it. Containers are without names until another runs.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn stop(&self) -> Result<(), ClientError> {
        self.command("stop").map(drop)
    }

    /// Sees to it that a resolver of this version runs: leaves one that does alone, else starts
    /// the program with these arguments (see [`spawn`]), which replaces one of another version,
    /// and waits until it answers.
    ///
    /// # Errors
    /// If the program cannot be started, or does not answer within 5 s; its log says why.
    pub fn ensure(
        &self,
        version: &str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Result<(), ClientError> {
        if self.ping().is_ok_and(|running| running == version) {
            return Ok(());
        }
        let start = Instant::now();
        spawn(program, arguments, log).map_err(|error| self.silent(error))?;
        loop {
            match self.ping() {
                Ok(running) if running == version => return Ok(()),
                Ok(_) if start.elapsed() < PATIENCE => {}
                Err(_) if start.elapsed() < PATIENCE => {}
                Ok(running) => {
                    return Err(ClientError::Refused(format!("version {running} is still here")));
                }
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns when the resolver has ended, so that it can be started again at once.
    ///
    /// # Errors
    /// If none answers in the first place.
    pub fn wait_until_gone(&self) -> Result<(), ClientError> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(None).map_err(|error| self.silent(error))?;
        // It never speaks first: whatever read returns, the other end is gone.
        let _gone = stream.read(&mut [0]);
        Ok(())
    }

    fn command(&self, command: &str) -> Result<String, ClientError> {
        let talk = |stream: UnixStream| -> io::Result<String> {
            (&stream).write_all(format!("{command}\n").as_bytes())?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        let line = talk(self.connect()?).map_err(|error| self.silent(error))?;
        match line.trim_end().split_once(' ') {
            Some(("ok", rest)) => Ok(rest.to_owned()),
            None if line.trim_end() == "ok" => Ok(String::new()),
            Some(("error", why)) => Err(ClientError::Refused(why.to_owned())),
            _ => Err(ClientError::Refused(line)),
        }
    }

    fn connect(&self) -> Result<UnixStream, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(&self.control)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        connect().map_err(|error| self.silent(error))
    }

    fn silent(&self, error: io::Error) -> ClientError {
        ClientError::Silent { path: self.control.clone(), error }
    }
}

/// Starts a program so that it outlives this process: in a session of its own, with the log as its
/// output, in `/`. Returns its process number.
///
/// # Errors
/// If the log cannot be opened or the program not started.
pub fn spawn(program: &Path, arguments: &[String], log: &Path) -> io::Result<u32> {
    let mut options = OpenOptions::new();
    let log = options.append(true).create(true).mode(0o600).open(log)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?));
    }
    let mut child = command.spawn()?;
    let number = child.id();
    // Collects its exit status, should it end before this process does.
    std::thread::Builder::new().name("resolver-child".to_owned()).spawn(move || child.wait())?;
    Ok(number)
}
