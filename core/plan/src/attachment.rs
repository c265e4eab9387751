//! The local ends: endpoints of this node inside their containers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use weft_kernel::{Netns, NetnsId};
use weft_model::{ContainerId, Endpoint, NetworkId, device};

use crate::{Inside, NetworkView, View};

/// An endpoint of this node inside its container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attachment<'a> {
    /// Its network.
    pub(crate) view: &'a Arc<NetworkView>,
    /// The endpoint.
    pub(crate) endpoint: &'a Endpoint,
    /// The container's namespace and the name of the interface in it; `None` where it is lent.
    pub(crate) inside: Option<(Netns, &'a str)>,
}

impl Attachment<'_> {
    pub(crate) fn host_end(&self) -> String {
        device::host_end(self.endpoint.id)
    }

    /// The endpoint's addresses with their subnets; one outside of all subnets is left out.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (std::net::IpAddr, &IpNet)> {
        let network = &self.view.network;
        self.endpoint.addresses.iter().filter_map(|a| Some((*a, network.subnet_of(*a)?)))
    }
}

/// What interfaces have in common that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// The namespace that they are in: containers may share one.
    Netns(NetnsId),
    /// The container that they are lent to.
    Lent(ContainerId),
}

/// All attachments of a view, by holder and by network, in order of container and interface.
#[derive(Debug, Default)]
pub(crate) struct Attachments<'a> {
    pub(crate) by_holder: BTreeMap<Holder, Vec<Attachment<'a>>>,
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
                let (holder, inside) = match container.inside {
                    Inside::Netns(id) => {
                        let link = interface.name.as_str();
                        (Holder::Netns(id), Some((Netns::Container(id), link)))
                    }
                    Inside::Lent => (Holder::Lent(container.id), None),
                };
                let host_end = endpoint.id.0 >> 16;
                let mac = (interface.network, endpoint.mac);
                let fresh = endpoint.node == view.node
                    && !endpoints.contains(&host_end)
                    && inside.is_none_or(|inside| !links.contains(&inside))
                    && !macs.contains(&mac);
                if !fresh {
                    continue;
                }
                endpoints.insert(host_end);
                links.extend(inside);
                macs.insert(mac);
                let attachment = Attachment { view: network, endpoint, inside };
                all.by_holder.entry(holder).or_default().push(attachment);
                all.by_network.entry(interface.network).or_default().push(attachment);
            }
        }
        all
    }
}
