//! The wire over loopback, with real TLS: every guard is seen to refuse what it is there for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod guards;
mod limits;
mod local;
mod stub;
mod trust;
