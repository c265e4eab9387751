//! The resolver's life: started, killed, replaced, crowded, with bridges that come and go. Needs
//! root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at surprises")]

mod common;

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Upstream, WEB, World, inside, program, query, record, sh, short, status};
use weft_resolver::{Client, ClientError};

#[test]
fn killed_and_started_again_it_knows_what_it_was_told_last() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    world.start("1");
    world.push();
    world.add("web", record("late", &["10.3.0.9"]));
    world.push();
    assert_eq!(short(&one, "@10.3.0.1 late"), ["10.3.0.9"]);
    world.kill();
    world.add("web", record("later", &["10.3.0.10"]));
    let pushed = world.client.push(&world.table);
    assert!(matches!(pushed, Err(ClientError::Silent { .. })), "{pushed:?}");
    world.start("1");
    assert_eq!(short(&one, "@10.3.0.1 late"), ["10.3.0.9"]);
    assert_eq!(short(&one, "@10.3.0.1 later"), ["10.3.0.10"]);
    assert_eq!(world.stats().generation, world.table.generation);
}

#[test]
fn without_names_it_starts_and_with_damaged_ones_too() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    world.start("1");
    assert_eq!((world.stats().listening, world.stats().generation), (0, 0));
    world.push();
    assert_eq!(short(&one, "@10.3.0.1 web-1"), ["10.3.0.2"]);
    let names = world.directory.path().join("state/names.json");
    std::fs::write(&names, "{\"log\":\"x\",\"table\":{").unwrap();
    let told = world.client.look();
    let Err(ClientError::Refused(why)) = told else { panic!("{told:?}") };
    assert!(why.contains("names.json is damaged"), "{why}");
    assert_eq!(short(&one, "@10.3.0.1 web-1"), ["10.3.0.2"], "the names stay as they were");
    world.kill();
    world.start("1");
    assert_eq!(world.stats().generation, 0);
    let fresh =
        Client::new(world.directory.path().join("state"), world.directory.path().join("control"))
            .push(&world.table);
    assert_eq!(fresh.unwrap(), world.table.generation);
    assert_eq!(short(&one, "@10.3.0.1 web-1"), ["10.3.0.2"]);
}

/// Asks over UDP without pause until told to stop; returns how many queries were lost and how many
/// answered.
fn ask_on(netns: &str, stop: &Arc<AtomicBool>, asked: &Arc<AtomicU32>) -> thread::JoinHandle<u32> {
    let (stop, asked) = (Arc::clone(stop), Arc::clone(asked));
    inside(netns, move || {
        let mut lost = 0;
        let mut id = 0_u16;
        let mut buffer = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            id = id.wrapping_add(1);
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.send_to(&query(id, "web-1"), "10.3.0.1:53").unwrap();
            match socket.recv(&mut buffer) {
                Ok(_) => {
                    assert_eq!((buffer[..2].to_vec(), buffer[7]), (id.to_be_bytes().to_vec(), 1))
                }
                Err(_) => lost += 1,
            }
            asked.fetch_add(1, Ordering::Relaxed);
        }
        lost
    })
}

