//! Waiting until the nodes of a network have taken something in.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weft_model::{Generation, NetworkId, NodeId};

use super::Server;
use super::hub::Progress;

/// The longest anybody waits.
const MOST: Duration = Duration::from_secs(10);

impl Server {
    /// Waits, at most `wait`, until every connected node of `network` other than `caller` has
    /// applied `generation`. Gives the names of those that have not; disconnected ones are among
    /// them, and not waited for.
    pub(super) async fn await_applied(
        &self,
        caller: NodeId,
        network: NetworkId,
        generation: Generation,
        wait: Duration,
    ) -> Vec<String> {
        let deadline = Instant::now() + wait.min(MOST);
        let mut news = self.hub.news();
        // Nodes are told by this server as far as it has got itself.
        self.replica.reach(generation, wait.min(MOST)).await;
        loop {
            news.mark_unchanged();
            let mut waiting = false;
            let behind: Vec<String> = self.replica.read(|state| {
                let others = state.leases_of(network).map(|l| l.node).filter(|n| *n != caller);
                let slow = others.filter(|node| match self.hub.progress(*node, generation) {
                    Progress::Applied => false,
                    Progress::Disconnected => true,
                    Progress::Behind => {
                        waiting = true;
                        true
                    }
                });
                slow.map(|n| state.nodes.get(&n).map_or(n.to_string(), |n| n.name.to_string()))
                    .collect()
            });
            if !waiting || timeout_at(deadline, news.changed()).await.is_err() {
                return behind;
            }
        }
    }
}
