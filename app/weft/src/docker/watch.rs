//! Following the engine: what its networks and containers are called, and what it no longer has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use weft_docker::engine::{Event, NetworkInfo};
use weft_model::{EndpointId, Name};

use crate::agent::Agent;
use crate::agent::attachment::Attachment;

use super::Front;
use super::binding;
use super::book::Record;

/// How often everything is looked at, whatever the events said.
const LOOK: Duration = Duration::from_secs(10);

/// When something was missing: how soon it is looked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long the engine may take to make something.
const UNMADE: Duration = Duration::from_secs(60);

/// How long to wait for an engine that is not there.
const AWAY: Duration = Duration::from_secs(1);

/// Follows the engine for as long as the process lives.
pub(super) async fn keep(front: Arc<Front>) {
    let mut seen = Seen::default();
    loop {
        if let Ok(agent) = front.agent() {
            follow(&front, &agent, &mut seen).await;
        }
        tokio::time::sleep(AWAY).await;
    }
}

/// Until the engine goes.
async fn follow(front: &Arc<Front>, agent: &Arc<Agent>, seen: &mut Seen) {
    // From now on, so that nothing falls between the events and the list.
    let mut events = front.engine.events(Some(SystemTime::now()));
    let mut next = tokio::time::Instant::now();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    // Each by itself: one about a container that is just starting takes as long as that.
                    tokio::spawn(on_event(front.clone(), agent.clone(), event));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "not following Docker");
                    return;
                }
                None => return,
            },
            () = tokio::time::sleep_until(next) => {
                let looked = look_at_all(front, agent, seen).await;
                if let Err(error) = &looked {
                    tracing::debug!(%error, "Docker's networks could not be looked at");
                }
                // A look that failed may have ended before anything was found missing.
                let pause = if looked.is_ok() && seen.missing.is_empty() { LOOK } else { AGAIN };
                next = tokio::time::Instant::now() + pause;
            }
        }
    }
}

async fn on_event(front: Arc<Front>, agent: Arc<Agent>, event: Event) {
    let done = match event {
        // Those of other drivers are not in the book. What this one is called depends on who installed it:
        // `weft`, or a managed plugin's name and tag.
        Event::NetworkCreated { id, name, .. } => front.on_name(&agent, &id, &name).await,
        Event::Connected { network, container } => {
            front.on_connected(&agent, &network, &container).await
        }
        Event::Started { container } | Event::Renamed { container } => {
            front.name_container(&agent, &container).await
        }
        _ => Ok(()),
    };
    if let Err(error) = done {
        tracing::warn!(%error, "Docker's event was not followed");
    }
}

/// Names that were not heard of, and leftovers.
async fn look_at_all(front: &Front, agent: &Arc<Agent>, seen: &mut Seen) -> Result<(), String> {
    let before = agent.all_lent();
    let kept = super::loaded(&mut *front.book.lock().await, agent).await?.ids();
    let networks = networks(front, &before, &kept).await?;
    for network in &networks {
        if let Err(error) = front.on_name(agent, &network.id, &network.name).await {
            tracing::warn!(network = %network.name, %error, "Docker's network is none of Weft's");
        }
    }
    let mut containers: BTreeSet<&String> = BTreeSet::new();
    let mut asked = BTreeSet::new();
    for network in &networks {
        for endpoint in &network.endpoints {
            let id = &endpoint.endpoint_id;
            // Its aliases, which only the container itself tells: events do, but for those that were missed.
            if name_of_endpoint(agent, network, id).await || !seen.asked.contains(id) {
                containers.extend(endpoint.container_id.as_ref());
            }
            asked.insert(id.clone());
        }
    }
    seen.asked = asked;
    for container in containers {
        // What the others are called, and what is left over, does not depend on it.
        if let Err(error) = front.name_container(agent, container).await {
            tracing::warn!(%container, %error, "the names of a container were not taken over");
        }
    }
    let there = networks.iter().map(|n| &n.id);
    let there: BTreeSet<&String> = there
        .chain(networks.iter().flat_map(|n| n.endpoints.iter().map(|e| &e.endpoint_id)))
        .collect();
    let lent = before.iter().filter_map(|a| Some((a.lent()?.endpoint.clone(), a.is_joined())));
    let absent = lent.chain(kept.into_iter().map(|id| (id, false)));
    let gone = seen
        .missing_for_long(absent.filter(|(id, _)| !there.contains(id)).collect(), Instant::now());
    sweep(front, agent, &before, &gone).await?;
    agent.lead_all_names().await;
    front.forget_promises(agent);
    Ok(())
}

