//! `weft node`: the hosts of the cluster.

use serde_json::{Value, json};
use weft_model::Node;
use weft_rpc::wire;

use super::Outcome;
use super::args::{Listing, NodeCommand};
use super::client::Client;
use super::output;
use super::problem::Problem;
use super::rows;

pub(super) async fn run(mut local: Client, command: NodeCommand) -> Outcome {
    match command {
        NodeCommand::Ls(listing) => list(local, listing).await,
        NodeCommand::Inspect { node } => {
            let known = known(&mut local).await?;
            let found = rows::find(
                known,
                &node,
                |k| Some(&k.node.name),
                |k| k.node.id.to_string(),
                "node",
            )?;
            output::json(&found.json())
        }
        NodeCommand::Rm { node } => {
            local.remove_node(wire::RemoveRequest { name: node.to_string() }).await?;
            output::print(&format!("Node '{node}' is removed.\n"))
        }
    }
}

/// A node with what a server knows of its progress.
pub(super) struct Known {
    pub(super) node: Node,
    pub(super) status: Option<wire::NodeStatus>,
}

impl Known {
    /// How the node is, in one word.
    pub(super) fn state(&self) -> &'static str {
        match &self.status {
            _ if self.node.removed => "removed",
            None => "unknown",
            Some(s) if !s.connected => "away",
            Some(s) if !s.faults.is_empty() => "faulty",
            Some(s) if s.applied_generation < s.wanted_generation => "behind",
            Some(_) => "ready",
        }
    }

    fn json(&self) -> Value {
        let mut value = json!(self.node);
        value["state"] = json!(self.state());
        if let Some(status) = &self.status {
            value["connected"] = json!(status.connected);
            value["wanted_generation"] = json!(status.wanted_generation);
            value["applied_generation"] = json!(status.applied_generation);
            value["version"] = json!(status.version);
            value["faults"] = faults_json(&status.faults);
        }
        value
    }
}

/// Faults for programs.
pub(super) fn faults_json(faults: &[wire::ObjectFault]) -> Value {
    faults
        .iter()
        .map(|f| json!({ "object": f.object, "message": f.message, "hint": f.hint }))
        .collect()
}

/// Nodes as a server tells of them.
pub(super) fn from_status(cluster: &wire::StatusReply) -> Result<Vec<Known>, Problem> {
    let known = |s: &wire::NodeStatus| -> Result<Known, Problem> {
        Ok(Known { node: rows::node(s.node.as_ref())?, status: Some(s.clone()) })
    };
    let mut nodes: Vec<Known> = cluster.nodes.iter().map(known).collect::<Result<_, _>>()?;
    nodes.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    Ok(nodes)
}

/// Nodes as a server tells of them, for programs.
pub(super) fn json_of_status(cluster: &wire::StatusReply) -> Result<Value, Problem> {
    Ok(from_status(cluster)?.iter().map(Known::json).collect())
}

async fn known(local: &mut Client) -> Result<Vec<Known>, Problem> {
    let mut nodes = rows::nodes(local).await?;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let status = local.status(wire::StatusRequest {}).await?.into_inner();
    let mut told = match &status.cluster {
        Some(cluster) => from_status(cluster)?,
        None => Vec::new(),
    };
    let with_status = nodes.into_iter().map(|node| {
        let at = told.iter().position(|k| k.node.id == node.id);
        let status = at.and_then(|at| told.swap_remove(at).status);
        Known { node, status }
    });
    Ok(with_status.collect())
}

async fn list(mut local: Client, listing: Listing) -> Outcome {
    let known = known(&mut local).await?;
    let lines = known.iter().map(line);
    let value: Value = known.iter().map(Known::json).collect();
    output::listing(listing.output, &HEADINGS, lines, &value)
}

/// The headings of [`line`].
pub(super) const HEADINGS: [&str; 6] = ["NAME", "ID", "ROLE", "DATA ADDRESS", "STATE", "VERSION"];

/// One node in a table.
pub(super) fn line(known: &Known) -> Vec<String> {
    let node = &known.node;
    vec![
        node.name.to_string(),
        node.id.to_string(),
        node.role.to_string(),
        node.data_address.to_string(),
        known.state().to_owned(),
        known.status.as_ref().map(|s| s.version.clone()).unwrap_or_default(),
    ]
}
