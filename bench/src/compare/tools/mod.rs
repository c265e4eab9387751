//! Well-kept tools, run inside namespaces and pinned to cores, and what they print.

pub(crate) mod ab;
pub(crate) mod iperf;
pub(crate) mod nginx;
pub(crate) mod redis;
pub(crate) mod sockperf;

use std::fs::File;
use std::io::{Read, Seek};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;
use weft_lab::Process;

use super::interrupt;

/// How long a tool may take to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a path: a namespace, and the address it has there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) netns: PathBuf,
    pub(crate) address: IpAddr,
}

/// Two ends, and the way between them that is measured.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) client: Place,
    pub(crate) server: Place,
}

/// What shows that a server listens (`proc(5)`, /proc/PID/net).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Listens {
    Tcp(u16),
    Udp(u16),
}

/// A tool that runs. It is killed when this is dropped, and when this process dies.
#[derive(Debug)]
pub(crate) struct Tool {
    process: Process,
    stdout: File,
    stderr: File,
    name: String,
}

impl Tool {
    /// Starts a tool at a place, on one core only.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(place: &Place, core: u8, words: &[&str]) -> anyhow::Result<Self> {
        let name = words.join(" ");
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let entered = weft_lab::enter(&place.netns, None, "setpriv");
        let mut command =
            entered.with_context(|| format!("cannot enter {}", place.netns.display()))?;
        let core = core.to_string();
        command.args(["--pdeathsig", "KILL", "taskset", "-c", &core]).args(words);
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let process = Process::spawn(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { process, stdout, stderr, name })
    }

    /// Starts a server at a place and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, or does not listen in time.
    pub(crate) fn serve(
        place: &Place,
        core: u8,
        words: &[&str],
        listens: Listens,
    ) -> anyhow::Result<Self> {
        let mut server = Self::start(place, core, words)?;
        let deadline = Instant::now() + PATIENCE;
        while !listening(server.process.id(), listens) {
            interrupt::check()?;
            if let Some(status) = server.process.wait(Duration::ZERO)? {
                anyhow::bail!(server.failed(status));
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not listen", server.name);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Runs a tool to its end; gives what it printed.
    ///
    /// # Errors
    /// When it fails, with what it complained about, or does not end.
    pub(crate) fn run(place: &Place, core: u8, words: &[&str]) -> anyhow::Result<String> {
        Self::start(place, core, words)?.finish()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal).with_context(|| format!("{} is gone", self.name))
    }

    /// Waits until it ends; gives what it printed.
    ///
    /// # Errors
    /// When it fails, with what it complained about, or does not end.
    pub(crate) fn finish(mut self) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            interrupt::check()?;
            if let Some(status) = self.process.wait(Duration::from_millis(200))? {
                break status;
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not end", self.name);
        };
        if !status.success() {
            anyhow::bail!(self.failed(status));
        }
        read(&mut self.stdout)
    }

    /// How it ended, with the last lines of all it printed.
    fn failed(&mut self, status: ExitStatus) -> String {
        let text = [read(&mut self.stdout), read(&mut self.stderr)];
        let text: String = text.into_iter().map(Result::unwrap_or_default).collect();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(5)..].join(" | ");
        format!("{} failed ({status}): {last}", self.name)
    }
}

fn read(file: &mut File) -> anyhow::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether there is a listening socket on the port where process `pid` lives.
fn listening(pid: u32, listens: Listens) -> bool {
    // States as the kernel numbers them (net/tcp_states.h): 0A is LISTEN, 07 an unconnected UDP socket.
    let (files, port, state) = match listens {
        Listens::Tcp(port) => (["tcp", "tcp6"], port, "0A"),
        Listens::Udp(port) => (["udp", "udp6"], port, "07"),
    };
    let end = format!(":{port:04X}");
    files.iter().any(|file| {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().is_some_and(|local| local.ends_with(&end));
            local && fields.nth(1) == Some(state)
        })
    })
}

/// The number behind the first `label`, up to what is none.
///
/// # Errors
/// When there is no such label, or no number behind it.
fn number_after(text: &str, label: &str) -> anyhow::Result<f64> {
    let (_, rest) = text.split_once(label).with_context(|| format!("no '{label}' was printed"))?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
    rest[..end].parse().with_context(|| format!("no number behind '{label}'"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_number_ends_where_it_ends() {
        assert_eq!(number_after("x =  34.110\ny = 2", "x =").unwrap(), 34.11);
        assert_eq!(number_after("RunTime=0.550 sec;", "RunTime=").unwrap(), 0.55);
        assert_eq!(number_after("n=7", "n=").unwrap(), 7.0);
        let wrong = |text, label| format!("{:#}", number_after(text, label).unwrap_err());
        assert!(wrong("n=7", "m=").contains("no 'm=' was printed"));
        assert!(wrong("n=x", "n=").contains("no number behind 'n='"));
    }

    #[test]
    fn who_listens_is_seen_and_who_does_not_is_not() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (tcp_port, udp_port) =
            (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let me = std::process::id();
        assert!(listening(me, Listens::Tcp(tcp_port)));
        assert!(listening(me, Listens::Udp(udp_port)));
        drop((tcp, udp));
        assert!(!listening(me, Listens::Tcp(tcp_port)));
        assert!(!listening(me, Listens::Udp(udp_port)));
    }
}
