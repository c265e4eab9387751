//! What the host is like, read again when something says it changed, and now and then anyway.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Agent;

/// Sysctls and others' firewall policies send no events: they are looked at this often.
const PERIOD: Duration = Duration::from_secs(3);

/// After an event: more of them follow, so wait for them.
const SETTLE: Duration = Duration::from_millis(100);

/// Keeps the agent's facts current.
pub(crate) async fn keep(agent: Arc<Agent>, changed: Arc<Notify>) {
    loop {
        // Whether woken or not, the facts are read: a timeout is no error here.
        if tokio::time::timeout(PERIOD, changed.notified()).await.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
        let address = agent.me.data_address;
        match tokio::task::spawn_blocking(move || weft_linux::facts(address)).await {
            Ok(Ok(facts)) => agent.on_facts(facts),
            Ok(Err(fault)) => tracing::warn!(%fault, "the host's facts could not be read"),
            Err(error) => tracing::warn!(%error, "the host's facts could not be read"),
        }
    }
}
