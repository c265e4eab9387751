//! What the kernel refuses.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{FakeKernel, kind_of};
use crate::key::{FdbTable, Key, Netns, TableName};
use crate::nft::{Chain, Match, Statement};
use crate::object::{Link, LinkKind, Object, Port, Route};
use crate::{Attach, Fault, ShortcutKey, ShortcutObject, Step};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const EXFULL: i32 = 54;
const EOPNOTSUPP: i32 = 95;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;

/// Ports of one bridge (`BR_MAX_PORTS` less the number 0).
const MAX_PORTS: usize = 1023;

/// How links of ours are named: one of these that is not there will not be somebody else's.
const OUR_PREFIXES: [&str; 3] = ["wb-", "wv-", "we-"];

/// Why a step is refused.
pub(super) enum Refusal {
    /// With this errno.
    Errno(i32),
    /// The namespace does not exist.
    NetnsGone,
    /// Somebody else's object is there.
    Taken,
    /// There is no such pair: steps make none.
    NotLent,
}

pub(super) fn fault(step: &Step, refused: &Refusal) -> Fault {
    let verb = if matches!(step, Step::Put(..)) { "put" } else { "delete" };
    let (errno, message, hint) = match refused {
        Refusal::Errno(errno) => (*errno, format!("error {errno}"), String::new()),
        Refusal::NetnsGone => (ENOENT, "the namespace is gone".to_owned(), String::new()),
        Refusal::Taken => (
            EEXIST,
            "somebody else's object is there".to_owned(),
            "rename or remove the other object".to_owned(),
        ),
        Refusal::NotLent => {
            (ENODEV, "the container's end is gone".to_owned(), "restart the container".to_owned())
        }
    };
    Fault { call: format!("{verb} {:?}", step.key()), errno, message, kind: kind_of(refused), hint }
}

impl FakeKernel {
    pub(super) fn refusal(&self, step: &Step) -> Option<Refusal> {
        let key = step.key();
        if self.netns_of(key).is_some_and(|netns| !self.exists(netns)) {
            return Some(Refusal::NetnsGone);
        }
        match step {
            Step::Delete(key) => self.delete_errno(key).map(Refusal::Errno),
            Step::Put(key, object) => {
                let carrier = key.sits_on().filter(|_| !is_at_others_link(key));
                let carrier = carrier.map(|(ns, link)| Key::Link(ns, link.to_owned()));
                if self.foreign.contains_key(key)
                    || carrier.is_some_and(|link| self.foreign.contains_key(&link))
                {
                    return Some(Refusal::Taken);
                }
                if let Object::Link(Link { kind: LinkKind::Veth { peer_netns, .. }, .. }) = object
                    && !self.exists(*peer_netns)
                {
                    return Some(Refusal::NetnsGone);
                }
                match self.put_errno(key, object) {
                    None if self.is_not_lent(key, object) => Some(Refusal::NotLent),
                    errno => errno.map(Refusal::Errno),
                }
            }
        }
    }

    fn is_not_lent(&self, key: &Key, object: &Object) -> bool {
        let lent = matches!(object, Object::Link(Link { kind: LinkKind::Lent, .. }));
        lent && self.ours.get(key).is_none()
    }

    fn netns_of(&self, key: &Key) -> Option<Netns> {
        match key {
            Key::Link(ns, _)
            | Key::Address(ns, ..)
            | Key::Up(ns, _)
            | Key::Route(ns, ..)
            | Key::Sysctl(ns, _) => Some(*ns),
            _ => None,
        }
    }

    fn exists(&self, netns: Netns) -> bool {
        match netns {
            Netns::Host => true,
            Netns::Container(id) => self.netns.contains(&id),
        }
    }

    fn delete_errno(&self, key: &Key) -> Option<i32> {
        match key {
            Key::Sysctl(..) => Some(EPERM),
            Key::Set(table, set)
                if self.uses(table, |rule| matches!(rule, Use::Set(s) if s == set)) =>
            {
                Some(EBUSY)
            }
            Key::Chain(table, chain)
                if self.uses(table, |rule| matches!(rule, Use::Chain(c) if c == chain)) =>
            {
                Some(EBUSY)
            }
            _ => None,
        }
    }

