//! What holds for the shortcut in every plan: it says what the bridge path does, and changes
//! nothing of it.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use weft_kernel::nft::{Equal, Match};
use weft_kernel::{
    Attach, FdbTable, KernelState, Key, LocalEndpoint, Object, ShortcutKey, ShortcutObject,
};
use weft_model::{Endpoint, EndpointId, Mac, Network, NetworkId, device};
use weft_plan::{NetworkView, View, plan};

use world::{Change, HERE, attached, changes, elsewhere};

type Shortcut = BTreeMap<ShortcutKey, ShortcutObject>;

fn last(changes: &[Change]) -> View {
    let mut view = world::empty();
    changes.iter().for_each(|change| world::apply(&mut view, change));
    view
}

fn shortcut_of(kernel: &KernelState) -> Shortcut {
    let objects = kernel.iter().filter_map(|(key, object)| match (key, object) {
        (Key::Shortcut(key), Object::Shortcut(object)) => Some((key.clone(), object.clone())),
        _ => None,
    });
    objects.collect()
}

/// The plan without its shortcut.
fn the_rest(kernel: &KernelState) -> KernelState {
    let rest = kernel.iter().filter(|(key, _)| !matches!(key, Key::Shortcut(_)));
    rest.map(|(key, object)| (key.clone(), object.clone())).collect()
}

/// What the shortcut of a view should be, said another way than the planner does.
fn expected(view: &View) -> Shortcut {
    let mut all = Shortcut::new();
    let Some(facts) = view.facts.shortcut.as_ref().filter(|_| !view.networks.is_empty()) else {
        return all;
    };
    let node = ShortcutObject::Node { data_address: view.data_address, port: view.vxlan_port };
    all.insert(ShortcutKey::Node, node);
    for link in &facts.links {
        let key = ShortcutKey::Program(link.clone(), Attach::FromUnderlay);
        all.insert(key, ShortcutObject::Program);
    }
    let here = attached(view);
    for network in view.networks.values() {
        of_network(view, network, &mut all);
        for endpoint in network.endpoints.values().filter(|e| here.contains(&e.id)) {
            of_endpoint(&network.network, endpoint, &mut all);
            known(view, &network.network, endpoint.mac, &endpoint.addresses, &mut all);
        }
    }
    all
}

fn of_network(view: &View, network: &NetworkView, all: &mut Shortcut) {
    let vni = network.network.vni.get();
    let paths = &view.facts.shortcut.as_ref().unwrap().paths;
    for (_, peer) in network.peers.iter().filter(|(node, _)| **node != HERE) {
        let vtep = peer.data_address;
        let gateway = ShortcutObject::Member(network.network.gateway_mac().0);
        all.insert(ShortcutKey::Member(vni, vtep), gateway);
        if let Some(path) = paths.get(&vtep) {
            all.insert(ShortcutKey::Vtep(vtep), ShortcutObject::Vtep(path.clone()));
        }
    }
    for (mac, addresses, vtep) in elsewhere(network) {
        all.insert(ShortcutKey::Fdb(vni, mac.0), ShortcutObject::Fdb(vtep));
        known(view, &network.network, mac, &addresses, all);
    }
}

fn known(view: &View, network: &Network, mac: Mac, addresses: &[IpAddr], all: &mut Shortcut) {
    for address in addresses.iter().filter(|a| a.is_ipv4() || view.facts.ipv6) {
        let key = ShortcutKey::Neighbour(network.vni.get(), *address);
        all.insert(key, ShortcutObject::Neighbour(mac.0));
    }
}

fn of_endpoint(network: &Network, endpoint: &Endpoint, all: &mut Shortcut) {
    let link = device::host_end(endpoint.id);
    let (mut v4, mut v6, mut granted) = (None, None, BTreeSet::new());
    for address in &endpoint.addresses {
        match address {
            IpAddr::V4(address) if v4.is_none() => v4 = Some(*address),
            IpAddr::V6(address) if v6.is_none() => v6 = Some(*address),
            further => drop(granted.insert(IpNet::from(*further))),
        }
    }
    granted.extend(endpoint.allow_source.iter().copied());
    let (vni, mac) = (network.vni.get(), endpoint.mac.0);
    let local = LocalEndpoint { vni, mac, v4, v6, more: !granted.is_empty() };
    all.insert(ShortcutKey::Endpoint(link.clone()), ShortcutObject::Endpoint(local));
    let program = ShortcutKey::Program(link.clone(), Attach::FromContainer);
    all.insert(program, ShortcutObject::Program);
    for net in granted {
        all.insert(ShortcutKey::Granted(link.clone(), net), ShortcutObject::Granted);
    }
}

