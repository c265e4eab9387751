//! A cluster in memory, with several servers that decide on what they have seen so far.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;

use proptest::prelude::*;
use weft_model::row::{Authority, Cluster, Pool};
use weft_model::{
    ClusterId, ClusterState, ContainerId, Endpoint, EndpointId, Generation, Lease, Mac, Name,
    Network, NetworkId, Node, NodeId, Offset, Role, RowKey, Token, TokenId,
};
use weft_state::command::CreateNetwork;
use weft_state::rejection::Code;
use weft_state::{Command, Outcome, Rejection, Transaction, Write, apply, fold};

/// The state engine's promise in its simplest form; all states ever are kept.
#[derive(Debug, Clone)]
pub struct Tiny {
    pub states: Vec<ClusterState>,
    /// What led from one state to the next.
    pub commits: Vec<Vec<Write>>,
}

impl Tiny {
    pub fn new() -> Self {
        Self::from(ClusterState::default())
    }

    pub fn from(state: ClusterState) -> Self {
        Self { states: vec![state], commits: Vec::new() }
    }

    /// A cluster with server node 1 (10.0.0.1) and one token per role.
    pub fn initialised() -> Self {
        let mut tiny = Self::new();
        let pools = vec![pool("10.96.0.0/24", 28), pool("fd96::/118", 120)];
        let cluster = Cluster { id: ClusterId(1), pools };
        tiny.run(Command::Initialise { cluster, authority: authority(), node: server() }).unwrap();
        for (id, role) in [(1, Role::Agent), (2, Role::Operator), (3, Role::Server)] {
            tiny.run(Command::CreateToken(token(id, role))).unwrap();
        }
        tiny
    }

    /// Also nodes 2 to 4, and two networks on which the first three hold addresses.
    pub fn busy() -> Self {
        let mut tiny = Self::initialised();
        for id in 2..=4 {
            tiny.run(join(id)).unwrap();
        }
        let both = create(1, "net-1", &["10.3.0.0/27", "fd03::/120"]);
        tiny.run(Command::CreateNetwork(both)).unwrap();
        tiny.run(Command::CreateNetwork(create(2, "net-2", &["fd04::/64"]))).unwrap();
        for (network, node) in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)] {
            tiny.run(lease(network, node, &[], 2)).unwrap();
        }
        tiny
    }

    pub fn now(&self) -> &ClusterState {
        self.states.last().unwrap()
    }

    /// The state that a server has seen which is `lag` commits behind.
    pub fn seen(&self, lag: usize) -> &ClusterState {
        &self.states[self.states.len() - 1 - lag.min(self.states.len() - 1)]
    }

    /// False: a precondition does not hold, and nothing happened.
    pub fn commit(&mut self, transaction: &Transaction) -> bool {
        let now = self.now();
        let holds = |p: &weft_state::Precondition| now.written.get(&p.key).copied() == p.written;
        if !transaction.preconditions.iter().all(holds) {
            return false;
        }
        if !transaction.is_empty() {
            let mut next = now.clone();
            let generation = Generation(now.generation.0 + 1);
            fold(&mut next, &transaction.writes, generation);
            self.states.push(next);
            self.commits.push(transaction.writes.clone());
        }
        true
    }

    /// Decides on the newest state and commits.
    pub fn run(&mut self, command: Command) -> Result<Outcome, Rejection> {
        let (transaction, outcome) = apply(self.now(), command)?;
        assert!(self.commit(&transaction), "decided on the newest state, and yet a conflict");
        Ok(outcome)
    }

    pub fn lease(&self, network: u64, node: u64) -> &Lease {
        &self.now().leases[&(NetworkId(network), NodeId(node))]
    }

    pub fn network(&self, network: u64) -> &Network {
        &self.now().networks[&NetworkId(network)]
    }

    pub fn revision_of(&self, key: RowKey) -> Option<Generation> {
        self.now().written.get(&key).copied()
    }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn pool(prefix: &str, size: u8) -> Pool {
    Pool { prefix: prefix.parse().unwrap(), size }
}

pub fn digest(of: u64) -> String {
    format!("{of:064x}")
}

pub fn authority() -> Authority {
    Authority { certificate: "certificate".to_owned(), private_key: "key".to_owned() }
}

