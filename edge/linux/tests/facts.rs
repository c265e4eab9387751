//! What the host is like.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use common::*;
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
        let found = facts(data).unwrap();
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
        assert_eq!(facts(data).unwrap().underlay_mtu, 1400);
        assert_eq!(facts("fd77::15".parse().unwrap()).unwrap().underlay_mtu, 9000);
        // As the kernel, or a daemon in its place, adds it from an advertisement.
        run("ip", "-6 route add default via fd77::1 dev up0 proto ra");
        assert_eq!(facts(data).unwrap().router_advertisement_links, ["up0"]);
        run("sysctl", "-qw net.ipv6.conf.up0.accept_ra=2");
        assert_eq!(facts(data).unwrap().router_advertisement_links, Vec::<String>::new());
        assert!(!legacy_iptables_in_use());
    });
}

#[test]
fn an_address_that_no_link_has_is_named() {
    in_netns(|| {
        let fault = facts("172.30.0.99".parse().unwrap()).unwrap_err();
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
