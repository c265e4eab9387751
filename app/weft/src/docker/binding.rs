//! Which of Weft's networks one of Docker's is; made where there is none.

use ipnet::IpNet;
use weft_model::{Name, Network, Row};
use weft_rpc::wire;

use crate::agent::Agent;
use crate::agent::lease::refused;
use crate::agent::uplink::PATIENCE;

use super::book::{Bound, Which, Wish};
use super::text;

/// The network that has exactly these subnets; `None` when one must be made, once its name is known.
///
/// # Errors
/// When that cannot work, so that it is said while Docker's user waits.
pub(super) async fn by_subnets(
    agent: &Agent,
    wish: &Wish,
    subnets: &[IpNet],
) -> Result<Option<Bound>, String> {
    let networks = networks(agent).await?;
    let same: Vec<&Network> = networks.iter().filter(|n| n.subnets == subnets).collect();
    match same.as_slice() {
        [] => {}
        [one] => return bound(one, wish).map(Some),
        more => {
            let names: Vec<&str> = more.iter().map(|n| n.name.as_str()).collect();
            return Err(format!(
                "--subnet: {} have it; leave it out and call this network like one of them",
                names.join(" and ")
            ));
        }
    }
    if wish.allow_overlap {
        return Ok(None);
    }
    let near = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    let clash =
        networks.iter().find(|n| n.subnets.iter().any(|s| subnets.iter().any(|w| near(s, w))));
    match clash {
        None => Ok(None),
        Some(other) => {
            let theirs: Vec<String> = other.subnets.iter().map(ToString::to_string).collect();
            Err(format!(
                "--subnet: network '{}' has {}; give exactly that to be on it, or another subnet",
                other.name,
                theirs.join(" and ")
            ))
        }
    }
}

/// The network that is called so, or, for subnets, one made with them under this name.
///
/// # Errors
/// Why it cannot be.
pub(super) async fn by_name(agent: &Agent, wish: &Wish, name: &str) -> Result<Bound, String> {
    let name: Name = name.parse().map_err(|error| format!("{error}"))?;
    let networks = networks(agent).await?;
    let existing = networks.iter().find(|network| network.name == name);
    match (existing, &wish.which) {
        (Some(network), Which::ByName(_)) => bound(network, wish),
        (Some(network), Which::Subnets(subnets)) if network.subnets == *subnets => {
            bound(network, wish)
        }
        (Some(network), Which::Subnets(_)) => {
            let theirs: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
            Err(format!("network '{name}' is there already, with {}", theirs.join(" and ")))
        }
        (None, _) => make(agent, wish, name).await,
    }
}

fn bound(network: &Network, wish: &Wish) -> Result<Bound, String> {
    let name = &network.name;
    if network.internal != wish.internal {
        let (is, hint) = if network.internal { ("is", "add") } else { ("is not", "leave out") };
        return Err(format!("--internal: network '{name}' {is} internal; {hint} it"));
    }
    if wish.mtu.is_some() && wish.mtu != network.mtu {
        return Err(format!("-o mtu: network '{name}' has its own already; leave it out"));
    }
    if matches!(wish.which, Which::ByName(_)) && network.subnets.iter().any(|s| s.addr().is_ipv6())
    {
        let subnets: Vec<String> =
            network.subnets.iter().map(|s| format!("--subnet {s}")).collect();
        return Err(format!(
            "network '{name}' has IPv6, which Docker must be told: create it with --ipv6 {}",
            subnets.join(" ")
        ));
    }
    Ok(Bound { id: network.id, name: name.clone() })
}

async fn make(agent: &Agent, wish: &Wish, name: Name) -> Result<Bound, String> {
    let subnets = match &wish.which {
        Which::Subnets(subnets) => subnets.iter().map(ToString::to_string).collect(),
        Which::ByName(_) => Vec::new(),
    };
    let request = wire::CreateNetworkRequest {
        name: name.to_string(),
        subnets,
        ipv6: false,
        mtu: u32::from(wish.mtu.unwrap_or(0)),
        internal: wish.internal,
        allow_overlap: wish.allow_overlap,
        options: std::collections::HashMap::new(),
    };
    let mut client = server(agent).await?;
    let made = client.create_network(request).await;
    let row =
        made.map_err(|status| text(&refused(&status, "creating the network")))?.into_inner().row;
    let row =
        row.and_then(|row| Row::decode(&row.key, row.value.as_deref().unwrap_or_default()).ok());
    match row {
        Some(Row::Network(network)) => Ok(Bound { id: network.id, name: network.name }),
        _ => Err("the server's answer is no network".to_owned()),
    }
}

/// All networks of the cluster.
async fn networks(agent: &Agent) -> Result<Vec<Network>, String> {
    let mut client = server(agent).await?;
    let listed = client.list(wire::ListRequest { kind: "network".to_owned() }).await;
    let listed =
        listed.map_err(|status| text(&refused(&status, "looking networks up")))?.into_inner();
    let rows = listed.rows.iter();
    let rows = rows.filter_map(|row| Row::decode(&row.key, row.value.as_deref()?).ok());
    let network = |row| match row {
        Row::Network(network) => Some(network),
        _ => None,
    };
    Ok(rows.filter_map(network).collect())
}

async fn server(agent: &Agent) -> Result<crate::agent::uplink::Client, String> {
    agent.uplink.client_within(PATIENCE).await.ok_or_else(|| {
        "no Weft server can be reached: see `weft status` for the address it tries".to_owned()
    })
}
