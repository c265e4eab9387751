//! Routes (rtnetlink(7), `RTM_NEWROUTE`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nix::errno::Errno;
use weft_kernel::object::Route;

use crate::PROTOCOL;
use crate::addr::family;
use crate::fault::Trouble;
use crate::netlink::{Refusal, Socket, Writer, attributes};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const EXCLUSIVE: u16 = 0x200;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTAX_MTU: u16 = 2;

const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteInfo {
    pub(crate) to: IpNet,
    pub(crate) link: u32,
    pub(crate) protocol: u8,
    pub(crate) metric: u32,
    pub(crate) route: Route,
    pub(crate) mtu: Option<u32>,
    /// Whether it goes away by itself.
    pub(crate) expires: bool,
}

/// Where the host sends packets to one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) link: u32,
    /// `None`: the address itself, on the link.
    pub(crate) next_hop: Option<IpAddr>,
    /// What the route says, or what was learnt of the path (RFC 1191, RFC 8201).
    pub(crate) mtu: Option<u32>,
}

/// Where packets from one address to another go now, by rules, routes and what was learnt; `None`:
/// nowhere, or into a tunnel that the route itself makes.
pub(crate) fn way(socket: &mut Socket, from: IpAddr, to: IpAddr) -> Result<Option<Way>, Refusal> {
    let length = if to.is_ipv4() { 32 } else { 128 };
    let request = |w: &mut Writer| {
        w.header(&[family(to), length, length, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        w.ip(RTA_DST, to);
        w.ip(RTA_SRC, from);
    };
    match socket.get(RTM_GETROUTE, request, read_way) {
        Err(refusal) if leads_nowhere(refusal.errno) => Ok(None),
        other => other,
    }
}

/// What the kernel says to a route of type unreachable, blackhole, prohibit or throw, to no route,
/// and to an address that it does not send from.
const fn leads_nowhere(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::EINVAL
            | Errno::EACCES
            | Errno::EAGAIN
            | Errno::ESRCH
            | Errno::EADDRNOTAVAIL
            | Errno::EAFNOSUPPORT
            | Errno::EOPNOTSUPP
    )
}

fn read_way(body: &[u8]) -> Option<Way> {
    if *body.get(7)? != UNICAST {
        return None;
    }
    let mut way = Way { link: 0, next_hop: None, mtu: None };
    for attribute in attributes(body.get(12..)?) {
        match attribute.kind {
            RTA_OIF => way.link = attribute.u32()?,
            RTA_GATEWAY => way.next_hop = attribute.ip(),
            // `struct rtvia`: family, then an address of it (RFC 8950).
            RTA_VIA => way.next_hop = crate::netlink::read::ip(attribute.value.get(2..)?),
            RTA_METRICS => way.mtu = mtu(attribute),
            RTA_ENCAP => return None,
            _ => {}
        }
    }
    Some(way)
}

fn mtu(metrics: crate::netlink::Attribute<'_>) -> Option<u32> {
    metrics.nested().find(|a| a.kind == RTAX_MTU)?.u32()
}

/// `struct rtmsg`
fn rtmsg(family: u8, prefix_len: u8, table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; 12] {
    [family, prefix_len, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}

fn write(w: &mut Writer, to: &IpNet, link: u32, route: Option<&Route>) {
    let via = route.and_then(|route| route.via);
    let v4 = to.addr().is_ipv4();
    let scope = if v4 && via.is_none() && route.is_some() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    // When deleting, scope 255 (`RT_SCOPE_NOWHERE`) stands for any.
    let scope = if route.is_none() && v4 { 255 } else { scope };
    let kind = if route.is_some() { UNICAST } else { 0 };
    w.header(&rtmsg(family(to.addr()), to.prefix_len(), TABLE_MAIN, PROTOCOL, scope, kind));
    w.ip(RTA_DST, to.network());
    w.u32(RTA_OIF, link);
    if let Some(via) = via {
        w.ip(RTA_GATEWAY, via);
    }
    if let Some(source) = route.and_then(|route| route.source) {
        w.ip(RTA_PREFSRC, source);
    }
}

/// Puts the route. One of ours to the same prefix out of the same link is changed; one of others
/// stays, and ours waits.
pub(crate) fn put(
    socket: &mut Socket,
    to: &IpNet,
    link: u32,
    route: &Route,
) -> Result<(), Trouble> {
    let add = |w: &mut Writer| write(w, to, link, Some(route));
    match socket.change(RTM_NEWROUTE, CREATE | EXCLUSIVE, add) {
        Ok(()) => return Ok(()),
        Err(refusal) if refusal.errno == Errno::EEXIST => {}
        Err(refusal) => return Err(explain(refusal, to, route)),
    }
    let there = to_prefix(socket, to)?;
    if there.iter().any(|r| r.protocol == PROTOCOL && r.link == link && r.route == *route) {
        return Ok(());
    }
    if there.iter().any(|r| r.protocol != PROTOCOL && r.metric == metric_of(to)) {
        return Err(Trouble::taken(
            format!("the host has a route to {to} already"),
            format!("see `ip route show {to}`: delete it, or give the network another subnet"),
        ));
    }
    // Networks whose subnets overlap each have a route: behind one another, found by the link.
    if there.iter().any(|r| r.link == link) {
        delete(socket, to, link)?;
    }
    socket.change(RTM_NEWROUTE, CREATE | APPEND, add).map_err(|refusal| explain(refusal, to, route))
}

/// What the kernel gives a route that names no metric.
const fn metric_of(to: &IpNet) -> u32 {
    match to {
        IpNet::V4(_) => 0,
        IpNet::V6(_) => 1024,
    }
}

fn explain(refusal: Refusal, to: &IpNet, route: &Route) -> Trouble {
    match (refusal.errno, route.source) {
        (Errno::EINVAL, Some(source)) if refusal.text.is_empty() => {
            Trouble::new(Errno::EINVAL, format!("{source} is not an address of this host"))
        }
        (Errno::ENETUNREACH, _) if route.via.is_some() => {
            Trouble::from(refusal).hint(format!("the next hop of {to} is on none of the links"))
        }
        _ => refusal.into(),
    }
}

/// Deletes our route to the prefix out of the link.
pub(crate) fn delete(socket: &mut Socket, to: &IpNet, link: u32) -> Result<(), Trouble> {
    match socket.change(RTM_DELROUTE, 0, |w| write(w, to, link, None)) {
        Err(refusal) if !matches!(refusal.errno, Errno::ESRCH | Errno::ENODEV) => {
            Err(refusal.into())
        }
        _ => Ok(()),
    }
}

/// The routes of ours in the socket's namespace.
pub(crate) fn ours(socket: &mut Socket) -> Result<Vec<RouteInfo>, Refusal> {
    main_table(socket, PROTOCOL)
}

/// All routes of the main table, whoever put them there.
pub(crate) fn of_everybody(socket: &mut Socket) -> Result<Vec<RouteInfo>, Refusal> {
    main_table(socket, 0)
}

fn to_prefix(socket: &mut Socket, to: &IpNet) -> Result<Vec<RouteInfo>, Refusal> {
    let mut routes = of_everybody(socket)?;
    routes.retain(|route| route.to == to.trunc());
    Ok(routes)
}

/// The main table; `protocol` 0 stands for any.
fn main_table(socket: &mut Socket, protocol: u8) -> Result<Vec<RouteInfo>, Refusal> {
    let mut routes = Vec::new();
    for family in [2, 10] {
        let request = |w: &mut Writer| {
            w.header(&rtmsg(family, 0, 0, protocol, 0, 0));
            w.u32(RTA_TABLE, u32::from(TABLE_MAIN));
        };
        let found = socket.dump(RTM_GETROUTE, request, |found: &mut Vec<_>, kind, body| {
            // A kernel without IPv6 answers for IPv4 once more.
            if kind == RTM_NEWROUTE && body.first() == Some(&family) {
                found.extend(read(body));
            }
        });
        match found {
            Ok(found) => routes.extend(found),
            // No such table yet, or no IPv6 in this kernel.
            Err(refusal)
                if matches!(
                    refusal.errno,
                    Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT
                ) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(routes)
}

/// Reads the body of an `RTM_NEWROUTE`.
fn read(body: &[u8]) -> Option<RouteInfo> {
    let flags = crate::netlink::read::u32_at(body, 8)?;
    if *body.get(7)? != UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let v4 = *body.first()? == 2;
    let prefix_len = *body.get(1)?;
    let mut info = RouteInfo {
        to: IpNet::new(
            if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
            prefix_len,
        )
        .ok()?,
        link: 0,
        protocol: *body.get(5)?,
        metric: 0,
        route: Route { via: None, source: None },
        mtu: None,
        expires: false,
    };
    for attribute in attributes(body.get(12..)?) {
        match attribute.kind {
            RTA_DST => info.to = IpNet::new(attribute.ip()?, prefix_len).ok()?,
            RTA_OIF => info.link = attribute.u32()?,
            RTA_GATEWAY => info.route.via = attribute.ip(),
            RTA_PRIORITY => info.metric = attribute.u32()?,
            RTA_PREFSRC => info.route.source = attribute.ip(),
            RTA_CACHEINFO => info.expires = crate::netlink::read::u32_at(attribute.value, 8)? != 0,
            RTA_METRICS => info.mtu = mtu(attribute),
            _ => {}
        }
    }
    Some(info)
}
