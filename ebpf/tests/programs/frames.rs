//! Frames, as another hand writes them: nothing here comes from the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader,
};

pub(crate) type Mac = [u8; 6];

pub(crate) const TYPE_V4: u16 = 0x0800;
pub(crate) const TYPE_ARP: u16 = 0x0806;
pub(crate) const TYPE_V6: u16 = 0x86dd;

/// What is in an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    /// ICMP or ICMPv6: an echo request.
    Echo,
    Sctp,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Udp, Kind::Echo, Kind::Sctp];

/// An Ethernet frame.
pub(crate) fn ethernet(destination: Mac, source: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes(), payload].concat()
}

/// An Ethernet frame with an IP packet.
pub(crate) fn frame(destination: Mac, source: Mac, packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 4 { TYPE_V4 } else { TYPE_V6 };
    ethernet(destination, source, kind, packet)
}

/// Protocol and octets of a segment with a payload.
pub(crate) fn segment(
    kind: Kind,
    ends: (IpAddr, IpAddr),
    ports: (u16, u16),
    payload: &[u8],
) -> (u8, Vec<u8>) {
    let mut octets = Vec::new();
    match (kind, ends) {
        (Kind::Tcp, _) => {
            let mut tcp = TcpHeader::new(ports.0, ports.1, 7, 1000);
            tcp.set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
            tcp.checksum = match ends {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    tcp.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload).unwrap()
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    tcp.calc_checksum_ipv6_raw(a.octets(), b.octets(), payload).unwrap()
                }
                _ => panic!("two families"),
            };
            tcp.write(&mut octets).unwrap();
            octets.extend(payload);
            (6, octets)
        }
        (Kind::Udp, _) => {
            let length = payload.len();
            let mut udp = UdpHeader::without_ipv4_checksum(ports.0, ports.1, length).unwrap();
            udp.checksum = match ends {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    udp.calc_checksum_ipv4_raw(a.octets(), b.octets(), payload).unwrap()
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    udp.calc_checksum_ipv6_raw(a.octets(), b.octets(), payload).unwrap()
                }
                _ => panic!("two families"),
            };
            udp.write(&mut octets).unwrap();
            octets.extend(payload);
            (17, octets)
        }
        (Kind::Echo, (IpAddr::V4(_), _)) => {
            let echo = etherparse::IcmpEchoHeader { id: ports.0, seq: ports.1 };
            let icmp =
                etherparse::Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), payload);
            icmp.write(&mut octets).unwrap();
            octets.extend(payload);
            (1, octets)
        }
        (Kind::Echo, (IpAddr::V6(a), IpAddr::V6(b))) => {
            let echo = etherparse::IcmpEchoHeader { id: ports.0, seq: ports.1 };
            let kind = Icmpv6Type::EchoRequest(echo);
            (58, icmpv6(kind, a, b, payload))
        }
        (Kind::Sctp, _) => {
            octets.extend(ports.0.to_be_bytes());
            octets.extend(ports.1.to_be_bytes());
            octets.extend([9; 8]);
            octets.extend(payload);
            (132, octets)
        }
        _ => panic!("two families"),
    }
}

/// An ICMPv6 message with its checksum.
pub(crate) fn icmpv6(
    kind: Icmpv6Type,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: &[u8],
) -> Vec<u8> {
    let header = etherparse::Icmpv6Header::with_checksum(
        kind,
        source.octets(),
        destination.octets(),
        payload,
    )
    .unwrap();
    let mut octets = Vec::new();
    header.write(&mut octets).unwrap();
    octets.extend(payload);
    octets
}

/// An IP packet. The traffic class is DSCP and ECN together.
pub(crate) fn ip(
    source: IpAddr,
    destination: IpAddr,
    class: u8,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = v4_header(source, destination, class, protocol, payload.len());
            v4_packet(&header, payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: class,
                flow_label: Ipv6FlowLabel::try_new(0x12345).unwrap(),
                payload_length: u16::try_from(payload.len()).unwrap(),
                next_header: IpNumber(protocol),
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
            };
            [&header.to_bytes()[..], payload].concat()
        }
        _ => panic!("two families"),
    }
}

/// The header of an IPv4 packet that is no fragment.
pub(crate) fn v4_header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    class: u8,
    protocol: u8,
    length: usize,
) -> Ipv4Header {
    let length = u16::try_from(length).unwrap();
    let mut header =
        Ipv4Header::new(length, 64, IpNumber(protocol), source.octets(), destination.octets())
            .unwrap();
    header.dscp = (class >> 2).try_into().unwrap();
    header.ecn = (class & 3).try_into().unwrap();
    header.identification = 0x4711;
    header
}

/// With the header's checksum.
pub(crate) fn v4_packet(header: &Ipv4Header, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    header.write(&mut octets).unwrap();
    octets.extend(payload);
    octets
}

/// A whole packet with a segment of 20 octets of payload.
pub(crate) fn packet(kind: Kind, ends: (IpAddr, IpAddr), class: u8) -> Vec<u8> {
    let (protocol, segment) = segment(kind, ends, (1000, 2000), &[0xab; 20]);
    ip(ends.0, ends.1, class, protocol, &segment)
}

/// VXLAN (RFC 7348) around a frame: the outer IP packet, of DF and TTL 64, without a UDP checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outer {
    pub(crate) ends: (IpAddr, IpAddr),
    pub(crate) ports: (u16, u16),
    pub(crate) class: u8,
    pub(crate) vni: u32,
}

impl Outer {
    pub(crate) fn around(&self, inner: &[u8]) -> Vec<u8> {
        self.with(inner, [8, 0, 0, 0], 0)
    }

    /// With any first four octets of the VXLAN header, and any last one.
    pub(crate) fn with(&self, inner: &[u8], flags: [u8; 4], last: u8) -> Vec<u8> {
        let vni = (self.vni << 8 | u32::from(last)).to_be_bytes();
        let length = u16::try_from(16 + inner.len()).unwrap().to_be_bytes();
        let (from, to) = (self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes());
        let udp = [&from[..], &to, &length, &[0, 0], &flags, &vni, inner].concat();
        match self.ends {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = v4_header(source, destination, self.class, 17, udp.len());
                header.identification = 0;
                header.dont_fragment = true;
                v4_packet(&header, &udp)
            }
            (source, destination) => {
                let mut packet = ip(source, destination, self.class, 17, &udp);
                // The flow label is 0.
                packet[1] &= 0xf0;
                packet[2..4].fill(0);
                packet
            }
        }
    }
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
pub(crate) fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &sender.0, &sender.1.octets(), &target.0, &target.1.octets()].concat()
}

/// A neighbour solicitation or advertisement (RFC 4861 sections 4.3, 4.4) with the option for a MAC: an IPv6 packet
/// of hop limit 255.
pub(crate) fn neighbour(
    kind: u8,
    flags: u8,
    ends: (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    option: Option<Mac>,
) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    if let Some(mac) = option {
        body.extend([if kind == 135 { 1 } else { 2 }, 1]);
        body.extend(mac);
    }
    let unknown = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [flags, 0, 0, 0] };
    let message = icmpv6(unknown, ends.0, ends.1, &body);
    let mut packet = ip(ends.0.into(), ends.1.into(), 0, 58, &message);
    packet[1..4].fill(0);
    packet[7] = 255;
    packet
}
