//! A host, a container with a fake resolver of Docker's, and a third party on one network.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weft_kernel::Fault;
use weft_linux::{Divert, Diverted, divert};

use crate::common::{Container, nft, run};

/// How long a server's thread sleeps between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long an answer may take; nothing here leaves the machine.
const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Udp,
    Tcp,
}

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub fn wish() -> Divert {
    Divert {
        gateway: ip("10.3.0.1"),
        own: ip("10.3.0.2"),
        from: vec![ip("10.3.0.1"), ip("10.3.0.254")],
        port: 7353,
    }
}

pub fn route_localnet() -> String {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet");
    text.unwrap().trim().to_owned()
}

/// The network, drawn at the top of the tests. The host is where the calling thread is.
pub struct Ground {
    pub container: Container,
    pub third: Container,
}

impl Ground {
    pub fn new(rules: DockerRules) -> Self {
        run("ip", "link add br0 type bridge");
        run("ip", "addr add 10.3.0.1/24 dev br0");
        run("ip", "addr add 10.3.0.254/32 dev br0");
        run("ip", "link set br0 up");
        let ground = Self { container: Container::new(), third: Container::new() };
        for (container, end, address) in
            [(&ground.container, "c0", "10.3.0.2"), (&ground.third, "t0", "10.3.0.3")]
        {
            // `/proc/PID/task/TID/ns/net`; a thread will do where `ip` takes a process.
            let task = container.path.iter().nth(4).unwrap().to_str().unwrap();
            run("ip", &format!("link add {end} type veth peer name eth0 netns {task}"));
            run("ip", &format!("link set {end} master br0 up"));
            container.cmd("ip", &format!("addr add {address}/24 dev eth0"));
            container.cmd("ip", "link set eth0 up");
        }
        ground.container.cmd("ip", "link set lo up");
        if rules == DockerRules::Legacy {
            // The namespace knows nothing of nftables until Weft comes.
            assert_eq!(ground.nft("list ruleset"), "");
        }
        ground
    }

    pub fn divert(&self) -> Result<Diverted, Fault> {
        divert(&self.container.path, &wish())
    }

    /// A command for `nft` in the container.
    pub fn nft(&self, command: &str) -> String {
        let command = command.to_owned();
        self.container.run(move || nft(&command))
    }

    /// Our table there; empty when there is none.
    pub fn table(&self) -> String {
        let tables = self.nft("list tables ip");
        let there = tables.lines().any(|line| line == "table ip weft");
        if there { self.nft("list table ip weft") } else { String::new() }
    }
}

/// Somebody who made a table of our name and lets nobody else change it, while he lives.
pub struct Owner(Child);

impl Owner {
    pub fn of_the_table(ground: &Ground) -> Self {
        let child = ground.container.run(|| {
            let mut nft = Command::new("nft");
            nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        });
        let mut owner = Self(child);
        let command = b"add table ip weft { flags owner; }\n";
        owner.0.stdin.as_mut().unwrap().write_all(command).unwrap();
        let start = Instant::now();
        while ground.table().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "nft made no table");
            std::thread::sleep(LOOK);
        }
        owner
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How Docker's engine writes its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DockerRules {
    Nft,
    Legacy,
}

