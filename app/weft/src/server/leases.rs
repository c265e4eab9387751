//! Addresses for nodes; when none are left, other nodes are asked for theirs.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weft_model::{Generation, Lease, NetworkId, NodeId, Offset, RowKey};
use weft_rpc::{Identity, wire};
use weft_state::rejection::Code;
use weft_state::{Command, Outcome, Rejection, recallable};

use super::Server;
use super::failure::Failure;

/// How long a holder has to answer before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A wish for addresses.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) network: NetworkId,
    pub(super) node: NodeId,
    pub(super) wanted: Vec<Offset>,
    pub(super) count: u32,
}

impl Server {
    /// Grants addresses, if need be after other nodes have given back what they do not use.
    pub(super) async fn lease(
        &self,
        who: &Identity,
        wish: Wish,
    ) -> Result<(Lease, Generation), Failure> {
        let deadline = Instant::now() + self.settings.recall;
        let mut changes = self.replica.changes();
        let mut asked: Option<Instant> = None;
        loop {
            changes.mark_unchanged();
            let rejection = match self.grant(who, &wish).await {
                Err(Failure::Rejected(rejection)) if scarce(&rejection) => rejection,
                decided => return decided,
            };
            if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                if self.ask_holders(&wish) == 0 && asked.is_none() {
                    return Err(rejection.into());
                }
                asked = Some(Instant::now());
            }
            let until = deadline.min(Instant::now() + ASK_AGAIN);
            let _ = timeout_at(until, changes.changed()).await;
            if Instant::now() >= deadline {
                return Err(rejection.into());
            }
        }
    }

    async fn grant(&self, who: &Identity, wish: &Wish) -> Result<(Lease, Generation), Failure> {
        let Wish { network, node, wanted, count } = wish.clone();
        let command = Command::Lease { network, node, wanted, count };
        let (outcome, generation) = self.decider.decide(Some(who), command).await?;
        let Outcome::Lease(lease) = outcome else {
            return Err(Failure::Internal("a lease was decided without a lease".to_owned()));
        };
        // Of a lease that did not change, the node will hear no more than it has.
        let key = RowKey::Lease(network, node);
        let written = self.replica.read(|state| state.written.get(&key).copied());
        Ok((lease, written.unwrap_or(generation).min(generation)))
    }

    /// Asks the connected nodes that hold what `wish` could use; gives how many there are.
    fn ask_holders(&self, wish: &Wish) -> usize {
        let Wish { network, node, wanted, count } = wish;
        // Of any addresses, all holders are asked: some may have plans for theirs.
        let count = (*count).max(1);
        let holders = self.replica.read(|s| recallable(s, *network, *node, wanted, u32::MAX));
        let ask = |(holder, unused): &(NodeId, weft_model::OffsetSet)| {
            let half = u32::try_from(unused.len() / 2).unwrap_or(u32::MAX);
            let recall = wire::Recall {
                network_id: network.to_string(),
                offsets: if wanted.is_empty() { String::new() } else { unused.to_string() },
                count: half.max(count),
            };
            self.hub.recall(*holder, recall)
        };
        holders.iter().filter(|holder| ask(holder)).count()
    }
}

/// Whether others could help by giving something back.
fn scarce(rejection: &Rejection) -> bool {
    matches!(rejection.code, Code::Exhausted | Code::Busy)
}
