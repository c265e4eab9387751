//! What a test run cannot show: frames that stand for many (GSO), neighbours that the kernel asks for, sums that nobody
//! has computed yet, containers that route on.

use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use crate::cables::{Net, PLAN, Plan, Side, inside};
use crate::world::strips_the_other_family;

const STREAM: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Octets that differ from place to place.
fn stream() -> Vec<u8> {
    (0..STREAM).map(|at| ((at * 31) ^ (at >> 8)).to_le_bytes()[0]).collect()
}

/// A stream from one namespace to an address of another.
fn tcp(from: &Net, to: &Net, address: IpAddr) {
    let to = to.within(|| TcpListener::bind((address, 0))).unwrap();
    let address = to.local_addr().unwrap();
    let received = thread::spawn(move || {
        let mut received = Vec::new();
        to.accept().unwrap().0.read_to_end(&mut received).unwrap();
        received
    });
    let connect = || TcpStream::connect_timeout(&address, PATIENCE);
    let mut sender = from.within(connect).expect("a connection");
    sender.set_write_timeout(Some(PATIENCE)).unwrap();
    sender.write_all(&stream()).unwrap();
    drop(sender);
    assert!(received.join().unwrap() == stream(), "the stream is another");
}

/// The families that the shortcut carries by itself over an underlay: both, on newer kernels.
fn carried(v6_underlay: bool) -> impl Iterator<Item = bool> {
    [false, true].into_iter().filter(move |&v6| v6 == v6_underlay || strips_the_other_family())
}

fn nothing_dropped(sides: &[Side; 2]) {
    assert_eq!(sides.each_ref().map(|side| side.world.drops()), [vec![], vec![]]);
}

#[test]
fn streams_go_whole_and_uncut_over_either_underlay() {
    for (v6_underlay, tcx) in [(false, true), (false, false), (true, true)] {
        let (sides, [here, there]) = Plan { v6_underlay, tcx, bridge: false, ..PLAN }.pair();
        for v6 in carried(v6_underlay) {
            let before = sides[0].counters(0);
            tcp(&here, &there, inside(0, 1, v6));
            let after = sides[0].counters(0);
            let frames = after.sent_packets - before.sent_packets;
            let octets = after.sent_bytes - before.sent_bytes;
            assert!(octets >= STREAM as u64, "{octets}");
            // Cut into packets of the MTU there would be 6,000.
            assert!(frames < 3000, "{v6_underlay} {v6}: {frames} frames of {octets} octets");
        }
        let (sent, received) = (sides[0].counters(0), sides[1].counters(0));
        assert_eq!(sent.sent_packets, received.received_packets);
        assert_eq!(sent.sent_bytes, received.received_bytes);
        nothing_dropped(&sides);
    }
}

#[test]
fn streams_go_whole_where_no_link_helps() {
    for v6_underlay in [false, true] {
        let plan = Plan { v6_underlay, offloads: false, bridge: false, ..PLAN };
        let (sides, [here, there]) = plan.pair();
        for v6 in carried(v6_underlay) {
            let before = sides[0].counters(0).sent_packets;
            tcp(&here, &there, inside(0, 1, v6));
            // Cut already when they come from the container.
            assert!(sides[0].counters(0).sent_packets - before > (STREAM / 1450) as u64);
        }
        nothing_dropped(&sides);
    }
}

/// Sends a payload that the kernel cuts into datagrams of this size (`UDP_SEGMENT`, `udp(7)`).
fn send_cut(from: &Net, address: IpAddr, to: SocketAddr, payload: &[u8], size: u16) {
    let socket = from.within(|| UdpSocket::bind((address, 0))).unwrap();
    let to = SockaddrStorage::from(to);
    let cut = [ControlMessage::UdpGsoSegments(&size)];
    let payloads = [IoSlice::new(payload)];
    let sent = sendmsg(socket.as_raw_fd(), &payloads, &cut, MsgFlags::empty(), Some(&to));
    assert_eq!(sent.unwrap(), payload.len());
}

