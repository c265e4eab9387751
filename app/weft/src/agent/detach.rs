//! Detach: endpoints go, asked for or because their namespace is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::{Endpoint, EndpointId, Name, NetworkId};
use weft_state::rejection::Code;

use super::Agent;
use super::attach::{boot_id, offsets_of};
use super::attachment::Attachment;
use super::refusal::Refusal;
use super::uplink::written;

/// How long a detach waits for this host's kernel, and for the other nodes.
const WAIT: Duration = Duration::from_millis(500);

/// How often namespaces are looked at for a sign of life.
const LOOK: Duration = Duration::from_secs(2);

/// What to detach: all given parts must fit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detach {
    /// The container's name, or an endpoint's identifier.
    pub(crate) name: Option<Name>,
    pub(crate) netns: Option<std::path::PathBuf>,
    pub(crate) network: Option<Name>,
}

impl Agent {
    /// Takes endpoints off their networks. Nothing there to detach is an error the first time a
    /// person asks by name, and so says what there is.
    pub(crate) async fn detach(self: &Arc<Self>, wish: Detach) -> Result<Vec<Endpoint>, Refusal> {
        if wish.name.is_none() && wish.netns.is_none() {
            return Err(Refusal::reject(
                Code::Invalid,
                "NAME",
                "nothing says what to detach",
                "give the container's name, or --netns",
            ));
        }
        let (ids, known) = {
            let state = self.state();
            let network = match &wish.network {
                Some(name) => match state.knowledge.rows.network_named(name) {
                    Some(network) => Some(network.id),
                    None => return Ok(Vec::new()),
                },
                None => None,
            };
            let fits = |a: &&super::attachment::Attachment| {
                wish.name.as_ref().is_none_or(|n| {
                    a.endpoint.name == *n || a.endpoint.id.to_string() == n.as_str()
                }) && network.is_none_or(|n| a.endpoint.network == n)
                    && wish
                        .netns
                        .as_ref()
                        .is_none_or(|p| a.netns().is_some_and(|netns| same_netns(netns, p)))
            };
            let found: Vec<EndpointId> =
                state.knowledge.attachments.values().filter(fits).map(|a| a.endpoint.id).collect();
            let known: Vec<String> =
                state.knowledge.attachments.values().map(|a| a.endpoint.name.to_string()).collect();
            (found, known)
        };
        if let (true, Some(name)) = (ids.is_empty(), &wish.name) {
            let hint = if known.is_empty() {
                "no container is attached on this host".to_owned()
            } else {
                format!("attached on this host: {}", known.join(", "))
            };
            return Err(Refusal::reject(
                Code::NotFound,
                "NAME",
                format!("no container called '{name}' is attached on this host"),
                hint,
            ));
        }
        self.refuse_lent(&ids)?;
        self.remove_attachments(ids).await
    }

    /// What a container runtime has is taken away through it: it would not notice.
    fn refuse_lent(&self, ids: &[EndpointId]) -> Result<(), Refusal> {
        let state = self.state();
        let attachments = ids.iter().filter_map(|id| state.knowledge.attachments.get(id));
        let Some(lent) = attachments.into_iter().find(|a| a.lent().is_some()) else {
            return Ok(());
        };
        let name = &lent.endpoint.name;
        Err(Refusal::reject(
            Code::Denied,
            "NAME",
            format!("'{name}' is a container of Docker's"),
            format!("use `docker network disconnect NETWORK {name}`, or stop the container"),
        ))
    }

    /// Takes attachments away: from disk, from the kernel, from the servers.
    pub(crate) async fn remove_attachments(
        self: &Arc<Self>,
        ids: Vec<EndpointId>,
    ) -> Result<Vec<Endpoint>, Refusal> {
        if !ids.is_empty() {
            // What they sent and received is known only while they are there.
            self.count_once_more().await;
        }
        let (store, keys) = (self.store.clone(), ids.clone());
        let deleted = tokio::task::spawn_blocking(move || {
            keys.iter().try_for_each(|id| store.delete_record(&format!("attachment/{id}")))
        });
        deleted.await.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
        let (endpoints, sequence) = {
            let mut state = self.state();
            let mut endpoints = Vec::new();
            for id in ids {
                let Some(gone) = state.knowledge.detach(id) else { continue };
                state.refused.remove(&id);
                let network = state.knowledge.rows.networks.get(&gone.endpoint.network).cloned();
                for offset in network.iter().flat_map(|n| offsets_of(n, &gone.endpoint)) {
                    state.cooling.release(gone.endpoint.network, offset, Instant::now());
                }
                endpoints.push(gone.endpoint);
            }
            let sequence = self.replan_locked(&mut state);
            (endpoints, sequence)
        };
        if endpoints.is_empty() {
            return Ok(endpoints);
        }
        self.driver.applied(sequence, WAIT).await;
        self.forget_idle_namespaces();
        for endpoint in &endpoints {
            self.tell_of_release(endpoint).await;
        }
        Ok(endpoints)
    }

