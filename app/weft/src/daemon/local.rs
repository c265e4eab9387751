//! The local socket: what the command line and front doors may ask this host's daemon.
//!
//! The socket's file belongs to root and nobody else may open it, so whoever asks is this host's
//! root. What touches the cluster is passed on to a server under this node's identity, and the
//! server decides what that identity may do.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};
use weft_kernel::{FdbTable, Key, Netns, Section, ShortcutKey};
use weft_model::{Endpoint, Name, Network, Node, Row, device};
use weft_rpc::access::AccessLayer;
use weft_rpc::wire::{self, local_server::Local};

use crate::agent::Agent;
use crate::agent::attach::Attach;
use crate::agent::attachment::Attachment;
use crate::agent::detach::Detach;
use crate::agent::driver::Asked;
use crate::agent::refusal::Refusal;
use crate::agent::uplink::{Client, PATIENCE};

use super::{Daemon, traffic};

/// How long the other nodes get to apply an attach, if the caller does not say.
const DEFAULT_WAIT: Duration = Duration::from_millis(500);

/// The longest a caller may ask to wait.
const LONGEST_WAIT_MS: u32 = 10_000;

pub(crate) struct LocalService {
    pub(crate) daemon: Arc<Daemon>,
}

/// Nobody on the local socket is a node, so none is a removed one.
pub(crate) fn access() -> AccessLayer {
    AccessLayer::new(Arc::new(|_| false))
}

type Reply<T> = Result<Response<T>, Status>;

impl LocalService {
    fn agent(&self) -> Result<Arc<Agent>, Status> {
        self.daemon.agent().ok_or_else(|| {
            Status::failed_precondition(
                "this host is in no cluster yet: run `weft init` here, or `weft join` with a token",
            )
        })
    }

    async fn server(&self) -> Result<Client, Status> {
        self.agent()?.uplink.client_within(PATIENCE).await.ok_or_else(|| {
            Status::unavailable(
                "no server can be reached: see `weft status` for the address it tries",
            )
        })
    }
}

#[tonic::async_trait]
impl Local for LocalService {
    async fn init(&self, request: Request<wire::InitRequest>) -> Reply<wire::CreateTokenReply> {
        Ok(Response::new(self.daemon.init(request.into_inner()).await?))
    }

    async fn join_cluster(
        &self,
        request: Request<wire::JoinClusterRequest>,
    ) -> Reply<wire::NodeReply> {
        let node = self.daemon.join(request.into_inner()).await?;
        Ok(Response::new(wire::NodeReply { node: Some(to_wire(&Row::Node(node))) }))
    }

    async fn attach(&self, request: Request<wire::AttachRequest>) -> Reply<wire::AttachReply> {
        let agent = self.agent()?;
        let wish = parse_attach(request.into_inner())?;
        let attached = agent.attach(wish).await?;
        let endpoint = &attached.attachment.endpoint;
        let gateways = attached.network.gateways();
        let resolv_conf = gateways
            .first()
            .map(|g| format!("# Written by Weft.\nnameserver {g}\noptions ndots:0\n"))
            .unwrap_or_default();
        Ok(Response::new(wire::AttachReply {
            endpoint: Some(to_wire(&Row::Endpoint(endpoint.clone()))),
            interface: attached.attachment.interface.clone(),
            gateways: gateways.iter().map(ToString::to_string).collect(),
            mtu: attached.mtu,
            network_name: attached.network.name.to_string(),
            behind: attached.behind,
            unpublished: attached.unpublished,
            resolv_conf,
        }))
    }

    async fn detach(&self, request: Request<wire::DetachRequest>) -> Reply<wire::DetachReply> {
        let request = request.into_inner();
        let wish = Detach {
            name: optional(&request.name, "NAME")?,
            netns: (!request.netns.is_empty()).then(|| request.netns.clone().into()),
            network: optional(&request.network, "--network")?,
        };
        let gone = self.agent()?.detach(wish).await?;
        let endpoints = gone.into_iter().map(|e| to_wire(&Row::Endpoint(e))).collect();
        Ok(Response::new(wire::DetachReply { endpoints }))
    }

