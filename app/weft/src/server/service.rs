//! The calls of the Cluster service: read the wish, decide, answer.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status, Streaming};
use weft_model::{Generation, NetworkId, NodeId, Offset, OffsetSet, Role, Row};
use weft_rpc::access::{Caller, Listing};
use weft_rpc::wire::cluster_server::Cluster;
use weft_rpc::{error, rows, wire};
use weft_state::{Command, Outcome};

use super::failure::Failure;
use super::leases::Wish;
use super::{Server, follow, wish};

/// How long a token is good if nothing else is asked for: a day.
const TOKEN: Duration = Duration::from_secs(24 * 60 * 60);

/// The most positions that one call may name.
const MANY: usize = 4096;

type Answer<T> = Result<Response<T>, Status>;

/// The server, as the wire sees it.
pub(super) struct Service(pub(super) Arc<Server>);

impl Service {
    async fn commit(&self, caller: &Caller, command: Command) -> Answer<wire::Committed> {
        let (_, generation) = self.0.decider.decide(Some(caller.identity()), command).await?;
        Ok(Response::new(wire::Committed { generation: generation.0 }))
    }
}

fn row_reply(row: Option<&Row>, generation: Generation) -> Response<wire::RowReply> {
    Response::new(wire::RowReply { row: row.map(rows::put), generation: generation.0 })
}

fn rejected<T>(result: Result<T, weft_state::Rejection>) -> Result<T, Status> {
    result.map_err(|rejection| error::rejected(&rejection))
}

fn parsed<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, Status>
where
    T::Err: std::fmt::Display,
{
    rejected(wish::parse(field, text))
}

#[tonic::async_trait]
impl Cluster for Service {
    type FollowStream = follow::Updates;

