use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::message::DATAGRAM;

/// What a fake server does with the query that came as its nth.
type Manner = fn(usize, &[u8]) -> Vec<Vec<u8>>;

struct Fake {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    asked_tcp: Arc<AtomicUsize>,
}

/// A server at this address of the loopback, over UDP and TCP.
async fn fake(host: u8, port: u16, udp: Manner, tcp: Manner) -> Fake {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 53, host), port));
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let (asked, asked_tcp) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, count_tcp) = (Arc::clone(&asked), Arc::clone(&asked_tcp));
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let nth = count.fetch_add(1, Ordering::Relaxed);
            for reply in udp(nth, &buffer[..length]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let nth = count_tcp.fetch_add(1, Ordering::Relaxed);
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            for reply in tcp(nth, &query) {
                stream.write_all(&framed(&reply)).await.unwrap();
            }
        }
    });
    Fake { address, asked, asked_tcp }
}

fn silent(_: usize, _: &[u8]) -> Vec<Vec<u8>> {
    Vec::new()
}

/// The query, made a reply; `mark` stands at the end to tell replies apart.
fn good(query: &[u8], mark: u8) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply.push(mark);
    reply
}

fn answers(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
    vec![good(query, 1)]
}

fn request() -> Request {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(b"\x07example\x03com\x00\x00\x01\x00\x01");
    Request::read(&bytes).unwrap()
}

struct Asking {
    forwarder: Forwarder,
    counters: Counters,
    _directory: tempfile::TempDir,
}

/// A forwarder that knows these servers, all at one port.
fn asking(servers: &[&Fake]) -> Asking {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("resolv.conf");
    let lines: Vec<String> =
        servers.iter().map(|fake| format!("nameserver {}\n", fake.address.ip())).collect();
    std::fs::write(&path, lines.concat()).unwrap();
    let limits = Limits {
        patience: Duration::from_millis(300),
        resend: Duration::from_millis(100),
        ..Limits::default()
    };
    let port = servers.first().map_or(53, |fake| fake.address.port());
    let upstreams = Upstreams::new(path, port, limits.distrust);
    Asking {
        forwarder: Forwarder { upstreams, limits },
        counters: Counters::default(),
        _directory: directory,
    }
}

impl Asking {
    async fn ask(&self, stream: bool) -> Option<Vec<u8>> {
        self.forwarder.ask(&request(), stream, (None, true), |_| false, &self.counters).await
    }

    fn strays(&self) -> u64 {
        self.counters.get(Count::UpstreamStray)
    }
}

#[tokio::test]
async fn what_does_not_match_is_passed_over_while_the_wait_goes_on() {
    fn liar(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        let changed = |place: usize, value: u8| {
            let mut reply = good(query, 66);
            reply[place] ^= value;
            reply
        };
        vec![
            Vec::new(),
            vec![0xff; 5],
            vec![0xff; 700],
            changed(0, 1),
            changed(2, 0x80),
            changed(14, 1),
            query.to_vec(),
            good(query, 1),
        ]
    }
    let server = fake(1, 0, liar, silent).await;
    let asking = asking(&[&server]);
    let reply = asking.ask(false).await.unwrap();
    assert_eq!(reply.last(), Some(&1));
    assert_eq!(asking.strays(), 7);
    assert_eq!(server.asked.load(Ordering::Relaxed), 1, "nothing was sent again");
}

#[tokio::test]
async fn a_datagram_from_elsewhere_is_none() {
    let server = fake(2, 0, silent, silent).await;
    let asking = asking(&[&server]);
    let (address, asked) = (server.address, Arc::clone(&server.asked));
    let spoof = tokio::spawn(async move {
        // Any source but the server's: the connected socket must not even see it.
        let liar = UdpSocket::bind("127.0.53.99:0").await.unwrap();
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let port = source_port(address);
        liar.send_to(&[0; 40], ("127.0.0.1", port)).await.unwrap();
    });
    assert_eq!(asking.ask(false).await, None);
    spoof.await.unwrap();
    assert_eq!(asking.strays(), 0);
    assert_eq!(asking.counters.get(Count::UpstreamSilent), 1);
}

