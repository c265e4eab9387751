//! Frames cut off at every octet, and thousands of random ones, against the model.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use weft_ebpf::abi::{Endpoint, link_local};

use crate::decapsulation::{on_the_wire, outer};
use crate::frames::{
    KINDS, Kind, Mac, TYPE_ARP, TYPE_V6, arp, ethernet, frame, ip, neighbour, packet,
};
use crate::model::Sender;
use crate::scene::{
    GATEWAY_MAC, LOCAL_MAC, LOCAL_V4, MAC, REMOTE_MAC, REMOTE_V4, REMOTE_V6, V4, V6, endpoint,
    ends, scene,
};
use crate::world::{Outcome, Verdict, World, strips_the_other_family};

const KNOWN: [Mac; 2] = [LOCAL_MAC, REMOTE_MAC];
const SECOND_V4: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 77);
const GRANTED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0);

/// A plain endpoint, and one that is a router with two addresses.
fn senders() -> [(Sender, World); 2] {
    let plain = Sender { mac: MAC, own: vec![V4.into(), V6.into()], granted: vec![] };
    let mut router = plain.clone();
    router.own.insert(1, SECOND_V4.into());
    router.granted.push((GRANTED_V6.into(), 48));
    let mut world = scene(false);
    world.endpoint(Endpoint { more: true, ..endpoint() });
    world.granted(SECOND_V4.into(), 32);
    world.granted(GRANTED_V6.into(), 48);
    [(plain, scene(false)), (router, world)]
}

/// The program says what the model says, and a drop is counted under the model's reason.
fn agrees(sender: &Sender, world: &World, frame: &[u8]) -> Result<(), TestCaseError> {
    let before = total(world);
    let Outcome { verdict, frame: after } = world.container_sends(frame);
    let chain = sender.dropped_by_chain(frame);
    match verdict {
        Verdict::Drop => prop_assert!(chain.is_some(), "dropped, and the bridge path would not"),
        Verdict::Redirect => prop_assert_eq!(chain, None, "the bridge path would drop it"),
        Verdict::Pass => prop_assert_eq!(frame, &after[..], "changed and passed on"),
    }
    if let Some((expected, reason)) = sender.expected(frame, &KNOWN) {
        prop_assert_eq!(verdict, expected);
        let counted = reason.map(|reason| (reason, 1));
        let now = total(world).into_iter().map(|(reason, n)| {
            (reason, n - before.iter().find(|b| b.0 == reason).map_or(0, |b| b.1))
        });
        prop_assert_eq!(
            now.filter(|one| one.1 > 0).collect::<Vec<_>>(),
            counted.into_iter().collect::<Vec<_>>()
        );
    }
    Ok(())
}

/// The shortest frame of this type that the kernel lets a test run: with a whole IP header, or an octet of anything
/// else. Shorter ones come over a link: see `short`.
fn shortest(frame: &[u8]) -> usize {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => 14 + 20,
        Some([0x86, 0xdd]) => 14 + 40,
        _ => 15,
    }
}

fn total(world: &World) -> Vec<(weft_kernel::DropReason, u64)> {
    world.drops().iter().map(|drop| (drop.1, drop.2)).collect()
}

/// One of each kind that the program looks into.
fn whole_frames() -> Vec<Vec<u8>> {
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let mut frames = Vec::new();
    for to in [REMOTE_MAC, LOCAL_MAC, GATEWAY_MAC] {
        for v6 in [false, true] {
            frames.extend(KINDS.map(|kind| frame(to, MAC, &packet(kind, ends(v6), 0))));
        }
        for source in [V6, REMOTE_V6, Ipv6Addr::UNSPECIFIED] {
            for kind in 133..=137 {
                for target in [V6, REMOTE_V6, LOCAL_V4.to_ipv6_mapped()] {
                    let nd = neighbour(kind, 0, (source, all), target, Some(MAC));
                    frames.push(ethernet(to, MAC, TYPE_V6, &nd));
                }
            }
        }
        for sender in [V4, REMOTE_V4, SECOND_V4, Ipv4Addr::UNSPECIFIED] {
            for mac in [MAC, REMOTE_MAC] {
                let packet = arp(1, (mac, sender), ([0; 6], LOCAL_V4));
                frames.push(ethernet(to, MAC, TYPE_ARP, &packet));
            }
        }
        for source in [REMOTE_V4, SECOND_V4] {
            frames.push(frame(to, MAC, &ip(source.into(), REMOTE_V4.into(), 0, 17, &[0; 8])));
        }
    }
    frames
}