    fn put_errno(&self, key: &Key, object: &Object) -> Option<i32> {
        match (key, object) {
            (Key::Table(_), Object::Table) => None,
            (Key::Set(table, _), Object::Set(set)) => match self.ours.get(key) {
                Some(Object::Set(old)) if old != set => Some(EEXIST),
                _ => self.absent(&Key::Table(table.clone()), ENOENT),
            },
            (Key::Element(table, set, _), Object::Element) => {
                self.absent(&Key::Set(table.clone(), set.clone()), ENOENT)
            }
            (Key::Chain(table, _), Object::Chain(chain)) => self.chain_errno(table, chain),
            (Key::DeviceChain(table, link, _), Object::Chain(chain)) => self
                .absent(&Key::Link(Netns::Host, link.clone()), ENODEV)
                .or_else(|| self.chain_errno(table, chain)),
            (Key::Link(ns, _), Object::Link(link)) => self.link_errno(*ns, key, link),
            (Key::Sysctl(ns, path), Object::Sysctl(_)) => self.sysctl_errno(*ns, path),
            (Key::Up(..), Object::Up) => self.carrier_errno(key),
            (Key::Address(ns, link, net), Object::Address) => {
                self.carrier_errno(key).or_else(|| self.address_errno(*ns, link, net))
            }
            (Key::Route(ns, _, link), Object::Route(route)) => {
                self.carrier_errno(key).or_else(|| self.route_errno(*ns, link, route))
            }
            (Key::Neighbour(..), Object::Neighbour(_)) => self.carrier_errno(key),
            (Key::Fdb(link, table, _), Object::Fdb(remote)) => {
                self.carrier_errno(key).or_else(|| self.fdb_errno(link, *table, remote.is_some()))
            }
            (Key::Flood(link, _), Object::Flood) => {
                self.carrier_errno(key).or_else(|| self.fdb_errno(link, FdbTable::Device, true))
            }
            (Key::ForeignRule(table, chain, _), Object::ForeignRule(_)) => {
                let chain = Key::Chain(table.clone(), chain.clone());
                (!self.foreign.contains_key(&chain)).then_some(ENOENT)
            }
            (Key::Shortcut(of), Object::Shortcut(object)) => {
                if !is_of_kind(of, object) {
                    return Some(EINVAL);
                }
                key.sits_on().filter(|_| !is_at_others_link(key))?;
                self.carrier_errno(key)
            }
            _ => Some(EINVAL),
        }
    }

    fn absent(&self, key: &Key, errno: i32) -> Option<i32> {
        self.ours.get(key).is_none().then_some(errno)
    }

    fn carrier_errno(&self, key: &Key) -> Option<i32> {
        let (ns, link) = key.sits_on()?;
        self.absent(&Key::Link(ns, link.to_owned()), ENODEV)
    }

    fn chain_errno(&self, table: &TableName, chain: &Chain) -> Option<i32> {
        let missing = uses_of(chain).any(|used| {
            let key = match used {
                Use::Set(set) => Key::Set(table.clone(), set.to_owned()),
                Use::Chain(chain) => Key::Chain(table.clone(), chain.to_owned()),
            };
            self.ours.get(&key).is_none()
        });
        self.absent(&Key::Table(table.clone()), ENOENT).or_else(|| missing.then_some(ENOENT))
    }

