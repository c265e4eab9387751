//! `weft status`: what this host and the cluster know and do.

use serde_json::{Value, json};
use weft_rpc::wire;

use super::Outcome;
use super::args::Format;
use super::client::Client;
use super::node;
use super::output;
use super::problem::Problem;
use super::rows;
use super::traffic;

pub(super) async fn run(mut local: Client, format: Format) -> Outcome {
    let status = local.status(wire::StatusRequest {}).await?.into_inner();
    match format {
        Format::Json => output::json(&as_json(&status)?),
        Format::Table => output::print(&as_text(&status)?),
    }
}

/// The whole answer, for programs.
fn as_json(status: &wire::LocalStatusReply) -> Result<Value, Problem> {
    let node = match &status.node {
        Some(row) => json!(rows::node(Some(row))?),
        None => Value::Null,
    };
    let cluster = match &status.cluster {
        Some(cluster) => json!({
            "generation": cluster.generation,
            "nodes": node::json_of_status(cluster)?,
        }),
        None => Value::Null,
    };
    Ok(json!({
        "cluster_id": status.cluster_id,
        "node": node,
        "version": status.version,
        "server": status.server,
        "connected": status.connected,
        "server_address": status.server_address,
        "wanted_generation": status.wanted_generation,
        "applied_generation": status.applied_generation,
        "faults": node::faults_json(&status.faults),
        "repairs": status.repairs,
        "networks": status.networks,
        "containers": status.containers,
        "endpoints": status.endpoints,
        "resolver": status.resolver,
        "shortcut": status.shortcut.as_ref().map(traffic::shortcut_json),
        "cluster": cluster,
    }))
}

fn as_text(status: &wire::LocalStatusReply) -> Result<String, Problem> {
    if status.cluster_id.is_empty() {
        return Ok(format!(
            "This host is in no cluster yet (weft {}).\nMake one with `weft init`, or join one with `weft join`.\n",
            status.version
        ));
    }
    let node = rows::node(status.node.as_ref())?;
    let link = if status.connected {
        "connected"
    } else {
        "NOT CONNECTED: works on what it was told last"
    };
    let mut text = output::facts(&[
        ("node", format!("{} ({}), {}", node.name, node.id, node.role)),
        ("cluster", status.cluster_id.clone()),
        ("version", status.version.clone()),
        ("data address", node.data_address.to_string()),
        ("server", format!("{} {link}", status.server_address)),
        ("generation", generation(status.applied_generation, status.wanted_generation)),
        ("names", if status.resolver { "answered" } else { "NOT ANSWERED" }.to_owned()),
        ("shortcut", status.shortcut.as_ref().map(traffic::shortcut).unwrap_or_default()),
        ("networks", status.networks.to_string()),
        (
            "containers",
            format!("{} here, {} endpoints in all", status.containers, status.endpoints),
        ),
    ]);
    text.push_str(&status.shortcut.as_ref().map(traffic::networks).unwrap_or_default());
    text.push_str(&faults("Faults", &status.faults));
    if !status.repairs.is_empty() {
        text.push_str("\nPut right after others changed it:\n");
        text.extend(status.repairs.iter().map(|line| format!("  {line}\n")));
    }
    if let Some(cluster) = &status.cluster {
        let nodes = node::from_status(cluster)?;
        text.push_str(&format!("\nCluster at generation {}:\n", cluster.generation));
        text.push_str(&output::table(&node::HEADINGS, nodes.iter().map(node::line)));
        for known in nodes.iter().filter(|k| k.node.id != node.id) {
            let of_it = known.status.as_ref().map(|s| s.faults.as_slice()).unwrap_or_default();
            text.push_str(&faults(&format!("Faults on {}", known.node.name), of_it));
        }
    }
    Ok(text)
}

fn generation(applied: u64, wanted: u64) -> String {
    if applied >= wanted {
        format!("{applied}, all of it applied")
    } else {
        format!("{applied} applied of {wanted}")
    }
}

fn faults(heading: &str, faults: &[wire::ObjectFault]) -> String {
    if faults.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{heading}:\n");
    for fault in faults {
        text.push_str(&format!("  {}\n    {}\n", fault.object, fault.message));
        if !fault.hint.is_empty() {
            text.push_str(&format!("    hint: {}\n", fault.hint));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_cluster_says_what_to_do() {
        let text = as_text(&wire::LocalStatusReply::default()).unwrap();
        assert!(text.contains("`weft init`") && text.contains("`weft join`"), "{text}");
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let node = r#"{"id":"0000000000000001","name":"a","role":"server","data_address":"172.10.0.15","key_digest":""}"#;
        let status = wire::LocalStatusReply {
            cluster_id: "0000000000000009".into(),
            node: Some(wire::Row { key: "node/0000000000000001".into(), value: Some(node.into()) }),
            server_address: "172.10.0.15:7373".into(),
            wanted_generation: 7,
            applied_generation: 5,
            faults: vec![wire::ObjectFault {
                object: "link wv-570000".into(),
                message: "address in use".into(),
                hint: "remove vxlan7".into(),
            }],
            shortcut: Some(wire::ShortcutStatus {
                state: "unavailable".into(),
                reason: "mount -t bpf: Operation not permitted".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = as_text(&status).unwrap();
        for expected in [
            "5 applied of 7",
            "NOT ANSWERED",
            "NOT CONNECTED",
            "shortcut:     NOT AVAILABLE: mount -t bpf: Operation not permitted\n",
            "link wv-570000",
            "hint: remove vxlan7",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        let value = as_json(&status).unwrap();
        assert_eq!(value["faults"][0]["hint"], "remove vxlan7");
        assert_eq!(value["shortcut"]["state"], "unavailable");
    }
}
