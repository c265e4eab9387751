//! The programs in the kernel, with frames made here (`BPF_PROG_TEST_RUN`). Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod cables;
mod decapsulation;
mod drops;
mod encapsulation;
mod frames;
mod links;
mod model;
mod passes;
mod random;
mod scene;
mod world;
