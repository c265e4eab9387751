//! Names in containers that a runtime looks after. Such a container asks the runtime's own resolver, inside
//! its namespace, which does not know what runs on other hosts. So its questions are led to this host's
//! resolver, and that asks the other one about everything that is not Weft's.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weft_dns::table::INNER_PORT;
use weft_linux::{Divert, Diverted};
use weft_model::Network;

use super::attachment::Attachment;
use super::{Agent, State};

/// How long the runtime may take to bring the container's namespace to life.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile, at first and later: soon, because the container's program starts
/// soon after.
const LOOK: (Duration, Duration) = (Duration::from_millis(3), Duration::from_millis(100));

impl Agent {
    /// Leads the questions of the container in this sandbox here, as soon as it is alive; no longer, when
    /// it has left the last network.
    pub(crate) fn lead_names_soon(self: &Arc<Self>, sandbox: PathBuf) {
        let agent = self.clone();
        tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            while begun.elapsed() < PATIENCE {
                let later = begun.elapsed() > Duration::from_secs(2);
                tokio::time::sleep(if later { LOOK.1 } else { LOOK.0 }).await;
                // A look at the path is a thousand times cheaper than one behind it.
                if sandbox.exists() && agent.lead_names(sandbox.clone()).await {
                    return;
                }
            }
        });
    }

    /// The same for all containers, at once: the runtime may have been started anew.
    pub(crate) async fn lead_all_names(&self) {
        let lent = self.all_lent();
        let sandboxes = lent.iter().filter_map(|a| a.lent()?.sandbox.clone());
        for sandbox in sandboxes.collect::<std::collections::BTreeSet<_>>() {
            self.lead_names(sandbox).await;
        }
    }

    /// True when nothing is left to do.
    async fn lead_names(&self, sandbox: PathBuf) -> bool {
        let (path, wish) = (sandbox.clone(), wish(&self.state(), &sandbox));
        let led = tokio::task::spawn_blocking(move || match wish {
            Some(wish) => weft_linux::divert(&path, &wish),
            // The container has left its last network, and runs on.
            None => weft_linux::undivert(&path).map(|()| Diverted::Done),
        });
        let led = led.await;
        match led {
            Ok(Ok(Diverted::Done | Diverted::Unchanged)) => true,
            Ok(Ok(Diverted::NotYet)) => false,
            Ok(Err(fault)) if fault.kind == weft_kernel::FaultKind::NetnsGone => false,
            Ok(Err(fault)) => {
                let sandbox = sandbox.display();
                tracing::warn!(%sandbox, %fault, "the names of other hosts are not answered in a container");
                true
            }
            Err(error) => {
                tracing::error!(%error, "names were not led");
                true
            }
        }
    }
}

/// What is to be done in a sandbox: of several endpoints, the first one's network answers.
fn wish(state: &State, sandbox: &PathBuf) -> Option<Divert> {
    let here =
        |a: &&Attachment| a.lent().is_some_and(|lent| lent.sandbox.as_ref() == Some(sandbox));
    let attachments = state.knowledge.attachments.values().filter(here);
    let first = attachments.filter(|a| v4_of(a).is_some()).min_by_key(|a| a.order)?;
    let network = state.knowledge.rows.networks.get(&first.endpoint.network)?;
    let lease = state.knowledge.rows.leases.get(&(network.id, state.knowledge.node))?;
    let gateway = v4_at(network, Network::GATEWAY)?;
    let node = v4_at(network, lease.node_offset);
    Some(Divert {
        gateway,
        own: v4_of(first)?,
        from: std::iter::once(gateway).chain(node).collect(),
        port: INNER_PORT,
    })
}

fn v4_of(attachment: &Attachment) -> Option<Ipv4Addr> {
    attachment.endpoint.addresses.iter().find_map(|address| match address {
        std::net::IpAddr::V4(v4) => Some(*v4),
        std::net::IpAddr::V6(_) => None,
    })
}

fn v4_at(network: &Network, offset: weft_model::Offset) -> Option<Ipv4Addr> {
    let subnet = network.subnets.iter().find(|subnet| matches!(subnet, IpNet::V4(_)))?;
    match Network::address_at(subnet, offset)? {
        std::net::IpAddr::V4(v4) => Some(v4),
        std::net::IpAddr::V6(_) => None,
    }
}
