//! Puts the sections together, and remembers those that did not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_dns::NameTable;
use weft_dns::table::{Asker, NetworkNames};
use weft_kernel::state::Objects;
use weft_kernel::{KernelState, Key, Netns, Object, Section};
use weft_model::{EndpointId, NetworkId, device};

use crate::attachment::{Attachment, Attachments, Holder};
use crate::ground::Ground;
use crate::site::Site;
use crate::{
    HostFacts, NetworkView, NodePlan, Out, View, addresses, filters, links, names, routes, rows,
    shortcut, sysctls,
};

/// Plans view after view. What it hands out is what [`crate::plan`] would; a section whose inputs did not
/// change is the very one it handed out before, so that it need not be compared.
#[derive(Debug, Default)]
pub struct Planner {
    memo: Memo,
}

#[derive(Debug, Default)]
struct Memo {
    ground: Option<Ground>,
    networks: BTreeMap<NetworkId, OfNetwork>,
    containers: BTreeMap<Holder, OfContainer>,
    host: Option<OfHost>,
    names: Option<Arc<NameTable>>,
}

/// What is planned from one network, and from what.
#[derive(Debug, Clone)]
struct OfNetwork {
    view: Arc<NetworkView>,
    local: Vec<Place>,
    section: Arc<Objects>,
    names: Arc<NetworkNames>,
    /// Of the local endpoints' host ends.
    veths: BTreeMap<Section, Arc<Objects>>,
}

/// What is planned from one namespace, or from one container's lent ends, and from what.
#[derive(Debug, Clone)]
struct OfContainer {
    interfaces: Vec<(Arc<NetworkView>, Place)>,
    section: Arc<Objects>,
    askers: Vec<Asker>,
}

/// What is planned from all networks together, and from what.
#[derive(Debug, Clone)]
struct OfHost {
    facts: HostFacts,
    networks: Vec<Arc<NetworkView>>,
    /// The host's section; and what belongs to an uplink whose name looks like one of our devices'.
    sections: BTreeMap<Section, Arc<Objects>>,
}

/// Where an endpoint is; lent, nobody knows.
type Place = (EndpointId, Option<(Netns, String)>);

impl Planner {
    /// A planner that remembers nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the node of `view` should hold.
    pub fn plan(&mut self, view: &View) -> NodePlan {
        let ground = Ground::of(view);
        if self.memo.ground != Some(ground) {
            self.memo = Memo { ground: Some(ground), ..Memo::default() };
        }
        let attachments = Attachments::of(view);
        self.memo.networks = view
            .networks
            .iter()
            .map(|(id, network)| {
                let local = attachments.by_network.get(id).map_or(&[][..], Vec::as_slice);
                (*id, of_network(&ground, network, local, self.memo.networks.remove(id)))
            })
            .collect();
        self.memo.containers = attachments
            .by_holder
            .iter()
            .map(|(holder, interfaces)| {
                (*holder, of_container(&ground, interfaces, self.memo.containers.remove(holder)))
            })
            .collect();
        self.memo.host = Some(of_host(&ground, view, self.memo.host.take()));
        let names = self.names(view);
        NodePlan { generation: view.generation, kernel: self.kernel(), names }
    }

    fn kernel(&self) -> KernelState {
        let mut kernel = KernelState::new();
        let mut put = |section: &Section, objects: &Arc<Objects>| {
            kernel.set_section(section.clone(), Arc::clone(objects));
        };
        for network in self.memo.networks.values() {
            let section = Section::of_device(&device::bridge(network.view.network.vni));
            put(&section, &network.section);
            network.veths.iter().for_each(|(section, objects)| put(section, objects));
        }
        for (holder, container) in &self.memo.containers {
            if let Holder::Netns(netns) = holder {
                put(&Section::Container(*netns), &container.section);
            }
        }
        for (section, objects) in self.memo.host.iter().flat_map(|host| &host.sections) {
            if kernel.section(section).is_none() {
                kernel.set_section(section.clone(), Arc::clone(objects));
                continue;
            }
            for (key, object) in objects.iter() {
                kernel.insert(key.clone(), object.clone());
            }
        }
        kernel
    }

    fn names(&mut self, view: &View) -> Arc<NameTable> {
        let networks = self.memo.networks.values();
        let table = NameTable {
            generation: view.generation.0,
            networks: networks
                .map(|n| (n.view.network.name.folded(), Arc::clone(&n.names)))
                .collect(),
            askers: self.memo.containers.values().flat_map(|c| c.askers.clone()).collect(),
        };
        let names = reuse(self.memo.names.take(), table);
        self.memo.names = Some(Arc::clone(&names));
        names
    }
}

