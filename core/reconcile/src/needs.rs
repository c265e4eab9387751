//! What must be there before an object can be put: so that a fault is shown where it arose, and
//! not on everything that waits for it.

use ipnet::{IpNet, Ipv4Net};
use weft_kernel::nft::{Chain, Match, Statement};
use weft_kernel::object::{Link, LinkKind, Route};
use weft_kernel::{
    Attach, KernelState, Key, Netns, Object, ShortcutKey, ShortcutObject, TableName,
};

use crate::order::switches_forwarding;
use crate::places::{FIRST_IP, host_sysctls, owner_of, sysctl_link};

/// The keys that must hold what is wanted before `object` can be put at `key`.
pub(crate) fn needs(want: &KernelState, key: &Key, object: &Object) -> Vec<Key> {
    let mut needs = Vec::new();
    if let Some((ns, link)) = key.sits_on() {
        needs.push(Key::Link(ns, link.to_owned()));
    }
    match (key, object) {
        (Key::Set(table, _), _) => needs.push(Key::Table(table.clone())),
        (Key::Element(table, set, _), _) => needs.push(Key::Set(table.clone(), set.clone())),
        (Key::Chain(table, _) | Key::DeviceChain(table, ..), Object::Chain(chain)) => {
            chain_needs(table, chain, &mut needs);
        }
        (Key::Link(ns, name), Object::Link(link)) => {
            needs.extend(link_needs(want, *ns, name, link))
        }
        (Key::Route(ns, _, link), Object::Route(route)) => {
            needs.push(Key::Up(*ns, link.clone()));
            needs.extend(addresses_for(want, *ns, link, route));
        }
        (Key::Sysctl(Netns::Host, path), _) if switches_forwarding(path) => {
            let advertised = host_sysctls(want).filter(|(_, path)| path.ends_with("/accept_ra"));
            needs.extend(advertised.map(|(key, _)| key.clone()));
        }
        (Key::Sysctl(ns, path), _) => {
            needs.extend(sysctl_link(path).map(|link| Key::Link(*ns, link.to_owned())));
        }
        (Key::Shortcut(key), Object::Shortcut(object)) => {
            shortcut_needs(want, key, object, &mut needs);
        }
        _ => {}
    }
    needs
}

fn chain_needs(table: &TableName, chain: &Chain, needs: &mut Vec<Key>) {
    needs.push(Key::Table(table.clone()));
    for rule in &chain.rules {
        needs.extend(rule.matches.iter().filter_map(|m| match m {
            Match::InSet(_, _, set) => Some(Key::Set(table.clone(), set.clone())),
            _ => None,
        }));
        needs.extend(rule.statements.iter().filter_map(|s| match s {
            Statement::Jump(chain) => Some(Key::Chain(table.clone(), chain.clone())),
            _ => None,
        }));
    }
}

fn link_needs(want: &KernelState, ns: Netns, name: &str, link: &Link) -> Option<Key> {
    match (&link.kind, &link.port) {
        (LinkKind::VethPeer, _) => owner_of(want, ns, name),
        (_, Some(port)) => Some(Key::Link(Netns::Host, port.bridge.clone())),
        _ => None,
    }
}

/// The addresses on a link that a route uses: its source, and those that make its next hop
/// reachable.
fn addresses_for<'a>(
    want: &'a KernelState,
    ns: Netns,
    link: &'a str,
    route: &'a Route,
) -> impl Iterator<Item = Key> + 'a {
    let first = Key::Address(ns, link.to_owned(), IpNet::from(FIRST_IP));
    let section = want.section(&first.section());
    let keys = section.into_iter().flat_map(move |objects| objects.range(first.clone()..));
    keys.map(|(key, _)| key)
        .take_while(move |key| matches!(key, Key::Address(n, l, _) if *n == ns && l == link))
        .filter(|key| match key {
            Key::Address(_, _, net) => {
                route.source == Some(net.addr())
                    || route.via.is_some_and(|via| net.prefix_len() > 0 && net.contains(&via))
            }
            _ => false,
        })
        .cloned()
}

/// A program drops what it finds no entry for where it knows an endpoint: that comes after all
/// that may be sent from it and to it. Without it, or without the node, a program does nothing.
fn shortcut_needs(
    want: &KernelState,
    key: &ShortcutKey,
    object: &ShortcutObject,
    needs: &mut Vec<Key>,
) {
    match (key, object) {
        (ShortcutKey::Endpoint(link), ShortcutObject::Endpoint(endpoint)) => {
            let first = ShortcutKey::Granted(link.clone(), IpNet::V4(Ipv4Net::default()));
            let granted = wanted_from(want, first);
            needs.extend(granted.take_while(
                |key| matches!(key, Key::Shortcut(ShortcutKey::Granted(at, _)) if at == link),
            ).cloned());
            let members = wanted_from(want, ShortcutKey::Member(endpoint.vni, FIRST_IP));
            needs.extend(members.take_while(
                |key| matches!(key, Key::Shortcut(ShortcutKey::Member(vni, _)) if *vni == endpoint.vni),
            ).cloned());
        }
        (ShortcutKey::Program(link, Attach::FromContainer), _) => {
            needs.push(Key::Shortcut(ShortcutKey::Endpoint(link.clone())));
        }
        (ShortcutKey::Program(_, Attach::FromUnderlay), _) => {
            needs.push(Key::Shortcut(ShortcutKey::Node));
        }
        _ => {}
    }
}

/// The wanted keys of one section, from `first` on.
fn wanted_from(want: &KernelState, first: ShortcutKey) -> impl Iterator<Item = &Key> {
    let first = Key::Shortcut(first);
    let section = want.section(&first.section());
    section.into_iter().flat_map(move |objects| objects.range(first.clone()..)).map(|(key, _)| key)
}

/// Whether anything can need this key.
pub(crate) const fn is_needed(key: &Key) -> bool {
    matches!(
        key,
        Key::Table(_)
            | Key::Set(..)
            | Key::Chain(..)
            | Key::Link(..)
            | Key::Sysctl(..)
            | Key::Address(..)
            | Key::Up(..)
            | Key::Shortcut(
                ShortcutKey::Node
                    | ShortcutKey::Member(..)
                    | ShortcutKey::Granted(..)
                    | ShortcutKey::Endpoint(_)
            )
    )
}
