//! Who may call what. One table; what it does not name is denied.
//!
//! Two gates, one behind the other: [`AccessLayer`] looks at method and identity before any
//! handler runs, and [`may_write`] looks at the command a handler is about to decide: a node
//! writes only its own rows.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use weft_model::{EndpointId, NetworkId, NodeId, Role, Row};
use weft_state::{Command, Rejection};

use crate::error;
use crate::identity::{Identity, Kind, NodeIdentity};
use crate::listen::Peer;

/// One line of the table.
struct Entry {
    path: &'static str,
    who: &'static [Kind],
}

const STRANGERS: &[Kind] = &[Kind::Stranger];
const NODES: &[Kind] = &[Kind::Agent, Kind::Operator, Kind::Server];
const OPERATORS: &[Kind] = &[Kind::Operator, Kind::Server];
const RENEWING: &[Kind] = &[Kind::Expired, Kind::Agent, Kind::Operator, Kind::Server];
const LOCAL: &[Kind] = &[Kind::LocalRoot];

const fn entry(path: &'static str, who: &'static [Kind]) -> Entry {
    Entry { path, who }
}

const TABLE: &[Entry] = &[
    entry("/weft.v1.Cluster/Join", STRANGERS),
    entry("/weft.v1.Cluster/Renew", RENEWING),
    entry("/weft.v1.Cluster/Follow", NODES),
    entry("/weft.v1.Cluster/Lease", NODES),
    entry("/weft.v1.Cluster/Release", NODES),
    entry("/weft.v1.Cluster/PutEndpoint", NODES),
    entry("/weft.v1.Cluster/DeleteEndpoint", NODES),
    entry("/weft.v1.Cluster/AwaitApplied", NODES),
    entry("/weft.v1.Cluster/MoveNode", NODES),
    entry("/weft.v1.Cluster/List", NODES),
    entry("/weft.v1.Cluster/Status", NODES),
    entry("/weft.v1.Cluster/CreateNetwork", OPERATORS),
    entry("/weft.v1.Cluster/RemoveNetwork", OPERATORS),
    entry("/weft.v1.Cluster/CreateToken", OPERATORS),
    entry("/weft.v1.Cluster/RevokeToken", OPERATORS),
    entry("/weft.v1.Cluster/RemoveNode", OPERATORS),
    entry("/weft.v1.Local/Init", LOCAL),
    entry("/weft.v1.Local/JoinCluster", LOCAL),
    entry("/weft.v1.Local/Attach", LOCAL),
    entry("/weft.v1.Local/Detach", LOCAL),
    entry("/weft.v1.Local/Status", LOCAL),
    entry("/weft.v1.Local/InspectEndpoint", LOCAL),
    entry("/weft.v1.Local/List", LOCAL),
    entry("/weft.v1.Local/CreateNetwork", LOCAL),
    entry("/weft.v1.Local/RemoveNetwork", LOCAL),
    entry("/weft.v1.Local/CreateToken", LOCAL),
    entry("/weft.v1.Local/RevokeToken", LOCAL),
    entry("/weft.v1.Local/RemoveNode", LOCAL),
];

/// Whether an identity of `kind` may call the method at `path` (`/weft.v1.Cluster/Join`).
pub fn may_call(path: &str, kind: Kind) -> bool {
    TABLE.iter().any(|entry| entry.path == path && entry.who.contains(&kind))
}

/// Which kinds of rows can be listed at all: the words of `ListRequest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listing {
    /// `node`
    Nodes,
    /// `network`
    Networks,
    /// `lease`: agents see those of networks they take part in.
    Leases,
    /// `endpoint`: agents see those of networks they take part in.
    Endpoints,
    /// `token`: operators and servers only; there are no secrets in it.
    Tokens,
}

impl Listing {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Nodes, "node"),
        (Self::Networks, "network"),
        (Self::Leases, "lease"),
        (Self::Endpoints, "endpoint"),
        (Self::Tokens, "token"),
    ];

    /// Reads the word for `who`.
    ///
    /// # Errors
    /// A rejection when there is no such listing, or not for this identity.
    pub fn for_caller(word: &str, who: &NodeIdentity) -> Result<Self, Rejection> {
        let words = Self::ALL.map(|(_, word)| word).join(", ");
        let found = Self::ALL.iter().find(|(_, w)| *w == word).map(|(listing, _)| *listing);
        let listing = found.ok_or_else(|| Rejection {
            code: weft_state::rejection::Code::Invalid,
            field: "KIND".to_owned(),
            message: format!("'{word}' cannot be listed"),
            hint: format!("list one of: {words}"),
        })?;
        if listing == Self::Tokens && who.role == Role::Agent {
            return Err(needs_operator("tokens are listed for operators only"));
        }
        Ok(listing)
    }

    /// Whether `row` belongs in this listing as `who` may see it; `takes_part` says of which
    /// networks it does.
    pub fn shows(
        self,
        row: &Row,
        who: &NodeIdentity,
        takes_part: impl Fn(NetworkId) -> bool,
    ) -> bool {
        let sees = |network| who.role != Role::Agent || takes_part(network);
        match (self, row) {
            (Self::Nodes, Row::Node(_)) | (Self::Networks, Row::Network(_)) => true,
            (Self::Leases, Row::Lease(lease)) => sees(lease.network),
            (Self::Endpoints, Row::Endpoint(endpoint)) => sees(endpoint.network),
            (Self::Tokens, Row::Token(_)) => who.role != Role::Agent,
            _ => false,
        }
    }
}