#[test]
fn another_version_takes_over_and_no_query_is_lost() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    world.start("1");
    world.push();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let asking = ask_on(&one, &stop, &asked);
    for version in ["2", "3", "4", "5"] {
        thread::sleep(Duration::from_millis(50));
        let old = world.resolver().try_wait().unwrap();
        assert!(old.is_none(), "{old:?}");
        let next = world.launch(version);
        world.wait_for(version);
        let start = Instant::now();
        let end = std::mem::replace(world.resolver(), next).wait().unwrap();
        assert!(end.success(), "the one before ended well: {end}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let lost = asking.join().unwrap();
    assert!(asked.load(Ordering::Relaxed) > 200, "{asked:?}");
    assert_eq!(lost, 0, "of {asked:?}");
}

#[test]
fn one_of_the_same_version_leaves_it_alone() {
    let mut world = World::new();
    world.start("1");
    let status = world.launch("1").wait().unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(world.client.ping().unwrap(), "1");
}

#[test]
fn one_that_hangs_is_replaced() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    world.start("1");
    world.push();
    let number = world.resolver().id();
    sh(&format!("kill -STOP {number}"));
    let next = world.launch("1");
    let start = Instant::now();
    let mut before = std::mem::replace(world.resolver(), next);
    let end = before.wait().unwrap();
    assert!(!end.success(), "{end}");
    world.wait_for("1");
    assert_eq!(short(&one, "@10.3.0.1 web-1"), ["10.3.0.2"]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn bridges_come_late_and_are_made_anew() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    let host = world.host.clone();
    sh(&format!("ip -n {host} link delete {WEB}"));
    world.start("1");
    world.push();
    let silent = world.stats().silent;
    assert_eq!(silent["10.3.0.1 on wb-570001"], "bridge wb-570001 does not exist yet");
    assert_eq!(world.stats().listening, 1);
    for _ in 0..3 {
        world.add_bridge(WEB, &["10.3.0.1/16"]);
        sh(&format!(
            "for port in $(ip -n {host} -o link show type veth | cut -d: -f2 | cut -d@ -f1); do \
             ip -n {host} link set $port master {WEB}; done"
        ));
        world.client.look().unwrap();
        assert_eq!(short(&one, "@10.3.0.1 web-1"), ["10.3.0.2"], "at once after the call");
        sh(&format!("ip -n {host} link delete {WEB}"));
    }
    world.add_bridge(WEB, &["10.3.0.1/16"]);
    let start = Instant::now();
    while world.stats().listening < 3 {
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "and soon without it: {:?}",
            world.stats()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_network_that_is_gone_is_not_listened_for() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    world.start("1");
    world.push();
    assert_eq!(world.stats().listening, 3);
    let web = world.table.networks.remove("web").unwrap();
    world.table.generation += 1;
    world.push();
    assert_eq!(world.stats().listening, 1);
    sh(&format!("ip netns exec {one} dig +tries=1 +time=1 @10.3.0.1 web-1; test $? = 9"));
    world.table.networks.insert("web".to_owned(), web);
    world.push();
    assert_eq!(short(&one, "@10.3.0.1 web-1"), ["10.3.0.2"]);
}

#[test]
fn a_port_that_is_taken_is_named_and_tried_again() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    let (free, freed) = std::sync::mpsc::channel::<()>();
    let (ready, taken) = std::sync::mpsc::channel();
    let other = inside(&world.host, move || {
        let socket = UdpSocket::bind("0.0.0.0:53").unwrap();
        ready.send(()).unwrap();
        freed.recv().unwrap();
        drop(socket);
    });
    taken.recv().unwrap();
    world.start("1");
    world.push();
    let silent = world.stats().silent;
    let why = &silent["10.3.0.1 on wb-570001"];
    assert!(why.starts_with("port 53 of 10.3.0.1 is taken by another program"), "{silent:?}");
    free.send(()).unwrap();
    other.join().unwrap();
    let start = Instant::now();
    while !world.stats().silent.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", world.stats());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(short(&one, "@10.3.0.1 web-1"), ["10.3.0.2"]);
}

#[test]
fn who_floods_harms_itself_only() {
    let mut world = World::new();
    let bad = world.container("bad", "web", &["10.3.0.3/16"]);
    let good = world.container("web-1", "web", &["10.3.0.2/16"]);
    let apart = world.container("safe", "vault", &["10.3.0.2/16"]);
    let _upstream = Upstream::run(&world.host, "127.0.0.2:53");
    let silent = UdpSocketIn::open(&world.host, "127.0.0.1:53");
    let lines = "nameserver 127.0.0.1\nnameserver 127.0.0.2\n";
    std::fs::write(world.directory.path().join("resolv.conf"), lines).unwrap();
    world.start("1");
    world.push();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let stop = Arc::clone(&stop);
        inside(&bad, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let held: Vec<TcpStream> = (0..500)
                .filter_map(|_| {
                    let server: SocketAddr = "10.3.0.1:53".parse().unwrap();
                    TcpStream::connect_timeout(&server, Duration::from_millis(200)).ok()
                })
                .collect();
            let own = query(1, "web-1");
            let elsewhere = query(2, "slow.example.com");
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    // A full queue here is part of a flood.
                    sent += u64::from(socket.send_to(&own, "10.3.0.1:53").is_ok());
                    sent += u64::from(socket.send_to(&elsewhere, "10.3.0.1:53").is_ok());
                }
            }
            (sent, held.len())
        })
    };
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    let (mut lost, queries) = (0, 30);
    for _ in 0..queries {
        let answered = Command::new("ip")
            .args(["netns", "exec", &good, "dig", "+tries=1", "+time=1", "@10.3.0.1", "web-1"])
            .output();
        lost += u32::from(!answered.unwrap().status.success());
        assert_eq!(short(&good, "+tcp @10.3.0.1 bad"), ["10.3.0.3"]);
        assert_eq!(short(&apart, "@10.3.0.1 safe"), ["10.3.0.2"]);
    }
    let took = start.elapsed();
    let upstream = status(&good, "+time=4 +tries=2 @10.3.0.1 www.example.com");
    stop.store(true, Ordering::Relaxed);
    let (sent, held) = flood.join().unwrap();
    let stats = world.stats();
    assert_eq!(upstream, ("NOERROR".to_owned(), 1), "{stats:?}");
    // Both containers fill the queue of one socket: at the moment when the flood begins anew, and
    // before it is shut out again, a datagram may be lost.
    assert!(lost <= 1, "{lost} of {queries} lost: {stats:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(sent > 20_000 && held > 100, "the flood was one: {sent}, {held}, {stats:?}");
    assert!(stats.counters["dropped_rate"] > 0 && stats.counters["shut_out"] > 0, "{stats:?}");
    assert!(stats.counters["connections_refused"] > 0, "{stats:?}");
    drop(silent);
}

