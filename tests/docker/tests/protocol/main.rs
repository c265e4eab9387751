//! The drivers' protocol, without engines: calls by the thousand, in Docker's order and in none, whole
//! and broken, by several callers at once, with daemons that are killed. What was answered is kept in a
//! model, and must hold. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod bad;
mod call;
mod container;
mod engine;
mod network;
mod random;
mod shuffled;
mod stories;
mod world;
