//! Lending: endpoints whose end a container runtime takes into its container and looks after.
//!
//! A runtime wants things one by one, with its own work between them: an address, then an endpoint at
//! the address, then the link. So there are three steps here, and each can be undone, or stay the last.
//!
//! ```text
//!  promise ──▶ prepare ──▶ hand_over        an address; a record on disk; links, rows and names everywhere
//!  retract     remove_attachments
//! ```

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weft_model::{ContainerId, Endpoint, Mac, Name, Network, Offset, OffsetSet};
use weft_state::rejection::Code;

use super::attach::{LEASE_TRIES, boot_id, fresh_endpoint, offsets_of, refuse_if_full};
use super::attachment::{Attachment, Inside, Lent};
use super::driver::Lend;
use super::refusal::Refusal;
use super::{Agent, State};

/// How long a hand-over waits for the other nodes.
const WAIT: Duration = Duration::from_millis(500);

/// A runtime's wish for an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Prepare {
    pub(crate) network: Network,
    /// Until the runtime says what its container is called.
    pub(crate) name: Name,
    /// One per subnet, in their order.
    pub(crate) addresses: Vec<IpAddr>,
    /// The runtime's identifier of its network.
    pub(crate) runtime_network: String,
    /// The runtime's identifier of the endpoint.
    pub(crate) runtime_endpoint: String,
}

impl Agent {
    /// Sets an address of this node aside: `wanted`, or any of its family.
    pub(crate) async fn promise(
        &self,
        network: &Network,
        v6: bool,
        wanted: Option<IpAddr>,
    ) -> Result<IpAddr, Refusal> {
        let offset = wanted.map(|address| wanted_offset(network, address)).transpose()?;
        let asked: Vec<Offset> = offset.into_iter().collect();
        for _ in 0..LEASE_TRIES {
            if let Some(offset) = self.try_promise(network, offset)? {
                let mut addresses = network.addresses(offset).into_iter();
                let address = addresses.find(|address| address.is_ipv6() == v6);
                return address.ok_or_else(|| no_such_family(network, v6));
            }
            self.obtain_lease(network, &asked).await?;
        }
        Err(exhausted(network))
    }

    /// The position that is set aside; `None` when this node holds none that would do.
    fn try_promise(
        &self,
        network: &Network,
        wanted: Option<Offset>,
    ) -> Result<Option<Offset>, Refusal> {
        let mut state = self.state();
        let used = state.knowledge.used(network);
        if let Some(offset) = wanted.filter(|offset| used.contains(*offset)) {
            return Err(taken(&state, network, offset));
        }
        let Some(offset) = free(&mut state, network, &used, wanted) else { return Ok(None) };
        state.knowledge.promised.entry(network.id).or_default().insert(offset);
        Ok(Some(offset))
    }

    /// Takes a promise back. What is used by an endpoint by now stays that endpoint's.
    pub(crate) fn retract(&self, network: &Network, address: IpAddr) {
        let Some(offset) = network.offset_of(address) else { return };
        if let Some(promised) = self.state().knowledge.promised.get_mut(&network.id) {
            promised.remove(offset);
        }
    }

    /// Makes an endpoint of what was promised, on disk only. Stating it again gives the same endpoint.
    pub(crate) async fn prepare(self: &Arc<Self>, wish: Prepare) -> Result<Mac, Refusal> {
        let offsets = offsets_for(&wish)?;
        for _ in 0..LEASE_TRIES {
            let placed = self.place_lent(&wish, &offsets)?;
            let Some((attachment, new)) = placed else {
                self.obtain_lease(&wish.network, &offsets).await?;
                continue;
            };
            let mac = attachment.endpoint.mac;
            if new && let Err(refusal) = self.write_down(attachment.clone()).await {
                self.take_back(&attachment).await;
                return Err(refusal);
            }
            return Ok(mac);
        }
        Err(exhausted(&wish.network))
    }

    /// The attachment, and whether it is new; `None` when an address is not this node's to give.
    fn place_lent(
        &self,
        wish: &Prepare,
        offsets: &[Offset],
    ) -> Result<Option<(Attachment, bool)>, Refusal> {
        let mut state = self.state();
        if let Some(known) = find_lent(&state, &wish.runtime_endpoint) {
            return if known.endpoint.addresses == wish.addresses {
                Ok(Some((known, false)))
            } else {
                Err(Refusal::reject(
                    Code::Exists,
                    "EndpointID",
                    format!(
                        "endpoint {} is there already, at other addresses",
                        wish.runtime_endpoint
                    ),
                    "remove the container and start it again",
                ))
            };
        }
        refuse_if_full(&state, &wish.network)?;
        for offset in offsets {
            if used_by(&state, &wish.network, *offset).is_some() {
                return Err(taken(&state, &wish.network, *offset));
            }
        }
        let lease = state.knowledge.rows.leases.get(&(wish.network.id, self.me.node));
        if !lease.is_some_and(|lease| offsets.iter().all(|o| lease.offsets.contains(*o))) {
            return Ok(None);
        }
        let attachment = new_attachment(&mut state, wish, offsets)?;
        if let Some(promised) = state.knowledge.promised.get_mut(&wish.network.id) {
            for offset in offsets {
                promised.remove(*offset);
            }
        }
        state.knowledge.attach(attachment.clone());
        Ok(Some((attachment, true)))
    }

