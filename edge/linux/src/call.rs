//! What one would type to take a step by hand: the first half of every fault.

use std::fmt::Write as _;

use weft_kernel::key::{FdbTable, Key, Netns};
use weft_kernel::object::{Link, LinkKind, Object};
use weft_kernel::{Step, TableName};

use crate::legacy;

/// The step as a command line.
pub(crate) fn call(step: &Step) -> String {
    match step {
        Step::Put(key, object) => put(key, object),
        Step::Delete(key) => delete(key),
    }
}

fn put(key: &Key, object: &Object) -> String {
    match (key, object) {
        (Key::Link(ns, name), Object::Link(link)) => put_link(*ns, name, link),
        (Key::Sysctl(ns, path), Object::Sysctl(value)) => {
            format!("{}sysctl -w {}={value}", inside(*ns), path)
        }
        (Key::Route(..), Object::Route(route)) => {
            let mut text = row(key, "replace");
            if let Some(via) = route.via {
                let _ = write!(text, " via {via}");
            }
            if let Some(source) = route.source {
                let _ = write!(text, " src {source}");
            }
            text
        }
        (Key::Neighbour(..), Object::Neighbour(mac)) => {
            format!("{} lladdr {} nud permanent", row(key, "replace"), Mac(mac))
        }
        (Key::Fdb(..), Object::Fdb(Some(vtep))) => format!("{} dst {vtep}", row(key, "replace")),
        (Key::Fdb(..), _) => row(key, "replace"),
        (Key::Flood(..), _) => row(key, "append"),
        (Key::Up(ns, link), _) => format!("{}ip link set {link} up", inside(*ns)),
        (Key::ForeignRule(table, chain, _), Object::ForeignRule(rule))
            if legacy::is_legacy(table) =>
        {
            legacy::insert_call(table, chain, rule)
        }
        (Key::ForeignRule(table, chain, rule), _) => {
            format!("nft insert rule {table} {chain} {rule}")
        }
        _ => row(key, "add"),
    }
}

fn delete(key: &Key) -> String {
    match key {
        Key::Up(ns, link) => format!("{}ip link set {link} down", inside(*ns)),
        Key::Sysctl(ns, path) => format!("{}sysctl {path}", inside(*ns)),
        Key::Chain(table, chain) => format!("nft delete chain {table} {chain}"),
        Key::DeviceChain(table, _, chain) => {
            format!("nft delete chain {table} {chain}")
        }
        Key::ForeignRule(table, chain, rule) if legacy::is_legacy(table) => {
            legacy::delete_call(table, chain, rule)
        }
        Key::ForeignRule(table, chain, rule) => {
            format!("nft delete rule {table} {chain} handle … # {rule}")
        }
        _ => row(key, "del"),
    }
}

/// The command of a key that needs its key only.
fn row(key: &Key, verb: &str) -> String {
    let nft_verb = if verb == "del" { "delete" } else { "add" };
    match key {
        Key::Table(table) => format!("nft {nft_verb} table {table}"),
        Key::Set(table, set) => format!("nft {nft_verb} set {table} {set}"),
        Key::Element(table, set, element) => {
            format!("nft {nft_verb} element {table} {set} {{ {element} }}")
        }
        Key::Chain(table, chain) => chain_call(table, chain, None),
        Key::DeviceChain(table, link, chain) => chain_call(table, chain, Some(link)),
        Key::Link(ns, link) => format!("{}ip link {verb} {link}", inside(*ns)),
        Key::Address(ns, link, address) => {
            format!("{}ip addr {verb} {address} dev {link}", inside(*ns))
        }
        Key::Route(ns, to, link) => format!("{}ip route {verb} {to} dev {link}", inside(*ns)),
        Key::Neighbour(link, address) => format!("ip neigh {verb} {address} dev {link}"),
        Key::Fdb(link, FdbTable::Device, mac) => {
            format!("bridge fdb {verb} {} dev {link} self", Mac(mac))
        }
        Key::Fdb(link, FdbTable::Bridge, mac) => {
            format!("bridge fdb {verb} {} dev {link} master static", Mac(mac))
        }
        Key::Flood(link, vtep) => {
            format!("bridge fdb {verb} 00:00:00:00:00:00 dev {link} self dst {vtep}")
        }
        Key::Up(_, link) | Key::Sysctl(_, link) | Key::ForeignRule(_, link, _) => link.clone(),
        Key::Shortcut(_) => format!("{verb} {key}"),
    }
}

fn chain_call(table: &TableName, chain: &str, device: Option<&str>) -> String {
    match device {
        Some(link) => format!("nft add chain {table} {chain} {{ device {link} }}"),
        None => format!("nft add chain {table} {chain}"),
    }
}

fn put_link(ns: Netns, name: &str, link: &Link) -> String {
    if link.kind == LinkKind::Lent {
        // It is made by `lend`, never by a step.
        return format!("ip link set {name} mtu {} alias '{}'", link.mtu, link.alias);
    }
    let mut text = format!("{}ip link add {name} type ", inside(ns));
    let _ = match &link.kind {
        LinkKind::Bridge => write!(text, "bridge"),
        LinkKind::Vxlan { vni, local, port } => {
            write!(text, "vxlan id {vni} local {local} dstport {port} nolearning")
        }
        LinkKind::Veth { peer, .. } => write!(text, "veth peer name {peer}"),
        LinkKind::VethPeer | LinkKind::Lent => write!(text, "veth"),
    };
    text
}

/// What one would type to make a pair that is lent.
pub(crate) fn lend(name: &str, peer: &str) -> String {
    format!("ip link add {name} type veth peer name {peer}")
}

fn inside(ns: Netns) -> String {
    match ns {
        Netns::Host => String::new(),
        Netns::Container(id) => format!("[netns {}] ", id.0),
    }
}

struct Mac<'a>(&'a [u8; 6]);

impl std::fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
