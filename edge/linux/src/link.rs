//! Reads links (rtnetlink(7), `RTM_GETLINK`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nix::errno::Errno;
use weft_kernel::key::MacBytes;
use weft_kernel::{Count, Fault};

use crate::fault::Trouble;
use crate::netlink::{Attribute, Refusal, Socket, Writer, attributes};

/// Links of ours on the host say so in their `ifalias`, in its first word.
pub(crate) const MARK: &str = "weft ";
/// The host's ends of veth pairs that are lent say that too, in the second.
pub(crate) const LENT: &str = "weft lent ";

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
const RTM_GETNSID: u16 = 90;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_IFALIAS: u16 = 20;
pub(crate) const IFLA_AF_SPEC: u16 = 26;
pub(crate) const IFLA_NET_NS_FD: u16 = 28;
const IFLA_STATS64: u16 = 23;
const IFLA_EXT_MASK: u16 = 29;
pub(crate) const IFLA_LINK_NETNSID: u16 = 37;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;

pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
pub(crate) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(crate) const IFLA_INFO_SLAVE_DATA: u16 = 5;

pub(crate) const IFLA_BR_STP_STATE: u16 = 5;
pub(crate) const IFLA_BR_MCAST_SNOOPING: u16 = 23;
pub(crate) const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;

pub(crate) const IFLA_BRPORT_LEARNING: u16 = 8;
pub(crate) const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
pub(crate) const IFLA_BRPORT_LOCKED: u16 = 39;

pub(crate) const IFLA_VXLAN_ID: u16 = 1;
pub(crate) const IFLA_VXLAN_LOCAL: u16 = 4;
pub(crate) const IFLA_VXLAN_TTL: u16 = 5;
pub(crate) const IFLA_VXLAN_LEARNING: u16 = 7;
pub(crate) const IFLA_VXLAN_PORT: u16 = 15;
pub(crate) const IFLA_VXLAN_LOCAL6: u16 = 17;
pub(crate) const IFLA_VXLAN_UDP_CSUM: u16 = 18;
pub(crate) const IFLA_VXLAN_UDP_ZERO_CSUM6_TX: u16 = 19;
pub(crate) const IFLA_VXLAN_UDP_ZERO_CSUM6_RX: u16 = 20;
const IFLA_VXLAN_REMCSUM_RX: u16 = 22;
const IFLA_VXLAN_GBP: u16 = 23;
const IFLA_VXLAN_REMCSUM_NOPARTIAL: u16 = 24;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_VXLAN_GPE: u16 = 27;
pub(crate) const IFLA_VXLAN_DF: u16 = 29;
const IFLA_VXLAN_VNIFILTER: u16 = 30;

const AF_INET6: u16 = 10;
pub(crate) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(crate) const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

pub(crate) const IFF_UP: u32 = 1;
const ARPHRD_ETHER: u16 = 1;

/// A link as the kernel shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub(crate) index: u32,
    pub(crate) flags: u32,
    /// Whether its frames are Ethernet's (`ARPHRD_ETHER`).
    pub(crate) ethernet: bool,
    pub(crate) name: String,
    pub(crate) mac: Option<MacBytes>,
    pub(crate) mtu: u32,
    pub(crate) alias: String,
    pub(crate) master: Option<u32>,
    /// Index of the link it hangs on; of a veth: of its other end.
    pub(crate) lower: Option<u32>,
    /// In which namespace `lower` is, by the number that the namespace of this link gave it.
    pub(crate) lower_nsid: Option<i32>,
    pub(crate) addr_gen_mode: Option<u8>,
    pub(crate) kind: String,
    pub(crate) bridge: BridgeInfo,
    pub(crate) vxlan: VxlanInfo,
    pub(crate) port: Option<PortInfo>,
}

/// What only bridges have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BridgeInfo {
    pub(crate) stp: bool,
    pub(crate) mcast_snooping: bool,
}

