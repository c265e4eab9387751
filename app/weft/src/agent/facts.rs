//! What the host is like, read again when something says it changed, and now and then anyway.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use weft_kernel::DropChain;
use weft_rpc::wire;

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
        match tokio::task::spawn_blocking(weft_linux::refusing_chains).await {
            Ok(Ok(chains)) => agent.state().refusing = chains,
            Ok(Err(fault)) => tracing::warn!(%fault, "others' filters could not be read"),
            Err(error) => tracing::warn!(%error, "others' filters could not be read"),
        }
    }
}

/// What to tell people of a chain that refuses by a rule.
pub(crate) fn advice(chain: &DropChain) -> wire::ObjectFault {
    let (table, name) = (&chain.table, &chain.chain);
    let hint = if table.name == "firewalld" {
        "firewall-cmd --permanent --zone=trusted --add-interface=wb-+ && firewall-cmd --reload"
            .to_owned()
    } else if chain.input {
        format!(
            "nft insert rule {table} {name} iifname '\"wb-*\"' accept; and for UDP port 4789 from the other hosts the same"
        )
    } else {
        format!(
            "nft insert rule {table} {name} iifname '\"wb-*\"' accept; nft insert rule {table} {name} oifname '\"wb-*\"' accept"
        )
    };
    wire::ObjectFault {
        object: format!("chain {table} {name}"),
        message: "a rule of somebody else's refuses what no rule before it lets through, and none \
                  before it names Weft's links"
            .to_owned(),
        hint,
    }
}
