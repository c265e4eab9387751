//! Weft: container networking across hosts, in one binary.
//!
//! ```text
//!  cli ──▶ (local socket) ──▶ daemon ──▶ agent  ──▶ kernel, resolver
//!                                  └──▶ server ──▶ state engine
//! ```

mod agent;
mod cli;
mod daemon;
mod docker;
mod server;

use std::process::ExitCode;

/// Plans and views of large networks come and go in many small pieces, on several threads: this
/// allocator gives their pages back, where the C library's keeps them for good.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by the allocator when the process starts (jemalloc(3), TUNING): few arenas, because few
/// threads allocate, and unused pages back after a second.
// SAFETY: the allocator reads a C string of this name; it is nul-terminated and never changes.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: Tuning = Tuning(c"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0".as_ptr());

/// A pointer to a constant, which any thread may read.
#[repr(transparent)]
struct Tuning(*const std::ffi::c_char);

// SAFETY: it points to a constant of the program, which nobody writes.
unsafe impl Sync for Tuning {}

fn main() -> ExitCode {
    cli::main()
}
