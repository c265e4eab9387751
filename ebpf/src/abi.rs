//! Keys and values of the tables as octets. Everything is encoded by field, at the offset that the header
//! tells, so there is nothing to cast and nothing to get wrong about padding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::layout;

/// A MAC address.
pub type MacBytes = [u8; 6];

/// An address as the tables hold it: 16 octets, IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2).
pub const fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of [`mapped`] octets.
pub fn unmapped(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

/// Room for a value, filled by field.
struct Writer<const N: usize>([u8; N]);

impl<const N: usize> Writer<N> {
    const fn new() -> Self {
        Self([0; N])
    }

    fn put(mut self, at: Range<usize>, octets: &[u8]) -> Self {
        self.0[at].copy_from_slice(octets);
        self
    }
}

/// The octets of a field.
fn take<const N: usize>(from: &[u8], at: Range<usize>) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&from[at]);
    octets
}

fn number(from: &[u8], at: Range<usize>) -> u32 {
    u32::from_ne_bytes(take(from, at))
}

fn large(from: &[u8], at: Range<usize>) -> u64 {
    u64::from_ne_bytes(take(from, at))
}

/// `struct weft_node`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The VTEP's own address.
    pub address: IpAddr,
    /// UDP port of VXLAN.
    pub port: u16,
}

impl Node {
    /// As the table holds it.
    pub fn encode(&self) -> [u8; layout::WEFT_NODE] {
        Writer::new()
            .put(layout::WEFT_NODE_ADDRESS, &mapped(self.address))
            .put(layout::WEFT_NODE_PORT, &self.port.to_be_bytes())
            .0
    }

    /// Back again.
    pub fn decode(octets: &[u8; layout::WEFT_NODE]) -> Self {
        Self {
            address: unmapped(take(octets, layout::WEFT_NODE_ADDRESS)),
            port: u16::from_be_bytes(take(octets, layout::WEFT_NODE_PORT)),
        }
    }
}

/// `struct weft_endpoint`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its network.
    pub vni: u32,
    /// Its place in the counters.
    pub slot: u32,
    /// Its MAC.
    pub mac: MacBytes,
    /// Whether it has granted sources.
    pub more: bool,
    /// Its first IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its first IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Endpoint {
    /// As the table holds it.
    pub fn encode(&self) -> [u8; layout::WEFT_ENDPOINT] {
        let v4 = self.v4.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let v6 = self.v6.unwrap_or(Ipv6Addr::UNSPECIFIED);
        Writer::new()
            .put(layout::WEFT_ENDPOINT_VNI, &self.vni.to_ne_bytes())
            .put(layout::WEFT_ENDPOINT_SLOT, &self.slot.to_ne_bytes())
            .put(layout::WEFT_ENDPOINT_MAC, &self.mac)
            .put(layout::WEFT_ENDPOINT_MORE, &[u8::from(self.more)])
            .put(layout::WEFT_ENDPOINT_V4, &v4.octets())
            .put(layout::WEFT_ENDPOINT_V6, &v6.octets())
            .put(layout::WEFT_ENDPOINT_LINK_LOCAL, &link_local(self.mac).octets())
            .0
    }

    /// Back again.
    pub fn decode(octets: &[u8; layout::WEFT_ENDPOINT]) -> Self {
        let v4 = Ipv4Addr::from(take::<4>(octets, layout::WEFT_ENDPOINT_V4));
        let v6 = Ipv6Addr::from(take::<16>(octets, layout::WEFT_ENDPOINT_V6));
        Self {
            vni: number(octets, layout::WEFT_ENDPOINT_VNI),
            slot: number(octets, layout::WEFT_ENDPOINT_SLOT),
            mac: take(octets, layout::WEFT_ENDPOINT_MAC),
            more: octets[layout::WEFT_ENDPOINT_MORE.start] != 0,
            v4: Some(v4).filter(|v4| !v4.is_unspecified()),
            v6: Some(v6).filter(|v6| !v6.is_unspecified()),
        }
    }
}

