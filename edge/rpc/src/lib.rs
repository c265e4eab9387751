//! The wire: protobuf, mutual TLS, identity, streams and the local socket.
//!
//! ```text
//!  certificate ─▶ tls (is it one of ours?) ─▶ listen (who is it?) ─▶ access (may it?) ─▶ handler
//! ```
//!
//! Identity is the certificate and nothing else: [`ca`] puts it there, [`identity`] reads it.
//! [`access`] is the one table of who may call what; what it does not name is denied.

pub mod access;
pub mod ca;
pub mod connect;
pub mod error;
pub mod identity;
pub mod listen;
pub mod local;
pub mod rows;
pub mod tls;
pub mod token;

mod secretive;

/// The messages and services of `proto/weft.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod wire {
    tonic::include_proto!("weft.v1");

    /// The paths of all calls of all services.
    pub const PATHS: &[&str] = include!(concat!(env!("OUT_DIR"), "/paths.rs"));
}

pub use identity::{Identity, NodeIdentity};
pub use token::JoinToken;

/// The port servers listen on (TCP).
pub const SERVER_PORT: u16 = 7373;
