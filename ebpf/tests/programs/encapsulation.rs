//! From a container to another host: the octets that leave, against the reference.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_ebpf::abi::{Counters, Fdb};

use crate::frames::{KINDS, Kind, Outer, frame, ip, packet, segment, v4_header, v4_packet};
use crate::scene::{
    LOCAL_IFINDEX, LOCAL_MAC, LOCAL_SLOT, MAC, MTU, PORT, REMOTE_MAC, REMOTE_V4, SLOT, V4, VNI,
    ends, scene, underlay, vtep,
};
use crate::world::{Outcome, Verdict, World};

/// The source port of an outer packet.
fn port_of(outer: &[u8]) -> u16 {
    let udp = if outer[0] >> 4 == 4 { 20 } else { 40 };
    u16::from_be_bytes([outer[udp], outer[udp + 1]])
}

/// The outer packet, which must be just what the reference says, whatever its source port.
fn encapsulated(world: &World, v6_underlay: bool, class: u8, inner: &[u8]) -> u16 {
    let Outcome { verdict, frame: after } = world.container_sends(inner);
    assert_eq!(verdict, Verdict::Redirect);
    // The kernel writes the outer Ethernet header when it sends.
    assert_eq!(after[..14], inner[..14]);
    let port = port_of(&after[14..]);
    assert!(port >= 49152, "{port}");
    let outer = Outer { ends: underlay(v6_underlay), ports: (port, PORT), class, vni: VNI };
    assert_eq!(after[14..], outer.around(inner));
    port
}

#[test]
fn every_header_combination_leaves_as_the_reference_says() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        let mut expected = Counters::default();
        for v6 in [false, true] {
            for kind in KINDS {
                for ecn in 0..4 {
                    // DSCP stays inside: the VXLAN device of the bridge path sets 0, too.
                    let inner = frame(REMOTE_MAC, MAC, &packet(kind, ends(v6), 0b1011_1000 | ecn));
                    encapsulated(&world, v6_underlay, ecn, &inner);
                    expected.sent_packets += 1;
                    expected.sent_bytes += inner.len() as u64;
                    assert_eq!(world.counters(SLOT), expected);
                }
            }
        }
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn the_outer_headers_sum_is_right_whatever_it_carries_over() {
    let mut world = scene(false);
    for last in (0..=255).step_by(5) {
        let (source, destination) = underlay(false);
        let source = match source {
            IpAddr::V4(v4) => {
                IpAddr::from([v4.octets()[0], 255 - last, last, v4.octets()[3].wrapping_mul(last)])
            }
            IpAddr::V6(_) => panic!("IPv4"),
        };
        world.vtep(&weft_ebpf::abi::Vtep { source, ..vtep(false) });
        for length in [0, 1, 8, 200, 255, 256, 700, 1400] {
            for ecn in 0..4 {
                let packet = ip(V4.into(), REMOTE_V4.into(), ecn, 253, &vec![3; length]);
                let inner = frame(REMOTE_MAC, MAC, &packet);
                let after = world.container_sends(&inner).frame;
                let ports = (port_of(&after[14..]), PORT);
                let outer = Outer { ends: (source, destination), ports, class: ecn, vni: VNI };
                assert_eq!(after[14..], outer.around(&inner));
            }
        }
    }
}

#[test]
fn fragments_and_options_of_ipv4_take_the_shortcut() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        let (protocol, whole) = segment(Kind::Udp, ends(false), (1000, 2000), &[7; 64]);
        let mut ports = BTreeSet::new();
        for (offset, more) in [(0, true), (3, true), (6, false)] {
            let part = &whole[usize::from(offset) * 8..][..24];
            let mut header = v4_header(V4, REMOTE_V4, 2, protocol, part.len());
            header.fragment_offset = offset.try_into().unwrap();
            header.more_fragments = more;
            let inner = frame(REMOTE_MAC, MAC, &v4_packet(&header, part));
            ports.insert(encapsulated(&world, v6_underlay, 2, &inner));
        }
        assert_eq!(ports.len(), 1, "all fragments of a packet are one flow");
        let mut header = v4_header(V4, REMOTE_V4, 0, protocol, whole.len());
        header.options = [0x94, 4, 0, 0].into();
        header.total_len += 4;
        encapsulated(&world, v6_underlay, 0, &frame(REMOTE_MAC, MAC, &v4_packet(&header, &whole)));
    }
}

