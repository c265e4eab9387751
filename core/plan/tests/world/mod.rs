//! Views that come about by many small changes, sensible or not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use weft_kernel::facts::ShortcutFacts;
use weft_kernel::key::NftFamily;
use weft_kernel::{NetnsId, TableName, UnderlayPath};
use weft_model::{
    ContainerId, Endpoint, EndpointId, Generation, Lease, Mac, Network, NetworkId, NodeId, Offset,
    OffsetSet, Vni,
};
use weft_plan::{Container, DropChain, HostFacts, Inside, Interface, NetworkView, Peer, View};

/// The node that is planned for; the others are 1 to 4, and nobody knows 5.
pub(crate) const HERE: NodeId = NodeId(0);

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Network {
        network: u64,
        families: u8,
        internal: bool,
        overlap: bool,
    },
    NoNetwork {
        network: u64,
    },
    Peer {
        network: u64,
        node: u64,
        there: bool,
    },
    Endpoint {
        network: u64,
        id: u64,
        node: u64,
        router: bool,
        alias: bool,
    },
    NoEndpoint {
        network: u64,
        id: u64,
    },
    Attach {
        container: u64,
        netns: u64,
        network: u64,
        id: u64,
    },
    NoContainer {
        container: u64,
    },
    /// A runtime looks after that container.
    Lend {
        container: u64,
    },
    Ipv6 {
        there: bool,
    },
    Underlay {
        mtu: u32,
    },
    Uplink {
        link: String,
    },
    Drops {
        input: bool,
        v6: bool,
    },
    /// Has a shortcut, whose packets come in by `link`, with a path to each node whose bit is set.
    Shortcut {
        link: String,
        paths: u8,
    },
    NoShortcut,
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let (network, node, id) = (0..4_u64, 0..6_u64, 0..12_u64);
    let change = prop_oneof![
        3 => (network.clone(), 1..4_u8, any::<bool>(), any::<bool>()).prop_map(
            |(network, families, internal, overlap)| Change::Network {
                network, families, internal, overlap: internal && overlap
            }
        ),
        1 => network.clone().prop_map(|network| Change::NoNetwork { network }),
        6 => (network.clone(), 0..5_u64, prop::bool::weighted(0.8))
            .prop_map(|(network, node, there)| Change::Peer { network, node, there }),
        12 => (network.clone(), id.clone(), node, any::<bool>(), any::<bool>()).prop_map(
            |(network, id, node, router, alias)| Change::Endpoint { network, id, node, router, alias }
        ),
        3 => (network.clone(), id.clone()).prop_map(|(network, id)| Change::NoEndpoint { network, id }),
        8 => (0..5_u64, 0..4_u64, network, id).prop_map(
            |(container, netns, network, id)| Change::Attach { container, netns, network, id }
        ),
        1 => (0..5_u64).prop_map(|container| Change::NoContainer { container }),
        2 => (0..5_u64).prop_map(|container| Change::Lend { container }),
        1 => any::<bool>().prop_map(|there| Change::Ipv6 { there }),
        1 => (1280..9000_u32).prop_map(|mtu| Change::Underlay { mtu }),
        1 => prop_oneof!["eth0", "br-lan", "x-570001"].prop_map(|link| Change::Uplink { link }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(input, v6)| Change::Drops { input, v6 }),
        3 => (prop_oneof!["eth0", "br-lan", "x-570001"], any::<u8>())
            .prop_map(|(link, paths)| Change::Shortcut { link, paths }),
        1 => Just(Change::NoShortcut),
    ];
    prop::collection::vec(change, 0..60)
}

pub(crate) fn empty() -> View {
    View {
        generation: Generation(0),
        node: HERE,
        data_address: "172.10.0.10".parse().unwrap(),
        vxlan_port: 4789,
        networks: BTreeMap::new(),
        containers: BTreeMap::new(),
        facts: HostFacts {
            underlay_mtu: 1500,
            router_advertisement_links: Vec::new(),
            drop_chains: Vec::new(),
            routes: Vec::new(),
            ipv6: true,
            shortcut: None,
        },
    }
}

pub(crate) fn apply(view: &mut View, change: &Change) {
    view.generation.0 += 1;
    match change {
        Change::Network { network, families, internal, overlap } => {
            let fresh = Arc::new(network_view(*network, *families, *internal, *overlap));
            view.networks.insert(NetworkId(*network), fresh);
        }
        Change::NoNetwork { network } => drop(view.networks.remove(&NetworkId(*network))),
        Change::Peer { network, node, there } => with(view, *network, |n| {
            if *there {
                n.peers.insert(NodeId(*node), peer(*node));
            } else {
                n.peers.remove(&NodeId(*node));
            }
        }),
        Change::Endpoint { network, id, node, router, alias } => with(view, *network, |n| {
            let endpoint = endpoint(&n.network, *id, *node, *router, *alias);
            n.endpoints.insert(endpoint.id, endpoint);
        }),
        Change::NoEndpoint { network, id } => with(view, *network, |n| {
            n.endpoints.remove(&endpoint_id(*network, *id));
        }),
        Change::Attach { container, netns, network, id } => {
            attach(view, *container, *netns, *network, *id);
        }
        Change::NoContainer { container } => {
            drop(view.containers.remove(&ContainerId(*container)));
        }
        Change::Lend { container } => {
            if let Some(container) = view.containers.get_mut(&ContainerId(*container)) {
                container.inside = Inside::Lent;
            }
        }
        Change::Ipv6 { there } => view.facts.ipv6 = *there,
        Change::Underlay { mtu } => view.facts.underlay_mtu = *mtu,
        Change::Uplink { link } => {
            if !view.facts.router_advertisement_links.contains(link) {
                view.facts.router_advertisement_links.push(link.clone());
            }
        }
        Change::Drops { input, v6 } => {
            let family = if *v6 { NftFamily::Ip6 } else { NftFamily::Ip };
            let chain = if *input { "INPUT" } else { "FORWARD" };
            let table = TableName { family, name: "filter".into() };
            view.facts.drop_chains.push(DropChain { table, chain: chain.into(), input: *input });
        }
        Change::Shortcut { link, paths } => {
            let nodes = (1..6).filter(|node| paths & (1 << node) != 0);
            let path = || UnderlayPath {
                link: link.clone(),
                next_hop: (paths & 1 != 0).then(|| "172.10.0.1".parse().unwrap()),
                mtu: 1500,
            };
            let paths = nodes.map(|node| (peer(node).data_address, path())).collect();
            view.facts.shortcut = Some(ShortcutFacts { links: vec![link.clone()], paths });
        }
        Change::NoShortcut => view.facts.shortcut = None,
    }
}

