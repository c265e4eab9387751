//! Packets, taken apart.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};

use crate::link;

/// A VXLAN packet (RFC 7348): who sends it to whom on the underlay, and the frame inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The sending VTEP.
    pub source: IpAddr,
    /// The receiving VTEP.
    pub target: IpAddr,
    /// UDP source port: a hash of the inner flow.
    pub source_port: u16,
    /// UDP destination port.
    pub target_port: u16,
    /// The network.
    pub vni: u32,
    /// The container's frame.
    pub inner: Vec<u8>,
}

impl Vxlan {
    /// Takes a frame of the underlay apart; `None`: it carries no VXLAN to `port`.
    pub fn parse(frame: &[u8], port: u16) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
        let (source, target) = addresses(&packet)?;
        let payload = udp.payload();
        // Flags with the I bit, 24 bits reserved, 24 bits VNI, 8 bits reserved.
        if udp.destination_port() != port || payload.len() < 8 || payload[0] & 0x08 == 0 {
            return None;
        }
        Some(Self {
            source,
            target,
            source_port: udp.source_port(),
            target_port: udp.destination_port(),
            vni: u32::from_be_bytes([0, payload[4], payload[5], payload[6]]),
            inner: payload[8..].to_vec(),
        })
    }

    /// Whether the frame inside is ARP, or ND in IPv6 (RFC 4861: ICMPv6 types 133 to 137).
    pub fn resolves_addresses(&self) -> bool {
        let Ok(packet) = SlicedPacket::from_ethernet(&self.inner) else { return false };
        let arp = matches!(packet.net, Some(NetSlice::Arp(_)));
        let nd = matches!(&packet.transport, Some(TransportSlice::Icmpv6(icmp)) if (133..=137).contains(&icmp.type_u8()));
        arp || nd
    }

    /// Source and destination of the IP packet inside.
    pub fn inner_addresses(&self) -> Option<(IpAddr, IpAddr)> {
        addresses(&SlicedPacket::from_ethernet(&self.inner).ok()?)
    }
}

fn addresses(packet: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        NetSlice::Arp(_) => None,
    }
}

/// Waits for a VXLAN packet that is `wanted`, on a link.
///
/// # Errors
/// When the link cannot be listened to.
pub fn await_vxlan(
    netns: &Path,
    name: &str,
    port: u16,
    limit: Duration,
    wanted: impl Fn(&Vxlan) -> bool,
) -> std::io::Result<Option<(Vec<u8>, Vxlan)>> {
    let socket = link::open(netns, name)?;
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        let Some(frame) = link::next(&socket, Duration::from_millis(100)) else { continue };
        if let Some(vxlan) = Vxlan::parse(&frame, port).filter(&wanted) {
            return Ok(Some((frame, vxlan)));
        }
    }
    Ok(None)
}

/// The packet layer by layer, outermost first, one line each.
pub fn layers(frame: &[u8], vxlan: &Vxlan) -> Vec<String> {
    let mut lines = vec![
        format!("outer Ethernet  {}", macs(frame)),
        format!("outer IP        {} -> {}   (the hosts)", vxlan.source, vxlan.target),
        format!(
            "outer UDP       port {} -> {}   (VXLAN; the source port is a hash of the inner flow)",
            vxlan.source_port, vxlan.target_port
        ),
        format!("VXLAN           VNI {} ({:#08x})   (the network)", vxlan.vni, vxlan.vni),
        format!("inner Ethernet  {}", macs(&vxlan.inner)),
    ];
    if let Some((source, target)) = vxlan.inner_addresses() {
        lines.push(format!("inner IP        {source} -> {target}   (the containers)"));
    }
    if let Ok(packet) = SlicedPacket::from_ethernet(&vxlan.inner) {
        lines.push(format!("inner payload   {}", transport(&packet)));
    }
    lines
}

fn macs(frame: &[u8]) -> String {
    let mac =
        |octets: &[u8]| octets.iter().map(|o| format!("{o:02x}")).collect::<Vec<_>>().join(":");
    match frame {
        head if head.len() >= 14 => {
            let kind = EtherType(u16::from_be_bytes([head[12], head[13]]));
            format!("{} -> {}   ({kind:?})", mac(&head[6..12]), mac(&head[..6]))
        }
        _ => "cut off".to_owned(),
    }
}

fn transport(packet: &SlicedPacket<'_>) -> String {
    match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => {
            format!("ICMP type {}, {} octets", icmp.type_u8(), icmp.payload().len())
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            format!("ICMPv6 type {}, {} octets", icmp.type_u8(), icmp.payload().len())
        }
        Some(TransportSlice::Udp(udp)) => {
            format!(
                "UDP port {} -> {}, {} octets",
                udp.source_port(),
                udp.destination_port(),
                udp.payload().len()
            )
        }
        Some(TransportSlice::Tcp(tcp)) => {
            format!(
                "TCP port {} -> {}, {} octets",
                tcp.source_port(),
                tcp.destination_port(),
                tcp.payload().len()
            )
        }
        _ => "something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn inner() -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 5])
            .ipv4([10, 3, 0, 2], [10, 3, 0, 5], 64)
            .icmpv4_echo_request(1, 1);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"ping").unwrap();
        frame
    }

    fn outer(port: u16, flags: u8) -> Vec<u8> {
        let header = [flags, 0, 0, 0, 0x57, 0, 1, 0];
        let builder = PacketBuilder::ethernet2([4, 0, 0, 0, 0, 1], [4, 0, 0, 0, 0, 2])
            .ipv4([172, 10, 0, 15], [172, 10, 0, 16], 64)
            .udp(40_000, port);
        let mut frame = Vec::new();
        builder.write(&mut frame, &[&header[..], &inner()].concat()).unwrap();
        frame
    }

    #[test]
    fn a_vxlan_packet_is_taken_apart() {
        let frame = outer(4789, 8);
        let vxlan = Vxlan::parse(&frame, 4789).unwrap();
        assert_eq!((vxlan.vni, vxlan.inner.clone()), (0x57_0001, inner()));
        assert!(!vxlan.resolves_addresses());
        let text = layers(&frame, &vxlan).join("\n");
        for part in [
            "172.10.0.15 -> 172.10.0.16",
            "-> 4789",
            "0x570001",
            "10.3.0.2 -> 10.3.0.5",
            "ICMP type 8",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn other_packets_are_not_vxlan() {
        assert_eq!(Vxlan::parse(&outer(53, 8), 4789), None);
        assert_eq!(Vxlan::parse(&outer(4789, 0), 4789), None);
        assert_eq!(Vxlan::parse(&inner(), 4789), None);
        assert_eq!(Vxlan::parse(&[0; 9], 4789), None);
    }
}