#[test]
fn other_protocols_over_ipv4_take_the_shortcut() {
    let world = scene(false);
    for protocol in [2, 4, 47, 50, 51, 89, 253] {
        let inner = frame(REMOTE_MAC, MAC, &ip(V4.into(), REMOTE_V4.into(), 0, protocol, &[3; 30]));
        encapsulated(&world, false, 0, &inner);
    }
    // Too short for ports, or for anything.
    for length in 0..8 {
        let inner =
            frame(REMOTE_MAC, MAC, &ip(V4.into(), REMOTE_V4.into(), 0, 17, &vec![3; length]));
        encapsulated(&world, false, 0, &inner);
    }
}

#[test]
fn flows_are_spread_over_source_ports_and_each_keeps_its_own() {
    for v6 in [false, true] {
        let world = scene(v6);
        let mut seen = BTreeSet::new();
        let mut queues = [0; 8];
        for flow in 0..1000_u16 {
            let of = |payload: &[u8]| {
                let (protocol, segment) = segment(Kind::Udp, ends(v6), (30000 + flow, 53), payload);
                frame(REMOTE_MAC, MAC, &ip(ends(v6).0, ends(v6).1, 0, protocol, &segment))
            };
            let port = encapsulated(&world, v6, 0, &of(&[1]));
            assert_eq!(port, encapsulated(&world, v6, 0, &of(&[2; 100])));
            seen.insert(port);
            queues[usize::from(port & 7)] += 1;
        }
        // 970 are to be expected of 1,000 throws into 16,384 boxes.
        assert!(seen.len() > 900, "{}", seen.len());
        assert!(queues.iter().all(|&n| (75..=175).contains(&n)), "{queues:?}");
    }
}

#[test]
fn an_outer_packet_of_just_the_mtu_leaves_and_one_more_octet_does_not() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        let room = if v6_underlay { 40 } else { 20 } + 8 + 8 + 14;
        for v6 in [false, true] {
            let header = if v6 { 40 } else { 20 };
            let of = |octets: usize| {
                let ends = ends(v6);
                frame(REMOTE_MAC, MAC, &ip(ends.0, ends.1, 0, 17, &vec![1; octets - header]))
            };
            encapsulated(&world, v6_underlay, 0, &of(MTU as usize - room));
            let over = of(MTU as usize - room + 1);
            assert_eq!(
                world.container_sends(&over),
                Outcome { verdict: Verdict::Pass, frame: over }
            );
        }
    }
}

#[test]
fn a_next_hop_of_another_family_or_none_of_this_template_is_no_drop() {
    let mut world = scene(false);
    let inner = frame(REMOTE_MAC, MAC, &packet(Kind::Udp, ends(false), 0));
    // RFC 8950: IPv4 by way of an IPv6 next hop.
    world.vtep(&weft_ebpf::abi::Vtep {
        next_hop: "fe80::1".parse::<IpAddr>().unwrap(),
        ..vtep(false)
    });
    encapsulated(&world, false, 0, &inner);
    // Addresses of two families make no header.
    let (here, there) = (underlay(true).0, underlay(false).1);
    world.vtep(&weft_ebpf::abi::Vtep { source: here, destination: there, ..vtep(false) });
    assert_eq!(world.container_sends(&inner), Outcome { verdict: Verdict::Pass, frame: inner });
    assert_eq!(world.drops(), []);
}

#[test]
fn to_a_container_of_this_host_the_frame_goes_as_it_is() {
    let world = scene(false);
    for v6 in [false, true] {
        for kind in KINDS {
            let inner = frame(LOCAL_MAC, MAC, &packet(kind, ends(v6), 3));
            let after = world.container_sends(&inner);
            assert_eq!(after, Outcome { verdict: Verdict::Redirect, frame: inner });
        }
    }
    let (sent, received) = (world.counters(SLOT), world.counters(LOCAL_SLOT));
    assert_eq!((sent.sent_packets, received.received_packets), (8, 8));
    assert_eq!(sent.sent_bytes, received.received_bytes);
    assert_eq!((sent.received_packets, received.sent_packets), (0, 0));
}

#[test]
fn a_mac_means_nothing_in_another_network() {
    let mut world = scene(false);
    let (here, stranger) = ([2, 9, 9, 9, 9, 1], [2, 9, 9, 9, 9, 2]);
    world.fdb(VNI + 1, here, Fdb::Local { ifindex: LOCAL_IFINDEX, slot: LOCAL_SLOT });
    world.fdb(VNI + 1, stranger, Fdb::Remote(underlay(false).1));
    for to in [here, stranger] {
        let inner = frame(to, MAC, &packet(Kind::Tcp, ends(false), 0));
        assert_eq!(world.container_sends(&inner), Outcome { verdict: Verdict::Pass, frame: inner });
    }
}
