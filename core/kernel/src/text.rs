//! Kernel state as text, the way `ip -d link`, `ip addr`, `ip route`, `ip neigh`, `bridge fdb`,
//! `sysctl` and `nft --stateless list ruleset` print it: the language of golden tests and of
//! `weft status`.
//!
//! One line per object, several for a chain. Only what Weft manages is printed, so a line is
//! shorter than the tool's.

mod nft;
mod shortcut;

use std::fmt::{self, Display, Formatter, Write as _};
use std::net::IpAddr;

use crate::key::MacBytes;
use crate::object::{Link, LinkKind, Object, Port, Route};
use crate::state::{KernelState, Objects};
use crate::{FdbTable, Key, Netns, NetnsId, Section, Step};

/// A MAC address as text.
struct Mac<'a>(&'a MacBytes);

impl Display for Mac<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Where an object lies, said only when it is not the host.
struct Inside(Netns);

impl Display for Inside {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Netns::Host => Ok(()),
            Netns::Container(NetnsId(cookie)) => write!(f, " netns {cookie}"),
        }
    }
}

/// A sysctl's name as `sysctl(8)` writes it: `/` and `.` change places, so that a dot in a link's
/// name stays readable.
struct SysctlName<'a>(&'a str);

impl Display for SysctlName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            f.write_char(match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
        })
    }
}

/// The short name of the object at a key, for status: `fdb 02:01:00:00:00:05 dev wv-570001`.
impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => write!(f, "table {table}"),
            Self::Set(table, set) => write!(f, "set {table} {set}"),
            Self::Element(table, set, element) => {
                write!(f, "element {table} {set} {{ {element} }}")
            }
            Self::Chain(table, chain) => write!(f, "chain {table} {chain}"),
            Self::Link(ns, link) => write!(f, "link {link}{}", Inside(*ns)),
            Self::DeviceChain(table, link, chain) => write!(f, "chain {table} {chain} dev {link}"),
            Self::Sysctl(ns, path) => write!(f, "sysctl {}{}", SysctlName(path), Inside(*ns)),
            Self::Address(ns, link, net) => write!(f, "addr {net} dev {link}{}", Inside(*ns)),
            Self::Up(ns, link) => write!(f, "link {link} up{}", Inside(*ns)),
            Self::Route(ns, net, link) => {
                write!(f, "route {} dev {link}{}", Destination(net), Inside(*ns))
            }
            Self::Neighbour(link, ip) => write!(f, "neigh {ip} dev {link}"),
            Self::Fdb(link, FdbTable::Device, mac) => write!(f, "fdb {} dev {link}", Mac(mac)),
            Self::Fdb(link, FdbTable::Bridge, mac) => {
                write!(f, "fdb {} dev {link} master", Mac(mac))
            }
            Self::Flood(link, remote) => {
                write!(f, "fdb {} dev {link} dst {remote}", Mac(&[0; 6]))
            }
            Self::ForeignRule(table, chain, rule) => write!(f, "rule {table} {chain} {rule}"),
            Self::Shortcut(key) => shortcut::name(key, f),
        }
    }
}

/// A route's destination: `default` for the whole of a family.
struct Destination<'a>(&'a ipnet::IpNet);

impl Display for Destination<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == 0 { f.write_str("default") } else { self.0.fmt(f) }
    }
}

/// What a step does: `+` and the object's line, or `-` and its name.
impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(key, object) => write!(f, "+ {}", line(key, object)),
            Self::Delete(key) => write!(f, "- {key}"),
        }
    }
}

/// The name of a section: `host`, `devices 570001`, `container 4026531840`.
impl Display for Section {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Devices(suffix) => write!(f, "devices {suffix}"),
            Self::Container(NetnsId(cookie)) => write!(f, "container {cookie}"),
        }
    }
}

