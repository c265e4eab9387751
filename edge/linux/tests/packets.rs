//! The filters do to real packets what they say.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use std::process::Command;

use common::*;
use weft_kernel::nft::{Equal, HookPoint, Match, Statement};
use weft_kernel::{Key, Step};
use weft_linux::Linux;

const VNI: u32 = 0x57_0001;

fn ping(args: &str) -> bool {
    let args = format!("-n -q -c 1 -W 1 {args}");
    let output = Command::new("ping").args(args.split(' ')).output().unwrap();
    output.status.success()
}

/// Whether an answer comes within a few seconds: links that were just made take a moment.
fn reaches(args: &str) -> bool {
    (0..8).any(|_| ping(args))
}

fn reaches_inside(container: &Container, args: &'static str) -> bool {
    container.run(move || reaches(args))
}

fn ping_inside(container: &Container, args: &'static str) -> bool {
    container.run(move || ping(args))
}

/// Packets that a rule with this comment has counted.
fn counted(table: &str, comment: &str) -> u64 {
    let list = nft(&format!("list table {table}"));
    let lines = list.lines().filter(|line| line.contains(comment));
    lines
        .map(|line| {
            let rest = line.split("counter packets ").nth(1).unwrap();
            rest.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

/// This host at 172.30.0.15 with a container on the network, and a bare one at 172.30.0.16 that
/// speaks VXLAN.
fn two_hosts(linux: &mut Linux) -> (Container, Container) {
    let (container, remote) = (Container::new(), Container::new());
    let id = linux.register_netns(&container.path).unwrap();
    run("ip", &format!("link add up0 type veth peer name up0 netns {}", netns_of(&remote)));
    run("ip", "addr add 172.30.0.15/24 dev up0");
    run("ip", "link set up0 up");
    remote.cmd("ip", "addr add 172.30.0.16/24 dev up0");
    remote.cmd("ip", "link set up0 up");
    remote.cmd(
        "ip",
        "link add vx type vxlan id 5701633 local 172.30.0.16 remote 172.30.0.15 dstport 4789",
    );
    remote.cmd("ip", "link set vx address 02:57:00:00:00:09");
    remote.cmd("ip", "addr add 10.3.0.9/16 dev vx");
    remote.cmd("ip", "link set vx up");
    let mut objects: Objects = filters();
    objects.retain(|(key, _)| !matches!(key, Key::Chain(_, name) if name != "prerouting"));
    objects.extend(network(VNI, 3));
    objects.extend(endpoint(VNI, 3, id));
    apply(linux, &puts(&objects));
    (container, remote)
}

/// A number that `ip` takes for a namespace: that of a process, or here of a thread.
fn netns_of(container: &Container) -> String {
    container.path.iter().nth(4).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn frames_of_our_networks_come_from_members_only_and_others_pass_untouched() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let (container, remote) = two_hosts(&mut linux);
        assert!(reaches_inside(&container, "10.3.0.9"), "{}", nft("list ruleset"));
        assert_eq!(counted("inet weft", "not a member"), 0);

        let member = Key::Element(inet(), "members4".into(), "172.30.0.16 . 5701633".into());
        apply(&mut linux, &[Step::Delete(member.clone())]);
        assert!(!ping_inside(&container, "10.3.0.9"));
        let dropped = counted("inet weft", "not a member");
        assert!(dropped > 0, "{}", nft("list ruleset"));

        // Somebody else's network on the same port.
        for (host, address) in [("172.30.0.15", "10.99.0.1/24"), ("172.30.0.16", "10.99.0.2/24")] {
            let job = move || {
                let other = if host.ends_with("15") { "172.30.0.16" } else { "172.30.0.15" };
                run(
                    "ip",
                    &format!(
                        "link add theirs type vxlan id 7 local {host} remote {other} dstport 4789"
                    ),
                );
                run("ip", &format!("addr add {address} dev theirs"));
                run("ip", "link set theirs up");
            };
            if host.ends_with("15") { job() } else { remote.run(job) }
        }
        assert!(reaches("10.99.0.2"));

        apply(&mut linux, &[Step::Put(member, weft_kernel::Object::Element)]);
        assert!(reaches_inside(&container, "10.3.0.9"));
    });
}

#[test]
fn a_container_sends_from_its_own_addresses_only() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let (container, _remote) = two_hosts(&mut linux);
        assert!(reaches_inside(&container, "10.3.0.1"), "{}", nft("list ruleset"));
        assert!(reaches_inside(&container, "fd00:3::1"));
        assert_eq!(counted("netdev weft", "not its"), 0);

        container.cmd("ip", "addr add 10.3.0.77/16 dev eth0");
        assert!(!ping_inside(&container, "-I 10.3.0.77 10.3.0.1"));
        assert!(counted("netdev weft", "not its address") > 0, "{}", nft("list ruleset"));
        assert!(reaches_inside(&container, "10.3.0.1"));

        assert_eq!(counted("netdev weft", "not its MAC"), 0);
        container.cmd("ip", "link set eth0 address 02:57:00:00:00:66");
        assert!(!ping_inside(&container, "10.3.0.1"));
        assert!(counted("netdev weft", "not its MAC") > 0);
    });
}

#[test]
fn the_host_and_a_container_reach_one_another_without_a_packet_to_learn_from() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let (container, _remote) = two_hosts(&mut linux);
        assert!(reaches("10.3.0.2"), "{}", run("ip", "neigh"));
        assert!(reaches("fd00:3::2"));
        // Through the gateway to the host's other address.
        assert!(reaches_inside(&container, "172.30.0.15"));
    });
}

/// The gateway's MAC is the same on all hosts, so outside this one goes by another.
#[test]
fn outside_the_host_goes_by_its_own_mac() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let (_container, remote) = two_hosts(&mut linux);
        let key = |direction: &str| {
            Key::DeviceChain(netdev(), "wv-570001".into(), format!("wv-570001-{direction}"))
        };
        let (gateway, node) = (mac(3), mac(8));
        let coming = vec![
            drop_rule(vec![Match::EtherSource(Equal::Is, gateway)], "another host's gateway"),
            rule(
                vec![Match::EtherDestination(Equal::Is, node)],
                vec![Statement::SetPacketTypeHost],
                "for this host",
            ),
        ];
        let going = vec![rule(
            vec![Match::EtherSource(Equal::Is, gateway)],
            vec![Statement::SetEtherSource(node)],
            "from this host",
        )];
        let chains = [
            (key("in"), filter(HookPoint::Ingress, 0, coming)),
            (key("out"), filter(HookPoint::Egress, 0, going)),
        ];
        remote.cmd("ip", "neigh add 10.3.255.254 lladdr 02:57:00:00:00:08 dev vx nud permanent");
        assert!(!ping("10.3.0.9"), "the answer is for a MAC that the host does not have");
        apply(&mut linux, &puts(&chains));
        assert!(reaches("10.3.0.9"), "{}", nft("list ruleset"));
        assert!(reaches_inside(&remote, "10.3.255.254"));
        remote.cmd("ip", "neigh flush dev vx nud reachable nud stale nud delay");
        assert!(reaches("10.3.0.9"));
        assert!(!remote.cmd("ip", "neigh").contains("02:57:00:00:00:03"));

        remote.cmd("ip", "link set vx address 02:57:00:00:00:03");
        assert!(!ping_inside(&remote, "10.3.255.254"));
        assert!(counted("netdev weft", "another host's gateway") > 0);
    });
}
