//! Rows as they come over the wire, as the nouns of the cluster.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_model::{Endpoint, Name, Network, NetworkId, Node, NodeId, Row, Token};
use weft_rpc::wire;

use super::client::Client;
use super::problem::Problem;

/// Reads one row.
pub(super) fn decode(row: Option<&wire::Row>) -> Result<Row, Problem> {
    let row = row.ok_or_else(|| Problem::new("the daemon's answer is incomplete"))?;
    Row::decode(&row.key, row.value()).map_err(|e| {
        Problem::new(e.to_string()).hint("daemon and command may be of different versions")
    })
}

/// All rows of one kind.
async fn list(local: &mut Client, kind: &str) -> Result<Vec<Row>, Problem> {
    let request = wire::ListRequest { kind: kind.to_owned() };
    let reply = local.list(request).await?.into_inner();
    reply.rows.iter().map(|row| decode(Some(row))).collect()
}

macro_rules! listings {
    ($($(#[$doc:meta])* $name:ident: $kind:literal, $variant:ident => $noun:ty;)*) => {$(
        $(#[$doc])*
        pub(super) async fn $name(local: &mut Client) -> Result<Vec<$noun>, Problem> {
            let rows = list(local, $kind).await?;
            Ok(rows.into_iter().filter_map(|r| match r { Row::$variant(v) => Some(v), _ => None }).collect())
        }
    )*};
}

listings! {
    /// All hosts, removed ones included.
    nodes: "node", Node => Node;
    /// All networks.
    networks: "network", Network => Network;
    /// All endpoints this host may know of.
    endpoints: "endpoint", Endpoint => Endpoint;
    /// All tokens.
    tokens: "token", Token => Token;
}

/// The one node of an answer.
pub(super) fn node(row: Option<&wire::Row>) -> Result<Node, Problem> {
    match decode(row)? {
        Row::Node(node) => Ok(node),
        other => Err(unexpected(&other)),
    }
}

/// The one network of an answer.
pub(super) fn network(row: Option<&wire::Row>) -> Result<Network, Problem> {
    match decode(row)? {
        Row::Network(network) => Ok(network),
        other => Err(unexpected(&other)),
    }
}

/// The one endpoint of an answer.
pub(super) fn endpoint(row: Option<&wire::Row>) -> Result<Endpoint, Problem> {
    match decode(row)? {
        Row::Endpoint(endpoint) => Ok(endpoint),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(row: &Row) -> Problem {
    Problem::new(format!("the daemon answered with {}, which was not asked for", row.key()))
}

/// Picks the thing people called `wanted`: by name, else by identifier.
pub(super) fn find<T>(
    things: Vec<T>,
    wanted: &Name,
    name: impl Fn(&T) -> Option<&Name>,
    id: impl Fn(&T) -> String,
    noun: &str,
) -> Result<T, Problem> {
    let at = things
        .iter()
        .position(|t| name(t).is_some_and(|n| n == wanted))
        .or_else(|| things.iter().position(|t| id(t) == wanted.as_str()));
    at.and_then(|at| things.into_iter().nth(at)).ok_or_else(|| {
        Problem::new(format!("there is no {noun} '{wanted}'"))
            .at("NAME")
            .hint(format!("see `weft {noun} ls`"))
    })
}

/// Names of networks and nodes, for listings that refer to them.
pub(super) struct Names {
    networks: BTreeMap<NetworkId, Name>,
    nodes: BTreeMap<NodeId, Name>,
}

impl Names {
    /// Asks for them.
    pub(super) async fn ask(local: &mut Client) -> Result<Self, Problem> {
        let networks = networks(local).await?.into_iter().map(|n| (n.id, n.name)).collect();
        let nodes = nodes(local).await?.into_iter().map(|n| (n.id, n.name)).collect();
        Ok(Self { networks, nodes })
    }

    /// The network's name, or its identifier when it has gone meanwhile.
    pub(super) fn network(&self, id: NetworkId) -> String {
        self.networks.get(&id).map_or_else(|| id.to_string(), Name::to_string)
    }

    /// The node's name, or its identifier when it has gone meanwhile.
    pub(super) fn node(&self, id: NodeId) -> String {
        self.nodes.get(&id).map_or_else(|| id.to_string(), Name::to_string)
    }
}

/// An endpoint for programs: its row, with the names of what it refers to.
pub(super) fn endpoint_json(endpoint: &Endpoint, network: &str, node: &str) -> Value {
    let mut value = json!(endpoint);
    value["network_name"] = json!(network);
    value["node_name"] = json!(node);
    value
}
