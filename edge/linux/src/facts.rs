//! What the host is like, as far as a plan depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use weft_kernel::facts::ShortcutFacts;
use weft_kernel::{DropChain, Fault, HostFacts, UnderlayPath};

use crate::fault::Trouble;
use crate::link::LinkInfo;
use crate::netlink::Socket;
use crate::{PROTOCOL, addr, legacy, link, nft, route, sysctl};

/// Octets of the largest IP packet there is.
const LARGEST: u32 = 65_535;

/// Links by their number.
type Links = BTreeMap<u32, LinkInfo>;

/// Reads the facts, in the calling thread's network namespace. `peers`: the other nodes' addresses,
/// whose paths the shortcut needs; `None`: there is no shortcut.
///
/// # Errors
/// When no link has the data address, or the kernel cannot be read.
pub fn facts(data_address: IpAddr, peers: Option<&BTreeSet<IpAddr>>) -> Result<HostFacts, Fault> {
    let call = |trouble: Trouble| trouble.of(format!("ip addr show to {data_address}"));
    let mut socket = Socket::open(libc::NETLINK_ROUTE).map_err(|r| call(r.into()))?;
    read(&mut socket, data_address, peers).map_err(call)
}

fn read(
    socket: &mut Socket,
    data_address: IpAddr,
    peers: Option<&BTreeSet<IpAddr>>,
) -> Result<HostFacts, Trouble> {
    let links = link::all(socket)?;
    let routes = route::of_everybody(socket)?;
    let name = |index: u32| links.get(&index).map(|link| link.name.clone());
    let holder = holder(socket, data_address, &links)?;
    let shortcut = peers.map(|peers| shortcut(socket, data_address, peers, holder, &links));
    Ok(HostFacts {
        underlay_mtu: underlay_mtu(data_address, holder, &routes),
        router_advertisement_links: advertised(&routes, &links),
        drop_chains: drop_chains()?,
        routes: routes
            .iter()
            .filter(|r| r.protocol != PROTOCOL && r.to.prefix_len() > 0)
            .filter(|r| !addr::is_link_local(r.to.addr()))
            .filter_map(|r| Some((r.to, name(r.link)?)))
            .collect(),
        ipv6: Path::new("/proc/sys/net/ipv6").exists(),
        shortcut: shortcut.transpose()?,
    })
}

/// The link that has the data address.
fn holder<'a>(
    socket: &mut Socket,
    data_address: IpAddr,
    links: &'a Links,
) -> Result<&'a LinkInfo, Trouble> {
    let holder = addr::holder(socket, data_address)?.and_then(|index| links.get(&index));
    holder.ok_or_else(|| {
        Trouble::new(
            nix::errno::Errno::EADDRNOTAVAIL,
            format!("no link of this host has the data address {data_address}"),
        )
        .hint("put the address on a link, or name another one: `weft daemon --data-address`")
    })
}

/// How packets leave for the other nodes, and where theirs may come in. What the shortcut cannot
/// do is left out: a link without Ethernet frames, or one that is down.
fn shortcut(
    socket: &mut Socket,
    data_address: IpAddr,
    peers: &BTreeSet<IpAddr>,
    holder: &LinkInfo,
    links: &Links,
) -> Result<ShortcutFacts, Trouble> {
    let is_fit = |link: &&LinkInfo| link.ethernet && link.is_up();
    let mut facts = ShortcutFacts::default();
    let mut names: BTreeSet<&str> =
        Some(holder).into_iter().filter(is_fit).map(|link| link.name.as_str()).collect();
    let mut mtus = BTreeMap::new();
    for peer in peers.iter().filter(|peer| peer.is_ipv4() == data_address.is_ipv4()) {
        let Some(way) = route::way(socket, data_address, *peer)? else { continue };
        let Some(link) = links.get(&way.link).filter(is_fit) else { continue };
        let of_link = *mtus.entry(way.link).or_insert_with(|| link_mtu(link, *peer));
        names.insert(&link.name);
        let path = UnderlayPath {
            link: link.name.clone(),
            next_hop: way.next_hop.filter(|hop| hop != peer),
            mtu: way.mtu.map_or(of_link, |mtu| mtu.min(of_link)).min(LARGEST),
        };
        facts.paths.insert(*peer, path);
    }
    facts.links = names.into_iter().map(str::to_owned).collect();
    Ok(facts)
}