/// What the engine tells of the networks that it has from here.
async fn networks(
    front: &Front,
    lent: &[Attachment],
    kept: &[String],
) -> Result<Vec<NetworkInfo>, String> {
    let lent = lent.iter().filter_map(|a| Some(&a.lent()?.network));
    let ids: BTreeSet<&String> = kept.iter().chain(lent).collect();
    let mut networks = Vec::with_capacity(ids.len());
    for id in ids {
        networks.extend(front.engine.network(id).await.map_err(|e| e.to_string())?);
    }
    Ok(networks)
}

/// What earlier looks have seen.
#[derive(Debug, Default)]
struct Seen {
    /// What the engine did not have, and since when.
    missing: BTreeMap<String, Instant>,
    /// Endpoints whose containers were asked for their names.
    asked: BTreeSet<String>,
}

impl Seen {
    /// What is absent now and was before, with time between: positive evidence, twice. What no
    /// container has yet, the engine may be about to make: it calls its drivers before it keeps something.
    fn missing_for_long(
        &mut self,
        absent: BTreeMap<String, bool>,
        now: Instant,
    ) -> BTreeSet<String> {
        self.missing.retain(|id, _| absent.contains_key(id));
        let mut long = BTreeSet::new();
        for (id, is_joined) in absent {
            let since = *self.missing.entry(id.clone()).or_insert(now);
            if now.saturating_duration_since(since) >= if is_joined { AGAIN } else { UNMADE } {
                long.insert(id);
            }
        }
        long
    }
}

/// Takes away what the engine no longer has.
async fn sweep(
    front: &Front,
    agent: &Arc<Agent>,
    before: &[Attachment],
    gone: &BTreeSet<String>,
) -> Result<(), String> {
    let is_gone = |a: &&Attachment| a.lent().is_some_and(|lent| gone.contains(&lent.endpoint));
    let endpoints: Vec<EndpointId> = before.iter().filter(is_gone).map(|a| a.endpoint.id).collect();
    if !endpoints.is_empty() {
        tracing::info!(count = endpoints.len(), "endpoints that Docker no longer has are released");
        agent.remove_attachments(endpoints).await.map_err(|refusal| super::text(&refusal))?;
    }
    let ids = super::loaded(&mut *front.book.lock().await, agent).await?.ids();
    for id in ids.into_iter().filter(|id| gone.contains(id)) {
        tracing::info!(network = %id, "a network that Docker no longer has is forgotten");
        front.delete_network(id).await?;
    }
    Ok(())
}

/// Takes over what the list of a network says, which is the container's name. True when it was another.
async fn name_of_endpoint(agent: &Arc<Agent>, network: &NetworkInfo, id: &str) -> bool {
    let Some(known) = agent.lent(id) else { return false };
    let Some(endpoint) = network.endpoints.iter().find(|e| e.endpoint_id == id) else {
        return false;
    };
    let Some(name) = name_for(&endpoint.name) else { return false };
    if known.endpoint.name == name {
        return false;
    }
    if let Err(error) = agent.rename(id, name, known.endpoint.aliases).await {
        tracing::warn!(endpoint = id, error = %super::text(&error), "not renamed");
    }
    true
}

