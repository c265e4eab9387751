//! What a network costs a container at its start, and when its name is answered elsewhere: real Docker
//! engines on two hosts, joined as a swarm and as a Weft cluster, every network in turn in each round.
//!
//! ```text
//!      a: dockerd, weft                        b: dockerd, weft
//!      docker run --network X …  ── name ──▶   a container on X asks 127.0.0.11, again and again
//! ```

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use weft_lab::Host;
use weft_lab::docker::{self, Engine};
use weft_tests::{Cluster, Topology};

use crate::report::{Reach, Report};

const ROUNDS: usize = 15;

/// The image: busybox and nothing else.
const IMAGE: &str = "weft-bench-busybox";

/// How long a name may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network to start containers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    None,
    Bridge,
    Weft,
    Overlay,
}

const NETWORKS: [Network; 4] = [Network::None, Network::Bridge, Network::Weft, Network::Overlay];

impl Network {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bridge => "local",
            Self::Weft => "web",
            Self::Overlay => "over",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bridge => "Docker's bridge",
            Self::Weft => "Weft",
            Self::Overlay => "Docker's overlay",
        }
    }

    const fn spans_hosts(self) -> bool {
        matches!(self, Self::Weft | Self::Overlay)
    }
}

/// What one round told of one network, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Told {
    network: Network,
    start: f64,
    name: Option<f64>,
}

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::up()?;
    let mut told = Vec::new();
    // The first one of each brings the network onto the host, and does not count.
    for round in 0..=ROUNDS {
        for turn in 0..NETWORKS.len() {
            let network = NETWORKS[(round + turn) % NETWORKS.len()];
            let one = ground.start(network, round)?;
            if round > 0 {
                told.push(one);
            }
        }
    }
    let of = |network| told.iter().filter(move |t| t.network == network);
    let starts = |network| of(network).map(|t| t.start).collect::<Vec<f64>>();
    let above = |network| {
        let pairs = starts(network).into_iter().zip(starts(Network::None));
        pairs.map(|(start, none)| start - none).collect::<Vec<f64>>()
    };
    report.add("docker run --network none", "ms", starts(Network::None), None);
    for network in [Network::Bridge, Network::Weft, Network::Overlay] {
        let name = format!("docker run on {}, above none", network.words());
        report.add(name, "ms", above(network), None);
    }
    let ratio = median(&above(Network::Weft)) / median(&above(Network::Overlay));
    let name = "docker run above none, Weft of Docker's overlay (medians)";
    report.add(name, "", vec![ratio], Reach::median(0.5));
    for network in [Network::Weft, Network::Overlay] {
        let name = format!("name on the other host after docker run returned, {}", network.words());
        report.add(name, "ms", of(network).filter_map(|t| t.name).collect(), None);
    }
    Ok(())
}

fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Two hosts with engines, in a swarm and in a cluster.
struct Ground {
    // The engines end before the hosts that they run on.
    a: Engine,
    _b: Engine,
    /// Where names are asked for: a socket in a container of `b`'s on each network that spans hosts.
    askers: Vec<(Network, UdpSocket)>,
    _cluster: Cluster,
}

impl Ground {
    fn up() -> anyhow::Result<Self> {
        let topology = Topology { hosts: 2, of_host: environment, ..Topology::default() };
        let cluster = Cluster::daemons_only("bench-start", topology);
        let joining = cluster.init();
        cluster.join("b", &joining);
        cluster.wait_until_connected();
        let tar = docker::image(&docker::directory(cluster.host("a")))?;
        let engine = |host: &str| -> anyhow::Result<Engine> {
            let engine = Engine::start(cluster.lab(), host, &["--userland-proxy=false"])?;
            engine.wait_until_it_answers(Duration::from_secs(60))?;
            run(&engine, &["import", &tar.to_string_lossy(), IMAGE])?;
            Ok(engine)
        };
        let (a, b) = (engine("a")?, engine("b")?);
        join_swarm(&cluster, &a, &b)?;
        run(&a, &["network", "create", "--driver", "bridge", Network::Bridge.name()])?;
        for engine in [&a, &b] {
            let create = ["network", "create", "-d", "weft", "--ipam-driver", "weft"];
            run(engine, &[&create[..], &["--subnet", "10.3.0.0/24", "web"]].concat())?;
        }
        let asker = |network: Network| Ok((network, asker(&b, network)?));
        let askers: anyhow::Result<Vec<_>> =
            NETWORKS.into_iter().filter(|n| n.spans_hosts()).map(asker).collect();
        Ok(Self { a, _b: b, askers: askers?, _cluster: cluster })
    }