/// The networks of a plan, by VNI, with the names of their devices.
fn networks(view: &View) -> impl Iterator<Item = (u32, String, String, &NetworkView)> {
    view.networks.values().map(|network| {
        let vni = network.network.vni;
        (vni.get(), device::bridge(vni), device::vtep(vni), network.as_ref())
    })
}

proptest! {
    #[test]
    fn the_shortcut_is_all_that_it_should_be_and_nothing_else(changes in changes()) {
        let view = last(&changes);
        prop_assert_eq!(shortcut_of(&plan(&view).kernel), expected(&view));
    }

    #[test]
    fn it_changes_nothing_of_the_bridge_path(changes in changes()) {
        let mut view = last(&changes);
        let with = plan(&view);
        view.facts.shortcut = None;
        let without = plan(&view);
        prop_assert!(shortcut_of(&without.kernel).is_empty());
        prop_assert_eq!(the_rest(&with.kernel), without.kernel);
        prop_assert_eq!(with.names, without.names);
    }

    #[test]
    fn it_says_what_the_rows_say(changes in changes()) {
        let view = last(&changes);
        let kernel = plan(&view).kernel;
        let shortcut = shortcut_of(&kernel);
        prop_assume!(view.facts.shortcut.is_some());
        for (vni, bridge, vtep, _) in networks(&view) {
            let rows: Shortcut = kernel.iter().filter_map(|(key, object)| match (key, object) {
                (Key::Fdb(link, FdbTable::Device, mac), Object::Fdb(Some(to))) if *link == vtep =>
                    Some((ShortcutKey::Fdb(vni, *mac), ShortcutObject::Fdb(*to))),
                (Key::Neighbour(link, ip), Object::Neighbour(mac)) if *link == bridge =>
                    Some((ShortcutKey::Neighbour(vni, *ip), ShortcutObject::Neighbour(*mac))),
                _ => None,
            }).collect();
            let told: Shortcut = shortcut.iter().filter(|(key, _)| matches!(key,
                ShortcutKey::Fdb(of, _) | ShortcutKey::Neighbour(of, _) if *of == vni
            )).map(|(key, object)| (key.clone(), object.clone())).collect();
            prop_assert_eq!(told, rows);
        }
    }

    #[test]
    fn behind_every_vtep_is_a_member_and_no_local_mac(changes in changes()) {
        let view = last(&changes);
        let shortcut = shortcut_of(&plan(&view).kernel);
        let mut here: BTreeSet<(u32, [u8; 6])> = BTreeSet::new();
        for (vni, .., network) in networks(&view) {
            here.insert((vni, network.network.gateway_mac().0));
            here.insert((vni, Mac::of_endpoint(network.network.vni, network.lease.node_offset).0));
        }
        for object in shortcut.values() {
            if let ShortcutObject::Endpoint(local) = object {
                prop_assert!(here.insert((local.vni, local.mac)), "two have one MAC");
            }
        }
        for (key, object) in &shortcut {
            if let (ShortcutKey::Fdb(vni, mac), ShortcutObject::Fdb(vtep)) = (key, object) {
                prop_assert!(shortcut.contains_key(&ShortcutKey::Member(*vni, *vtep)), "{key:?}");
                prop_assert!(!here.contains(&(*vni, *mac)), "{key:?} is here");
                prop_assert!(*vtep != view.data_address);
            }
        }
    }

    #[test]
    fn what_an_endpoint_may_send_is_what_its_filter_lets_in(changes in changes()) {
        let kernel = plan(&last(&changes)).kernel;
        let shortcut = shortcut_of(&kernel);
        for (key, object) in kernel.iter() {
            let (Key::DeviceChain(_, link, _), Object::Chain(chain)) = (key, object) else { continue };
            let endpoint = shortcut.get(&ShortcutKey::Endpoint(link.clone()));
            let Some(ShortcutObject::Endpoint(local)) = endpoint else { continue };
            let mut filter: BTreeSet<IpNet> = BTreeSet::new();
            for matched in chain.rules.iter().flat_map(|rule| &rule.matches) {
                if let Match::Source(Equal::IsNot, net) = matched {
                    filter.insert(*net);
                }
            }
            let always = [IpAddr::V6(Mac(local.mac).link_local()), "::".parse().unwrap()];
            let first = [local.v4.map(IpAddr::V4), local.v6.map(IpAddr::V6)];
            let granted = shortcut.keys().filter_map(|key| match key {
                ShortcutKey::Granted(of, net) if of == link => Some(*net),
                _ => None,
            });
            let granted: BTreeSet<IpNet> = granted.collect();
            prop_assert_eq!(local.more, !granted.is_empty());
            let first = first.into_iter().flatten().chain(always).map(IpNet::from);
            let told: BTreeSet<IpNet> = first.chain(granted).collect();
            prop_assert_eq!(told, filter);
        }
    }
}

