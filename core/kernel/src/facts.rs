//! What a host is like, as far as a plan depends on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::TableName;
use crate::shortcut::UnderlayPath;

/// What the host is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Octets of an outer IP packet that the path from the data address carries: the MTU of its
    /// link, or less where the host's route to the outside says so.
    pub underlay_mtu: u32,
    /// Links of the host that live from router advertisements (`accept_ra` 1 and a default route or
    /// address from one): they need `accept_ra=2` before forwarding is switched on.
    pub router_advertisement_links: Vec<String>,
    /// Chains of others, at hook forward or input, with policy drop, of nftables and of table
    /// `filter` of legacy iptables: our traffic needs a rule at their head.
    pub drop_chains: Vec<DropChain>,
    /// Routes of the host that are not ours: prefix and link, default routes left out.
    pub routes: Vec<(IpNet, String)>,
    /// Whether the host has IPv6 at all (`/proc/sys/net/ipv6`).
    pub ipv6: bool,
    /// What the shortcut needs to know; `None` where there is none, so that nothing of it is planned.
    pub shortcut: Option<ShortcutFacts>,
}

/// What the shortcut needs to know of the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShortcutFacts {
    /// Links with Ethernet frames that packets from other nodes may come in by: the one that has the data
    /// address, and those that lead to nodes.
    pub links: Vec<String>,
    /// How packets leave for each node that was asked for. One that cannot be reached, or by a
    /// link without Ethernet frames only, is missing: its frames go the bridge path.
    pub paths: BTreeMap<IpAddr, UnderlayPath>,
}

/// A base chain of others whose policy is drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropChain {
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub chain: String,
    /// Whether it hooks in at input (else forward).
    pub input: bool,
}
