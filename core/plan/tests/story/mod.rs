//! Reads stories: a cluster told line by line, as one would to a colleague.
//!
//! ```text
//! node a 172.10.0.15                          a host and its VTEP's address
//! network web vni 5701633 10.3.0.0/24         further words: internal, overlap, mtu 1300
//! member a of web                             takes part, without a container
//! endpoint web-1 on a in web 10.3.0.2         further words: alias www, source 192.168.0.0/16,
//!                                             lent (a container runtime has its other end)
//! gone web-1 in web                           that endpoint, or
//! gone node b                                 that node
//! host a mtu 9000                             also: no-ipv6, uplink eth0,
//!                                             drops forward ip filter FORWARD,
//!                                             shortcut eth0, no-shortcut,
//!                                             path 172.10.0.16 via 172.10.0.1 dev eth0 mtu 1500
//! ```
//!
//! The same name on the same node is the same container; its interfaces are `eth0`, `eth1` … in
//! the order they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_kernel::facts::ShortcutFacts;
use weft_kernel::key::NftFamily;
use weft_kernel::{NetnsId, TableName, UnderlayPath};
use weft_model::{
    ContainerId, Endpoint, EndpointId, Generation, Lease, Mac, Name, Network, NetworkId, NodeId,
    Offset, OffsetSet, Vni,
};
use weft_plan::{Container, DropChain, HostFacts, Inside, Interface, NetworkView, Peer, View};

#[derive(Default)]
pub(crate) struct Story {
    told: u64,
    nodes: BTreeMap<String, Node>,
    networks: BTreeMap<String, Network>,
    /// Per network, who takes part, and its own offset.
    members: BTreeMap<NetworkId, BTreeMap<NodeId, Offset>>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    containers: BTreeMap<(NodeId, String), ContainerId>,
    lent: BTreeSet<ContainerId>,
}

struct Node {
    id: NodeId,
    data_address: IpAddr,
    facts: HostFacts,
}

type Told = Result<(), String>;

