//! One engine: started, stopped, killed, started again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::keeper::Keeper;
use super::{cgroup, socket};
use crate::{Error, Host, Lab, Process, process};

/// How long an engine has to notice that it was killed.
const A_MOMENT: Duration = Duration::from_secs(10);

/// A Docker engine on a virtual host. Dropping it ends it and all its containers.
///
/// If this process is killed first, they end as well; the lab's next comer clears away the rest.
#[derive(Debug)]
pub struct Engine {
    // Dropped first: `nsenter` has nobody to wait for then.
    keeper: Keeper,
    /// `nsenter`, the parent of `dockerd`.
    dockerd: Mutex<Option<Process>>,
    host: Host,
    flags: Vec<String>,
}

impl Engine {
    /// Starts `dockerd` on a host of `lab`, with these flags beside those that keep it apart from others.
    /// It will answer in a while: see [`Engine::wait_until_it_answers`].
    ///
    /// # Errors
    /// When there is no such host, or the system refuses.
    pub fn start(lab: &Lab, host: &str, flags: &[&str]) -> Result<Self, Error> {
        let host = lab.host(host)?.clone();
        let made = log_file(&host).and_then(|log| Keeper::start(&host, log));
        let keeper = made.map_err(|error| {
            let what = format!("make room for an engine on {}", host.name);
            Error::system(what)(io::Error::other(format!("{error}\n{}", last_lines(&host, 5))))
        })?;
        let flags = flags.iter().map(|&f| f.to_owned()).collect();
        let engine = Self { keeper, dockerd: Mutex::default(), host, flags };
        engine.start_again()?;
        Ok(engine)
    }

    /// Starts `dockerd` once more, on the data that it left. One that runs goes on running.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start_again(&self) -> Result<(), Error> {
        let mut dockerd = self.lock();
        let runs = |p: &mut Process| matches!(p.wait(Duration::ZERO), Ok(None));
        if dockerd.as_mut().is_some_and(runs) {
            return Ok(());
        }
        let spawned = self.dockerd_command().and_then(Process::spawn);
        *dockerd = Some(spawned.map_err(self.failed("start"))?);
        Ok(())
    }

    fn dockerd_command(&self) -> io::Result<Command> {
        let log = log_file(&self.host)?;
        let mut command = self.host.command("nsenter")?;
        command.args(["--target", &self.keeper.first().to_string(), "--mount", "--pid"]);
        command.args([
            "dockerd",
            "--data-root",
            "/run/docker-data",
            "--pidfile",
            "/run/docker.pid",
        ]);
        command.args(["--host", "unix:///run/api/docker.sock", "--storage-driver", "vfs"]);
        command.arg("--cgroup-parent").arg(format!("/{}", cgroup::name(&self.host)));
        command.args(&self.flags);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// Polls until it answers.
    ///
    /// # Errors
    /// When it ended, or does not answer within `limit`.
    pub fn wait_until_it_answers(&self, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        while !self.answers() {
            self.ensure_it_runs()?;
            if Instant::now() >= deadline {
                return Err(self.failed("reach")(io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether it answers now (`GET /_ping` of Docker's API), within a second.
    pub fn answers(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let mut stream = UnixStream::connect(socket(&self.host))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok(status.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }

    /// # Errors
    /// When it ended, with what it said last.
    pub fn ensure_it_runs(&self) -> Result<(), Error> {
        let mut dockerd = self.lock();
        match dockerd.as_mut().map(|p| p.wait(Duration::ZERO)) {
            Some(Ok(None)) => Ok(()),
            ended => {
                let said = io::Error::other(format!("it ended ({ended:?}):\n{}", self.log(5)));
                Err(self.failed("reach")(said))
            }
        }
    }

    /// Lets it end by itself (SIGTERM), with its containers unless it leaves those running.
    ///
    /// # Errors
    /// When it does not within `limit`, or not well.
    pub fn stop(&self, limit: Duration) -> Result<(), Error> {
        match self.end(Signal::SIGTERM, limit) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failed("stop")(io::Error::other(status.to_string()))),
            Err(error) => Err(self.failed("stop")(error)),
        }
    }

    /// `kill -9` to `dockerd` alone: its containers run on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<(), Error> {
        self.end(Signal::SIGKILL, A_MOMENT).map_err(self.failed("kill"))?;
        Ok(())
    }

    /// Sends `dockerd` a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or(io::ErrorKind::NotFound.into());
        pid.and_then(|pid| Ok(kill(Pid::from_raw(pid), signal)?)).map_err(self.failed("signal"))
    }

    fn end(&self, signal: Signal, limit: Duration) -> io::Result<ExitStatus> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("it does not run"))?;
        kill(Pid::from_raw(pid), signal)?;
        let mut dockerd = self.lock();
        let parent = dockerd.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let status = parent.wait(limit)?.ok_or(io::ErrorKind::TimedOut)?;
        *dockerd = None;
        Ok(status)
    }

    /// The process of `dockerd` itself, as seen from here.
    pub fn pid(&self) -> Option<u32> {
        let parent = self.lock().as_ref()?.id();
        let on_host = process::inside(&self.host.netns_file());
        on_host.into_iter().find(|pid| process::parent(*pid) == Some(parent))
    }

    /// Its files, seen from outside. A path in there must not lead through an absolute link.
    pub fn root(&self) -> PathBuf {
        self.keeper.root()
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// `docker` against this engine, with nothing of whoever runs it: neither their settings nor where
    /// their engine is.
    pub fn client(&self) -> Command {
        let mut command = Command::new("docker");
        for variable in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION", "DOCKER_TLS_VERIFY"]
        {
            command.env_remove(variable);
        }
        command.env("DOCKER_CONFIG", "/nonexistent").stdin(Stdio::null());
        command.arg("--host").arg(format!("unix://{}", socket(&self.host).display()));
        command
    }

    /// The last `lines` lines that it said.
    pub fn log(&self, lines: usize) -> String {
        last_lines(&self.host, lines)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.dockerd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::system(format!("{action} the Docker engine of host {}", self.host.name))
    }
}

fn log_path(host: &Host) -> PathBuf {
    host.directory.join("dockerd.log")
}

fn log_file(host: &Host) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log_path(host))
}

fn last_lines(host: &Host, lines: usize) -> String {
    let text = fs::read_to_string(log_path(host)).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
