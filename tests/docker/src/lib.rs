//! Weft with real Docker engines: a [`Cluster`] with an engine on every host.
//!
//! ```text
//!          a                                  b
//!  ┌──────────────────────────┐      ┌──────────────────────────┐
//!  │ weft daemon              │      │ weft daemon              │
//!  │   ▲ WEFT_DOCKER_PLUGIN   │      │   ▲                      │
//!  │   │ WEFT_DOCKER_SOCKET   │      │   │                      │
//!  │   ▼                      │      │   ▼                      │
//!  │ dockerd ── containers    ├──────┤ dockerd ── containers    │
//!  └──────────────────────────┘      └──────────────────────────┘
//! ```
//!
//! Each engine has one image, [`IMAGE`], and addresses of its own for bridges: 172.20.0.0/16 on `a`,
//! 172.21.0.0/16 on `b`… Everything panics when it cannot do its work: this is for tests, and needs root.

mod said;
mod slot;
mod upstream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use weft_lab::docker::{self, Engine};
use weft_lab::{Host, Lab};
use weft_tests::{Cluster, Ran, Topology};

pub use said::Said;
pub use upstream::OUTSIDE;
pub use weft_tests::{until as wait_until, within};

use slot::Slot;

/// Busybox with all its names. A container that is told nothing serves its host name at TCP port 80, and ends
/// at once when it is told to.
pub const IMAGE: &str = "box";

/// How long a `docker` command may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long Weft may take to notice what Docker did.
const A_MOMENT: Duration = Duration::from_secs(10);

/// How long an engine may take to start or to end: on this many seconds it is broken, not slow.
const ENGINE_LIMIT: Duration = Duration::from_secs(60);

/// What a story's engines are to be like.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Virtual hosts, each with an engine.
    pub hosts: usize,
    /// Containers run on while their engine is stopped (`dockerd --live-restore`).
    pub live_restore: bool,
    /// There is a name server outside, which the hosts and engines ask: it knows `example.com`.
    pub upstream: bool,
    /// More flags for `dockerd`.
    pub flags: Vec<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { hosts: 2, live_restore: false, upstream: false, flags: Vec::new() }
    }
}

/// A cluster with a Docker engine on every host.
#[derive(Debug)]
pub struct Engines {
    // The engines end before the hosts that they run on, and the place is free when all is gone.
    engines: BTreeMap<String, Engine>,
    cluster: Cluster,
    _slot: Slot,
}

impl Engines {
    /// A cluster of `hosts` hosts with engines. `story` must be unique among the tests.
    #[track_caller]
    pub fn up(story: &str, hosts: usize) -> Self {
        Self::with(story, Setup { hosts, ..Setup::default() })
    }

    /// A cluster, all hosts joined and connected, all engines answering.
    #[track_caller]
    pub fn with(story: &str, setup: Setup) -> Self {
        let slot = Slot::take();
        let mut topology =
            Topology { hosts: setup.hosts, of_host: environment, ..Topology::default() };
        if setup.upstream {
            topology.resolv_conf = Some(upstream::RESOLV_CONF.to_owned());
        }
        let cluster = Cluster::daemons_only(&format!("docker-{story}"), topology);
        if setup.upstream {
            upstream::begin(&cluster.lab().underlay());
        }
        let start = |host: &Host| (host.name.clone(), start(cluster.lab(), host, &setup));
        // They come up while the cluster does.
        let engines = cluster.hosts().iter().map(start).collect();
        let story = Self { engines, cluster, _slot: slot };
        let joining = story.cluster.init();
        for host in story.cluster.hosts().iter().skip(1) {
            story.cluster.join(&host.name, &joining);
        }
        story.cluster.wait_until_connected();
        story.import();
        story
    }

