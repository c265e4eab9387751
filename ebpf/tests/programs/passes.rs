//! What is not for the shortcut goes the bridge path, as it came.

use std::net::{IpAddr, Ipv6Addr};

use weft_ebpf::abi::Counters;

use crate::decapsulation::{on_the_wire, outer};
use crate::frames::{Kind, Mac, ethernet, frame, ip, packet};
use crate::scene::{
    GATEWAY_MAC, LOCAL_MAC, LOCAL_SLOT, MAC, PORT, REMOTE_MAC, SLOT, VNI, endpoint, ends, scene,
    underlay,
};
use crate::world::{Outcome, Verdict, World};

fn untouched(world: &World, run: impl Fn(&World, &[u8]) -> Outcome, frame: Vec<u8>) {
    assert_eq!(run(world, &frame), Outcome { verdict: Verdict::Pass, frame });
    assert_eq!(world.drops(), []);
    for slot in [SLOT, LOCAL_SLOT] {
        assert_eq!(world.counters(slot), Counters::default());
    }
}

fn from_container(world: &World, frame: Vec<u8>) {
    untouched(world, World::container_sends, frame);
}

fn from_underlay(world: &World, frame: Vec<u8>) {
    untouched(world, World::underlay_brings, frame);
}

#[test]
fn who_is_not_known_is_asked_for_by_the_bridge() {
    let world = scene(false);
    let unknown: Mac = [2, 0x57, 9, 9, 9, 9];
    for to in [GATEWAY_MAC, unknown, [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        for v6 in [false, true] {
            from_container(&world, frame(to, MAC, &packet(Kind::Udp, ends(v6), 0)));
        }
    }
    // To itself: a switch sends nothing back.
    from_container(&world, frame(MAC, MAC, &packet(Kind::Udp, ends(false), 0)));
}

#[test]
fn an_interface_that_is_nobodys_and_a_vtep_that_is_nowhere() {
    let empty = World::new();
    let inner = frame(REMOTE_MAC, MAC, &packet(Kind::Udp, ends(false), 0));
    from_container(&empty, inner.clone());
    from_underlay(&empty, on_the_wire(&outer(false, 0).around(&inner)));
    let mut world = World::new();
    world.endpoint(endpoint());
    world.fdb(VNI, REMOTE_MAC, weft_ebpf::abi::Fdb::Remote(underlay(false).1));
    from_container(&world, inner);
}

#[test]
fn tagged_frames_and_other_protocols() {
    let world = scene(false);
    for kind in [0x8100, 0x88a8, 0x88cc, 0x8847, 0x0842, 0x0026, 0xffff] {
        for to in [REMOTE_MAC, LOCAL_MAC] {
            from_container(&world, ethernet(to, MAC, kind, &[0x45; 60]));
        }
    }
    // Under another MAC the tag is looked at first: what is behind it is the bridge path's.
    for kind in [0x8100, 0x88a8] {
        from_container(&world, ethernet(REMOTE_MAC, [2, 9, 9, 9, 9, 9], kind, &[0x45; 60]));
    }
}

#[test]
fn ipv6_with_other_headers() {
    let world = scene(false);
    let (here, there) = ends(true);
    for next in [0, 43, 44, 50, 51, 59, 60, 135, 139, 140, 4, 41, 47, 253] {
        for to in [REMOTE_MAC, LOCAL_MAC] {
            from_container(&world, frame(to, MAC, &ip(here, there, 0, next, &[0x3a; 64])));
        }
    }
    let unspecified: IpAddr = Ipv6Addr::UNSPECIFIED.into();
    from_container(&world, frame(REMOTE_MAC, MAC, &packet(Kind::Udp, (unspecified, there), 0)));
    // Solicitations of routers, and redirects.
    for kind in [133, 137] {
        let (IpAddr::V6(here), IpAddr::V6(there)) = (here, there) else { panic!("IPv6") };
        let nd = crate::frames::neighbour(kind, 0, (here, there), there, None);
        from_container(&world, frame(REMOTE_MAC, MAC, &nd));
    }
}

#[test]
fn headers_of_another_version_than_the_type_says() {
    let world = scene(false);
    for v6 in [false, true] {
        let good = frame(REMOTE_MAC, MAC, &packet(Kind::Udp, ends(v6), 0));
        for version in (0..16_u8).filter(|&v| v != if v6 { 6 } else { 4 }) {
            let mut bad = good.clone();
            bad[14] = bad[14] & 0xf | version << 4;
            from_container(&world, bad);
        }
    }
    let good = frame(REMOTE_MAC, MAC, &packet(Kind::Udp, ends(false), 0));
    for first in (0x00..0x45).chain(0x50..=0xff) {
        let mut bad = good.clone();
        bad[14] = first;
        from_container(&world, bad);
    }
}

/// Frames from the underlay that differ in one thing from one that would be delivered.
#[test]
fn vxlan_that_is_not_for_the_shortcut() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        let good = outer(v6_underlay, 0);
        let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, ends(v6_underlay), 0));
        assert_eq!(
            scene(v6_underlay).underlay_brings(&on_the_wire(&good.around(&inner))).verdict,
            Verdict::Redirect
        );
        let pass = |packet: Vec<u8>| from_underlay(&world, on_the_wire(&packet));
        // Another port, another address, another VNI, an unknown, remote or grouped MAC inside.
        for port in [8472, 53, 0x12b6] {
            let mut outer = good;
            outer.ports.1 = port;
            pass(outer.around(&inner));
        }
        let mut elsewhere = good;
        elsewhere.ends.1 = underlay(v6_underlay).1;
        pass(elsewhere.around(&inner));
        let mut foreign = good;
        foreign.vni = VNI + 1;
        pass(foreign.around(&inner));
        for to in [REMOTE_MAC, GATEWAY_MAC, [2, 9, 9, 9, 9, 9], [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]]
        {
            pass(good.around(&frame(to, REMOTE_MAC, &packet(Kind::Udp, ends(false), 0))));
        }
        // Flags and reserved bits that are not ours (RFC 7348 section 5).
        for bit in 0..32 {
            pass(good.with(&inner, (0x0800_0000_u32 ^ 1 << bit).to_be_bytes(), 0));
        }
        for bit in 0..8 {
            pass(good.with(&inner, [8, 0, 0, 0], 1 << bit));
        }
    }
}