#[test]
fn what_one_asker_forwards_at_once_is_bounded() {
    let mut world = World::new();
    let bad = world.container("bad", "web", &["10.3.0.3/16"]);
    let _silent = UdpSocketIn::open(&world.host, "127.0.0.1:53");
    world.start("1");
    world.push();
    let asking = inside(&bad, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        for id in 0..200 {
            socket.send_to(&query(id, "slow.example.com"), "10.3.0.1:53").unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        let mut buffer = [0; 512];
        let mut failed = 0;
        while socket.recv(&mut buffer).is_ok() {
            assert_eq!(buffer[3] & 15, 2, "SERVFAIL");
            failed += 1;
        }
        failed
    });
    assert_eq!(asking.join().unwrap(), 72, "128 wait, the others fail at once");
    assert_eq!(world.count("too_many_forwards"), 72);
}

/// A server that hears and says nothing.
struct UdpSocketIn(#[allow(dead_code, reason = "held open")] UdpSocket);

impl UdpSocketIn {
    fn open(netns: &str, address: &'static str) -> Self {
        Self(inside(netns, move || UdpSocket::bind(address).unwrap()).join().unwrap())
    }
}

#[test]
fn idle_connections_are_closed() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    world.start("1");
    world.push();
    let closing = inside(&one, || {
        use std::io::{Read, Write};
        let closed_after = |bytes: &[u8]| {
            let mut stream = TcpStream::connect("10.3.0.1:53").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let start = Instant::now();
            stream.write_all(bytes).unwrap();
            assert_eq!(stream.read(&mut [0; 100]).unwrap_or(0), 0);
            start.elapsed()
        };
        (closed_after(&[0]), closed_after(&[0xff, 0xff, 1]), closed_after(&[0, 1, 0]))
    });
    let (slow, huge, short) = closing.join().unwrap();
    assert!((4..7).contains(&slow.as_secs()), "{slow:?}");
    assert!(huge < Duration::from_secs(1) && short < Duration::from_secs(1));
}

#[test]
fn it_holds_the_privileges_it_needs_and_no_more() {
    let mut world = World::new();
    world.start("1");
    let number = world.resolver().id();
    let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap();
    for line in ["CapEff:\t0000000000002400", "CapPrm:\t0000000000002400", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    let control = std::fs::metadata(world.directory.path().join("control")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&control.permissions()) & 0o777, 0o600);
}

#[test]
fn the_daemon_finds_it_starts_it_and_may_die_before_it() {
    let world = World::new();
    let log = world.directory.path().join("log");
    // In the test's own namespace: without a table nothing is listened to.
    let ensure = |version: &str| {
        world.client.ensure(version, &program(), &world.arguments(version), &log).unwrap();
        assert_eq!(world.client.ping().unwrap(), version);
        let lock = std::fs::read_to_string(world.directory.path().join("state/resolver.lock"));
        lock.unwrap().parse::<u32>().unwrap()
    };
    let first = ensure("1");
    assert_eq!(ensure("1"), first, "the one that runs is left alone");
    let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(session, first.to_string(), "a session of its own");
    let second = ensure("2");
    assert_ne!(second, first);
    let gone = thread::spawn({
        let paths = ["state", "control"].map(|name| world.directory.path().join(name));
        move || {
            let [state, control] = paths;
            Client::new(state, control).wait_until_gone()
        }
    });
    thread::sleep(Duration::from_millis(50));
    assert!(!gone.is_finished());
    sh(&format!("kill -KILL {second}"));
    gone.join().unwrap().unwrap();
    let third = ensure("2");
    assert_ne!(third, second);
    world.client.stop().unwrap();
    assert!(matches!(world.client.ping(), Err(ClientError::Silent { .. })));
    let missing = world.client.ensure("1", "/nonexistent".as_ref(), &[], &log);
    assert!(matches!(missing, Err(ClientError::Silent { .. })), "{missing:?}");
}
