//! A Docker container's queries, diverted to Weft's resolver.
//!
//! ```text
//!  container                            host                       third
//!  127.0.0.11:53 ─ dnat ─▶ fake         10.3.0.1 (gateway):53      lo is down
//!  127.0.0.11:(any port)   Docker       10.3.0.254 (node)
//!  eth0 10.3.0.2 ──────────────── c0 ── br0 ── t0 ───────────────── eth0 10.3.0.3
//! ```
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::wildcard_imports)]

mod common;
mod divert_ground;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use common::*;
use divert_ground::*;
use weft_kernel::FaultKind;
use weft_linux::{Divert, Diverted, divert, undivert};

const DNS: &str = "127.0.0.11:53";
const ASK_BACK: &str = "10.3.0.2:7353";

/// The whole exchange in both directions, UDP and TCP.
fn check_names(ground: &Ground) {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let answer = ground.container.run(move || ask(protocol, DNS));
        assert_eq!(answer.as_deref(), Ok("weft sees 10.3.0.2"), "{protocol:?}");
        let answer = ask_from(protocol, "10.3.0.1", ASK_BACK);
        assert_eq!(answer.as_deref(), Ok("docker sees 10.3.0.1"), "{protocol:?}");
        let answer = ask_from(protocol, "10.3.0.254", ASK_BACK);
        assert_eq!(answer.as_deref(), Ok("docker sees 10.3.0.254"), "{protocol:?}");
        let answer = ground.third.run(move || ask(protocol, ASK_BACK));
        assert!(answer.is_err(), "{protocol:?}: {answer:?}");
    }
}

fn everything_is_diverted(rules: DockerRules) {
    in_netns(move || {
        let ground = Ground::new(rules);
        let docker = FakeDocker::start(&ground.container, rules);
        let _weft = serve_host("weft");
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let answer = ground.container.run(move || ask(protocol, DNS));
            assert_eq!(answer.as_deref(), Ok("docker sees 127.0.0.1"), "{protocol:?}: before");
            let answer = ask_from(protocol, "10.3.0.1", ASK_BACK);
            assert!(answer.is_err(), "{protocol:?}: before: {answer:?}");
        }
        let dockers = rules.list(&ground.container);
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        check_names(&ground);
        assert_eq!(ground.divert(), Ok(Diverted::Unchanged));
        check_names(&ground);
        assert_eq!(rules.list(&ground.container), dockers);
        docker.stop();
    });
}

#[test]
fn queries_come_to_weft_and_the_host_reaches_dockers_resolver() {
    everything_is_diverted(DockerRules::Nft);
}

#[test]
fn so_it_is_where_docker_uses_legacy_iptables() {
    everything_is_diverted(DockerRules::Legacy);
}

#[test]
fn the_table_is_as_nft_would_write_it() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        let want = include_str!("divert_table.nft")
            .replace("UDP", &docker.udp.to_string())
            .replace("TCP", &docker.tcp.to_string());
        assert_eq!(ground.table(), want);
        assert_eq!(ground.container.run(route_localnet), "1");
        assert_eq!(route_localnet(), "0", "the host's own was written");
    });
}

#[test]
fn reverse_path_filters_do_not_matter() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        let _weft = serve_host("weft");
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        for mode in ["0", "1", "2"] {
            let set = move || {
                for link in ["all", "default", "eth0"] {
                    let path = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
                    std::fs::write(path, mode).unwrap();
                }
            };
            ground.container.run(set);
            check_names(&ground);
        }
    });
}

#[test]
fn the_order_of_the_hosts_addresses_does_not_matter() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        let mut wish = wish();
        wish.from = vec![ip("10.3.0.254"), ip("10.3.0.1"), ip("10.3.0.254")];
        assert_eq!(divert(&ground.container.path, &wish), Ok(Diverted::Unchanged));
        wish.from = vec![ip("10.3.0.1")];
        assert_eq!(divert(&ground.container.path, &wish), Ok(Diverted::Done));
        let answer = ask_from(Protocol::Udp, "10.3.0.254", ASK_BACK);
        assert!(answer.is_err(), "{answer:?}");
    });
}

#[test]
fn the_guard_keeps_others_from_the_containers_loopback() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        let private = ground.container.run(|| Server::udp("private", "127.0.0.2:7000"));
        ground.third.cmd("ip", "route add 127.0.0.2/32 via 10.3.0.2");
        ground.third.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        });
        let arrives = || {
            let seen = private.seen();
            let answer = ground.third.run(|| ask(Protocol::Udp, "127.0.0.2:7000"));
            (private.seen() > seen, answer.is_ok())
        };
        assert_eq!(arrives(), (false, false), "without route_localnet");
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        assert_eq!(arrives(), (false, false), "with the guard");
        ground.nft("delete chain ip weft guard");
        assert_eq!(arrives(), (true, true), "without the guard the test proves nothing");
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        assert_eq!(arrives(), (false, false), "with the guard put back");
        // What is the container's own business goes on.
        for target in ["127.0.0.2:7000", "127.0.0.1:7001"] {
            let _own = ground.container.run(|| Server::udp("own", "127.0.0.1:7001"));
            let answer = ground.container.run(move || ask(Protocol::Udp, target));
            assert!(answer.as_ref().is_ok_and(|a| a.ends_with("sees 127.0.0.1")), "{answer:?}");
        }
        let _own = ground.container.run(|| Server::tcp("own", "127.0.0.1:7002"));
        let answer = ground.container.run(|| ask(Protocol::Tcp, "127.0.0.1:7002"));
        assert_eq!(answer.as_deref(), Ok("own sees 127.0.0.1"));
    });
}