/// The endpoints that are inside containers of this node. Where two interfaces of a namespace have
/// one name, only the first is there.
pub(crate) fn attached(view: &View) -> BTreeSet<EndpointId> {
    let (mut endpoints, mut links) = (BTreeSet::new(), BTreeSet::new());
    for container in view.containers.values() {
        for interface in &container.interfaces {
            let network = view.networks.get(&interface.network);
            let known = network
                .and_then(|n| n.endpoints.get(&interface.endpoint))
                .is_some_and(|e| e.node == HERE);
            let mut is_free = || match container.inside {
                Inside::Netns(netns) => links.insert((netns, interface.name.clone())),
                Inside::Lent => true,
            };
            if known && !endpoints.contains(&interface.endpoint) && is_free() {
                endpoints.insert(interface.endpoint);
            }
        }
    }
    endpoints
}

/// What other nodes have in a network: MAC, addresses, VTEP.
pub(crate) fn elsewhere(network: &NetworkView) -> Vec<(Mac, Vec<IpAddr>, IpAddr)> {
    let peers = || network.peers.iter().filter(|(node, _)| **node != HERE);
    let nodes = peers().map(|(_, peer)| {
        let mac = Mac::of_endpoint(network.network.vni, peer.node_offset);
        (mac, network.network.addresses(peer.node_offset), peer.data_address)
    });
    let endpoints = network.endpoints.values().filter_map(|endpoint| {
        let (_, peer) = peers().find(|(node, _)| **node == endpoint.node)?;
        Some((endpoint.mac, endpoint.addresses.clone(), peer.data_address))
    });
    nodes.chain(endpoints).collect()
}

/// As an agent does it: the network is copied when somebody else holds it.
fn with(view: &mut View, network: u64, change: impl FnOnce(&mut NetworkView)) {
    if let Some(network) = view.networks.get_mut(&NetworkId(network)) {
        let mut copy = NetworkView::clone(network);
        change(&mut copy);
        *network = Arc::new(copy);
    }
}

fn attach(view: &mut View, container: u64, netns: u64, network: u64, id: u64) {
    let id_of = ContainerId(container);
    let container = view.containers.entry(id_of).or_insert_with(|| Container {
        id: id_of,
        name: format!("c{container}").parse().unwrap(),
        inside: Inside::Netns(NetnsId(netns)),
        interfaces: Vec::new(),
    });
    let name = format!("eth{}", container.interfaces.len());
    let (network, endpoint) = (NetworkId(network), endpoint_id(network, id));
    container.interfaces.push(Interface { network, endpoint, name });
}

fn network_view(network: u64, families: u8, internal: bool, overlap: bool) -> NetworkView {
    let third = if overlap { 9 } else { network };
    let subnets = [format!("10.3.{third}.0/24"), format!("fd00:{third}::/64")];
    let wanted = |i: &usize| families & (1 << i) != 0;
    let number = u32::try_from(network).unwrap();
    let network = Network {
        id: NetworkId(network),
        name: format!("Net{network}").parse().unwrap(),
        vni: Vni::new(Vni::FIRST.get() + number).unwrap(),
        subnets: (0..2).filter(wanted).map(|i| subnets[i].parse().unwrap()).collect(),
        mtu: (network == 3).then_some(1300),
        internal,
        allow_overlap: overlap,
    };
    let lease = Lease {
        network: network.id,
        node: HERE,
        node_offset: Offset(254),
        offsets: OffsetSet::new(),
    };
    NetworkView { network, lease, peers: BTreeMap::new(), endpoints: BTreeMap::new() }
}

fn peer(node: u64) -> Peer {
    let data_address = format!("172.10.0.{}", 10 + node).parse().unwrap();
    Peer { data_address, node_offset: Offset(254 - node) }
}

fn endpoint_id(network: u64, id: u64) -> EndpointId {
    EndpointId((network * 100 + id) << 16)
}

fn endpoint(network: &Network, id: u64, node: u64, router: bool, alias: bool) -> Endpoint {
    let offset = Offset(2 + id);
    let mut addresses = network.addresses(offset);
    if router && alias {
        addresses.extend(network.addresses(Offset(100 + id)));
    }
    Endpoint {
        id: endpoint_id(network.id.0, id),
        network: network.id,
        node: NodeId(node),
        container: ContainerId(node * 10),
        name: format!("App-{id}").parse().unwrap(),
        aliases: alias.then(|| "www".parse().unwrap()).into_iter().collect(),
        addresses,
        mac: Mac::of_endpoint(network.vni, offset),
        allow_source: router.then(|| "192.168.0.0/16".parse().unwrap()).into_iter().collect(),
    }
}