    fn start(&self, network: Network, round: usize) -> anyhow::Result<Told> {
        let name = format!("{}-{round}", network.name());
        let words = ["run", "--detach", "--name", &name, "--network", network.name(), IMAGE];
        let begun = Instant::now();
        run(&self.a, &[&words[..], &["/bin/busybox", "sleep", "1000"]].concat())?;
        let start = begun.elapsed();
        let asker = self.askers.iter().find(|(of, _)| *of == network);
        let asked = asker.map(|(_, socket)| time_to_name(socket, &name)).transpose()?;
        run(&self.a, &["rm", "--force", &name])?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Told { network, start: ms(start), name: asked.map(ms) })
    }
}

fn environment(host: &Host) -> Vec<(&'static str, PathBuf)> {
    // A lack of directories is found when the engine starts.
    let _ = docker::make_directories(host);
    vec![
        ("WEFT_DOCKER_PLUGIN", docker::plugins(host).join("weft.sock")),
        ("WEFT_DOCKER_SOCKET", docker::socket(host)),
        ("WEFT_DOCKER_ROOT", docker::root(host)),
        // Docker's VXLAN devices are on 4789, with other flags.
        ("WEFT_VXLAN_PORT", "4790".into()),
    ]
}

fn join_swarm(cluster: &Cluster, a: &Engine, b: &Engine) -> anyhow::Result<()> {
    let address = |host: &str| cluster.host(host).address.to_string();
    run(a, &["swarm", "init", "--advertise-addr", &address("a")])?;
    let token = run(a, &["swarm", "join-token", "-q", "worker"])?;
    let server = format!("{}:2377", address("a"));
    run(b, &["swarm", "join", "--token", &token, "--advertise-addr", &address("b"), &server])?;
    let create = ["network", "create", "--driver", "overlay", "--attachable"];
    run(a, &[&create[..], &["--subnet", "10.9.0.0/24", Network::Overlay.name()]].concat())?;
    Ok(())
}

/// Runs `docker` against an engine; gives what it prints, trimmed.
fn run(engine: &Engine, words: &[&str]) -> anyhow::Result<String> {
    let output = engine.client().args(words).output().context("run docker")?;
    let error = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "docker {}: {}", words.join(" "), error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A socket in a container of its own on the network, to Docker's resolver.
fn asker(engine: &Engine, network: Network) -> anyhow::Result<UdpSocket> {
    let name = format!("asker-{}", network.name());
    let words = ["run", "--detach", "--name", &name, "--network", network.name(), IMAGE];
    run(engine, &[&words[..], &["/bin/busybox", "sleep", "100000"]].concat())?;
    let key = run(engine, &["inspect", "--format", "{{.NetworkSettings.SandboxKey}}", &name])?;
    let file = Path::new(&key).file_name().context("the container has no namespace")?;
    // The key begins with /var/run, a link that would lead out of the engine's own files.
    let netns = engine.root().join("run/docker/netns").join(file);
    let opened = std::thread::spawn(move || -> anyhow::Result<UdpSocket> {
        setns(std::fs::File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(("127.0.0.11", 53))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(socket)
    });
    opened.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread in the container broke")))
}

/// How long until the name has an address; zero would be: at the first question.
fn time_to_name(socket: &UdpSocket, name: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for id in 0_u16.. {
        if has_address(socket, id, name) {
            return Ok(begun.elapsed());
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{name} is not answered");
        std::thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("{name} is not answered")
}

/// One question for an A record (RFC 1035 section 4.1), and whether its answer has any.
fn has_address(socket: &UdpSocket, id: u16, name: &str) -> bool {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.push(u8::try_from(name.len()).unwrap_or_default());
    query.extend(name.as_bytes());
    query.extend([0, 0, 1, 0, 1]);
    if socket.send(&query).is_err() {
        return false;
    }
    let mut reply = [0; 512];
    while let Ok(length) = socket.recv(&mut reply) {
        // What comes late is the answer to another question.
        if length >= 12 && reply[..2] == query[..2] {
            return reply[3] & 0x0f == 0 && (reply[6], reply[7]) != (0, 0);
        }
    }
    false
}