pub fn server() -> Node {
    Node {
        id: NodeId(1),
        name: name("node-1"),
        role: Role::Server,
        data_address: "10.0.0.1".parse().unwrap(),
        key_digest: digest(1),
        removed: false,
    }
}

pub fn token(id: u64, role: Role) -> Token {
    let secret_digest = digest(1000 + id);
    Token { id: TokenId(id), secret_digest, role, expires_at: 1000, revoked: false }
}

/// Node `id` joins under its own name, with its own address and key, as an agent.
pub fn join(id: u64) -> Command {
    join_as(1, id, id, id)
}

pub fn join_as(token: u64, id: u64, place: u64, key: u64) -> Command {
    Command::Join {
        token: TokenId(token),
        secret_digest: digest(1000 + token),
        now: 10,
        id: NodeId(id),
        name: name(&format!("node-{place}")),
        data_address: format!("10.0.0.{place}").parse().unwrap(),
        key_digest: digest(key),
    }
}

pub fn create(id: u64, called: &str, subnets: &[&str]) -> CreateNetwork {
    CreateNetwork {
        id: NetworkId(id),
        name: name(called),
        subnets: subnets.iter().map(|s| s.parse().unwrap()).collect(),
        ipv6: false,
        mtu: None,
        internal: false,
        allow_overlap: false,
        occupied: Vec::new(),
    }
}

pub fn lease(network: u64, node: u64, wanted: &[u64], count: u32) -> Command {
    Command::Lease {
        network: NetworkId(network),
        node: NodeId(node),
        wanted: wanted.iter().map(|o| Offset(*o)).collect(),
        count,
    }
}

pub fn release(network: u64, node: u64, offsets: &str, leave: bool) -> Command {
    Command::Release {
        network: NetworkId(network),
        node: NodeId(node),
        offsets: offsets.parse().unwrap(),
        leave,
    }
}

/// Endpoint `id` of `node`, at `offset`.
pub fn endpoint(network: &Network, node: u64, id: u64, offset: u64) -> Endpoint {
    Endpoint {
        id: EndpointId(id),
        network: network.id,
        node: NodeId(node),
        container: ContainerId(id),
        name: name(&format!("c-{id}")),
        aliases: Vec::new(),
        addresses: network.addresses(Offset(offset)),
        mac: Mac::of_endpoint(network.vni, Offset(offset)),
        allow_source: Vec::new(),
    }
}

