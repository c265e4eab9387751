//! Every method, asked well: what the plugin sees, and what the engine reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;
use weft_docker::plugin::{
    CreateEndpoint, CreateNetwork, EndpointAt, IpamData, Join, ReleaseAddress, RequestAddress,
    RequestPool,
};

use crate::common::{Seen, World, raw};
use crate::requests;

fn at() -> EndpointAt {
    EndpointAt { network: "f1d2".to_owned(), endpoint: "ab34".to_owned() }
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[tokio::test]
async fn what_needs_no_plugin_is_answered_with_and_without_a_body() {
    let world = World::new().await;
    for body in ["", "{}\n", "null", "nonsense"] {
        let activate = world.call("Plugin.Activate", body).await;
        assert_eq!(activate, json!({ "Implements": ["NetworkDriver", "IpamDriver"] }));
        let capabilities = world.call("NetworkDriver.GetCapabilities", body).await;
        assert_eq!(capabilities, json!({ "Scope": "local", "ConnectivityScope": "global" }));
        let capabilities = world.call("IpamDriver.GetCapabilities", body).await;
        let none = json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false });
        assert_eq!(capabilities, none);
        let spaces = world.call("IpamDriver.GetDefaultAddressSpaces", body).await;
        let weft =
            json!({ "LocalDefaultAddressSpace": "weft", "GlobalDefaultAddressSpace": "weft" });
        assert_eq!(spaces, weft);
    }
    assert_eq!(world.plugin.take(), []);
}

#[tokio::test]
async fn what_weft_has_no_part_in_is_acknowledged() {
    let world = World::new().await;
    for (method, body) in requests::ALL {
        if requests::OWN.contains(&method) && method != "NetworkDriver.AllocateNetwork" {
            assert_eq!(world.call(method, body).await, json!({}), "{method}");
        }
    }
    let swarm = world.call("NetworkDriver.AllocateNetwork", requests::ALLOCATE_NETWORK).await;
    let error = "weft does not offer networks of Swarm's scope yet: create the network on each \
                 host, with 'docker network create -d weft --ipam-driver weft'";
    assert_eq!(swarm, json!({ "Err": error }));
    assert_eq!(world.plugin.take(), []);
}

#[tokio::test]
async fn a_network() {
    let world = World::new().await;
    let created = world.call("NetworkDriver.CreateNetwork", requests::CREATE_NETWORK).await;
    assert_eq!(created, json!({}));
    let id = "f1d2d2f924e986ac86fdf7b36c94bcdf32beec15a38359c82f32dbb3c3cd4a40";
    let data = IpamData {
        address_space: "LocalDefault".to_owned(),
        pool: "172.20.0.0/16".parse().unwrap(),
        gateway: Some("172.20.0.1/16".parse().unwrap()),
        aux: BTreeMap::from([("dns".to_owned(), "172.20.0.2/16".parse().unwrap())]),
    };
    let mut network = CreateNetwork {
        id: id.to_owned(),
        options: map([("user-opt", "v")]),
        internal: true,
        ipv4: vec![data],
        ipv6: vec![],
    };
    assert_eq!(world.plugin.take(), [Seen::CreateNetwork(network.clone())]);

    // As little as can be said, with what is empty written in each of Go's ways, and with fields
    // of a time to come.
    let body = r#" { "NetworkID": "n", "Options": null, "IPv4Data": null, "New": {"a": [1]},
        "IPv6Data": [{"Pool": "fd00:3::/64", "Gateway": "", "AuxAddresses": null, "New": 1}] } "#;
    assert_eq!(world.call("NetworkDriver.CreateNetwork", body).await, json!({}));
    network = CreateNetwork {
        id: "n".to_owned(),
        options: map([]),
        internal: false,
        ipv4: vec![],
        ipv6: vec![IpamData {
            address_space: String::new(),
            pool: "fd00:3::/64".parse().unwrap(),
            gateway: None,
            aux: BTreeMap::new(),
        }],
    };
    assert_eq!(world.plugin.take(), [Seen::CreateNetwork(network)]);

    let deleted = world.call("NetworkDriver.DeleteNetwork", requests::DELETE_NETWORK).await;
    assert_eq!(deleted, json!({}));
    assert_eq!(world.plugin.take(), [Seen::DeleteNetwork("f1d2".to_owned())]);
}

