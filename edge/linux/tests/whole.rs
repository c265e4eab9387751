//! Everything at once: what was applied is observed, again and again, and goes without a trace.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use common::*;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Equal, Match, Statement};
use weft_kernel::object::Link;
use weft_kernel::{KernelState, Key, LinkKind, Object, TableName};
use weft_linux::Linux;

/// Objects of others that look like ours.
fn decoys() -> String {
    run("ip", "link add wb-decoy type bridge");
    run("ip", "link add we-decoy type veth peer name eth7");
    run("ip", "addr add 192.168.77.1/24 dev wb-decoy");
    run("ip", "link set wb-decoy up");
    run("ip", "route add 10.77.0.0/16 dev wb-decoy");
    run("ip", "neigh add 192.168.77.9 lladdr 02:00:00:00:00:77 dev wb-decoy nud permanent");
    nft(
        "add table inet other { set vnis { type mark; elements = { 5 } }; chain prerouting { type filter hook prerouting priority -300; tcp dport 1 drop comment \"weft\"; }; }",
    );
    nft(
        "add table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; tcp dport 22 accept; }; }",
    );
    foreign_state()
}

fn foreign_state() -> String {
    let links = run("ip", "-o link").lines().filter(|l| l.contains("decoy")).count();
    format!(
        "{links} {} {} {} {} {}",
        run("ip", "addr show dev wb-decoy"),
        run("ip", "route show dev wb-decoy"),
        run("ip", "neigh show dev wb-decoy"),
        nft("list table inet other"),
        nft("list table ip filter"),
    )
}

#[test]
fn what_was_applied_is_observed_and_goes_without_a_trace() {
    in_netns(|| {
        let (one, two) = (Container::new(), Container::new());
        let before = decoys();
        let mut linux = Linux::open().unwrap();
        let empty = KernelState::new();
        assert_same(&observe(&mut linux), &empty);

        let id = linux.register_netns(&one.path).unwrap();
        let other = linux.register_netns(&two.path).unwrap();
        let mut objects = filters();
        objects.extend(network(0x57_0001, 3));
        objects.extend(vtep_chains(0x57_0001));
        objects.extend(network(0x57_0002, 5));
        objects.extend(endpoint(0x57_0001, 3, id));
        objects.extend(endpoint(0x57_0002, 5, other));
        let accept = rule(
            vec![Match::InLink(Equal::Is, "wb-*".into())],
            vec![Statement::Counter, Statement::Accept],
            "weft",
        );
        let foreign = TableName { family: NftFamily::Ip, name: "filter".into() };
        objects.push((
            Key::ForeignRule(foreign, "FORWARD".into(), accept.to_string()),
            Object::ForeignRule(accept),
        ));
        let want: KernelState = objects.iter().cloned().collect();
        for _ in 0..3 {
            apply(&mut linux, &puts(&objects));
            assert_same(&observe(&mut linux), &want);
        }
        let text = run("ip", "-d link show wv-570001");
        assert!(text.contains(" noudpcsum"), "{text}");
        // A daemon that begins anew sees the same, but for sysctls, which have no mark.
        let mut fresh = Linux::open().unwrap();
        fresh.register_netns(&one.path).unwrap();
        fresh.register_netns(&two.path).unwrap();
        let marked: KernelState =
            objects.iter().filter(|(key, _)| !matches!(key, Key::Sysctl(..))).cloned().collect();
        assert_same(&observe(&mut fresh), &marked);

        apply(&mut linux, &deletes(&objects));
        assert_same(&observe(&mut linux), &empty);
        apply(&mut linux, &deletes(&objects));
        assert_eq!(foreign_state(), before);
    });
}

#[test]
fn a_vtep_over_ipv6_takes_zero_checksums_and_is_observed_as_it_was_put() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let remote = "fd77::16".parse().unwrap();
        let vtep = "wv-570001".to_owned();
        let mut objects = network(0x57_0001, 3);
        objects.retain(|(key, _)| !matches!(key, Key::Flood(..)));
        for (_, object) in &mut objects {
            match object {
                Object::Link(Link { kind: LinkKind::Vxlan { local, .. }, .. }) => {
                    *local = "fd77::15".parse().unwrap();
                }
                Object::Fdb(Some(vtep)) => *vtep = remote,
                _ => {}
            }
        }
        objects.push((Key::Flood(vtep, remote), Object::Flood));
        for _ in 0..2 {
            apply(&mut linux, &puts(&objects));
            assert_same(&observe(&mut linux), &objects.iter().cloned().collect());
        }
        let text = run("ip", "-d link show wv-570001");
        assert!(text.contains("local fd77::15"), "{text}");
        assert!(text.contains(" udp6zerocsumtx udp6zerocsumrx"), "{text}");
    });
}
