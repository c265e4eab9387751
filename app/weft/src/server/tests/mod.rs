//! A server over loopback TLS with the embedded engine, and nodes that talk to it.

mod admission;
mod convergence;
mod engines;
mod following;
mod rows;
mod world;
