//! Addresses on links (rtnetlink(7), `RTM_NEWADDR`).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use nix::errno::Errno;

use crate::PROTOCOL;
use crate::fault::Trouble;
use crate::netlink::{Refusal, Socket, Writer, attributes};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Who put it there: a mark, as routes have (since Linux 5.18).
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

/// An address of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressInfo {
    pub(crate) link: u32,
    pub(crate) net: IpNet,
}

/// `AF_INET` or `AF_INET6`
pub(crate) const fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

/// `struct ifaddrmsg`
fn ifaddr(net: &IpNet, link: u32) -> [u8; 8] {
    let [a, b, c, d] = link.to_ne_bytes();
    // Link-local addresses say so; `ip addr` and source selection look at it.
    let scope = match net.addr() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => 253,
        _ => 0,
    };
    [family(net.addr()), net.prefix_len(), 0, scope, a, b, c, d]
}

/// Puts the address on the link. `own_route`: the kernel adds no route to the prefix.
pub(crate) fn put(
    socket: &mut Socket,
    link: u32,
    net: &IpNet,
    own_route: bool,
) -> Result<(), Trouble> {
    let request = |w: &mut Writer| {
        w.header(&ifaddr(net, link));
        w.ip(IFA_LOCAL, net.addr());
        w.ip(IFA_ADDRESS, net.addr());
        w.u32(IFA_FLAGS, IFA_F_NODAD | if own_route { IFA_F_NOPREFIXROUTE } else { 0 });
        w.u8(IFA_PROTO, PROTOCOL);
    };
    match socket.change(RTM_NEWADDR, CREATE | REPLACE, request) {
        Err(refusal) if refusal.errno == Errno::EACCES => {
            Err(Trouble::from(refusal).hint(format!(
                "IPv6 is switched off on this link: `sysctl net.ipv6.conf.all.disable_ipv6=0`, or give the network no IPv6 subnet ({net})"
            )))
        }
        other => Ok(other?),
    }
}

/// Takes the address off the link.
pub(crate) fn delete(socket: &mut Socket, link: u32, net: &IpNet) -> Result<(), Trouble> {
    let request = |w: &mut Writer| {
        w.header(&ifaddr(net, link));
        w.ip(IFA_LOCAL, net.addr());
        w.ip(IFA_ADDRESS, net.addr());
    };
    match socket.change(RTM_DELADDR, 0, request) {
        Err(refusal) if !matches!(refusal.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV) => {
            Err(refusal.into())
        }
        _ => Ok(()),
    }
}

/// All addresses of ours in the socket's namespace.
pub(crate) fn all(socket: &mut Socket) -> Result<Vec<AddressInfo>, Refusal> {
    let request = |w: &mut Writer| w.header(&[0; 8]);
    socket.dump(RTM_GETADDR, request, |found: &mut Vec<_>, kind, body| {
        if kind == RTM_NEWADDR {
            found.extend(read(body).filter(|(_, ours)| *ours).map(|(address, _)| address));
        }
    })
}

/// The link that has this address.
pub(crate) fn holder(socket: &mut Socket, ip: IpAddr) -> Result<Option<u32>, Refusal> {
    let request = |w: &mut Writer| w.header(&[0; 8]);
    socket.dump(RTM_GETADDR, request, |found: &mut Option<u32>, kind, body| {
        if kind == RTM_NEWADDR
            && let Some((address, _)) = read(body)
            && address.net.addr() == ip
        {
            *found = Some(address.link);
        }
    })
}

/// Reads the body of an `RTM_NEWADDR` or `RTM_DELADDR`: the address, and whether it has our mark.
pub(crate) fn read(body: &[u8]) -> Option<(AddressInfo, bool)> {
    let prefix_len = *body.get(1)?;
    let link = crate::netlink::read::u32_at(body, 4)?;
    let (mut local, mut address, mut ours) = (None, None, false);
    for attribute in attributes(body.get(8..)?) {
        match attribute.kind {
            IFA_LOCAL => local = attribute.ip(),
            IFA_ADDRESS => address = attribute.ip(),
            IFA_PROTO => ours = attribute.u8() == Some(PROTOCOL),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, prefix_len).ok()?;
    Some((AddressInfo { link, net }, ours))
}

/// Whether the kernel has to make the route to this prefix although the link is the host's: no
/// route of ours leads to link-local addresses.
pub(crate) const fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6))
}