/// Whether `who` may have `command` decided. `owner` says whose an endpoint is now.
///
/// # Errors
/// A rejection with code `denied`.
pub fn may_write(
    who: &Identity,
    command: &Command,
    owner: impl Fn(NetworkId, EndpointId) -> Option<NodeId>,
) -> Result<(), Rejection> {
    let node = match who {
        Identity::Node(node) => node,
        Identity::Stranger if matches!(command, Command::Join { .. }) => return Ok(()),
        Identity::Stranger | Identity::LocalRoot => {
            return Err(error::denied("only nodes of the cluster write to it", "join first"));
        }
    };
    let own = |id: NodeId| if id == node.id { Ok(()) } else { Err(not_own(id)) };
    let owned = |network, endpoint| owner(network, endpoint).map_or(Ok(()), own);
    match command {
        Command::Lease { node: id, .. }
        | Command::Release { node: id, .. }
        | Command::MoveNode { node: id, .. } => own(*id),
        Command::PutEndpoint(endpoint) => {
            own(endpoint.node)?;
            owned(endpoint.network, endpoint.id)
        }
        Command::DeleteEndpoint { network, endpoint } => owned(*network, *endpoint),
        Command::CreateToken(_)
        | Command::RevokeToken(_)
        | Command::RemoveNode(_)
        | Command::CreateNetwork(_)
        | Command::RemoveNetwork(_) => match node.role {
            Role::Operator | Role::Server => Ok(()),
            Role::Agent => Err(needs_operator("this node may not administer the cluster")),
        },
        Command::Initialise { .. } | Command::Join { .. } => {
            Err(error::denied("this host is in a cluster already", "remove it there first"))
        }
    }
}

fn not_own(id: NodeId) -> Rejection {
    error::denied(
        format!("this belongs to node {id}, and a node writes only its own rows"),
        "ask on that node",
    )
}

fn needs_operator(message: &str) -> Rejection {
    error::denied(
        message,
        "run it on a server, or let this host join with a token of role 'operator'",
    )
}

/// Says whether a node was removed from the cluster.
pub type IsRemoved = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

/// The gate in front of all handlers, as a tower layer. It lets pass what the table allows, with
/// a [`Caller`] attached, and answers everything else itself.
#[derive(Clone)]
pub struct AccessLayer {
    is_removed: IsRemoved,
}

impl AccessLayer {
    /// `is_removed` is asked at every call.
    pub fn new(is_removed: IsRemoved) -> Self {
        Self { is_removed }
    }

    fn admit(&self, path: &str, peer: Option<&Peer>) -> Result<Caller, Status> {
        let peer = peer.ok_or_else(|| error::internal("a call came in without a peer"))?;
        if let Identity::Node(node) = &peer.identity
            && (self.is_removed)(node.id)
        {
            return Err(error::removed(
                format!("node {} was removed from the cluster", node.id),
                "to bring the host back, wipe its state directory and join it with a new token",
            ));
        }
        let kind = peer.identity.kind(now());
        if may_call(path, kind) { Ok(Caller(peer.clone())) } else { Err(refusal(path, kind)) }
    }
}

/// Seconds since 1970-01-01 UTC.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn refusal(path: &str, kind: Kind) -> Status {
    let method = path.rsplit('/').next().unwrap_or(path);
    if !TABLE.iter().any(|entry| entry.path == path) {
        let message = format!("there is no call '{path}'");
        return error::rejected(&error::denied(message, "use the same version of Weft everywhere"));
    }
    match kind {
        Kind::Stranger => error::unauthenticated(
            format!("{method} needs the certificate of a node"),
            "join this host first: weft join ADDR:PORT --token TOKEN",
        ),
        Kind::Expired => error::unauthenticated(
            "the certificate of this node has expired",
            "renew it; if that is refused too, check the clock of this host",
        ),
        Kind::Agent => error::rejected(&needs_operator(&format!("{kind} may not call {method}"))),
        _ => error::rejected(&error::denied(format!("{kind} may not call {method}"), "")),
    }
}

/// Who calls, once the gate has let the call pass. A handler takes its caller from here only, so
/// that one that runs without the gate knows nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Peer);

impl Caller {
    /// Of a request.
    ///
    /// # Errors
    /// A status when the gate was not passed.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| error::internal("a call came in past the access table"))
    }

    /// Who.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Where from.
    pub fn peer(&self) -> &Peer {
        &self.0
    }

    /// The node that calls.
    ///
    /// # Errors
    /// A status when it is not a node.
    pub fn node(&self) -> Result<&NodeIdentity, Status> {
        match &self.0.identity {
            Identity::Node(node) => Ok(node),
            _ => Err(error::unauthenticated("this call is for nodes", "join this host first")),
        }
    }
}

impl<S> tower::Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access { layer: self.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Access<S> {
    layer: AccessLayer,
    inner: S,
}

impl<S> tower::Service<Request<Body>> for Access<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = futures_util::future::Either<
        std::future::Ready<Result<Response<Body>, S::Error>>,
        S::Future,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        use futures_util::future::Either;
        let admitted = self.layer.admit(request.uri().path(), request.extensions().get::<Peer>());
        match admitted {
            Ok(caller) => {
                let stranger = *caller.identity() == Identity::Stranger;
                request.extensions_mut().insert(caller);
                if stranger {
                    request = request.map(|body| Body::new(Capped { body, left: STRANGERS_SAY }));
                }
                Either::Right(self.inner.call(request))
            }
            Err(status) => Either::Left(std::future::ready(Ok(status.into_http()))),
        }
    }
}

/// How many octets a host without a certificate may send in one call: they are kept until the
/// whole of it has come.
const STRANGERS_SAY: usize = 64 * 1024;

/// A request's body, cut off beyond what its sender may send.
struct Capped {
    body: Body,
    left: usize,
}

impl http_body::Body for Capped {
    type Data = tonic::codegen::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        let length = frame.data_ref().map_or(0, |data| data.len());
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(Some(Err(error::invalid("call", "the call is too long", "")))),
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