#[test]
fn nobody_on_the_link_passes_for_the_containers_loopback() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        let open = ground.container.run(|| Server::udp("open", "0.0.0.0:7003"));
        ground.third.cmd("ip", "addr add 127.0.0.5/32 dev eth0");
        ground.third.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        });
        let arrives = |from: &'static str| {
            let seen = open.seen();
            let _ = ground.third.run(move || ask_from(Protocol::Udp, from, "10.3.0.2:7003"));
            open.seen() > seen
        };
        assert!(arrives("10.3.0.3"), "in its own name");
        assert!(!arrives("127.0.0.5"), "without route_localnet");
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        assert!(!arrives("127.0.0.5"), "with the guard");
        assert!(arrives("10.3.0.3"), "in its own name, with the guard");
        ground.nft("delete chain ip weft guard");
        assert!(arrives("127.0.0.5"), "without the guard the test proves nothing");
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        assert!(!arrives("127.0.0.5"), "with the guard put back");
    });
}

#[test]
fn dockers_new_ports_are_found_after_its_engine_was_restarted() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _weft = serve_host("weft");
        let docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        check_names(&ground);
        let (table, old) = (ground.table(), (docker.udp, docker.tcp));
        docker.stop();
        assert_eq!(ground.divert(), Ok(Diverted::NotYet));
        assert_eq!(ground.table(), table, "the queries still come to Weft");
        let docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        assert_ne!((docker.udp, docker.tcp), old);
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        check_names(&ground);
        assert_eq!(ground.divert(), Ok(Diverted::Unchanged));
    });
}

#[test]
fn damage_is_seen_and_mended() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _weft = serve_host("weft");
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        let whole = ground.table();
        for damage in [
            "flush chain ip weft prerouting",
            "add rule ip weft guard accept",
            "insert rule ip weft output counter",
            "add chain ip weft more",
            "delete chain ip weft postrouting",
            "add chain ip weft guard { policy drop; }",
            "add table ip weft { flags dormant; }",
            "delete table ip weft",
            "flush ruleset",
            "flush chain ip weft output; add rule ip weft output ip daddr 127.0.0.11 accept",
            "delete chain ip weft guard; add chain ip weft guard { type filter hook prerouting priority -299; }",
        ] {
            ground.nft(damage);
            assert_ne!(ground.table(), whole, "{damage}: no damage");
            assert_eq!(ground.divert(), Ok(Diverted::Done), "{damage}");
            assert_eq!(ground.table(), whole, "{damage}");
            assert_eq!(ground.divert(), Ok(Diverted::Unchanged), "{damage}");
        }
        ground.container.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "0").unwrap();
        });
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        assert_eq!(ground.container.run(route_localnet), "1");
        check_names(&ground);
    });
}

#[test]
fn other_peoples_tables_stay() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        ground.nft(
            "add table inet weft; add chain inet weft output; add rule inet weft output counter",
        );
        let before = ground.container.run(|| nft("list ruleset"));
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        assert_eq!(ground.divert(), Ok(Diverted::Unchanged));
        ground.nft("delete table ip weft");
        assert_eq!(ground.container.run(|| nft("list ruleset")), before);
    });
}

#[test]
fn a_diversion_is_taken_away_whole() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        let _weft = serve_host("weft");
        let path = ground.container.path.clone();
        // What is not ours to close stays as it is.
        ground
            .container
            .run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1"))
            .unwrap();
        assert_eq!(undivert(&path), Ok(()));
        assert_eq!(ground.container.run(route_localnet), "1");
        ground
            .container
            .run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "0"))
            .unwrap();
        let before = ground.container.run(|| nft("list ruleset"));
        assert_eq!(ground.divert(), Ok(Diverted::Done));
        check_names(&ground);
        assert_eq!(undivert(&path), Ok(()));
        assert_eq!(ground.container.run(|| nft("list ruleset")), before);
        assert_eq!(ground.container.run(route_localnet), "0");
        let answer = ground.container.run(|| ask(Protocol::Tcp, DNS));
        assert_eq!(answer.as_deref(), Ok("docker sees 127.0.0.1"));
        assert_eq!(undivert(&path), Ok(()));
        let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
        assert_eq!(undivert(Path::new(&own)).unwrap_err().errno, libc::EINVAL);
        assert_eq!(undivert(Path::new("/proc/0/ns/net")), Ok(()));
    });
}

