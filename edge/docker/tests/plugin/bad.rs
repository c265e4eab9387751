//! Every method, asked badly: the error names the field, and the plugin is not called.

use serde_json::json;

use crate::common::{World, raw};
use crate::requests::{self, error_key};

/// Asks, and says what is told after the words that all errors begin with.
async fn refusal(world: &World, method: &str, body: &[u8]) -> String {
    let reply = world.post(method, body).await;
    assert_eq!(reply.status, 200, "{method}: {reply:?}");
    let answer = reply.json();
    let object = answer.as_object().unwrap();
    assert_eq!(object.len(), 1, "{method}: {answer}");
    let error = object[error_key(method)].as_str().unwrap_or_else(|| panic!("{method}: {answer}"));
    let begin = format!("weft cannot read Docker's {method}, and did nothing: ");
    assert_eq!(world.plugin.take(), [], "{method}");
    error.strip_prefix(&begin).unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[tokio::test]
async fn an_empty_body_is_no_request() {
    let world = World::new().await;
    for (method, _) in requests::ALL {
        for body in ["", "\n", "  \r\n"] {
            let error = refusal(&world, method, body.as_bytes()).await;
            let told =
                "the request is empty, as it is after a broken connection: repeat the command";
            assert_eq!(error, told, "{method}");
        }
    }
}

#[tokio::test]
async fn what_is_not_an_object_is_no_request() {
    let world = World::new().await;
    for (method, good) in requests::ALL {
        let error = refusal(&world, method, b"null").await;
        assert_eq!(error, "invalid type: null, expected an object", "{method}");
        // Positions would stand for names otherwise.
        let error = refusal(&world, method, br#"["f1d2","ab34","/x"]"#).await;
        assert_eq!(error, "invalid type: sequence, expected an object", "{method}");
        // A pool may be asked for with nothing said.
        if method != "IpamDriver.RequestPool" {
            let error = refusal(&world, method, b"{}").await;
            assert!(error.starts_with("missing field `"), "{method}: {error}");
        }
        let error = refusal(&world, method, format!("{good}{{}}").as_bytes()).await;
        assert!(error.starts_with("trailing characters"), "{method}: {error}");
        let cut = &good.trim_end()[..good.trim_end().len() - 1];
        let error = refusal(&world, method, cut.as_bytes()).await;
        assert!(error.contains("EOF while parsing an object"), "{method}: {error}");
        let error = refusal(&world, method, b"\xff\xfe{}").await;
        assert!(error.starts_with("expected value"), "{method}: {error}");
    }
}

/// A request that is good but for one thing, and what is told.
const CASES: &[(&str, &str, &str)] = &[
    ("NetworkDriver.CreateNetwork", r#"{"NetworkID":""}"#, "NetworkID: is empty"),
    ("NetworkDriver.CreateNetwork", r#"{"IPv4Data":[]}"#, "missing field `NetworkID`"),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":null}"#,
        "NetworkID: invalid type: null, expected a string",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":7}"#,
        "NetworkID: invalid type: integer `7`, expected a string",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"../x"}"#,
        "NetworkID: '../x' is not an identifier (up to 128 letters, digits, '-', '_' and '.')",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","NetworkID":"m"}"#,
        "duplicate field `NetworkID`",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","IPv4Data":[{"Pool":"10.3.0/24"}]}"#,
        "IPv4Data[0].Pool: '10.3.0/24' is not IPv4 in CIDR form, like 10.3.0.2/24",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","IPv4Data":[{"Pool":"fd00::/64"}]}"#,
        "IPv4Data[0].Pool: 'fd00::/64' is not IPv4 in CIDR form, like 10.3.0.2/24",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","IPv4Data":[{"Pool":"10.3.0.0/24"},{"Gateway":"10.4.0.1/24"}]}"#,
        "IPv4Data[1]: missing field `Pool`",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","IPv6Data":[{"Pool":"fd00::/64","Gateway":"fd00::1"}]}"#,
        "IPv6Data[0].Gateway: 'fd00::1' is not IPv6 in CIDR form, like fd00:3::2/64",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","IPv4Data":[{"Pool":"10.3.0.0/24","AuxAddresses":{"dns":"10.3.0.2/33"}}]}"#,
        "IPv4Data[0].AuxAddresses.dns: '10.3.0.2/33' is not IPv4 in CIDR form, like 10.3.0.2/24",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","IPv4Data":{"Pool":"10.3.0.0/24"}}"#,
        "IPv4Data: invalid type: map, expected a sequence",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","IPv4Data":[["weft","10.3.0.0/24"]]}"#,
        "IPv4Data[0]: invalid type: sequence, expected an object",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","Options":{"com.docker.network.generic":{"mtu":9000}}}"#,
        "Options.com.docker.network.generic.mtu: invalid type: integer `9000`, expected a string",
    ),
    (
        "NetworkDriver.CreateNetwork",
        r#"{"NetworkID":"n","Options":{"com.docker.network.internal":"true"}}"#,
        "Options.com.docker.network.internal: invalid type: string \"true\", expected a boolean",
    ),
    ("NetworkDriver.DeleteNetwork", r#"{"NetworkId":"n"}"#, "missing field `NetworkID`"),
    ("NetworkDriver.CreateEndpoint", r#"{"NetworkID":"n"}"#, "missing field `EndpointID`"),
    (
        "NetworkDriver.CreateEndpoint",
        r#"{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.3.0.2"}}"#,
        "Interface.Address: '10.3.0.2' is not IPv4 in CIDR form, like 10.3.0.2/24",
    ),
    (
        "NetworkDriver.CreateEndpoint",
        r#"{"NetworkID":"n","EndpointID":"e","Interface":{"AddressIPv6":"10.3.0.2/24"}}"#,
        "Interface.AddressIPv6: '10.3.0.2/24' is not IPv6 in CIDR form, like fd00:3::2/64",
    ),
    (
        "NetworkDriver.CreateEndpoint",
        r#"{"NetworkID":"n","EndpointID":"e","Interface":{"MacAddress":"02:42:0a:03:00"}}"#,
        "Interface.MacAddress: '02:42:0a:03:00' is not a MAC, like 02:42:0a:03:00:02",
    ),
    (
        "NetworkDriver.CreateEndpoint",
        r#"{"NetworkID":"n","EndpointID":"e","Interface":{"MacAddress":"02:42:0a:03:00:02:01"}}"#,
        "Interface.MacAddress: '02:42:0a:03:00:02:01' is not a MAC, like 02:42:0a:03:00:02",
    ),
    (
        "NetworkDriver.CreateEndpoint",
        r#"{"NetworkID":"n","EndpointID":"e","Interface":{"MacAddress":"+2:42:0a:03:00:02"}}"#,
        "Interface.MacAddress: '+2:42:0a:03:00:02' is not a MAC, like 02:42:0a:03:00:02",
    ),
    (
        "NetworkDriver.CreateEndpoint",
        r#"{"NetworkID":"n","EndpointID":"e","Interface":{"MacAddress":"ff:ff:ff:ff:ff:ff"}}"#,
        "Interface.MacAddress: 'ff:ff:ff:ff:ff:ff' is not the MAC of one interface but of a group",
    ),
    (
        "NetworkDriver.CreateEndpoint",
        r#"{"NetworkID":"n","EndpointID":"e","Options":["x"]}"#,
        "Options: invalid type: sequence, expected a map",
    ),
    ("NetworkDriver.EndpointOperInfo", r#"{"EndpointID":"e"}"#, "missing field `NetworkID`"),
    (
        "NetworkDriver.DeleteEndpoint",
        r#"{"NetworkID":"n","EndpointID":""}"#,
        "EndpointID: is empty",
    ),
    (
        "NetworkDriver.Leave",
        r#"{"NetworkID":"n","EndpointID":["e"]}"#,
        "EndpointID: invalid type: sequence, expected a string",
    ),
    ("NetworkDriver.Join", r#"{"NetworkID":"n","EndpointID":"e"}"#, "missing field `SandboxKey`"),
    (
        "NetworkDriver.Join",
        r#"{"NetworkID":"n","EndpointID":"e","SandboxKey":""}"#,
        "SandboxKey: is empty",
    ),
    (
        "NetworkDriver.ProgramExternalConnectivity",
        r#"{"NetworkID":"n"}"#,
        "missing field `EndpointID`",
    ),
    (
        "NetworkDriver.RevokeExternalConnectivity",
        r#"{"EndpointID":"n"}"#,
        "missing field `NetworkID`",
    ),
    (
        "NetworkDriver.DiscoverNew",
        r#"{"DiscoveryType":"node"}"#,
        "DiscoveryType: invalid type: string \"node\", expected i64",
    ),
    ("NetworkDriver.DiscoverDelete", r#"{"DiscoveryData":{}}"#, "missing field `DiscoveryType`"),
    ("NetworkDriver.AllocateNetwork", r#"{"Options":{}}"#, "missing field `NetworkID`"),
    (
        "NetworkDriver.FreeNetwork",
        r#"{"NetworkID":false}"#,
        "NetworkID: invalid type: boolean `false`, expected a string",
    ),
    (
        "IpamDriver.RequestPool",
        r#"{"Pool":"10.3.0.0"}"#,
        "Pool: '10.3.0.0' is not a subnet in CIDR form, like 10.3.0.0/24 or fd00:3::/64",
    ),
    (
        "IpamDriver.RequestPool",
        r#"{"Pool":"10.3.0.0/24","V6":true}"#,
        "Pool: 10.3.0.0/24 is not the IPv6 subnet that V6 asks for",
    ),
    (
        "IpamDriver.RequestPool",
        r#"{"Pool":"fd00::/64"}"#,
        "Pool: fd00::/64 is not the IPv4 subnet that V6 asks for",
    ),
    (
        "IpamDriver.RequestPool",
        r#"{"SubPool":"10.3.0.0/25"}"#,
        "SubPool: 10.3.0.0/25 is part of no Pool",
    ),
    (
        "IpamDriver.RequestPool",
        r#"{"Pool":"10.3.0.0/24","SubPool":"10.4.0.0/25"}"#,
        "SubPool: 10.4.0.0/25 is not inside the Pool 10.3.0.0/24",
    ),
    (
        "IpamDriver.RequestPool",
        r#"{"Pool":"10.3.0.0/24","SubPool":"fd00::/80"}"#,
        "SubPool: fd00::/80 is not inside the Pool 10.3.0.0/24",
    ),
    (
        "IpamDriver.RequestPool",
        r#"{"Options":{"network":["web"]}}"#,
        "Options.network: invalid type: sequence, expected a string",
    ),
    ("IpamDriver.RequestPool", r#"{"V6":1}"#, "V6: invalid type: integer `1`, expected a boolean"),
    ("IpamDriver.ReleasePool", r#"{"PoolID":""}"#, "PoolID: is empty"),
    (
        "IpamDriver.ReleasePool",
        "{\"PoolID\":\"a\\nb\"}",
        "PoolID: 'a\\nb' is not a pool (up to 512 characters of text)",
    ),
    (
        "IpamDriver.RequestAddress",
        r#"{"PoolID":"p","Address":"10.3.0.256"}"#,
        "Address: '10.3.0.256' is not an IP address",
    ),
    (
        "IpamDriver.RequestAddress",
        r#"{"PoolID":"p","Address":"10.3.0.2/24"}"#,
        "Address: '10.3.0.2/24' is not an IP address",
    ),
    ("IpamDriver.RequestAddress", r#"{"Address":"10.3.0.2"}"#, "missing field `PoolID`"),
    ("IpamDriver.ReleaseAddress", r#"{"PoolID":"p"}"#, "missing field `Address`"),
    ("IpamDriver.ReleaseAddress", r#"{"PoolID":"p","Address":""}"#, "Address: is empty"),
];

#[tokio::test]
async fn the_error_names_the_field() {
    let world = World::new().await;
    for (method, body, told) in CASES {
        let error = refusal(&world, method, body.as_bytes()).await;
        assert_eq!(error, *told, "{method} {body}");
    }
}

#[tokio::test]
async fn an_error_stays_short() {
    let world = World::new().await;
    let long = "é".repeat(100_000);
    for body in [
        format!(r#"{{"NetworkID":"{long}"}}"#),
        format!(r#"{{"NetworkID":"n","Options":"{long}"}}"#),
        format!(r#"{{"NetworkID":"n","Options":{{"com.docker.network.generic":{{"{long}":1}}}}}}"#),
        format!("{}1", r#"{"NetworkID":"n","Options":"#.repeat(5_000)),
    ] {
        let error = refusal(&world, "NetworkDriver.CreateNetwork", body.as_bytes()).await;
        assert!(error.len() < 700, "{}", error.len());
    }
}

#[tokio::test]
async fn the_plugins_own_error_is_told_as_it_is() {
    let world = World::new().await;
    let told = "no Weft network 'web': create it with 'weft network create web'";
    for (method, body) in [
        ("NetworkDriver.CreateNetwork", r#"{"NetworkID":"refused"}"#),
        ("NetworkDriver.Join", r#"{"NetworkID":"refused","EndpointID":"e","SandboxKey":"/x"}"#),
        ("IpamDriver.RequestPool", r#"{"AddressSpace":"refused"}"#),
        ("IpamDriver.RequestAddress", r#"{"PoolID":"refused"}"#),
        ("IpamDriver.ReleasePool", r#"{"PoolID":"refused"}"#),
    ] {
        assert_eq!(world.call(method, body).await, json!({ (error_key(method)): told }));
    }
}

#[tokio::test]
async fn a_panic_is_the_end_of_one_call_only() {
    let world = World::new().await;
    let told = "weft failed at NetworkDriver.DeleteNetwork, by a fault of its own: see \
                'journalctl -u weft', and repeat the command";
    for _ in 0..3 {
        let answer = world.call("NetworkDriver.DeleteNetwork", r#"{"NetworkID":"panics"}"#).await;
        assert_eq!(answer, json!({ "Err": told }));
        let answer = world.call("NetworkDriver.DeleteNetwork", r#"{"NetworkID":"n"}"#).await;
        assert_eq!(answer, json!({}));
    }
}

#[tokio::test]
async fn other_paths_and_verbs_are_not_of_the_protocol() {
    let world = World::new().await;
    for path in ["NetworkDriver.GwAllocCheck", "VolumeDriver.Create", "", "Plugin.Activate/", "a?b"]
    {
        let reply = world.post(path, b"{}").await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (404, "weft knows no such method\n"),
            "{path}"
        );
    }
    for verb in ["GET", "PUT", "DELETE", "HEAD"] {
        let request = format!("{verb} /Plugin.Activate HTTP/1.1\r\nHost: x\r\n\r\n");
        let reply = raw(&world.path, request.as_bytes()).await;
        assert_eq!(reply.status, 405, "{verb}");
        assert!(reply.head.to_lowercase().contains("\r\nallow: post"), "{reply:?}");
    }
    assert_eq!(raw(&world.path, b"\x16\x03\x01 hello\r\n\r\n").await.status, 400);
    assert_eq!(world.plugin.take(), []);
}
