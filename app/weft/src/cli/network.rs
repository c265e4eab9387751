//! `weft network`: switches across hosts.

use serde_json::{Value, json};
use weft_model::Network;
use weft_rpc::wire;

use super::Outcome;
use super::args::{Format, Listing, NetworkCommand, NetworkCreateArgs};
use super::client::Client;
use super::output;
use super::problem::Problem;
use super::rows;

pub(super) async fn run(mut local: Client, command: NetworkCommand) -> Outcome {
    match command {
        NetworkCommand::Create(args) => create(local, args).await,
        NetworkCommand::Ls(listing) => list(local, listing).await,
        NetworkCommand::Inspect { network } => {
            let networks = rows::networks(&mut local).await?;
            let found =
                rows::find(networks, &network, |n| Some(&n.name), |n| n.id.to_string(), "network")?;
            inspect(local, &found).await
        }
        NetworkCommand::Rm { network } => {
            local.remove_network(wire::RemoveRequest { name: network.to_string() }).await?;
            output::print(&format!("Network '{network}' is removed.\n"))
        }
    }
}

async fn create(mut local: Client, args: NetworkCreateArgs) -> Outcome {
    let mut options = std::collections::HashMap::new();
    for (key, value) in args.options {
        if options.insert(key.clone(), value).is_some() {
            return Err(Problem::new(format!("'{key}' was given twice")).at("--opt"));
        }
    }
    let families: Vec<bool> = args.subnets.iter().map(|s| s.addr().is_ipv4()).collect();
    if families.iter().filter(|v4| **v4).count() > 1
        || families.iter().filter(|v4| !**v4).count() > 1
    {
        return Err(Problem::new("more than one range of the same family was given")
            .at("--subnet")
            .hint("give at most one IPv4 and one IPv6 range"));
    }
    let request = wire::CreateNetworkRequest {
        name: args.name.to_string(),
        subnets: args.subnets.iter().map(ToString::to_string).collect(),
        ipv6: args.ipv6,
        mtu: args.mtu.unwrap_or_default(),
        internal: args.internal,
        allow_overlap: args.allow_overlap,
        options,
    };
    let reply = local.create_network(request).await?.into_inner();
    let network = rows::network(reply.row.as_ref())?;
    match args.listing.output {
        Format::Json => output::json(&json!(network)),
        Format::Table => output::print(&format!(
            "Network '{}' is there: {}, VNI {}.\n",
            network.name,
            output::joined(&network.subnets),
            network.vni
        )),
    }
}

async fn list(mut local: Client, listing: Listing) -> Outcome {
    let mut networks = rows::networks(&mut local).await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let lines = networks.iter().map(|n| {
        vec![
            n.name.to_string(),
            n.id.to_string(),
            n.vni.to_string(),
            output::joined(&n.subnets),
            n.mtu.map_or_else(|| "auto".to_owned(), |m| m.to_string()),
            if n.internal { "yes" } else { "no" }.to_owned(),
        ]
    });
    let headings = ["NAME", "ID", "VNI", "SUBNETS", "MTU", "INTERNAL"];
    output::listing(listing.output, &headings, lines, &json!(networks))
}

async fn inspect(mut local: Client, network: &Network) -> Outcome {
    let names = rows::Names::ask(&mut local).await?;
    let endpoints = rows::endpoints(&mut local).await?;
    let of_it = endpoints.iter().filter(|e| e.network == network.id);
    let endpoints: Value =
        of_it.map(|e| rows::endpoint_json(e, network.name.as_str(), &names.node(e.node))).collect();
    let mut value = json!(network);
    value["gateways"] = json!(network.gateways());
    value["gateway_mac"] = json!(network.gateway_mac());
    value["endpoints"] = endpoints;
    output::json(&value)
}
