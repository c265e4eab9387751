//! What the host is like.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use std::net::IpAddr;

use common::*;
use weft_kernel::UnderlayPath;
use weft_kernel::facts::ShortcutFacts;
use weft_linux::{Linux, facts, legacy_iptables_in_use};

#[test]
fn facts_tell_of_the_path_the_routes_and_the_chains_that_drop() {
    in_netns(|| {
        run("ip", "link add up0 type bridge");
        run("ip", "link set up0 mtu 9000 up");
        run("ip", "addr add 172.30.0.15/24 dev up0");
        run("ip", "-6 addr add fd77::15/64 dev up0 nodad");
        run("ip", "link add docker0 type bridge");
        run("ip", "link set docker0 up");
        run("ip", "addr add 172.17.0.1/16 dev docker0");
        nft(
            "add table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; chain INPUT { type filter hook input priority 0; policy accept; }; }",
        );
        nft(
            "add table inet fw { chain in { type filter hook input priority 10; policy drop; }; chain out { type filter hook output priority 0; policy drop; }; }",
        );
        nft(
            "add table bridge b { chain f { type filter hook forward priority 0; policy drop; }; }",
        );
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &puts(&network(0x57_0001, 3)));
        apply(&mut linux, &puts(&filters()));

        let data = "172.30.0.15".parse().unwrap();
        let found = facts(data, None).unwrap();
        assert_eq!(found.underlay_mtu, 9000);
        assert!(found.ipv6);
        let mut routes: Vec<String> =
            found.routes.iter().map(|(net, link)| format!("{net} {link}")).collect();
        routes.sort();
        assert_eq!(routes, ["172.17.0.0/16 docker0", "172.30.0.0/24 up0", "fd77::/64 up0"]);
        let mut chains: Vec<String> = found
            .drop_chains
            .iter()
            .map(|c| format!("{} {} {}", c.table, c.chain, c.input))
            .collect();
        chains.sort();
        assert_eq!(chains, ["inet fw in true", "ip filter FORWARD false"]);
        assert_eq!(found.router_advertisement_links, Vec::<String>::new());

        run("ip", "route add default via 172.30.0.1 dev up0 mtu 1400");
        assert_eq!(facts(data, None).unwrap().underlay_mtu, 1400);
        assert_eq!(facts("fd77::15".parse().unwrap(), None).unwrap().underlay_mtu, 9000);
        // As the kernel, or a daemon in its place, adds it from an advertisement.
        run("ip", "-6 route add default via fd77::1 dev up0 proto ra");
        assert_eq!(facts(data, None).unwrap().router_advertisement_links, ["up0"]);
        run("sysctl", "-qw net.ipv6.conf.up0.accept_ra=2");
        assert_eq!(facts(data, None).unwrap().router_advertisement_links, Vec::<String>::new());
        assert!(!legacy_iptables_in_use());
    });
}

#[test]
fn an_address_that_no_link_has_is_named() {
    in_netns(|| {
        let fault = facts("172.30.0.99".parse().unwrap(), None).unwrap_err();
        assert_eq!(fault.message, "no link of this host has the data address 172.30.0.99");
        assert!(fault.hint.contains("--data-address"), "{}", fault.hint);
    });
}

#[test]
fn a_chain_that_refuses_by_a_rule_is_told_of_until_some_rule_names_our_links() {
    in_netns(|| {
        let refusing = || {
            let found = weft_linux::refusing_chains().unwrap();
            found.iter().map(|c| format!("{} {} {}", c.table, c.chain, c.input)).collect::<Vec<_>>()
        };
        nft(
            "add table inet firewalld { chain gate { type filter hook forward priority 10; policy accept; ct state established accept; counter reject with icmpx admin-prohibited; }; chain in { type filter hook input priority 10; policy accept; tcp dport 22 accept; drop; }; chain some { type filter hook input priority 20; policy accept; tcp dport 23 drop; }; }",
        );
        assert_eq!(refusing(), ["inet firewalld gate false", "inet firewalld in true"]);
        nft("insert rule inet firewalld gate iifname \"wb-*\" accept");
        assert_eq!(refusing(), [""; 0]);
    });
}

