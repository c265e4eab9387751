//! The stories, on the real kernel. One program, so that they run side by side. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod certificates;
mod crash;
mod flood;
mod input;
mod join;
mod networks;
mod outside;
mod reach;
mod reboot;
mod repair;
mod reuse;
mod run;
mod settings;
mod shortcut;
mod spoof;