#[tokio::test]
async fn an_endpoint() {
    let world = World::new().await;
    let method = "NetworkDriver.CreateEndpoint";
    let created = world.call(method, requests::CREATE_ENDPOINT).await;
    assert_eq!(created, json!({ "Interface": { "MacAddress": "02:42:0a:03:00:0c" } }));
    let [Seen::CreateEndpoint(seen)] = &world.plugin.take()[..] else { panic!() };
    assert_eq!(seen.at, at());
    assert_eq!(seen.v4, Some("172.20.0.5/16".parse().unwrap()));
    assert_eq!((seen.v6, seen.mac), (None, None));
    assert_eq!(seen.options.len(), 6);
    assert_eq!(seen.options["my.driver.opt"], json!("x"));
    assert_eq!(seen.options["com.docker.network.portmap"][0]["HostPort"], json!(8080));

    // What the engine said itself is not said to it.
    let body = r#"{"NetworkID":"f1d2","EndpointID":"ab34","Options":null,"Interface":
        {"Address":"","AddressIPv6":"fd00:3::5/64","MacAddress":"02:42:AC:14:00:05"}}"#;
    assert_eq!(world.call(method, body).await, json!({ "Interface": {} }));
    let seen = CreateEndpoint {
        at: at(),
        v4: None,
        v6: Some("fd00:3::5/64".parse().unwrap()),
        mac: Some([0x02, 0x42, 0xac, 0x14, 0, 5]),
        options: BTreeMap::new(),
    };
    assert_eq!(world.plugin.take(), [Seen::CreateEndpoint(seen)]);

    for interface in ["", r#","Interface":null"#, r#","Interface":{}"#] {
        let body = format!(r#"{{"NetworkID":"f1d2","EndpointID":"unnamed"{interface}}}"#);
        assert_eq!(world.call(method, &body).await, json!({ "Interface": {} }));
    }

    let info = world.call("NetworkDriver.EndpointOperInfo", requests::ENDPOINT).await;
    assert_eq!(info, json!({ "Value": { "com.example.node": "a" } }));
    assert_eq!(world.plugin.take().pop(), Some(Seen::EndpointInfo(at())));
    let deleted = world.call("NetworkDriver.DeleteEndpoint", requests::ENDPOINT).await;
    assert_eq!(deleted, json!({}));
    assert_eq!(world.plugin.take(), [Seen::DeleteEndpoint(at())]);
}

#[tokio::test]
async fn joining_and_leaving() {
    let world = World::new().await;
    let joined = world.call("NetworkDriver.Join", requests::JOIN).await;
    let answer = json!({
        "InterfaceName": { "SrcName": "wlab34", "DstPrefix": "eth" },
        "StaticRoutes": [],
        "DisableGatewayService": false,
    });
    assert_eq!(joined, answer);
    let seen = Join { at: at(), sandbox: PathBuf::from("/var/run/docker/netns/5c1d") };
    assert_eq!(world.plugin.take(), [Seen::Join(seen)]);

    let body = r#"{"NetworkID":"f1d2","EndpointID":"routed","SandboxKey":"/x"}"#;
    let joined = world.call("NetworkDriver.Join", body).await;
    let answer = json!({
        "InterfaceName": { "SrcName": "wlab34", "DstPrefix": "eth" },
        "Gateway": "10.3.0.1",
        "GatewayIPv6": "fd00:3::1",
        "StaticRoutes": [
            { "Destination": "10.8.0.0/16", "RouteType": 0, "NextHop": "10.3.0.254" },
            { "Destination": "224.0.0.0/4", "RouteType": 1 },
            { "Destination": "fd00:8::/32", "RouteType": 0, "NextHop": "fd00:3::fe" },
        ],
        "DisableGatewayService": true,
    });
    assert_eq!(joined, answer);
    _ = world.plugin.take();

    let left = world.call("NetworkDriver.Leave", requests::ENDPOINT).await;
    assert_eq!(left, json!({}));
    assert_eq!(world.plugin.take(), [Seen::Leave(at())]);
}

