//! The room itself: engines come up apart from each other, can be damaged, and go without a trace. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod apart;
mod end;
mod restart;
