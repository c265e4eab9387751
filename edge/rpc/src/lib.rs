//! The wire: protobuf, mutual TLS, identity, streams and the local socket.

/// The messages and services of `proto/weft.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod wire {
    tonic::include_proto!("weft.v1");
}