fn paths(data: &str, peers: &[&str]) -> ShortcutFacts {
    let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    facts(data.parse().unwrap(), Some(&peers)).unwrap().shortcut.unwrap()
}

/// The path to one other node, e.g. `up0 via 172.30.0.1 mtu 1500`.
fn path(data: &str, peer: &str) -> String {
    let facts = paths(data, &[peer]);
    let peer: IpAddr = peer.parse().unwrap();
    let Some(UnderlayPath { link, next_hop, mtu }) = facts.paths.get(&peer) else {
        return "none".into();
    };
    let via = next_hop.map_or_else(String::new, |hop| format!(" via {hop}"));
    format!("{link}{via} mtu {mtu}")
}

#[test]
fn the_shortcut_is_told_the_path_to_every_node() {
    in_netns(|| {
        for (link, address) in [("up0", "172.30.0.15/24"), ("up2", "172.29.0.15/24")] {
            run("ip", &format!("link add {link} type veth peer name {link}p"));
            run("ip", &format!("addr add {address} dev {link}"));
            run("ip", &format!("link set {link} up"));
            run("ip", &format!("link set {link}p up"));
        }
        run("ip", "link set up2 mtu 9000");
        let data = "172.30.0.15";
        assert_eq!(facts(data.parse().unwrap(), None).unwrap().shortcut, None);
        let alone = ShortcutFacts { links: vec!["up0".into()], ..ShortcutFacts::default() };
        assert_eq!(paths(data, &[]), alone);
        assert_eq!(path(data, "172.30.0.16"), "up0 mtu 1500");
        assert_eq!(path(data, "10.9.0.16"), "none", "there is no route");
        run("ip", "route add default via 172.30.0.1");
        assert_eq!(path(data, "10.9.0.16"), "up0 via 172.30.0.1 mtu 1500");
        // Routes come and go, and may know a smaller MTU, or a larger one than their link.
        run("ip", "route add 10.9.0.0/24 via 172.29.0.1 mtu 1400");
        assert_eq!(path(data, "10.9.0.16"), "up2 via 172.29.0.1 mtu 1400");
        let both = paths(data, &["172.30.0.16", "10.9.0.16"]);
        assert_eq!(both.links, ["up0", "up2"]);
        assert_eq!(both.paths.len(), 2);
        run("ip", "route replace 10.9.0.0/24 via 172.29.0.1 mtu 60000");
        assert_eq!(path(data, "10.9.0.16"), "up2 via 172.29.0.1 mtu 9000");
        run("ip", "route replace 10.9.0.0/24 via inet6 fe80::1 dev up2");
        assert_eq!(path(data, "10.9.0.16"), "up2 via fe80::1 mtu 9000");
        for kind in ["unreachable", "blackhole", "prohibit", "throw"] {
            run("ip", "route flush 10.9.0.0/24");
            run("ip", "route del default");
            run("ip", &format!("route add {kind} 10.9.0.0/24"));
            assert_eq!(path(data, "10.9.0.16"), "none", "{kind}");
            run("ip", "route add default via 172.30.0.1");
        }
        run("ip", "route flush 10.9.0.0/24");
        // Rules choose by the source.
        run("ip", "route add default via 172.29.0.9 table 77");
        run("ip", "rule add from 172.30.0.15 lookup 77");
        assert_eq!(path(data, "10.9.0.16"), "up2 via 172.29.0.9 mtu 9000");
        run("ip", "rule del from 172.30.0.15 lookup 77");
        // A host's own address, one of the other family, and a link that is down.
        assert_eq!(path(data, "172.29.0.15"), "none");
        assert_eq!(path(data, "fd77::16"), "none");
        run("ip", "route add 10.9.0.0/24 via 172.29.0.1");
        run("ip", "link set up0 down");
        assert_eq!(path(data, "172.30.0.16"), "none");
        assert_eq!(paths(data, &["10.9.0.16"]).links, ["up2"], "that of the data address is down");
    });
}

