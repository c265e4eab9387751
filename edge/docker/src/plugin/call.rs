//! The calls of the protocol: their names, how each is read, and how it is answered.

use serde_json::{Map, Value, json};

use super::Plugin;
use super::field::Object;
use super::values::{
    CreateEndpoint, CreateNetwork, EndpointAt, Join, Joined, ReleaseAddress, RequestAddress,
    RequestPool,
};
use super::wire::{self, Wire};

/// The longest error that is sent, in bytes: requests are quoted in it.
const LONGEST: usize = 600;

/// A call that has been read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    Activate,
    Capabilities,
    IpamCapabilities,
    AddressSpaces,
    AllocateNetwork(String),
    /// There is nothing to do.
    Done,
    CreateNetwork(CreateNetwork),
    DeleteNetwork(String),
    CreateEndpoint(CreateEndpoint),
    EndpointInfo(EndpointAt),
    DeleteEndpoint(EndpointAt),
    Join(Join),
    Leave(EndpointAt),
    RequestPool(RequestPool),
    ReleasePool(String),
    RequestAddress(RequestAddress),
    ReleaseAddress(ReleaseAddress),
}

/// A method of the protocol.
#[derive(Debug)]
pub(super) struct Method {
    /// As it stands in the path of a request.
    pub(super) name: &'static str,
    read: fn(&[u8]) -> Result<Call, String>,
}

static METHODS: [Method; 21] = [
    Method::new("Plugin.Activate", |_| Ok(Call::Activate)),
    Method::new("NetworkDriver.GetCapabilities", |_| Ok(Call::Capabilities)),
    Method::new("NetworkDriver.AllocateNetwork", read::<wire::AllocateNetwork>),
    Method::new("NetworkDriver.FreeNetwork", read::<wire::FreeNetwork>),
    Method::new("NetworkDriver.CreateNetwork", read::<wire::CreateNetwork>),
    Method::new("NetworkDriver.DeleteNetwork", read::<wire::DeleteNetwork>),
    Method::new("NetworkDriver.CreateEndpoint", read::<wire::CreateEndpoint>),
    Method::new("NetworkDriver.EndpointOperInfo", read::<wire::EndpointInfo>),
    Method::new("NetworkDriver.DeleteEndpoint", read::<wire::DeleteEndpoint>),
    Method::new("NetworkDriver.Join", read::<wire::Join>),
    Method::new("NetworkDriver.Leave", read::<wire::Leave>),
    Method::new("NetworkDriver.ProgramExternalConnectivity", read::<wire::ExternalConnectivity>),
    Method::new("NetworkDriver.RevokeExternalConnectivity", read::<wire::ExternalConnectivity>),
    Method::new("NetworkDriver.DiscoverNew", read::<wire::Discover>),
    Method::new("NetworkDriver.DiscoverDelete", read::<wire::Discover>),
    Method::new("IpamDriver.GetCapabilities", |_| Ok(Call::IpamCapabilities)),
    Method::new("IpamDriver.GetDefaultAddressSpaces", |_| Ok(Call::AddressSpaces)),
    Method::new("IpamDriver.RequestPool", read::<wire::RequestPool>),
    Method::new("IpamDriver.ReleasePool", read::<wire::ReleasePool>),
    Method::new("IpamDriver.RequestAddress", read::<wire::RequestAddress>),
    Method::new("IpamDriver.ReleaseAddress", read::<wire::ReleaseAddress>),
];

impl Method {
    const fn new(name: &'static str, read: fn(&[u8]) -> Result<Call, String>) -> Self {
        Self { name, read }
    }

    /// The method of this path.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        let name = path.strip_prefix('/')?;
        METHODS.iter().find(|method| method.name == name)
    }

    /// Reads the body of a request; the error is what the user is told.
    pub(super) fn read(&self, body: &[u8]) -> Result<Call, String> {
        (self.read)(body).map_err(|error| {
            let name = self.name;
            shortened(format!("weft cannot read Docker's {name}, and did nothing: {error}"))
        })
    }

    /// The body of the response. Both kinds of driver have a word of their own for an error.
    pub(super) fn response(&self, answer: Result<Value, String>) -> Value {
        match answer {
            Ok(answer) => answer,
            Err(error) if self.name.starts_with("IpamDriver.") => json!({ "Error": error }),
            Err(error) => json!({ "Err": error }),
        }
    }
}

