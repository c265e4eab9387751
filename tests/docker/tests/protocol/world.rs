//! One engine's world: the daemon it talks to, and a model of what was answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_lab::Host;
use weft_tests::{Cluster, Topology, within};

use crate::call::{Broken, Caller, Told};
use crate::engine::Engine;

/// How long the listing may take to say what was answered.
const LISTED: Duration = Duration::from_secs(2);

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// It was promised for this endpoint, which is not made yet.
    Promised(String),
    /// The endpoint is there.
    Endpoint(String),
}

/// Addresses by network of Weft's: who was told to have which.
pub(crate) type Held = Mutex<BTreeMap<(String, IpAddr), Holder>>;

/// A host with an engine.
pub(crate) struct World<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) host: &'a str,
    pub(crate) caller: Caller,
    pub(crate) engine: Engine,
    /// Shared by all hosts: no address is held on two.
    held: &'a Held,
    /// Counts the daemon's comings and goings; odd while it is not to be relied on.
    epoch: AtomicU64,
    listings: AtomicU64,
}

/// Where the daemon of a host looks for an engine.
fn environment(host: &Host) -> Vec<(&'static str, PathBuf)> {
    let root = host.directory.join("no-root");
    std::fs::create_dir_all(&root).unwrap();
    vec![
        ("WEFT_DOCKER_PLUGIN", plugin(host)),
        ("WEFT_DOCKER_SOCKET", host.directory.join("engine.sock")),
        ("WEFT_DOCKER_ROOT", root),
    ]
}

fn plugin(host: &Host) -> PathBuf {
    host.directory.join("plugins/weft.sock")
}

/// A cluster whose daemons serve engines.
#[track_caller]
pub(crate) fn cluster(story: &str, hosts: usize) -> Cluster {
    let topology = Topology { hosts, of_host: environment, ..Topology::default() };
    Cluster::with(&format!("protocol-{story}"), topology)
}

impl<'a> World<'a> {
    #[track_caller]
    pub(crate) fn new(cluster: &'a Cluster, host: &'a str, held: &'a Held) -> Self {
        let at = cluster.host(host);
        let engine = Engine::listen(&at.directory.join("engine.sock"));
        let world = Self {
            cluster,
            host,
            caller: Caller::new(plugin(at)),
            engine,
            held,
            epoch: AtomicU64::new(0),
            listings: AtomicU64::new(0),
        };
        weft_tests::until(Duration::from_secs(20), "the daemon follows the engine", || {
            world.engine.listeners() > 0
        });
        world
    }

    pub(crate) fn held(&self) -> MutexGuard<'a, BTreeMap<(String, IpAddr), Holder>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Whether the daemon has been the same, and to be relied on, since this epoch.
    pub(crate) fn steady(&self, since: u64) -> bool {
        since.is_multiple_of(2) && self.epoch() == since
    }

    /// One call. When the connection breaks, it is repeated as an engine does it, which must be refused.
    pub(crate) fn call(&self, method: &str, body: &Value) -> Result<Told, Broken> {
        let before = self.epoch();
        let told = self.caller.call(method, format!("{body}\n").as_bytes());
        if told.is_err() {
            assert!(!self.steady(before), "the daemon hung up during {method} {body}");
            self.wait_until_steady();
            if let Ok(told) = self.caller.call(method, b"") {
                assert!(
                    matches!(told, Told::Refused(_)),
                    "an empty {method} is answered: {told:?}"
                );
            }
        }
        told
    }

    /// The same again has the same answer.
    pub(crate) fn call_twice(&self, method: &str, body: &Value) -> Result<Told, Broken> {
        let first = self.call(method, body)?;
        let epoch = self.epoch();
        let second = self.call(method, body)?;
        if self.steady(epoch) || matches!(first, Told::Fine(_)) {
            assert_eq!(first, second, "{method} {body} was answered differently the second time");
        }
        Ok(second)
    }

    pub(crate) fn wait_until_steady(&self) {
        let back = within(Duration::from_secs(60), || self.epoch().is_multiple_of(2));
        assert!(back.is_some(), "the daemon does not come back");
    }

    /// `kill -9` to the daemon, whatever it is doing, and a new one.
    pub(crate) fn kill(&self) {
        {
            // What was promised is forgotten; endpoints are not.
            let mut held = self.held();
            self.epoch.fetch_add(1, Ordering::SeqCst);
            held.retain(|_, holder| matches!(holder, Holder::Endpoint(_)));
        }
        self.cluster.kill_daemon(self.host);
        self.cluster.start_daemon(self.host);
        self.cluster.wait_until_connected();
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The process of the daemon.
    pub(crate) fn daemon(&self) -> u32 {
        let is_daemon = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"daemon")
        };
        let all = self.cluster.lab().processes(self.host);
        all.into_iter().find(is_daemon).unwrap_or_else(|| panic!("there is no daemon"))
    }

    /// What the cluster's listing says of an endpoint.
    fn listed(&self, id: &str) -> Option<Option<Value>> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        let ran = self.cluster.weft(self.host, &["endpoint", "ls", "-o", "json"]);
        let all: Value = serde_json::from_str(&ran.stdout).ok().filter(|_| ran.is_ok())?;
        Some(all.as_array().into_iter().flatten().find(|e| e["id"] == id).cloned())
    }

    /// What was joined is listed, with its addresses; what was deleted is not.
    pub(crate) fn check_listed(&self, id: &str, addresses: Option<&[IpAddr]>) {
        let mut wanted = addresses.map(<[IpAddr]>::to_vec);
        wanted.iter_mut().for_each(|w| w.sort());
        let epoch = self.epoch();
        let mut last = None;
        let agrees = within(LISTED, || {
            let Some(found) = self.listed(id) else { return false };
            let addresses = found.as_ref().map(|endpoint| {
                let all = endpoint["addresses"].as_array().into_iter().flatten();
                let mut all: Vec<IpAddr> = all.filter_map(|a| a.as_str()?.parse().ok()).collect();
                all.sort();
                all
            });
            let agrees = addresses == wanted;
            last = found;
            agrees
        });
        let sure = self.steady(epoch);
        assert!(agrees.is_some() || !sure, "endpoint {id} should be {wanted:?}, is {last:?}");
    }

    pub(crate) fn listings(&self) -> u64 {
        self.listings.load(Ordering::Relaxed)
    }

    /// Nothing of any endpoint is left, neither in the cluster nor in the kernel.
    #[track_caller]
    pub(crate) fn check_empty(&self) {
        let begin = Instant::now();
        let mut left = String::new();
        let empty = within(LISTED, || {
            let listed = self.cluster.json(self.host, &["endpoint", "ls"]);
            let links = self.cluster.on(self.host, &["ip", "-br", "link"]).ok();
            let ours = |line: &&str| line.starts_with("we-") || line.starts_with("wd-");
            let links: Vec<&str> = links.lines().filter(ours).collect();
            left = format!("{listed} {links:?}");
            listed.as_array().is_some_and(Vec::is_empty) && links.is_empty()
        });
        assert!(empty.is_some(), "after {:?} there is still {left}", begin.elapsed());
    }
}

/// Open files and KiB in memory of a process.
pub(crate) fn weight(pid: u32) -> (usize, u64) {
    let open = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
    (open.unwrap().count(), resident.unwrap())
}
