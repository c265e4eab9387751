//! Every reason for a drop, reached and counted; and its neighbours, which are none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_ebpf::abi::{self, Counters, Endpoint, Fdb, link_local};
use weft_kernel::DropReason;

use crate::decapsulation::{on_the_wire, outer};
use crate::frames::{
    KINDS, Kind, Mac, TYPE_ARP, TYPE_V6, arp, ethernet, frame, ip, neighbour, packet,
};
use crate::scene::{
    GATEWAY_MAC, LOCAL_MAC, LOCAL_SLOT, MAC, PORT, REMOTE_MAC, REMOTE_V4, REMOTE_V6, SLOT, V4, V6,
    VNI, endpoint, ends, fill, scene, underlay,
};
use crate::world::{IFINDEX, Outcome, Verdict, World, strips_the_other_family};

const OTHER: Mac = [2, 0x57, 1, 2, 3, 9];
const ALL: Mac = [0xff; 6];

/// Dropped for this reason, which is counted, and nothing else is.
fn dropped(
    world: &World,
    run: impl Fn(&World, &[u8]) -> Outcome,
    frame: &[u8],
    ifindex: u32,
    why: DropReason,
) {
    for times in 1..=2 {
        let before = world.drops();
        assert_eq!(run(world, frame).verdict, Verdict::Drop, "{why:?}");
        let key = abi::Drop { vni: VNI, ifindex, reason: why as u32 };
        let of = |drops: &[(abi::Drop, DropReason, u64, u64)]| {
            drops.iter().find(|drop| drop.0 == key).map_or((0, 0), |drop| (drop.2, drop.3))
        };
        let (was, now) = (of(&before), of(&world.drops()));
        assert_eq!(now, (was.0 + 1, was.1 + frame.len() as u64), "{why:?}, {times}");
        let others = |drops: Vec<(abi::Drop, DropReason, u64, u64)>| {
            let mut others: Vec<_> = drops.into_iter().filter(|drop| drop.0 != key).collect();
            others.sort_by_key(|drop| drop.1);
            others
        };
        assert_eq!(others(before), others(world.drops()));
    }
    for slot in [SLOT, LOCAL_SLOT] {
        assert_eq!(world.counters(slot), Counters::default(), "{why:?}");
    }
}

fn dropped_from_container(world: &World, frame: &[u8], why: DropReason) {
    dropped(world, World::container_sends, frame, IFINDEX, why);
}

fn dropped_from_underlay(world: &World, frame: &[u8], why: DropReason) {
    dropped(world, World::underlay_brings, frame, 0, why);
}

fn passes(world: &World, frame: Vec<u8>) {
    assert_eq!(world.container_sends(&frame), Outcome { verdict: Verdict::Pass, frame });
}

#[test]
fn not_its_mac() {
    let world = scene(false);
    for v6 in [false, true] {
        for to in [REMOTE_MAC, LOCAL_MAC, GATEWAY_MAC, ALL] {
            let frame = frame(to, OTHER, &packet(Kind::Udp, ends(v6), 0));
            dropped_from_container(&world, &frame, DropReason::NotItsMac);
        }
    }
    // Whatever is in it; each octet counts.
    for kind in [TYPE_ARP, 0x88cc, 0x0026] {
        dropped_from_container(
            &world,
            &ethernet(ALL, OTHER, kind, &[0; 50]),
            DropReason::NotItsMac,
        );
    }
    for octet in 0..6 {
        let mut mac = MAC;
        mac[octet] ^= 0x80;
        let frame = frame(REMOTE_MAC, mac, &packet(Kind::Udp, ends(false), 0));
        dropped_from_container(&world, &frame, DropReason::NotItsMac);
    }
}

