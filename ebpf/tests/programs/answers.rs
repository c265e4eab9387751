//! ARP and neighbour discovery: who is asked for is told of, octet for octet, and nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_ebpf::abi::{Counters, Endpoint, link_local};

use crate::frames::{Mac, TYPE_ARP, TYPE_V6, arp, ethernet, neighbour};
use crate::scene::{
    LOCAL_MAC, LOCAL_V4, MAC, REMOTE_MAC, REMOTE_V4, REMOTE_V6, SLOT, V4, V6, VNI, endpoint, scene,
};
use crate::world::{Outcome, Verdict, World};

const BROADCAST: Mac = [0xff; 6];
const UNKNOWN: Mac = [0; 6];

fn answered(world: &World, question: &[u8], answer: Vec<u8>) {
    assert_eq!(
        world.container_sends(question),
        Outcome { verdict: Verdict::Redirect, frame: answer }
    );
}

fn passed(world: &World, question: Vec<u8>) {
    assert_eq!(
        world.container_sends(&question),
        Outcome { verdict: Verdict::Pass, frame: question }
    );
}

fn who_has(target: Ipv4Addr, sender: Ipv4Addr) -> Vec<u8> {
    arp(1, (MAC, sender), (UNKNOWN, target))
}

/// The group that an address is asked in (RFC 4291 section 2.7.1), and its MAC (RFC 2464 section 7).
fn group_of(target: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    (group, [0x33, 0x33, 0xff, a, b, c])
}

fn solicitation(source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let (group, mac) = group_of(target);
    ethernet(mac, MAC, TYPE_V6, &neighbour(135, 0, (source, group), target, Some(MAC)))
}

#[test]
fn a_known_address_is_answered_as_its_owner_would() {
    let world = scene(false);
    for (target, mac) in [(LOCAL_V4, LOCAL_MAC), (REMOTE_V4, REMOTE_MAC)] {
        let reply = arp(2, (mac, target), (MAC, V4));
        for to in [BROADCAST, mac] {
            let question = ethernet(to, MAC, TYPE_ARP, &who_has(target, V4));
            answered(&world, &question, ethernet(MAC, mac, TYPE_ARP, &reply));
        }
    }
    // Short frames are padded to 60 octets, by some.
    let mut padded = ethernet(BROADCAST, MAC, TYPE_ARP, &who_has(REMOTE_V4, V4));
    let mut answer =
        ethernet(MAC, REMOTE_MAC, TYPE_ARP, &arp(2, (REMOTE_MAC, REMOTE_V4), (MAC, V4)));
    padded.resize(60, 0);
    answer.resize(60, 0);
    answered(&world, &padded, answer);
    // Neither sent nor received by the shortcut: nothing went anywhere.
    assert_eq!(world.counters(SLOT), Counters::default());
}

#[test]
fn arp_that_is_no_question_about_a_known_other_passes() {
    let world = scene(false);
    let pass = |packet: Vec<u8>| passed(&world, ethernet(BROADCAST, MAC, TYPE_ARP, &packet));
    // Not known; the gateway; itself, as it announces itself; whether an address is free (RFC 5227).
    pass(who_has(Ipv4Addr::new(10, 3, 0, 99), V4));
    pass(who_has(Ipv4Addr::new(10, 3, 0, 1), V4));
    pass(who_has(V4, V4));
    pass(who_has(REMOTE_V4, Ipv4Addr::UNSPECIFIED));
    // Answers and other operations.
    for operation in [0, 2, 3, 8, 9, 255] {
        pass(arp(operation, (MAC, V4), (UNKNOWN, REMOTE_V4)));
    }
    // Other hardware, other protocols, other lengths.
    for (at, value) in [(1, 6), (0, 1), (2, 0x86), (3, 1), (4, 8), (5, 16)] {
        let mut packet = who_has(REMOTE_V4, V4);
        packet[at] = value;
        pass(packet);
    }
}