    fn uses(&self, table: &TableName, wanted: impl Fn(&Use<'_>) -> bool) -> bool {
        self.ours.iter().any(|(key, object)| match (key, object) {
            (Key::Chain(t, _) | Key::DeviceChain(t, ..), Object::Chain(chain)) => {
                t == table && uses_of(chain).any(|used| wanted(&used))
            }
            _ => false,
        })
    }

    fn link_errno(&self, ns: Netns, key: &Key, link: &Link) -> Option<i32> {
        if let Some(errno) = link.port.as_ref().and_then(|port| self.port_errno(ns, key, port)) {
            return Some(errno);
        }
        if let Some(Object::Link(old)) = self.ours.get(key) {
            return (old.kind != link.kind).then_some(EEXIST);
        }
        let taken = match &link.kind {
            // That one is missing is another refusal.
            LinkKind::Bridge | LinkKind::Lent => false,
            LinkKind::VethPeer => return Some(ENODEV),
            LinkKind::Veth { peer_netns, peer } => {
                let end = Key::Link(*peer_netns, peer.clone());
                self.ours.get(&end).is_some() || self.foreign.contains_key(&end)
            }
            LinkKind::Vxlan { vni, port, .. } => {
                let same = |kind: &LinkKind| matches!(kind, LinkKind::Vxlan { vni: v, port: p, .. } if v == vni && p == port);
                let foreign = |o: &Object| matches!(o, Object::Link(link) if same(&link.kind));
                self.links().any(|(_, link)| same(&link.kind)) || self.foreign.values().any(foreign)
            }
        };
        taken.then_some(EEXIST)
    }

    fn port_errno(&self, ns: Netns, key: &Key, port: &Port) -> Option<i32> {
        let bridge = Key::Link(Netns::Host, port.bridge.clone());
        match self.ours.get(&bridge) {
            _ if ns != Netns::Host => return Some(EINVAL),
            Some(Object::Link(Link { kind: LinkKind::Bridge, .. })) => {}
            Some(_) => return Some(EINVAL),
            None => return Some(ENODEV),
        }
        if self.ours.get(key).and_then(bridge_of) == Some(&port.bridge) {
            return None;
        }
        (self.ports_of(&port.bridge).count() >= MAX_PORTS).then_some(EXFULL)
    }

    fn sysctl_errno(&self, ns: Netns, path: &str) -> Option<i32> {
        let link = super::consequence::sysctl_link(path)?;
        if matches!(link, "all" | "default" | "lo") {
            return None;
        }
        let key = Key::Link(ns, link.to_owned());
        (self.ours.get(&key).is_none() && !self.foreign.contains_key(&key)).then_some(ENOENT)
    }

    fn address_errno(&self, ns: Netns, link: &str, net: &IpNet) -> Option<i32> {
        let clash = net.addr().is_ipv6()
            && self.addresses(ns).any(|(l, n)| {
                l == link && n.addr() == net.addr() && n.prefix_len() != net.prefix_len()
            });
        clash.then_some(EEXIST)
    }

    fn route_errno(&self, ns: Netns, link: &str, route: &Route) -> Option<i32> {
        if self.ours.get(&Key::Up(ns, link.to_owned())).is_none() {
            return Some(ENETDOWN);
        }
        let source_is_here = |ip: IpAddr| self.addresses(ns).any(|(_, net)| net.addr() == ip);
        if route.source.is_some_and(|ip| !source_is_here(ip)) {
            return Some(EINVAL);
        }
        let reachable = |via: IpAddr| {
            let linked = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
            linked
                || self.addresses(ns).any(|(l, net)| l == link && net.contains(&via))
                || self.ours.iter().any(|(key, object)| {
                    matches!((key, object), (Key::Route(n, to, l), Object::Route(r))
                        if *n == ns && l == link && r.via.is_none() && to.contains(&via))
                })
        };
        route.via.is_some_and(|via| !reachable(via)).then_some(ENETUNREACH)
    }

    fn fdb_errno(&self, link: &str, table: FdbTable, remote: bool) -> Option<i32> {
        let Some(Object::Link(at)) = self.ours.get(&Key::Link(Netns::Host, link.to_owned())) else {
            return Some(ENODEV);
        };
        let fits = match table {
            FdbTable::Device => remote && matches!(at.kind, LinkKind::Vxlan { .. }),
            FdbTable::Bridge => !remote && (at.port.is_some() || at.kind == LinkKind::Bridge),
        };
        (!fits).then_some(EOPNOTSUPP)
    }

    pub(super) fn addresses(&self, ns: Netns) -> impl Iterator<Item = (&str, &IpNet)> {
        let any = IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let first = Key::Address(ns, String::new(), any);
        self.ours.sections().flat_map(move |(_, objects)| {
            objects.range(first.clone()..).map_while(move |(key, _)| match key {
                Key::Address(n, link, net) if *n == ns => Some((link.as_str(), net)),
                _ => None,
            })
        })
    }

    /// Links of the host that are ours.
    pub(super) fn links(&self) -> impl Iterator<Item = (&str, &Link)> {
        let first = Key::Link(Netns::Host, String::new());
        self.ours.sections().flat_map(move |(_, objects)| {
            objects.range(first.clone()..).map_while(|(key, object)| match (key, object) {
                (Key::Link(Netns::Host, name), Object::Link(link)) => Some((name.as_str(), link)),
                _ => None,
            })
        })
    }

    pub(super) fn ports_of(&self, bridge: &str) -> impl Iterator<Item = (&str, &Link)> {
        let is_port = move |link: &Link| link.port.as_ref().is_some_and(|p| p.bridge == bridge);
        self.links().filter(move |(_, link)| is_port(link))
    }
}

/// The bridge that a link is a port of.
pub(super) fn bridge_of(object: &Object) -> Option<&String> {
    match object {
        Object::Link(Link { port: Some(port), .. }) => Some(&port.bridge),
        _ => None,
    }
}

/// Whether `key` is a program at a link of the underlay: those are not ours, and are simply there.
fn is_at_others_link(key: &Key) -> bool {
    matches!(key, Key::Shortcut(ShortcutKey::Program(link, Attach::FromUnderlay))
        if !OUR_PREFIXES.iter().any(|ours| link.starts_with(ours)))
}

/// Whether `object` is what lies at `key`.
const fn is_of_kind(key: &ShortcutKey, object: &ShortcutObject) -> bool {
    matches!(
        (key, object),
        (ShortcutKey::Node, ShortcutObject::Node { .. })
            | (ShortcutKey::Vtep(_), ShortcutObject::Vtep(_))
            | (ShortcutKey::Member(..), ShortcutObject::Member(_))
            | (ShortcutKey::Neighbour(..), ShortcutObject::Neighbour(_))
            | (ShortcutKey::Fdb(..), ShortcutObject::Fdb(_))
            | (ShortcutKey::Granted(..), ShortcutObject::Granted)
            | (ShortcutKey::Endpoint(_), ShortcutObject::Endpoint(_))
            | (ShortcutKey::Program(..), ShortcutObject::Program)
    )
}

/// What a chain's rules refer to.
enum Use<'a> {
    Set(&'a str),
    Chain(&'a str),
}

fn uses_of(chain: &Chain) -> impl Iterator<Item = Use<'_>> {
    chain.rules.iter().flat_map(|rule| {
        let sets = rule.matches.iter().filter_map(|m| match m {
            Match::InSet(_, _, set) => Some(Use::Set(set)),
            _ => None,
        });
        let jumps = rule.statements.iter().filter_map(|s| match s {
            Statement::Jump(chain) => Some(Use::Chain(chain)),
            _ => None,
        });
        sets.chain(jumps)
    })
}
