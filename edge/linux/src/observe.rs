//! What the kernel holds of ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_kernel::object::{Link, LinkKind, Port};
use weft_kernel::{Fault, KernelState, Key, Netns, NetnsId, Object, Scope, Section};

use crate::fault::Trouble;
use crate::link::{IN6_ADDR_GEN_MODE_NONE, LinkInfo};
use crate::netns::Inside;
use crate::row::{Carrier, RowInfo};
use crate::{Linux, addr, legacy, link, netns, nft, route, row, sysctl};

type Found = Vec<(Key, Object)>;
type Links = BTreeMap<u32, LinkInfo>;

/// Which container has which number in the host's namespace.
type Nsids = BTreeMap<i32, NetnsId>;

pub(crate) fn observe(linux: &mut Linux, scope: &Scope) -> Result<KernelState, Fault> {
    let mut found = Found::new();
    let read = |call: &'static str| move |trouble: Trouble| trouble.of(call);
    match scope {
        Scope::Rows(name) => {
            rows_of_link(linux, name, &mut found).map_err(read("ip neigh; bridge fdb"))?;
        }
        Scope::Shortcut => {
            if linux.shortcut.is_some() {
                let links =
                    link::all(&mut linux.route).map_err(|r| Trouble::from(r).of("ip link"))?;
                shortcut(linux, &links, &mut found)?;
            }
        }
        Scope::All | Scope::Cheap => {
            let links = link::all(&mut linux.route).map_err(|r| Trouble::from(r).of("ip link"))?;
            objects(linux, &links, *scope == Scope::All, &mut found)?;
            nft::observe(&mut linux.nft, &mut found).map_err(read("nft list ruleset"))?;
            legacy::observe(&mut found)
                .map_err(read("iptables-legacy-save; ip6tables-legacy-save"))?;
            if *scope == Scope::All {
                all_rows(linux, &links, &mut found).map_err(read("ip neigh; bridge fdb"))?;
                shortcut(linux, &links, &mut found)?;
            }
        }
    }
    Ok(state(found))
}

/// The whole as a state. Section by section, since rows may be hundreds of thousands.
fn state(found: Found) -> KernelState {
    let mut sections: BTreeMap<Section, Found> = BTreeMap::new();
    for (key, object) in found {
        sections.entry(key.section()).or_default().push((key, object));
    }
    let mut state = KernelState::new();
    for (section, objects) in sections {
        state.set_section(section, Arc::new(objects.into_iter().collect()));
    }
    state
}

fn shortcut(linux: &mut Linux, links: &Links, found: &mut Found) -> Result<(), Fault> {
    let Linux { shortcut: Some(shortcut), route, own, .. } = linux else { return Ok(()) };
    let devices = shortcut.observe(route, links, found);
    own.look_out_for_only(devices.map_err(|trouble| trouble.of("bpftool map; bpftool net"))?);
    Ok(())
}

/// Containers that a reading of everything cheap enters: entering one costs as much as reading
/// the whole host, so with many of them each is entered in its turn.
const ENTERED: usize = 8;

/// What was found in a container when it was last entered.
#[derive(Debug, Clone)]
pub(crate) struct Interior {
    found: Found,
    nsid: Option<i32>,
    /// The names of all its links.
    names: BTreeMap<u32, String>,
    /// The host's ends of its links at the time: when one has changed, so may the other end.
    ends: Vec<LinkInfo>,
}

