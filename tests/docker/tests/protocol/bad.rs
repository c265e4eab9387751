//! Calls that must be refused, and change nothing.

use serde_json::{Value, json};

use crate::network::Net;
use crate::random::Random;
use crate::world::World;

/// A method, a good body, and the fields that it must have.
type Good = (&'static str, Value, &'static [&'static str]);

/// Calls that would be good, each about `net`.
fn good(net: &Net, random: &mut Random) -> Vec<Good> {
    let pool = &net.pools[0];
    let endpoint = random.identifier();
    let at = json!({ "NetworkID": net.id, "EndpointID": endpoint });
    let with = |key: &str, value: Value| {
        let mut body = at.clone();
        body[key] = value;
        body
    };
    let of_endpoint: &[&str] = &["NetworkID", "EndpointID"];
    let mut calls: Vec<Good> = ["Leave", "DeleteEndpoint", "EndpointOperInfo"]
        .into_iter()
        .zip([
            "NetworkDriver.Leave",
            "NetworkDriver.DeleteEndpoint",
            "NetworkDriver.EndpointOperInfo",
        ])
        .map(|(_, method)| (method, at.clone(), of_endpoint))
        .collect();
    calls.extend([
        ("NetworkDriver.CreateNetwork", net.creation(), &["NetworkID"][..]),
        ("NetworkDriver.DeleteNetwork", net.deletion(), &["NetworkID"]),
        (
            "NetworkDriver.CreateEndpoint",
            with("Interface", json!({ "Address": "10.61.0.90/24" })),
            of_endpoint,
        ),
        (
            "NetworkDriver.Join",
            with("SandboxKey", json!("/var/run/docker/netns/1")),
            &["NetworkID", "EndpointID", "SandboxKey"],
        ),
        ("NetworkDriver.ProgramExternalConnectivity", at.clone(), of_endpoint),
        ("IpamDriver.ReleasePool", json!({ "PoolID": pool.id }), &["PoolID"]),
        (
            "IpamDriver.RequestAddress",
            json!({ "PoolID": pool.id, "Address": "10.61.0.91" }),
            &["PoolID"],
        ),
        (
            "IpamDriver.ReleaseAddress",
            json!({ "PoolID": pool.id, "Address": "10.61.0.91" }),
            &["PoolID", "Address"],
        ),
    ]);
    calls
}

/// Values that no field of a request may have.
fn wrong(random: &mut Random) -> Value {
    let all = [
        Value::Null,
        json!(""),
        json!(true),
        json!(7),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!([]),
        json!(["10.61.0.0/24"]),
        json!({}),
        json!({ "a": { "b": [1, 2, 3] } }),
        json!("\u{0}\n/"),
        json!("../".repeat(40)),
        json!("x/".repeat(3000)),
    ];
    random.pick(&all).clone()
}

/// One bad call, made of a good one.
fn broken(net: &Net, random: &mut Random) -> (&'static str, Vec<u8>) {
    let calls = good(net, random);
    let (method, mut body, fields) = random.pick(&calls).clone();
    match random.below(5) {
        0 => {
            let all: [&[u8]; 6] = [b"", b"\n", b"null", b"[]", b"\"x\"", b"7"];
            (method, all[random.below(all.len())].to_vec())
        }
        1 => {
            let text = body.to_string();
            let end = random.below(text.len());
            (method, text.as_bytes()[..end].to_vec())
        }
        2 => {
            let mut bytes = body.to_string().into_bytes();
            let more: [&[u8]; 5] = [b"}", b"{}", b"\xff", b"1e999", b"x"];
            bytes.extend_from_slice(more[random.below(more.len())]);
            (method, bytes)
        }
        3 => {
            let field = *random.pick(fields);
            body.as_object_mut().unwrap().remove(field);
            (method, body.to_string().into_bytes())
        }
        _ => {
            let field = *random.pick(fields);
            let mut value = wrong(random);
            // Of a sandbox any text is a path.
            if field == "SandboxKey" && value.is_string() {
                value = json!("");
            }
            body[field] = value;
            let text = body.to_string().replacen("1e300", "1e99999", 1);
            (method, text.into_bytes())
        }
    }
}

/// Well formed, and yet it cannot be.
fn senseless(net: &Net, random: &mut Random) -> (&'static str, Value) {
    let id = random.identifier();
    let pool = &net.pools[0];
    let endpoint = |address: &str, more: Value| {
        let mut body = json!({
            "NetworkID": net.id, "EndpointID": id, "Interface": { "Address": address },
        });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        ("NetworkDriver.CreateEndpoint", body)
    };
    let network = |change: &dyn Fn(&mut Value)| {
        let mut body = Net { id: id.clone(), ..net.clone() }.creation();
        change(&mut body);
        ("NetworkDriver.CreateNetwork", body)
    };
    let request = |pool: &str, address: &str| {
        ("IpamDriver.RequestAddress", json!({ "PoolID": pool, "Address": address }))
    };
    let of_pool = |subnet: &str, more: Value| {
        let mut body = json!({ "AddressSpace": "weft", "Pool": subnet, "V6": false });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        ("IpamDriver.RequestPool", body)
    };
    match random.below(20) {
        0 => endpoint("10.99.0.5/24", json!({})),
        1 => endpoint(&pool.gateway, json!({})),
        2 => endpoint("", json!({})),
        3 => endpoint("10.61.0.80/24", json!({ "NetworkID": random.identifier() })),
        4 => endpoint(
            "",
            json!({ "Interface": {
            "Address": "10.61.0.80/24", "MacAddress": "02:42:0a:3d:00:50",
        } }),
        ),
        5 => endpoint(
            "",
            json!({ "Interface": {
            "Address": "10.61.0.80/24", "AddressIPv6": "fd00:99::5/64",
        } }),
        ),
        // The subnet is another network's of this engine.
        6 => network(&|_| {}),
        7 => network(&|body| body["IPv4Data"][0]["AddressSpace"] = json!("LocalDefault")),
        8 => network(&|body| body["IPv4Data"][0]["Pool"] = json!("10.61.0.0/25")),
        9 => network(&|body| {
            body["Options"]["com.docker.network.generic"] = json!({ "colour": "red" });
        }),
        10 => network(&|body| body["NetworkID"] = json!(net.id))
            .clone_with(|body| body["Options"]["com.docker.network.internal"] = json!(true)),
        11 => network(&|body| body["IPv4Data"] = json!([])),
        12 => request("10.99.0.0/24", ""),
        13 => request(&pool.id, "10.99.0.7"),
        14 => request(&pool.id, "10.61.0.1"),
        15 => request("by-name-000000", ""),
        16 => of_pool("10.99.0.1/24", json!({})),
        17 => of_pool("10.99.0.0/24", json!({ "SubPool": "10.99.0.0/28" })),
        18 => of_pool("10.99.0.0/24", json!({ "V6": true })),
        _ => {
            let body = json!({ "NetworkID": net.id, "EndpointID": id, "SandboxKey": "/x" });
            ("NetworkDriver.Join", body)
        }
    }
}

trait CloneWith {
    fn clone_with(self, change: impl Fn(&mut Value)) -> Self;
}

impl CloneWith for (&'static str, Value) {
    fn clone_with(mut self, change: impl Fn(&mut Value)) -> Self {
        change(&mut self.1);
        self
    }
}

/// One bad call about `net`, whose subnet is 10.61.0.0/24.
pub(crate) fn run(world: &World, net: &Net, random: &mut Random) {
    let (method, body) = if random.percent(60) {
        broken(net, random)
    } else {
        let (method, body) = senseless(net, random);
        (method, body.to_string().into_bytes())
    };
    let epoch = world.epoch();
    let told = world.caller.call(method, &body);
    if world.steady(epoch) {
        let shown = String::from_utf8_lossy(&body).chars().take(400).collect::<String>();
        let refused = matches!(told, Ok(crate::call::Told::Refused(_)));
        assert!(refused, "{method} {shown}: {told:?}");
    }
}

/// About what was never there: answered as if it had been, and gone.
pub(crate) fn harmless(world: &World, net: &Net, random: &mut Random) {
    let id = random.identifier();
    let at = json!({ "NetworkID": net.id, "EndpointID": id });
    let (method, body) = match random.below(5) {
        0 => ("NetworkDriver.Leave", at),
        1 => ("NetworkDriver.DeleteEndpoint", at),
        2 => ("NetworkDriver.DeleteNetwork", json!({ "NetworkID": id })),
        3 => (
            "IpamDriver.ReleaseAddress",
            json!({ "PoolID": "10.61.0.0/24", "Address": "10.61.0.77" }),
        ),
        _ => ("IpamDriver.ReleasePool", json!({ "PoolID": "10.99.0.0/24" })),
    };
    let told = world.call_twice(method, &body);
    assert!(told.is_err() || matches!(told, Ok(crate::call::Told::Fine(_))), "{method}: {told:?}");
}