fn read<W: Wire>(body: &[u8]) -> Result<Call, String> {
    if body.trim_ascii().is_empty() {
        // An engine repeats a call whose connection broke, without what it said the first time.
        let error = "the request is empty, as it is after a broken connection: repeat the command";
        return Err(error.to_owned());
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let Object(request): Object<W> =
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let error = error.into_inner();
            let mut text = error.to_string();
            // A field that is named needs no line and column.
            if let Some(end) = text.rfind(" at line ").filter(|_| error.is_data()) {
                text.truncate(end);
            }
            if path == "." { text } else { format!("{path}: {text}") }
        })?;
    reader.end().map_err(|error| error.to_string())?;
    request.call()
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// Has `plugin` do what is asked, and writes down the answer.
pub(super) async fn perform<P: Plugin>(plugin: &P, call: Call) -> Result<Value, String> {
    let done = |()| json!({});
    match call {
        Call::Activate => Ok(json!({ "Implements": ["NetworkDriver", "IpamDriver"] })),
        Call::Capabilities => Ok(json!({ "Scope": "local", "ConnectivityScope": "global" })),
        Call::IpamCapabilities => {
            Ok(json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false }))
        }
        // One space for both: with two, an engine that lets the driver choose a pool asks without
        // an end until it likes one.
        Call::AddressSpaces => Ok(json!({
            "LocalDefaultAddressSpace": "weft",
            "GlobalDefaultAddressSpace": "weft",
        })),
        Call::AllocateNetwork(_) => {
            Err("weft does not offer networks of Swarm's scope yet: create \
            the network on each host, with 'docker network create -d weft --ipam-driver weft'"
                .to_owned())
        }
        Call::Done => Ok(json!({})),
        Call::CreateNetwork(request) => plugin.create_network(request).await.map(done),
        Call::DeleteNetwork(id) => plugin.delete_network(id).await.map(done),
        Call::CreateEndpoint(request) => create_endpoint(plugin, request).await,
        Call::EndpointInfo(at) => {
            plugin.endpoint_info(at).await.map(|info| json!({ "Value": info }))
        }
        Call::DeleteEndpoint(at) => plugin.delete_endpoint(at).await.map(done),
        Call::Join(request) => plugin.join(request).await.map(joined),
        Call::Leave(at) => plugin.leave(at).await.map(done),
        Call::RequestPool(request) => plugin.request_pool(request).await.map(
            |pool| json!({ "PoolID": pool.id, "Pool": pool.pool.to_string(), "Data": pool.data }),
        ),
        Call::ReleasePool(id) => plugin.release_pool(id).await.map(done),
        Call::RequestAddress(request) => plugin
            .request_address(request)
            .await
            .map(|address| json!({ "Address": address.to_string(), "Data": {} })),
        Call::ReleaseAddress(request) => plugin.release_address(request).await.map(done),
    }
}

async fn create_endpoint<P: Plugin>(plugin: &P, request: CreateEndpoint) -> Result<Value, String> {
    let told = request.mac.is_some();
    let created = plugin.create_endpoint(request).await?;
    Ok(match created.mac {
        Some([a, b, c, d, e, f]) if !told => {
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            json!({ "Interface": { "MacAddress": mac } })
        }
        _ => json!({ "Interface": {} }),
    })
}

fn joined(joined: Joined) -> Value {
    let mut answer = Map::new();
    let name = json!({ "SrcName": joined.source_name, "DstPrefix": joined.prefix });
    answer.insert("InterfaceName".to_owned(), name);
    if let Some(gateway) = joined.gateway {
        answer.insert("Gateway".to_owned(), json!(gateway));
    }
    if let Some(gateway) = joined.gateway6 {
        answer.insert("GatewayIPv6".to_owned(), json!(gateway));
    }
    // The types of `libnetwork/types`: NEXTHOP and CONNECTED.
    let routes = joined.static_routes.iter().map(|route| match route.next_hop {
        Some(hop) => json!({ "Destination": route.destination, "RouteType": 0, "NextHop": hop }),
        None => json!({ "Destination": route.destination, "RouteType": 1 }),
    });
    answer.insert("StaticRoutes".to_owned(), routes.collect());
    answer.insert("DisableGatewayService".to_owned(), json!(joined.disable_gateway_service));
    Value::Object(answer)
}
