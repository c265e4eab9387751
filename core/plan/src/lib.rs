//! From what a node was told to what its kernel and its resolver should hold.
//!
//! `plan` is total: it never fails and never waits. It knows networks and kernel objects; it does
//! not know netlink, files or what the kernel holds now.
//!
//! One file per noun: [`view`] is what comes in; links, addresses, sysctls, routes, rows
//! (neighbours, FDB, flood), filters, the shortcut and names are what comes out. IPv4 and IPv6 are
//! one path: code loops over addresses and subnets and asks only whether the host speaks their
//! family.

mod addresses;
mod attachment;
mod filters;
mod ground;
mod links;
mod names;
mod planner;
mod routes;
mod rows;
mod shortcut;
mod site;
mod sysctls;
pub mod view;

use std::sync::Arc;

use weft_dns::NameTable;
use weft_kernel::{KernelState, Key, Object};
use weft_model::Generation;

pub use ground::network_mtu;
pub use planner::Planner;
pub use view::{Container, Inside, Interface, NetworkView, Peer, View};
pub use weft_kernel::{DropChain, HostFacts};

/// What a node should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// The generation of the view it was made from.
    pub generation: Generation,
    /// For the kernel.
    pub kernel: KernelState,
    /// For the resolver.
    pub names: Arc<NameTable>,
}

/// What the node of `view` should hold. Equal views give equal plans, and every view gives one:
/// what contradicts itself in a view (an endpoint of a node that takes no part, an attachment
/// without an endpoint) is left out.
pub fn plan(view: &View) -> NodePlan {
    Planner::new().plan(view)
}

/// Objects on their way into a section.
type Out = Vec<(Key, Object)>;
