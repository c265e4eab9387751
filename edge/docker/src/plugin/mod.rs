//! The plugin: an engine's network and IPAM driver, served on a unix socket.
//!
//! ```text
//!  dockerd ── POST /NetworkDriver.Join ──▶ serve ─▶ read: limits ─▶ Call ─▶ Plugin ─▶ answer
//!                                                     │ bad: {"Err":"…FIELD: why…"}
//! ```
//!
//! The protocol's traps are dealt with here, so that a [`Plugin`] sees only values that are whole:
//!
//! * After a connection that broke an engine repeats its call with an empty body; taken as zero
//!   values that would be a success nobody had. It is refused.
//! * An engine waits for ever, and holds its locks meanwhile. Each call has a deadline.
//! * A connection that is closed between two calls breaks the second. Each call has a connection.
//!
//! The protocol is that of `libnetwork`'s `docs/remote.md` and `docs/ipam.md`, and
//! `daemon/libnetwork/drivers/remote` and `ipams/remote` in `moby/moby`.

mod bind;
mod call;
mod field;
mod serve;
mod values;
mod wire;

use std::collections::BTreeMap;

use ipnet::IpNet;

pub use bind::{BindError, Listener, SOCKET, bind};
pub use serve::{Limits, serve};
pub use values::{
    CreateEndpoint, CreateNetwork, CreatedEndpoint, EndpointAt, IpamData, Join, Joined, Pool,
    ReleaseAddress, RequestAddress, RequestPool, StaticRoute,
};

/// What a driver does. The text of an error is what the user reads, after Docker's own words: it
/// says what the person can do.
///
/// An engine repeats calls, and calls for what it no longer has: each is to be answered as if it
/// were the first. Calls for one endpoint come one after the other, all others at once. None may
/// ask the engine anything: it holds locks until it is answered.
///
/// A call that is past its deadline is dropped where it waits: what must come to its end runs in a
/// task of its own. The engine's hanging up drops nothing.
pub trait Plugin: Send + Sync + 'static {
    /// `docker network create`; once in a network's life, not at an engine's restart. When it
    /// fails, addresses and pools are released, and the network is not deleted: it never was.
    fn create_network(
        &self,
        request: CreateNetwork,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// `docker network rm`: its addresses and pools have been released already.
    fn delete_network(&self, id: String) -> impl Future<Output = Result<(), String>> + Send;

    /// A container starts or is connected: its addresses have been requested already.
    fn create_endpoint(
        &self,
        request: CreateEndpoint,
    ) -> impl Future<Output = Result<CreatedEndpoint, String>> + Send;

    /// What `docker` asks about an endpoint now and then. Errors are ignored.
    fn endpoint_info(
        &self,
        at: EndpointAt,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, String>> + Send;

    /// The endpoint is gone, whatever is answered. Also called, after an engine was killed, for
    /// endpoints of before.
    fn delete_endpoint(&self, at: EndpointAt) -> impl Future<Output = Result<(), String>> + Send;

    /// The container is to get its interface.
    fn join(&self, request: Join) -> impl Future<Output = Result<Joined, String>> + Send;

    /// The container's interface is about to go. Called also to undo a [`Plugin::join`] whose
    /// answer the engine did not like.
    fn leave(&self, at: EndpointAt) -> impl Future<Output = Result<(), String>> + Send;

    /// A network is to have this subnet, or any.
    fn request_pool(
        &self,
        request: RequestPool,
    ) -> impl Future<Output = Result<Pool, String>> + Send;

    /// The pool with this [`Pool::id`] is no longer used by the engine.
    fn release_pool(&self, id: String) -> impl Future<Output = Result<(), String>> + Send;

    /// A container, or the network's gateway, is to have this address, or any. Answers it with the
    /// length of the subnet.
    fn request_address(
        &self,
        request: RequestAddress,
    ) -> impl Future<Output = Result<IpNet, String>> + Send;

    /// The address is no longer used by the engine.
    fn release_address(
        &self,
        request: ReleaseAddress,
    ) -> impl Future<Output = Result<(), String>> + Send;
}