fn of_network(
    ground: &Ground,
    view: &Arc<NetworkView>,
    local: &[Attachment<'_>],
    before: Option<OfNetwork>,
) -> OfNetwork {
    let same = |before: &OfNetwork| {
        Arc::ptr_eq(&before.view, view)
            && before.local.len() == local.len()
            && before.local.iter().zip(local).all(|(old, now)| is_place(old, now))
    };
    let before = match before {
        Some(before) if same(&before) => return before,
        other => other,
    };
    let site = Site { ground, view, local };
    let rows = rows::Rows::of(&site);
    let mut out = Out::new();
    links::of_network(&site, &mut out);
    filters::device::of_network(&site, &mut out);
    sysctls::of_network(&site, &mut out);
    addresses::of_network(&site, &mut out);
    routes::of_network(&site, &mut out);
    rows::of_network(&site, &rows, &mut out);
    if ground.shortcut {
        shortcut::of_network(&site, &rows, &mut out);
    }
    let names = names::of_network(&site);
    let (section, known, mut veths) = match before {
        Some(before) => (Some(before.section), Some(before.names), before.veths),
        None => (None, None, BTreeMap::new()),
    };
    let of_endpoint = |at: &Attachment<'_>| {
        let mut out = Out::new();
        links::of_endpoint(ground, at, &mut out);
        filters::device::of_endpoint(at, &mut out);
        rows::of_endpoint(at, &mut out);
        if ground.shortcut {
            shortcut::of_endpoint(at, &mut out);
        }
        let section = Section::of_device(&at.host_end());
        let objects = reuse(veths.remove(&section), out.into_iter().collect());
        (section, objects)
    };
    OfNetwork {
        veths: local.iter().map(of_endpoint).collect(),
        view: Arc::clone(view),
        local: local.iter().map(place).collect(),
        section: reuse(section, out.into_iter().collect()),
        names: reuse(known, names),
    }
}

fn of_container(
    ground: &Ground,
    interfaces: &[Attachment<'_>],
    before: Option<OfContainer>,
) -> OfContainer {
    let places: Vec<(Arc<NetworkView>, Place)> =
        interfaces.iter().map(|at| (Arc::clone(at.view), place(at))).collect();
    let same = |before: &OfContainer| {
        before.interfaces.len() == places.len()
            && before
                .interfaces
                .iter()
                .zip(&places)
                .all(|((old_view, old), (view, new))| Arc::ptr_eq(old_view, view) && old == new)
    };
    let before = match before {
        Some(before) if same(&before) => return before,
        other => other.map(|before| before.section),
    };
    let mut out = Out::new();
    for at in interfaces {
        links::of_container(ground, at, &mut out);
        sysctls::of_container(ground, at, &mut out);
        addresses::of_container(ground, at, &mut out);
    }
    routes::of_container(ground, interfaces, &mut out);
    OfContainer {
        interfaces: interfaces.iter().map(|at| (Arc::clone(at.view), place(at))).collect(),
        section: reuse(before, out.into_iter().collect()),
        askers: names::askers(interfaces),
    }
}

fn of_host(ground: &Ground, view: &View, before: Option<OfHost>) -> OfHost {
    let networks: Vec<Arc<NetworkView>> = view.networks.values().cloned().collect();
    let same = |before: &OfHost| {
        before.facts == view.facts
            && before.networks.len() == networks.len()
            && before.networks.iter().zip(&networks).all(|(old, new)| same_outline(old, new))
    };
    if let Some(before) = before.filter(same) {
        return OfHost { networks, ..before };
    }
    let mut out = Out::new();
    if !networks.is_empty() {
        let sites: Vec<Site<'_>> =
            networks.iter().map(|view| Site { ground, view, local: &[] }).collect();
        filters::host::of_host(ground, &sites, &mut out);
        filters::foreign::of_host(ground, &view.facts.drop_chains, &mut out);
        sysctls::of_host(ground, &view.facts, sites.iter().map(Site::network), &mut out);
        if let Some(facts) = &view.facts.shortcut {
            shortcut::of_host(ground, facts, &sites, &mut out);
        }
    }
    let mut sections: BTreeMap<Section, Vec<(Key, Object)>> = BTreeMap::new();
    for (key, object) in out {
        sections.entry(key.section()).or_default().push((key, object));
    }
    let share = |(section, out): (Section, Out)| (section, Arc::new(out.into_iter().collect()));
    let sections = sections.into_iter().map(share).collect();
    OfHost { facts: view.facts.clone(), networks, sections }
}

/// Whether the host's section cannot tell the two apart: it does not depend on endpoints.
fn same_outline(old: &Arc<NetworkView>, new: &Arc<NetworkView>) -> bool {
    Arc::ptr_eq(old, new)
        || (old.network == new.network
            && old.lease.node_offset == new.lease.node_offset
            && old.peers == new.peers)
}

fn place(at: &Attachment<'_>) -> Place {
    (at.endpoint.id, at.inside.map(|(netns, link)| (netns, link.to_owned())))
}

fn is_place(place: &Place, at: &Attachment<'_>) -> bool {
    let inside = place.1.as_ref().map(|(netns, link)| (*netns, link.as_str()));
    place.0 == at.endpoint.id && inside == at.inside
}

/// The old one where nothing changed.
fn reuse<T: PartialEq>(before: Option<Arc<T>>, now: T) -> Arc<T> {
    match before {
        Some(before) if *before == now => before,
        _ => Arc::new(now),
    }
}
