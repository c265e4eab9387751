//! Addresses come from the servers in shares and go back when somebody else needs them.

use std::sync::Arc;
use std::time::Duration;

use weft_model::{Name, Network, NetworkId, Offset, OffsetSet, Row};
use weft_rpc::wire;
use weft_state::Rejection;
use weft_state::rejection::Code;

use super::Agent;
use super::refusal::Refusal;
use super::uplink::PATIENCE;

/// How long a granted lease may take to arrive on the stream of rows.
const ARRIVAL: Duration = Duration::from_secs(3);

impl Agent {
    /// The network called `name`: known here, or asked of a server.
    pub(crate) async fn find_network(&self, name: &Name) -> Result<Network, Refusal> {
        if let Some(network) = self.state().knowledge.rows.network_named(name) {
            return Ok(network.clone());
        }
        let mut client =
            self.uplink.client_within(PATIENCE).await.ok_or_else(|| Refusal::NoServer {
                what: format!("joining network '{name}', which no container of this host is on,"),
            })?;
        let listed = client.list(wire::ListRequest { kind: "network".to_owned() }).await;
        let listed = listed.map_err(|status| refused(&status, "looking the network up"))?;
        let rows =
            listed.into_inner().rows.into_iter().filter_map(|row| {
                Row::decode(&row.key, row.value.as_deref().unwrap_or_default()).ok()
            });
        let found = rows.into_iter().find_map(|row| match row {
            Row::Network(network) if network.name == *name => Some(network),
            _ => None,
        });
        found.ok_or_else(|| {
            Refusal::reject(
                Code::NotFound,
                "--network",
                format!("there is no network '{name}'"),
                "see `weft network ls`, or create it with `weft network create`",
            )
        })
    }

