//! A lab with a daemon on every host.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_lab::{Container, Host, Lab, LabConfig, Process};

use crate::{Ran, run};

/// What a test's cluster is to be like.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Virtual hosts.
    pub hosts: usize,
    /// The hosts have IPv6 addresses only.
    pub ipv6_underlay: bool,
    /// Octets of the largest packet on the underlay.
    pub mtu: u32,
    /// What the hosts take for `/etc/resolv.conf`.
    pub resolv_conf: Option<String>,
    /// What the daemons have in their environment beside the lab's.
    pub environment: Vec<(&'static str, &'static str)>,
    /// `WEFT_SHORTCUT` by host; who is not named has what the test's own environment says, or the default.
    pub shortcut: Vec<(&'static str, &'static str)>,
    /// What the daemon of a host has in its environment, and nobody else's. Called before the daemon starts:
    /// what the variables name can be made there.
    pub of_host: fn(&Host) -> Vec<(&'static str, PathBuf)>,
}

impl Default for Topology {
    fn default() -> Self {
        // No servers to ask of names that are not ours: they fail at once.
        let resolv_conf = Some("# none\n".to_owned());
        Self {
            hosts: 2,
            ipv6_underlay: false,
            mtu: 1500,
            resolv_conf,
            environment: Vec::new(),
            shortcut: Vec::new(),
            of_host: |_| Vec::new(),
        }
    }
}

/// A lab with a daemon on every host. The first, `a`, is the server.
#[derive(Debug)]
pub struct Cluster {
    lab: Lab,
    environment: Vec<(&'static str, &'static str)>,
    of_host: fn(&Host) -> Vec<(&'static str, PathBuf)>,
    shortcut: Mutex<BTreeMap<String, &'static str>>,
    daemons: Mutex<BTreeMap<String, Process>>,
}

/// The program under test: `$WEFT_BIN`, or `weft` where cargo puts what it builds.
pub fn weft_binary() -> PathBuf {
    let path = std::env::var_os("WEFT_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no weft at {}: build it first (`cargo build -p weft`), or say where it is with WEFT_BIN",
        path.display()
    );
    path
}

/// A test's program lies in `target/PROFILE/deps`.
fn built() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let profile = own.ancestors().find(|p| p.join("deps").is_dir());
    profile.map(|p| p.join("weft")).unwrap_or_default()
}

