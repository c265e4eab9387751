//! What the host is like, read again when something says it changed, and now and then anyway.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use weft_kernel::Fault;
use weft_plan::{DropChain, HostFacts};

use super::Agent;

/// Sysctls and others' firewall policies send no events: they are looked at this often.
const PERIOD: Duration = Duration::from_secs(3);

/// After an event: more of them follow, so wait for them.
const SETTLE: Duration = Duration::from_millis(100);

/// Reads the host's facts.
pub(crate) fn read(data_address: IpAddr) -> Result<HostFacts, Fault> {
    let facts = weft_linux::facts(data_address)?;
    let chains = facts.drop_chains.into_iter();
    Ok(HostFacts {
        underlay_mtu: facts.underlay_mtu,
        router_advertisement_links: facts.router_advertisement_links,
        drop_chains: chains
            .map(|c| DropChain { table: c.table, chain: c.chain, input: c.input })
            .collect(),
        routes: facts.routes,
        ipv6: facts.ipv6,
    })
}

/// Keeps the agent's facts current.
pub(crate) async fn keep(agent: Arc<Agent>, changed: Arc<Notify>) {
    loop {
        // Whether woken or not, the facts are read: a timeout is no error here.
        if tokio::time::timeout(PERIOD, changed.notified()).await.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
        let address = agent.me.data_address;
        match tokio::task::spawn_blocking(move || read(address)).await {
            Ok(Ok(facts)) => agent.on_facts(facts),
            Ok(Err(fault)) => tracing::warn!(%fault, "the host's facts could not be read"),
            Err(error) => tracing::warn!(%error, "the host's facts could not be read"),
        }
    }
}
