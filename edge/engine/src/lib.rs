//! The state engine: transactions, snapshots and watches over durable rows.
//!
//! The contract is [`Engine`]; [`embedded`] keeps it in one file for one server. Whatever a
//! backend is made of, it must pass [`mod@conformance`].

pub mod agent_store;
pub mod conformance;
pub mod contract;
pub mod embedded;
pub mod file;

pub use agent_store::{AgentStore, StoreError, Stored};
pub use contract::{Batch, Change, Engine, EngineError, Snapshot, Watch, WatchItem};
pub use embedded::Embedded;
