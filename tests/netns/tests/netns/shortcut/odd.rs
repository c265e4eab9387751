//! Frames that the shortcut does not understand, and frames that are none: delivered as on the bridge path.
//!
//! ```text
//!          a                              b
//!  ┌───────────────┐              ┌───────────────┐
//!  │ web-1 ────────┼─ tagged ─────┼──────▶ web-2  │     each host with the shortcut, then without
//!  │               │  too short   │               │
//!  │               │  not IP …    │               │
//!  └───────────────┘              └───────────────┘
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;

use weft_tests::{Attached, Capture, frame};

use super::{Pair, netns, pair};

/// In the payload, as far as there is any.
const SENTINEL: &[u8] = b"odd-frame";

/// Puts octets into a frame's place, and its IPv4 header's checksum right.
fn altered(frame: &[u8], at: usize, octets: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + octets.len()].copy_from_slice(octets);
    let bits = frame::ecn(&frame).unwrap_or_default();
    frame::with_ecn(&frame, bits)
}

fn datagram(from: &Attached, to: &Attached, v4: bool) -> Vec<u8> {
    let of = |a: &Attached| SocketAddr::new(if v4 { a.v4() } else { a.v6() }, 9);
    frame::udp((from.mac(), of(from)), (to.mac(), of(to)), SENTINEL)
}

/// Every one is of another length, or differs in what follows the MACs.
fn frames(one: &Attached, two: &Attached) -> Vec<(&'static str, Vec<u8>)> {
    let (v4, v6) = (datagram(one, two, true), datagram(one, two, false));
    let macs = &v4[..12];
    let ethernet = |kind: [u8; 2], payload: &[u8]| [macs, &kind, payload].concat();
    // Four octets of options: "no operation" (RFC 791).
    let mut options = [&v4[..34], &[1; 4], &v4[34..]].concat();
    options[17] += 4;
    // An empty header of options for every hop (RFC 8200, section 4.3), 8 octets.
    let mut hops = [&v6[..54], &[17, 0, 1, 4, 0, 0, 0, 0], &v6[54..]].concat();
    hops[19] += 8;
    hops[20] = 0;
    vec![
        ("plain IPv4", v4.clone()),
        ("plain IPv6", v6.clone()),
        ("tagged", frame::tagged(&v4, 7)),
        ("tagged IPv6", frame::tagged(&v6, 7)),
        ("tagged with priority only", frame::tagged(&v4, 0)),
        ("tagged twice", frame::tagged(&frame::tagged(&v4, 7), 8)),
        ("tagged by a provider", [macs, &[0x88, 0xa8, 0, 9], &v4[12..]].concat()),
        ("of an unknown kind", ethernet([0x88, 0xb5], &SENTINEL.repeat(20))),
        ("of an unknown kind, short", ethernet([0x88, 0xb5], SENTINEL)),
        (
            "with a length for a kind (LLC)",
            ethernet([0, 183], &[&[0x42, 0x42, 3], &SENTINEL.repeat(20)[..]].concat()),
        ),
        (
            "with a length for a kind (LLC), short",
            ethernet([0, 12], &[&[0x42, 0x42, 3], SENTINEL].concat()),
        ),
        ("without content", ethernet([0x88, 0xb5], &[])),
        ("IPv4 without a header", ethernet([8, 0], &[])),
        ("IPv4, one octet", ethernet([8, 0], &[0x45])),
        ("IPv4, 19 octets", v4[..33].to_vec()),
        ("IPv4, the header alone", v4[..34].to_vec()),
        ("IPv6, 39 octets", v6[..53].to_vec()),
        ("IPv6, the header alone", v6[..54].to_vec()),
        ("IPv4 with padding", [&altered(&v4, 18, &[4, 4])[..], &[0; 20]].concat()),
        ("IPv4 that promises more", v4[..v4.len() - 2].to_vec()),
        ("IPv4 with options", altered(&options, 14, &[0x46])),
        ("IPv4 of version 5", altered(&v4, 14, &[0x55])),
        ("IPv4 with a header of 16 octets", altered(&v4, 14, &[0x44])),
        ("IPv4 with a wrong checksum", {
            let mut wrong = altered(&v4, 18, &[3, 3]);
            wrong[24] ^= 0xff;
            wrong
        }),
        ("IPv4, OSPF", altered(&v4, 23, &[89])),
        ("IPv4 with no hop left", altered(&v4, 22, &[0])),
        ("IPv4, a first fragment", altered(&v4, 20, &[0x20, 0])),
        ("IPv4, a later fragment", altered(&v4, 20, &[0, 0x20])),
        ("IPv6 of version 5", altered(&v6, 14, &[0x50])),
        ("IPv6, OSPF", altered(&v6, 20, &[89])),
        ("IPv6 with options for every hop", hops),
        ("IPv6 without a next header", altered(&v6, 20, &[59])),
    ]
}