#[test]
fn frames_from_a_container_cut_off_at_every_octet() {
    for (sender, world) in &senders() {
        for whole in whole_frames() {
            for length in shortest(&whole)..=whole.len() {
                agrees(sender, world, &whole[..length]).unwrap();
            }
        }
    }
}

#[test]
fn frames_from_the_underlay_cut_off_at_every_octet() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        for (v6, kind) in [(false, Kind::Udp), (true, Kind::Tcp)] {
            if v6 != v6_underlay && !strips_the_other_family() {
                continue;
            }
            let (to, from) = ends(v6);
            let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(kind, (from, to), 0));
            let whole = on_the_wire(&outer(v6_underlay, 0).around(&inner));
            for length in shortest(&whole)..whole.len() {
                let short = whole[..length].to_vec();
                assert_eq!(
                    world.underlay_brings(&short),
                    Outcome { verdict: Verdict::Pass, frame: short }
                );
            }
            // Outer headers that tell the truth about an inner frame that is cut off: without a whole IP header
            // it goes to the bridge path, with one into the container, which sees for itself.
            let header = if v6 { 40 } else { 20 };
            for length in 0..=inner.len() {
                let short = inner[..length].to_vec();
                let wire = on_the_wire(&outer(v6_underlay, 0).around(&short));
                let after = world.underlay_brings(&wire);
                if length >= 14 + header {
                    assert_eq!(after, Outcome { verdict: Verdict::Redirect, frame: short });
                } else {
                    assert_eq!(after, Outcome { verdict: Verdict::Pass, frame: wire }, "{length}");
                }
            }
        }
        assert_eq!(world.drops(), []);
    }
}

fn some_mac() -> impl Strategy<Value = Mac> {
    prop_oneof![8 => Just(MAC), 1 => select(vec![REMOTE_MAC, GATEWAY_MAC, [0xff; 6]]), 1 => any::<Mac>()]
}

fn some_target() -> impl Strategy<Value = Mac> {
    select(vec![REMOTE_MAC, LOCAL_MAC, MAC, GATEWAY_MAC, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]])
}

fn some_v4() -> impl Strategy<Value = Ipv4Addr> {
    let known = vec![V4, V4, V4, SECOND_V4, REMOTE_V4, Ipv4Addr::UNSPECIFIED];
    prop_oneof![4 => select(known), 1 => any::<Ipv4Addr>()]
}

fn some_v6() -> impl Strategy<Value = Ipv6Addr> {
    let router = "2001:db8:9:1::7".parse().unwrap();
    let known = vec![V6, V6, V6, link_local(MAC), REMOTE_V6, router, Ipv6Addr::UNSPECIFIED];
    prop_oneof![4 => select(known), 1 => any::<Ipv6Addr>()]
}

/// An IPv6 packet: often ICMPv6, with a type near those of neighbour discovery and a target.
fn some_ipv6() -> impl Strategy<Value = Vec<u8>> {
    let next =
        prop_oneof![4 => Just(58), 3 => select(vec![6, 17, 132, 0, 43, 44, 60]), 1 => any::<u8>()];
    let types = prop_oneof![3 => 132..139_u8, 1 => any::<u8>()];
    let rest = proptest::collection::vec(any::<u8>(), 0..24);
    (some_v6(), next, types, some_v6(), rest).prop_map(|(source, next, kind, target, rest)| {
        let body = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..], &rest].concat();
        ip(source.into(), REMOTE_V6.into(), 0, next, &body)
    })
}