/// What only VXLAN devices have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VxlanInfo {
    pub(crate) vni: u32,
    pub(crate) local: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) learning: bool,
    pub(crate) ttl: u8,
    pub(crate) df: u8,
    /// Flags that all VXLAN devices on one UDP port must share (`VXLAN_F_RCV_FLAGS`, vxlan.h).
    pub(crate) receive_flags: Vec<&'static str>,
}

/// What only ports of a bridge have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PortInfo {
    pub(crate) learning: bool,
    pub(crate) neigh_suppress: bool,
    pub(crate) locked: bool,
}

/// Hops of an outer packet, as of any other of this host.
pub(crate) const TTL: u8 = 64;
pub(crate) const VXLAN_DF_SET: u8 = 1;

impl VxlanInfo {
    /// Whether what can be changed later, and has no field in [`weft_kernel::object::Link`], is
    /// as we make it.
    pub(crate) fn is_as_made(&self) -> bool {
        let v4 = self.local.is_none_or(|local| local.is_ipv4());
        !self.learning && self.ttl == TTL && (!v4 || self.df == VXLAN_DF_SET)
    }
}

impl LinkInfo {
    pub(crate) fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Whether it carries our mark.
    pub(crate) fn is_marked(&self) -> bool {
        self.alias.starts_with(MARK)
    }

    /// Whether it is the host's end of a veth pair of ours whose other end a container runtime
    /// looks after.
    pub(crate) fn is_lent(&self) -> bool {
        self.kind == "veth" && self.alias.starts_with(LENT)
    }
}

/// `struct ifinfomsg`
pub(crate) fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// All links of the socket's namespace, by index.
pub(crate) fn all(socket: &mut Socket) -> Result<BTreeMap<u32, LinkInfo>, Refusal> {
    let request = |w: &mut Writer| {
        w.header(&ifinfo(0, 0, 0));
        w.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    };
    socket.dump(RTM_GETLINK, request, |links: &mut BTreeMap<_, _>, kind, body| {
        if kind == RTM_NEWLINK
            && let Some(link) = read(body)
        {
            links.insert(link.index, link);
        }
    })
}

/// Of these names those that links have, ours or not, in the calling thread's network namespace.
///
/// # Errors
/// When the kernel cannot be read.
pub fn links_named(names: &BTreeSet<String>) -> Result<BTreeSet<String>, Fault> {
    let read = || -> Result<_, Refusal> { all(&mut Socket::open(libc::NETLINK_ROUTE)?) };
    let links = read().map_err(|refusal| Trouble::from(refusal).of("ip link"))?;
    let found = links.into_values().map(|link| link.name);
    Ok(found.filter(|name| names.contains(name)).collect())
}

/// What a link has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LinkStats {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) marked: bool,
    pub(crate) received: Count,
    pub(crate) sent: Count,
}

/// What all links of the socket's namespace have counted.
pub(crate) fn stats(socket: &mut Socket) -> Result<Vec<LinkStats>, Refusal> {
    let request = |w: &mut Writer| w.header(&ifinfo(0, 0, 0));
    socket.dump(RTM_GETLINK, request, |links: &mut Vec<_>, kind, body| {
        if kind == RTM_NEWLINK {
            links.extend(read_stats(body));
        }
    })
}

/// `struct rtnl_link_stats64` begins with packets received and sent, octets received and sent.
fn read_stats(body: &[u8]) -> Option<LinkStats> {
    let index = crate::netlink::read::u32_at(body, 4)?;
    let mut stats = LinkStats { index, ..LinkStats::default() };
    for attribute in attributes(body.get(16..)?) {
        match attribute.kind {
            IFLA_IFNAME => stats.name = attribute.text(),
            IFLA_IFALIAS => stats.marked = attribute.text().starts_with(MARK),
            IFLA_STATS64 => {
                let field =
                    |number: usize| crate::netlink::read::u64_at(attribute.value, number * 8);
                stats.received = Count { packets: field(0)?, bytes: field(2)? };
                stats.sent = Count { packets: field(1)?, bytes: field(3)? };
            }
            _ => {}
        }
    }
    Some(stats)
}

