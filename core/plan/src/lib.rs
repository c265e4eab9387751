//! From what a node was told to what its kernel and its resolver should hold.
//!
//! `plan` is total: it never fails and never waits. It knows networks and kernel objects; it does
//! not know netlink, files or what the kernel holds now.

pub mod view;

use std::sync::Arc;

use weft_dns::NameTable;
use weft_kernel::KernelState;
use weft_model::Generation;

pub use view::{Container, DropChain, HostFacts, Interface, NetworkView, Peer, View};

/// What a node should hold.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// The generation of the view it was made from.
    pub generation: Generation,
    /// For the kernel.
    pub kernel: KernelState,
    /// For the resolver.
    pub names: Arc<NameTable>,
}
