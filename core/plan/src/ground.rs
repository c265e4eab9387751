//! What every object of a node depends on, beside its own network.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::{Network, NodeId};

use crate::View;

/// The node and its host, as far as all sections depend on them: when it changes, everything is
/// planned anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ground {
    /// This node.
    pub(crate) node: NodeId,
    /// Its VTEP's address.
    pub(crate) data_address: IpAddr,
    /// UDP port of VXLAN.
    pub(crate) vxlan_port: u16,
    /// Octets of an outer IP packet.
    pub(crate) underlay_mtu: u32,
    /// Whether the host has IPv6.
    pub(crate) ipv6: bool,
    /// Whether it has the shortcut. Where that leads to is the host's section's alone.
    pub(crate) shortcut: bool,
}

impl Ground {
    pub(crate) fn of(view: &View) -> Self {
        Self {
            node: view.node,
            data_address: view.data_address,
            vxlan_port: view.vxlan_port,
            underlay_mtu: view.facts.underlay_mtu,
            ipv6: view.facts.ipv6,
            shortcut: view.facts.shortcut.is_some(),
        }
    }

    /// See [`network_mtu`].
    pub(crate) fn mtu(&self, network: &Network) -> u32 {
        network_mtu(network, self.data_address, self.underlay_mtu)
    }

    /// Whether the host can hold objects of the address's family.
    pub(crate) fn speaks(&self, address: IpAddr) -> bool {
        self.ipv6 || address.is_ipv4()
    }

    /// The subnets of a network that the host can hold objects of.
    pub(crate) fn subnets<'a>(&self, network: &'a Network) -> impl Iterator<Item = &'a IpNet> {
        let ground = *self;
        network.subnets.iter().filter(move |subnet| ground.speaks(subnet.addr()))
    }

    /// Whether the network has a subnet of IPv6 that the host can hold objects of.
    pub(crate) fn has_ipv6(&self, network: &Network) -> bool {
        self.subnets(network).any(|subnet| subnet.addr().is_ipv6())
    }
}

/// Octets of an inner IP packet that fits: the outer one less the outer IP header (20 or 40),
/// UDP (8), VXLAN (8) and inner Ethernet (14) headers (RFC 7348 section 5), or what the network
/// was made for, if that is less.
pub fn network_mtu(network: &Network, data_address: IpAddr, underlay_mtu: u32) -> u32 {
    let overhead = if data_address.is_ipv4() { 50 } else { 70 };
    let carried = underlay_mtu.saturating_sub(overhead);
    network.mtu.map_or(carried, |mtu| carried.min(mtu.into()))
}