impl Story {
    pub(crate) fn tell(&mut self, line: &str) -> Told {
        self.told += 1;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["node", name, address] => self.node(name, parse(address)?),
            ["network", name, "vni", vni, rest @ ..] => self.network(name, parse(vni)?, rest),
            ["member", node, "of", network] => {
                let (node, network) =
                    (self.node_named(node)?.id, self.network_named(network)?.clone());
                self.join(node, &network);
                Ok(())
            }
            ["endpoint", name, "on", node, "in", network, rest @ ..] => {
                self.endpoint(name, node, network, rest)
            }
            ["gone", "node", node] => self.gone_node(node),
            ["gone", name, "in", network] => {
                let network = self.network_named(network)?.id;
                let name: Name = parse(name)?;
                self.endpoints.retain(|_, e| e.network != network || e.name != name);
                Ok(())
            }
            ["host", node, rest @ ..] => self.host(node, rest),
            _ => Err("not a sentence of a story".to_owned()),
        }
    }

    fn node(&mut self, name: &str, data_address: IpAddr) -> Told {
        let id = NodeId(self.nodes.len() as u64 + 1);
        let facts = HostFacts {
            underlay_mtu: 1500,
            router_advertisement_links: Vec::new(),
            drop_chains: Vec::new(),
            routes: Vec::new(),
            ipv6: true,
            shortcut: None,
        };
        self.nodes.insert(name.to_owned(), Node { id, data_address, facts });
        Ok(())
    }

    fn network(&mut self, name: &str, vni: u32, rest: &[&str]) -> Told {
        let mut network = Network {
            id: NetworkId(self.networks.len() as u64 + 1),
            name: parse(name)?,
            vni: Vni::new(vni).ok_or("no VNI")?,
            subnets: Vec::new(),
            mtu: None,
            internal: false,
            allow_overlap: false,
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match *word {
                "internal" => network.internal = true,
                "overlap" => network.allow_overlap = true,
                "mtu" => network.mtu = Some(parse(rest.next().ok_or("mtu of what?")?)?),
                subnet => network.subnets.push(parse(subnet)?),
            }
        }
        self.networks.insert(name.to_owned(), network);
        Ok(())
    }

    fn endpoint(&mut self, name: &str, node: &str, network: &str, rest: &[&str]) -> Told {
        let node = self.node_named(node)?.id;
        let network = self.network_named(network)?.clone();
        self.join(node, &network);
        let fresh = ContainerId(self.containers.len() as u64 + 1);
        let mut endpoint = Endpoint {
            id: EndpointId(self.told << 16),
            network: network.id,
            node,
            container: *self.containers.entry((node, name.to_owned())).or_insert(fresh),
            name: parse(name)?,
            aliases: Vec::new(),
            addresses: Vec::new(),
            mac: Mac::ZERO,
            allow_source: Vec::new(),
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match *word {
                "lent" => drop(self.lent.insert(endpoint.container)),
                "alias" => endpoint.aliases.push(parse(rest.next().ok_or("alias of what?")?)?),
                "source" => endpoint.allow_source.push(parse(rest.next().ok_or("which source?")?)?),
                address => endpoint.addresses.push(parse(address)?),
            }
        }
        let first = *endpoint.addresses.first().ok_or("an endpoint has an address")?;
        let offset = network.offset_of(first).ok_or("outside of the network")?;
        endpoint.mac = Mac::of_endpoint(network.vni, offset);
        self.endpoints.insert(endpoint.id, endpoint);
        Ok(())
    }

    fn gone_node(&mut self, node: &str) -> Told {
        let id = self.node_named(node)?.id;
        self.endpoints.retain(|_, e| e.node != id);
        self.members.values_mut().for_each(|members| members.retain(|node, _| *node != id));
        Ok(())
    }

    fn host(&mut self, node: &str, rest: &[&str]) -> Told {
        let facts = &mut self.nodes.get_mut(node).ok_or("no such node")?.facts;
        match rest {
            ["mtu", mtu] => facts.underlay_mtu = parse(mtu)?,
            ["no-ipv6"] => facts.ipv6 = false,
            ["uplink", link] => facts.router_advertisement_links.push((*link).to_owned()),
            ["drops", hook @ ("forward" | "input"), family, table, chain] => {
                let family = match *family {
                    "ip" => NftFamily::Ip,
                    "ip6" => NftFamily::Ip6,
                    "iptables" => NftFamily::Iptables,
                    "ip6tables" => NftFamily::Ip6tables,
                    _ => NftFamily::Inet,
                };
                facts.drop_chains.push(DropChain {
                    table: TableName { family, name: (*table).to_owned() },
                    chain: (*chain).to_owned(),
                    input: *hook == "input",
                });
            }
            ["shortcut", links @ ..] => {
                let links = links.iter().map(|link| (*link).to_owned()).collect();
                let paths = facts.shortcut.take().unwrap_or_default().paths;
                facts.shortcut = Some(ShortcutFacts { links, paths });
            }
            ["no-shortcut"] => facts.shortcut = None,
            ["no-path", to] => {
                let shortcut = facts.shortcut.as_mut().ok_or("it has no shortcut")?;
                shortcut.paths.remove(&parse(to)?).ok_or("there was no path")?;
            }
            ["path", to, rest @ ..] => {
                let shortcut = facts.shortcut.as_mut().ok_or("it has no shortcut")?;
                shortcut.paths.insert(parse(to)?, path(rest)?);
            }
            _ => return Err("not a fact of a host".to_owned()),
        }
        Ok(())
    }

    fn join(&mut self, node: NodeId, network: &Network) {
        let members = self.members.entry(network.id).or_default();
        let next = Offset(network.last_offset().0 - members.len() as u64);
        members.entry(node).or_insert(next);
    }

    fn node_named(&self, name: &str) -> Result<&Node, String> {
        self.nodes.get(name).ok_or_else(|| format!("no node {name}"))
    }

    fn network_named(&self, name: &str) -> Result<&Network, String> {
        self.networks.get(name).ok_or_else(|| format!("no network {name}"))
    }

    /// What `node` knows by now.
    pub(crate) fn view(&self, node: &str) -> Result<View, String> {
        let node = self.node_named(node)?;
        let networks = self.networks.values().filter_map(|network| {
            let members = self.members.get(&network.id)?;
            let lease = Lease {
                network: network.id,
                node: node.id,
                node_offset: *members.get(&node.id)?,
                offsets: OffsetSet::new(),
            };
            let peer = |other: &Node| {
                let node_offset = *members.get(&other.id)?;
                Some((other.id, Peer { data_address: other.data_address, node_offset }))
            };
            let others = self.nodes.values().filter(|other| other.id != node.id);
            let of_network = self.endpoints.values().filter(|e| e.network == network.id);
            let view = NetworkView {
                network: network.clone(),
                lease,
                peers: others.filter_map(peer).collect(),
                endpoints: of_network.map(|e| (e.id, e.clone())).collect(),
            };
            Some((network.id, Arc::new(view)))
        });
        Ok(View {
            generation: Generation(self.told),
            node: node.id,
            data_address: node.data_address,
            vxlan_port: 4789,
            networks: networks.collect(),
            containers: self.containers_of(node.id),
            facts: node.facts.clone(),
        })
    }

    fn containers_of(&self, node: NodeId) -> BTreeMap<ContainerId, Container> {
        let mut containers = BTreeMap::new();
        for endpoint in self.endpoints.values().filter(|e| e.node == node) {
            let id = endpoint.container;
            let inside = match self.lent.contains(&id) {
                true => Inside::Lent,
                false => Inside::Netns(NetnsId(id.0)),
            };
            let name = endpoint.name.clone();
            let fresh = Container { id, name, inside, interfaces: Vec::new() };
            let container = containers.entry(id).or_insert(fresh);
            container.interfaces.push(Interface {
                network: endpoint.network,
                endpoint: endpoint.id,
                name: format!("eth{}", container.interfaces.len()),
            });
        }
        containers
    }
}

fn path(words: &[&str]) -> Result<UnderlayPath, String> {
    let (next_hop, words) = match words {
        ["via", next_hop, rest @ ..] => (Some(parse(next_hop)?), rest),
        words => (None, words),
    };
    match words {
        ["dev", link, "mtu", mtu] => {
            Ok(UnderlayPath { link: (*link).to_owned(), next_hop, mtu: parse(mtu)? })
        }
        _ => Err("where does the path lead?".to_owned()),
    }
}

fn parse<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("what is '{word}'?"))
}