/// Network 0 with node 1, to which a path leads, and an endpoint on either side.
fn view() -> View {
    let endpoint =
        |id, node| Change::Endpoint { network: 0, id, node, router: false, alias: false };
    last(&[
        Change::Network { network: 0, families: 3, internal: false, overlap: false },
        Change::Peer { network: 0, node: 1, there: true },
        endpoint(0, 0),
        endpoint(1, 1),
        Change::Attach { container: 0, netns: 0, network: 0, id: 0 },
        Change::Shortcut { link: "eth0".into(), paths: 0xff },
    ])
}

fn edit(view: &mut View, change: impl FnOnce(&mut NetworkView)) {
    let network = view.networks.get_mut(&NetworkId(0)).unwrap();
    change(std::sync::Arc::make_mut(network));
}

#[test]
fn for_the_gateway_and_the_host_itself_nobody_else_answers() {
    let mut view = view();
    let network = &view.networks[&NetworkId(0)];
    let mut own = network.network.gateways();
    own.extend(network.network.addresses(network.lease.node_offset));
    let vni = network.network.vni.get();
    let before = shortcut_of(&plan(&view).kernel);
    let claims = own.clone();
    edit(&mut view, |network| {
        network.endpoints.get_mut(&EndpointId(1 << 16)).unwrap().addresses.extend(claims);
    });
    assert_eq!(shortcut_of(&plan(&view).kernel), before);
    assert_eq!(own.len(), 4);
    assert!(own.iter().all(|ip| !before.contains_key(&ShortcutKey::Neighbour(vni, *ip))));
}

#[test]
fn a_node_that_claims_a_mac_of_ours_has_no_row() {
    let mut view = view();
    let network = &view.networks[&NetworkId(0)];
    let (vni, ours) = (network.network.vni, network.lease.node_offset);
    let local = network.network.offset_of("10.3.0.2".parse().unwrap()).unwrap();
    for taken in [ours, local] {
        edit(&mut view, |network| {
            network.peers.values_mut().for_each(|peer| peer.node_offset = taken);
        });
        let kernel = plan(&view).kernel;
        let mac = Mac::of_endpoint(vni, taken).0;
        let shortcut = shortcut_of(&kernel);
        assert_eq!(shortcut.get(&ShortcutKey::Fdb(vni.get(), mac)), None);
        let row = Key::Fdb(device::vtep(vni), FdbTable::Bridge, mac);
        assert_eq!(kernel.get(&row), None, "the bridge has one row per MAC");
    }
    let free = weft_model::Offset(99);
    edit(&mut view, |network| {
        network.peers.values_mut().for_each(|peer| peer.node_offset = free);
    });
    let key = ShortcutKey::Fdb(vni.get(), Mac::of_endpoint(vni, free).0);
    assert!(shortcut_of(&plan(&view).kernel).contains_key(&key), "the guard takes too much");
}

#[test]
fn a_granted_prefix_is_what_its_length_says() {
    let mut view = view();
    let sources = ["192.168.7.1/16", "192.168.0.0/16", "::/0", "10.3.0.2/32"];
    edit(&mut view, |network| {
        let endpoint = network.endpoints.get_mut(&EndpointId(0)).unwrap();
        endpoint.allow_source = sources.iter().map(|net| net.parse().unwrap()).collect();
    });
    let granted: Vec<String> = shortcut_of(&plan(&view).kernel)
        .into_keys()
        .filter_map(|key| match key {
            ShortcutKey::Granted(_, net) => Some(net.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(granted, ["10.3.0.2/32", "192.168.0.0/16", "::/0"]);
}

#[test]
fn without_a_network_there_is_none() {
    let change = Change::Shortcut { link: "eth0".into(), paths: 0xff };
    assert!(plan(&last(&[change])).kernel.is_empty());
}

#[test]
fn a_network_without_peers_has_its_endpoints() {
    let mut view = view();
    edit(&mut view, |network| network.peers.clear());
    let keys: Vec<ShortcutKey> = shortcut_of(&plan(&view).kernel).into_keys().collect();
    let vni = view.networks[&NetworkId(0)].network.vni.get();
    let host_end = device::host_end(EndpointId(0));
    let expected = [
        ShortcutKey::Node,
        ShortcutKey::Neighbour(vni, "10.3.0.2".parse().unwrap()),
        ShortcutKey::Neighbour(vni, "fd00:0::2".parse().unwrap()),
        ShortcutKey::Endpoint(host_end.clone()),
        ShortcutKey::Program("eth0".into(), Attach::FromUnderlay),
        ShortcutKey::Program(host_end, Attach::FromContainer),
    ];
    assert_eq!(keys, expected);
}
