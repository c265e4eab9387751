//! The plugin over a real socket, spoken to as an engine speaks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bad;
mod common;
mod limits;
mod methods;
mod mutated;
mod requests;
mod socket;
