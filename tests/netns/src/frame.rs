//! Frames that nobody should send, put onto a link as they are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
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

/// Sends a frame in VXLAN from a host's namespace as tunnels do, without a UDP checksum (RFC 7348, section 5), but from
/// any port.
///
/// # Errors
/// When the socket cannot be had, or does not take it.
pub fn send_vxlan(netns: &Path, target: SocketAddr, vni: u32, inner: &[u8]) -> io::Result<()> {
    let payload = vxlan(vni, inner);
    weft_lab::in_netns(netns, move || {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_NO_CHECK);
        // SAFETY: the pointer leads to an integer of the length given.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
        };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        socket.send_to(&payload, target).map(drop)
    })
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

/// An ICMPv6 message (RFC 4443) in a frame, with the hop limit that neighbour discovery demands: its type, code 0, the
/// four octets after the checksum, and what follows.
///
/// # Panics
/// When it is too long.
pub fn icmpv6(
    from: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
    kind: u8,
    head: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(from.0, to.0)
        .ipv6(from.1.octets(), to.1.octets(), 255)
        .icmpv6_raw(kind, 0, head);
    let mut frame = Vec::new();
    packet.write(&mut frame, body).unwrap_or_else(|e| panic!("no frame: {e}"));
    frame
}

/// Asks who has an IPv6 address (RFC 4861, section 4.3), as Linux does: from an address, with one's own MAC; or from
/// the unspecified address, to learn whether it is free (RFC 4862, section 5.4.2), and then without.
pub fn solicitation(from: (Mac, Ipv6Addr), about: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = about.octets();
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut body = about.octets().to_vec();
    if !from.1.is_unspecified() {
        body.extend([1, 1]);
        body.extend(from.0);
    }
    icmpv6(from, ([0x33, 0x33, 0xff, a, b, c], group), 135, [0; 4], &body)
}

/// Says that an IPv6 address is at a MAC (RFC 4861, section 4.4).
pub fn advertisement(
    from: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
    about: (Mac, Ipv6Addr),
) -> Vec<u8> {
    let body = [&about.1.octets()[..], &[2, 1], &about.0].concat();
    icmpv6(from, to, 136, [0x60, 0, 0, 0], &body)
}

/// The same frame, tagged (IEEE 802.1Q).
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    let (macs, rest) = frame.split_at(12);
    [macs, &[0x81, 0, high, low], rest].concat()
}

/// The two bits of a frame's IP header that tell of congestion (RFC 3168, section 5); `None`: it carries no IP.
pub fn ecn(frame: &[u8]) -> Option<u8> {
    match frame.get(12..16)? {
        [8, 0, _, tos] => Some(tos & 3),
        [0x86, 0xdd, _, class] => Some(class >> 4 & 3),
        _ => None,
    }
}

/// The same frame with those bits set.
pub fn with_ecn(frame: &[u8], ecn: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12] == 0x86 {
        frame[15] = frame[15] & 0xcf | ecn << 4;
        return frame;
    }
    frame[15] = frame[15] & 0xfc | ecn;
    // The header's checksum (RFC 1071) is over that octet, too.
    frame[24..26].fill(0);
    // With its options, if its length says so.
    let length = usize::from(frame[14] & 15) * 4;
    let header = frame.get(14..14 + length.max(20)).unwrap_or(&frame[14..34]);
    let words = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap_or_default();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(from: &str, to: &str) -> Vec<u8> {
        let (from, to) =
            (SocketAddr::new(from.parse().unwrap(), 1), SocketAddr::new(to.parse().unwrap(), 2));
        udp(([2; 6], from), ([4; 6], to), b"payload")
    }

    #[test]
    fn congestion_bits_are_set_and_the_header_stays_whole() {
        for (from, to) in [("10.3.0.2", "10.3.0.5"), ("fd00::2", "fd00::5")] {
            let plain = datagram(from, to);
            assert_eq!(ecn(&plain), Some(0));
            for bits in 0..4 {
                let marked = with_ecn(&plain, bits);
                assert_eq!(ecn(&marked), Some(bits));
                assert_eq!(with_ecn(&marked, 0), plain);
                let sliced = etherparse::SlicedPacket::from_ethernet(&marked).unwrap();
                if let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net {
                    let header = ip.header().to_header();
                    assert_eq!(header.header_checksum, header.calc_header_checksum());
                }
            }
        }
        assert_eq!(ecn(&tagged(&datagram("10.3.0.2", "10.3.0.5"), 7)), None);
    }

    #[test]
    fn who_asks_whether_an_address_is_free_says_nothing_of_itself() {
        let about: Ipv6Addr = "fd00:3::1:203:405".parse().unwrap();
        let asked = solicitation(([2; 6], "fd00:3::2".parse().unwrap()), about);
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 3, 4, 5]);
        assert_eq!((asked.len(), asked[20], asked[21], asked[54]), (86, 58, 255, 135));
        let free = solicitation(([2; 6], Ipv6Addr::UNSPECIFIED), about);
        assert_eq!(free.len(), 78);
    }
}
