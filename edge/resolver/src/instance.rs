//! One resolver per node, and how the next one takes over from it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::Client;
use crate::config::Config;

/// How long the old resolver may take to leave before it is killed.
const LEAVE: Duration = Duration::from_secs(3);

/// The lock that makes this process the node's resolver. It ends with the process.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// What stands in the way of being the resolver.
#[derive(Debug)]
pub(crate) enum Instance {
    /// Nothing.
    Ours(Lock),
    /// A resolver of another version, or one that does not answer.
    Other(Predecessor),
    /// A resolver of the same version.
    Same,
}

/// A resolver that is to be replaced.
#[derive(Debug)]
pub(crate) struct Predecessor {
    file: File,
    client: Client,
}

/// Looks who is there.
///
/// # Errors
/// If the lock file cannot be opened or locked.
pub(crate) fn look(config: &Config) -> io::Result<Instance> {
    std::fs::create_dir_all(&config.state)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(lock_path(config))?;
    match file.try_lock() {
        Ok(()) => return Ok(Instance::Ours(Lock::mark(file)?)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let client = Client::new(config.state.clone(), config.control.clone());
    Ok(match client.ping() {
        Ok(version) if version == config.version => Instance::Same,
        _ => Instance::Other(Predecessor { file, client }),
    })
}

fn lock_path(config: &Config) -> PathBuf {
    config.state.join("resolver.lock")
}

impl Predecessor {
    /// Tells it to stop, and waits; kills it if it does not leave.
    ///
    /// # Errors
    /// If the lock cannot be had even so.
    pub(crate) fn replace(mut self) -> io::Result<Lock> {
        let told = self.client.stop();
        tracing::info!(?told, "replacing the resolver that runs");
        let asked = Instant::now();
        let mut killed = false;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Lock::mark(self.file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if asked.elapsed() > LEAVE && !killed {
                killed = true;
                self.kill()?;
            }
            if asked.elapsed() > 2 * LEAVE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its number is the one it wrote into the file when it got the lock, and it holds the lock
    /// still: nobody else can have the number meanwhile.
    fn kill(&mut self) -> io::Result<()> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        let number: i32 = text.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        if number > 1 {
            tracing::warn!(number, "the resolver that runs does not stop: killing it");
            kill(Pid::from_raw(number), Signal::SIGKILL)?;
        }
        Ok(())
    }
}

impl Lock {
    fn mark(mut file: File) -> io::Result<Self> {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }

    /// Lets the next resolver in.
    pub(crate) fn release(self) -> io::Result<()> {
        self.0.unlock()
    }
}
