//! What an engine tells, as values.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use bollard::models;
use ipnet::IpNet;

/// A network of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInfo {
    /// The identifier that driver calls carry.
    pub id: String,
    /// Its name. Engines allow two networks of one name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its IPAM driver.
    pub ipam_driver: String,
    /// Whether it was created with `--internal`.
    pub internal: bool,
    /// Whether it was created with `--ipv6`.
    pub ipv6: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What was given with `-o KEY=VALUE`.
    pub options: BTreeMap<String, String>,
    /// Its subnets. One that the IPAM driver left open is `0.0.0.0/0`.
    pub pools: Vec<IpNet>,
    /// Who is on it now, by endpoint. Stopped containers have no endpoint.
    pub endpoints: Vec<EndpointInfo>,
}

/// An endpoint, as its network shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointInfo {
    /// The identifier that driver calls carry.
    pub endpoint_id: String,
    /// The container; `None` for an endpoint that is in none, as while its container is started.
    pub container_id: Option<String>,
    /// The container's name.
    pub name: String,
    /// Its IPv4 address with the length of the subnet.
    pub v4: Option<IpNet>,
    /// Its IPv6 address with the length of the subnet.
    pub v6: Option<IpNet>,
}

/// A container of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its full identifier.
    pub id: String,
    /// Its name, without the slash the API writes before it.
    pub name: String,
    /// Its host name: by default the short identifier.
    pub hostname: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs; a paused one does.
    pub running: bool,
    /// Its first process, in the engine's PID namespace.
    pub pid: Option<u32>,
    /// The networks it is to be on, by name.
    pub networks: Vec<ContainerNetwork>,
    /// Where its network namespace is; none while it is stopped.
    pub sandbox_key: Option<PathBuf>,
}

/// A container's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerNetwork {
    /// The network's name, or its identifier where the container was given that.
    pub network: String,
    /// The network; `None` before the container's first start.
    pub network_id: Option<String>,
    /// The endpoint; `None` while the container is stopped.
    pub endpoint_id: Option<String>,
    /// What `--network-alias` and compose call it there, and the host name if one was chosen. The
    /// container's short identifier, which engines before 25 list as well, is left out.
    pub aliases: Vec<String>,
    /// Its IPv4 address with the length of the subnet.
    pub v4: Option<IpNet>,
    /// Its IPv6 address with the length of the subnet.
    pub v6: Option<IpNet>,
}

/// How many characters of an identifier make the short one.
const SHORT: usize = 12;

pub(super) fn network(told: models::NetworkInspect) -> NetworkInfo {
    let ipam = told.ipam.unwrap_or_default();
    let configs = ipam.config.unwrap_or_default();
    let pools = configs.iter().filter_map(|config| net(config.subnet.as_deref()));
    let mut endpoints: Vec<_> =
        told.containers.unwrap_or_default().into_iter().map(endpoint).collect();
    endpoints.sort();
    NetworkInfo {
        id: told.id.unwrap_or_default(),
        name: told.name.unwrap_or_default(),
        driver: told.driver.unwrap_or_default(),
        ipam_driver: ipam.driver.unwrap_or_default(),
        internal: told.internal.unwrap_or_default(),
        ipv6: told.enable_ipv6.unwrap_or_default(),
        labels: sorted(told.labels),
        options: sorted(told.options),
        pools: pools.collect(),
        endpoints,
    }
}

/// `key` is the container, or `ep-` and the endpoint where there is none.
fn endpoint((key, told): (String, models::EndpointResource)) -> EndpointInfo {
    EndpointInfo {
        endpoint_id: told.endpoint_id.unwrap_or_default(),
        container_id: Some(key).filter(|key| !key.starts_with("ep-")),
        name: told.name.unwrap_or_default(),
        v4: net(told.ipv4_address.as_deref()),
        v6: net(told.ipv6_address.as_deref()),
    }
}

pub(super) fn container(told: models::ContainerInspectResponse) -> ContainerInfo {
    let id = told.id.unwrap_or_default();
    let state = told.state.unwrap_or_default();
    let config = told.config.unwrap_or_default();
    let settings = told.network_settings.unwrap_or_default();
    let networks = settings.networks.unwrap_or_default();
    let mut networks: Vec<_> =
        networks.into_iter().map(|(name, told)| place(name, told, &id)).collect();
    networks.sort_by(|a, b| a.network.cmp(&b.network));
    let name = told.name.unwrap_or_default();
    ContainerInfo {
        name: name.strip_prefix('/').unwrap_or(&name).to_owned(),
        hostname: config.hostname.unwrap_or_default(),
        labels: sorted(config.labels),
        running: state.running.unwrap_or_default(),
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0),
        networks,
        sandbox_key: filled(settings.sandbox_key).map(PathBuf::from),
        id,
    }
}

fn place(network: String, told: models::EndpointSettings, container: &str) -> ContainerNetwork {
    let mut aliases = told.aliases.unwrap_or_default();
    aliases.retain(|alias| alias.len() != SHORT || !container.starts_with(alias.as_str()));
    ContainerNetwork {
        network,
        network_id: filled(told.network_id),
        endpoint_id: filled(told.endpoint_id),
        aliases,
        v4: address(told.ip_address, told.ip_prefix_len),
        v6: address(told.global_ipv6_address, told.global_ipv6_prefix_len),
    }
}

/// The API writes what is not there as an empty text.
fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn net(text: Option<&str>) -> Option<IpNet> {
    text?.parse().ok()
}

fn address(text: Option<String>, length: Option<i64>) -> Option<IpNet> {
    let length = u8::try_from(length?).ok()?;
    IpNet::new(text?.parse().ok()?, length).ok()
}

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}
