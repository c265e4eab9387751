//! A Docker container's names, asked of Weft first.
//!
//! ```text
//!  container, nameserver 127.0.0.11                           host
//!  ┌───────────────────────────────────────────┐   ┌────────────────────────────┐
//!  │ query ─▶ 127.0.0.11:53 ─▶ dnat, masquerade ─────▶ gateway:53  Weft's       │
//!  │                                           │   │               resolver     │
//!  │ Docker's resolver                         │   │                  │ what is │
//!  │ 127.0.0.11:(any port) ◀─ dnat ◀─ own:7353 ◀────── not Weft's ◀──┘         │
//!  └───────────────────────────────────────────┘   └────────────────────────────┘
//! ```
//!
//! Docker's engine has sockets in the namespace of every container on a network of a user's, bound
//! to 127.0.0.11 at ports that the kernel chose, and a DNAT in chain `nat OUTPUT` (priority -100)
//! from port 53 to them. Ours comes before it, and leaves Docker's rules as they are: without our
//! table the container asks Docker's resolver as before.
//!
//! Packets between 127.0.0.0/8 and a link need `route_localnet` (kernel documentation,
//! `networking/ip-sysctl.rst`), which opens 127.0.0.0/8 to everybody on the link, and lets them
//! pretend to be from there. So a guard stands before it is set: what comes by a link for or from
//! 127.0.0.0/8 is dropped before any translation, and only what is translated after it gets there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net};
use nix::errno::Errno;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{ChainKind, Equal, Hook, HookPoint, Match, Rule, Statement};
use weft_kernel::{Fault, FaultKind, NetnsId, TableName};

use crate::fault::Trouble;
use crate::netlink::Socket;
use crate::netns::{self, Inside};
use crate::nft::{self, WholeChain, WholeRule, WholeTable};
use crate::{addr, host_netns_id, sysctl};

/// Where a container of Docker's asks for names.
const DOCKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DNS: u16 = 53;
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";

/// Before Docker's, which are at -100 (`NF_IP_PRI_NAT_DST`).
const BEFORE_DOCKER: i32 = -110;
/// Before Docker's, which are at 100 (`NF_IP_PRI_NAT_SRC`).
const BEFORE_DOCKER_OUT: i32 = 90;
/// Before any translation (`NF_IP_PRI_RAW`).
const BEFORE_ALL: i32 = -300;

/// What is diverted, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divert {
    /// Where Weft's resolver listens, at port 53, UDP and TCP: the network's gateway address.
    pub gateway: Ipv4Addr,
    /// The container's address on the network.
    pub own: Ipv4Addr,
    /// The host's addresses on the network, the gateway among them: who may ask back.
    pub from: Vec<Ipv4Addr>,
    /// Where on `own` Docker's resolver is reached by them, UDP and TCP.
    pub port: u16,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diverted {
    /// Something was missing or not so, and is in place now.
    Done,
    /// It is too early: there is no namespace at the path, Docker's resolver has no sockets in it,
    /// or none of its links has the container's address. Nothing was changed.
    NotYet,
    /// All was in place.
    Unchanged,
}

/// Diverts the queries of a Docker container to Weft's resolver, and opens Docker's own resolver
/// to the host. Call it again at any time, as often as liked: what is in place is left alone, and
/// Docker's ports, which are others after its engine was restarted, are found anew.
///
/// `netns` is the container's namespace (`/proc/PID/ns/net`, or the sandbox key that Docker's engine
/// tells). A runtime makes the latter when it is ready: a path that does not exist or
/// is an empty file is [`Diverted::NotYet`], unless it lies below `/proc`.
///
/// # Errors
/// [`FaultKind::NetnsGone`] when the process or thread whose namespace it was is no more; any other
/// when the path leads elsewhere or to the host's own namespace, the wish makes no sense, or what
/// the kernel refused. The table is put whole or not at all, and the sysctl only after it.
pub fn divert(netns: &Path, wish: &Divert) -> Result<Diverted, Fault> {
    let call = netns::call(netns);
    check(wish).map_err(|trouble| trouble.of(call.clone()))?;
    let host = host_netns_id()?;
    let done = netns::enter(netns, None, |inside, id| Ok(within(inside, id, host, &call, wish)));
    match done {
        Ok(done) => done,
        Err(trouble) if is_to_come(netns, &trouble) => Ok(Diverted::NotYet),
        Err(trouble) => Err(trouble.of(call)),
    }
}

