//! Attach: a namespace gets an endpoint on a network.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weft_kernel::NetnsId;
use weft_model::{
    ContainerId, Endpoint, EndpointId, Mac, Name, Network, Offset, OffsetSet, device,
};
use weft_state::rejection::Code;

use super::attachment::{Attachment, Inside, NetnsRef};
use super::refusal::Refusal;
use super::{Agent, State};

/// How long an attach waits for this host's kernel. Far beyond what it takes: who waits longer
/// has a broken host, and should be told.
const LOCAL_DEADLINE: Duration = Duration::from_secs(10);

/// How long an attach waits for this host's resolver to know the name: it has more to do than
/// that only when it is in trouble, and names follow by themselves.
const NAMES_DEADLINE: Duration = Duration::from_millis(300);

/// How many times an attach asks for addresses again when others take what it was granted.
pub(super) const LEASE_TRIES: usize = 3;

/// A wish to attach.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    pub(crate) network: Name,
    pub(crate) name: Name,
    pub(crate) aliases: Vec<Name>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) netns: PathBuf,
    pub(crate) allow_source: Vec<IpNet>,
    /// How long to wait for the other nodes.
    pub(crate) wait: Duration,
}

/// What came of it.
pub(crate) struct Attached {
    pub(crate) attachment: Attachment,
    pub(crate) network: Network,
    pub(crate) mtu: u32,
    /// Nodes that have not applied it within the wait.
    pub(crate) behind: Vec<String>,
    /// No server knows of it yet.
    pub(crate) unpublished: bool,
}

/// What was found for a wish to attach.
enum Place {
    /// It was fulfilled before.
    Known(Attachment),
    /// Made just now.
    New(Attachment),
    /// This node holds no address for it.
    None,
}

impl Agent {
    /// Fulfils the wish, or changes nothing. Stating it again gives the same endpoint.
    pub(crate) async fn attach(self: &Arc<Self>, wish: Attach) -> Result<Attached, Refusal> {
        let path = wish.netns.clone();
        let netns = tokio::task::spawn_blocking(move || open_netns(&path))
            .await
            .map_err(Refusal::internal)??;
        let network = self.find_network(&wish.network).await?;
        let offsets = wanted_offsets(&network, &wish.addresses)?;
        for _ in 0..LEASE_TRIES {
            match self.place(&network, &wish, &netns, &offsets)? {
                Place::Known(known) => return self.finish(known, network, wish.wait).await,
                Place::New(new) => return self.establish(new, network, wish.wait).await,
                Place::None => self.obtain_lease(&network, &offsets).await?,
            }
        }
        Err(Refusal::reject(
            Code::Exhausted,
            "NETWORK",
            format!("no address of network '{}' could be had", network.name),
            "detach what is no longer used, or create a network with a larger subnet",
        ))
    }

    /// Finds the attachment that is there already, or makes one of addresses this node holds.
    fn place(
        &self,
        network: &Network,
        wish: &Attach,
        netns: &NetnsRef,
        wanted: &[Offset],
    ) -> Result<Place, Refusal> {
        let mut state = self.state();
        if let Some(known) = existing(&state, netns, network, wish)? {
            return Ok(Place::Known(known));
        }
        refuse_if_full(&state, network)?;
        refuse_if_used(&state, network, wanted)?;
        match grant(&mut state, network, wanted) {
            Some(granted) => {
                let new = insert(&mut state, network, wish, netns, &granted)?;
                // Under the lock, so that no plan of somebody else's has the container before the
                // driver knows its namespace.
                self.driver.register_netns(netns);
                Ok(Place::New(new))
            }
            None => Ok(Place::None),
        }
    }

    /// Writes the new attachment down, and sees it through; takes it back if the kernel refuses.
    async fn establish(
        self: &Arc<Self>,
        attachment: Attachment,
        network: Network,
        wait: Duration,
    ) -> Result<Attached, Refusal> {
        if let Err(refusal) = self.write_down(attachment.clone()).await {
            self.take_back(&attachment).await;
            return Err(refusal);
        }
        match self.finish(attachment.clone(), network, wait).await {
            Ok(attached) => Ok(attached),
            Err(refusal) => {
                self.take_back(&attachment).await;
                Err(refusal)
            }
        }
    }

