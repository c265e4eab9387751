//! What a Linux host can hold for Weft, as values.
//!
//! A [`KernelState`] is a map from [`Key`] to [`Object`]. `weft-plan` writes the one that should
//! be, `weft-linux` reads the one that is, `weft-reconcile` turns the difference into [`Step`]s.
//! This room knows what bridges and FDB rows are; it does not know networks, nodes or endpoints.

pub mod facts;
pub mod fake;
pub mod fault;
pub mod key;
pub mod nft;
pub mod object;
pub mod scope;
pub mod shortcut;
pub mod state;
pub mod step;
pub mod text;
pub mod traffic;

pub use facts::{DropChain, HostFacts};
pub use fake::FakeKernel;
pub use fault::{Fault, FaultKind};
pub use key::{FdbTable, Key, Netns, NetnsId, Section, TableName};
pub use object::{LinkKind, Object};
pub use scope::Scope;
pub use shortcut::{Attach, LocalEndpoint, ShortcutKey, ShortcutObject, UnderlayPath};
pub use state::KernelState;
pub use step::Step;
pub use text::render;
pub use traffic::{Count, DropReason, EndpointTraffic, Traffic};
