//! What the cluster may become: commands in, transactions or rejections out.
//!
//! [`apply`] is the only writer of the cluster state. It is deterministic: identifiers, random
//! numbers and the time come in with the command.

pub mod command;
pub mod rejection;
pub mod transaction;

pub use command::{Command, Outcome};
pub use rejection::Rejection;
pub use transaction::{Precondition, Transaction, Write};