#[test]
fn not_its_address() {
    let world = scene(false);
    let from = |source: IpAddr, to: Mac| {
        let destination = ends(source.is_ipv6()).1;
        frame(to, MAC, &packet(Kind::Tcp, (source, destination), 0))
    };
    let foreign: [IpAddr; 7] = [
        Ipv4Addr::new(10, 3, 0, 3).into(),
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::LOCALHOST.into(),
        REMOTE_V6.into(),
        Ipv6Addr::LOCALHOST.into(),
        link_local(REMOTE_MAC).into(),
        V4.to_ipv6_mapped().into(),
    ];
    for source in foreign {
        for to in [REMOTE_MAC, LOCAL_MAC, GATEWAY_MAC, ALL] {
            dropped_from_container(&world, &from(source, to), DropReason::NotItsAddress);
        }
    }
    for octet in 0..16 {
        for own in [V6, link_local(MAC)] {
            let mut octets = own.octets();
            octets[octet] ^= 1;
            let frame = from(IpAddr::V6(octets.into()), REMOTE_MAC);
            dropped_from_container(&world, &frame, DropReason::NotItsAddress);
        }
    }
    for octet in 0..4 {
        let mut octets = V4.octets();
        octets[octet] ^= 1;
        dropped_from_container(
            &world,
            &from(IpAddr::V4(octets.into()), REMOTE_MAC),
            DropReason::NotItsAddress,
        );
    }
}

#[test]
fn an_endpoint_without_addresses_of_a_family_sends_none() {
    let mut world = scene(false);
    world.endpoint(Endpoint { v4: None, v6: None, ..endpoint() });
    for source in [V4, Ipv4Addr::UNSPECIFIED] {
        let frame =
            frame(REMOTE_MAC, MAC, &packet(Kind::Udp, (source.into(), REMOTE_V4.into()), 0));
        dropped_from_container(&world, &frame, DropReason::NotItsAddress);
    }
    let of = |source: Ipv6Addr| {
        frame(REMOTE_MAC, MAC, &packet(Kind::Udp, (source.into(), REMOTE_V6.into()), 0))
    };
    dropped_from_container(&world, &of(V6), DropReason::NotItsAddress);
    passes(&world, of(Ipv6Addr::UNSPECIFIED));
    assert_eq!(world.container_sends(&of(link_local(MAC))).verdict, Verdict::Redirect);
}

#[test]
fn what_is_granted_is_no_drop_and_what_is_beside_it_is() {
    let mut world = scene(false);
    let prefixes: [(&str, u8); 3] = [("192.0.2.0", 24), ("2001:db8:9::", 48), ("10.3.0.77", 32)];
    for (address, length) in prefixes {
        world.granted(address.parse().unwrap(), length);
    }
    let of = |source: &str| {
        let source: IpAddr = source.parse().unwrap();
        frame(REMOTE_MAC, MAC, &packet(Kind::Udp, (source, ends(source.is_ipv6()).1), 0))
    };
    let granted = ["192.0.2.0", "192.0.2.255", "2001:db8:9:ffff::1", "10.3.0.77"];
    // Without the mark at the endpoint nobody looks.
    for source in granted {
        dropped_from_container(&world, &of(source), DropReason::NotItsAddress);
    }
    world.endpoint(Endpoint { more: true, ..endpoint() });
    for source in ["192.0.3.0", "192.0.1.255", "2001:db8:a::1", "10.3.0.78", "::192.0.2.1"] {
        dropped_from_container(&world, &of(source), DropReason::NotItsAddress);
    }
    for source in granted {
        assert_eq!(world.container_sends(&of(source)).verdict, Verdict::Redirect, "{source}");
    }
}

#[test]
fn all_of_ipv6_is_nothing_of_ipv4() {
    let mut world = scene(false);
    world.endpoint(Endpoint { more: true, ..endpoint() });
    world.granted("::".parse().unwrap(), 0);
    let of = |source: &str| {
        let source: IpAddr = source.parse().unwrap();
        frame(REMOTE_MAC, MAC, &packet(Kind::Udp, (source, ends(source.is_ipv6()).1), 0))
    };
    dropped_from_container(&world, &of("192.0.2.1"), DropReason::NotItsAddress);
    assert_eq!(world.container_sends(&of("2001:db8::9")).verdict, Verdict::Redirect);
    // An IPv6 source that looks like an IPv4 one in the table: the bridge path knows which it is.
    world.granted("0.0.0.0".parse().unwrap(), 0);
    passes(&world, of("::ffff:192.0.2.1"));
}