/// The link-local address that an interface with this MAC gives itself (RFC 4291 appendix A).
pub fn link_local(mac: MacBytes) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Key of `granted`: an interface and a prefix of addresses, IPv4 ones mapped.
pub fn granted_key(
    ifindex: u32,
    address: IpAddr,
    prefix_length: u8,
) -> [u8; layout::WEFT_GRANTED_KEY] {
    let family = if address.is_ipv4() { 96 } else { 0 };
    let length = 32 + family + u32::from(prefix_length);
    Writer::new()
        .put(layout::WEFT_GRANTED_KEY_PREFIX_LENGTH, &length.to_ne_bytes())
        .put(layout::WEFT_GRANTED_KEY_IFINDEX, &ifindex.to_ne_bytes())
        .put(layout::WEFT_GRANTED_KEY_ADDRESS, &mapped(address))
        .0
}

/// Value of `granted`: the version of IP that the prefix is about.
pub const fn granted_value(address: IpAddr) -> [u8; 4] {
    let version: u32 = if address.is_ipv4() { 4 } else { 6 };
    version.to_ne_bytes()
}

/// Interface, address and prefix length of a key of `granted`.
pub fn granted_key_of(octets: &[u8; layout::WEFT_GRANTED_KEY]) -> (u32, IpAddr, u8) {
    let length = number(octets, layout::WEFT_GRANTED_KEY_PREFIX_LENGTH).saturating_sub(32);
    let address = unmapped(take(octets, layout::WEFT_GRANTED_KEY_ADDRESS));
    let length = if address.is_ipv4() { length.saturating_sub(96) } else { length };
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    (number(octets, layout::WEFT_GRANTED_KEY_IFINDEX), address, length)
}

/// Key of `fdb`.
pub fn fdb_key(vni: u32, mac: MacBytes) -> [u8; layout::WEFT_FDB_KEY] {
    Writer::new()
        .put(layout::WEFT_FDB_KEY_VNI, &vni.to_ne_bytes())
        .put(layout::WEFT_FDB_KEY_MAC, &mac)
        .0
}

/// VNI and MAC of a key of `fdb`.
pub fn fdb_key_of(octets: &[u8; layout::WEFT_FDB_KEY]) -> (u32, MacBytes) {
    (number(octets, layout::WEFT_FDB_KEY_VNI), take(octets, layout::WEFT_FDB_KEY_MAC))
}

/// `struct weft_fdb`: where a MAC is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fdb {
    /// On this host.
    Local {
        /// The host's end of its veth.
        ifindex: u32,
        /// Its place in the counters.
        slot: u32,
    },
    /// Behind this VTEP.
    Remote(IpAddr),
}

impl Fdb {
    /// As the table holds it.
    pub fn encode(&self) -> [u8; layout::WEFT_FDB] {
        match self {
            Self::Local { ifindex, slot } => {
                Writer::new()
                    .put(layout::WEFT_FDB_IFINDEX, &ifindex.to_ne_bytes())
                    .put(layout::WEFT_FDB_SLOT, &slot.to_ne_bytes())
                    .0
            }
            Self::Remote(vtep) => Writer::new().put(layout::WEFT_FDB_VTEP, &mapped(*vtep)).0,
        }
    }

    /// Back again.
    pub fn decode(octets: &[u8; layout::WEFT_FDB]) -> Self {
        match number(octets, layout::WEFT_FDB_IFINDEX) {
            0 => Self::Remote(unmapped(take(octets, layout::WEFT_FDB_VTEP))),
            ifindex => Self::Local { ifindex, slot: number(octets, layout::WEFT_FDB_SLOT) },
        }
    }
}