/// Takes a diversion away, when a container that runs on has left its last network of Weft's: it asks
/// Docker's resolver as before. Where there is none, or no namespace any more, nothing is done.
///
/// # Errors
/// When the path leads to the host's own namespace, or what the kernel refused.
pub fn undivert(netns: &Path) -> Result<(), Fault> {
    let call = netns::call(netns);
    let host = host_netns_id()?;
    let name = TableName { family: NftFamily::Ip, name: nft::OURS.to_owned() };
    let done = netns::enter(netns, None, |_, id| {
        if id == host {
            return Err(Trouble::new(Errno::EINVAL, "this is the host's own network namespace"));
        }
        let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
        if !nft::is_there(&mut socket, &name)? {
            return Ok(());
        }
        // First the door is closed, then the guard goes.
        sysctl::write(ROUTE_LOCALNET, "0")?;
        nft::remove(&mut socket, &name)
    });
    match done {
        Err(trouble) if netns::is_gone(&trouble) => Ok(()),
        done => done.map_err(|trouble| trouble.of(call)),
    }
}

fn check(wish: &Divert) -> Result<(), Trouble> {
    let wrong = |text: String| Err(Trouble::new(Errno::EINVAL, text));
    let mut hosts = vec![wish.gateway, wish.own];
    hosts.extend(&wish.from);
    for ip in hosts {
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
            return wrong(format!("{ip} is no address of a host on a network"));
        }
    }
    if wish.port == 0 {
        return wrong("port 0 is no port to be reached at".to_owned());
    }
    Ok(())
}

/// Whether the namespace may come to be at this path. A runtime makes an empty file and
/// mounts the namespace on it; a process that is gone does not come back.
fn is_to_come(path: &Path, trouble: &Trouble) -> bool {
    if trouble.kind() == FaultKind::NetnsGone {
        return !path.starts_with("/proc");
    }
    let empty = |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.len() == 0);
    trouble.errno() == Errno::EINVAL && !path.starts_with("/proc") && empty(path)
}

/// On a thread inside the namespace.
fn within(
    mut inside: Inside,
    id: NetnsId,
    host: NetnsId,
    call: &str,
    wish: &Divert,
) -> Result<Diverted, Fault> {
    if id == host {
        let trouble = Trouble::new(Errno::EINVAL, "this is the host's own network namespace");
        let hint = "give a container's; one with `--network host` has no resolver of its own";
        return Err(trouble.hint(hint).of(call));
    }
    let refused = |tail: &str| {
        let call = format!("{call} {tail}");
        move |trouble: Trouble| trouble.of(call)
    };
    let holder = addr::holder(&mut inside.route, IpAddr::V4(wish.own)).map_err(Trouble::from);
    if holder.map_err(refused("ip addr"))?.is_none() {
        return Ok(Diverted::NotYet);
    }
    let ports = (port_in("udp", UNCONNECTED), port_in("tcp", LISTENING));
    let (Some(udp), Some(tcp)) =
        (ports.0.map_err(refused("ss -lun"))?, ports.1.map_err(refused("ss -ltn"))?)
    else {
        return Ok(Diverted::NotYet);
    };
    let put = put_table(&table(wish, udp, tcp)).map_err(refused("nft add table ip weft"))?;
    // Not before the guard stands.
    let opened = open().map_err(refused("sysctl net.ipv4.conf.all.route_localnet=1"))?;
    Ok(if put || opened { Diverted::Done } else { Diverted::Unchanged })
}

/// Says whether it had to be put.
fn put_table(table: &WholeTable) -> Result<bool, Trouble> {
    let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
    if nft::is_so(&mut socket, table)? {
        return Ok(false);
    }
    nft::replace(&mut socket, table)?;
    Ok(true)
}

/// Says whether it had to be written.
fn open() -> Result<bool, Trouble> {
    if sysctl::read(ROUTE_LOCALNET)?.as_deref() == Some("1") {
        return Ok(false);
    }
    sysctl::write(ROUTE_LOCALNET, "1")?;
    Ok(true)
}

/// `TCP_CLOSE`, the state of a UDP socket that is not connected (`net/tcp_states.h`).
const UNCONNECTED: &str = "07";
/// `TCP_LISTEN`
const LISTENING: &str = "0A";

/// The port of Docker's resolver in the calling thread's namespace.
fn port_in(protocol: &str, state: &str) -> Result<Option<u16>, Trouble> {
    // Of this thread: `/proc/net` is that of the process, which is elsewhere.
    let sockets = std::fs::read(format!("/proc/thread-self/net/{protocol}"))?;
    Ok(port(&String::from_utf8_lossy(&sockets), state))
}

/// The port of the socket at Docker's address in this list (proc(5), `/proc/net/tcp`). Of
/// several the one with the lowest inode: the engine was there before the container's processes.
fn port(sockets: &str, state: &str) -> Option<u16> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        // The octets as they lie in memory, read as one number of this machine's.
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        let matches = Ipv4Addr::from(address) == DOCKER && *fields.get(3)? == state;
        let inode: u64 = fields.get(9)?.parse().ok()?;
        matches.then_some((inode, u16::from_str_radix(port, 16).ok()?))
    };
    sockets.lines().filter_map(row).min().map(|(_, port)| port)
}

