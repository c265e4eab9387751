//! Brings a kernel from what it has to what is wanted, one step at a time.
//!
//! [`diff`] says which steps lead from one [`weft_kernel::KernelState`] to another. [`Machine`]
//! holds what is wanted and what was seen, and answers the one question of its driver: what now?
//! It has no clock and does nothing itself, so the same machine runs against Linux and against a
//! kernel made of values. It knows objects, not networks.

mod backoff;
mod config;
mod diff;
mod effects;
mod late;
mod machine;
mod needs;
mod observed;
mod order;
mod places;
mod sieve;
mod status;
mod watch;

pub use config::{Config, Do, Millis};
pub use diff::diff;
pub use machine::Machine;
pub use observed::Observed;
pub use status::{Damage, FaultStatus, Repair, Status};
