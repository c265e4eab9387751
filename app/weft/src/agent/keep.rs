//! What stays in the kernel until a server has spoken.

use weft_kernel::{KernelState, Key, Netns, ShortcutKey};
use weft_plan::View;

/// Whether a container here is on a network that is not known: rows are missing on disk.
pub(crate) fn has_unknown_network(view: &View) -> bool {
    let mut interfaces = view.containers.values().flat_map(|container| &container.interfaces);
    interfaces.any(|interface| !view.networks.contains_key(&interface.network))
}

/// Before a server has spoken, what is on disk may be older than what is in the kernel: what
/// is there for other nodes' sake stays. `everything` stays if it is not even known on which
/// networks this host's containers are.
pub(crate) fn keep_what_is(want: KernelState, have: &KernelState, everything: bool) -> KernelState {
    let mut kept = want;
    for (key, object) in have.iter() {
        let stays = || everything || is_for_others(key) && device_stays(key, &kept);
        if kept.get(key).is_none() && stays() {
            kept.insert(key.clone(), object.clone());
        }
    }
    kept
}

const fn is_for_others(key: &Key) -> bool {
    matches!(
        key,
        Key::Element(..)
            | Key::Neighbour(..)
            | Key::Fdb(..)
            | Key::Flood(..)
            | Key::Shortcut(
                ShortcutKey::Vtep(_)
                    | ShortcutKey::Member(..)
                    | ShortcutKey::Neighbour(..)
                    | ShortcutKey::Fdb(..)
            )
    )
}

/// Whether what `key` belongs to is wanted: the link it sits on; for an entry of the shortcut, the
/// VTEP of its network, or a shortcut at all.
fn device_stays(key: &Key, wanted: &KernelState) -> bool {
    let (ns, link) = match key {
        Key::Shortcut(
            ShortcutKey::Member(vni, _) | ShortcutKey::Neighbour(vni, _) | ShortcutKey::Fdb(vni, _),
        ) => (Netns::Host, format!("wv-{vni:06x}")),
        Key::Shortcut(_) => return wanted.get(&Key::Shortcut(ShortcutKey::Node)).is_some(),
        _ => match key.sits_on() {
            Some((ns, link)) => (ns, link.to_owned()),
            None => return true,
        },
    };
    wanted.get(&Key::Link(ns, link)).is_some()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use weft_kernel::object::Link;
    use weft_kernel::{Attach, LinkKind, Object, ShortcutObject, UnderlayPath};

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 10, 0, 16));
    const MAC: [u8; 6] = [2, 0x57, 0, 0, 0, 5];

    fn entry(key: ShortcutKey, object: ShortcutObject) -> (Key, Object) {
        (Key::Shortcut(key), Object::Shortcut(object))
    }

    fn node() -> (Key, Object) {
        entry(ShortcutKey::Node, ShortcutObject::Node { data_address: PEER, port: 4789 })
    }

    fn vtep_device(vni: u32) -> (Key, Object) {
        let link = Link {
            kind: LinkKind::Vxlan { vni, local: PEER, port: 4789 },
            mtu: 1450,
            mac: MAC,
            alias: "weft network web".to_owned(),
            port: None,
        };
        (Key::Link(Netns::Host, format!("wv-{vni:06x}")), Object::Link(link))
    }

    fn for_others(vni: u32) -> Vec<(Key, Object)> {
        vec![
            entry(ShortcutKey::Member(vni, PEER), ShortcutObject::Member(MAC)),
            entry(ShortcutKey::Neighbour(vni, PEER), ShortcutObject::Neighbour(MAC)),
            entry(ShortcutKey::Fdb(vni, MAC), ShortcutObject::Fdb(PEER)),
        ]
    }

    fn path() -> (Key, Object) {
        let path = UnderlayPath { link: "eth0".to_owned(), next_hop: None, mtu: 1500 };
        entry(ShortcutKey::Vtep(PEER), ShortcutObject::Vtep(path))
    }

    #[test]
    fn entries_for_other_nodes_stay_while_their_network_does() {
        let program = ShortcutKey::Program("we-0000000000000007".to_owned(), Attach::FromContainer);
        let gone = entry(program, ShortcutObject::Program);
        let have: KernelState = [for_others(7), for_others(8), vec![path(), node(), gone]]
            .concat()
            .into_iter()
            .collect();
        let want: KernelState = [node(), vtep_device(7)].into_iter().collect();
        let kept = keep_what_is(want.clone(), &have, false);
        let expected: KernelState =
            [for_others(7), vec![path(), node(), vtep_device(7)]].concat().into_iter().collect();
        assert_eq!(kept, expected);
        // What is wanted otherwise is as wanted.
        let mut moved = want;
        let (key, object) =
            entry(ShortcutKey::Fdb(7, MAC), ShortcutObject::Fdb([10, 0, 0, 1].into()));
        moved.insert(key.clone(), object.clone());
        assert_eq!(keep_what_is(moved, &have, false).get(&key), Some(&object));
    }

    #[test]
    fn all_stays_while_the_network_of_a_container_is_not_known() {
        let have: KernelState = [path(), node(), vtep_device(7)].into_iter().collect();
        assert_eq!(keep_what_is(KernelState::new(), &have, true), have);
        let (key, object) = vtep_device(7);
        let Object::Link(link) = object else { panic!("{object:?}") };
        let want: KernelState =
            [(key, Object::Link(Link { mtu: 1400, ..link }))].into_iter().collect();
        let expected: KernelState =
            want.iter().map(|(k, o)| (k.clone(), o.clone())).chain([path(), node()]).collect();
        assert_eq!(keep_what_is(want, &have, true), expected);
    }

    #[test]
    fn nothing_of_a_shortcut_that_is_not_wanted_stays() {
        let have: KernelState = [path(), node()].into_iter().collect();
        assert_eq!(keep_what_is(KernelState::new(), &have, false), KernelState::new());
    }
}
