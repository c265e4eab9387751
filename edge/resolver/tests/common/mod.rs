//! A host with bridges, containers on them, a resolver and a server for it to ask: each in a
//! network namespace of its own, gone when the test is.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at surprises")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use weft_dns::{Asker, NameTable, NetworkNames, Record};
use weft_resolver::{Client, Stats};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub const WEB: &str = "wb-570001";
pub const VAULT: &str = "wb-570002";

/// Runs a command; panics with its output if it fails.
#[track_caller]
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}\n{text}{error}", output.status);
    text
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn record(name: &str, addresses: &[&str]) -> Record {
    Record {
        names: vec![name.to_owned()],
        addresses: addresses.iter().map(|address| ip(address)).collect(),
    }
}

/// Runs something in a namespace, on a thread of its own.
pub fn inside<T: Send + 'static>(
    netns: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let file = File::open(Path::new("/run/netns").join(netns)).unwrap();
    thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// The whole stage.
pub struct World {
    pub host: String,
    names: Vec<String>,
    pub directory: tempfile::TempDir,
    resolver: Option<Child>,
    pub client: Client,
    pub table: NameTable,
}

impl World {
    /// A host with the bridges `web` (10.3.0.1/16, fd00:3::1/64) and `vault` (internal, the same
    /// IPv4 subnet), and an empty table.
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let host = format!("wt-dns-{}-{number}", std::process::id());
        sh(&format!("ip netns add {host} && ip -n {host} link set lo up"));
        let directory = tempfile::tempdir().unwrap();
        let client = Client::new(directory.path().join("state"), directory.path().join("control"));
        std::fs::write(directory.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let mut world = Self {
            names: vec![host.clone()],
            host,
            directory,
            resolver: None,
            client,
            table: NameTable::default(),
        };
        world.add_bridge(WEB, &["10.3.0.1/16", "fd00:3::1/64"]);
        world.add_bridge(VAULT, &["10.3.0.1/16"]);
        world.add_network("web", WEB, &["10.3.0.1", "fd00:3::1"], false);
        world.add_network("vault", VAULT, &["10.3.0.1"], true);
        world
    }

    pub fn add_bridge(&self, bridge: &str, addresses: &[&str]) {
        let host = &self.host;
        sh(&format!(
            "ip -n {host} link add {bridge} type bridge && ip -n {host} link set {bridge} up"
        ));
        for address in addresses {
            sh(&format!(
                "ip -n {host} address add {address} dev {bridge} nodad 2>/dev/null || \
                 ip -n {host} address add {address} dev {bridge}"
            ));
        }
    }

    fn add_network(&mut self, name: &str, bridge: &str, gateways: &[&str], internal: bool) {
        let network = NetworkNames {
            bridge: bridge.to_owned(),
            gateways: gateways.iter().map(|gateway| ip(gateway)).collect(),
            subnets: vec!["10.3.0.0/16".parse().unwrap()],
            internal,
            records: Vec::new(),
        };
        self.table.networks.insert(name.to_owned(), Arc::new(network));
    }

    /// Adds a record to a network's names.
    pub fn add(&mut self, network: &str, record: Record) {
        let network = self.table.networks.get_mut(network).unwrap();
        Arc::make_mut(network).records.push(record);
        self.table.generation += 1;
    }

    /// A container on a network, with these addresses, asking and (as `name`) asked for. Returns
    /// its namespace.
    pub fn container(&mut self, name: &str, network: &str, addresses: &[&str]) -> String {
        let netns = self.plug(name, network, addresses);
        let bridge = self.table.networks[network].bridge.clone();
        let forward = !self.table.networks[network].internal;
        let plain: Vec<&str> =
            addresses.iter().map(|address| address.split('/').next().unwrap()).collect();
        self.add(network, record(name, &plain));
        self.table.askers.push(Asker {
            bridge,
            addresses: plain.iter().map(|address| ip(address)).collect(),
            networks: vec![network.to_owned()],
            forward,
            inner: None,
        });
        netns
    }

