//! Frames that nobody should send, put onto a link as they are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use etherparse::{EtherType, PacketBuilder};

use crate::link;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// To everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// Puts `frame` onto `link` in the namespace at `netns`.
///
/// # Panics
/// When the link does not take it.
#[track_caller]
pub fn send(netns: &Path, link: &str, frame: &[u8]) {
    let socket = link::open(netns, link).unwrap_or_else(|e| panic!("cannot send on {link}: {e}"));
    link::send(&socket, frame).unwrap_or_else(|e| panic!("cannot send on {link}: {e}"));
}

/// A UDP datagram in an IPv4 or IPv6 packet in a frame.
///
/// # Panics
/// When the addresses are of different families.
pub fn udp(from: (Mac, SocketAddr), to: (Mac, SocketAddr), payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(from.0, to.0);
    let packet = match (from.1.ip(), to.1.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => ethernet.ipv4(a.octets(), b.octets(), 64),
        (IpAddr::V6(a), IpAddr::V6(b)) => ethernet.ipv6(a.octets(), b.octets(), 64),
        _ => panic!("addresses of two families"),
    };
    let mut frame = Vec::new();
    let written = packet.udp(from.1.port(), to.1.port()).write(&mut frame, payload);
    written.unwrap_or_else(|e| panic!("no frame: {e}"));
    frame
}

/// A VXLAN datagram's payload: header and inner frame.
pub fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[8, 0, 0, 0, a, b, c, 0][..], inner].concat()
}

/// An ARP packet (RFC 826) in a frame: `operation` 1 asks, 2 answers.
pub fn arp(
    source: Mac,
    target: Mac,
    operation: u8,
    sender: (Mac, Ipv4Addr),
    about: (Mac, Ipv4Addr),
) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(target);
    frame.extend(source);
    frame.extend(EtherType::ARP.0.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(sender.0);
    frame.extend(sender.1.octets());
    frame.extend(about.0);
    frame.extend(about.1.octets());
    frame
}