#[test]
fn the_shortcut_is_told_the_path_over_ipv6() {
    in_netns(|| {
        run("ip", "link add up0 type veth peer name up1");
        run("ip", "-6 addr add fd77::15/64 dev up0 nodad");
        run("ip", "link set up0 up");
        run("ip", "link set up1 up");
        let data = "fd77::15";
        assert_eq!(path(data, "fd77::16"), "up0 mtu 1500");
        assert_eq!(path(data, "fd99::16"), "none");
        run("ip", "-6 route add default via fd77::1");
        assert_eq!(path(data, "fd99::16"), "up0 via fd77::1 mtu 1500");
        run("ip", "-6 route add fd99::/64 via fe80::9 dev up0 mtu 1300");
        assert_eq!(path(data, "fd99::16"), "up0 via fe80::9 mtu 1300");
        // As a router's advertisement may have it.
        run("sysctl", "-qw net.ipv6.conf.up0.mtu=1380");
        assert_eq!(path(data, "fd77::16"), "up0 mtu 1380");
        for kind in ["unreachable", "blackhole", "prohibit"] {
            run("ip", &format!("-6 route replace {kind} fd98::/64"));
            assert_eq!(path(data, "fd98::16"), "none", "{kind}");
        }
    });
}

#[test]
fn links_without_ethernet_frames_and_tunnels_are_left_to_the_bridge_path() {
    in_netns(|| {
        run("ip", "tuntap add dev tun0 mode tun");
        run("ip", "addr add 172.30.0.15/24 dev tun0");
        run("ip", "link set tun0 up");
        let data = "172.30.0.15";
        let found = paths(data, &["172.30.0.16"]);
        assert_eq!(found, ShortcutFacts::default());
        assert_eq!(facts(data.parse().unwrap(), None).unwrap().underlay_mtu, 1500);
        // The data address on the loopback device, the way out by a link with Ethernet frames.
        run("ip", "addr add 172.30.9.9/32 dev lo");
        run("ip", "link add up0 type veth peer name up1");
        run("ip", "addr add 172.28.0.15/24 dev up0");
        run("ip", "link set up0 up");
        run("ip", "link set up1 up");
        run("ip", "route add 10.9.0.0/24 via 172.28.0.1");
        let found = paths("172.30.9.9", &["10.9.0.16"]);
        assert_eq!(found.links, ["up0"]);
        assert_eq!(path("172.30.9.9", "10.9.0.16"), "up0 via 172.28.0.1 mtu 1500");
    });
}

#[test]
fn what_was_learnt_of_a_path_counts_as_its_mtu() {
    in_netns(|| {
        // A router that has less room on its far side says so to who sends too much.
        let (router, far) = (Container::new(), Container::new());
        let of = |container: &Container| {
            container.path.iter().nth(4).unwrap().to_str().unwrap().to_owned()
        };
        run("ip", &format!("link add up0 type veth peer name near netns {}", of(&router)));
        run("ip", "addr add 172.30.0.15/24 dev up0");
        run("ip", "link set up0 up");
        run("ip", "route add 10.9.0.0/24 via 172.30.0.1");
        router.cmd("ip", "addr add 172.30.0.1/24 dev near");
        router.cmd("ip", "link set near up");
        router.cmd("sysctl", "-qw net.ipv4.ip_forward=1");
        let target = of(&far);
        router.run(move || {
            run("ip", &format!("link add far type veth peer name eth0 netns {target}"))
        });
        router.cmd("ip", "addr add 10.9.0.1/24 dev far");
        router.cmd("ip", "link set far mtu 1350 up");
        far.cmd("ip", "addr add 10.9.0.16/24 dev eth0");
        far.cmd("ip", "link set eth0 up");
        far.cmd("ip", "route add default via 10.9.0.1");
        assert_eq!(path("172.30.0.15", "10.9.0.16"), "up0 via 172.30.0.1 mtu 1500");
        let learnt = (0..10).any(|_| {
            let args = ["-n", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", "1400", "10.9.0.16"];
            std::process::Command::new("ping").args(args).output().unwrap();
            path("172.30.0.15", "10.9.0.16") == "up0 via 172.30.0.1 mtu 1350"
        });
        assert!(learnt, "{}", run("ip", "route get 10.9.0.16"));
    });
}
