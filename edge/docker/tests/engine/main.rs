//! The client of an engine, against one that answers as Docker 20.10 (API 1.41) was seen to.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod answers;
mod errors;
mod events;
mod fake;