/// Links and what is on them, on the host and in containers, and sysctls.
fn objects(
    linux: &mut Linux,
    links: &Links,
    thorough: bool,
    found: &mut Found,
) -> Result<(), Fault> {
    let mut nsids = Nsids::new();
    let mut peers = BTreeMap::new();
    let namespaces: Vec<(NetnsId, PathBuf)> =
        linux.namespaces.iter().map(|(id, path)| (*id, path.clone())).collect();
    let turn = linux.turn;
    linux.turn = (turn + ENTERED) % namespaces.len().max(1);
    for (number, (id, path)) in namespaces.iter().enumerate() {
        let place = (number + namespaces.len() - turn % namespaces.len()) % namespaces.len();
        let known = linux
            .interiors
            .get(id)
            .filter(|known| !thorough && place >= ENTERED && known.ends == ends(links, known.nsid));
        let interior = match known {
            Some(known) => Ok(known.clone()),
            // One at a time: there may be more containers than this process may have files.
            None => enter(linux, links, *id, path),
        };
        match interior {
            Ok(interior) => {
                found.extend(interior.found.iter().cloned());
                nsids.extend(interior.nsid.map(|nsid| (nsid, *id)));
                peers.insert(*id, interior.names.clone());
                linux.interiors.insert(*id, interior);
            }
            Err(trouble) => {
                linux.interiors.remove(id);
                if !netns::is_gone(&trouble) {
                    let fault = trouble.of(netns::call(path));
                    tracing::warn!(%fault, "a container cannot be read");
                }
            }
        }
    }
    let watched = watched(linux, Netns::Host);
    let values = read_all(&watched);
    put_sysctls(linux, Netns::Host, &watched, values, found);
    host(linux, links, &nsids, &peers, found).map_err(|t| t.of("ip addr; ip route"))
}

/// The host's ends of the veth pairs that lead into the namespace of this number.
fn ends(links: &Links, nsid: Option<i32>) -> Vec<LinkInfo> {
    let leads = |link: &&LinkInfo| nsid.is_some() && link.lower_nsid == nsid;
    links.values().filter(leads).cloned().collect()
}

/// Reads a container from inside.
fn enter(linux: &mut Linux, links: &Links, id: NetnsId, path: &Path) -> Result<Interior, Trouble> {
    let watched = watched(linux, Netns::Container(id));
    let (mut inside, values) =
        netns::enter(path, Some(id), |inside, _| Ok((inside, read_all(&watched))))?;
    let mut found = Found::new();
    put_sysctls(linux, Netns::Container(id), &watched, values, &mut found);
    let nsid = link::nsid_of(&mut linux.route, inside.fd.as_raw_fd())?;
    let names = container(&mut inside, id, links, nsid, &mut found)?;
    Ok(Interior { found, nsid, names, ends: ends(links, nsid) })
}

fn watched(linux: &Linux, ns: Netns) -> Vec<String> {
    linux.sysctls.iter().filter(|(n, _)| *n == ns).map(|(_, path)| path.clone()).collect()
}

/// A sysctl that is gone, with its link, or cannot be read, is not there.
fn read_all(paths: &[String]) -> Vec<(String, String)> {
    let value = |path: &String| Some((path.clone(), sysctl::read(path).ok().flatten()?));
    paths.iter().filter_map(value).collect()
}

/// What went with its link is watched no more.
fn put_sysctls(
    linux: &mut Linux,
    ns: Netns,
    watched: &[String],
    values: Vec<(String, String)>,
    found: &mut Found,
) {
    for path in watched.iter().filter(|path| !values.iter().any(|(there, _)| there == *path)) {
        linux.sysctls.remove(&(ns, path.clone()));
    }
    let objects =
        values.into_iter().map(|(path, value)| (Key::Sysctl(ns, path), Object::Sysctl(value)));
    found.extend(objects);
}

/// The host's end of the veth pair whose other end is `link` in the namespace numbered `nsid`
/// (`None`: the host's own). What is lent is none of ours wherever it is: its runtime may be about
/// to move it.
fn host_end<'a>(links: &'a Links, link: &LinkInfo, nsid: Option<i32>) -> Option<&'a LinkInfo> {
    let end = links.get(&link.lower?)?;
    let ours = link.kind == "veth"
        && end.kind == "veth"
        && end.is_marked()
        && !end.is_lent()
        && end.lower == Some(link.index)
        && end.lower_nsid == nsid;
    ours.then_some(end)
}