/// The MTU of a link for packets of the family: a router may have advertised a smaller one for
/// IPv6 (RFC 4861 section 4.6.4).
fn link_mtu(link: &LinkInfo, of: IpAddr) -> u32 {
    if of.is_ipv4() {
        return link.mtu;
    }
    let advertised = sysctl::read(&format!("net/ipv6/conf/{}/mtu", link.name));
    let advertised = advertised.ok().flatten().and_then(|mtu| mtu.parse().ok());
    advertised.map_or(link.mtu, |mtu: u32| mtu.min(link.mtu))
}

fn underlay_mtu(data_address: IpAddr, link: &LinkInfo, routes: &[route::RouteInfo]) -> u32 {
    // Packets to other nodes leave along the default route, or along the link's own prefix.
    let of_route = routes
        .iter()
        .filter(|r| r.link == link.index && r.to.addr().is_ipv4() == data_address.is_ipv4())
        .filter(|r| r.to.prefix_len() == 0 || r.to.contains(&data_address))
        .filter_map(|r| r.mtu)
        .min();
    of_route.map_or(link.mtu, |mtu| mtu.min(link.mtu))
}

/// Links with a route from a router advertisement (`RTPROT_RA`), as long as `accept_ra` is 1.
fn advertised(routes: &[route::RouteInfo], links: &Links) -> Vec<String> {
    const RTPROT_RA: u8 = 9;
    const RTPROT_KERNEL: u8 = 2;
    let mut names: Vec<String> = routes
        .iter()
        .filter(|r| r.to.addr().is_ipv6())
        .filter(|r| {
            // The kernel's own routes from advertisements end; those from addresses do not.
            r.protocol == RTPROT_RA || (r.protocol == RTPROT_KERNEL && r.expires)
        })
        .filter_map(|r| Some(links.get(&r.link)?.name.clone()))
        .filter(|name| {
            let value = sysctl::read(&format!("net/ipv6/conf/{name}/accept_ra"));
            matches!(value, Ok(Some(value)) if value == "1")
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn drop_chains() -> Result<Vec<DropChain>, Trouble> {
    let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
    let chains = nft::chains(&mut socket)?;
    let theirs = chains.into_iter().filter(|c| c.drops && c.is_gate() && !nft::is_ours(&c.table));
    let legacy = legacy::drop_chains()?.into_iter().map(|(table, chain, input)| DropChain {
        table,
        chain: chain.to_owned(),
        input,
    });
    let theirs = theirs.map(|c| DropChain { input: c.is_input(), table: c.table, chain: c.name });
    Ok(theirs.chain(legacy).collect())
}

/// Chains of others, at hook forward or input, that accept by default but have a rule that refuses
/// everything which comes to it, as firewalld's do. Nothing can be put before such a rule that its
/// owner would not move, so this is for people to mend. A table in which some rule names our links
/// is taken for mended.
///
/// # Errors
/// When the kernel cannot be read.
pub fn refusing_chains() -> Result<Vec<DropChain>, Fault> {
    let call = |trouble: Trouble| trouble.of("nft list ruleset".to_owned());
    let read = || -> Result<Vec<DropChain>, Trouble> {
        let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
        let gates = nft::chains(&mut socket)?;
        let gates =
            gates.into_iter().filter(|c| c.is_gate() && !c.drops && !nft::is_ours(&c.table));
        let mut refusing = Vec::new();
        for gate in gates {
            let rules = nft::rules(&mut socket, &gate.table, None)?;
            let mended = rules.iter().any(|rule| rule.rule.is_none() && rule.names_ours);
            let refuses =
                rules.iter().any(|r| r.chain == gate.name && r.refuses_all && r.rule.is_none());
            if refuses && !mended {
                let input = gate.is_input();
                refusing.push(DropChain { input, table: gate.table, chain: gate.name });
            }
        }
        Ok(refusing)
    };
    read().map_err(call)
}

/// Whether rules were made through the interface of iptables-legacy in the calling thread's
/// network namespace: the kernel lists a table of it once somebody has used it
/// (`/proc/net/ip_tables_names`, `ip6_tables_names`). [`facts`] tells of the chains that drop by default in its table `filter`.
pub fn legacy_iptables_in_use() -> bool {
    ["ip_tables_names", "ip6_tables_names"].iter().any(|name| {
        // `/proc/net` is that of the process, not of the thread.
        let path = Path::new("/proc/thread-self/net").join(name);
        std::fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty())
    })
}