/// Key of `members` and `neighbours`.
pub fn address_key(vni: u32, address: IpAddr) -> [u8; layout::WEFT_ADDRESS_KEY] {
    Writer::new()
        .put(layout::WEFT_ADDRESS_KEY_VNI, &vni.to_ne_bytes())
        .put(layout::WEFT_ADDRESS_KEY_ADDRESS, &mapped(address))
        .0
}

/// VNI and address of a key of `members` and `neighbours`.
pub fn address_key_of(octets: &[u8; layout::WEFT_ADDRESS_KEY]) -> (u32, IpAddr) {
    let address = unmapped(take(octets, layout::WEFT_ADDRESS_KEY_ADDRESS));
    (number(octets, layout::WEFT_ADDRESS_KEY_VNI), address)
}

/// Value of `members` and `neighbours`.
pub fn mac_value(mac: MacBytes) -> [u8; layout::WEFT_MAC] {
    Writer::new().put(layout::WEFT_MAC_MAC, &mac).0
}

/// The MAC of a value of `members` and `neighbours`.
pub fn mac_of(octets: &[u8; layout::WEFT_MAC]) -> MacBytes {
    take(octets, layout::WEFT_MAC_MAC)
}

/// `struct weft_vtep`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    /// The link that frames to it leave by.
    pub ifindex: u32,
    /// Octets of the largest outer packet.
    pub mtu: u32,
    /// The next hop on that link; the VTEP itself when it is on the link.
    pub next_hop: IpAddr,
    /// This node's VTEP.
    pub source: IpAddr,
    /// The VTEP that it is about.
    pub destination: IpAddr,
    /// UDP port of VXLAN.
    pub port: u16,
}

/// TTL and hop limit of outer headers: that of the VXLAN devices.
const TTL: u8 = 64;
/// `IPPROTO_UDP`
const UDP: u8 = 17;
/// The VXLAN flag that says that there is a VNI (RFC 7348 section 5).
const VNI_IS_THERE: u8 = 0x08;

impl Vtep {
    /// As the table holds it. Both addresses must be of one family: there is no header otherwise,
    /// and its length is 0.
    pub fn encode(&self) -> [u8; layout::WEFT_VTEP] {
        let header = self.header();
        let length = u8::try_from(header.len()).unwrap_or_default();
        let start = layout::WEFT_VTEP_HEADER.start;
        let (family, next_hop) = next_hop(self.next_hop);
        Writer::new()
            .put(layout::WEFT_VTEP_IFINDEX, &self.ifindex.to_ne_bytes())
            .put(layout::WEFT_VTEP_MTU, &self.mtu.to_ne_bytes())
            .put(layout::WEFT_VTEP_FAMILY, &family.to_ne_bytes())
            .put(layout::WEFT_VTEP_NEXT_HOP, &next_hop)
            .put(layout::WEFT_VTEP_HEADER_LENGTH, &[length])
            .put(start..start + header.len(), &header)
            .0
    }

    /// Back again; `None` when the octets hold no header of ours.
    pub fn decode(octets: &[u8; layout::WEFT_VTEP]) -> Option<Self> {
        let length = octets[layout::WEFT_VTEP_HEADER_LENGTH.start];
        let header = &octets[layout::WEFT_VTEP_HEADER];
        let (source, destination, udp) = match length {
            36 => {
                let v4 = |at| IpAddr::from(take::<4>(header, at));
                (v4(12..16), v4(16..20), 20)
            }
            56 => {
                let v6 = |at| IpAddr::from(take::<16>(header, at));
                (v6(8..24), v6(24..40), 40)
            }
            _ => return None,
        };
        let vtep = Self {
            ifindex: number(octets, layout::WEFT_VTEP_IFINDEX),
            mtu: number(octets, layout::WEFT_VTEP_MTU),
            next_hop: next_hop_of(octets)?,
            source,
            destination,
            port: u16::from_be_bytes(take(header, udp + 2..udp + 4)),
        };
        // Every octet counts: a template that differs somewhere is somebody else's doing.
        (vtep.encode() == *octets).then_some(vtep)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ipv4(source.octets(), destination.octets()).to_vec()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 0, UDP, TTL];
                header.extend(source.octets());
                header.extend(destination.octets());
                header
            }
            _ => return Vec::new(),
        };
        header.extend([0, 0]);
        header.extend(self.port.to_be_bytes());
        header.extend([0; 4]);
        header.extend([VNI_IS_THERE, 0, 0, 0, 0, 0, 0, 0]);
        header
    }
}

