//! Routes: a subnet's on the host, the default ones in containers.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_kernel::object::Route;
use weft_kernel::{Key, Netns, Object};
use weft_model::Network;

use crate::Out;
use crate::attachment::Attachment;
use crate::ground::Ground;
use crate::site::Site;

/// The host's way into each subnet. Its source is the node's own address: a container that
/// replied to the gateway's would reach its own host, not ours.
pub(crate) fn of_network(site: &Site<'_>, out: &mut Out) {
    for subnet in site.ground.subnets(site.network()) {
        let source = Network::address_at(subnet, site.view.lease.node_offset);
        let key = Key::Route(Netns::Host, subnet.trunc(), site.bridge());
        out.push((key, Object::Route(Route { via: None, source })));
    }
}

/// The default routes of a namespace: per family, through the gateway of the first interface
/// on a network that has a way out and that family.
pub(crate) fn of_container(ground: &Ground, interfaces: &[Attachment<'_>], out: &mut Out) {
    let everywhere = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    for destination in everywhere {
        let v4 = destination.addr().is_ipv4();
        let first = interfaces.iter().find_map(|at| {
            let network = &at.view.network;
            let gateway = at
                .addresses()
                .filter(|(address, _)| address.is_ipv4() == v4 && ground.speaks(*address))
                .find_map(|(_, subnet)| Network::address_at(subnet, Network::GATEWAY))?;
            at.inside.filter(|_| !network.internal).map(|inside| (inside, gateway))
        });
        if let Some(((netns, link), gateway)) = first {
            let key = Key::Route(netns, destination, link.to_owned());
            out.push((key, Object::Route(Route { via: Some(gateway), source: None })));
        }
    }
}