/// Which of them arrive; a switch may cut off padding, but changes nothing.
#[track_caller]
fn arriving(pair: &Pair) -> BTreeSet<&'static str> {
    let all = frames(&pair.one, &pair.two);
    let there = Capture::begin(&netns(&pair.two), "eth0");
    for (_, frame) in &all {
        frame::send(&netns(&pair.one), "eth0", frame);
    }
    let seen = there.end();
    let from_one = |f: &&Vec<u8>| f.get(..12) == Some(&[pair.two.mac(), pair.one.mac()].concat());
    let mut arrived = BTreeSet::new();
    for frame in seen.iter().filter(from_one) {
        let whole = all.iter().find(|(_, sent)| sent == frame);
        let known = whole.or_else(|| all.iter().find(|(_, sent)| sent.starts_with(frame)));
        let (name, _) = known.unwrap_or_else(|| panic!("nobody sent {frame:?}"));
        assert!(arrived.insert(*name), "{name} arrived twice");
    }
    arrived
}

/// What arrives by the shortcut, by each path and the other, and by the bridge path alone.
#[track_caller]
fn by_path(pair: &Pair) -> [(&'static str, BTreeSet<&'static str>); 4] {
    let with = |host, settings: [&'static str; 2]| {
        pair.cluster.restart_with(host, settings[usize::from(host == "b")]);
        pair.warm(settings);
        arriving(pair)
    };
    [
        ("bridge path", with("b", ["off", "off"])),
        ("bridge path to shortcut", with("b", ["off", "auto"])),
        ("shortcut", with("a", ["auto", "auto"])),
        ("shortcut to bridge path", with("b", ["auto", "off"])),
    ]
}

/// Whether IP's filters see what passes the bridges, and what is odd gets lost in them.
fn bridge_filters(pair: &Pair, on: bool) {
    for host in ["a", "b"] {
        for tables in ["iptables", "ip6tables"] {
            let key = format!("net.bridge.bridge-nf-call-{tables}={}", u8::from(on));
            pair.cluster.on(host, &["sysctl", "-qw", &key]).ok();
        }
    }
}

#[test]
fn odd_frames_are_delivered_as_by_a_switch() {
    let pair = pair("odd", ["off", "off"]);
    bridge_filters(&pair, false);
    let [(_, expected), others @ ..] = by_path(&pair);
    // Not all are so odd that no switch would have them.
    for certain in ["plain IPv4", "plain IPv6", "tagged", "of an unknown kind", "IPv4 with options"]
    {
        assert!(expected.contains(certain), "{certain} not in {expected:?}");
    }
    for (path, arrived) in others {
        let differ: Vec<_> = expected.symmetric_difference(&arrived).collect();
        assert!(differ.is_empty(), "{path}: {differ:?}; by the bridge path arrive {expected:?}");
    }
}

#[test]
fn nothing_is_lost_that_passes_filtered_bridges() {
    let pair = pair("oddnf", ["off", "off"]);
    bridge_filters(&pair, true);
    let [(_, expected), others @ ..] = by_path(&pair);
    for (path, arrived) in others {
        let lost: Vec<_> = expected.difference(&arrived).collect();
        assert!(lost.is_empty(), "{path}: {lost:?}");
    }
}