/// Polls until `fulfilled` says so; panics after `limit`. Returns how long it took.
#[track_caller]
pub fn until(limit: Duration, what: &str, fulfilled: impl FnMut() -> bool) -> Duration {
    within(limit, fulfilled).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// Polls until `fulfilled` says so; `None` when it did not within `limit`, else how long it took.
pub fn within(limit: Duration, mut fulfilled: impl FnMut() -> bool) -> Option<Duration> {
    let begin = Instant::now();
    while !fulfilled() {
        if begin.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(begin.elapsed())
}

/// A container that was attached.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Its namespace.
    pub container: Container,
    /// What it is called.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its endpoints, as `weft attach -o json` tells of them.
    pub endpoints: Vec<Value>,
}

impl Attached {
    /// Its addresses, of all endpoints.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let all =
            self.endpoints.iter().flat_map(|e| e["addresses"].as_array().into_iter().flatten());
        all.filter_map(|a| a.as_str()?.parse().ok()).collect()
    }

    /// Its first IPv4 address.
    #[track_caller]
    pub fn v4(&self) -> IpAddr {
        self.addresses()
            .into_iter()
            .find(IpAddr::is_ipv4)
            .unwrap_or_else(|| panic!("no IPv4: {self:?}"))
    }

    /// Its first IPv6 address.
    #[track_caller]
    pub fn v6(&self) -> IpAddr {
        self.addresses()
            .into_iter()
            .find(IpAddr::is_ipv6)
            .unwrap_or_else(|| panic!("no IPv6: {self:?}"))
    }

    /// The MAC of its first endpoint.
    #[track_caller]
    pub fn mac(&self) -> [u8; 6] {
        let text = self.endpoints[0]["mac"].as_str().unwrap_or_default();
        let octets: Vec<u8> =
            text.split(':').filter_map(|o| u8::from_str_radix(o, 16).ok()).collect();
        octets.try_into().unwrap_or_else(|_| panic!("no MAC: {text}"))
    }

    /// Its first endpoint's interface on the host.
    pub fn host_end(&self) -> String {
        let id = self.endpoints[0]["id"].as_str().unwrap_or_default();
        format!("we-{}", id.get(..12).unwrap_or_default())
    }

    /// Runs words inside.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ran {
        let command = self.container.command(words[0]);
        let mut command = command.unwrap_or_else(|e| panic!("cannot enter {}: {e}", self.name));
        command.args(&words[1..]);
        run(command)
    }

    /// One echo request, answered within two seconds?
    pub fn pings(&self, target: &str) -> bool {
        self.run(&["ping", "-n", "-c1", "-W2", target]).is_ok()
    }

    /// One echo request; panics when it is not answered.
    #[track_caller]
    pub fn ping(&self, target: &str) {
        let ran = self.run(&["ping", "-n", "-c1", "-W2", target]);
        assert!(
            ran.is_ok(),
            "{} does not reach {target}:\n{}{}",
            self.name,
            ran.stdout,
            ran.stderr
        );
    }

    /// What DNS answers: `dig +short NAME TYPE`, sorted lines.
    #[track_caller]
    pub fn dig(&self, name: &str, kind: &str) -> Vec<String> {
        let words = ["dig", "+short", "+tries=2", "+time=1", name, kind];
        let mut lines: Vec<String> = self.run(&words).ok().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

impl Cluster {
    /// A cluster of `hosts` hosts with the default underlay. `name` must be unique among the tests.
    #[track_caller]
    pub fn up(name: &str, hosts: usize) -> Self {
        Self::with(name, Topology { hosts, ..Topology::default() })
    }

    /// A cluster, all hosts joined and connected.
    #[track_caller]
    pub fn with(name: &str, topology: Topology) -> Self {
        let cluster = Self::daemons_only(name, topology);
        let joining = cluster.init();
        for host in cluster.hosts().iter().skip(1) {
            cluster.join(&host.name, &joining);
        }
        cluster.wait_until_connected();
        cluster
    }

    /// Daemons that are in no cluster yet.
    #[track_caller]
    pub fn daemons_only(name: &str, topology: Topology) -> Self {
        weft_binary();
        let config = LabConfig {
            hosts: topology.hosts,
            ipv6_underlay: topology.ipv6_underlay,
            mtu: topology.mtu,
            resolv_conf: topology.resolv_conf,
            ..LabConfig::new(&format!("wt-{name}-{}", std::process::id()))
        };
        let lab = Lab::up(config).unwrap_or_else(|e| panic!("no lab: {e} {}", e.hint()));
        let shortcut =
            topology.shortcut.into_iter().map(|(host, setting)| (host.to_owned(), setting));
        let cluster = Self {
            lab,
            environment: topology.environment,
            of_host: topology.of_host,
            shortcut: Mutex::new(shortcut.collect()),
            daemons: Mutex::default(),
        };
        for host in cluster.hosts() {
            cluster.start_daemon(&host.name);
        }
        cluster
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Host] {
        self.lab.hosts()
    }

    /// The host of this name.
    #[track_caller]
    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Makes the cluster on `a`; gives `weft init -o json`.
    #[track_caller]
    pub fn init(&self) -> Value {
        self.json("a", &["init"])
    }

    /// Joins with what `init` or `token create` gave.
    #[track_caller]
    pub fn join(&self, host: &str, joining: &Value) {
        let text = |key: &str| joining[key].as_str().unwrap_or_default().to_owned();
        self.weft(host, &["join", &text("address"), "--token", &text("token")]).ok();
    }

    /// Waits until a server has all hosts connected.
    #[track_caller]
    pub fn wait_until_connected(&self) {
        until(Duration::from_secs(20), "all hosts connected", || {
            let status = self.weft("a", &["status", "-o", "json"]);
            let Ok(status) = serde_json::from_str::<Value>(&status.stdout) else { return false };
            let nodes = status["cluster"]["nodes"].as_array().cloned().unwrap_or_default();
            nodes.len() == self.hosts().len() && nodes.iter().all(|n| n["connected"] == true)
        });
    }

    /// Starts the daemon of a host, and waits until it answers.
    #[track_caller]
    pub fn start_daemon(&self, host: &str) {
        let command = self.lab.command(host, weft_binary());
        let mut command = command.unwrap_or_else(|e| panic!("{e}"));
        let log = self.host(host).directory.join("daemon.log");
        let open =
            || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(&log) };
        let (Ok(out), Ok(err)) = (open(), open()) else { panic!("cannot write {}", log.display()) };
        command.envs(self.environment.iter().copied());
        command.envs((self.of_host)(self.host(host)));
        command.envs(self.setting(host).map(|setting| ("WEFT_SHORTCUT", setting)));
        command.arg("daemon").stdin(Stdio::null()).stdout(out).stderr(err);
        let daemon = Process::spawn(command).unwrap_or_else(|e| panic!("no daemon: {e}"));
        self.with_daemons(|daemons| daemons.insert(host.to_owned(), daemon));
        until(Duration::from_secs(20), "the daemon answers", || {
            let ended =
                self.with_daemons(|d| d.get_mut(host).and_then(|p| p.wait(Duration::ZERO).ok()?));
            assert!(ended.is_none(), "the daemon of {host} ended ({ended:?}):\n{}", self.log(host));
            self.weft(host, &["status"]).is_ok()
        });
    }

    /// `kill -9` to the daemon of a host, and to nothing else of it.
    #[track_caller]
    pub fn kill_daemon(&self, host: &str) {
        let daemon = self.with_daemons(|daemons| daemons.remove(host));
        let mut daemon = daemon.unwrap_or_else(|| panic!("{host} has no daemon"));
        daemon.kill().unwrap_or_else(|e| panic!("cannot kill the daemon of {host}: {e}"));
    }

    /// Lets the daemon of a host end by itself.
    #[track_caller]
    pub fn stop_daemon(&self, host: &str) {
        let daemon = self.with_daemons(|daemons| daemons.remove(host));
        let mut daemon = daemon.unwrap_or_else(|| panic!("{host} has no daemon"));
        let told = daemon.signal(nix::sys::signal::Signal::SIGTERM);
        let ended = told.and_then(|()| daemon.wait(Duration::from_secs(10)));
        assert!(
            matches!(ended, Ok(Some(status)) if status.success()),
            "{ended:?}\n{}",
            self.log(host)
        );
    }

    /// What a host's `WEFT_SHORTCUT` is, if it was told.
    fn setting(&self, host: &str) -> Option<&'static str> {
        let settings = self.shortcut.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        settings.get(host).copied()
    }

    /// Stops the daemon of a host and starts it with this `WEFT_SHORTCUT`.
    #[track_caller]
    pub fn restart_with(&self, host: &str, setting: &'static str) {
        self.stop_daemon(host);
        let mut settings = self.shortcut.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        settings.insert(host.to_owned(), setting);
        drop(settings);
        self.start_daemon(host);
    }

    /// What a power cut does to a host: its containers go with it. The daemon is not started again.
    #[track_caller]
    pub fn power_cut(&self, host: &str, containers: &[&Attached]) {
        self.with_daemons(|daemons| daemons.remove(host));
        for attached in containers {
            let removed = self.lab.remove_container(&attached.container);
            removed.unwrap_or_else(|e| panic!("{e}"));
        }
        self.lab.reboot(host).unwrap_or_else(|e| panic!("{e}"));
    }

    fn with_daemons<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Process>) -> T) -> T {
        work(&mut self.daemons.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Runs words on a host.
    #[track_caller]
    pub fn on(&self, host: &str, words: &[&str]) -> Ran {
        let command = self.lab.command(host, words[0]);
        let mut command = command.unwrap_or_else(|e| panic!("{e}"));
        command.args(&words[1..]);
        run(command)
    }

    /// Runs `weft` on a host.
    #[track_caller]
    pub fn weft(&self, host: &str, words: &[&str]) -> Ran {
        let command = self.lab.command(host, weft_binary());
        let mut command = command.unwrap_or_else(|e| panic!("{e}"));
        command.args(words);
        run(command)
    }

    /// Runs `weft … -o json` on a host and reads what it prints.
    #[track_caller]
    pub fn json(&self, host: &str, words: &[&str]) -> Value {
        let text = self.weft(host, &[words, &["-o", "json"]].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("weft {words:?}: {e}\n{text}"))
    }

    /// Makes a network.
    #[track_caller]
    pub fn network(&self, name: &str, flags: &[&str]) -> Value {
        self.json("a", &[&["network", "create", name], flags].concat())
    }

    /// Makes a container on a host and attaches it to networks.
    #[track_caller]
    pub fn attach(&self, host: &str, name: &str, flags: &[&str]) -> Attached {
        let container = self.lab.container(name).unwrap_or_else(|e| panic!("{e}"));
        let answer = self.attach_to(host, &container, name, flags).ok();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        Attached {
            container,
            name: name.to_owned(),
            host: host.to_owned(),
            endpoints: answer["endpoints"].as_array().cloned().unwrap_or_default(),
        }
    }

    /// Attaches a container that is there.
    #[track_caller]
    pub fn attach_to(&self, host: &str, container: &Container, name: &str, flags: &[&str]) -> Ran {
        let netns = container.netns_file();
        let netns = netns.to_string_lossy();
        let words = [&["attach", "--name", name, "--netns", &netns, "-o", "json"], flags].concat();
        self.weft(host, &words)
    }

    /// Detaches a container from all its networks.
    #[track_caller]
    pub fn detach(&self, attached: &Attached) {
        let netns = attached.container.netns_file();
        self.weft(&attached.host, &["detach", "--netns", &netns.to_string_lossy()]).ok();
    }

    /// Everything the cluster's listings say, to be compared before and after. How far nodes are is
    /// left out: it moves with every change, also with one that is taken back.
    #[track_caller]
    pub fn listings(&self) -> Value {
        let all = ["network", "endpoint", "node", "token"];
        let mut listings: Value =
            all.iter().map(|noun| ((*noun).to_owned(), self.json("a", &[noun, "ls"]))).collect();
        for node in listings["node"].as_array_mut().into_iter().flatten() {
            for moving in ["wanted_generation", "applied_generation", "state"] {
                node[moving].take();
            }
        }
        listings
    }

    /// Waits until a node has applied everything it was told and the server has seen that.
    #[track_caller]
    pub fn settle(&self) {
        until(Duration::from_secs(10), "every host has applied everything", || {
            self.hosts().iter().all(|host| {
                let status = self.json(&host.name, &["status"]);
                status["wanted_generation"] == status["applied_generation"]
            })
        });
    }

    fn log(&self, host: &str) -> String {
        let text =
            fs::read_to_string(self.host(host).directory.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in self.hosts() {
                eprintln!("=== daemon of {} ===\n{}", host.name, self.log(&host.name));
            }
        }
    }
}