#[test]
fn what_is_known_in_another_network_is_not_known() {
    let mut world = scene(false);
    let elsewhere = Ipv4Addr::new(10, 3, 0, 77);
    world.neighbour(VNI + 1, elsewhere.into(), REMOTE_MAC);
    passed(&world, ethernet(BROADCAST, MAC, TYPE_ARP, &who_has(elsewhere, V4)));
    let elsewhere = Ipv6Addr::new(0xfd57, 0, 0, 3, 0, 0, 0, 77);
    world.neighbour(VNI + 1, elsewhere.into(), REMOTE_MAC);
    passed(&world, solicitation(V6, elsewhere));
}

#[test]
fn an_endpoint_without_ipv4_asks_for_none() {
    let mut world = scene(false);
    world.endpoint(Endpoint { v4: None, ..endpoint() });
    passed(&world, ethernet(BROADCAST, MAC, TYPE_ARP, &who_has(REMOTE_V4, Ipv4Addr::UNSPECIFIED)));
}

#[test]
fn a_known_ipv6_address_is_answered_as_its_owner_would() {
    let world = scene(false);
    let own = link_local(MAC);
    for (source, target) in [(V6, REMOTE_V6), (own, REMOTE_V6), (own, link_local(REMOTE_MAC))] {
        // Solicited, override.
        let advertisement = neighbour(136, 0x60, (target, source), target, Some(REMOTE_MAC));
        let answer = ethernet(MAC, REMOTE_MAC, TYPE_V6, &advertisement);
        answered(&world, &solicitation(source, target), answer.clone());
        // Asked directly, as who knows it and makes sure; with a flow label and a traffic class.
        let mut direct = neighbour(135, 0, (source, target), target, Some(MAC));
        direct[1..4].copy_from_slice(&[0xc1, 2, 3]);
        direct[0] |= 0xc;
        answered(&world, &ethernet(REMOTE_MAC, MAC, TYPE_V6, &direct), answer);
    }
    assert_eq!(world.drops(), []);
}

#[test]
fn solicitations_that_are_no_question_about_a_known_other_pass() {
    let world = scene(false);
    let unspecified = Ipv6Addr::UNSPECIFIED;
    // Not known; itself; the gateway's; whether an address is free, of its own and of another's.
    for (source, target) in [
        (V6, "fd57:0:0:3::99".parse().unwrap()),
        (V6, V6),
        (V6, "fe80::1".parse().unwrap()),
        (unspecified, V6),
        (unspecified, REMOTE_V6),
    ] {
        passed(&world, solicitation(source, target));
    }
    // As Linux does not send it: no option, another option, more of them, a code, from afar.
    let (group, mac) = group_of(REMOTE_V6);
    let bare = neighbour(135, 0, (V6, group), REMOTE_V6, None);
    passed(&world, ethernet(mac, MAC, TYPE_V6, &bare));
    let usual = solicitation(V6, REMOTE_V6);
    for (at, value) in
        [(14 + 40 + 24, 14), (14 + 40 + 25, 2), (14 + 41, 1), (14 + 7, 254), (14 + 5, 40)]
    {
        let mut odd = usual.clone();
        odd[at] = value;
        passed(&world, odd);
    }
    let mut longer = usual.clone();
    longer.extend([14, 1, 0, 0, 0, 0, 0, 0]);
    longer[14 + 5] = 40;
    passed(&world, longer);
}

#[test]
fn an_address_of_a_router_may_ask_too() {
    let mut world = scene(false);
    let foreign: IpAddr = "2001:db8:9::1".parse().unwrap();
    world.endpoint(Endpoint { more: true, ..endpoint() });
    world.granted(foreign, 128);
    let IpAddr::V6(source) = foreign else { panic!("IPv6") };
    let advertisement = neighbour(136, 0x60, (REMOTE_V6, source), REMOTE_V6, Some(REMOTE_MAC));
    answered(
        &world,
        &solicitation(source, REMOTE_V6),
        ethernet(MAC, REMOTE_MAC, TYPE_V6, &advertisement),
    );
    // Of ARP senders the program knows one address; the bridge path knows all.
    let other = Ipv4Addr::new(10, 3, 0, 200);
    passed(&world, ethernet(BROADCAST, MAC, TYPE_ARP, &who_has(REMOTE_V4, other)));
}