    /// Gives all engines the image.
    #[track_caller]
    fn import(&self) {
        let directory = docker::directory(self.cluster.host("a"));
        let image = docker::image(&directory).unwrap_or_else(|e| panic!("{e}"));
        let image = image.to_string_lossy();
        for engine in self.engines.values() {
            wait_for(engine);
            let words = ["import", "--change", r#"CMD ["serve"]"#, &image, IMAGE];
            Said::by(engine, DEADLINE, &words).ok();
        }
    }

    /// The cluster below the engines.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The engine of a host, to be stopped, killed and started again; see also [`Engines::restart`].
    #[track_caller]
    pub fn engine(&self, host: &str) -> &Engine {
        self.engines.get(host).unwrap_or_else(|| panic!("there is no host {host}"))
    }

    /// Lets the engine of a host end by itself.
    #[track_caller]
    pub fn stop(&self, host: &str) {
        self.engine(host).stop(ENGINE_LIMIT).unwrap_or_else(|e| panic!("{e}"));
    }

    /// `kill -9` to the engine of a host: its containers run on.
    #[track_caller]
    pub fn kill(&self, host: &str) {
        self.engine(host).kill().unwrap_or_else(|e| panic!("{e}"));
    }

    /// Starts an engine that was stopped or killed, and waits until it answers.
    #[track_caller]
    pub fn start(&self, host: &str) {
        let engine = self.engine(host);
        engine.start_again().unwrap_or_else(|e| panic!("{e}"));
        wait_for(engine);
    }

    /// Lets the engine of a host end by itself, and starts it again.
    #[track_caller]
    pub fn restart(&self, host: &str) {
        self.stop(host);
        self.start(host);
    }

    /// Runs `docker ARGS` against the engine of a host; panics when that takes longer than [`DEADLINE`].
    #[track_caller]
    pub fn docker(&self, host: &str, args: &[&str]) -> Said {
        self.docker_within(host, DEADLINE, args)
    }

    /// The same with another deadline.
    #[track_caller]
    pub fn docker_within(&self, host: &str, limit: Duration, args: &[&str]) -> Said {
        Said::by(self.engine(host), limit, args)
    }

    /// What `docker inspect --format` tells of a container or network.
    #[track_caller]
    pub fn inspect(&self, host: &str, object: &str, format: &str) -> String {
        self.docker(host, &["inspect", "--format", format, object]).ok()
    }

    /// Starts a container of [`IMAGE`] that stays: `docker run --detach --name NAME FLAGS box`.
    #[track_caller]
    pub fn run(&self, host: &str, name: &str, flags: &[&str]) -> String {
        self.docker(host, &[&["run", "--detach", "--name", name], flags, &[IMAGE]].concat()).ok()
    }

    /// Runs words in a container that runs.
    #[track_caller]
    pub fn exec(&self, host: &str, name: &str, words: &[&str]) -> Said {
        self.docker(host, &[&["exec", name], words].concat())
    }

    /// One echo request from inside a container, answered within two seconds?
    #[track_caller]
    pub fn pings(&self, host: &str, name: &str, target: &str) -> bool {
        self.exec(host, name, &["ping", "-c1", "-W2", target]).is_ok()
    }

    /// The addresses that a container finds for a name, both families, as they come; nothing when it does
    /// not.
    #[track_caller]
    pub fn nslookup(&self, host: &str, name: &str, asked: &str) -> Vec<String> {
        found(&self.exec(host, name, &["nslookup", asked]).ran.stdout)
    }

    /// The IPv4 address that Docker shows for a container on a network.
    #[track_caller]
    pub fn address(&self, host: &str, name: &str, network: &str) -> String {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        self.inspect(host, name, &format)
    }

    /// What is served at a place (`http://172.10.0.15:8080`), asked from a host itself.
    #[track_caller]
    pub fn fetch(&self, host: &str, url: &str) -> Ran {
        self.cluster.on(host, &["curl", "--silent", "--show-error", "--max-time", "5", url])
    }

    /// The network namespace of a container that runs.
    #[track_caller]
    pub fn netns(&self, host: &str, name: &str) -> PathBuf {
        let key = self.inspect(host, name, "{{.NetworkSettings.SandboxKey}}");
        let file = Path::new(&key).file_name().unwrap_or_else(|| panic!("{name} has no namespace"));
        // The key begins with /var/run, a link that would lead out of the engine's own files.
        self.engine(host).root().join("run/docker/netns").join(file)
    }

    /// Makes a Docker network of Weft's on a host: `docker network create -d weft --ipam-driver weft FLAGS NAME`.
    #[track_caller]
    pub fn network(&self, host: &str, name: &str, flags: &[&str]) -> Said {
        let create = ["network", "create", "--driver", "weft", "--ipam-driver", "weft"];
        self.docker(host, &[&create[..], flags, &[name]].concat())
    }

    /// The endpoints of this name in `weft endpoint ls -o json`, as the server tells.
    #[track_caller]
    pub fn endpoints(&self, name: &str) -> Vec<Value> {
        let all = self.cluster.json("a", &["endpoint", "ls"]);
        all.as_array().into_iter().flatten().filter(|e| e["name"] == name).cloned().collect()
    }

    /// Waits until Weft knows exactly one endpoint of this name, and gives it. Names reach Weft a moment after
    /// `docker run` returns.
    #[track_caller]
    pub fn endpoint(&self, name: &str) -> Value {
        wait_until(A_MOMENT, &format!("Weft knows {name}"), || self.endpoints(name).len() == 1);
        self.endpoints(name).remove(0)
    }

    /// Waits until Weft knows no endpoint of this name any more.
    #[track_caller]
    pub fn gone(&self, name: &str) {
        wait_until(A_MOMENT, &format!("Weft has let go of {name}"), || {
            self.endpoints(name).is_empty()
        });
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (host, engine) in &self.engines {
                eprintln!("=== engine of {host} ===\n{}", engine.log(40));
            }
        }
    }
}

/// Where the daemon of a host finds the engine of that host.
fn environment(host: &Host) -> Vec<(&'static str, PathBuf)> {
    docker::make_directories(host)
        .unwrap_or_else(|e| panic!("no directories on {}: {e}", host.name));
    vec![
        ("WEFT_DOCKER_PLUGIN", docker::plugins(host).join("weft.sock")),
        ("WEFT_DOCKER_SOCKET", docker::socket(host)),
        ("WEFT_DOCKER_ROOT", docker::root(host)),
    ]
}

/// The addresses in what busybox's `nslookup` printed: what comes after the server's own.
pub fn found(printed: &str) -> Vec<String> {
    let lines = printed.trim_start().lines().skip_while(|line| !line.trim().is_empty());
    let address = |line: &str| Some(line.strip_prefix("Address:")?.trim().to_owned());
    lines.filter_map(address).collect()
}

#[track_caller]
fn start(lab: &Lab, host: &Host, setup: &Setup) -> Engine {
    let number = u32::from(host.name.as_bytes()[0] - b'a');
    let pool = format!("--default-address-pool=base=172.{}.0.0/16,size=24", 20 + number);
    let mut flags = vec!["--bridge=none", "--userland-proxy=false", "--log-level=warn", &pool];
    if setup.live_restore {
        flags.push("--live-restore");
    }
    flags.extend(&setup.flags);
    Engine::start(lab, &host.name, &flags).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn wait_for(engine: &Engine) {
    engine.wait_until_it_answers(ENGINE_LIMIT).unwrap_or_else(|e| panic!("{e}"));
}