impl DockerRules {
    /// As the engine does it: its address at port 53 leads to its sockets.
    fn write(self, container: &Container, udp: u16, tcp: u16) {
        match self {
            Self::Nft => {
                let rules = format!(
                    "table ip nat {{
                        chain OUTPUT {{ type nat hook output priority -100; ip daddr 127.0.0.11 jump DOCKER_OUTPUT; }}
                        chain POSTROUTING {{ type nat hook postrouting priority 100; ip daddr 127.0.0.11 jump DOCKER_POSTROUTING; }}
                        chain DOCKER_OUTPUT {{
                            ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:{tcp}
                            ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:{udp}
                        }}
                        chain DOCKER_POSTROUTING {{
                            ip saddr 127.0.0.11 tcp sport {tcp} snat to :53
                            ip saddr 127.0.0.11 udp sport {udp} snat to :53
                        }}
                    }}"
                );
                container.run(move || {
                    nft("add table ip nat; delete table ip nat");
                    nft(&rules);
                });
            }
            Self::Legacy => {
                for rule in [
                    "-F OUTPUT".to_owned(),
                    format!(
                        "-A OUTPUT -d 127.0.0.11 -p tcp --dport 53 -j DNAT --to 127.0.0.11:{tcp}"
                    ),
                    format!(
                        "-A OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to 127.0.0.11:{udp}"
                    ),
                    format!(
                        "-A POSTROUTING -s 127.0.0.11 -p tcp --sport {tcp} -j SNAT --to-source :53"
                    ),
                    format!(
                        "-A POSTROUTING -s 127.0.0.11 -p udp --sport {udp} -j SNAT --to-source :53"
                    ),
                ] {
                    container.cmd("iptables-legacy", &format!("-w 20 -t nat {rule}"));
                }
            }
        }
    }

    /// The engine's rules as they are.
    pub fn list(self, container: &Container) -> String {
        match self {
            Self::Nft => container.run(|| nft("list table ip nat")),
            Self::Legacy => container.cmd("iptables-legacy", "-w 20 -t nat -S"),
        }
    }
}

/// The resolver of Docker's engine: sockets, and rules that lead to them.
pub struct FakeDocker {
    pub udp: u16,
    pub tcp: u16,
    servers: Vec<Server>,
}

impl FakeDocker {
    pub fn start(container: &Container, rules: DockerRules) -> Self {
        let servers = container.run(|| {
            vec![Server::udp("docker", "127.0.0.11:0"), Server::tcp("docker", "127.0.0.11:0")]
        });
        let (udp, tcp) = (servers[0].port, servers[1].port);
        rules.write(container, udp, tcp);
        Self { udp, tcp, servers }
    }

    /// The engine ends; its rules stay.
    pub fn stop(self) {
        drop(self.servers);
    }
}

/// Weft's resolver at the gateway.
pub fn serve_host(name: &'static str) -> [Server; 2] {
    [Server::udp(name, "10.3.0.1:53"), Server::tcp(name, "10.3.0.1:53")]
}

/// Answers everybody with its own name and who is asking, in the namespace it was made in.
pub struct Server {
    pub port: u16,
    seen: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn udp(name: &'static str, at: &str) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        Self::new(port, move |seen| {
            let Ok((_, peer)) = socket.recv_from(&mut [0; 512]) else { return false };
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send_to(say(name, peer).as_bytes(), peer);
            true
        })
    }

    pub fn tcp(name: &'static str, at: &str) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::new(port, move |seen| {
            let Ok((mut stream, peer)) = listener.accept() else { return false };
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(say(name, peer).as_bytes());
            true
        })
    }

    fn new(port: u16, once: impl Fn(&AtomicUsize) -> bool + Send + 'static) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, counts) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                if !once(&counts) {
                    std::thread::sleep(LOOK);
                }
            }
        });
        Self { port, seen, stop, thread: Some(thread) }
    }

    /// Questions that came.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn say(name: &str, peer: SocketAddr) -> String {
    format!("{name} sees {}", peer.ip())
}

/// The answer, or why there is none.
pub fn ask(protocol: Protocol, to: &str) -> Result<String, String> {
    ask_from(protocol, "0.0.0.0", to)
}

/// The same, from one of the asker's addresses.
pub fn ask_from(protocol: Protocol, from: &str, to: &str) -> Result<String, String> {
    let answer = match protocol {
        Protocol::Udp => ask_udp(from, to),
        Protocol::Tcp => ask_tcp(from, to),
    };
    answer.map_err(|error| error.to_string())
}

fn ask_udp(from: &str, to: &str) -> std::io::Result<String> {
    let socket = UdpSocket::bind((from, 0))?;
    // Only an answer from the very address that was asked is taken.
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who?")?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn ask_tcp(from: &str, to: &str) -> std::io::Result<String> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd;
    // The standard library cannot say from which address.
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    let patience = nix::sys::time::TimeVal::new(0, PATIENCE.subsec_micros().into());
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(ip(from), 0)))?;
    let to: std::net::SocketAddrV4 = to.parse().unwrap();
    connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
    let mut answer = String::new();
    TcpStream::from(fd).read_to_string(&mut answer)?;
    Ok(answer)
}
