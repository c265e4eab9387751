//! Telling the servers what runs here, and hearing who has taken it in.

use std::sync::Arc;
use std::time::Duration;

use weft_model::{Endpoint, EndpointId, NetworkId, RowKey};
use weft_rpc::wire;
use weft_state::Write;

use super::Agent;
use super::lease::refused;
use super::refusal::Refusal;

/// How long one call to a server may take.
const CALL: Duration = Duration::from_secs(2);

/// What became of telling.
#[derive(Default)]
pub(crate) struct Told {
    /// Names of nodes that have not applied it within the wait.
    pub(crate) behind: Vec<String>,
    /// No server could be reached; told again when one is.
    pub(crate) unpublished: bool,
}

impl Agent {
    /// Tells of an endpoint and waits, for `wait` at most, until the other nodes have applied it.
    pub(crate) async fn publish(
        &self,
        endpoint: &Endpoint,
        wait: Duration,
    ) -> Result<Told, Refusal> {
        let known = {
            let state = self.state();
            let rows = &state.knowledge.rows;
            let at = (endpoint.network, endpoint.id);
            (rows.endpoints.get(&at) == Some(endpoint)).then_some(rows.generation.0)
        };
        let generation = match known {
            Some(generation) => generation,
            None => match self.put_endpoint(endpoint).await {
                Ok(generation) => generation,
                Err(Refusal::NoServer { .. }) => {
                    return Ok(Told { unpublished: true, ..Told::default() });
                }
                Err(refusal) => return Err(refusal),
            },
        };
        Ok(Told {
            behind: self.await_applied(endpoint.network, generation, wait).await,
            unpublished: false,
        })
    }

    async fn put_endpoint(&self, endpoint: &Endpoint) -> Result<u64, Refusal> {
        let what = format!("telling of endpoint '{}'", endpoint.name);
        let mut client =
            self.uplink.client().ok_or_else(|| Refusal::NoServer { what: what.clone() })?;
        let row = weft_model::Row::Endpoint(endpoint.clone());
        let row = wire::Row { key: row.key().to_string(), value: Some(row.value()) };
        match tokio::time::timeout(CALL, client.put_endpoint(row)).await {
            Ok(Ok(committed)) => {
                self.state().refused.remove(&endpoint.id);
                Ok(committed.into_inner().generation)
            }
            Ok(Err(status)) => {
                let refusal = refused(&status, &what);
                if let Refusal::Rejected(rejection) = &refusal {
                    self.state().refused.insert(endpoint.id, rejection.clone());
                }
                Err(refusal)
            }
            Err(_) => Err(Refusal::NoServer { what }),
        }
    }

    /// Tells that an endpoint is gone; `None` when no server could be told.
    pub(crate) async fn withdraw(&self, network: NetworkId, id: EndpointId) -> Option<u64> {
        let mut client = self.uplink.client()?;
        let request = wire::DeleteEndpointRequest {
            network_id: network.to_string(),
            endpoint_id: id.to_string(),
        };
        match tokio::time::timeout(CALL, client.delete_endpoint(request)).await {
            Ok(Ok(committed)) => Some(committed.into_inner().generation),
            Ok(Err(status)) => {
                tracing::warn!(endpoint = %id, error = status.message(), "not withdrawn");
                None
            }
            Err(_) => None,
        }
    }

    /// Names of nodes of `network` that have not applied `generation` within `wait`.
    pub(crate) async fn await_applied(
        &self,
        network: NetworkId,
        generation: u64,
        wait: Duration,
    ) -> Vec<String> {
        let Some(mut client) = self.uplink.client() else { return Vec::new() };
        let request = wire::AwaitAppliedRequest {
            network_id: network.to_string(),
            generation,
            timeout_ms: u32::try_from(wait.as_millis()).unwrap_or(10_000).min(10_000),
        };
        match tokio::time::timeout(wait + CALL, client.await_applied(request)).await {
            Ok(Ok(reply)) => reply.into_inner().behind,
            Ok(Err(_)) | Err(_) => vec!["(the server did not say)".to_owned()],
        }
    }

    /// Brings what the servers know of this node's endpoints to what is true, until it is.
    /// Attach and detach tell at once; this catches up on what could not be told then.
    pub(crate) async fn keep_published(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.uplink.is_current() {
                continue;
            }
            let before = self.state().knowledge.unpublished();
            if before.is_empty() {
                continue;
            }
            // What attach or detach is telling just now is not ours to tell: only what is still
            // untold a moment later is.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let after = self.state().knowledge.unpublished();
            for write in after.into_iter().filter(|w| before.contains(w)) {
                self.tell_again(write).await;
            }
        }
    }

    async fn tell_again(&self, write: Write) {
        match write {
            Write::Put(weft_model::Row::Endpoint(endpoint)) => {
                if let Err(error) = self.put_endpoint(&endpoint).await {
                    tracing::warn!(endpoint = %endpoint.name, %error, "not published");
                }
            }
            Write::Delete(RowKey::Endpoint(network, id)) => {
                self.withdraw(network, id).await;
            }
            Write::Put(_) | Write::Delete(_) => {}
        }
    }
}
