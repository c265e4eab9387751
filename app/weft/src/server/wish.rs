//! Reading what calls ask for, with exact errors.

use std::str::FromStr;

use weft_model::{ClusterState, NetworkId, Node, NodeId, Role};
use weft_state::Rejection;
use weft_state::command::CreateNetwork;
use weft_state::rejection::Code;

use weft_rpc::wire;

/// Parses a field.
pub(super) fn parse<T: FromStr>(field: &str, text: &str) -> Result<T, Rejection>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|wrong: T::Err| {
        let hint = if text.is_empty() { "it must be given" } else { "" };
        invalid(field, wrong.to_string(), hint)
    })
}

/// A wish that makes no sense by itself.
pub(super) fn invalid(field: &str, message: String, hint: &str) -> Rejection {
    let (field, hint) = (field.to_owned(), hint.to_owned());
    Rejection { code: Code::Invalid, field, message, hint }
}

fn missing(what: &str, called: &str) -> Rejection {
    Rejection {
        code: Code::NotFound,
        field: "NAME".to_owned(),
        message: format!("there is no {what} '{called}'"),
        hint: format!("see 'weft {what} ls'"),
    }
}

/// The network of that name, or else of that identifier.
pub(super) fn network(state: &ClusterState, called: &str) -> Result<NetworkId, Rejection> {
    let named = called.parse().ok().and_then(|name| state.network_named(&name)).map(|n| n.id);
    let by_id = || called.parse().ok().filter(|id| state.networks.contains_key(id));
    named.or_else(by_id).ok_or_else(|| missing("network", called))
}

/// The node of that name, or else of that identifier, removed ones included.
pub(super) fn node(state: &ClusterState, called: &str) -> Result<NodeId, Rejection> {
    let named = called.parse().ok().and_then(|name| state.node_named(&name)).map(|n| n.id);
    let by_id = || called.parse().ok().filter(|id| state.nodes.contains_key(id));
    named.or_else(by_id).ok_or_else(|| missing("node", called))
}

/// What to call a living node; `None` for others.
pub(super) fn living_name(state: &ClusterState, id: NodeId) -> Option<String> {
    let living: &Node = state.nodes.get(&id).filter(|node| !node.removed)?;
    Some(living.name.to_string())
}

/// The network that a request describes, but for the routes of the hosts.
pub(super) fn create_network(
    request: wire::CreateNetworkRequest,
) -> Result<CreateNetwork, Rejection> {
    let wire::CreateNetworkRequest { name, subnets, ipv6, mtu, internal, allow_overlap, options } =
        request;
    if let Some(option) = options.keys().min() {
        let (message, hint) = match option.as_str() {
            "encrypted" => (
                "traffic between hosts cannot be encrypted yet".to_owned(),
                "leave it out, and use a network between the hosts that you trust",
            ),
            other => (format!("there is no option '{other}'"), "leave it out"),
        };
        return Err(invalid("--opt", message, hint));
    }
    let mtu = match mtu {
        0 => None,
        mtu => Some(u16::try_from(mtu).map_err(|_| {
            let message = format!("{mtu} is too large for an MTU");
            invalid("--mtu", message, "give 1280 to 65000, or leave it out")
        })?),
    };
    Ok(CreateNetwork {
        id: NetworkId(rand::random()),
        name: parse("NAME", &name)?,
        subnets: subnets.iter().map(|s| parse("--subnet", s)).collect::<Result<_, _>>()?,
        ipv6,
        mtu,
        internal,
        allow_overlap,
        occupied: Vec::new(),
    })
}

/// The role that a token is for; agents by default.
pub(super) fn role(text: &str) -> Result<Role, Rejection> {
    if text.is_empty() { Ok(Role::Agent) } else { parse("--role", text) }
}