#[test]
fn too_early_changes_nothing() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let untouched = |ground: &Ground, what: &str| {
            assert_eq!(ground.divert(), Ok(Diverted::NotYet), "{what}");
            assert_eq!(ground.table(), "", "{what}");
            assert_eq!(ground.container.run(route_localnet), "0", "{what}");
        };
        untouched(&ground, "no sockets");
        let udp = ground.container.run(|| Server::udp("docker", "127.0.0.11:0"));
        untouched(&ground, "no TCP socket");
        drop(udp);
        let tcp = ground.container.run(|| Server::tcp("docker", "127.0.0.11:0"));
        untouched(&ground, "no UDP socket");
        let _udp = ground.container.run(|| Server::udp("docker", "127.0.0.1:0"));
        untouched(&ground, "a UDP socket that is not Docker's");
        drop(tcp);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        ground.container.cmd("ip", "addr del 10.3.0.2/24 dev eth0");
        untouched(&ground, "no address");
        ground.container.cmd("ip", "addr add 10.3.0.4/24 dev eth0");
        untouched(&ground, "another address");
        ground.container.cmd("ip", "addr add 10.3.0.2/24 dev eth0");
        assert_eq!(ground.divert(), Ok(Diverted::Done));
    });
}

#[test]
fn without_the_table_the_loopback_stays_shut() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        let owner = Owner::of_the_table(&ground);
        let before = ground.table();
        let fault = ground.divert().unwrap_err();
        assert_eq!(fault.errno, libc::EPERM, "{fault}");
        let path = ground.container.path.display();
        assert_eq!(fault.call, format!("nsenter --net={path} nft add table ip weft"));
        assert_eq!(ground.table(), before);
        assert_eq!(ground.container.run(route_localnet), "0");
        drop(owner);
        assert_eq!(ground.divert(), Ok(Diverted::Done));
    });
}

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(ending: &str, content: &str) -> Self {
        let path = temporary(ending);
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_namespace_that_is_not_mounted_yet_may_come() {
    in_netns(|| {
        assert_eq!(divert(Path::new("/run/wt-divert/none"), &wish()), Ok(Diverted::NotYet));
        let file = File::new("sandbox", "");
        assert_eq!(divert(&file.0, &wish()), Ok(Diverted::NotYet));
    });
}

#[test]
fn a_namespace_that_is_gone_is_a_fault() {
    in_netns(|| {
        let container = Container::new();
        let path = container.path.clone();
        container.kill();
        let fault = divert(&path, &wish()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::NetnsGone);
        assert_eq!(fault.errno, libc::ENOENT);
        assert_eq!(fault.call, format!("nsenter --net={}", path.display()));
        assert_eq!(fault.message, format!("{} does not exist", path.display()));
        assert_eq!(fault.hint, "the container has stopped; nothing is left to do for it");
    });
}

#[test]
fn what_is_no_containers_namespace_is_refused() {
    in_netns(|| {
        let file = File::new("text", "no namespace");
        let uts = PathBuf::from("/proc/self/ns/uts");
        for path in [&file.0, &uts, &"/proc".into()] {
            let fault = divert(path, &wish()).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Again);
            assert_eq!(fault.errno, libc::EINVAL, "{fault}");
            assert_eq!(fault.message, format!("{} is not a network namespace", path.display()));
        }
        let task = nix::unistd::gettid();
        let own = PathBuf::from(format!("/proc/self/task/{task}/ns/net"));
        run("ip", "addr add 10.3.0.2/24 dev lo");
        let fault = divert(&own, &wish()).unwrap_err();
        assert_eq!(fault.errno, libc::EINVAL);
        assert_eq!(fault.message, "this is the host's own network namespace");
        let hint = "give a container's; one with `--network host` has no resolver of its own";
        assert_eq!(fault.hint, hint);
        assert_eq!((nft("list ruleset").as_str(), route_localnet().as_str()), ("", "0"));
    });
}

#[test]
fn a_wish_without_sense_is_refused() {
    in_netns(|| {
        let ground = Ground::new(DockerRules::Nft);
        let _docker = FakeDocker::start(&ground.container, DockerRules::Nft);
        let refused = |change: fn(&mut Divert), message: &str| {
            let mut wish = wish();
            change(&mut wish);
            let fault = divert(&ground.container.path, &wish).unwrap_err();
            assert_eq!((fault.errno, fault.message.as_str()), (libc::EINVAL, message));
            assert_eq!(ground.table(), "", "{message}");
        };
        let no_host = |ip: &str| format!("{ip} is no address of a host on a network");
        refused(|w| w.port = 0, "port 0 is no port to be reached at");
        refused(|w| w.gateway = ip("127.0.0.11"), &no_host("127.0.0.11"));
        refused(|w| w.own = Ipv4Addr::UNSPECIFIED, &no_host("0.0.0.0"));
        refused(|w| w.from.push(Ipv4Addr::BROADCAST), &no_host("255.255.255.255"));
        refused(|w| w.from.push(ip("224.0.0.251")), &no_host("224.0.0.251"));
    });
}
