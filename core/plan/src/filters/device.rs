//! The table `netdev weft`: one chain per device and direction, for frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_kernel::nft::{Equal, HookPoint, Match, PacketType, Rule, Statement};
use weft_kernel::{DropReason, Key, Object};

use super::{drop, filter, netdev, rule};
use crate::Out;
use crate::attachment::Attachment;
use crate::site::Site;

/// `ETH_P_IP` (`linux/if_ether.h`)
const IPV4: u16 = 0x0800;
/// Router advertisement (RFC 4861 section 4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation (RFC 4861 section 4.3).
const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861 section 4.4).
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Broadcast, and multicast, frames per second that a container may send: each is copied to all
/// nodes of the network.
const FLOOD_RATE: u64 = 1_000;
/// And at once.
const FLOOD_BURST: u32 = 1_000;

/// A VTEP's chains. The gateway's MAC is the same on every host and leaves none: outside, this
/// host is known by a MAC of its own.
pub(crate) fn of_network(site: &Site<'_>, out: &mut Out) {
    let (gateway, node) = (site.network().gateway_mac().0, site.node_mac().0);
    let by_gateway = || Match::EtherSource(Equal::Is, gateway);
    let coming = vec![
        drop(vec![by_gateway()], DropReason::AnotherHostsGateway),
        // The bridge passes the frame up, but takes it for somebody else's.
        rule(
            vec![Match::EtherDestination(Equal::Is, node)],
            vec![Statement::SetPacketTypeHost],
            "for this host",
        ),
    ];
    // All neighbours are known: whom the gateway still asks for does not exist, and it would
    // tell its MAC while asking.
    let asks = DropReason::GatewayAsksNobody;
    let going = vec![
        drop(vec![Match::ArpSenderMac(Equal::Is, gateway)], asks),
        drop(vec![by_gateway(), Match::Icmp6Type(NEIGHBOUR_SOLICITATION)], asks),
        drop(vec![by_gateway(), Match::Icmp6Type(NEIGHBOUR_ADVERTISEMENT)], asks),
        rule(vec![by_gateway()], vec![Statement::SetEtherSource(node)], "from this host"),
    ];
    put(&site.vtep(), HookPoint::Ingress, coming, out);
    put(&site.vtep(), HookPoint::Egress, going, out);
}

/// The chain at the host's end of an endpoint's veth: a container sends only under the MAC and
/// the addresses it was given, and floods only so much.
pub(crate) fn of_endpoint(at: &Attachment<'_>, out: &mut Out) {
    let mut rules = vec![drop(
        vec![Match::EtherSource(Equal::IsNot, at.endpoint.mac.0)],
        DropReason::NotItsMac,
    )];
    rules.extend(sources(at));
    rules.extend(arp(at));
    rules.extend(neighbour_discovery(at));
    rules.extend([PacketType::Broadcast, PacketType::Multicast].map(too_many));
    put(&at.host_end(), HookPoint::Ingress, rules, out);
}

fn own(at: &Attachment<'_>, v4: bool) -> Vec<IpAddr> {
    at.endpoint.addresses.iter().copied().filter(|a| a.is_ipv4() == v4).collect()
}

fn link_local(at: &Attachment<'_>) -> IpAddr {
    at.endpoint.mac.link_local().into()
}

/// IP source addresses: its own, and what a router was granted. The unspecified IPv6 address
/// is that of an interface which makes sure that its address is free (RFC 4862 section 5.4.2).
fn sources(at: &Attachment<'_>) -> [Rule; 2] {
    let not = |net: IpNet| Match::Source(Equal::IsNot, net.trunc());
    let granted = |v4: bool| {
        let granted = at.endpoint.allow_source.iter().filter(move |net| net.addr().is_ipv4() == v4);
        own(at, v4).into_iter().map(IpNet::from).chain(granted.copied())
    };
    let mut v4: Vec<Match> = granted(true).map(not).collect();
    if v4.is_empty() {
        v4.push(Match::EtherType(Equal::Is, IPV4));
    }
    let always = [link_local(at), Ipv6Addr::UNSPECIFIED.into()].map(IpNet::from);
    let v6 = granted(false).chain(always).map(not).collect();
    [drop(v4, DropReason::NotItsAddress), drop(v6, DropReason::NotItsAddress)]
}

/// ARP speaks of its sender: its own addresses, or none yet (RFC 5227 section 2.1.1).
fn arp(at: &Attachment<'_>) -> [Rule; 2] {
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let not = |ip| Match::ArpSenderIp(Equal::IsNot, ip);
    [
        drop(
            own(at, true).into_iter().chain([unspecified]).map(not).collect(),
            DropReason::ArpNotItsAddress,
        ),
        drop(vec![Match::ArpSenderMac(Equal::IsNot, at.endpoint.mac.0)], DropReason::ArpNotItsMac),
    ]
}

/// No container is a router of its network, or a neighbour that it is not.
fn neighbour_discovery(at: &Attachment<'_>) -> [Rule; 2] {
    let targets = own(at, false).into_iter().chain([link_local(at)]);
    let not = |ip| Match::NdTarget(Equal::IsNot, ip);
    let advertisement = [Match::Icmp6Type(NEIGHBOUR_ADVERTISEMENT)];
    [
        drop(vec![Match::Icmp6Type(ROUTER_ADVERTISEMENT)], DropReason::NdNotARouter),
        drop(
            advertisement.into_iter().chain(targets.map(not)).collect(),
            DropReason::NdNotItsAddress,
        ),
    ]
}

fn too_many(kind: PacketType) -> Rule {
    let beyond = Statement::LimitOver { rate: FLOOD_RATE, burst: FLOOD_BURST };
    rule(
        vec![Match::PacketType(kind)],
        vec![beyond, Statement::Counter, Statement::Drop],
        DropReason::TooMany.as_str(),
    )
}

/// A chain's name says its device too: names are unique in a table.
fn put(link: &str, point: HookPoint, rules: Vec<Rule>, out: &mut Out) {
    let direction = if point == HookPoint::Egress { "out" } else { "in" };
    let key = Key::DeviceChain(netdev(), link.to_owned(), format!("{link}-{direction}"));
    out.push((key, Object::Chain(filter(point, 0, rules))));
}
