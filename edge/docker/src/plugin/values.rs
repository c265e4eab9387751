//! What the calls of an engine say, as values: read, checked, and free of the protocol's spelling.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;

/// An endpoint: a container's place on a network. It gets a new identifier at each start of the
/// container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointAt {
    /// The network, as the engine identifies it (64 hexadecimal digits; each engine its own).
    pub network: String,
    /// The endpoint, as the engine identifies it.
    pub endpoint: String,
}

/// A subnet of a network, as IPAM gave it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamData {
    /// The address space of the IPAM driver; empty if none was told.
    pub address_space: String,
    /// The subnet, with the address bits as they came. With the `null` IPAM driver, and for a pool
    /// that was answered so, it is `0.0.0.0/0` or `::/0`.
    pub pool: IpNet,
    /// The gateway, with the length of the subnet.
    pub gateway: Option<IpNet>,
    /// The addresses that `--aux-address NAME=ADDRESS` keeps free, by name.
    pub aux: BTreeMap<String, IpNet>,
}

/// `NetworkDriver.CreateNetwork`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNetwork {
    /// The network, as the engine identifies it. Its name and labels are not told.
    pub id: String,
    /// What was given with `-o KEY=VALUE` (`com.docker.network.generic`).
    pub options: BTreeMap<String, String>,
    /// Whether it was created with `--internal`.
    pub internal: bool,
    /// The IPv4 subnets.
    pub ipv4: Vec<IpamData>,
    /// The IPv6 subnets.
    pub ipv6: Vec<IpamData>,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEndpoint {
    /// Which endpoint.
    pub at: EndpointAt,
    /// Its IPv4 address with the length of the subnet, as IPAM gave it out.
    pub v4: Option<IpNet>,
    /// Its IPv6 address with the length of the subnet.
    pub v6: Option<IpNet>,
    /// Its MAC, when the user or IPAM chose it; never a group address.
    pub mac: Option<[u8; 6]>,
    /// The other options by label, as they came: `com.docker.network.endpoint.exposedports`,
    /// `com.docker.network.portmap`, and the `driver-opt`s of the endpoint.
    pub options: BTreeMap<String, serde_json::Value>,
}

/// The answer to `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreatedEndpoint {
    /// The MAC the endpoint is to have. It is left out of the answer when the request named one: an
    /// engine refuses to be told what it said.
    pub mac: Option<[u8; 6]>,
}

/// `NetworkDriver.Join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which endpoint.
    pub at: EndpointAt,
    /// Where the container's network namespace is, or will be: engines before 26 make it only
    /// after the answer.
    pub sandbox: PathBuf,
}

/// A route an engine puts into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRoute {
    /// Where to.
    pub destination: IpNet,
    /// Through whom; without one the destination is on the link.
    pub next_hop: Option<IpAddr>,
}

/// The answer to `NetworkDriver.Join`: the interface the engine moves into the container, and
/// what it sets there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// The interface's name in the host's network namespace.
    pub source_name: String,
    /// What its name in the container begins with; the engine adds a number.
    pub prefix: String,
    /// The IPv4 default route. With one, published ports are the driver's business, and `docker
    /// ps` does not show them.
    pub gateway: Option<Ipv4Addr>,
    /// The IPv6 default route.
    pub gateway6: Option<Ipv6Addr>,
    /// Other routes.
    pub static_routes: Vec<StaticRoute>,
    /// Whether the engine is to leave out its own way to the outside (`docker_gwbridge`).
    pub disable_gateway_service: bool,
}

/// `IpamDriver.RequestPool`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPool {
    /// The address space; empty if none was told.
    pub space: String,
    /// The subnet the user wants (`--subnet`), with the address bits as they came.
    pub pool: Option<IpNet>,
    /// The part of it that containers get addresses from (`--ip-range`); inside the pool.
    pub sub_pool: Option<IpNet>,
    /// What was given with `--ipam-opt KEY=VALUE`.
    pub options: BTreeMap<String, String>,
    /// Whether an IPv6 subnet is wanted; a given pool is of that family.
    pub v6: bool,
}

/// The answer to `IpamDriver.RequestPool`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// What the engine names the pool by from now on; never empty.
    pub id: String,
    /// The subnet. With `0.0.0.0/0` and `::/0` the engine does not look for overlaps.
    pub pool: IpNet,
    /// Facts about it: `com.docker.network.gateway` spares the engine asking for a gateway (it is
    /// released all the same when the network goes).
    pub data: BTreeMap<String, String>,
}

/// `IpamDriver.RequestAddress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAddress {
    /// The pool, as [`Pool::id`] named it.
    pub pool: String,
    /// The address that is wanted (`--ip`); any if none.
    pub address: Option<IpAddr>,
    /// Whether it is the network's gateway that is asked for.
    pub gateway: bool,
    /// The container's name, from engines that tell it (28 and later).
    pub name: Option<String>,
    /// All options by label, those above among them.
    pub options: BTreeMap<String, String>,
}

/// `IpamDriver.ReleaseAddress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseAddress {
    /// The pool, as [`Pool::id`] named it.
    pub pool: String,
    /// The address that is free now.
    pub address: IpAddr,
}