/// `AF_INET`, `AF_INET6` (`sys/socket.h` of Linux)
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// A next hop as `struct bpf_redir_neigh` has it: family, and the address from the first octet on.
fn next_hop(address: IpAddr) -> (u32, [u8; 16]) {
    match address {
        IpAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.octets());
            (AF_INET, octets)
        }
        IpAddr::V6(v6) => (AF_INET6, v6.octets()),
    }
}

fn next_hop_of(octets: &[u8; layout::WEFT_VTEP]) -> Option<IpAddr> {
    let start = layout::WEFT_VTEP_NEXT_HOP.start;
    match number(octets, layout::WEFT_VTEP_FAMILY) {
        AF_INET => Some(take::<4>(octets, start..start + 4).into()),
        AF_INET6 => Some(take::<16>(octets, start..start + 16).into()),
        _ => None,
    }
}

/// An IPv4 header of length 0 with its checksum (RFC 791 section 3.1): DF, which makes the
/// identification meaningless (RFC 6864 section 4).
fn ipv4(source: [u8; 4], destination: [u8; 4]) -> [u8; 20] {
    let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, TTL, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&source);
    header[16..20].copy_from_slice(&destination);
    let words = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap_or_default();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// `struct weft_counters`: frames and octets of the shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames that the endpoint sent.
    pub sent_packets: u64,
    /// Their octets.
    pub sent_bytes: u64,
    /// Frames that it received.
    pub received_packets: u64,
    /// Their octets.
    pub received_bytes: u64,
}

impl Counters {
    /// From the table.
    pub fn decode(octets: &[u8; layout::WEFT_COUNTERS]) -> Self {
        Self {
            sent_packets: large(octets, layout::WEFT_COUNTERS_SENT_PACKETS),
            sent_bytes: large(octets, layout::WEFT_COUNTERS_SENT_BYTES),
            received_packets: large(octets, layout::WEFT_COUNTERS_RECEIVED_PACKETS),
            received_bytes: large(octets, layout::WEFT_COUNTERS_RECEIVED_BYTES),
        }
    }
}

/// Key of `drops`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drop {
    /// The network.
    pub vni: u32,
    /// The host's end of the sender's veth; 0: from the underlay.
    pub ifindex: u32,
    /// `WEFT_DROP_…`
    pub reason: u32,
}

impl Drop {
    /// As the table holds it.
    pub fn encode(&self) -> [u8; layout::WEFT_DROP_KEY] {
        Writer::new()
            .put(layout::WEFT_DROP_KEY_VNI, &self.vni.to_ne_bytes())
            .put(layout::WEFT_DROP_KEY_IFINDEX, &self.ifindex.to_ne_bytes())
            .put(layout::WEFT_DROP_KEY_REASON, &self.reason.to_ne_bytes())
            .0
    }

    /// Back again.
    pub fn decode(octets: &[u8; layout::WEFT_DROP_KEY]) -> Self {
        Self {
            vni: number(octets, layout::WEFT_DROP_KEY_VNI),
            ifindex: number(octets, layout::WEFT_DROP_KEY_IFINDEX),
            reason: number(octets, layout::WEFT_DROP_KEY_REASON),
        }
    }
}

/// Frames and octets of a value of `drops`.
pub fn count_of(octets: &[u8; layout::WEFT_COUNT]) -> (u64, u64) {
    (large(octets, layout::WEFT_COUNT_PACKETS), large(octets, layout::WEFT_COUNT_BYTES))
}
