//! Makes, changes and deletes links.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use weft_kernel::key::MacBytes;
use weft_kernel::object::{Link, LinkKind, Port};

use crate::fault::Trouble;
use crate::link::{
    self, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_BR_MCAST_SNOOPING, IFLA_BR_STP_STATE,
    IFLA_BR_VLAN_DEFAULT_PVID, IFLA_BRPORT_LEARNING, IFLA_BRPORT_LOCKED,
    IFLA_BRPORT_NEIGH_SUPPRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INET6_ADDR_GEN_MODE,
    IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINKINFO,
    IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, IFLA_VXLAN_DF, IFLA_VXLAN_ID, IFLA_VXLAN_LEARNING,
    IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6, IFLA_VXLAN_PORT, IFLA_VXLAN_TTL, IFLA_VXLAN_UDP_CSUM,
    IFLA_VXLAN_UDP_ZERO_CSUM6_RX, IFLA_VXLAN_UDP_ZERO_CSUM6_TX, IN6_ADDR_GEN_MODE_NONE, LinkInfo,
    RTM_DELLINK, RTM_NEWLINK, TTL, VXLAN_DF_SET, ifinfo,
};
use crate::netlink::{Socket, Writer};

const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const AF_INET6: u16 = 10;
const VETH_INFO_PEER: u16 = 1;
/// What a bridge has when nobody says otherwise.
const DEFAULT_MTU: u32 = 1500;

/// The other end of a veth pair at its making.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Where it is put; `None`: beside the first end.
    pub(crate) netns: Option<BorrowedFd<'a>>,
    /// Its MAC and MTU, when they are known already.
    pub(crate) link: Option<&'a Link>,
}

/// Makes the link, of a veth pair both ends. It is down, and not yet marked: the kernel takes no
/// alias at the making.
pub(crate) fn create(
    socket: &mut Socket,
    name: &str,
    link: &Link,
    peer: Option<&Peer<'_>>,
) -> Result<(), Trouble> {
    let request = |w: &mut Writer| {
        w.header(&ifinfo(0, 0, 0));
        w.text(IFLA_IFNAME, name);
        w.attr(IFLA_ADDRESS, &link.mac);
        match &link.kind {
            // A bridge keeps an MTU for good only when it is set after creation.
            LinkKind::Bridge => w.nest(IFLA_LINKINFO, bridge),
            LinkKind::Vxlan { vni, local, port } => {
                w.u32(IFLA_MTU, link.mtu);
                w.nest(IFLA_LINKINFO, |w| vxlan(w, *vni, *local, *port));
            }
            LinkKind::Veth { .. } | LinkKind::Lent => {
                w.u32(IFLA_MTU, link.mtu);
                w.nest(IFLA_LINKINFO, |w| veth(w, peer));
            }
            LinkKind::VethPeer => {}
        }
    };
    Ok(socket.change(RTM_NEWLINK, CREATE | EXCLUSIVE, request)?)
}

fn bridge(w: &mut Writer) {
    w.text(IFLA_INFO_KIND, "bridge");
    w.nest(IFLA_INFO_DATA, |w| {
        bridge_settings(w);
        // Or every row would be there twice on kernels with VLAN filtering: once for VLAN 1.
        w.attr(IFLA_BR_VLAN_DEFAULT_PVID, &0_u16.to_ne_bytes());
    });
}

fn bridge_settings(w: &mut Writer) {
    w.u8(IFLA_BR_MCAST_SNOOPING, 0);
    w.u32(IFLA_BR_STP_STATE, 0);
}

fn vxlan(w: &mut Writer, vni: u32, local: IpAddr, port: u16) {
    w.text(IFLA_INFO_KIND, "vxlan");
    w.nest(IFLA_INFO_DATA, |w| {
        w.u32(IFLA_VXLAN_ID, vni);
        match local {
            IpAddr::V4(v4) => {
                w.attr(IFLA_VXLAN_LOCAL, &v4.octets());
                // Outer packets carry no checksum (RFC 7348 section 4.1), as over IPv6, and as those
                // of the shortcut: what is inside has its own.
                w.u8(IFLA_VXLAN_UDP_CSUM, 0);
            }
            IpAddr::V6(v6) => {
                w.attr(IFLA_VXLAN_LOCAL6, &v6.octets());
                // Over IPv4 they would mean nothing, but all devices on one UDP port must agree
                // on them, and other people's are plain.
                w.u8(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, 1);
                w.u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1);
            }
        }
        w.u16_be(IFLA_VXLAN_PORT, port);
        vxlan_settings(w, local);
    });
}