/// Our links in a container with what is on them. Gives the names of all its links.
fn container(
    inside: &mut Inside,
    id: NetnsId,
    host: &Links,
    nsid: Option<i32>,
    found: &mut Found,
) -> Result<BTreeMap<u32, String>, Trouble> {
    let links = link::all(&mut inside.route)?;
    let ns = Netns::Container(id);
    let mut ours = BTreeMap::new();
    for link in links.values().filter(|link| nsid.is_some() && host_end(host, link, nsid).is_some())
    {
        ours.insert(link.index, link.name.clone());
        put_link(ns, link, peer_object(link), found);
    }
    if !ours.is_empty() {
        put_addresses_and_routes(ns, &mut inside.route, &ours, found)?;
    }
    Ok(links.into_iter().map(|(index, link)| (index, link.name)).collect())
}

fn put_link(ns: Netns, link: &LinkInfo, object: Link, found: &mut Found) {
    found.push((Key::Link(ns, link.name.clone()), Object::Link(object)));
    if link.is_up() {
        found.push((Key::Up(ns, link.name.clone()), Object::Up));
    }
}

fn put_addresses_and_routes(
    ns: Netns,
    socket: &mut crate::netlink::Socket,
    ours: &BTreeMap<u32, String>,
    found: &mut Found,
) -> Result<(), Trouble> {
    for address in addr::all(socket)? {
        if let Some(name) = ours.get(&address.link) {
            found.push((Key::Address(ns, name.clone(), address.net), Object::Address));
        }
    }
    for route in route::ours(socket)? {
        if let Some(name) = ours.get(&route.link) {
            found.push((Key::Route(ns, route.to, name.clone()), Object::Route(route.route)));
        }
    }
    Ok(())
}

/// Our links on the host with what is on them.
fn host(
    linux: &mut Linux,
    links: &Links,
    nsids: &Nsids,
    peers: &BTreeMap<NetnsId, BTreeMap<u32, String>>,
    found: &mut Found,
) -> Result<(), Trouble> {
    let mut ours = BTreeMap::new();
    for link in links.values() {
        let object = if link.is_marked() {
            host_object(link, links, nsids, peers)
        } else {
            host_end(links, link, None).map(|_| peer_object(link))
        };
        if let Some(object) = object {
            ours.insert(link.index, link.name.clone());
            put_link(Netns::Host, link, object, found);
        }
    }
    put_addresses_and_routes(Netns::Host, &mut linux.route, &ours, found)
}

fn peer_object(link: &LinkInfo) -> Link {
    Link {
        kind: LinkKind::VethPeer,
        mac: link.mac.unwrap_or_default(),
        mtu: link.mtu,
        alias: String::new(),
        port: None,
    }
}

/// A marked link as an object; `None` when it is of a kind that we never make.
fn host_object(
    link: &LinkInfo,
    links: &Links,
    nsids: &Nsids,
    peers: &BTreeMap<NetnsId, BTreeMap<u32, String>>,
) -> Option<Link> {
    let kind = match link.kind.as_str() {
        "bridge" => LinkKind::Bridge,
        "vxlan" => LinkKind::Vxlan {
            vni: link.vxlan.vni,
            local: link.vxlan.local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: link.vxlan.port,
        },
        "veth" if link.is_lent() => LinkKind::Lent,
        "veth" => veth(link, links, nsids, peers),
        _ => return None,
    };
    let port = link.port.as_ref().map(|port| Port {
        bridge: link
            .master
            .and_then(|master| links.get(&master))
            .map(|bridge| bridge.name.clone())
            .unwrap_or_default(),
        neigh_suppress: port.neigh_suppress,
        locked: port.locked,
    });
    let mut alias = link.alias.clone();
    let wrong = deviations(link);
    if !wrong.is_empty() {
        alias = format!("{alias} [{}]", wrong.join(", "));
    }
    Some(Link { kind, mac: link.mac.unwrap_or_default(), mtu: link.mtu, alias, port })
}