/// The link of this name.
pub(crate) fn by_name(socket: &mut Socket, name: &str) -> Result<Option<LinkInfo>, Refusal> {
    one(socket, 0, Some(name))
}

/// The link of this index.
pub(crate) fn by_index(socket: &mut Socket, index: u32) -> Result<Option<LinkInfo>, Refusal> {
    one(socket, index, None)
}

fn one(socket: &mut Socket, index: u32, name: Option<&str>) -> Result<Option<LinkInfo>, Refusal> {
    let request = |w: &mut Writer| {
        w.header(&ifinfo(index, 0, 0));
        w.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        if let Some(name) = name {
            w.text(IFLA_IFNAME, name);
        }
    };
    match socket.get(RTM_GETLINK, request, read) {
        Err(refusal) if refusal.errno == Errno::ENODEV => Ok(None),
        other => other,
    }
}

/// The number that the socket's namespace has for the one behind `fd`, if it has one.
pub(crate) fn nsid_of(socket: &mut Socket, fd: i32) -> Result<Option<i32>, Refusal> {
    const NETNSA_NSID: u16 = 1;
    const NETNSA_FD: u16 = 3;
    let request = |w: &mut Writer| {
        w.header(&[0; 4]);
        w.attr(NETNSA_FD, &fd.to_ne_bytes());
    };
    let nsid = socket.get(RTM_GETNSID, request, |body| {
        let nsid = attributes(body.get(4..)?).find(|a| a.kind == NETNSA_NSID)?;
        nsid.u32().map(u32::cast_signed)
    })?;
    Ok(nsid.filter(|nsid| *nsid >= 0))
}

/// Reads the body of an `RTM_NEWLINK`.
pub(crate) fn read(body: &[u8]) -> Option<LinkInfo> {
    let mut link = LinkInfo {
        index: crate::netlink::read::u32_at(body, 4)?,
        flags: crate::netlink::read::u32_at(body, 8)?,
        ethernet: crate::netlink::read::u16_at(body, 2)? == ARPHRD_ETHER,
        ..LinkInfo::default()
    };
    for attribute in attributes(body.get(16..)?) {
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.text(),
            IFLA_ADDRESS => link.mac = attribute.mac(),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_IFALIAS => link.alias = attribute.text(),
            IFLA_MASTER => link.master = attribute.u32(),
            IFLA_LINK => link.lower = attribute.u32(),
            IFLA_LINK_NETNSID => link.lower_nsid = attribute.u32().map(u32::cast_signed),
            IFLA_AF_SPEC => link.addr_gen_mode = addr_gen_mode(attribute),
            IFLA_LINKINFO => read_info(&mut link, attribute),
            _ => {}
        }
    }
    Some(link)
}

fn addr_gen_mode(specification: Attribute<'_>) -> Option<u8> {
    let inet6 = specification.nested().find(|a| a.kind == AF_INET6)?;
    inet6.nested().find(|a| a.kind == IFLA_INET6_ADDR_GEN_MODE)?.u8()
}

fn read_info(link: &mut LinkInfo, info: Attribute<'_>) {
    let mut port_of = String::new();
    for attribute in info.nested() {
        match attribute.kind {
            IFLA_INFO_KIND => link.kind = attribute.text(),
            IFLA_INFO_SLAVE_KIND => port_of = attribute.text(),
            IFLA_INFO_DATA if link.kind == "bridge" => link.bridge = bridge(attribute),
            IFLA_INFO_DATA if link.kind == "vxlan" => link.vxlan = vxlan(attribute),
            IFLA_INFO_SLAVE_DATA if port_of == "bridge" => link.port = Some(port(attribute)),
            _ => {}
        }
    }
}

fn is_on(attribute: Attribute<'_>) -> bool {
    attribute.value.iter().any(|byte| *byte != 0)
}