/// The object at a key as the tool that shows such objects prints it. Chains take several lines.
pub fn line(key: &Key, object: &Object) -> String {
    match (key, object) {
        (Key::Set(..), Object::Set(set)) => format!("{key} {{ {set}; }}"),
        (Key::Chain(..), Object::Chain(chain)) => {
            block(&key.to_string(), &nft::chain_lines(chain, None))
        }
        (Key::DeviceChain(table, link, name), Object::Chain(chain)) => {
            block(&format!("chain {table} {name}"), &nft::chain_lines(chain, Some(link)))
        }
        (Key::Link(ns, name), Object::Link(link)) => link_line(*ns, name, link),
        (Key::Sysctl(ns, path), Object::Sysctl(value)) => {
            format!("{} = {value}{}", SysctlName(path), Inside(*ns))
        }
        (Key::Address(ns, link, net), Object::Address) => {
            format!("{} {net} dev {link}{}", inet(net.addr()), Inside(*ns))
        }
        (Key::Route(ns, net, link), Object::Route(route)) => {
            format!("{}{}{}", Destination(net), route_tail(route, link), Inside(*ns))
        }
        (Key::Neighbour(link, ip), Object::Neighbour(mac)) => {
            format!("{ip} dev {link} lladdr {} PERMANENT proto 87", Mac(mac))
        }
        (Key::Fdb(link, FdbTable::Device, mac), Object::Fdb(Some(remote))) => {
            format!("{} dev {link} dst {remote} self static", Mac(mac))
        }
        (Key::Fdb(link, FdbTable::Bridge, mac), Object::Fdb(None)) => {
            format!("{} dev {link} master static", Mac(mac))
        }
        (Key::Flood(link, remote), Object::Flood) => {
            format!("{} dev {link} dst {remote} self permanent", Mac(&[0; 6]))
        }
        (Key::ForeignRule(table, chain, _), Object::ForeignRule(rule)) => {
            format!("rule {table} {chain} {rule}")
        }
        (Key::Shortcut(key), Object::Shortcut(object)) => shortcut::line(key, object),
        // Everything about these is in the key.
        _ => key.to_string(),
    }
}

/// A host's state: section by section, in order of creation within each.
pub fn render(state: &KernelState) -> String {
    let mut text = String::new();
    for (section, objects) in state.sections() {
        text.push_str(&render_section(section, objects));
    }
    text
}

/// One section: its name, then its objects, indented.
pub fn render_section(section: &Section, objects: &Objects) -> String {
    let mut text = format!("{section}\n");
    for (key, object) in objects {
        for part in line(key, object).lines() {
            text.push_str("  ");
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}

fn block(head: &str, lines: &[String]) -> String {
    let mut text = format!("{head} {{\n");
    for line in lines {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('}');
    text
}

fn inet(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "inet",
        IpAddr::V6(_) => "inet6",
    }
}

fn route_tail(route: &Route, link: &str) -> String {
    let via = route.via.map_or_else(String::new, |via| format!(" via {via}"));
    let source = route.source.map_or_else(String::new, |source| format!(" src {source}"));
    format!("{via} dev {link} proto 87{source}")
}

fn link_line(ns: Netns, name: &str, link: &Link) -> String {
    let peer = match &link.kind {
        LinkKind::Veth { peer, .. } => format!("@{peer}"),
        LinkKind::Bridge | LinkKind::Vxlan { .. } | LinkKind::VethPeer | LinkKind::Lent => {
            String::new()
        }
    };
    let master = link.port.as_ref().map_or_else(String::new, |p| format!(" master {}", p.bridge));
    let alias =
        if link.alias.is_empty() { String::new() } else { format!(" alias {}", link.alias) };
    format!(
        "{name}{peer}: mtu {}{master} link/ether {} {}{}{alias}{}",
        link.mtu,
        Mac(&link.mac),
        kind_words(&link.kind),
        port_words(link.port.as_ref()),
        Inside(ns),
    )
}

fn kind_words(kind: &LinkKind) -> String {
    match kind {
        LinkKind::Bridge => "bridge stp_state 0 mcast_snooping 0".to_owned(),
        LinkKind::Vxlan { vni, local, port } => {
            format!("vxlan id {vni} local {local} dstport {port} nolearning")
        }
        LinkKind::Veth { peer_netns: Netns::Host, .. } | LinkKind::VethPeer => "veth".to_owned(),
        LinkKind::Veth { peer_netns: Netns::Container(NetnsId(cookie)), .. } => {
            format!("veth link-netns {cookie}")
        }
        LinkKind::Lent => "veth lent".to_owned(),
    }
}

fn port_words(port: Option<&Port>) -> String {
    let word = |on| if on { "on" } else { "off" };
    port.map_or_else(String::new, |port| {
        format!(
            " bridge_slave learning off neigh_suppress {} locked {}",
            word(port.neigh_suppress),
            word(port.locked)
        )
    })
}

#[cfg(test)]
mod tests;
