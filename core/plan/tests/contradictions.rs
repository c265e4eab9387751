//! A view that contradicts itself still gives a plan, and one that the kernel can hold: nothing
//! is in two places, and nothing leads back to ourselves.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

#[expect(dead_code, reason = "the other tests need the rest")]
mod world;

use weft_kernel::{FdbTable, Key, LinkKind, Netns, NetnsId, Object};
use weft_model::{EndpointId, Mac, NetworkId, NodeId, device};
use weft_plan::{Inside, NetworkView, Planner, View, plan};

use world::Change;

const WV: &str = "wv-570000";

/// Network 0 with nodes 1 and 2, endpoint 0 here in container 0, endpoint 1 on node 1.
fn view() -> View {
    let mut view = world::empty();
    let endpoint =
        |id, node| Change::Endpoint { network: 0, id, node, router: false, alias: false };
    for change in [
        Change::Network { network: 0, families: 1, internal: false, overlap: false },
        Change::Peer { network: 0, node: 1, there: true },
        Change::Peer { network: 0, node: 2, there: true },
        endpoint(0, 0),
        endpoint(1, 1),
        Change::Attach { container: 0, netns: 0, network: 0, id: 0 },
    ] {
        world::apply(&mut view, &change);
    }
    view
}

fn edit(view: &mut View, change: impl FnOnce(&mut NetworkView)) {
    let network = view.networks.get_mut(&NetworkId(0)).unwrap();
    let mut copy = NetworkView::clone(network);
    change(&mut copy);
    *network = std::sync::Arc::new(copy);
}

fn id(n: u64) -> EndpointId {
    EndpointId(n << 16)
}

fn device_row(mac: Mac) -> Key {
    Key::Fdb(WV.into(), FdbTable::Device, mac.0)
}

#[test]
fn a_mac_that_is_here_is_not_elsewhere_too() {
    let mut view = view();
    let mac = view.networks[&NetworkId(0)].endpoints[&id(0)].mac;
    edit(&mut view, |network| network.endpoints.get_mut(&id(1)).unwrap().mac = mac);
    let plan = plan(&view);
    assert_eq!(plan.kernel.get(&device_row(mac)), None);
    assert_eq!(plan.kernel.get(&Key::Fdb(WV.into(), FdbTable::Bridge, mac.0)), None);
    let here = Key::Fdb(device::host_end(id(0)), FdbTable::Bridge, mac.0);
    assert_eq!(plan.kernel.get(&here), Some(&Object::Fdb(None)));
    assert_eq!(plan.names.networks["net0"].records.len(), 1);
}

#[test]
fn nobody_else_has_the_gateways_mac_or_this_nodes() {
    let mut view = view();
    let network = &view.networks[&NetworkId(0)];
    let own = Mac::of_endpoint(network.network.vni, network.lease.node_offset);
    for mac in [own, network.network.gateway_mac()] {
        let mut view = view.clone();
        edit(&mut view, |network| network.endpoints.get_mut(&id(1)).unwrap().mac = mac);
        assert_eq!(plan(&view).kernel.get(&device_row(mac)), None);
    }
    let mac = view.networks[&NetworkId(0)].endpoints[&id(1)].mac;
    assert!(plan(&view).kernel.get(&device_row(mac)).is_some(), "the guard takes too much");
    edit(&mut view, |network| {
        network.peers.remove(&NodeId(1));
    });
    assert_eq!(plan(&view).kernel.get(&device_row(mac)), None);
}

#[test]
fn two_local_endpoints_with_one_mac_are_one() {
    let mut view = view();
    let mac = view.networks[&NetworkId(0)].endpoints[&id(0)].mac;
    let twin = Change::Endpoint { network: 0, id: 2, node: 0, router: false, alias: false };
    world::apply(&mut view, &twin);
    world::apply(&mut view, &Change::Attach { container: 1, netns: 1, network: 0, id: 2 });
    let second = Key::Link(Netns::Host, device::host_end(id(2)));
    assert!(plan(&view).kernel.get(&second).is_some(), "two MACs are two endpoints");
    edit(&mut view, |network| network.endpoints.get_mut(&id(2)).unwrap().mac = mac);
    assert_eq!(plan(&view).kernel.get(&second), None);
    assert_eq!(plan(&view).names.askers.len(), 1);
}

