//! Takes steps: rows hundreds to a system call, filters in one transaction, all else one by one.

mod lend;
mod links;
mod rows;
mod shortcut;

use std::collections::BTreeMap;

use nix::errno::Errno;
use weft_kernel::{Fault, Key, Netns, NetnsId, Object, Step};

use crate::fault::Trouble;
use crate::netns::{self, Inside};
use crate::{Linux, addr, call, legacy, link_write, nft, route, sysctl};

pub(crate) use lend::lend;

/// Containers that are held open at once: a process may have so many files only.
const INSIDES: usize = 64;

/// The results so far, by the number of their step.
type Results = Vec<Result<(), Trouble>>;

/// How a step is taken, and what may be taken together with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Rows,
    Filters,
    Legacy,
    Sysctls(Netns),
    Shortcut,
    Single,
}

fn lane(key: &Key) -> Lane {
    match key {
        Key::Neighbour(..) | Key::Fdb(..) | Key::Flood(..) => Lane::Rows,
        Key::ForeignRule(table, ..) if legacy::is_legacy(table) => Lane::Legacy,
        Key::Table(_)
        | Key::Set(..)
        | Key::Element(..)
        | Key::Chain(..)
        | Key::DeviceChain(..)
        | Key::ForeignRule(..) => Lane::Filters,
        Key::Sysctl(ns, _) => Lane::Sysctls(*ns),
        Key::Shortcut(_) => Lane::Shortcut,
        Key::Link(..) | Key::Address(..) | Key::Up(..) | Key::Route(..) => Lane::Single,
    }
}

/// A link of ours that steps work on.
#[derive(Debug, Clone, Copy)]
struct Owned {
    index: u32,
    is_bridge: bool,
}

/// One call of [`apply`].
struct Session<'a> {
    linux: &'a mut Linux,
    steps: &'a [Step],
    /// Links that were found to be ours.
    owned: BTreeMap<(Netns, String), Owned>,
    /// Containers that were entered; closed at the end, so that they can die.
    insides: BTreeMap<NetnsId, Inside>,
}

pub(crate) fn apply(linux: &mut Linux, steps: &[Step]) -> Vec<Result<(), Fault>> {
    let mut session = Session { linux, steps, owned: BTreeMap::new(), insides: BTreeMap::new() };
    let mut results = Results::with_capacity(steps.len());
    let quiet = steps.iter().any(|step| lane(step.key()) != Lane::Rows);
    if quiet {
        session.linux.own.changes();
    }
    for step in steps {
        if let Some(Netns::Container(id)) = step.key().netns() {
            session.linux.interiors.remove(&id);
        }
    }
    while results.len() < steps.len() {
        let rest = &steps[results.len()..];
        let Some(first) = rest.first() else { break };
        let this = lane(first.key());
        let count = rest.iter().take_while(|step| lane(step.key()) == this).count();
        let run = &rest[..count.max(1)];
        match this {
            Lane::Rows => session.rows(run, &mut results),
            Lane::Filters => results.extend(nft::apply(&mut session.linux.nft, run)),
            Lane::Legacy => results.extend(legacy::apply(run)),
            Lane::Sysctls(ns) => session.sysctls(ns, run, &mut results),
            Lane::Shortcut => session.shortcut(run, &mut results),
            Lane::Single => results.extend(run.iter().map(|step| session.single(step))),
        }
    }
    if quiet {
        session.linux.own.changes();
    }
    for step in steps {
        if let Some(Netns::Container(id)) = step.key().netns() {
            session.linux.interiors.remove(&id);
        }
    }
    let faults = results.into_iter().zip(steps);
    faults.map(|(result, step)| result.map_err(|trouble| trouble.of(call::call(step)))).collect()
}

/// Key and object that do not belong together: a planner's mistake.
pub(crate) fn mismatch() -> Trouble {
    Trouble::new(Errno::EINVAL, "the object is of another kind than its key")
}

