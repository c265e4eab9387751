//! Weft: container networking across hosts, in one binary.
//!
//! ```text
//!  cli ──▶ (local socket) ──▶ daemon ──▶ agent  ──▶ kernel, resolver
//!                                  └──▶ server ──▶ state engine
//! ```

mod agent;
mod cli;
mod daemon;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
