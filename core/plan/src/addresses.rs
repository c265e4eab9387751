//! Addresses: the gateway's and the node's own on bridges, the endpoint's in containers.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use weft_kernel::{Key, Netns, Object};
use weft_model::Network;

use crate::Out;
use crate::attachment::Attachment;
use crate::ground::Ground;
use crate::site::Site;

/// The gateway's link-local address, explicit because bridges make none by themselves: source of
/// the gateway's neighbour solicitations (RFC 4861 section 4.3).
const GATEWAY_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A bridge's addresses.
pub(crate) fn of_network(site: &Site<'_>, out: &mut Out) {
    let (ground, network) = (site.ground, site.network());
    let mut put = |net| out.push((Key::Address(Netns::Host, site.bridge(), net), Object::Address));
    for subnet in ground.subnets(network) {
        Network::address_at(subnet, Network::GATEWAY)
            .and_then(|gateway| IpNet::new(gateway, subnet.prefix_len()).ok())
            .into_iter()
            .for_each(&mut put);
        // Alone: the route of the subnet is an object of its own.
        Network::address_at(subnet, site.view.lease.node_offset)
            .map(IpNet::from)
            .into_iter()
            .for_each(&mut put);
    }
    if ground.has_ipv6(network) {
        put(link_local(GATEWAY_LINK_LOCAL));
    }
}

/// The addresses of a container's interface.
pub(crate) fn of_container(ground: &Ground, at: &Attachment<'_>, out: &mut Out) {
    let Some((netns, link)) = at.inside else { return };
    let mut put = |net| out.push((Key::Address(netns, link.to_owned(), net), Object::Address));
    at.addresses()
        .filter(|(address, _)| ground.speaks(*address))
        .filter_map(|(address, subnet)| IpNet::new(address, subnet.prefix_len()).ok())
        .for_each(&mut put);
    if ground.has_ipv6(&at.view.network) {
        put(link_local(at.endpoint.mac.link_local()));
    }
}

fn link_local(address: Ipv6Addr) -> IpNet {
    Ipv6Net::new(address, 64).map_or_else(|_| IpNet::from(IpAddr::V6(address)), IpNet::V6)
}
