//! The local ends: endpoints of this node inside their containers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use weft_kernel::{Netns, NetnsId};
use weft_model::{Endpoint, NetworkId, device};

use crate::{NetworkView, View};

/// An endpoint of this node inside its container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment<'a> {
    /// Its network.
    pub(crate) view: &'a Arc<NetworkView>,
    /// The endpoint.
    pub(crate) endpoint: &'a Endpoint,
    /// The container's namespace.
    pub(crate) netns: NetnsId,
    /// The name of the interface inside.
    pub(crate) link: &'a str,
}

impl Attachment<'_> {
    pub(crate) fn host_end(&self) -> String {
        device::host_end(self.endpoint.id)
    }

    pub(crate) fn inside(&self) -> Netns {
        Netns::Container(self.netns)
    }

    /// The endpoint's addresses with their subnets; one outside of all subnets is left out.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (std::net::IpAddr, &IpNet)> {
        let network = &self.view.network;
        self.endpoint.addresses.iter().filter_map(|a| Some((*a, network.subnet_of(*a)?)))
    }
}

/// All attachments of a view, by namespace (containers may share one) and by network, in order of
/// container and interface.
#[derive(Debug, Default)]
pub(crate) struct Attachments<'a> {
    pub(crate) by_netns: BTreeMap<NetnsId, Vec<Attachment<'a>>>,
    pub(crate) by_network: BTreeMap<NetworkId, Vec<Attachment<'a>>>,
}

impl<'a> Attachments<'a> {
    pub(crate) fn of(view: &'a View) -> Self {
        let mut all = Self::default();
        // One thing in two places would be rewritten for ever: the first one keeps it. Of an
        // endpoint, what its veth is named after.
        let (mut endpoints, mut links) = (BTreeSet::new(), BTreeSet::new());
        let mut macs = BTreeSet::new();
        for container in view.containers.values() {
            for interface in &container.interfaces {
                let Some(network) = view.networks.get(&interface.network) else { continue };
                let Some(endpoint) = network.endpoints.get(&interface.endpoint) else { continue };
                let (netns, link) = (container.netns, interface.name.as_str());
                let host_end = endpoint.id.0 >> 16;
                let mac = (interface.network, endpoint.mac);
                let fresh = endpoint.node == view.node
                    && !endpoints.contains(&host_end)
                    && !links.contains(&(netns, link))
                    && !macs.contains(&mac);
                if !fresh {
                    continue;
                }
                endpoints.insert(host_end);
                links.insert((netns, link));
                macs.insert(mac);
                let attachment = Attachment { view: network, endpoint, netns, link };
                all.by_netns.entry(netns).or_default().push(attachment);
                all.by_network.entry(interface.network).or_default().push(attachment);
            }
        }
        all
    }
}