#[test]
fn arp_not_its_address() {
    let world = scene(false);
    for operation in [1, 2, 9] {
        for sender in [REMOTE_V4, Ipv4Addr::new(10, 3, 0, 1), Ipv4Addr::BROADCAST] {
            let packet = arp(operation, (MAC, sender), ([0; 6], REMOTE_V4));
            let frame = ethernet(ALL, MAC, TYPE_ARP, &packet);
            dropped_from_container(&world, &frame, DropReason::ArpNotItsAddress);
        }
    }
    // Both are wrong: the first rule of the bridge path's chain counts it.
    let frame = ethernet(ALL, MAC, TYPE_ARP, &arp(1, (OTHER, REMOTE_V4), ([0; 6], V4)));
    dropped_from_container(&world, &frame, DropReason::ArpNotItsAddress);
}

#[test]
fn arp_not_its_mac() {
    let mut world = scene(false);
    for sender in [V4, Ipv4Addr::UNSPECIFIED] {
        for mac in [OTHER, REMOTE_MAC, [0; 6]] {
            for operation in [1, 2] {
                let packet = arp(operation, (mac, sender), ([0; 6], REMOTE_V4));
                let frame = ethernet(ALL, MAC, TYPE_ARP, &packet);
                dropped_from_container(&world, &frame, DropReason::ArpNotItsMac);
            }
        }
    }
    world.endpoint(Endpoint { v4: None, ..endpoint() });
    let frame = ethernet(ALL, MAC, TYPE_ARP, &arp(1, (MAC, V4), ([0; 6], REMOTE_V4)));
    dropped_from_container(&world, &frame, DropReason::ArpNotItsAddress);
}

/// A router advertisement, of which only the type matters.
fn router_advertisement() -> Vec<u8> {
    let all = "ff02::1".parse().unwrap();
    let mut packet = neighbour(134, 0, (link_local(MAC), all), Ipv6Addr::UNSPECIFIED, None);
    packet.truncate(40 + 16);
    packet[5] = 16;
    ethernet([0x33, 0x33, 0, 0, 0, 1], MAC, TYPE_V6, &packet)
}

#[test]
fn nd_not_a_router() {
    let mut world = scene(false);
    let advertisement = router_advertisement();
    dropped_from_container(&world, &advertisement, DropReason::NdNotARouter);
    world.endpoint(Endpoint { more: true, ..endpoint() });
    dropped_from_container(&world, &advertisement, DropReason::NdNotARouter);
    // Cut off behind its type, and with a length that says nothing: the type is still one.
    for length in [0, 4] {
        let mut short = advertisement.clone();
        short.truncate(14 + 40 + 4);
        short[14 + 5] = length;
        dropped_from_container(&world, &short, DropReason::NdNotARouter);
    }
    // A header that promises more than there is.
    let mut false_length = advertisement;
    false_length[14 + 5] = 17;
    passes(&world, false_length);
}

#[test]
fn nd_not_its_address() {
    let mut world = scene(false);
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let of = |target: Ipv6Addr, option| {
        let packet = neighbour(136, 0x20, (V6, all), target, option);
        ethernet([0x33, 0x33, 0, 0, 0, 1], MAC, TYPE_V6, &packet)
    };
    for option in [None, Some(MAC), Some(OTHER)] {
        for target in
            [REMOTE_V6, "fe80::1".parse().unwrap(), link_local(REMOTE_MAC), Ipv6Addr::LOCALHOST]
        {
            dropped_from_container(&world, &of(target, option), DropReason::NdNotItsAddress);
        }
        for target in [V6, link_local(MAC)] {
            passes(&world, of(target, option));
        }
    }
    // Cut off in the target: no advertisement.
    let mut short = of(REMOTE_V6, None);
    short.truncate(short.len() - 1);
    short[14 + 5] -= 1;
    passes(&world, short);
    // All its addresses are known to the bridge path only.
    world.endpoint(Endpoint { more: true, ..endpoint() });
    passes(&world, of(REMOTE_V6, None));
}