impl Front {
    /// The engine said what a network is called.
    pub(super) async fn on_name(
        &self,
        agent: &Arc<Agent>,
        id: &str,
        name: &str,
    ) -> Result<(), String> {
        let _one = self.naming.lock().await;
        let known = {
            let mut book = self.book.lock().await;
            super::loaded(&mut book, agent).await?.get(id).cloned()
        };
        // One that is not in the book was made while this daemon could not keep it.
        let Some(known) = known else { return Ok(()) };
        if known.network.is_some() && known.name.as_deref() == Some(name) {
            return Ok(());
        }
        let mut record = Record { name: Some(name.to_owned()), why: None, ..known };
        if record.network.is_none() {
            match binding::by_name(agent, &record.wish, name).await {
                Ok(bound) => record.network = Some(bound),
                Err(error) => {
                    // Whoever starts a container is to hear it.
                    record.why = Some(error.clone());
                    self.rewrite(agent, id, record).await?;
                    return Err(format!("network '{name}': {error}"));
                }
            }
        }
        self.rewrite(agent, id, record).await
    }

    /// A container was connected: first what its network's list says, which Docker tells at once; then
    /// what the container itself says, which Docker tells when it has started.
    async fn on_connected(
        &self,
        agent: &Arc<Agent>,
        network: &str,
        container: &str,
    ) -> Result<(), String> {
        let ours = agent.all_lent().iter().any(|a| a.lent().is_some_and(|l| l.network == network));
        if !ours {
            return Ok(());
        }
        if let Some(info) = self.engine.network(network).await.map_err(|e| e.to_string())? {
            let mine =
                info.endpoints.iter().filter(|e| e.container_id.as_deref() == Some(container));
            for endpoint in mine {
                name_of_endpoint(agent, &info, &endpoint.endpoint_id).await;
            }
        }
        self.name_container(agent, container).await
    }

    /// Names and aliases of all endpoints of a container.
    pub(super) async fn name_container(&self, agent: &Arc<Agent>, id: &str) -> Result<(), String> {
        let Some(container) = self.engine.container(id).await.map_err(|e| e.to_string())? else {
            return Ok(());
        };
        let Some(name) = name_for(&container.name) else { return Ok(()) };
        for network in &container.networks {
            let Some(endpoint) = &network.endpoint_id else { continue };
            let mut aliases: Vec<Name> = Vec::new();
            for alias in network.aliases.iter().filter_map(|alias| name_for(alias)) {
                if alias != name && !aliases.contains(&alias) {
                    aliases.push(alias);
                }
            }
            let renamed = agent.rename(endpoint, name.clone(), aliases).await;
            renamed.map_err(|refusal| super::text(&refusal))?;
        }
        Ok(())
    }
}

/// Docker's names may have dots, which would be read as name and network.
fn name_for(text: &str) -> Option<Name> {
    let text = text.trim_start_matches('/');
    let spelt: String = text.chars().map(|c| if c == '.' { '-' } else { c }).take(63).collect();
    spelt.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_missing_twice() {
        let mut seen = Seen::default();
        let begun = Instant::now();
        let mut look = |seconds: u64, absent: &[(&str, bool)]| {
            let absent = absent.iter().map(|(id, joined)| ((*id).to_owned(), *joined)).collect();
            let gone = seen.missing_for_long(absent, begun + Duration::from_secs(seconds));
            gone.into_iter().collect::<Vec<_>>()
        };
        let (runs, unmade) = (("runs", true), ("unmade", false));
        assert_eq!(look(0, &[runs, unmade]), Vec::<String>::new());
        assert_eq!(look(1, &[runs, unmade]), Vec::<String>::new());
        assert_eq!(look(2, &[runs, unmade]), ["runs"]);
        assert_eq!(look(59, &[unmade]), Vec::<String>::new());
        assert_eq!(look(60, &[unmade]), ["unmade"]);
        // Seen again in between, it is missing from the beginning.
        assert_eq!(look(61, &[]), Vec::<String>::new());
        assert_eq!(look(62, &[runs]), Vec::<String>::new());
        assert_eq!(look(64, &[runs]), ["runs"]);
    }

    #[test]
    fn dockers_names_become_ours() {
        let of = |text: &str| name_for(text).map(|name| name.to_string());
        assert_eq!(of("/api").as_deref(), Some("api"));
        assert_eq!(of("shop_web_1").as_deref(), Some("shop_web_1"));
        assert_eq!(of("api.v2").as_deref(), Some("api-v2"));
        assert_eq!(of(&"x".repeat(80)).map(|name| name.len()), Some(63));
        assert_eq!(of(""), None);
    }
}
