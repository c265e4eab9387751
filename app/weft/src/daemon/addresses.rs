//! Which of the host's addresses other hosts should use.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use weft_model::Name;
use weft_state::rejection::Code;

use crate::agent::refusal::Refusal;

/// An address of documentation (RFC 5737, RFC 3849): nothing is sent to it, it only makes the
/// kernel choose a source for the default route.
const ELSEWHERE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// The data address: the one asked for, if it is one of this host's; else the one that `towards`
/// is reached from; else the default route's; else the only one there is.
pub(crate) fn data_address(asked: &str, towards: Option<SocketAddr>) -> Result<IpAddr, Refusal> {
    let own = own_addresses();
    if !asked.is_empty() {
        let address: IpAddr = super::local::required(asked, "--data-address")?;
        if !own.contains(&address) {
            return Err(Refusal::reject(
                Code::Invalid,
                "--data-address",
                format!("{address} is not an address of this host"),
                format!("this host has {}", listed(&own)),
            ));
        }
        return Ok(address);
    }
    let by_route = match towards {
        Some(server) => source_for(server),
        None => ELSEWHERE.iter().find_map(|e| e.parse().ok().and_then(source_for)),
    };
    if let Some(address) = by_route.filter(|a| own.contains(a)) {
        return Ok(address);
    }
    let v4: Vec<IpAddr> = own.iter().copied().filter(IpAddr::is_ipv4).collect();
    match (v4.as_slice(), own.as_slice()) {
        ([only], _) | ([], [only]) => Ok(*only),
        _ => Err(Refusal::reject(
            Code::Invalid,
            "--data-address",
            "which address other hosts should send to cannot be told",
            format!("give one of {}", listed(&own)),
        )),
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "none yet: give it one first".to_owned();
    }
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The source address the kernel would use. Connecting a UDP socket sends nothing (udp(7)).
fn source_for(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|a| !a.is_loopback())
}

/// Addresses of this host that others could reach: not loopback, not link-local, not Weft's own.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let foreign = all
        .filter(|i| !weft_model::device::PREFIXES.iter().any(|p| i.interface_name.starts_with(p)));
    let addresses = foreign.filter_map(|i| {
        let address = i.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    let mut addresses: Vec<IpAddr> = addresses
        .filter(|a| match a {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// What to call this host: the name asked for, else its host name up to the first dot.
pub(crate) fn node_name(asked: &str) -> Result<Name, Refusal> {
    if !asked.is_empty() {
        return super::local::required(asked, "--name");
    }
    let host = nix::unistd::gethostname().map_err(Refusal::internal)?;
    let host = host.to_string_lossy();
    let short = host.split('.').next().unwrap_or_default();
    short.parse().map_err(|e| {
        Refusal::reject(
            Code::Invalid,
            "--name",
            format!("this host's own name cannot be used: {e}"),
            "give one with --name",
        )
    })
}