/// The table as it should be, with Docker's ports.
fn table(wish: &Divert, udp: u16, tcp: u16) -> WholeTable {
    let at = |ip, port| Some(SocketAddrV4::new(ip, port));
    let output = [Match::UdpPort(DNS), Match::TcpPort(DNS)].map(|port| WholeRule {
        rule: rule(vec![to(DOCKER.into()), port], vec![], "queries to Weft's resolver"),
        dnat: at(wish.gateway, DNS),
    });
    let local = vec![from(loopback()), to(wish.gateway.into())];
    let postrouting = WholeRule {
        rule: rule(local, vec![Statement::Masquerade(None)], "so that the answer finds back"),
        dnat: None,
    };
    // In an order of our own, so that the same wish is the same table.
    let hosts: BTreeSet<Ipv4Addr> = wish.from.iter().copied().collect();
    let asked = |host: Ipv4Addr| {
        [(Match::UdpPort(wish.port), udp), (Match::TcpPort(wish.port), tcp)].map(
            |(port, docker)| {
                let matches = vec![from(host.into()), to(wish.own.into()), port];
                let rule = rule(matches, vec![], "the host asks Docker's resolver");
                WholeRule { rule, dnat: at(DOCKER, docker) }
            },
        )
    };
    let guard = [to(loopback()), from(loopback())].map(|local| WholeRule {
        rule: rule(
            vec![Match::InLink(Equal::IsNot, "lo".to_owned()), local],
            vec![Statement::Drop],
            "route_localnet is for Weft only",
        ),
        dnat: None,
    });
    let (nat, filter) = (ChainKind::Nat, ChainKind::Filter);
    let prerouting = hosts.into_iter().flat_map(asked).collect();
    WholeTable {
        name: TableName { family: NftFamily::Ip, name: nft::OURS.to_owned() },
        chains: vec![
            chain("guard", filter, HookPoint::Prerouting, BEFORE_ALL, guard.into()),
            chain("output", nat, HookPoint::Output, BEFORE_DOCKER, output.into()),
            chain("postrouting", nat, HookPoint::Postrouting, BEFORE_DOCKER_OUT, vec![postrouting]),
            chain("prerouting", nat, HookPoint::Prerouting, BEFORE_DOCKER, prerouting),
        ],
    }
}

const fn chain(
    name: &'static str,
    kind: ChainKind,
    point: HookPoint,
    priority: i32,
    rules: Vec<WholeRule>,
) -> WholeChain {
    WholeChain { name, hook: Hook { kind, point, priority }, rules }
}

fn rule(matches: Vec<Match>, statements: Vec<Statement>, comment: &str) -> Rule {
    Rule { matches, statements, comment: comment.to_owned() }
}

fn from(net: Ipv4Net) -> Match {
    Match::Source(Equal::Is, IpNet::V4(net))
}

fn to(net: Ipv4Net) -> Match {
    Match::Destination(Equal::Is, IpNet::V4(net))
}

/// 127.0.0.0/8 (RFC 1122 section 3.2.1.3).
fn loopback() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)
}

#[cfg(test)]
mod tests {
    use super::{LISTENING, UNCONNECTED, port};

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";

    /// A row of the list, as the kernel of this machine's byte order writes it.
    fn row(address: [u8; 4], port: u16, state: &str, inode: u64) -> String {
        let address = u32::from_ne_bytes(address);
        format!(
            "  401: {address:08X}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0000000000000000 0\n"
        )
    }

    #[test]
    fn the_port_is_that_of_the_socket_at_dockers_address_in_the_right_state() {
        let docker = [127, 0, 0, 11];
        let list = [
            HEAD.to_owned(),
            row([127, 0, 0, 1], 1, UNCONNECTED, 10),
            row([0, 0, 0, 0], 2, UNCONNECTED, 11),
            row([11, 0, 0, 127], 3, UNCONNECTED, 12),
            row(docker, 4, "01", 13),
            row(docker, 40_021, UNCONNECTED, 14),
        ];
        assert_eq!(port(&list.concat(), UNCONNECTED), Some(40_021));
        assert_eq!(port(&list.concat(), LISTENING), None);
        assert_eq!(port(&list[..5].concat(), UNCONNECTED), None);
    }

    #[test]
    fn of_several_sockets_the_first_made_counts() {
        let row = |port, inode| row([127, 0, 0, 11], port, LISTENING, inode);
        let list = [row(7_000, 1_000), row(40_000, 999), row(8_000, 10_001)].concat();
        assert_eq!(port(&list, LISTENING), Some(40_000));
    }

    #[test]
    fn a_list_that_is_cut_short_has_no_port_in_it() {
        let whole = row([127, 0, 0, 11], 40_021, LISTENING, 14);
        for end in 0..whole.find(" 14 ").unwrap() {
            assert_eq!(port(&whole[..end], LISTENING), None, "{:?}", &whole[..end]);
        }
        assert_eq!(port("x\n:\n 1: Z:Z 0:0 0A a b c d e f\n", LISTENING), None);
    }
}
