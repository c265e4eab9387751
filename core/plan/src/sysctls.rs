//! Sysctls (`ip-sysctl.rst` in the kernel's documentation).

use weft_kernel::{Key, Netns, Object};
use weft_model::Network;

use crate::attachment::Attachment;
use crate::ground::Ground;
use crate::site::Site;
use crate::{HostFacts, Out};

/// Forwarding, per family that some network with a way out has. Uplinks that live from router
/// advertisements go on listening to them although the host forwards (`accept_ra` 2).
pub(crate) fn of_host<'a>(
    ground: &Ground,
    facts: &HostFacts,
    networks: impl Iterator<Item = &'a Network> + Clone,
    out: &mut Out,
) {
    let mut put = |path: String, value: &str| {
        out.push((Key::Sysctl(Netns::Host, path), Object::Sysctl(value.to_owned())));
    };
    let subnets = || networks.clone().filter(|n| !n.internal).flat_map(|n| ground.subnets(n));
    if subnets().any(|subnet| subnet.addr().is_ipv4()) {
        put("net/ipv4/ip_forward".to_owned(), "1");
    }
    if subnets().any(|subnet| subnet.addr().is_ipv6()) {
        for link in &facts.router_advertisement_links {
            put(format!("net/ipv6/conf/{link}/accept_ra"), "2");
        }
        put("net/ipv6/conf/all/forwarding".to_owned(), "1");
    }
}

/// A bridge's.
pub(crate) fn of_network(site: &Site<'_>, out: &mut Out) {
    let bridge = site.bridge();
    let mut put = |path: String, value: &str| {
        out.push((Key::Sysctl(Netns::Host, path), Object::Sysctl(value.to_owned())));
    };
    if site.ground.has_ipv6(site.network()) {
        // A host may have IPv6 and yet give new links none.
        put(format!("net/ipv6/conf/{bridge}/disable_ipv6"), "0");
    }
    if site.network().allow_overlap {
        // The strict check asks for the one best route back, which may lead to the other
        // network with the same subnet.
        put(format!("net/ipv4/conf/{bridge}/rp_filter"), "2");
    }
}

/// A container's interface's: its addresses are its own from the first moment, and nobody else
/// configures it.
pub(crate) fn of_container(ground: &Ground, at: &Attachment<'_>, out: &mut Out) {
    let Some((netns, link)) = at.inside.filter(|_| ground.ipv6) else { return };
    let mut put = |name: &str, value: &str| {
        let path = format!("net/ipv6/conf/{link}/{name}");
        out.push((Key::Sysctl(netns, path), Object::Sysctl(value.to_owned())));
    };
    put("accept_dad", "0");
    put("accept_ra", "0");
    if ground.has_ipv6(&at.view.network) {
        put("disable_ipv6", "0");
    }
}