fn some_packet() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let payload = || proptest::collection::vec(any::<u8>(), 1..80);
    let v4 = (some_v4(), any::<u8>(), any::<u8>(), payload()).prop_map(
        |(source, class, next, payload)| ip(source.into(), REMOTE_V4.into(), class, next, &payload),
    );
    let arp = (any::<u8>(), some_mac(), some_v4(), some_v4()).prop_map(
        |(operation, mac, sender, target)| arp(operation % 4, (mac, sender), ([0; 6], target)),
    );
    prop_oneof![
        4 => v4.prop_map(|packet| (0x0800, packet)),
        4 => some_ipv6().prop_map(|packet| (0x86dd, packet)),
        3 => arp.prop_map(|packet| (0x0806, packet)),
        1 => (select(vec![0x8100, 0x88a8, 0x88cc, 0x0800, 0x86dd, 0x0806]), payload()),
        1 => (any::<u16>(), payload()),
    ]
}

/// A frame, sometimes with an octet that is another, sometimes cut off.
fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let broken = proptest::option::weighted(0.3, (any::<proptest::sample::Index>(), any::<u8>()));
    let cut = proptest::option::weighted(0.2, any::<proptest::sample::Index>());
    (some_target(), some_mac(), some_packet(), broken, cut).prop_map(
        |(to, from, (kind, packet), broken, cut)| {
            let mut frame = ethernet(to, from, kind, &packet);
            if let Some((at, value)) = broken {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if let Some(cut) = cut {
                frame.truncate(14.max(cut.index(frame.len())));
            }
            frame.resize(frame.len().max(shortest(&frame)), 0);
            frame
        },
    )
}

#[test]
fn random_frames_from_a_container_are_judged_as_on_the_bridge_path() {
    for (sender, world) in &senders() {
        let mut runner = TestRunner::new(Config { cases: 6000, ..Config::default() });
        runner.run(&some_frame(), |frame| agrees(sender, world, &frame)).unwrap();
    }
}

/// From the underlay: what is in VXLAN of any kind, and what is not.
#[test]
fn random_frames_from_the_underlay_are_delivered_whole_or_not_at_all() {
    let world = scene(false);
    let sources = select(vec!["172.10.0.16", "172.10.0.16", "172.10.0.99"]);
    let whole = (some_target(), some_mac(), some_packet(), sources, 0..4_u8);
    let broken = proptest::option::weighted(0.5, (any::<proptest::sample::Index>(), any::<u8>()));
    let mut runner = TestRunner::new(Config { cases: 6000, ..Config::default() });
    let run = runner.run(&(whole, broken), |((to, from, (kind, packet), source, ecn), broken)| {
        let inner = ethernet(to, from, kind, &packet);
        let mut outer = outer(false, ecn);
        outer.ends.0 = source.parse::<IpAddr>().unwrap();
        let mut wire = on_the_wire(&outer.around(&inner));
        if let Some((at, value)) = broken {
            let at = at.index(wire.len());
            wire[at] = value;
        }
        let after = world.underlay_brings(&wire);
        match after.verdict {
            Verdict::Pass => prop_assert_eq!(after.frame, wire),
            Verdict::Drop => {
                let member = wire[26..30] == [172, 10, 0, 16];
                let lost = wire[15] & 3 == 3;
                prop_assert!(!member || lost || wire[56..62] == GATEWAY_MAC);
            }
            Verdict::Redirect => {
                prop_assert_eq!(&wire[26..30], &[172, 10, 0, 16]);
                prop_assert!(wire[50..56] == LOCAL_MAC || wire[50..56] == MAC);
                prop_assert_ne!(&wire[56..62], &GATEWAY_MAC[..]);
                // But for a mark of congestion, and the sum over it.
                let mut expected = wire[50..].to_vec();
                if wire[15] & 3 == 3 {
                    for at in [15, 24, 25] {
                        expected[at] = after.frame[at];
                    }
                }
                prop_assert_eq!(after.frame, expected);
            }
        }
        Ok(())
    });
    run.unwrap();
}
