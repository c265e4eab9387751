//! The decision for one question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::index::NetworkIndex;
use crate::reverse::{Reverse, reverse};
use crate::{Asker, Kind, NameIndex, Query};

/// How long, in seconds, a container may remember an address of ours. Short: the container behind
/// a name may be another one soon.
pub const TTL: u32 = 5;

/// What to reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These records, all of the type asked for (of one type where any was asked for).
    Records(Vec<Data>),
    /// The name is ours and has nothing of that type: success without records (RFC 2308
    /// section 2.2).
    NoData,
    /// No such name.
    NxDomain,
    /// Not ours: ask upstream.
    Forward,
    /// Not for this asker, or nothing we give to anybody.
    Refused,
}

/// The data of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Of an A or AAAA record.
    Address(IpAddr),
    /// Of a PTR record: a name without its trailing dot.
    Name(String),
}

/// Answers a question, knowing who asks.
///
/// The asker is the bridge where the query came in and its source address. It sees the names of
/// its own networks, `name` as well as `name.network`; what ends in one of them is answered here
/// and never leaves the node, known or not. Everything else goes upstream, except for containers
/// that are on internal networks only: to them the name does not exist (NXDOMAIN: programs give up
/// at once, where REFUSED or SERVFAIL makes them try again for seconds), unless a resolver in the
/// container itself may know it.
///
/// Addresses come in an order drawn from `seed`.
pub fn answer(index: &NameIndex, asker: (&str, IpAddr), query: &Query, seed: u64) -> Answer {
    let Some(asker) = index.asker(asker.0, asker.1.to_canonical()) else { return Answer::Refused };
    if !query.internet || query.kind == Kind::Transfer {
        return Answer::Refused;
    }
    let networks: Vec<(&str, &NetworkIndex)> = asker
        .networks
        .iter()
        .filter_map(|name| Some((name.as_str(), index.network(name)?)))
        .collect();
    let labels: Vec<&str> = query.labels.iter().map(String::as_str).collect();
    if let Some(answer) = localhost(&labels, query.kind) {
        return answer;
    }
    if let Some(reverse) = reverse(&query.labels) {
        return pointer(&networks, asker, reverse, query.kind);
    }
    let of = |name: &str| networks.iter().find(|(network, _)| *network == name).map(|(_, n)| *n);
    match labels.as_slice() {
        [] if asker.forward || asker.inner.is_some() => Answer::Forward,
        [] => Answer::NoData,
        [name] => {
            let found = addresses(networks.iter().map(|(_, network)| *network), name);
            match found {
                Some(found) => of_kind(found, query.kind, seed),
                None if of(name).is_some() => Answer::NoData,
                None => elsewhere(asker),
            }
        }
        [.., name, last] => match of(last) {
            None => elsewhere(asker),
            Some(network) if labels.len() == 2 => {
                let found = addresses(std::iter::once(network), name);
                found.map_or(Answer::NxDomain, |found| of_kind(found, query.kind, seed))
            }
            Some(_) => Answer::NxDomain,
        },
    }
}

/// For names that are not ours.
fn elsewhere(asker: &Asker) -> Answer {
    if asker.forward || asker.inner.is_some() { Answer::Forward } else { Answer::NxDomain }
}

/// Names that mean the asker itself (RFC 6761 section 6.3): never sent anywhere.
fn localhost(labels: &[&str], kind: Kind) -> Option<Answer> {
    (labels.last() == Some(&"localhost")).then(|| match kind {
        Kind::A | Kind::Any => Answer::Records(vec![Data::Address(Ipv4Addr::LOCALHOST.into())]),
        Kind::Aaaa => Answer::Records(vec![Data::Address(Ipv6Addr::LOCALHOST.into())]),
        _ => Answer::NoData,
    })
}

/// All addresses of a name in these networks; none if it has no meaning in any.
fn addresses<'a>(
    networks: impl Iterator<Item = &'a NetworkIndex>,
    name: &str,
) -> Option<Vec<IpAddr>> {
    let mut known = false;
    let mut found = Vec::new();
    for record in networks.filter_map(|network| network.named(name)).flatten() {
        known = true;
        found.extend_from_slice(&record.addresses);
    }
    found.sort_unstable();
    found.dedup();
    known.then_some(found)
}

/// The addresses of the family asked for, in an order drawn from the seed. For ANY, the one
/// family that is there, IPv4 first.
fn of_kind(found: Vec<IpAddr>, kind: Kind, seed: u64) -> Answer {
    let four = match kind {
        Kind::A => true,
        Kind::Aaaa => false,
        Kind::Any => found.iter().any(IpAddr::is_ipv4),
        Kind::Ptr | Kind::Transfer | Kind::Other => return Answer::NoData,
    };
    let mut found: Vec<IpAddr> = found.into_iter().filter(|a| a.is_ipv4() == four).collect();
    if found.is_empty() {
        return Answer::NoData;
    }
    shuffle(&mut found, seed);
    Answer::Records(found.into_iter().map(Data::Address).collect())
}

/// Answers a reverse name. Inside the asker's subnets nobody else is asked.
fn pointer(
    networks: &[(&str, &NetworkIndex)],
    asker: &Asker,
    reverse: Reverse,
    kind: Kind,
) -> Answer {
    let prefix = match reverse {
        Reverse::Address(address) => {
            let names = names_of(networks, address);
            match kind {
                Kind::Ptr | Kind::Any if !names.is_empty() => return Answer::Records(names),
                _ if !names.is_empty() => return Answer::NoData,
                _ => address.into(),
            }
        }
        Reverse::Prefix(prefix) | Reverse::Below(prefix) => prefix,
    };
    let mut subnets = networks.iter().flat_map(|(_, network)| &network.subnets);
    let ours = prefix.addr().is_loopback() || subnets.any(|subnet| subnet.contains(&prefix));
    match reverse {
        _ if !ours => elsewhere(asker),
        Reverse::Prefix(_) => Answer::NoData,
        Reverse::Address(_) | Reverse::Below(_) => Answer::NxDomain,
    }
}

/// The names of an address, `name.network` for each network of the asker that knows it.
fn names_of(networks: &[(&str, &NetworkIndex)], address: IpAddr) -> Vec<Data> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if loopback.contains(&address) {
        return vec![Data::Name("localhost".to_owned())];
    }
    let names = networks.iter().flat_map(|(network, index)| {
        let first = index.at(address).iter().filter_map(|record| record.names.first());
        first.map(move |name| Data::Name(format!("{name}.{network}")))
    });
    names.collect()
}

/// Fisher and Yates' shuffle, with numbers from SplitMix64.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        items.swap(last, (z % (last as u64 + 1)) as usize);
    }
}