impl Session<'_> {
    fn single(&mut self, step: &Step) -> Result<(), Trouble> {
        match step {
            Step::Put(Key::Link(ns, name), Object::Link(link)) => self.put_link(*ns, name, link),
            Step::Put(Key::Address(ns, name, net), Object::Address) => {
                let own_route = *ns == Netns::Host && !addr::is_link_local(net.addr());
                let link = self.owned(*ns, name)?;
                addr::put(self.socket(*ns)?, link.index, net, own_route)
            }
            Step::Put(Key::Up(ns, name), Object::Up) => self.put_up(*ns, name),
            Step::Put(Key::Route(ns, to, name), Object::Route(route)) => {
                let link = self.owned(*ns, name)?;
                route::put(self.socket(*ns)?, to, link.index, route)
            }
            Step::Put(..) => Err(mismatch()),
            Step::Delete(key) => match self.delete(key) {
                // What sits on nothing of ours is not ours.
                Err(trouble)
                    if trouble.errno() == Errno::ENODEV
                        || trouble.kind() != weft_kernel::FaultKind::Again =>
                {
                    Ok(())
                }
                result => result,
            },
        }
    }

    fn delete(&mut self, key: &Key) -> Result<(), Trouble> {
        match key {
            Key::Link(ns, name) => self.delete_link(*ns, name),
            Key::Address(ns, name, net) => {
                let link = self.owned(*ns, name)?;
                let socket = self.socket(*ns)?;
                let ours = addr::all(socket)?;
                match ours.iter().find(|a| a.link == link.index && a.net == *net) {
                    Some(_) => addr::delete(socket, link.index, net),
                    None => Ok(()),
                }
            }
            Key::Up(ns, name) => {
                let link = self.owned(*ns, name)?;
                link_write::set_up(self.socket(*ns)?, link.index, false)
            }
            Key::Route(ns, to, name) => {
                let link = self.owned(*ns, name)?;
                route::delete(self.socket(*ns)?, to, link.index)
            }
            _ => Err(mismatch()),
        }
    }

    /// The route socket of a namespace.
    fn socket(&mut self, ns: Netns) -> Result<&mut crate::netlink::Socket, Trouble> {
        match ns {
            Netns::Host => Ok(&mut self.linux.route),
            Netns::Container(id) => Ok(&mut self.inside(id)?.route),
        }
    }

    /// A container, entered once for all steps.
    fn inside(&mut self, id: NetnsId) -> Result<&mut Inside, Trouble> {
        if !self.insides.contains_key(&id) {
            if self.insides.len() >= INSIDES {
                self.insides.clear();
            }
            let inside = netns::open(self.path(id)?, id)?;
            self.insides.insert(id, inside);
        }
        self.insides.get_mut(&id).ok_or_else(|| Trouble::netns_gone("not entered"))
    }

    fn path(&self, id: NetnsId) -> Result<&std::path::Path, Trouble> {
        let path = self.linux.namespaces.get(&id);
        path.map(std::path::PathBuf::as_path)
            .ok_or_else(|| Trouble::netns_gone(format!("no path is known to namespace {}", id.0)))
    }

    /// Sysctls of one namespace, in one visit.
    fn sysctls(&mut self, ns: Netns, steps: &[Step], results: &mut Results) {
        let write = |step: &Step| match step {
            Step::Put(Key::Sysctl(_, path), Object::Sysctl(value)) => sysctl::write(path, value),
            Step::Put(..) => Err(mismatch()),
            // Nobody knows what it was before, and nobody else may want it so by now.
            Step::Delete(_) => Ok(()),
        };
        let written: Result<Results, Trouble> = match ns {
            Netns::Host => Ok(steps.iter().map(write).collect()),
            Netns::Container(_) if steps.iter().all(|s| matches!(s, Step::Delete(_))) => {
                Ok(steps.iter().map(|_| Ok(())).collect())
            }
            Netns::Container(id) => self.path(id).and_then(|path| {
                netns::enter(path, Some(id), |_, _| Ok(steps.iter().map(write).collect()))
            }),
        };
        match written {
            Ok(written) => {
                for (step, result) in steps.iter().zip(&written) {
                    self.watch_sysctl(step, result.is_ok());
                }
                results.extend(written);
            }
            Err(trouble) => results.extend(steps.iter().map(|_| Err(trouble.clone()))),
        }
    }

    fn watch_sysctl(&mut self, step: &Step, done: bool) {
        match step {
            Step::Put(Key::Sysctl(ns, path), _) if done => {
                self.linux.sysctls.insert((*ns, path.clone()));
            }
            Step::Delete(Key::Sysctl(ns, path)) => {
                self.linux.sysctls.remove(&(*ns, path.clone()));
            }
            Step::Put(..) | Step::Delete(_) => {}
        }
    }
}
