//! Answers names from a table, knowing who asks.
//!
//! No sockets here and no clock: `weft-resolver` reads the packets, this room knows the names.

pub mod table;

pub use table::{Asker, NameTable, NetworkNames, Record};