fn bridge(data: Attribute<'_>) -> BridgeInfo {
    let mut bridge = BridgeInfo::default();
    for attribute in data.nested() {
        match attribute.kind {
            IFLA_BR_STP_STATE => bridge.stp = is_on(attribute),
            IFLA_BR_MCAST_SNOOPING => bridge.mcast_snooping = is_on(attribute),
            _ => {}
        }
    }
    bridge
}

fn vxlan(data: Attribute<'_>) -> VxlanInfo {
    let mut vxlan = VxlanInfo::default();
    for attribute in data.nested() {
        let set = is_on(attribute);
        // These are flags without a value: there, or not.
        match attribute.kind {
            IFLA_VXLAN_GBP => vxlan.receive_flags.push("gbp"),
            IFLA_VXLAN_GPE => vxlan.receive_flags.push("gpe"),
            IFLA_VXLAN_REMCSUM_NOPARTIAL => vxlan.receive_flags.push("remcsum_nopartial"),
            IFLA_VXLAN_UDP_ZERO_CSUM6_RX if set => vxlan.receive_flags.push("udp6zerocsumrx"),
            IFLA_VXLAN_REMCSUM_RX if set => vxlan.receive_flags.push("remcsumrx"),
            IFLA_VXLAN_COLLECT_METADATA if set => vxlan.receive_flags.push("external"),
            IFLA_VXLAN_VNIFILTER if set => vxlan.receive_flags.push("vnifilter"),
            IFLA_VXLAN_ID => vxlan.vni = attribute.u32().unwrap_or_default(),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = attribute.ip(),
            IFLA_VXLAN_PORT => vxlan.port = attribute.u16_be().unwrap_or_default(),
            IFLA_VXLAN_LEARNING => vxlan.learning = set,
            IFLA_VXLAN_TTL => vxlan.ttl = attribute.u8().unwrap_or_default(),
            IFLA_VXLAN_DF => vxlan.df = attribute.u8().unwrap_or_default(),
            _ => {}
        }
    }
    vxlan
}

fn port(data: Attribute<'_>) -> PortInfo {
    let mut port = PortInfo::default();
    for attribute in data.nested() {
        match attribute.kind {
            IFLA_BRPORT_LEARNING => port.learning = is_on(attribute),
            IFLA_BRPORT_NEIGH_SUPPRESS => port.neigh_suppress = is_on(attribute),
            IFLA_BRPORT_LOCKED => port.locked = is_on(attribute),
            _ => {}
        }
    }
    port
}

/// Reads a port's settings from the body of a message of the bridge's own (`AF_BRIDGE`).
pub(crate) fn read_port(body: &[u8]) -> Option<PortInfo> {
    let settings = attributes(body.get(16..)?).find(|a| a.kind == IFLA_PROTINFO)?;
    Some(port(settings))
}

/// The trouble of a link that is not there.
pub(crate) fn absent(name: &str) -> Trouble {
    Trouble::new(Errno::ENODEV, format!("there is no link {name}"))
}

/// The trouble of a lent pair that is not there: it died with the container's namespace, or the
/// host was booted since.
pub(crate) fn end_gone() -> Trouble {
    Trouble::new(Errno::ENODEV, "the container's end is gone").hint("restart the container")
}

/// The trouble of a link that seems to be ours, but for its alias.
pub(crate) fn unmarked(name: &str, alias: &str) -> Trouble {
    Trouble::taken(
        format!("the alias of {name} is not Weft's any more"),
        format!("if nobody else needs it, set it back: `ip link set {name} alias '{alias}'`"),
    )
}

/// The trouble of a link that is somebody else's.
pub(crate) fn taken(name: &str) -> Trouble {
    Trouble::taken(
        format!("there is a link {name} that is not Weft's (its alias does not start with `weft`)"),
        format!("rename or delete it: `ip link del {name}`"),
    )
}