#[test]
fn lent_ends_of_one_container_do_not_need_names_and_have_no_inside() {
    let mut view = view();
    let second = Change::Endpoint { network: 0, id: 2, node: 0, router: false, alias: false };
    world::apply(&mut view, &second);
    world::apply(&mut view, &Change::Attach { container: 0, netns: 0, network: 0, id: 2 });
    let container = view.containers.values_mut().next().unwrap();
    for interface in &mut container.interfaces {
        interface.name.clear();
    }
    let end = |n| Key::Link(Netns::Host, device::host_end(id(n)));
    assert_eq!(plan(&view).kernel.get(&end(2)), None, "two of one name in one namespace are one");
    view.containers.values_mut().next().unwrap().inside = Inside::Lent;
    let plan = plan(&view);
    for n in [0, 2] {
        let Some(Object::Link(link)) = plan.kernel.get(&end(n)) else { panic!("no end {n}") };
        assert_eq!(link.kind, LinkKind::Lent);
        assert_eq!(link.alias, format!("weft lent App-{n}"));
        let up = Key::Up(Netns::Host, device::host_end(id(n)));
        assert_eq!(plan.kernel.get(&up), Some(&Object::Up));
    }
    let inside = |key: &Key| matches!(key.netns(), Some(Netns::Container(_)));
    assert!(!plan.kernel.iter().any(|(key, _)| inside(key)));
    assert_eq!(plan.names.askers.len(), 2, "it may ask for names all the same");
}

#[test]
fn a_planner_notices_that_somebody_else_looks_after_a_container() {
    let mut planner = Planner::new();
    let own = view();
    let mut lent = own.clone();
    lent.containers.values_mut().for_each(|container| container.inside = Inside::Lent);
    for view in [&own, &lent, &own] {
        assert_eq!(planner.plan(view), plan(view));
    }
    assert_ne!(plan(&own).kernel, plan(&lent).kernel);
}

#[test]
fn a_peer_at_our_own_address_is_none() {
    let mut view = view();
    let ours = view.data_address;
    edit(&mut view, |network| network.peers.get_mut(&NodeId(1)).unwrap().data_address = ours);
    let plan = plan(&view);
    assert_eq!(plan.kernel.get(&Key::Flood(WV.into(), ours)), None);
    let towards_us = |object: &Object| matches!(object, Object::Fdb(Some(vtep)) if *vtep == ours);
    assert!(!plan.kernel.iter().any(|(_, object)| towards_us(object)));
    let member = |key: &Key| matches!(key, Key::Element(_, _, e) if e.starts_with("172.10.0.10 "));
    assert!(!plan.kernel.iter().any(|(key, _)| member(key)));
}

#[test]
fn an_address_outside_of_the_network_is_not_on_the_interface() {
    let mut view = view();
    edit(&mut view, |network| {
        network.endpoints.get_mut(&id(0)).unwrap().addresses.push("192.0.2.1".parse().unwrap());
    });
    let container = Netns::Container(NetnsId(0));
    let addresses: Vec<String> = plan(&view)
        .kernel
        .iter()
        .filter_map(|(key, _)| match key {
            Key::Address(ns, _, net) if *ns == container => Some(net.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(addresses, ["10.3.0.2/24"]);
}

#[test]
fn attachments_without_endpoint_or_network_are_nothing() {
    let mut view = view();
    let before = plan(&view).kernel;
    world::apply(&mut view, &Change::Attach { container: 1, netns: 1, network: 0, id: 9 });
    world::apply(&mut view, &Change::Attach { container: 1, netns: 1, network: 7, id: 0 });
    world::apply(&mut view, &Change::Attach { container: 1, netns: 1, network: 0, id: 1 });
    assert_eq!(plan(&view).kernel, before);
}

#[test]
fn without_networks_nothing_is_touched() {
    let mut view = view();
    world::apply(&mut view, &Change::Uplink { link: "eth0".into() });
    world::apply(&mut view, &Change::Drops { input: true, v6: false });
    world::apply(&mut view, &Change::NoNetwork { network: 0 });
    assert!(plan(&view).kernel.is_empty());
}

#[test]
fn two_endpoints_with_one_veth_name_are_one() {
    let mut view = view();
    let twin = Change::Endpoint { network: 0, id: 2, node: 0, router: false, alias: false };
    world::apply(&mut view, &twin);
    edit(&mut view, |network| {
        let mut twin = network.endpoints.remove(&id(2)).unwrap();
        twin.id = EndpointId(id(0).0 + 1);
        network.endpoints.insert(twin.id, twin);
    });
    let before = plan(&view).kernel;
    world::apply(&mut view, &Change::Attach { container: 1, netns: 1, network: 0, id: 0 });
    let container = view.containers.values_mut().last().unwrap();
    container.interfaces[0].endpoint = EndpointId(id(0).0 + 1);
    assert_eq!(plan(&view).kernel, before);
}

#[test]
fn an_uplink_that_is_named_like_one_of_ours_keeps_its_sysctl() {
    let mut view = view();
    let six = Change::Network { network: 1, families: 2, internal: false, overlap: false };
    world::apply(&mut view, &six);
    let before = plan(&view).kernel;
    world::apply(&mut view, &Change::Uplink { link: "x-570001".into() });
    let now = plan(&view).kernel;
    let sysctl = Key::Sysctl(Netns::Host, "net/ipv6/conf/x-570001/accept_ra".into());
    assert_eq!(now.get(&sysctl), Some(&Object::Sysctl("2".into())));
    assert_eq!(now.len(), before.len() + 1);
}