pub fn delete(network: u64, id: u64) -> Command {
    Command::DeleteEndpoint { network: NetworkId(network), endpoint: EndpointId(id) }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A wish in outline; it becomes a command in view of what its server has seen.
#[derive(Debug, Clone)]
pub enum Wish {
    Join { token: u64, id: u64, place: u64, key: u64 },
    Remove(u64),
    Move { node: u64, place: u64 },
    Revoke(u64),
    Create { id: u64, called: u64, subnets: u8, internal: bool, overlap: bool },
    RemoveNetwork(u64),
    Lease { network: u64, node: u64, wanted: Vec<u64>, count: u32 },
    Release { network: u64, node: u64, nth: Vec<usize>, leave: bool },
    Put { network: u64, node: u64, id: u64, nth: usize, anywhere: bool, alias: bool },
    Delete { network: u64, id: u64 },
}

const NODES: std::ops::RangeInclusive<u64> = 1..=4;
const NETWORKS: std::ops::RangeInclusive<u64> = 1..=3;
const ENDPOINTS: std::ops::RangeInclusive<u64> = 1..=6;

pub fn wishes() -> impl Strategy<Value = Wish> {
    let place = || 1_u64..=5;
    prop_oneof![
        4 => (1_u64..=3, NODES, place(), NODES).prop_map(|(token, id, place, key)| {
            Wish::Join { token, id, place, key }
        }),
        4 => NODES.prop_map(|id| Wish::Join { token: 3, id, place: id, key: id }),
        1 => NODES.prop_map(Wish::Remove),
        3 => (NODES, place()).prop_map(|(node, place)| Wish::Move { node, place }),
        1 => (1_u64..=2).prop_map(Wish::Revoke),
        4 => (NETWORKS, NETWORKS, 0_u8..8, any::<bool>(), any::<bool>()).prop_map(
            |(id, called, subnets, internal, overlap)| {
                Wish::Create { id, called, subnets, internal, overlap }
            }
        ),
        1 => NETWORKS.prop_map(Wish::RemoveNetwork),
        12 => (NETWORKS, NODES, prop::collection::vec(0_u64..32, 0..2), 0_u32..4).prop_map(
            |(network, node, wanted, count)| Wish::Lease { network, node, wanted, count }
        ),
        10 => (NETWORKS, NODES, prop::collection::vec(0_usize..4, 0..4), prop::bool::weighted(0.3))
            .prop_map(|(network, node, nth, leave)| Wish::Release { network, node, nth, leave }),
        40 => (NETWORKS, NODES, ENDPOINTS, 0_usize..3, prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(network, node, id, nth, anywhere, alias)| {
                Wish::Put { network, node, id, nth, anywhere, alias }
            }),
        16 => (NETWORKS, ENDPOINTS).prop_map(|(network, id)| Wish::Delete { network, id }),
    ]
}

/// The command that a wish becomes on `seen`; `None` where it makes no sense there.
pub fn command(seen: &ClusterState, wish: &Wish) -> Option<Command> {
    let offsets = |network: u64, node: u64| -> Vec<Offset> {
        let lease = seen.leases.get(&(NetworkId(network), NodeId(node)));
        lease.map_or_else(Vec::new, |lease| lease.offsets.iter().collect())
    };
    Some(match wish.clone() {
        Wish::Join { token, id, place, key } => join_as(token, id, place, key),
        Wish::Remove(id) => Command::RemoveNode(NodeId(id)),
        Wish::Move { node, place } => Command::MoveNode {
            node: NodeId(node),
            data_address: format!("10.0.0.{place}").parse().unwrap(),
        },
        Wish::Revoke(id) => Command::RevokeToken(TokenId(id)),
        Wish::Create { id, called, subnets, internal, overlap } => {
            const GIVEN: [&[&str]; 8] = [
                &[],
                &["10.3.0.0/28"],
                &["10.3.0.0/29"],
                &["10.3.0.0/28", "fd03::/120"],
                &["fd03::/64"],
                &["10.0.0.0/24"],
                &["10.4.0.0/24"],
                &["10.96.0.0/28"],
            ];
            let name = format!("net-{called}");
            let wish = create(id, &name, GIVEN[usize::from(subnets)]);
            Command::CreateNetwork(CreateNetwork {
                ipv6: subnets % 2 == 0,
                internal,
                allow_overlap: overlap,
                ..wish
            })
        }
        Wish::RemoveNetwork(id) => Command::RemoveNetwork(NetworkId(id)),
        Wish::Lease { network, node, wanted, count } => lease(network, node, &wanted, count),
        Wish::Release { network, node, nth, leave } => {
            let own = offsets(network, node);
            let offsets = nth.iter().filter_map(|n| own.get(*n).copied()).collect();
            Command::Release { network: NetworkId(network), node: NodeId(node), offsets, leave }
        }
        Wish::Put { network, node, id, nth, anywhere, alias } => {
            let held = offsets(network, node);
            let network = seen.networks.get(&NetworkId(network))?;
            let offset = match held.get(nth) {
                Some(offset) if !anywhere => *offset,
                _ => Offset(nth as u64 * 5),
            };
            let mut endpoint = endpoint(network, node, id, offset.0);
            if alias {
                endpoint.aliases.push(name("alias"));
            }
            Command::PutEndpoint(endpoint)
        }
        Wish::Delete { network, id } => delete(network, id),
    })
}

/// Checks that `command` is refused with exactly these words, and again so.
#[track_caller]
pub fn refused(tiny: &Tiny, command: Command, words: (Code, &str, &str, &str)) {
    let rejection = apply(tiny.now(), command.clone()).expect_err("it was not refused");
    let Rejection { code, field, message, hint } = &rejection;
    assert_eq!((*code, field.as_str(), message.as_str(), hint.as_str()), words);
    assert_eq!(rejection.to_string(), words.2);
    assert_eq!(apply(tiny.now(), command).unwrap_err(), rejection);
}
