//! Answers names from a table, knowing who asks.
//!
//! No sockets here and no clock: `weft-resolver` reads the packets, this room knows the names. The
//! agent hands over a [`NameTable`], later [`Patch`]es; [`NameIndex`] holds them in the order they
//! are asked in; [`answer`] decides.

mod answer;
mod index;
mod patch;
mod query;
mod reverse;
pub mod table;

pub use answer::{Answer, Data, TTL, answer};
pub use index::{Misfit, NameIndex};
pub use patch::{Delta, NetworkChange, Patch};
pub use query::{Kind, Query};
pub use table::{Asker, NameTable, NetworkNames, Record};