#[test]
fn not_a_member() {
    for v6_underlay in [false, true] {
        let mut world = scene(v6_underlay);
        for v6 in [false, true] {
            let (to, from) = ends(v6);
            let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, (from, to), 0));
            let mut stranger = outer(v6_underlay, 0);
            stranger.ends.0 = match stranger.ends.0 {
                IpAddr::V4(_) => "172.10.0.17".parse().unwrap(),
                IpAddr::V6(_) => "2001:db8::ac0a:11".parse().unwrap(),
            };
            dropped_from_underlay(
                &world,
                &on_the_wire(&stranger.around(&inner)),
                DropReason::NotAMember,
            );
            // A member of another network is a stranger, too.
            world.member(VNI + 1, stranger.ends.0, GATEWAY_MAC);
            dropped_from_underlay(
                &world,
                &on_the_wire(&stranger.around(&inner)),
                DropReason::NotAMember,
            );
        }
    }
}

#[test]
fn another_hosts_gateway() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        for kind in KINDS {
            let (to, from) = ends(false);
            let inner = frame(LOCAL_MAC, GATEWAY_MAC, &packet(kind, (from, to), 0));
            let wire = on_the_wire(&outer(v6_underlay, 0).around(&inner));
            dropped_from_underlay(&world, &wire, DropReason::AnotherHostsGateway);
        }
    }
}

#[test]
fn congestion_lost() {
    for (v6_underlay, v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let world = scene(v6_underlay);
        let (to, from) = ends(v6);
        let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, (from, to), 0b1100));
        let wire = on_the_wire(&outer(v6_underlay, 3).around(&inner));
        dropped_from_underlay(&world, &wire, DropReason::CongestionLost);
    }
}

#[test]
fn not_writable() {
    for (v6_underlay, v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::with_room_lost();
        fill(&mut world, v6_underlay);
        let (here, there) = ends(v6);
        let inner = frame(REMOTE_MAC, MAC, &packet(Kind::Udp, (here, there), 0));
        let room = if v6_underlay { 70 } else { 50 };
        let (before, after) = (inner.len() as u64, inner.len() as u64 + room);
        assert_eq!(world.container_sends(&inner).verdict, Verdict::Drop);
        let of = |ifindex, bytes| {
            let reason = DropReason::NotWritable;
            (abi::Drop { vni: VNI, ifindex, reason: reason as u32 }, reason, 1, bytes)
        };
        assert_eq!(world.drops(), [of(IFINDEX, after)]);
        let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, (there, here), 0));
        let wire = on_the_wire(&outer(v6_underlay, 0).around(&inner));
        if v6 != v6_underlay && !strips_the_other_family() {
            continue;
        }
        assert_eq!(world.underlay_brings(&wire).verdict, Verdict::Drop);
        let mut drops = world.drops();
        drops.sort_by_key(|drop| drop.0.ifindex);
        assert_eq!(drops, [of(0, before), of(IFINDEX, after)]);
        for slot in [SLOT, LOCAL_SLOT] {
            assert_eq!(world.counters(slot), Counters::default());
        }
    }
}

#[test]
fn each_network_and_each_interface_counts_for_itself() {
    let mut world = scene(false);
    let frame = frame(REMOTE_MAC, OTHER, &ip(V4.into(), REMOTE_V4.into(), 0, 17, &[0; 8]));
    assert_eq!(world.container_sends(&frame).verdict, Verdict::Drop);
    world.endpoint(Endpoint { vni: VNI + 1, ..endpoint() });
    assert_eq!(world.container_sends(&frame).verdict, Verdict::Drop);
    world.fdb(VNI + 1, LOCAL_MAC, Fdb::Local { ifindex: 5, slot: 1 });
    world.node(underlay(false).0, PORT);
    let inner = crate::frames::frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, ends(false), 0));
    let mut outer = outer(false, 0);
    outer.vni = VNI + 1;
    assert_eq!(world.underlay_brings(&on_the_wire(&outer.around(&inner))).verdict, Verdict::Drop);
    let mut seen: Vec<_> =
        world.drops().iter().map(|d| (d.0.vni - VNI, d.0.ifindex, d.1, d.2)).collect();
    seen.sort_unstable();
    let (mac, member) = (DropReason::NotItsMac, DropReason::NotAMember);
    assert_eq!(seen, [(0, IFINDEX, mac, 1), (1, 0, member, 1), (1, IFINDEX, mac, 1)]);
}