    async fn status(&self, _: Request<wire::StatusRequest>) -> Reply<wire::LocalStatusReply> {
        Ok(Response::new(self.daemon.status().await))
    }

    async fn inspect_endpoint(
        &self,
        request: Request<wire::InspectRequest>,
    ) -> Reply<wire::InspectReply> {
        let request = request.into_inner();
        let name: Name = required(&request.name, "NAME")?;
        let network: Option<Name> = optional(&request.network, "--network")?;
        let agent = self.agent()?;
        let found = find_endpoint(&agent, &name, network.as_ref())?;
        let objects = agent.driver.objects(found.objects).await;
        let (traffic, traffic_error) = match found.local {
            true => counted(&agent, &found.endpoint).await,
            false => (None, String::new()),
        };
        let objects = objects.into_iter().map(|o| wire::ObjectState {
            object: o.line,
            present: o.present,
            fault: o.fault.unwrap_or_default(),
        });
        Ok(Response::new(wire::InspectReply {
            endpoint: Some(to_wire(&Row::Endpoint(found.endpoint))),
            network_name: found.network,
            node_name: found.node,
            interface: found.interface,
            objects: objects.collect(),
            local: found.local,
            traffic,
            traffic_error,
        }))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Reply<wire::ListReply> {
        self.server().await?.list(request.into_inner()).await
    }

    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Reply<wire::RowReply> {
        self.server().await?.create_network(request.into_inner()).await
    }

    async fn remove_network(
        &self,
        request: Request<wire::RemoveRequest>,
    ) -> Reply<wire::Committed> {
        self.server().await?.remove_network(request.into_inner()).await
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Reply<wire::CreateTokenReply> {
        self.server().await?.create_token(request.into_inner()).await
    }

    async fn revoke_token(&self, request: Request<wire::RemoveRequest>) -> Reply<wire::Committed> {
        self.server().await?.revoke_token(request.into_inner()).await
    }

    async fn remove_node(&self, request: Request<wire::RemoveRequest>) -> Reply<wire::Committed> {
        self.server().await?.remove_node(request.into_inner()).await
    }
}

struct Found {
    endpoint: Endpoint,
    network: String,
    node: String,
    interface: String,
    local: bool,
    objects: Asked,
}

/// What an endpoint of this host sent and received, or why that is not known.
async fn counted(agent: &Agent, endpoint: &Endpoint) -> (Option<wire::Traffic>, String) {
    let error = agent.count(traffic::PATIENCE).await.error;
    let counts = agent.state().tally.endpoint(endpoint.id).map(traffic::to_wire);
    match (error, counts) {
        (Some(error), _) => (None, error),
        (None, None) => (None, "the host's end of its veth is not there".to_owned()),
        (None, counts) => (counts, String::new()),
    }
}

/// The kernel objects for an endpoint: of one of this host's, what belongs to its veth and to its
/// namespace; of another host's, the rows that lead to it.
fn objects(endpoint: &Endpoint, here: Option<&Attachment>, on: Option<(&Network, &Node)>) -> Asked {
    let mut asked = Asked::default();
    if let Some(attachment) = here {
        asked.sections.insert(Section::of_device(&device::host_end(endpoint.id)));
        if let Some(netns) = attachment.netns() {
            let netns = Netns::Container(netns.id());
            asked.sections.insert(Key::Up(netns, attachment.interface.clone()).section());
        }
    } else if let Some((network, node)) = on {
        let (vni, mac) = (network.vni, endpoint.mac.0);
        let addresses = endpoint.addresses.iter().copied();
        asked.keys.extend(addresses.clone().map(|a| Key::Neighbour(device::bridge(vni), a)));
        asked.keys.insert(Key::Fdb(device::vtep(vni), FdbTable::Device, mac));
        asked.keys.insert(Key::Fdb(device::vtep(vni), FdbTable::Bridge, mac));
        let entries = addresses.map(|a| ShortcutKey::Neighbour(vni.get(), a));
        let entries =
            entries.chain([ShortcutKey::Fdb(vni.get(), mac), ShortcutKey::Vtep(node.data_address)]);
        asked.keys.extend(entries.map(Key::Shortcut));
    }
    asked
}

fn find_endpoint(agent: &Agent, name: &Name, network: Option<&Name>) -> Result<Found, Refusal> {
    let state = agent.state();
    let rows = &state.knowledge.rows;
    let local = state.knowledge.attachments.values();
    let local = local.map(|a| (&a.endpoint, Some(a)));
    let remote = rows.endpoints.values().filter(|e| e.node != agent.me.node).map(|e| (e, None));
    let fits = |e: &Endpoint| {
        let on = rows.networks.get(&e.network).map(|n| &n.name);
        e.name == *name && network.is_none_or(|n| on == Some(n))
    };
    let Some((endpoint, attachment)) = local.chain(remote).find(|(e, _)| fits(e)) else {
        return Err(Refusal::reject(
            weft_state::rejection::Code::NotFound,
            "NAME",
            format!("no endpoint called '{name}' on the networks of this host"),
            "see `weft endpoint ls`",
        ));
    };
    let network = rows.networks.get(&endpoint.network);
    let node = rows.nodes.get(&endpoint.node);
    Ok(Found {
        endpoint: endpoint.clone(),
        network: network.map(|n| n.name.to_string()).unwrap_or_default(),
        node: node.map(|n| n.name.to_string()).unwrap_or_default(),
        interface: attachment.map(|a| a.interface.clone()).unwrap_or_default(),
        local: attachment.is_some(),
        objects: objects(endpoint, attachment, network.zip(node)),
    })
}

fn parse_attach(request: wire::AttachRequest) -> Result<Attach, Refusal> {
    let wait = match request.timeout_ms {
        0 => DEFAULT_WAIT,
        ms if ms <= LONGEST_WAIT_MS => Duration::from_millis(u64::from(ms)),
        ms => {
            return Err(invalid(
                "--wait",
                format!("{ms} ms is too long a wait"),
                &format!("at most {LONGEST_WAIT_MS} ms"),
            ));
        }
    };
    if request.netns.is_empty() {
        return Err(invalid(
            "--netns",
            "no network namespace was given".to_owned(),
            "give its path",
        ));
    }
    Ok(Attach {
        network: required(&request.network, "--network")?,
        name: required(&request.name, "--name")?,
        aliases: all(&request.aliases, "--alias")?,
        addresses: all(&request.addresses, "--ip")?,
        netns: request.netns.into(),
        allow_source: all(&request.allow_source, "--allow-source")?,
        wait,
    })
}

fn invalid(field: &str, message: String, hint: &str) -> Refusal {
    Refusal::reject(weft_state::rejection::Code::Invalid, field, message, hint)
}

/// Parses a field that must be there.
pub(crate) fn required<T: std::str::FromStr>(text: &str, field: &str) -> Result<T, Refusal>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| {
        let hint = if text.is_empty() { "it must be given" } else { "see `weft help`" };
        invalid(field, format!("{e}"), hint)
    })
}

fn optional<T: std::str::FromStr>(text: &str, field: &str) -> Result<Option<T>, Refusal>
where
    T::Err: std::fmt::Display,
{
    if text.is_empty() { Ok(None) } else { required(text, field).map(Some) }
}

fn all<T: std::str::FromStr>(texts: &[String], field: &str) -> Result<Vec<T>, Refusal>
where
    T::Err: std::fmt::Display,
{
    texts.iter().map(|text| required(text, field)).collect()
}

/// A row for the wire.
pub(crate) fn to_wire(row: &Row) -> wire::Row {
    wire::Row { key: row.key().to_string(), value: Some(row.value()) }
}
