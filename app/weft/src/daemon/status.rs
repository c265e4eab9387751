//! What `weft status` shows.

use weft_model::Row;
use weft_rpc::wire;

use super::Daemon;
use super::local::to_wire;
use super::traffic;

impl Daemon {
    /// What this daemon knows and does, and what a server says of the others.
    pub(crate) async fn status(&self) -> wire::LocalStatusReply {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let Some(running) = self.current() else {
            return wire::LocalStatusReply { version, ..Default::default() };
        };
        let agent = &running.agent;
        let progress = agent.progress().borrow().clone();
        let last = agent.uplink.last();
        let cluster = match agent.uplink.client() {
            Some(mut client) => {
                client.status(wire::StatusRequest {}).await.ok().map(tonic::Response::into_inner)
            }
            None => None,
        };
        let mut faults = agent.faults(&progress);
        if !last.error.is_empty() {
            faults.push(wire::ObjectFault {
                object: format!(
                    "server {}",
                    last.server.map(|s| s.to_string()).unwrap_or_default()
                ),
                message: last.error.clone(),
                hint: "containers keep running; new ones get addresses this host already holds"
                    .to_owned(),
            });
        }
        let shortcut = traffic::shortcut(agent).await;
        let resolver = agent.names.is_up();
        let state = agent.state();
        let rows = &state.knowledge.rows;
        let attachments = &state.knowledge.attachments;
        let containers: std::collections::BTreeSet<_> =
            attachments.values().map(crate::agent::attachment::Attachment::container).collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        wire::LocalStatusReply {
            cluster_id: agent.me.cluster.to_string(),
            node: rows.nodes.get(&agent.me.node).map(|n| to_wire(&Row::Node(n.clone()))),
            version,
            server: running.server.is_some(),
            connected: agent.uplink.is_current(),
            server_address: last.server.map(|s| s.to_string()).unwrap_or_default(),
            wanted_generation: progress.wanted_generation.0,
            applied_generation: progress.generation.0,
            faults,
            repairs: progress.repairs.clone(),
            networks: count(rows.networks.len()),
            containers: count(containers.len()),
            endpoints: count(rows.endpoints.len()),
            resolver,
            cluster,
            shortcut: Some(shortcut),
        }
    }
}
