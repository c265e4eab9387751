//! Planning and comparing, without a kernel: 50,000 endpoints in 100 networks, with the shortcut.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use weft_kernel::facts::ShortcutFacts;
use weft_kernel::{KernelState, UnderlayPath};
use weft_model::{
    ContainerId, Endpoint, EndpointId, Generation, Lease, Mac, Network, NetworkId, NodeId, Offset,
    OffsetSet, Vni,
};
use weft_plan::{HostFacts, NetworkView, Peer, Planner, View, plan};
use weft_reconcile::diff;

use crate::report::{Reach, Report};

const NETWORKS: u32 = 100;
const ENDPOINTS: u64 = 500;
const NODES: u64 = 50;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut view = view(NETWORKS, ENDPOINTS)?;
    view.facts.shortcut = Some(shortcut());
    let name = format!(
        "plan and compare {} endpoints in {NETWORKS} networks from nothing",
        u64::from(NETWORKS) * ENDPOINTS
    );
    let mut rounds = Vec::new();
    for _ in 0..11 {
        let begun = Instant::now();
        let planned = plan(&view);
        let steps = diff(&planned.kernel, &KernelState::new());
        rounds.push(begun.elapsed().as_secs_f64() * 1e3);
        black_box((planned, steps));
    }
    report.add(name, "ms", rounds, Reach::median(250.0));

    let mut planner = Planner::default();
    let mut have = planner.plan(&view).kernel;
    let mut rounds = Vec::new();
    for round in 0..101_u64 {
        let id = NetworkId(round % u64::from(NETWORKS) + 1);
        let network = view.networks.get_mut(&id).map(Arc::make_mut);
        let network = network.ok_or_else(|| anyhow::anyhow!("no network {id}"))?;
        let (vni, subnet) = (network.network.vni, network.network.subnets[0]);
        let endpoint = endpoint(id, vni, &subnet, ENDPOINTS + 1 + round)?;
        network.endpoints.insert(endpoint.id, endpoint);
        view.generation = Generation(round + 2);
        let begun = Instant::now();
        let planned = planner.plan(&view);
        let steps = diff(&planned.kernel, &have);
        rounds.push(begun.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(!steps.is_empty(), "a new endpoint must need steps");
        have = planned.kernel;
    }
    report.add("the same with one endpoint added", "ms", rounds, Reach::median(5.0));
    Ok(())
}

/// A path to every node.
fn shortcut() -> ShortcutFacts {
    let path = UnderlayPath { link: "eth0".to_owned(), next_hop: None, mtu: 1_500 };
    let paths = (2..NODES + 2).map(|node| (data_address(node), path.clone()));
    ShortcutFacts { links: vec!["eth0".to_owned()], paths: paths.collect() }
}

fn data_address(node: u64) -> IpAddr {
    Ipv4Addr::new(172, 16, 0, u8::try_from(node).unwrap_or(0)).into()
}

/// A node that takes part in `networks` networks of `endpoints` remote endpoints each.
pub(crate) fn view(networks: u32, endpoints: u64) -> anyhow::Result<View> {
    let node = NodeId(1);
    let mut views = BTreeMap::new();
    for n in 0..networks {
        let id = NetworkId(u64::from(n) + 1);
        let vni = Vni::new(Vni::FIRST.get() + n).ok_or_else(|| anyhow::anyhow!("VNI"))?;
        let subnet: ipnet::IpNet = format!("10.{}.0.0/16", n % 250).parse()?;
        let peers = (2..NODES + 2).map(|p| {
            let node_offset = Offset(65_000 - p);
            (NodeId(p), Peer { data_address: data_address(p), node_offset })
        });
        let all: anyhow::Result<BTreeMap<EndpointId, Endpoint>> = (0..endpoints)
            .map(|e| endpoint(id, vni, &subnet, e).map(|endpoint| (endpoint.id, endpoint)))
            .collect();
        let view = NetworkView {
            network: Network {
                id,
                name: format!("net-{n}").parse()?,
                vni,
                subnets: vec![subnet],
                mtu: None,
                internal: false,
                allow_overlap: false,
            },
            lease: Lease {
                network: id,
                node,
                node_offset: Offset(65_000),
                offsets: OffsetSet::new(),
            },
            peers: peers.collect(),
            endpoints: all?,
        };
        views.insert(id, Arc::new(view));
    }
    Ok(View {
        generation: Generation(1),
        node,
        data_address: data_address(1),
        vxlan_port: 4789,
        networks: views,
        containers: BTreeMap::new(),
        facts: HostFacts {
            underlay_mtu: 1500,
            router_advertisement_links: Vec::new(),
            drop_chains: Vec::new(),
            routes: Vec::new(),
            ipv6: true,
            shortcut: None,
        },
    })
}

fn endpoint(
    network: NetworkId,
    vni: Vni,
    subnet: &ipnet::IpNet,
    number: u64,
) -> anyhow::Result<Endpoint> {
    let offset = Offset(number + 2);
    let address = Network::address_at(subnet, offset);
    Ok(Endpoint {
        id: EndpointId(network.0 << 32 | number),
        network,
        node: NodeId(2 + number % NODES),
        container: ContainerId(network.0 << 32 | number),
        name: format!("c{number}").parse()?,
        aliases: Vec::new(),
        addresses: address.into_iter().collect(),
        mac: Mac::of_endpoint(vni, offset),
        allow_source: Vec::new(),
    })
}
