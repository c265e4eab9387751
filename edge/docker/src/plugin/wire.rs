//! The requests as they are written, and what each becomes.
//!
//! Fields that are not known are let be: engines add some with time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::call::Call;
use super::field::{Blank, Field, Identifier, Mac, Needed, Object, PoolId, or_default};
use super::values;

/// A request that has a body.
pub(super) trait Wire: DeserializeOwned {
    /// What it asks for; the error names the field.
    fn call(self) -> Result<Call, String>;
}

#[derive(Deserialize)]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    network: Needed<Identifier>,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    options: Object<NetworkOptions>,
    #[serde(rename = "IPv4Data", default, deserialize_with = "or_default")]
    ipv4: Vec<Object<IpamData<Ipv4Net>>>,
    #[serde(rename = "IPv6Data", default, deserialize_with = "or_default")]
    ipv6: Vec<Object<IpamData<Ipv6Net>>>,
}

#[derive(Default, Deserialize)]
struct NetworkOptions {
    #[serde(rename = "com.docker.network.generic", default, deserialize_with = "or_default")]
    generic: BTreeMap<String, String>,
    #[serde(rename = "com.docker.network.internal", default, deserialize_with = "or_default")]
    internal: bool,
}

#[derive(Deserialize)]
#[serde(bound = "T: Field")]
struct IpamData<T> {
    #[serde(rename = "AddressSpace", default)]
    address_space: Blank<String>,
    #[serde(rename = "Pool")]
    pool: Needed<T>,
    #[serde(rename = "Gateway", default)]
    gateway: Blank<T>,
    #[serde(rename = "AuxAddresses", default, deserialize_with = "or_default")]
    aux: BTreeMap<String, Needed<T>>,
}

impl<T: Into<IpNet>> IpamData<T> {
    fn value(self) -> values::IpamData {
        values::IpamData {
            address_space: self.address_space.0.unwrap_or_default(),
            pool: self.pool.0.into(),
            gateway: self.gateway.0.map(Into::into),
            aux: self.aux.into_iter().map(|(name, net)| (name, net.0.into())).collect(),
        }
    }
}

impl Wire for CreateNetwork {
    fn call(self) -> Result<Call, String> {
        Ok(Call::CreateNetwork(values::CreateNetwork {
            id: self.network.0.0,
            options: self.options.0.generic,
            internal: self.options.0.internal,
            ipv4: self.ipv4.into_iter().map(|data| data.0.value()).collect(),
            ipv6: self.ipv6.into_iter().map(|data| data.0.value()).collect(),
        }))
    }
}

/// Swarm's; only what it must have is looked at.
#[derive(Deserialize)]
pub(super) struct AllocateNetwork {
    #[serde(rename = "NetworkID")]
    network: Needed<Identifier>,
}

impl Wire for AllocateNetwork {
    fn call(self) -> Result<Call, String> {
        Ok(Call::AllocateNetwork(self.network.0.0))
    }
}

/// Swarm's, for what was never allocated.
#[derive(Deserialize)]
pub(super) struct FreeNetwork {
    #[serde(rename = "NetworkID")]
    #[expect(dead_code, reason = "it must be there")]
    network: Needed<Identifier>,
}

impl Wire for FreeNetwork {
    fn call(self) -> Result<Call, String> {
        Ok(Call::Done)
    }
}

#[derive(Deserialize)]
pub(super) struct DeleteNetwork {
    #[serde(rename = "NetworkID")]
    network: Needed<Identifier>,
}

impl Wire for DeleteNetwork {
    fn call(self) -> Result<Call, String> {
        Ok(Call::DeleteNetwork(self.network.0.0))
    }
}

#[derive(Deserialize)]
pub(super) struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    network: Needed<Identifier>,
    #[serde(rename = "EndpointID")]
    endpoint: Needed<Identifier>,
    #[serde(rename = "Interface", default, deserialize_with = "or_default")]
    interface: Object<Interface>,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    options: BTreeMap<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct Interface {
    #[serde(rename = "Address", default)]
    v4: Blank<Ipv4Net>,
    #[serde(rename = "AddressIPv6", default)]
    v6: Blank<Ipv6Net>,
    #[serde(rename = "MacAddress", default)]
    mac: Blank<Mac>,
}

impl Wire for CreateEndpoint {
    fn call(self) -> Result<Call, String> {
        let Object(interface) = self.interface;
        Ok(Call::CreateEndpoint(values::CreateEndpoint {
            at: at(self.network, self.endpoint),
            v4: interface.v4.0.map(Into::into),
            v6: interface.v6.0.map(Into::into),
            mac: interface.mac.0.map(|mac| mac.0),
            options: self.options,
        }))
    }
}

fn at(network: Needed<Identifier>, endpoint: Needed<Identifier>) -> values::EndpointAt {
    values::EndpointAt { network: network.0.0, endpoint: endpoint.0.0 }
}

