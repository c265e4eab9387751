//! The resolver process: sockets around the name table, and forwarding upstream.
//!
//! It is small and runs apart from the daemon, so that names are answered while the daemon is
//! stopped, killed or replaced (`docs/decisions`). [`serve`] is the process; [`Client`] is what the
//! daemon has of it.
//!
//! ```text
//!  agent ── Client::push ──▶ names.json + log ──▶ reload ──▶ NameIndex ◀── dns::answer ◀── sockets
//!                                                                              └─▶ forward ─▶ upstream
//! ```

mod backlog;
mod client;
mod config;
mod control;
mod counters;
mod fairness;
mod forward;
mod instance;
mod listen;
mod message;
mod penalty;
mod place;
mod privileges;
mod process;
mod service;
mod socket;
mod store;
mod upstream;

pub use client::{Client, ClientError, spawn};
pub use config::{Config, Limits};
pub use process::{Error, Stats, run, serve};
pub use store::StoreError;
