//! What holds for every plan.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod world;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use weft_kernel::fake::FakeKernel;
use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{
    Attach, FdbTable, KernelState, Key, Netns, NetnsId, Object, Section, ShortcutKey, Step,
};
use weft_model::{Mac, device};
use weft_plan::{Inside, NodePlan, Planner, View, plan};

use world::{Change, HERE, attached, changes, elsewhere};

/// The views that the changes lead through.
fn views(changes: &[Change]) -> Vec<View> {
    let mut view = world::empty();
    let mut all = vec![view.clone()];
    for change in changes {
        world::apply(&mut view, change);
        all.push(view.clone());
    }
    all
}

fn last(changes: &[Change]) -> View {
    views(changes).pop().unwrap_or_else(world::empty)
}

fn links_of(key: &Key, object: &Object) -> Vec<String> {
    let mut links = match key {
        Key::Link(Netns::Host, link) | Key::Up(Netns::Host, link) => vec![link.clone()],
        other => other
            .sits_on()
            .filter(|(ns, _)| *ns == Netns::Host)
            .map(|(_, l)| l.to_owned())
            .into_iter()
            .collect(),
    };
    if let Object::Link(Link { port: Some(port), .. }) = object {
        links.push(port.bridge.clone());
    }
    links
}

/// The links of the underlay are not planned.
fn is_at_uplink(key: &Key) -> bool {
    matches!(key, Key::Shortcut(ShortcutKey::Program(_, Attach::FromUnderlay)))
}

/// All objects in the order in which they are made.
fn in_order(kernel: &KernelState) -> BTreeMap<Key, Object> {
    kernel.iter().map(|(key, object)| (key.clone(), object.clone())).collect()
}

/// A kernel with the containers of a view, and with what others have on it.
fn kernel_for(view: &View, plan: &NodePlan) -> FakeKernel {
    let mut kernel = FakeKernel::new();
    for netns in 0..4 {
        kernel.add_netns(NetnsId(netns));
    }
    for link in &view.facts.router_advertisement_links {
        let foreign = Link {
            kind: LinkKind::Bridge,
            mac: [0; 6],
            mtu: 1500,
            alias: String::new(),
            port: None,
        };
        kernel.put_foreign(Key::Link(Netns::Host, link.clone()), Object::Link(foreign));
    }
    for (key, object) in in_order(&plan.kernel) {
        match (key, object) {
            (Key::ForeignRule(table, chain, _), _) => {
                kernel.put_foreign(Key::Chain(table, chain), Object::Table);
            }
            (Key::Link(_, name), Object::Link(link)) if link.kind == LinkKind::Lent => {
                kernel.lend(&name, &link).unwrap();
            }
            _ => {}
        }
    }
    kernel
}