    /// Asks a server for addresses of `network` and waits until they have arrived here.
    pub(crate) async fn obtain_lease(
        &self,
        network: &Network,
        wanted: &[Offset],
    ) -> Result<(), Refusal> {
        let mut client =
            self.uplink.client_within(PATIENCE).await.ok_or_else(|| Refusal::NoServer {
                what: format!("getting more addresses of network '{}'", network.name),
            })?;
        let request = wire::LeaseRequest {
            network_id: network.id.to_string(),
            wanted: wanted.iter().map(|o| o.0).collect(),
            count: 1,
        };
        let reply = match client.lease(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return self.lease_refused(network, &status),
        };
        let mut arrived = self.uplink.generation();
        let wait = arrived.wait_for(|generation| generation.0 >= reply.generation);
        match tokio::time::timeout(ARRIVAL, wait).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Refusal::NoServer {
                what: format!("hearing of the addresses granted on network '{}'", network.name),
            }),
        }
    }

    /// With nothing left in the cluster, what cools down here may be given out after all.
    fn lease_refused(&self, network: &Network, status: &tonic::Status) -> Result<(), Refusal> {
        let refusal = refused(status, "getting an address");
        if let Refusal::Rejected(Rejection { code: Code::Exhausted, .. }) = &refusal {
            let first_time = self.state().exhausted.insert(network.id);
            if first_time {
                return Ok(());
            }
        }
        Err(refusal)
    }

    /// The servers want addresses back: gives what is neither used nor cooling.
    pub(crate) async fn on_recall(self: &Arc<Self>, recall: wire::Recall) {
        if let Err(error) = self.give_back(&recall).await {
            tracing::warn!(network = %recall.network_id, %error, "addresses not given back");
        }
    }

    async fn give_back(&self, recall: &wire::Recall) -> Result<(), Refusal> {
        let id: NetworkId = recall.network_id.parse().map_err(Refusal::internal)?;
        let asked: OffsetSet = recall.offsets.parse().map_err(Refusal::internal)?;
        let (offsets, returning) = {
            let mut state = self.state();
            let Some(network) = state.knowledge.rows.networks.get(&id).cloned() else {
                return Ok(());
            };
            let Some(lease) = state.knowledge.rows.leases.get(&(id, self.me.node)).cloned() else {
                return Ok(());
            };
            let used = state.knowledge.used(&network);
            let cooling = state.cooling.of(id, std::time::Instant::now());
            let unsettled = state.cooling.unsettled(id);
            // What still cools goes only to somebody for whom nothing else will do: an address
            // asked for by itself, or the last one; and only once every peer knows it is free.
            let unused: Vec<Offset> = lease.offsets.iter().filter(|o| !used.contains(*o)).collect();
            let settled = unused.iter().copied().filter(|o| !unsettled.contains(*o));
            let cool = unused.iter().copied().filter(|o| !cooling.contains(*o));
            let offsets: OffsetSet = if asked.is_empty() {
                let cool: OffsetSet = cool.take(recall.count as usize).collect();
                if cool.is_empty() { settled.take(recall.count as usize).collect() } else { cool }
            } else {
                settled.filter(|o| asked.contains(*o)).collect()
            };
            let returning = state.returning.entry(id).or_default();
            for offset in offsets.iter() {
                returning.insert(offset);
            }
            (offsets, returning.clone())
        };
        if offsets.is_empty() {
            return Ok(());
        }
        // On disk before the servers hear of it: a restart must not give out what is theirs again.
        let (store, key) = (self.store.clone(), format!("returning/{id}"));
        let text = returning.to_string();
        tokio::task::spawn_blocking(move || store.put_record(&key, text.as_bytes()))
            .await
            .map_err(Refusal::internal)?
            .map_err(Refusal::internal)?;
        self.release(id, &offsets, false).await
    }

    /// Tells the servers that `offsets` are theirs again; with `leave`, that this node no longer takes part.
    pub(crate) async fn release(
        &self,
        network: NetworkId,
        offsets: &OffsetSet,
        leave: bool,
    ) -> Result<(), Refusal> {
        let mut client = self
            .uplink
            .client()
            .ok_or_else(|| Refusal::NoServer { what: "giving addresses back".to_owned() })?;
        let request = wire::ReleaseRequest {
            network_id: network.to_string(),
            offsets: offsets.to_string(),
            leave,
        };
        let reply = client.release(request).await;
        reply.map(|_| ()).map_err(|status| refused(&status, "giving addresses back"))
    }

    /// Called when rows have arrived: what the lease no longer has, has gone back.
    pub(crate) fn settle_returns(&self) {
        let mut state = self.state();
        let returning = std::mem::take(&mut state.returning);
        for (id, offsets) in returning {
            let lease = state.knowledge.rows.leases.get(&(id, self.me.node));
            let held = |offset: &Offset| lease.is_some_and(|l| l.offsets.contains(*offset));
            let still: OffsetSet = offsets.iter().filter(held).collect();
            let key = format!("returning/{id}");
            let kept = if still.is_empty() {
                self.store.delete_record(&key)
            } else if still == offsets {
                Ok(())
            } else {
                self.store.put_record(&key, still.to_string().as_bytes())
            };
            if let Err(error) = kept {
                tracing::warn!(%error, "what was given back is still on disk");
            }
            if !still.is_empty() {
                state.returning.insert(id, still);
            }
        }
    }

    /// Gives back again what a server did not hear of the first time.
    pub(crate) async fn return_again(&self) {
        let returning = self.state().returning.clone();
        for (id, offsets) in returning {
            if let Err(error) = self.release(id, &offsets, false).await {
                tracing::warn!(network = %id, %error, "addresses not given back");
            }
        }
    }
}

/// A server's answer as a refusal.
pub(crate) fn refused(status: &tonic::Status, what: &str) -> Refusal {
    match weft_rpc::error::rejection(status) {
        Some(rejection) => Refusal::Rejected(rejection),
        None if status.code() == tonic::Code::Unavailable => {
            Refusal::NoServer { what: what.to_owned() }
        }
        None => Refusal::Internal(format!("{what}: {}", status.message())),
    }
}