    /// The same, known to nobody.
    pub fn plug(&mut self, name: &str, network: &str, addresses: &[&str]) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let netns = format!("{}-{name}", self.host);
        let (host, bridge) = (&self.host, &self.table.networks[network].bridge);
        sh(&format!(
            "ip netns add {netns} && ip -n {netns} link set lo up && \
             ip -n {host} link add we-{number} type veth peer name eth0 netns {netns} && \
             ip -n {host} link set we-{number} master {bridge} up && \
             ip -n {netns} link set eth0 up"
        ));
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            sh(&format!("ip -n {netns} address add {address} dev eth0 {nodad}"));
        }
        self.names.push(netns.clone());
        netns
    }

    /// Hands the table over.
    #[track_caller]
    pub fn push(&mut self) {
        let generation = self.client.push(&self.table).unwrap();
        assert_eq!(generation, self.table.generation);
    }

    pub fn arguments(&self, version: &str) -> Vec<String> {
        let path = |name: &str| self.directory.path().join(name).to_str().unwrap().to_owned();
        vec![path("state"), path("control"), path("resolv.conf"), version.to_owned()]
    }

    /// Starts a resolver of this version in the host's namespace, and waits for it.
    #[track_caller]
    pub fn start(&mut self, version: &str) {
        let child = self.launch(version);
        self.resolver = Some(child);
        self.wait_for(version);
    }

    pub fn launch(&self, version: &str) -> Child {
        let path = self.directory.path().join("log");
        let log = File::options().append(true).create(true).open(path).unwrap();
        Command::new("ip")
            .args(["netns", "exec", &self.host])
            .arg(program())
            .args(self.arguments(version))
            .stderr(log)
            .spawn()
            .unwrap()
    }

    #[track_caller]
    pub fn wait_for(&self, version: &str) {
        let start = Instant::now();
        loop {
            match self.client.ping() {
                Ok(running) if running == version => return,
                other => assert!(start.elapsed() < Duration::from_secs(5), "{other:?}"),
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The resolver that `start` started.
    pub fn resolver(&mut self) -> &mut Child {
        self.resolver.as_mut().unwrap()
    }

    pub fn kill(&mut self) {
        let mut child = self.resolver.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn stats(&self) -> Stats {
        self.client.stats().unwrap()
    }

    pub fn count(&self, name: &str) -> u64 {
        self.stats().counters[name]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{:?}", self.client.stats());
        }
        if let Some(mut child) = self.resolver.take() {
            child.kill().ok();
            child.wait().ok();
        }
        self.client.stop().ok();
        for name in &self.names {
            Command::new("ip").args(["netns", "delete", name]).status().ok();
        }
        if thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("log"));
            eprintln!("the resolver's log: {log:?}");
        }
    }
}

/// The resolver as a program.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/resolver");
    assert!(program.exists(), "build it first: cargo build -p weft-resolver --example resolver");
    program
}

/// Asks with dig from a namespace; the words as on its command line.
#[track_caller]
pub fn dig(netns: &str, words: &str) -> String {
    sh(&format!("ip netns exec {netns} dig +tries=1 +time=2 {words}"))
}

/// Only the data of the answers, sorted.
#[track_caller]
pub fn short(netns: &str, words: &str) -> Vec<String> {
    let text = dig(netns, &format!("+short {words}"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The status word of the reply, and how many answers there were.
#[track_caller]
pub fn status(netns: &str, words: &str) -> (String, u32) {
    let text = dig(netns, words);
    let after = |mark: &str| text.split(mark).nth(1).unwrap_or_else(|| panic!("{text}")).to_owned();
    let word = after("status: ").split(',').next().unwrap().to_owned();
    (word, after("ANSWER: ").split(',').next().unwrap().parse().unwrap())
}

/// A query for an A record, as octets.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// A server that answers every A query with 192.0.2.80, and remembers what it was asked.
#[derive(Clone, Default)]
pub struct Upstream {
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Upstream {
    /// Runs in a namespace until the process ends.
    pub fn run(netns: &str, address: &str) -> Self {
        let server = Self::default();
        let address: SocketAddr = address.parse().unwrap();
        let (ready, wait) = std::sync::mpsc::channel();
        let (udp, tcp, told) = (server.clone(), server.clone(), ready.clone());
        inside(netns, move || {
            let socket = UdpSocket::bind(address).unwrap();
            told.send(()).unwrap();
            let mut buffer = [0; 2_048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&udp.answer(&buffer[..length]), from).unwrap();
            }
        });
        inside(netns, move || {
            let listener = TcpListener::bind(address).unwrap();
            ready.send(()).unwrap();
            for mut stream in listener.incoming().flatten() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                let reply = tcp.answer(&query);
                stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        });
        wait.recv().unwrap();
        wait.recv().unwrap();
        server
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 5;
        let name: String =
            query[13..end - 5].iter().map(|&b| if b < 32 { '.' } else { b as char }).collect();
        *self.asked.lock().unwrap().entry(name).or_default() += 1;
        let mut reply = query[..end].to_vec();
        reply[2] |= 0x80;
        reply[3] = 0x80;
        reply[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 80]);
        reply
    }

    /// The names it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().keys().cloned().collect()
    }
}