#[test]
fn outer_headers_that_only_the_kernel_understands() {
    for v6_underlay in [false, true] {
        let world = scene(v6_underlay);
        let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, ends(false), 0));
        let good = on_the_wire(&outer(v6_underlay, 0).around(&inner));
        let pass = |frame: Vec<u8>| from_underlay(&world, frame);
        let with = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[14 + at] = value;
            frame
        };
        let udp = if v6_underlay { 40 } else { 20 };
        // A checksum that has to be verified; a length that is not that of the frame.
        pass(with(udp + 6, 1));
        pass(with(udp + 7, 1));
        pass(with(udp + 5, good[14 + udp + 5] + 1));
        pass(with(udp + 5, good[14 + udp + 5] - 1));
        let mut padded = good.clone();
        padded.push(0);
        pass(padded);
        let mut cut_off = good.clone();
        cut_off.pop();
        pass(cut_off);
        if v6_underlay {
            pass(with(5, good[14 + 5] + 1));
            pass(with(0, 0x40));
            for next in [0, 6, 43, 44, 60, 136] {
                pass(with(6, next));
            }
        } else {
            pass(with(3, good[14 + 3] + 1));
            // Options, fragments, other protocols. DF alone is none.
            pass(with(0, 0x46));
            pass(with(0, 0x65));
            pass(with(6, 0x60));
            pass(with(6, 0x41));
            pass(with(7, 1));
            for protocol in [1, 4, 6, 47, 136] {
                pass(with(9, protocol));
            }
            assert_eq!(scene(false).underlay_brings(&with(6, 0)).verdict, Verdict::Redirect);
        }
        // Not IP; tagged; for another host's MAC.
        for kind in [0x0806_u16, 0x8100, 0x88a8, 0x88cc] {
            let mut frame = good.clone();
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            pass(frame);
        }
        let mut strangers = good.clone();
        strangers[5] = 1;
        pass(strangers);
    }
}

#[test]
fn a_port_other_than_the_usual_is_as_good() {
    let mut world = scene(false);
    world.node(underlay(false).0, 8472);
    let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, ends(false), 0));
    let mut outer = outer(false, 0);
    from_underlay(&world, on_the_wire(&outer.around(&inner)));
    outer.ports.1 = 8472;
    assert_eq!(
        world.underlay_brings(&on_the_wire(&outer.around(&inner))).verdict,
        Verdict::Redirect
    );
    assert_ne!(PORT, 8472);
}

#[test]
fn an_ipv4_packet_means_nothing_to_a_node_of_ipv6_that_ends_alike() {
    let mut world = scene(false);
    // Its last eight octets are those of the mapped address.
    world.node("2001:db8::ffff:ac0a:f".parse().unwrap(), PORT);
    let inner = frame(LOCAL_MAC, REMOTE_MAC, &packet(Kind::Udp, ends(false), 0));
    from_underlay(&world, on_the_wire(&outer(false, 0).around(&inner)));
}