fn vxlan_settings(w: &mut Writer, local: IpAddr) {
    w.u8(IFLA_VXLAN_LEARNING, 0);
    w.u8(IFLA_VXLAN_TTL, TTL);
    // Over IPv6 routers never fragment.
    if local.is_ipv4() {
        w.u8(IFLA_VXLAN_DF, VXLAN_DF_SET);
    }
}

fn veth(w: &mut Writer, peer: Option<&Peer<'_>>) {
    w.text(IFLA_INFO_KIND, "veth");
    let Some(peer) = peer else { return };
    w.nest(IFLA_INFO_DATA, |w| {
        w.nest(VETH_INFO_PEER, |w| {
            w.header(&ifinfo(0, 0, 0));
            w.text(IFLA_IFNAME, peer.name);
            if let Some(netns) = peer.netns {
                w.attr(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
            }
            if let Some(link) = peer.link {
                w.attr(IFLA_ADDRESS, &link.mac);
                w.u32(IFLA_MTU, link.mtu);
            }
        });
    });
}

/// Brings what can be changed to what it should be; asks the kernel for what differs only.
pub(crate) fn adjust(
    socket: &mut Socket,
    have: &LinkInfo,
    want: &Link,
    bridge: Option<u32>,
) -> Result<(), Trouble> {
    let marked = want.kind != LinkKind::VethPeer;
    let master = bridge.unwrap_or(0);
    let change = Change {
        mac: (have.mac != Some(want.mac)).then_some(want.mac),
        mtu: needs_mtu(have, want).then_some(want.mtu),
        alias: (marked && have.alias != want.alias).then_some(want.alias.as_str()),
        master: (marked && have.master.unwrap_or(0) != master).then_some(master),
        addr_gen: have.addr_gen_mode.is_some_and(|mode| mode != IN6_ADDR_GEN_MODE_NONE),
        settings: settings_differ(have, &want.kind).then_some(&want.kind),
    };
    if change.is_any() {
        socket.change(RTM_NEWLINK, 0, |w| change.write(w, have.index))?;
    }
    if let Some(port) = &want.port
        && (change.master.is_some() || port_differs(have, port))
    {
        socket.change(RTM_NEWLINK, 0, |w| write_port(w, have.index, port))?;
    }
    Ok(())
}

/// Gives the end of a pair that is to be lent its MAC and MTU. All else is its runtime's business.
pub(crate) fn prepare(
    socket: &mut Socket,
    have: &LinkInfo,
    mac: MacBytes,
    mtu: u32,
) -> Result<(), Trouble> {
    let change = Change {
        mac: (have.mac != Some(mac)).then_some(mac),
        mtu: (have.mtu != mtu).then_some(mtu),
        alias: None,
        master: None,
        addr_gen: false,
        settings: None,
    };
    if change.is_any() {
        socket.change(RTM_NEWLINK, 0, |w| change.write(w, have.index))?;
    }
    Ok(())
}

fn needs_mtu(have: &LinkInfo, want: &Link) -> bool {
    // A fresh bridge follows its ports' MTU until one is set, even to what it is.
    have.mtu != want.mtu
        || (want.kind == LinkKind::Bridge && !have.is_marked() && want.mtu != DEFAULT_MTU)
}

fn settings_differ(have: &LinkInfo, kind: &LinkKind) -> bool {
    match kind {
        LinkKind::Bridge => have.bridge.mcast_snooping || have.bridge.stp,
        LinkKind::Vxlan { .. } => !have.vxlan.is_as_made(),
        LinkKind::Veth { .. } | LinkKind::VethPeer | LinkKind::Lent => false,
    }
}

fn port_differs(have: &LinkInfo, want: &Port) -> bool {
    have.port.as_ref().is_none_or(|port| {
        port.learning || port.neigh_suppress != want.neigh_suppress || port.locked != want.locked
    })
}

struct Change<'a> {
    mac: Option<MacBytes>,
    mtu: Option<u32>,
    alias: Option<&'a str>,
    master: Option<u32>,
    addr_gen: bool,
    settings: Option<&'a LinkKind>,
}