/// The local port of the UDP socket connected to this server (proc_net(5)).
fn source_port(server: SocketAddr) -> u16 {
    let SocketAddr::V4(server) = server else { panic!("{server}") };
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(server.ip().octets()), server.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let line = table.lines().find(|line| line.contains(&remote)).unwrap();
    let local = line.split_whitespace().nth(1).unwrap();
    u16::from_str_radix(local.split_once(':').unwrap().1, 16).unwrap()
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    fn second(nth: usize, query: &[u8]) -> Vec<Vec<u8>> {
        if nth == 0 { Vec::new() } else { vec![good(query, 1)] }
    }
    let server = fake(3, 0, second, silent).await;
    let asking = asking(&[&server]);
    assert!(asking.ask(false).await.is_some());
    assert_eq!(server.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn after_silence_the_next_server_is_asked_and_goes_first_from_then_on() {
    let one = fake(4, 0, silent, silent).await;
    let two = fake(5, one.address.port(), answers, silent).await;
    let asking = asking(&[&one, &two]);
    for _ in 0..3 {
        assert!(asking.ask(false).await.is_some());
    }
    assert_eq!(one.asked.load(Ordering::Relaxed), 2, "sent and sent again, once");
    assert_eq!(two.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_no_wait() {
    let one =
        Fake { address: "127.0.53.6:1".parse().unwrap(), ..fake(7, 0, answers, silent).await };
    let asking = asking(&[&one]);
    let start = Instant::now();
    assert_eq!(asking.ask(false).await, None);
    assert_eq!(asking.ask(true).await, None);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_failure_is_answered_only_when_no_server_does_better() {
    fn fails(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        let mut reply = good(query, 9);
        reply[3] = 0x82;
        vec![reply]
    }
    let one = fake(8, 0, fails, silent).await;
    let two = fake(9, one.address.port(), answers, silent).await;
    assert_eq!(asking(&[&one, &two]).ask(false).await.unwrap().last(), Some(&1));
    assert_eq!(asking(&[&one]).ask(false).await.unwrap().last(), Some(&9));
}

#[tokio::test]
async fn the_resolver_in_the_container_is_asked_first_and_perhaps_alone() {
    fn inside(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        vec![good(query, 3)]
    }
    fn fails(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        let mut reply = good(query, 9);
        reply[3] = 0x82;
        vec![reply]
    }
    let host = fake(16, 0, answers, answers).await;
    let inner = fake(17, 0, inside, silent).await;
    let broken = fake(18, 0, fails, silent).await;
    let mute = fake(19, 0, silent, silent).await;
    let asking = asking(&[&host]);
    let ask = async |server: &Fake, upstream| {
        let of_asker = (Some(server.address), upstream);
        let (request, own) = (request(), |_| false);
        let asked = asking.forwarder.ask(&request, false, of_asker, own, &asking.counters);
        asked.await.and_then(|reply| reply.last().copied())
    };
    let host_was_asked = || host.asked.load(Ordering::Relaxed);
    assert_eq!(ask(&inner, true).await, Some(3));
    assert_eq!(host_was_asked(), 0);
    // Its failure and its silence are no answer where others may be asked.
    assert_eq!(ask(&broken, true).await, Some(1));
    assert_eq!(ask(&mute, true).await, Some(1));
    assert_eq!(host_was_asked(), 2);
    assert_eq!(ask(&broken, false).await, Some(9));
    assert_eq!(ask(&mute, false).await, None);
    assert_eq!(host_was_asked(), 2);
    assert_eq!(asking.counters.get(Count::InnerSilent), 2);
}

#[tokio::test]
async fn what_is_cut_is_fetched_over_tcp() {
    fn cut(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        let mut reply = good(query, 7);
        reply[2] |= 2;
        vec![reply]
    }
    fn long(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        let mut reply = good(query, 0);
        reply.resize(usize::from(DATAGRAM) * 10, 5);
        vec![reply]
    }
    let server = fake(10, 0, cut, long).await;
    let reply = asking(&[&server]).ask(false).await.unwrap();
    assert_eq!(reply.len(), usize::from(DATAGRAM) * 10);
    let mute = fake(11, 0, cut, silent).await;
    let reply = asking(&[&mute]).ask(false).await.unwrap();
    assert_eq!(reply.last(), Some(&7), "what was cut is better than nothing");
}

#[tokio::test]
async fn whoever_asks_over_tcp_is_answered_over_tcp() {
    let server = fake(12, 0, silent, answers).await;
    assert!(asking(&[&server]).ask(true).await.is_some());
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
    assert_eq!(server.asked_tcp.load(Ordering::Relaxed), 1);
    fn liar(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        let mut reply = good(query, 1);
        reply[0] ^= 1;
        vec![reply]
    }
    let server = fake(13, 0, answers, liar).await;
    assert_eq!(asking(&[&server]).ask(true).await, None);
}

#[tokio::test]
async fn our_own_addresses_are_never_asked() {
    let server = fake(14, 0, answers, answers).await;
    let asking = asking(&[&server]);
    let own = |address| address == server.address.ip();
    let request = request();
    let asked = asking.forwarder.ask(&request, false, (None, true), own, &asking.counters);
    assert_eq!(asked.await, None);
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn ids_and_ports_are_not_to_be_guessed() {
    fn echo_id(_: usize, query: &[u8]) -> Vec<Vec<u8>> {
        let mut reply = good(query, 0);
        reply.extend_from_slice(&query[..2]);
        vec![reply]
    }
    let server = fake(15, 0, echo_id, silent).await;
    let asking = asking(&[&server]);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let reply = asking.ask(false).await.unwrap();
        ids.insert([reply[reply.len() - 2], reply[reply.len() - 1]]);
    }
    assert!(ids.len() > 45, "{ids:?}");
}