fn server(at: &Net, address: IpAddr) -> (UdpSocket, SocketAddr) {
    let server = at.within(|| UdpSocket::bind((address, 0))).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

#[test]
fn datagrams_cut_by_the_kernel_arrive_each() {
    for v6_underlay in [false, true] {
        let (sides, [here, there]) = Plan { v6_underlay, ..PLAN }.pair();
        for v6 in [false, true] {
            let (server, to) = server(&there, inside(0, 1, v6));
            let before = [sides[0].counters(0).sent_packets, sides[1].counters(0).received_packets];
            let payload = &stream()[..8_300];
            send_cut(&here, inside(0, 0, v6), to, payload, 1000);
            let mut received = Vec::<u8>::new();
            while received.len() < payload.len() {
                let mut room = [0; 2000];
                let octets = server.recv(&mut room).expect("another datagram");
                assert_eq!(octets, 1000.min(payload.len() - received.len()));
                received.extend(&room[..octets]);
            }
            assert!(received == payload);
            let after = [sides[0].counters(0).sent_packets, sides[1].counters(0).received_packets];
            // They left in one, and arrived so; but then only the VTEP unwraps them right.
            assert_eq!(after, [before[0] + 1, before[1]]);
        }
        nothing_dropped(&sides);
    }
}

#[test]
fn pieces_larger_than_the_underlay_carries_are_left_to_the_bridge_path() {
    let (mut sides, [here, there]) = PLAN.pair();
    for v6 in [false, true] {
        let (server, to) = server(&there, inside(0, 1, v6));
        // Ethernet, IP and UDP of a piece of 1,000 octets, and the outer headers.
        let fits = 1000 + 14 + if v6 { 40 } else { 20 } + 8 + 36;
        let before = sides[0].counters(0).sent_packets;
        for (mtu, sent) in [(fits, 1), (fits - 1, 1), (fits, 2)] {
            sides[0].vtep(mtu);
            send_cut(&here, inside(0, 0, v6), to, &stream()[..3000], 1000);
            assert_eq!(sides[0].counters(0).sent_packets - before, sent, "{mtu}");
        }
        for _ in 0..9 {
            assert_eq!(server.recv(&mut [0; 2000]).expect("a datagram"), 1000);
        }
    }
}

/// A container that routes: from network 0 to a namespace behind it that is on no network of ours.
#[test]
fn streams_through_a_container_that_routes_on() {
    for offloads in [true, false] {
        let (mut sides, [here, router]) = PLAN.pair();
        let beyond = Net::new();
        router.ip(&format!("link add far type veth peer name eth0 netns {}", beyond.path()));
        for (net, link, last) in [(&router, "far", 1), (&beyond, "eth0", 2)] {
            net.ip(&format!("address add 192.0.2.{last}/24 dev {link}"));
            net.ip(&format!("address add 2001:db8:9::{last}/64 dev {link} nodad"));
            if !offloads {
                net.without_offloads(link);
            }
            net.ip(&format!("link set {link} up"));
        }
        router.run("sysctl", "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        here.ip(&format!("route add 192.0.2.0/24 via {}", inside(0, 1, false)));
        here.ip(&format!("route add 2001:db8:9::/64 via {}", inside(0, 1, true)));
        beyond.ip("route add default via 192.0.2.1");
        beyond.ip("-6 route add default via 2001:db8:9::1");
        sides[1].grant_all(0);
        for address in ["192.0.2.2", "2001:db8:9::2"] {
            tcp(&here, &beyond, address.parse().unwrap());
        }
        for v6 in [false, true] {
            tcp(&beyond, &here, inside(0, 0, v6));
        }
        nothing_dropped(&sides);
        let [sent, received] = sides.each_ref().map(|side| side.counters(0).sent_bytes);
        assert!(sent.min(received) > 2 * STREAM as u64, "{sent} {received}");
    }
}

/// A container that routes from network 0 to network 1: what it forwards has been encapsulated once already.
#[test]
fn streams_through_a_container_that_routes_into_another_network() {
    for v6_underlay in [false, true] {
        let (mut sides, [here, router]) = Plan { v6_underlay, ..PLAN }.pair();
        let other = Net::new();
        sides[0].join(1, &other);
        sides[1].join(1, &router);
        for network in [0, 1] {
            sides[1].grant_all(network);
        }
        router.run("sysctl", "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for v6 in [false, true] {
            let any = if v6 { "-6 route add default via" } else { "route add default via" };
            here.ip(&format!("{any} {}", inside(0, 1, v6)));
            other.ip(&format!("{any} {}", inside(1, 1, v6)));
        }
        for v6 in [false, true] {
            tcp(&here, &other, inside(1, 0, v6));
            tcp(&other, &here, inside(0, 0, v6));
        }
        nothing_dropped(&sides);
    }
}