    /// Puts the endpoint into the kernel, tells the others of it, and gives the name of the link that
    /// the runtime is to take, in the host's namespace. Stating it again gives the same.
    pub(crate) async fn hand_over(
        self: &Arc<Self>,
        runtime_endpoint: &str,
        sandbox: PathBuf,
    ) -> Result<String, Refusal> {
        let known = self.lent(runtime_endpoint).ok_or_else(|| no_endpoint(runtime_endpoint))?;
        let peer = peer_of(&known.host_end());
        // The container may have its end by now: another pair would take it away.
        if known.is_joined() && self.is_lent(&known).await? {
            return Ok(peer);
        }
        let (attachment, network) = {
            let mut state = self.state();
            let known =
                find_lent(&state, runtime_endpoint).ok_or_else(|| no_endpoint(runtime_endpoint))?;
            let attachment = joined(&state, known, sandbox.clone());
            let network = state.knowledge.rows.networks.get(&attachment.endpoint.network).cloned();
            // Before any plan has it.
            self.driver.lend(Lend {
                link: attachment.host_end(),
                peer: peer.clone(),
                peer_mac: attachment.endpoint.mac.0,
            });
            state.knowledge.attach(attachment.clone());
            (attachment, network)
        };
        let network = network.ok_or_else(|| no_endpoint(runtime_endpoint))?;
        self.write_down(attachment.clone()).await?;
        self.lead_names_soon(sandbox);
        self.finish(attachment, network, WAIT).await?;
        Ok(peer)
    }

    /// Whether the pair is there.
    async fn is_lent(&self, attachment: &Attachment) -> Result<bool, Refusal> {
        let link = attachment.host_end();
        let names = std::collections::BTreeSet::from([link]);
        let found = tokio::task::spawn_blocking(move || weft_linux::links_named(&names)).await;
        let found = found.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
        Ok(!found.is_empty())
    }

    /// What the runtime calls the container of an endpoint, once it says so.
    pub(crate) async fn rename(
        self: &Arc<Self>,
        runtime_endpoint: &str,
        name: Name,
        aliases: Vec<Name>,
    ) -> Result<(), Refusal> {
        let attachment = {
            let mut state = self.state();
            let Some(mut attachment) = find_lent(&state, runtime_endpoint) else { return Ok(()) };
            let endpoint = &mut attachment.endpoint;
            if endpoint.name.as_str() == name.as_str() && endpoint.aliases == aliases {
                return Ok(());
            }
            (endpoint.name, endpoint.aliases) = (name, aliases);
            state.knowledge.attach(attachment.clone());
            if attachment.is_joined() {
                self.replan_locked(&mut state);
            }
            attachment
        };
        if attachment.is_joined() {
            // First of all the others: containers over there may ask for the name at any moment.
            self.publish(&attachment.endpoint, Duration::ZERO).await?;
        }
        self.write_down(attachment).await
    }

    /// All endpoints that are lent.
    pub(crate) fn all_lent(&self) -> Vec<Attachment> {
        let state = self.state();
        state.knowledge.attachments.values().filter(|a| a.lent().is_some()).cloned().collect()
    }

    /// The endpoint that the runtime calls so.
    pub(crate) fn lent(&self, runtime_endpoint: &str) -> Option<Attachment> {
        find_lent(&self.state(), runtime_endpoint)
    }
}

/// The link that the runtime takes is called after the one that stays.
fn peer_of(host_end: &str) -> String {
    host_end.replacen("we-", "wd-", 1)
}

fn find_lent(state: &State, runtime_endpoint: &str) -> Option<Attachment> {
    let lent = |a: &&Attachment| a.lent().is_some_and(|lent| lent.endpoint == runtime_endpoint);
    state.knowledge.attachments.values().find(lent).cloned()
}

/// The same, in the kernel from now on: in the container of whoever else is in the sandbox.
fn joined(state: &State, mut attachment: Attachment, sandbox: PathBuf) -> Attachment {
    let beside = |a: &&Attachment| {
        a.endpoint.id != attachment.endpoint.id
            && a.lent().is_some_and(|lent| lent.sandbox.as_ref() == Some(&sandbox))
    };
    if let Some(sibling) = state.knowledge.attachments.values().find(beside) {
        attachment.endpoint.container = sibling.endpoint.container;
    }
    if let Inside::Lent(lent) = &mut attachment.inside {
        lent.sandbox = Some(sandbox);
    }
    attachment
}

