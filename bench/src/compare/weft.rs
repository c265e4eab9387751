//! Weft on two virtual hosts: its daemons, how they are set, its containers.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use serde_json::Value;
use weft_lab::{Host, Lab, Process};

use super::hosts::{prepare, said, wait};
use super::tools::Place;
use super::variants::Shortcut;
use super::way;

/// What the network is called.
const NETWORK: &str = "web";

/// A cluster of two hosts.
#[derive(Debug)]
pub(crate) struct Weft {
    program: PathBuf,
    /// UDP port of VXLAN.
    port: u16,
    shortcut: Shortcut,
    /// The first one's daemon is also the server.
    hosts: Vec<Host>,
    daemons: Vec<Process>,
    joining: Value,
}

/// The program: `$WEFT_BIN`, or the one that lies beside this program.
///
/// # Errors
/// When there is none.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let beside = || std::env::current_exe().unwrap_or_default().with_file_name("weft");
    let path = std::env::var_os("WEFT_BIN").map_or_else(beside, PathBuf::from);
    anyhow::ensure!(path.is_file(), "there is no weft at {}: build it first", path.display());
    Ok(path)
}

impl Weft {
    /// Starts daemons on the hosts of `lab`, and joins them.
    ///
    /// # Errors
    /// When Weft does not do as it should.
    pub(crate) fn up(lab: &Lab, port: u16, shortcut: Shortcut) -> anyhow::Result<Self> {
        let (hosts, daemons) = (lab.hosts().to_vec(), Vec::new());
        let joining = Value::Null;
        let mut weft = Self { program: program()?, port, shortcut, hosts, daemons, joining };
        weft.start()?;
        let [first, others @ ..] = weft.hosts.as_slice() else { anyhow::bail!("no hosts") };
        let joining = weft.json(first, &["init"])?;
        for host in others {
            weft.join(host, &joining)?;
        }
        weft.joining = joining;
        weft.settle()?;
        Ok(weft)
    }

    /// Starts the daemons, and waits until they answer.
    ///
    /// # Errors
    /// When they do not.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        for host in &self.hosts {
            let daemon = self.daemon(host)?;
            self.daemons.push(daemon);
        }
        self.hosts.iter().try_for_each(|host| self.wait_until_it_answers(host))
    }

    /// Starts the daemon of a host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn daemon(&self, host: &Host) -> anyhow::Result<Process> {
        let log = host.directory.join("daemon.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = host.command("setpriv")?;
        command.args(["--pdeathsig", "KILL"]).arg(&self.program).arg("daemon");
        command.env("WEFT_VXLAN_PORT", self.port.to_string());
        command.env("WEFT_DATA_ADDRESS", host.address.to_string());
        command.env("WEFT_SHORTCUT", self.shortcut.word());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Process::spawn(command).context("cannot start the daemon")
    }

    /// # Errors
    /// When the daemon of a host does not answer.
    pub(crate) fn wait_until_it_answers(&self, host: &Host) -> anyhow::Result<()> {
        wait(Duration::from_secs(60), &format!("the daemon of {} answers", host.name), || {
            Ok(self.weft(host, &["status"]).is_ok())
        })
    }

    /// Joins another host, whose daemon answers.
    ///
    /// # Errors
    /// When Weft refuses.
    pub(crate) fn join_guest(&self, host: &Host) -> anyhow::Result<()> {
        self.join(host, &self.joining)
    }

    fn join(&self, host: &Host, joining: &Value) -> anyhow::Result<()> {
        let word = |key: &str| joining[key].as_str().with_context(|| format!("init: no {key}"));
        self.weft(host, &["join", word("address")?, "--token", word("token")?])?;
        Ok(())
    }

    /// How the daemons are set.
    pub(crate) fn shortcut(&self) -> Shortcut {
        self.shortcut
    }

    /// Host `a`, or `b`.
    ///
    /// # Errors
    /// When there is no such host.
    pub(crate) fn host(&self, name: &str) -> anyhow::Result<&Host> {
        self.hosts.iter().find(|h| h.name == name).with_context(|| format!("no host {name}"))
    }

    /// Sets the daemons otherwise: both are started anew. What they made stays, so that containers
    /// notice nothing but the way their packets go.
    ///
    /// # Errors
    /// When they do not come back.
    pub(crate) fn set(&mut self, shortcut: Shortcut) -> anyhow::Result<()> {
        if self.shortcut == shortcut {
            return Ok(());
        }
        self.stop()?;
        self.shortcut = shortcut;
        self.start()?;
        self.settle()
    }

    /// Lets the daemons end.
    ///
    /// # Errors
    /// When they cannot be told to.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        for daemon in &self.daemons {
            daemon.signal(Signal::SIGTERM)?;
        }
        for mut daemon in self.daemons.drain(..) {
            if daemon.wait(Duration::from_secs(10))?.is_none() {
                daemon.kill()?;
            }
        }
        Ok(())
    }

    /// Waits until all daemons have applied everything, and are on the way they were set to.
    ///
    /// # Errors
    /// When they are not in time, or tell of faults.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        wait(Duration::from_secs(180), "all hosts have applied everything", || {
            for host in &self.hosts {
                let status = self.json(host, &["status"])?;
                let applied = &status["applied_generation"];
                if status["connected"] != true
                    || status["wanted_generation"] != *applied
                    || !way::settled(&status, self.shortcut)?
                {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        for host in &self.hosts {
            let status = self.json(host, &["status"])?;
            let faults = status["faults"].as_array().cloned().unwrap_or_default();
            let name = &host.name;
            anyhow::ensure!(faults.is_empty(), "faults on {name}: {}", Value::from(faults));
        }
        Ok(())
    }

    /// Makes a container of this name and attaches it on a host.
    ///
    /// # Errors
    /// When Weft refuses.
    pub(crate) fn attach(&self, lab: &Lab, host: &Host, name: &str) -> anyhow::Result<Place> {
        let container = lab.container(name)?;
        let netns = container.netns_file();
        let path = netns.to_string_lossy();
        let words = ["attach", "--network", NETWORK, "--name", name, "--netns", &path];
        let attached = self.json(host, &[&words[..], &["--wait", "10s"]].concat())?;
        let address = attached["endpoints"][0]["addresses"][0].as_str();
        let address = address.context("the attachment has no address")?.parse()?;
        prepare(&netns)?;
        Ok(Place { netns, address })
    }

    /// Makes the network that containers are attached to; gives what Weft tells of it.
    ///
    /// # Errors
    /// When Weft refuses.
    pub(crate) fn network(&self, subnet: &str) -> anyhow::Result<Value> {
        self.json(self.host("a")?, &["network", "create", NETWORK, "--subnet", subnet])
    }

    /// Runs `weft` on a host; gives what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn weft(&self, host: &Host, words: &[&str]) -> anyhow::Result<String> {
        let output = host.command(&self.program)?.args(words).stdin(Stdio::null()).output()?;
        said(&format!("weft {}", words.join(" ")), &output)
    }

    /// Runs `weft … -o json` on a host and reads what it prints.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub(crate) fn json(&self, host: &Host, words: &[&str]) -> anyhow::Result<Value> {
        let text = self.weft(host, &[words, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("weft {}: {text}", words.join(" ")))
    }

    /// Lets the daemons stand still, or go on. Containers' packets do not need them.
    ///
    /// # Errors
    /// When one is gone.
    pub(crate) fn pause(&self, pause: bool) -> anyhow::Result<()> {
        let signal = if pause { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.daemons.iter().try_for_each(|daemon| daemon.signal(signal)).context("a daemon is gone")
    }
}
