//! What the host is like, read again when something says it changed, and now and then anyway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use weft_kernel::DropChain;
use weft_rpc::wire;

use super::Agent;

/// Sysctls and others' firewall policies send no events: they are looked at this often.
const PERIOD: Duration = Duration::from_secs(3);

/// Others' filters do send events. Reading all their rules takes a while in which the processor
/// does nothing else, so without an event they are looked at this often only.
const FILTERS_PERIOD: Duration = Duration::from_secs(10);

/// After an event: more of them follow, so wait for them.
const SETTLE: Duration = Duration::from_millis(100);

/// What has the facts read anew.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Links, addresses, routes or filters of the host changed.
    pub(crate) host: Notify,
    /// There are other peers.
    pub(crate) peers: Notify,
}

/// Keeps the agent's facts current.
pub(crate) async fn keep(agent: Arc<Agent>) {
    let mut filters_due = Instant::now();
    loop {
        let host_changed = tokio::select! {
            () = agent.look.host.notified() => true,
            () = agent.look.peers.notified() => false,
            () = tokio::time::sleep(PERIOD) => false,
        };
        if host_changed {
            tokio::time::sleep(SETTLE).await;
        }
        read(&agent).await;
        if host_changed || filters_due <= Instant::now() {
            read_filters(&agent).await;
            filters_due = Instant::now() + FILTERS_PERIOD;
        }
    }
}

async fn read(agent: &Agent) {
    let address = agent.me.data_address;
    let peers = agent.state().knowledge.peers().clone();
    let shortcut = agent.shortcut.is_on();
    let facts = tokio::task::spawn_blocking(move || {
        let facts = weft_linux::facts(address, shortcut.then_some(&peers));
        (facts, peers)
    });
    match facts.await {
        Ok((Ok(facts), peers)) => agent.on_facts(facts, peers),
        Ok((Err(fault), _)) => tracing::warn!(%fault, "the host's facts could not be read"),
        Err(error) => tracing::warn!(%error, "the host's facts could not be read"),
    }
}

async fn read_filters(agent: &Agent) {
    match tokio::task::spawn_blocking(weft_linux::refusing_chains).await {
        Ok(Ok(chains)) => agent.state().refusing = chains,
        Ok(Err(fault)) => tracing::warn!(%fault, "others' filters could not be read"),
        Err(error) => tracing::warn!(%error, "others' filters could not be read"),
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
