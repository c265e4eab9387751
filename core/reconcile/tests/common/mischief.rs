//! What others do to a host behind our back.

use proptest::prelude::*;
use proptest::sample::Index;
use weft_kernel::{FakeKernel, Key, Object, ShortcutKey, ShortcutObject, Step};

use super::{World, bare_kernel, laid};

/// What somebody else does to the host, on whatever is there.
#[derive(Debug, Clone)]
pub(crate) enum Mischief {
    Delete(Index),
    Change(Index),
    Add(Index, u8),
}

pub(crate) fn mischief() -> impl Strategy<Value = Mischief> {
    prop_oneof![
        any::<Index>().prop_map(Mischief::Delete),
        any::<Index>().prop_map(Mischief::Change),
        (any::<Index>(), any::<u8>()).prop_map(|(at, n)| Mischief::Add(at, n)),
    ]
}

/// Does it; answers the key that was changed.
pub(crate) fn wreak(kernel: &mut FakeKernel, mischief: &Mischief) -> Option<Key> {
    let state = kernel.observe();
    let all: Vec<(&Key, &Object)> = state.iter().collect();
    if all.is_empty() {
        return None;
    }
    let step = match mischief {
        Mischief::Delete(at) => Step::Delete(at.get(&all).0.clone()),
        Mischief::Change(at) => {
            let (key, object) = at.get(&all);
            Step::Put((*key).clone(), changed(object)?)
        }
        Mischief::Add(at, n) => added(at.get(&all).0, *n)?,
    };
    let idle = kernel.holds(&step);
    kernel.tamper(&step).ok()?;
    (!idle).then(|| step.key().clone())
}

fn changed(object: &Object) -> Option<Object> {
    Some(match object {
        Object::Link(link) => {
            let mut link = link.clone();
            link.mtu -= 10;
            link.mac[3] ^= 1;
            link.port = None;
            Object::Link(link)
        }
        Object::Sysctl(value) => Object::Sysctl(format!("{value}0")),
        Object::Neighbour(_) => Object::Neighbour([9; 6]),
        Object::Fdb(Some(_)) => Object::Fdb(Some("192.0.2.1".parse().ok()?)),
        Object::Shortcut(object) => Object::Shortcut(changed_shortcut(object)?),
        Object::Chain(chain) => {
            let mut chain = chain.clone();
            chain.rules.pop()?;
            Object::Chain(chain)
        }
        _ => return None,
    })
}

fn changed_shortcut(object: &ShortcutObject) -> Option<ShortcutObject> {
    Some(match object.clone() {
        ShortcutObject::Node { data_address, port } => {
            ShortcutObject::Node { data_address, port: port + 1 }
        }
        ShortcutObject::Vtep(mut path) => {
            path.mtu -= 10;
            ShortcutObject::Vtep(path)
        }
        ShortcutObject::Member(_) => ShortcutObject::Member([9; 6]),
        ShortcutObject::Neighbour(_) => ShortcutObject::Neighbour([9; 6]),
        ShortcutObject::Fdb(_) => ShortcutObject::Fdb("192.0.2.1".parse().ok()?),
        ShortcutObject::Endpoint(mut endpoint) => {
            endpoint.more ^= true;
            ShortcutObject::Endpoint(endpoint)
        }
        ShortcutObject::Granted | ShortcutObject::Program => return None,
    })
}

fn added_shortcut(near: &ShortcutKey, n: u8) -> Option<(ShortcutKey, ShortcutObject)> {
    let ip = std::net::IpAddr::from([10, 200, 0, n]);
    Some(match near {
        ShortcutKey::Member(vni, _) => {
            (ShortcutKey::Member(*vni, ip), ShortcutObject::Member([8; 6]))
        }
        ShortcutKey::Neighbour(vni, _) => {
            (ShortcutKey::Neighbour(*vni, ip), ShortcutObject::Neighbour([8; 6]))
        }
        ShortcutKey::Fdb(vni, _) => {
            (ShortcutKey::Fdb(*vni, [2, 9, 9, 9, 9, n]), ShortcutObject::Fdb(ip))
        }
        ShortcutKey::Endpoint(link) | ShortcutKey::Granted(link, _) => {
            (ShortcutKey::Granted(link.clone(), ip.into()), ShortcutObject::Granted)
        }
        ShortcutKey::Program(_, attach) => {
            (ShortcutKey::Program("docker0".into(), *attach), ShortcutObject::Program)
        }
        ShortcutKey::Node | ShortcutKey::Vtep(_) => return None,
    })
}

fn added(near: &Key, n: u8) -> Option<Step> {
    let ip = std::net::IpAddr::from([10, 200, 0, n]);
    Some(match near {
        Key::Link(ns, link) => {
            Step::Put(Key::Address(*ns, link.clone(), ip.into()), Object::Address)
        }
        Key::Neighbour(link, _) => {
            Step::Put(Key::Neighbour(link.clone(), ip), Object::Neighbour([8; 6]))
        }
        Key::Fdb(link, table, _) => {
            let remote = (*table == weft_kernel::FdbTable::Device).then_some(ip);
            Step::Put(Key::Fdb(link.clone(), *table, [2, 9, 9, 9, 9, n]), Object::Fdb(remote))
        }
        Key::Table(table) => {
            let chain = weft_kernel::nft::Chain { hook: None, rules: vec![] };
            Step::Put(Key::Chain(table.clone(), format!("other{n}")), Object::Chain(chain))
        }
        Key::Shortcut(near) => {
            let (key, object) = added_shortcut(near, n)?;
            Step::Put(Key::Shortcut(key), Object::Shortcut(object))
        }
        _ => return None,
    })
}

/// A kernel that holds another plan's objects, damaged.
pub(crate) fn ruins(old: &World, damage: &[Mischief], outlive: bool) -> FakeKernel {
    let mut kernel = bare_kernel();
    kernel.chains_outlive_links(outlive);
    let mut kernel = laid(kernel, &old.want());
    for mischief in damage {
        wreak(&mut kernel, mischief);
    }
    kernel
}
