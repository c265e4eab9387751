//! `weft endpoint`: containers' connections to networks.

use std::process::ExitCode;

use serde_json::{Value, json};
use weft_model::{Endpoint, Name};
use weft_rpc::wire;

use super::Outcome;
use super::args::{EndpointCommand, Format, Listing};
use super::client::Client;
use super::output;
use super::problem::Problem;
use super::rows;
use super::traffic;

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
    value["local"] = json!(reply.local);
    value["traffic"] = json!(reply.traffic.as_ref().map(traffic::endpoint_json));
    value["traffic_error"] = json!(reply.traffic_error);
    value["objects"] = reply.objects.iter().map(object).collect();
    value
}

fn describe(reply: &wire::InspectReply, endpoint: &Endpoint) -> Result<ExitCode, Problem> {
    output::print(&description(reply, endpoint))
}

fn description(reply: &wire::InspectReply, endpoint: &Endpoint) -> String {
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
    match &reply.traffic {
        Some(counts) => text.push_str(&traffic::endpoint(counts)),
        None if reply.local => {
            text.push_str(&format!("\nWhat it sent is not known: {}\n", reply.traffic_error));
        }
        None => text.push_str(&format!(
            "\nWhat it sent and received is counted on its host: run this on '{}'.\n",
            reply.node_name
        )),
    }
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
    text
}

#[cfg(test)]
mod tests {
    use weft_model::{EndpointId, NetworkId};

    use super::*;

    fn endpoint() -> Endpoint {
        serde_json::from_value(json!({
            "id": EndpointId(7), "network": NetworkId(1), "node": "0000000000000002",
            "container": "0000000000000003", "name": "web-1", "aliases": [], "mac": "02:57:0a:03:00:02",
            "addresses": ["10.3.0.2"], "allow_source": [],
        }))
        .unwrap()
    }

    fn reply() -> wire::InspectReply {
        wire::InspectReply { node_name: "b".into(), ..Default::default() }
    }

    #[test]
    fn another_host_s_endpoint_is_counted_there() {
        let text = description(&reply(), &endpoint());
        let part = "\nWhat it sent and received is counted on its host: run this on 'b'.\n";
        assert!(text.contains(part), "{text}");
        let value = inspected(&reply(), &endpoint());
        assert_eq!((&value["local"], &value["traffic"]), (&json!(false), &Value::Null));
    }

    #[test]
    fn an_endpoint_of_this_host_has_its_counts_or_why_not() {
        let busy = wire::InspectReply { local: true, traffic_error: "too busy".into(), ..reply() };
        let text = description(&busy, &endpoint());
        assert!(text.contains("\nWhat it sent is not known: too busy\n"), "{text}");
        let sent = wire::Count { packets: 4, bytes: 392 };
        let traffic = wire::Traffic { sent_shortcut: Some(sent), ..Default::default() };
        let counted = wire::InspectReply { local: true, traffic: Some(traffic), ..reply() };
        let text = description(&counted, &endpoint());
        assert!(text.contains("sent             4 (392 B)"), "{text}");
        let value = inspected(&counted, &endpoint());
        assert_eq!(value["traffic"]["sent"]["shortcut"]["packets"], 4);
    }
}