impl Change<'_> {
    const fn is_any(&self) -> bool {
        self.mac.is_some()
            || self.mtu.is_some()
            || self.alias.is_some()
            || self.master.is_some()
            || self.addr_gen
            || self.settings.is_some()
    }

    fn write(&self, w: &mut Writer, index: u32) {
        w.header(&ifinfo(index, 0, 0));
        if let Some(mac) = self.mac {
            w.attr(IFLA_ADDRESS, &mac);
        }
        if let Some(mtu) = self.mtu {
            w.u32(IFLA_MTU, mtu);
        }
        if let Some(alias) = self.alias {
            w.attr(IFLA_IFALIAS, alias.as_bytes());
        }
        if let Some(master) = self.master {
            w.u32(IFLA_MASTER, master);
        }
        if self.addr_gen {
            w.nest(IFLA_AF_SPEC, |w| {
                w.nest(AF_INET6, |w| w.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE));
            });
        }
        match self.settings {
            Some(LinkKind::Bridge) => w.nest(IFLA_LINKINFO, |w| {
                w.text(IFLA_INFO_KIND, "bridge");
                w.nest(IFLA_INFO_DATA, bridge_settings);
            }),
            Some(LinkKind::Vxlan { local, .. }) => w.nest(IFLA_LINKINFO, |w| {
                w.text(IFLA_INFO_KIND, "vxlan");
                w.nest(IFLA_INFO_DATA, |w| vxlan_settings(w, *local));
            }),
            Some(LinkKind::Veth { .. } | LinkKind::VethPeer | LinkKind::Lent) | None => {}
        }
    }
}

fn write_port(w: &mut Writer, index: u32, port: &Port) {
    w.header(&ifinfo(index, 0, 0));
    w.nest(IFLA_LINKINFO, |w| {
        w.text(IFLA_INFO_SLAVE_KIND, "bridge");
        w.nest(IFLA_INFO_SLAVE_DATA, |w| {
            w.u8(IFLA_BRPORT_LEARNING, 0);
            w.u8(IFLA_BRPORT_NEIGH_SUPPRESS, u8::from(port.neigh_suppress));
            w.u8(IFLA_BRPORT_LOCKED, u8::from(port.locked));
        });
    });
}

/// Deletes the link; one that is gone already is no trouble.
pub(crate) fn delete(socket: &mut Socket, index: u32) -> Result<(), Trouble> {
    match socket.change(RTM_DELLINK, 0, |w| w.header(&ifinfo(index, 0, 0))) {
        Err(refusal) if refusal.errno != Errno::ENODEV => Err(refusal.into()),
        _ => Ok(()),
    }
}

/// Switches the link on or off.
pub(crate) fn set_up(socket: &mut Socket, index: u32, up: bool) -> Result<(), Trouble> {
    let flags = if up { IFF_UP } else { 0 };
    Ok(socket.change(RTM_NEWLINK, 0, |w| w.header(&ifinfo(index, flags, IFF_UP)))?)
}

/// Why a VXLAN device is refused, with the other device that is in its way.
pub(crate) fn explain_vxlan(
    socket: &mut Socket,
    trouble: Trouble,
    vni: u32,
    port: u16,
    local: Option<IpAddr>,
) -> Trouble {
    let Ok(links) = link::all(socket) else { return trouble };
    let others = || links.values().filter(|l| l.kind == "vxlan" && l.vxlan.port == port);
    match trouble.errno() {
        Errno::EEXIST => match others().find(|l| l.vxlan.vni == vni) {
            Some(other) => Trouble::taken(
                format!("{} carries VNI {vni} on UDP port {port} already", other.name),
                format!("delete it (`ip link del {}`), or give it another VNI or port", other.name),
            ),
            None => trouble,
        },
        Errno::EADDRINUSE => {
            let ours: &[&str] = match local {
                Some(IpAddr::V6(_)) => &["udp6zerocsumrx"],
                Some(IpAddr::V4(_)) | None => &[],
            };
            let differs = |l: &&LinkInfo| l.is_up() && l.vxlan.receive_flags != ours;
            match others().find(differs) {
                Some(other) => explain_flags(other, port, ours),
                None => Trouble::taken(
                    format!("another program uses UDP port {port}"),
                    format!(
                        "find it with `ss -lunp sport = :{port}` and stop it, or give the cluster another VXLAN port"
                    ),
                ),
            }
        }
        _ => trouble,
    }
}

fn explain_flags(other: &LinkInfo, port: u16, ours: &[&str]) -> Trouble {
    let list = |flags: &[&str]| match flags {
        [] => "none".to_owned(),
        flags => flags.join(" "),
    };
    let (name, theirs, ours) = (&other.name, list(&other.vxlan.receive_flags), list(ours));
    Trouble::taken(
        format!(
            "the VXLAN device {name} is up on UDP port {port} with other flags ({theirs}; ours: {ours})"
        ),
        format!(
            "make {name} with another dstport or with flags {ours}, or give the cluster another VXLAN port"
        ),
    )
}