    /// Writes an attachment to disk, where it survives whatever happens next.
    pub(super) async fn write_down(&self, attachment: Attachment) -> Result<(), Refusal> {
        let store = self.store.clone();
        // The update that told of the network may not be on disk yet: killed now, this daemon would
        // come back with a container on a network that it does not know.
        let rows = self.state().knowledge.taking_part(attachment.endpoint.network);
        let written = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(&attachment).map_err(Refusal::internal)?;
            let rows = rows.iter().map(|row| (row.key().to_string(), row.value())).collect();
            store.put_record_on(&attachment.record_key(), &bytes, rows).map_err(Refusal::internal)
        });
        written.await.map_err(Refusal::internal).flatten()
    }

    /// Waits until the kernel has it and the other nodes know of it, both at once.
    pub(super) async fn finish(
        self: &Arc<Self>,
        attachment: Attachment,
        network: Network,
        wait: Duration,
    ) -> Result<Attached, Refusal> {
        let sequence = self.replan();
        let (local, told) = tokio::join!(
            self.wait_for_kernel(&attachment, sequence),
            self.publish(&attachment.endpoint, wait)
        );
        local?;
        let told = told?;
        let state = self.state();
        let mtu = weft_plan::network_mtu(&network, self.me.data_address, state.facts.underlay_mtu);
        drop(state);
        let (behind, unpublished) = (told.behind, told.unpublished);
        Ok(Attached { attachment, network, mtu, behind, unpublished })
    }

    pub(super) async fn wait_for_kernel(
        &self,
        attachment: &Attachment,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let host_end = device::host_end(attachment.endpoint.id);
        let section = weft_kernel::Section::of_device(&host_end);
        let inside = attachment.netns().map(|netns| weft_kernel::Section::Container(netns.id()));
        let progress = self.driver.applied(sequence, LOCAL_DEADLINE).await.ok_or_else(|| {
            Refusal::Internal(format!(
                "the kernel did not take the endpoint in within {} s; see `weft status`",
                LOCAL_DEADLINE.as_secs()
            ))
        })?;
        let own = progress.faults.iter().find(|f| {
            let at = f.key.section();
            at == section || Some(&at) == inside.as_ref()
        });
        if let Some(f) = own {
            return Err(Refusal::Fault { object: f.key.to_string(), fault: f.fault.clone() });
        }
        self.names.reached(sequence, NAMES_DEADLINE).await;
        Ok(())
    }

    /// Undoes an attach that failed half-way.
    pub(super) async fn take_back(self: &Arc<Self>, attachment: &Attachment) {
        if let Err(error) = self.remove_attachments(vec![attachment.endpoint.id]).await {
            tracing::warn!(endpoint = %attachment.endpoint.name, %error, "not taken back whole");
        }
    }
}

/// The endpoint that this wish already brought about, if it did.
fn existing(
    state: &State,
    netns: &NetnsRef,
    network: &Network,
    wish: &Attach,
) -> Result<Option<Attachment>, Refusal> {
    let here = state
        .knowledge
        .attachments
        .values()
        .find(|a| is_in(a, netns) && a.endpoint.network == network.id);
    let Some(known) = here else { return Ok(None) };
    if known.endpoint.name != wish.name {
        return Err(Refusal::reject(
            Code::Exists,
            "--name",
            format!(
                "this namespace is on network '{}' already, as '{}'",
                network.name, known.endpoint.name
            ),
            "detach it first, or use the name it has",
        ));
    }
    if let Some(other) = wish.addresses.iter().find(|a| !known.endpoint.addresses.contains(a)) {
        return Err(Refusal::reject(
            Code::Exists,
            "--ip",
            format!(
                "'{}' is on network '{}' already, without address {other}",
                known.endpoint.name, network.name
            ),
            "detach it first to give it another address",
        ));
    }
    Ok(Some(known.clone()))
}