    async fn tell_of_release(self: &Arc<Self>, endpoint: &Endpoint) {
        let Some(generation) = self.withdraw(endpoint.network, endpoint.id).await else { return };
        let (agent, endpoint) = (self.clone(), endpoint.clone());
        tokio::spawn(async move {
            let behind =
                agent.await_applied(endpoint.network, generation, Duration::from_secs(5)).await;
            if behind.is_empty() {
                let mut state = agent.state();
                if let Some(network) = state.knowledge.rows.networks.get(&endpoint.network).cloned()
                {
                    let offsets = offsets_of(&network, &endpoint);
                    state.cooling.applied_by_all(endpoint.network, &offsets);
                }
            }
        });
    }

    /// Under the lock, so that a namespace that is just being attached is not forgotten.
    fn forget_idle_namespaces(&self) {
        let state = self.state();
        let attachments = state.knowledge.attachments.values();
        let live = attachments.filter_map(|a| Some(a.netns()?.id())).collect();
        self.driver.keep_netns(live);
    }

    /// Looks after what ends by itself: namespaces that are gone, and networks nothing of this
    /// host is on any more.
    pub(crate) async fn keep_house(self: Arc<Self>) {
        let mut missing: BTreeMap<EndpointId, u32> = BTreeMap::new();
        let mut idle: BTreeMap<NetworkId, Instant> = BTreeMap::new();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.remove_gone(&mut missing).await;
            self.leave_idle(&mut idle).await;
            let store = self.store.clone();
            written(tokio::task::spawn_blocking(move || store.flush()).await);
        }
    }

    /// Gone is what was missing at two looks in a row: positive evidence, twice.
    async fn remove_gone(self: &Arc<Self>, missing: &mut BTreeMap<EndpointId, u32>) {
        let attachments: Vec<_> = self.state().knowledge.attachments.values().cloned().collect();
        let looked = tokio::task::spawn_blocking(move || {
            let links = links_of_lent(attachments.iter())?;
            let boot = boot_id();
            let gone = attachments.into_iter().filter(|a| a.is_gone(&boot, &links));
            Ok::<_, weft_kernel::Fault>(gone.map(|a| a.endpoint.id).collect::<Vec<_>>())
        });
        let Ok(Ok(absent)) = looked.await else { return };
        missing.retain(|id, _| absent.contains(id));
        let mut gone = Vec::new();
        for id in absent {
            let seen = missing.entry(id).or_insert(0);
            *seen += 1;
            if *seen >= 2 {
                gone.push(id);
            }
        }
        if gone.is_empty() {
            return;
        }
        tracing::info!(count = gone.len(), "endpoints whose namespace is gone are released");
        if let Err(error) = self.remove_attachments(gone).await {
            tracing::warn!(%error, "endpoints of gone namespaces not released");
        }
    }

    /// A node stops taking part in a network once nothing of it has been there for the cool-down.
    async fn leave_idle(self: &Arc<Self>, idle: &mut BTreeMap<NetworkId, Instant>) {
        if !self.uplink.is_current() {
            return;
        }
        self.return_again().await;
        let now = Instant::now();
        let unused: Vec<NetworkId> = {
            let state = self.state();
            let knowledge = &state.knowledge;
            let on = |id: &NetworkId| {
                knowledge.attachments.values().any(|a| a.endpoint.network == *id)
                    || knowledge.rows.endpoints_of(*id).any(|e| e.node == knowledge.node)
            };
            let mine = knowledge.rows.leases.keys().filter(|(_, node)| *node == knowledge.node);
            mine.map(|(network, _)| *network).filter(|id| !on(id)).collect()
        };
        idle.retain(|id, _| unused.contains(id));
        for id in unused {
            let since = *idle.entry(id).or_insert(now);
            if now.duration_since(since) < super::cooling::COOLDOWN {
                continue;
            }
            match self.release(id, &weft_model::OffsetSet::new(), true).await {
                Ok(()) => drop(idle.remove(&id)),
                Err(error) => tracing::warn!(network = %id, %error, "network not left"),
            }
        }
    }
}

fn same_netns(netns: &super::attachment::NetnsRef, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    netns.path == path || std::fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == netns.inode)
}

/// Of the host's ends of pairs that are lent, those that are there.
///
/// # Errors
/// When the host's links cannot be read.
pub(super) fn links_of_lent<'a>(
    attachments: impl Iterator<Item = &'a Attachment>,
) -> Result<BTreeSet<String>, weft_kernel::Fault> {
    let wanted: BTreeSet<String> =
        attachments.filter(|a| a.lent().is_some()).map(Attachment::host_end).collect();
    if wanted.is_empty() { Ok(wanted) } else { weft_linux::links_named(&wanted) }
}