/// Where the other end is. An end that cannot be found is nowhere: namespace 0, without a name.
fn veth(
    link: &LinkInfo,
    links: &Links,
    nsids: &Nsids,
    peers: &BTreeMap<NetnsId, BTreeMap<u32, String>>,
) -> LinkKind {
    let index = link.lower.unwrap_or_default();
    let (peer_netns, peer) = match link.lower_nsid {
        None => (Netns::Host, links.get(&index).map(|peer| peer.name.clone())),
        Some(nsid) => {
            let id = nsids.get(&nsid).copied();
            let name = id.and_then(|id| peers.get(&id)?.get(&index).cloned());
            (Netns::Container(id.unwrap_or(NetnsId(0))), name)
        }
    };
    LinkKind::Veth { peer_netns, peer: peer.unwrap_or_default() }
}

/// What was set otherwise than we set it, and has no field in [`Link`].
fn deviations(link: &LinkInfo) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let mut check = |bad: bool, text| {
        if bad {
            wrong.push(text);
        }
    };
    check(link.addr_gen_mode.is_some_and(|m| m != IN6_ADDR_GEN_MODE_NONE), "addrgenmode not none");
    check(link.bridge.mcast_snooping, "mcast_snooping on");
    check(link.bridge.stp, "stp on");
    check(link.kind == "vxlan" && !link.vxlan.is_as_made(), "vxlan learning, ttl or df changed");
    check(link.port.as_ref().is_some_and(|port| port.learning), "port learning on");
    wrong
}

/// What the rows of a link of ours are carried by.
pub(crate) fn carrier(link: &LinkInfo) -> Carrier {
    match link.kind.as_str() {
        "bridge" => Carrier::Bridge(link.mac.unwrap_or_default()),
        "vxlan" => Carrier::Vxlan,
        _ => Carrier::Port,
    }
}

fn all_rows(linux: &mut Linux, links: &Links, found: &mut Found) -> Result<(), Trouble> {
    let ours: BTreeMap<u32, (&str, Carrier)> = links
        .values()
        .filter(|link| link.is_marked())
        .map(|link| (link.index, (link.name.as_str(), carrier(link))))
        .collect();
    let take = |rows: &mut BTreeMap<u32, Found>, row: RowInfo| {
        if let Some((name, carrier)) = ours.get(&row.link) {
            rows.entry(row.link).or_default().extend(row::ours(&row, name, *carrier));
        }
    };
    let neighbours = row::neighbours(&mut linux.route, None, take)?;
    let mut rows = row::fdb(&mut linux.route, None, take)?;
    for (link, neighbours) in neighbours {
        rows.entry(link).or_default().extend(neighbours);
    }
    linux.own.keep(ours.values().map(|(name, _)| *name));
    for (link, (name, _)) in &ours {
        let rows = rows.remove(link).unwrap_or_default();
        linux.own.saw(name, rows.iter().map(|(key, object)| (key, object)));
        found.extend(rows);
    }
    Ok(())
}

fn rows_of_link(linux: &mut Linux, name: &str, found: &mut Found) -> Result<(), Trouble> {
    let link = link::by_name(&mut linux.route, name)?;
    if let Some(link) = link.filter(LinkInfo::is_marked) {
        let carrier = carrier(&link);
        let take = |rows: &mut Found, row: RowInfo| {
            // An old kernel that does not know the filter sends all.
            if row.link == link.index {
                rows.extend(row::ours(&row, name, carrier));
            }
        };
        found.extend(row::neighbours(&mut linux.route, Some(link.index), take)?);
        found.extend(row::fdb(&mut linux.route, Some(link.index), take)?);
    }
    linux.own.saw(name, found.iter().map(|(key, object)| (key, object)));
    Ok(())
}