/// A bridge has 1,023 ports at most (`BR_MAX_PORTS`, net/bridge/br_private.h); one is the VTEP's.
pub(super) fn refuse_if_full(state: &State, network: &Network) -> Result<(), Refusal> {
    const MOST: usize = 1022;
    let here = state.knowledge.attachments.values().filter(|a| a.endpoint.network == network.id);
    if here.count() < MOST {
        return Ok(());
    }
    Err(Refusal::reject(
        Code::Exhausted,
        "--network",
        format!(
            "network '{}' has {MOST} containers on this host, as many as a bridge can hold",
            network.name
        ),
        "run it on another host, or on another network",
    ))
}

/// What was asked for by address may be another container's of this host.
pub(super) fn refuse_if_used(
    state: &State,
    network: &Network,
    wanted: &[Offset],
) -> Result<(), Refusal> {
    let endpoints = state.knowledge.attachments.values().map(|a| &a.endpoint);
    let mut here = endpoints.filter(|e| e.network == network.id);
    let taken = here.find_map(|e| {
        let offset = offsets_of(network, e).into_iter().find(|o| wanted.contains(o))?;
        Some((e.name.clone(), offset))
    });
    let Some((name, offset)) = taken else { return Ok(()) };
    let address = network.addresses(offset);
    let address = address.first().map(ToString::to_string).unwrap_or_default();
    Err(Refusal::reject(
        Code::Busy,
        "--ip",
        format!("address {address} of network '{}' is '{name}'s", network.name),
        format!("choose another, or detach that one first: `weft detach {name}`"),
    ))
}

/// The positions of the addresses that were asked for.
fn wanted_offsets(network: &Network, addresses: &[IpAddr]) -> Result<Vec<Offset>, Refusal> {
    let outside = |address: &IpAddr| {
        let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
        Refusal::reject(
            Code::Outside,
            "--ip",
            format!("address {address} is outside of network '{}'", network.name),
            format!("choose one from {}", subnets.join(" or ")),
        )
    };
    let mut families = Vec::new();
    for address in addresses {
        if families.contains(&address.is_ipv4()) {
            return Err(Refusal::reject(
                Code::Invalid,
                "--ip",
                "more than one address of the same family was asked for",
                "give at most one IPv4 and one IPv6 address",
            ));
        }
        families.push(address.is_ipv4());
    }
    addresses.iter().map(|a| network.offset_of(*a).ok_or_else(|| outside(a))).collect()
}

/// One offset per subnet, from what this node holds: the wanted ones, the lowest free one for
/// the rest. `None` when it does not hold what it takes.
fn grant(state: &mut State, network: &Network, wanted: &[Offset]) -> Option<Vec<Offset>> {
    let id = network.id;
    let lease = state.knowledge.rows.leases.get(&(id, state.knowledge.node))?.clone();
    let mut used = state.knowledge.used(network);
    for offset in state.returning.get(&id).into_iter().flat_map(OffsetSet::iter) {
        used.insert(offset);
    }
    if !wanted.iter().all(|o| lease.offsets.contains(*o) && !used.contains(*o)) {
        return None;
    }
    // One offset is a place in each subnet that is large enough, so one is enough.
    let covers = |o: &Offset| network.addresses(*o).len() == network.subnets.len();
    if wanted.len() == network.subnets.len() || wanted.first().is_some_and(covers) {
        return Some(wanted.to_vec());
    }
    for offset in wanted.iter().copied().chain(state.knowledge.untold(network).iter()) {
        used.insert(offset);
    }
    let cooling = state.cooling.of(id, std::time::Instant::now());
    let unsettled = state.cooling.unsettled(id);
    let exhausted = state.exhausted.contains(&id);
    let free = weft_state::choose(network, &lease, &used, &cooling).or_else(|| {
        exhausted.then(|| weft_state::choose(network, &lease, &used, &unsettled)).flatten()
    })?;
    let mut offsets = wanted.to_vec();
    offsets.push(free);
    Some(offsets)
}

