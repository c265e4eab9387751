//! From another host to a container: what arrives, octet for octet.

use weft_ebpf::abi::Counters;

use crate::frames::{KINDS, Kind, Outer, ethernet, frame, ip, packet, v4_header, v4_packet};
use crate::scene::{
    LOCAL_MAC, LOCAL_SLOT, LOCAL_V4, PORT, REMOTE_MAC, REMOTE_V4, VNI, ends, scene, underlay,
};
use crate::world::{Outcome, Verdict, strips_the_other_family};

/// What the other node sends.
pub(crate) fn outer(v6_underlay: bool, class: u8) -> Outer {
    let (here, there) = underlay(v6_underlay);
    Outer { ends: (there, here), ports: (51234, PORT), class, vni: VNI }
}

/// As it comes from the link: to the MAC of the loopback device, which the test's frames come from.
pub(crate) fn on_the_wire(outer_packet: &[u8]) -> Vec<u8> {
    frame([0; 6], [2, 1, 1, 1, 1, 1], outer_packet)
}

/// The inner packet, its congestion field replaced.
fn with_ecn(mut packet: Vec<u8>, ecn: u8) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[1] = packet[1] & !3 | ecn;
        packet[10..12].fill(0);
        let sum =
            packet[..20].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum::<u32>();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[1] = packet[1] & !0x30 | ecn << 4;
    }
    packet
}

/// What becomes of the inner field (RFC 6040 figure 4); `None`: the packet is dropped; `Some(None)`: the bridge
/// path has it.
fn decided(outer: u8, inner: u8) -> Option<Option<u8>> {
    const NOT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    match (inner, outer) {
        (NOT, CE) => None,
        (NOT, _) => Some(Some(NOT)),
        (ECT0, ECT1) => Some(None),
        (CE, _) | (_, CE) => Some(Some(CE)),
        (inner, _) => Some(Some(inner)),
    }
}

#[test]
fn every_header_combination_arrives_as_the_reference_says() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        let (mut expected, mut lost) = (Counters::default(), 0);
        for v6 in [false, true] {
            for kind in KINDS {
                for (outer_ecn, inner_ecn) in (0..16).map(|n| (n >> 2, n & 3)) {
                    let (to, from) = ends(v6);
                    let packet = packet(kind, (from, to), 0b0100_1000 | inner_ecn);
                    let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet);
                    let wire = on_the_wire(&outer(v6_underlay, outer_ecn).around(&inner));
                    let after = world.underlay_brings(&wire);
                    let what = format!("{v6_underlay} {v6} {kind:?} {outer_ecn} over {inner_ecn}");
                    match decided(outer_ecn, inner_ecn) {
                        None => {
                            assert_eq!(after.verdict, Verdict::Drop, "{what}");
                            lost += 1;
                        }
                        Some(None) => {
                            assert_eq!(
                                after,
                                Outcome { verdict: Verdict::Pass, frame: wire },
                                "{what}"
                            );
                        }
                        Some(Some(_)) if v6 != v6_underlay && !strips_the_other_family() => {
                            assert_eq!(after, Outcome { verdict: Verdict::Pass, frame: wire });
                        }
                        Some(Some(ecn)) => {
                            let arrived = frame(LOCAL_MAC, REMOTE_MAC, &with_ecn(packet, ecn));
                            expected.received_packets += 1;
                            expected.received_bytes += arrived.len() as u64;
                            assert_eq!(
                                after,
                                Outcome { verdict: Verdict::Redirect, frame: arrived },
                                "{what}"
                            );
                        }
                    }
                }
            }
        }
        assert_eq!(world.counters(LOCAL_SLOT), expected);
        assert_eq!(world.drops().iter().map(|drop| drop.2).sum::<u64>(), lost);
    }
}

#[test]
fn what_was_pushed_here_is_stripped_there() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        for v6 in [false, true] {
            if v6 != v6_underlay && !strips_the_other_family() {
                continue;
            }
            let sent = frame(REMOTE_MAC, crate::scene::MAC, &packet(Kind::Tcp, ends(v6), 2));
            let pushed = world.container_sends(&sent).frame;
            // The other node, where REMOTE_MAC is at home.
            let mut there = scene(v6_underlay);
            let (a, b) = underlay(v6_underlay);
            there.node(b, PORT);
            there.member(VNI, a, crate::scene::GATEWAY_MAC);
            there.fdb(VNI, REMOTE_MAC, weft_ebpf::abi::Fdb::Local { ifindex: 5, slot: 0 });
            let after = there.underlay_brings(&on_the_wire(&pushed[14..]));
            assert_eq!(after, Outcome { verdict: Verdict::Redirect, frame: sent });
        }
    }
}

#[test]
fn inner_fragments_and_odd_inner_packets_arrive() {
    let world = scene(false);
    let deliver = |inner: Vec<u8>| {
        let wire = on_the_wire(&outer(false, 0).around(&inner));
        assert_eq!(
            world.underlay_brings(&wire),
            Outcome { verdict: Verdict::Redirect, frame: inner }
        );
    };
    let mut header = v4_header(REMOTE_V4, LOCAL_V4, 0, 17, 8);
    header.fragment_offset = 185.try_into().unwrap();
    deliver(frame(LOCAL_MAC, REMOTE_MAC, &v4_packet(&header, &[1; 8])));
    deliver(frame(
        LOCAL_MAC,
        REMOTE_MAC,
        &ip(REMOTE_V4.into(), LOCAL_V4.into(), 0, 132, &[2; 1400]),
    ));
    // No more than a header; a source that a router speaks for.
    deliver(frame(
        LOCAL_MAC,
        REMOTE_MAC,
        &ip("192.0.2.1".parse().unwrap(), LOCAL_V4.into(), 0, 6, &[]),
    ));
    // Longer than its own header says, as a short one that was padded.
    let mut padded =
        frame(LOCAL_MAC, REMOTE_MAC, &ip(REMOTE_V4.into(), LOCAL_V4.into(), 0, 17, &[2; 8]));
    padded.resize(60, 0);
    deliver(padded);
}

#[test]
fn the_path_takes_only_ip() {
    let world = scene(false);
    for kind in [0x0806, 0x8100, 0x88a8, 0x88cc, 0x0004] {
        let inner = ethernet(LOCAL_MAC, REMOTE_MAC, kind, &[0x45; 60]);
        let wire = on_the_wire(&outer(false, 0).around(&inner));
        assert_eq!(world.underlay_brings(&wire), Outcome { verdict: Verdict::Pass, frame: wire });
    }
}