fn new_attachment(
    state: &mut State,
    wish: &Prepare,
    offsets: &[Offset],
) -> Result<Attachment, Refusal> {
    let first = offsets.first().ok_or_else(|| no_such_family(&wish.network, false))?;
    let endpoint = Endpoint {
        id: fresh_endpoint(state),
        network: wish.network.id,
        node: state.knowledge.node,
        container: ContainerId(rand::random()),
        name: wish.name.clone(),
        aliases: Vec::new(),
        addresses: wish.addresses.clone(),
        mac: Mac::of_endpoint(wish.network.vni, *first),
        allow_source: Vec::new(),
    };
    let lent = Lent {
        network: wish.runtime_network.clone(),
        endpoint: wish.runtime_endpoint.clone(),
        boot: boot_id(),
        sandbox: None,
    };
    let order = state.next_order;
    state.next_order += 1;
    Ok(Attachment { endpoint, interface: String::new(), inside: Inside::Lent(lent), order })
}

/// A position of this node's lease: the wanted one, or the lowest that is free and cool.
fn free(
    state: &mut State,
    network: &Network,
    used: &OffsetSet,
    wanted: Option<Offset>,
) -> Option<Offset> {
    let id = network.id;
    let lease = state.knowledge.rows.leases.get(&(id, state.knowledge.node))?.clone();
    let mut used = used.clone();
    for offset in state.returning.get(&id).into_iter().flat_map(OffsetSet::iter) {
        used.insert(offset);
    }
    if let Some(offset) = wanted {
        return (lease.offsets.contains(offset) && !used.contains(offset)).then_some(offset);
    }
    for offset in state.knowledge.untold(network).iter() {
        used.insert(offset);
    }
    let cooling = state.cooling.of(id, std::time::Instant::now());
    weft_state::choose(network, &lease, &used, &cooling).or_else(|| {
        let unsettled = state.cooling.unsettled(id);
        let nothing_else = state.exhausted.contains(&id);
        nothing_else.then(|| weft_state::choose(network, &lease, &used, &unsettled)).flatten()
    })
}

fn wanted_offset(network: &Network, address: IpAddr) -> Result<Offset, Refusal> {
    network.offset_of(address).ok_or_else(|| {
        let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
        Refusal::reject(
            Code::Outside,
            "--ip",
            format!("address {address} is outside of network '{}'", network.name),
            format!("choose one from {}", subnets.join(" or ")),
        )
    })
}

/// The positions of the addresses, which must be one per subnet.
fn offsets_for(wish: &Prepare) -> Result<Vec<Offset>, Refusal> {
    let network = &wish.network;
    let fits = network.subnets.len() == wish.addresses.len()
        && network.subnets.iter().zip(&wish.addresses).all(|(subnet, a)| subnet.contains(a));
    if !fits {
        let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
        return Err(Refusal::reject(
            Code::Invalid,
            "Interface",
            format!(
                "network '{}' needs an address in each of {}",
                network.name,
                subnets.join(", ")
            ),
            "create Docker's network with --subnet for each of them, and --ipv6 where one is IPv6",
        ));
    }
    wish.addresses.iter().map(|address| wanted_offset(network, *address)).collect()
}

fn used_by(state: &State, network: &Network, offset: Offset) -> Option<Name> {
    let endpoints = state.knowledge.attachments.values().map(|a| &a.endpoint);
    let mut here = endpoints.filter(|e| e.network == network.id);
    here.find(|e| offsets_of(network, e).contains(&offset)).map(|e| e.name.clone())
}

fn taken(state: &State, network: &Network, offset: Offset) -> Refusal {
    let address = network.addresses(offset).first().map(ToString::to_string).unwrap_or_default();
    let holder = match used_by(state, network, offset) {
        Some(name) => format!("is '{name}'s"),
        None => "has just been promised to another container".to_owned(),
    };
    Refusal::reject(
        Code::Busy,
        "--ip",
        format!("address {address} of network '{}' {holder}", network.name),
        "choose another, or remove that container first",
    )
}

fn exhausted(network: &Network) -> Refusal {
    Refusal::reject(
        Code::Exhausted,
        "NETWORK",
        format!("no address of network '{}' could be had", network.name),
        "remove what is no longer used, or create a network with a larger subnet",
    )
}

fn no_such_family(network: &Network, v6: bool) -> Refusal {
    let family = if v6 { "IPv6" } else { "IPv4" };
    Refusal::reject(
        Code::Outside,
        "--subnet",
        format!("network '{}' has no {family} addresses", network.name),
        "create Docker's network for the subnets that it has",
    )
}

fn no_endpoint(runtime_endpoint: &str) -> Refusal {
    Refusal::reject(
        Code::NotFound,
        "EndpointID",
        format!("endpoint {runtime_endpoint} is not there"),
        "start the container again",
    )
}

/// What an endpoint is called until the runtime says what its container is called.
pub(crate) fn provisional_name(runtime_endpoint: &str) -> Result<Name, Refusal> {
    let short: String = runtime_endpoint.chars().take(12).collect();
    format!("docker-{short}").parse().map_err(Refusal::internal)
}