fn insert(
    state: &mut State,
    network: &Network,
    wish: &Attach,
    netns: &NetnsRef,
    offsets: &[Offset],
) -> Result<Attachment, Refusal> {
    let mine = |a: &&Attachment| is_in(a, netns);
    let siblings: Vec<Attachment> =
        state.knowledge.attachments.values().filter(mine).cloned().collect();
    let container =
        siblings.first().map_or_else(|| ContainerId(rand::random()), Attachment::container);
    let addresses = addresses_at(network, &wish.addresses, offsets);
    let first = addresses
        .first()
        .and_then(|a| network.offset_of(*a))
        .ok_or_else(|| Refusal::Internal(format!("network '{}' has no subnet", network.name)))?;
    let endpoint = Endpoint {
        id: fresh_endpoint(state),
        network: network.id,
        node: state.knowledge.node,
        container,
        name: wish.name.clone(),
        aliases: wish.aliases.clone(),
        addresses,
        mac: Mac::of_endpoint(network.vni, first),
        allow_source: wish.allow_source.clone(),
    };
    let attachment = Attachment {
        endpoint,
        interface: free_interface(&siblings),
        inside: Inside::Netns(netns.clone()),
        order: state.next_order,
    };
    state.next_order += 1;
    state.knowledge.attach(attachment.clone());
    Ok(attachment)
}

/// One address per subnet: the one asked for, or the one at the granted offset.
fn addresses_at(network: &Network, asked: &[IpAddr], offsets: &[Offset]) -> Vec<IpAddr> {
    let fallback = offsets.last().copied();
    let at = |subnet: &IpNet| {
        let given = asked.iter().find(|a| subnet.contains(*a)).copied();
        given.or_else(|| fallback.and_then(|offset| Network::address_at(subnet, offset)))
    };
    network.subnets.iter().filter_map(at).collect()
}

fn is_in(attachment: &Attachment, netns: &NetnsRef) -> bool {
    attachment.netns().is_some_and(|a| a.cookie == netns.cookie && a.boot == netns.boot)
}

/// An identifier whose interface name no other endpoint of this host has.
pub(super) fn fresh_endpoint(state: &State) -> EndpointId {
    loop {
        let id = EndpointId(rand::random());
        let name = device::host_end(id);
        if state.knowledge.attachments.keys().all(|other| device::host_end(*other) != name) {
            return id;
        }
    }
}

fn free_interface(siblings: &[Attachment]) -> String {
    (0_u32..)
        .map(|n| format!("eth{n}"))
        .find(|name| siblings.iter().all(|s| s.interface != *name))
        .unwrap_or_default()
}

/// Looks a namespace up, and refuses what is not one or is the host's own.
fn open_netns(path: &Path) -> Result<NetnsRef, Refusal> {
    use std::os::unix::fs::MetadataExt;
    let wrong = |message: String| {
        Refusal::reject(
            Code::Invalid,
            "--netns",
            message,
            "give the path of a network namespace, as /run/netns/NAME or /proc/PID/ns/net",
        )
    };
    let meta = std::fs::metadata(path)
        .map_err(|e| wrong(format!("'{}' cannot be opened: {e}", path.display())))?;
    let NetnsId(cookie) = weft_linux::netns_id(path)
        .map_err(|f| wrong(format!("'{}' is not a network namespace: {f}", path.display())))?;
    let host = weft_linux::host_netns_id().map_err(Refusal::internal)?;
    if host == NetnsId(cookie) {
        return Err(wrong(format!("'{}' is the host's own network namespace", path.display())));
    }
    let inode = (meta.dev(), meta.ino());
    Ok(NetnsRef { path: path.to_owned(), cookie, boot: boot_id(), inode })
}

/// The identity of this boot (`random(4)`): namespace cookies are unique within it.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The offsets of an endpoint's addresses.
pub(crate) fn offsets_of(network: &Network, endpoint: &Endpoint) -> Vec<Offset> {
    endpoint.addresses.iter().filter_map(|a| network.offset_of(*a)).collect()
}