/// The calls that name an endpoint and say nothing more of it.
#[derive(Deserialize)]
struct EndpointAt {
    #[serde(rename = "NetworkID")]
    network: Needed<Identifier>,
    #[serde(rename = "EndpointID")]
    endpoint: Needed<Identifier>,
}

macro_rules! about_an_endpoint {
    ($($wire:ident => $call:expr;)*) => {$(
        #[derive(Deserialize)]
        #[serde(transparent)]
        pub(super) struct $wire(EndpointAt);

        impl Wire for $wire {
            fn call(self) -> Result<Call, String> {
                let call: fn(values::EndpointAt) -> Call = $call;
                Ok(call(at(self.0.network, self.0.endpoint)))
            }
        }
    )*};
}

about_an_endpoint! {
    EndpointInfo => Call::EndpointInfo;
    DeleteEndpoint => Call::DeleteEndpoint;
    Leave => Call::Leave;
    ExternalConnectivity => |_| Call::Done;
}

#[derive(Deserialize)]
pub(super) struct Join {
    #[serde(rename = "NetworkID")]
    network: Needed<Identifier>,
    #[serde(rename = "EndpointID")]
    endpoint: Needed<Identifier>,
    #[serde(rename = "SandboxKey")]
    sandbox: Needed<String>,
}

impl Wire for Join {
    fn call(self) -> Result<Call, String> {
        Ok(Call::Join(values::Join {
            at: at(self.network, self.endpoint),
            sandbox: PathBuf::from(self.sandbox.0),
        }))
    }
}

/// Swarm's news of its nodes.
#[derive(Deserialize)]
pub(super) struct Discover {
    #[serde(rename = "DiscoveryType")]
    #[expect(dead_code, reason = "it must be there, and a number")]
    kind: i64,
}

impl Wire for Discover {
    fn call(self) -> Result<Call, String> {
        Ok(Call::Done)
    }
}

#[derive(Deserialize)]
pub(super) struct RequestPool {
    #[serde(rename = "AddressSpace", default)]
    space: Blank<String>,
    #[serde(rename = "Pool", default)]
    pool: Blank<IpNet>,
    #[serde(rename = "SubPool", default)]
    sub_pool: Blank<IpNet>,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    options: BTreeMap<String, String>,
    #[serde(rename = "V6", default, deserialize_with = "or_default")]
    v6: bool,
}

impl Wire for RequestPool {
    fn call(self) -> Result<Call, String> {
        let (pool, sub_pool, v6) = (self.pool.0, self.sub_pool.0, self.v6);
        if let Some(pool) = pool.filter(|pool| matches!(pool, IpNet::V6(_)) != v6) {
            let family = if v6 { "IPv6" } else { "IPv4" };
            return Err(format!("Pool: {pool} is not the {family} subnet that V6 asks for"));
        }
        match (pool, sub_pool) {
            (None, Some(part)) => return Err(format!("SubPool: {part} is part of no Pool")),
            (Some(pool), Some(part)) if !pool.contains(&part) => {
                return Err(format!("SubPool: {part} is not inside the Pool {pool}"));
            }
            _ => {}
        }
        let space = self.space.0.unwrap_or_default();
        Ok(Call::RequestPool(values::RequestPool {
            space,
            pool,
            sub_pool,
            options: self.options,
            v6,
        }))
    }
}

#[derive(Deserialize)]
pub(super) struct ReleasePool {
    #[serde(rename = "PoolID")]
    pool: Needed<PoolId>,
}

impl Wire for ReleasePool {
    fn call(self) -> Result<Call, String> {
        Ok(Call::ReleasePool(self.pool.0.0))
    }
}

#[derive(Deserialize)]
pub(super) struct RequestAddress {
    #[serde(rename = "PoolID")]
    pool: Needed<PoolId>,
    #[serde(rename = "Address", default)]
    address: Blank<IpAddr>,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    options: BTreeMap<String, String>,
}

impl Wire for RequestAddress {
    fn call(self) -> Result<Call, String> {
        let option = |label: &str| self.options.get(label).filter(|text| !text.is_empty());
        let kind = option("RequestAddressType").map(String::as_str);
        Ok(Call::RequestAddress(values::RequestAddress {
            pool: self.pool.0.0,
            address: self.address.0,
            gateway: kind == Some("com.docker.network.gateway"),
            name: option("com.docker.network.endpoint.name").cloned(),
            options: self.options,
        }))
    }
}

#[derive(Deserialize)]
pub(super) struct ReleaseAddress {
    #[serde(rename = "PoolID")]
    pool: Needed<PoolId>,
    #[serde(rename = "Address")]
    address: Needed<IpAddr>,
}

impl Wire for ReleaseAddress {
    fn call(self) -> Result<Call, String> {
        Ok(Call::ReleaseAddress(values::ReleaseAddress {
            pool: self.pool.0.0,
            address: self.address.0,
        }))
    }
}
