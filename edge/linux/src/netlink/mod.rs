//! Netlink as Weft needs it: messages written and read in place, many to a system call.

pub(crate) mod read;
pub(crate) mod socket;
pub(crate) mod write;

pub(crate) use read::{Attribute, attributes};
pub(crate) use socket::{Batch, Refusal, Socket};
pub(crate) use write::Writer;