#[tokio::test]
async fn pools() {
    let world = World::new().await;
    let method = "IpamDriver.RequestPool";
    let pool = world.call(method, requests::REQUEST_POOL).await;
    let answer = json!({ "PoolID": "10.32.0.0/12", "Pool": "10.32.0.0/12", "Data": {} });
    assert_eq!(pool, answer);
    let mut seen = RequestPool {
        space: "weft".to_owned(),
        pool: Some("10.32.0.0/12".parse().unwrap()),
        sub_pool: Some("10.32.4.0/24".parse().unwrap()),
        options: map([("k", "v")]),
        v6: false,
    };
    assert_eq!(world.plugin.take(), [Seen::RequestPool(seen)]);

    let body = r#"{"AddressSpace":"","Pool":"","SubPool":"","Options":null,"V6":true}"#;
    let pool = world.call(method, body).await;
    let gateway = json!({ "com.docker.network.gateway": "::/0" });
    assert_eq!(pool, json!({ "PoolID": "open-1", "Pool": "::/0", "Data": gateway }));
    seen = RequestPool {
        space: String::new(),
        pool: None,
        sub_pool: None,
        options: map([]),
        v6: true,
    };
    assert_eq!(world.plugin.take(), [Seen::RequestPool(seen)]);

    let body = r#"{"Pool":"fd00:3::/64","V6":true}"#;
    let pool = world.call(method, body).await;
    assert_eq!(pool, json!({ "PoolID": "fd00:3::/64", "Pool": "fd00:3::/64", "Data": {} }));
    _ = world.plugin.take();

    let released = world.call("IpamDriver.ReleasePool", requests::RELEASE_POOL).await;
    assert_eq!(released, json!({}));
    assert_eq!(world.plugin.take(), [Seen::ReleasePool("web=10.32.0.0/12".to_owned())]);
}

#[tokio::test]
async fn addresses() {
    let world = World::new().await;
    let method = "IpamDriver.RequestAddress";
    let pool = || "web=10.32.0.0/12".to_owned();
    let given = world.call(method, requests::REQUEST_GATEWAY).await;
    assert_eq!(given, json!({ "Address": "10.3.0.2/24", "Data": {} }));
    let mut seen = RequestAddress {
        pool: pool(),
        address: None,
        gateway: true,
        name: None,
        options: map([("RequestAddressType", "com.docker.network.gateway")]),
    };
    assert_eq!(world.plugin.take(), [Seen::RequestAddress(seen)]);

    let given = world.call(method, requests::REQUEST_ADDRESS).await;
    assert_eq!(given, json!({ "Address": "10.32.4.9/24", "Data": {} }));
    seen = RequestAddress {
        pool: pool(),
        address: Some("10.32.4.9".parse().unwrap()),
        gateway: false,
        name: Some("web1".to_owned()),
        options: map([
            ("com.docker.network.endpoint.macaddress", "02:42:0a:20:04:09"),
            ("com.docker.network.endpoint.name", "web1"),
        ]),
    };
    assert_eq!(world.plugin.take(), [Seen::RequestAddress(seen)]);

    // Docker 20.10, with no options at all.
    let given = world.call(method, r#"{"PoolID":"p","Address":"","Options":null}"#).await;
    assert_eq!(given, json!({ "Address": "10.3.0.2/24", "Data": {} }));
    _ = world.plugin.take();

    let released = world.call("IpamDriver.ReleaseAddress", requests::RELEASE_ADDRESS).await;
    assert_eq!(released, json!({}));
    let address = "10.32.4.9".parse().unwrap();
    let seen = Seen::ReleaseAddress(ReleaseAddress { pool: pool(), address });
    assert_eq!(world.plugin.take(), [seen]);
}

#[tokio::test]
async fn the_answer_is_http_that_an_engine_reads() {
    let world = World::new().await;
    let reply = world.post("Plugin.Activate", b"").await;
    let head = reply.head.to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/vnd.docker.plugins.v1.2+json"), "{head}");
    // A second call gets a connection of its own.
    assert!(head.contains("\r\nconnection: close"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", reply.body.len())), "{head}");
    // A body in chunks, as an engine sends what it does not know the size of.
    let chunked = "POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\
        \r\n\r\n10\r\n{\"NetworkID\":\"n\"\r\n11\r\n,\"EndpointID\":\"e\"\r\n2\r\n}\n\r\n0\r\n\r\n";
    let reply = raw(&world.path, chunked.as_bytes()).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
}