proptest! {
    #[test]
    fn a_planner_says_what_plan_says(changes in changes()) {
        let mut planner = Planner::new();
        for view in views(&changes) {
            prop_assert_eq!(planner.plan(&view), plan(&view));
        }
    }

    #[test]
    fn what_did_not_change_is_the_very_same(changes in changes()) {
        let mut planner = Planner::new();
        let mut before: Option<KernelState> = None;
        for view in views(&changes) {
            let now = planner.plan(&view).kernel;
            for (section, objects) in before.iter().flat_map(KernelState::sections) {
                let Some(new) = now.section(section) else { continue };
                // A change of the ground plans everything anew, and what belongs to an uplink may
                // lie in a section that is not its own.
                let underlay = view.facts.shortcut.iter().flat_map(|shortcut| &shortcut.links);
                let mut links = view.facts.router_advertisement_links.iter().chain(underlay);
                let shared = links.all(|l| l != "x-570001" && l != "br-lan");
                let same_ground = !matches!(
                    changes.get((view.generation.0 as usize).wrapping_sub(1)),
                    Some(Change::Ipv6 { .. } | Change::Underlay { .. } | Change::Shortcut { .. } | Change::NoShortcut)
                );
                if shared && same_ground && new == objects && *section != Section::Host {
                    prop_assert!(Arc::ptr_eq(new, objects), "{section} was made anew");
                }
            }
            before = Some(now);
        }
    }

    #[test]
    fn everything_sits_on_a_planned_link(changes in changes()) {
        let kernel = plan(&last(&changes)).kernel;
        for (key, object) in kernel.iter().filter(|(key, _)| !is_at_uplink(key)) {
            for link in links_of(key, object) {
                prop_assert!(kernel.get(&Key::Link(Netns::Host, link)).is_some(), "{key}");
            }
            if let Some((ns, link)) = key.sits_on() {
                prop_assert!(kernel.get(&Key::Link(ns, link.to_owned())).is_some(), "{key}");
            }
        }
    }

    #[test]
    fn a_network_has_its_section_and_no_other_has_it(changes in changes()) {
        let view = last(&changes);
        let kernel = plan(&view).kernel;
        let expected: BTreeMap<Section, String> = view
            .networks
            .values()
            .map(|n| (Section::of_device(&device::bridge(n.network.vni)), n.network.vni.to_string()))
            .collect();
        for (section, objects) in kernel.sections() {
            let bridges = objects.values().filter(|object| {
                matches!(object, Object::Link(link) if link.kind == LinkKind::Bridge)
            });
            let expected = usize::from(expected.contains_key(section));
            prop_assert_eq!(bridges.count(), expected, "{}", section);
        }
        prop_assert!(expected.keys().all(|section| kernel.section(section).is_some()));
        for key in in_order(&kernel).into_keys() {
            if let Key::Element(_, _, element) = &key {
                let vni = element.rsplit(' ').next().unwrap_or_default();
                prop_assert!(expected.values().any(|known| known == vni), "{key}");
            }
        }
    }

    #[test]
    fn every_remote_endpoint_has_exactly_its_rows(changes in changes()) {
        let view = last(&changes);
        let kernel = plan(&view).kernel;
        let here = attached(&view);
        for network in view.networks.values() {
            let (wb, wv) = (device::bridge(network.network.vni), device::vtep(network.network.vni));
            let mut expected = BTreeMap::new();
            for (mac, addresses, vtep) in elsewhere(network) {
                let row = |table| Key::Fdb(wv.clone(), table, mac.0);
                expected.insert(row(FdbTable::Device), Object::Fdb(Some(vtep)));
                expected.insert(row(FdbTable::Bridge), Object::Fdb(None));
                expected.insert(Key::Flood(wv.clone(), vtep), Object::Flood);
                for address in addresses.iter().filter(|a| a.is_ipv4() || view.facts.ipv6) {
                    expected.insert(Key::Neighbour(wb.clone(), *address), Object::Neighbour(mac.0));
                }
            }
            for peer in network.peers.iter().filter(|(node, _)| **node != HERE) {
                expected.insert(Key::Flood(wv.clone(), peer.1.data_address), Object::Flood);
            }
            for endpoint in network.endpoints.values().filter(|e| here.contains(&e.id)) {
                let row = Key::Fdb(device::host_end(endpoint.id), FdbTable::Bridge, endpoint.mac.0);
                prop_assert_eq!(kernel.get(&row), Some(&Object::Fdb(None)));
                for address in endpoint.addresses.iter().filter(|a| a.is_ipv4() || view.facts.ipv6) {
                    let key = Key::Neighbour(wb.clone(), *address);
                    expected.insert(key, Object::Neighbour(endpoint.mac.0));
                }
            }
            let node = Mac::of_endpoint(network.network.vni, network.lease.node_offset);
            expected.insert(Key::Fdb(wb.clone(), FdbTable::Bridge, node.0), Object::Fdb(None));
            let rows: BTreeMap<Key, Object> = in_order(&kernel)
                .into_iter()
                .filter(|(key, _)| matches!(key, Key::Neighbour(l, _) | Key::Fdb(l, ..) | Key::Flood(l, _) if *l == wb || *l == wv))
                .collect();
            prop_assert_eq!(rows, expected);
        }
    }

    #[test]
    fn a_kernel_takes_the_plan_in_order_and_gives_it_back(changes in changes()) {
        let view = last(&changes);
        let plan = plan(&view);
        let mut kernel = kernel_for(&view, &plan);
        let objects = in_order(&plan.kernel);
        for (key, object) in &objects {
            let done = kernel.apply(&[Step::Put(key.clone(), object.clone())]).remove(0);
            prop_assert!(done.is_ok(), "{key}: {done:?}");
        }
        prop_assert_eq!(kernel.observe(), plan.kernel);
        for key in objects.into_keys().rev().filter(|key| !matches!(key, Key::Sysctl(..))) {
            let done = kernel.apply(&[Step::Delete(key.clone())]).remove(0);
            prop_assert!(done.is_ok(), "{key}: {done:?}");
        }
    }

    #[test]
    fn what_is_lent_has_the_hosts_side_of_what_is_not(changes in changes()) {
        let view = last(&changes);
        let mut lent = view.clone();
        lent.containers.values_mut().for_each(|container| container.inside = Inside::Lent);
        let (own, lent) = (plan(&view), plan(&lent));
        let inside = |(key, _): &(&Key, &Object)| matches!(key.section(), Section::Container(_));
        prop_assert!(!lent.kernel.iter().any(|object| inside(&object)));
        for (key, object) in own.kernel.iter().filter(|object| !inside(object)) {
            let other = lent.kernel.get(key);
            match (object, other) {
                (Object::Link(own), Some(Object::Link(lent))) if own.kind != lent.kind => {
                    prop_assert_eq!(&lent.kind, &LinkKind::Lent);
                    prop_assert_eq!(&lent.alias, &own.alias.replace("weft endpoint", "weft lent"));
                    let (kind, alias) = (own.kind.clone(), own.alias.clone());
                    prop_assert_eq!(&Link { kind, alias, ..lent.clone() }, own);
                }
                _ => prop_assert_eq!(other, Some(object), "{}", key),
            }
        }
        prop_assert!(lent.names.askers.len() >= own.names.askers.len());
    }

    #[test]
    fn names_are_those_of_what_can_be_reached(changes in changes()) {
        let view = last(&changes);
        let table = plan(&view).names;
        let here = attached(&view);
        prop_assert_eq!(table.generation, view.generation.0);
        prop_assert_eq!(table.networks.len(), view.networks.len());
        for network in view.networks.values() {
            let names = &table.networks[&network.network.name.folded()];
            let reachable = network.endpoints.values().filter(|e| {
                here.contains(&e.id) || (e.node != HERE && network.peers.contains_key(&e.node))
            });
            let expected: Vec<Vec<IpAddr>> = reachable.map(|e| e.addresses.clone()).collect();
            let told: Vec<Vec<IpAddr>> = names.records.iter().map(|r| r.addresses.clone()).collect();
            prop_assert_eq!(told, expected);
            prop_assert!(names.records.iter().flat_map(|r| &r.names).all(|n| *n == n.to_lowercase()));
        }
        prop_assert_eq!(table.askers.len(), here.len());
        for asker in &table.askers {
            let internal = |name: &String| table.networks[name].internal;
            prop_assert_eq!(asker.forward, !asker.networks.iter().all(internal));
        }
    }
}
