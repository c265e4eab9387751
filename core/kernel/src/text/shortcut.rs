//! Objects of the shortcut, in the manner of `bpftool map` and `tc filter`, but in the words of their
//! meaning: the octets would tell nobody anything.

use std::fmt::{self, Formatter};

use super::Mac;
use crate::shortcut::{LocalEndpoint, ShortcutKey, ShortcutObject, UnderlayPath};

/// The short name of the object at a key.
pub(super) fn name(key: &ShortcutKey, f: &mut Formatter<'_>) -> fmt::Result {
    match key {
        ShortcutKey::Node => write!(f, "shortcut node"),
        ShortcutKey::Vtep(vtep) => write!(f, "shortcut vtep {vtep}"),
        ShortcutKey::Member(vni, vtep) => write!(f, "shortcut member vni {vni} {vtep}"),
        ShortcutKey::Neighbour(vni, ip) => write!(f, "shortcut neigh vni {vni} {ip}"),
        ShortcutKey::Fdb(vni, mac) => write!(f, "shortcut fdb vni {vni} {}", Mac(mac)),
        ShortcutKey::Granted(link, net) => write!(f, "shortcut granted dev {link} {net}"),
        ShortcutKey::Endpoint(link) => write!(f, "shortcut endpoint dev {link}"),
        ShortcutKey::Program(link, attach) => write!(f, "shortcut program {attach} dev {link}"),
    }
}

/// The whole object.
pub(super) fn line(key: &ShortcutKey, object: &ShortcutObject) -> String {
    let name = crate::Key::Shortcut(key.clone());
    match object {
        ShortcutObject::Node { data_address, port } => {
            format!("{name} local {data_address} dstport {port}")
        }
        ShortcutObject::Vtep(UnderlayPath { link, next_hop, mtu }) => {
            let via = next_hop.map_or_else(String::new, |via| format!(" via {via}"));
            format!("{name}{via} dev {link} mtu {mtu}")
        }
        ShortcutObject::Member(mac) => format!("{name} gateway {}", Mac(mac)),
        ShortcutObject::Neighbour(mac) => format!("{name} lladdr {}", Mac(mac)),
        ShortcutObject::Fdb(vtep) => format!("{name} dst {vtep}"),
        ShortcutObject::Endpoint(endpoint) => endpoint_line(&name, endpoint),
        ShortcutObject::Granted | ShortcutObject::Program => name.to_string(),
    }
}

fn endpoint_line(name: &crate::Key, endpoint: &LocalEndpoint) -> String {
    let word = |address: Option<String>| address.map_or_else(String::new, |a| format!(" {a}"));
    format!(
        "{name} vni {} link/ether {}{}{}{}",
        endpoint.vni,
        Mac(&endpoint.mac),
        word(endpoint.v4.map(|a| a.to_string())),
        word(endpoint.v6.map(|a| a.to_string())),
        if endpoint.more { " and more" } else { "" },
    )
}