    async fn join(&self, request: Request<wire::JoinRequest>) -> Answer<wire::JoinReply> {
        let caller = Caller::of(&request)?;
        let reply = self.0.join(caller.identity(), request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Answer<wire::RenewReply> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.0.renew(Some(caller.node()?), &request.get_ref().csr)?))
    }

    async fn follow(
        &self,
        request: Request<Streaming<wire::Report>>,
    ) -> Answer<Self::FollowStream> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.0.follow(caller.node()?, request.into_inner())))
    }

    async fn lease(&self, request: Request<wire::LeaseRequest>) -> Answer<wire::RowReply> {
        let caller = Caller::of(&request)?;
        let wire::LeaseRequest { network_id, wanted, count } = request.into_inner();
        if wanted.len() > MANY {
            let message = format!("{} addresses are too many for one wish", wanted.len());
            return Err(error::invalid("wanted", message, "ask several times"));
        }
        let wish = Wish {
            network: parsed("--network", &network_id)?,
            node: caller.node()?.id,
            wanted: wanted.into_iter().map(Offset).collect(),
            count,
        };
        let (lease, generation) = self.0.lease(caller.identity(), wish).await?;
        Ok(row_reply(Some(&Row::Lease(lease)), generation))
    }

    async fn release(&self, request: Request<wire::ReleaseRequest>) -> Answer<wire::RowReply> {
        let caller = Caller::of(&request)?;
        let wire::ReleaseRequest { network_id, offsets, leave } = request.get_ref();
        let offsets: OffsetSet = parsed("offsets", offsets)?;
        let network = parsed("--network", network_id)?;
        let command = Command::Release { network, node: caller.node()?.id, offsets, leave: *leave };
        let (outcome, generation) = self.0.decider.decide(Some(caller.identity()), command).await?;
        let lease = match outcome {
            Outcome::Lease(lease) => Some(Row::Lease(lease)),
            _ => None,
        };
        Ok(row_reply(lease.as_ref(), generation))
    }

    async fn put_endpoint(&self, request: Request<wire::Row>) -> Answer<wire::Committed> {
        let caller = Caller::of(&request)?;
        let endpoint = match rows::read(request.get_ref()) {
            Ok(Row::Endpoint(endpoint)) => endpoint,
            Ok(_) => return Err(error::invalid("endpoint", "this row is no endpoint", "")),
            Err(wrong) => return Err(error::invalid("endpoint", wrong, "")),
        };
        self.commit(&caller, Command::PutEndpoint(endpoint)).await
    }

    async fn delete_endpoint(
        &self,
        request: Request<wire::DeleteEndpointRequest>,
    ) -> Answer<wire::Committed> {
        let caller = Caller::of(&request)?;
        let network = parsed("--network", &request.get_ref().network_id)?;
        let endpoint = parsed("endpoint", &request.get_ref().endpoint_id)?;
        self.commit(&caller, Command::DeleteEndpoint { network, endpoint }).await
    }

    async fn await_applied(
        &self,
        request: Request<wire::AwaitAppliedRequest>,
    ) -> Answer<wire::AwaitAppliedReply> {
        let caller = Caller::of(&request)?;
        let node = caller.node()?;
        let wire::AwaitAppliedRequest { network_id, generation, timeout_ms } = request.get_ref();
        let network: NetworkId = parsed("--network", network_id)?;
        let takes_part = self.0.replica.read(|s| s.leases.contains_key(&(network, node.id)));
        if node.role == Role::Agent && !takes_part {
            let denied = error::denied("this node does not take part in the network", "");
            return Err(error::rejected(&denied));
        }
        let wait = Duration::from_millis(u64::from(*timeout_ms));
        let generation = Generation(*generation);
        let behind = self.0.await_applied(node.id, network, generation, wait).await;
        Ok(Response::new(wire::AwaitAppliedReply { behind }))
    }

    async fn move_node(&self, request: Request<wire::MoveNodeRequest>) -> Answer<wire::Committed> {
        let caller = Caller::of(&request)?;
        let data_address = parsed("--data-address", &request.get_ref().data_address)?;
        let node = caller.node()?.id;
        self.commit(&caller, Command::MoveNode { node, data_address }).await
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Answer<wire::ListReply> {
        let caller = Caller::of(&request)?;
        let who = caller.node()?;
        let listing = rejected(Listing::for_caller(&request.get_ref().kind, who))?;
        let reply = self.0.replica.read(|state| {
            let takes_part = |network| state.leases.contains_key(&(network, who.id));
            let shown = state.rows().filter(|(row, _)| listing.shows(row, who, takes_part));
            let rows = shown.map(|(row, _)| rows::put(&row)).collect();
            wire::ListReply { rows, generation: state.generation.0 }
        });
        Ok(Response::new(reply))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Answer<wire::StatusReply> {
        let caller = Caller::of(&request)?;
        let who = caller.node()?;
        let reply = self.0.replica.read(|state| {
            let living = state.nodes.values().filter(|node| !node.removed);
            let nodes = living.map(|node| {
                let standing = self.0.hub.standing(node.id);
                // Faults name networks and containers: an agent sees its own only.
                let told = who.role != Role::Agent || who.id == node.id;
                wire::NodeStatus {
                    node: Some(rows::put(&Row::Node(node.clone()))),
                    connected: standing.connected,
                    wanted_generation: standing.wanted.0,
                    applied_generation: standing.applied.0,
                    faults: if told { standing.faults } else { Vec::new() },
                    version: standing.version,
                }
            });
            wire::StatusReply { generation: state.generation.0, nodes: nodes.collect() }
        });
        Ok(Response::new(reply))
    }

    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Answer<wire::RowReply> {
        let caller = Caller::of(&request)?;
        let mut wish = rejected(wish::create_network(request.into_inner()))?;
        // Names are looked up first: the hub's lock is never held while the state is waited for.
        let names = self.0.replica.read(|state| {
            let living = state.nodes.keys().map(|id| (*id, wish::living_name(state, *id)));
            living.collect::<std::collections::BTreeMap<NodeId, Option<String>>>()
        });
        wish.occupied = self.0.hub.routes(|id| names.get(&id).cloned().flatten());
        let command = Command::CreateNetwork(wish);
        let (outcome, generation) = self.0.decider.decide(Some(caller.identity()), command).await?;
        let Outcome::Network(network) = outcome else {
            return Err(Failure::Internal("a network was decided without one".to_owned()).into());
        };
        Ok(row_reply(Some(&Row::Network(network)), generation))
    }

    async fn remove_network(
        &self,
        request: Request<wire::RemoveRequest>,
    ) -> Answer<wire::Committed> {
        let caller = Caller::of(&request)?;
        let called = &request.get_ref().name;
        let network = rejected(self.0.replica.read(|state| wish::network(state, called)))?;
        self.commit(&caller, Command::RemoveNetwork(network)).await
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Answer<wire::CreateTokenReply> {
        let caller = Caller::of(&request)?;
        let wire::CreateTokenRequest { role, lifetime } = request.get_ref();
        let lifetime = if *lifetime == 0 { TOKEN } else { Duration::from_secs(*lifetime) };
        let role = rejected(wish::role(role))?;
        let reply = self.0.create_token(Some(caller.identity()), role, lifetime).await?;
        Ok(Response::new(reply))
    }

    async fn revoke_token(&self, request: Request<wire::RemoveRequest>) -> Answer<wire::Committed> {
        let caller = Caller::of(&request)?;
        let token = parsed("TOKEN", &request.get_ref().name)?;
        self.commit(&caller, Command::RevokeToken(token)).await
    }

    async fn remove_node(&self, request: Request<wire::RemoveRequest>) -> Answer<wire::Committed> {
        let caller = Caller::of(&request)?;
        let called = &request.get_ref().name;
        let node = rejected(self.0.replica.read(|state| wish::node(state, called)))?;
        self.commit(&caller, Command::RemoveNode(node)).await
    }
}
