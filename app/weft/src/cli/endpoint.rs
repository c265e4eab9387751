//! `weft endpoint`: containers' connections to networks.

use serde_json::{Value, json};
use weft_model::{Endpoint, Name};
use weft_rpc::wire;

use super::Outcome;
use super::args::{EndpointCommand, Format, Listing};
use super::client::Client;
use super::output;
use super::problem::Problem;
use super::rows;

pub(super) async fn run(local: Client, command: EndpointCommand) -> Outcome {
    match command {
        EndpointCommand::Ls { network, listing } => list(local, network, listing).await,
        EndpointCommand::Inspect { endpoint, network, listing } => {
            inspect(local, &endpoint, network, listing).await
        }
    }
}

async fn list(mut local: Client, only: Option<Name>, listing: Listing) -> Outcome {
    let names = rows::Names::ask(&mut local).await?;
    if let Some(only) = &only {
        let networks = rows::networks(&mut local).await?;
        rows::find(networks, only, |n| Some(&n.name), |n| n.id.to_string(), "network")
            .map_err(|p| p.at("--network"))?;
    }
    let wanted = |e: &Endpoint| {
        only.as_ref().is_none_or(|n| {
            names.network(e.network).eq_ignore_ascii_case(n.as_str())
                || e.network.to_string() == n.as_str()
        })
    };
    let mut endpoints = rows::endpoints(&mut local).await?;
    endpoints.retain(wanted);
    endpoints.sort_by(|a, b| (a.network, &a.name, a.id).cmp(&(b.network, &b.name, b.id)));
    let lines = endpoints.iter().map(|e| {
        vec![
            e.name.to_string(),
            names.network(e.network),
            output::joined(&e.addresses),
            names.node(e.node),
            output::joined(&e.aliases),
            e.mac.to_string(),
            e.id.to_string(),
        ]
    });
    let value: Value = endpoints
        .iter()
        .map(|e| rows::endpoint_json(e, &names.network(e.network), &names.node(e.node)))
        .collect();
    let headings = ["NAME", "NETWORK", "ADDRESSES", "NODE", "ALIASES", "MAC", "ID"];
    output::listing(listing.output, &headings, lines, &value)
}

async fn inspect(
    mut local: Client,
    name: &Name,
    network: Option<Name>,
    listing: Listing,
) -> Outcome {
    let request = wire::InspectRequest {
        name: name.to_string(),
        network: network.map(|n| n.to_string()).unwrap_or_default(),
    };
    let reply = local.inspect_endpoint(request).await?.into_inner();
    let endpoint = rows::endpoint(reply.endpoint.as_ref())?;
    match listing.output {
        Format::Json => output::json(&inspected(&reply, &endpoint)),
        Format::Table => describe(&reply, &endpoint),
    }
}

fn inspected(reply: &wire::InspectReply, endpoint: &Endpoint) -> Value {
    let mut value = rows::endpoint_json(endpoint, &reply.network_name, &reply.node_name);
    value["interface"] = json!(reply.interface);
    let object = |o: &wire::ObjectState| json!({ "object": o.object, "present": o.present, "fault": o.fault });
    value["objects"] = reply.objects.iter().map(object).collect();
    value
}

fn describe(
    reply: &wire::InspectReply,
    endpoint: &Endpoint,
) -> Result<std::process::ExitCode, Problem> {
    let mut text = output::facts(&[
        ("name", endpoint.name.to_string()),
        ("aliases", output::joined(&endpoint.aliases)),
        ("id", endpoint.id.to_string()),
        ("network", reply.network_name.clone()),
        ("node", reply.node_name.clone()),
        ("addresses", output::joined(&endpoint.addresses)),
        ("mac", endpoint.mac.to_string()),
        ("interface", reply.interface.clone()),
        ("may send from", output::joined(&endpoint.allow_source)),
    ]);
    if !reply.objects.is_empty() {
        text.push_str("\nIn this host's kernel:\n");
    }
    for object in &reply.objects {
        let state = match (object.present, object.fault.as_str()) {
            (true, "") => "ok     ".to_owned(),
            (false, "") => "missing".to_owned(),
            (_, fault) => format!("fault ({fault})"),
        };
        text.push_str(&format!("  {state}  {}\n", object.object));
    }
    output::print(&text)
}
