//! Networks of the engine, and its calls about them.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::call::{Broken, Told};
use crate::random::Random;
use crate::world::World;

/// A network of the engine's.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    /// What Weft's is called, and here the engine's as well.
    pub(crate) name: String,
    /// The engine's identifier.
    pub(crate) id: String,
    pub(crate) pools: Vec<Pool>,
    /// So small that it can be full.
    pub(crate) small: bool,
}

/// A pool of addresses.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) id: String,
    /// In CIDR form.
    pub(crate) subnet: String,
    /// In CIDR form.
    pub(crate) gateway: String,
}

impl Pool {
    fn is_v6(&self) -> bool {
        self.subnet.contains(':')
    }

    pub(crate) fn data(&self) -> Value {
        json!({
            "AddressSpace": "weft", "Pool": self.subnet, "Gateway": self.gateway, "AuxAddresses": {},
        })
    }
}

impl Net {
    /// What would be asked for with these subnets.
    pub(crate) fn of(name: &str, subnets: &[&str], random: &mut Random) -> Self {
        let pool = |subnet: &&str| {
            let (network, length) = subnet.split_once('/').unwrap();
            let gateway = match network.parse().unwrap() {
                IpAddr::V4(v4) => IpAddr::from((v4.to_bits() + 1).to_be_bytes()),
                IpAddr::V6(v6) => IpAddr::from((v6.to_bits() + 1).to_be_bytes()),
            };
            let gateway = format!("{gateway}/{length}");
            Pool { id: (*subnet).to_owned(), subnet: (*subnet).to_owned(), gateway }
        };
        Self {
            name: name.to_owned(),
            id: random.identifier(),
            pools: subnets.iter().map(pool).collect(),
            small: subnets.iter().any(|subnet| subnet.ends_with("/29")),
        }
    }

    pub(crate) fn request_pool(pool: &Pool) -> Value {
        json!({
            "AddressSpace": "weft", "Pool": pool.subnet, "SubPool": "", "Options": {},
            "V6": pool.is_v6(),
        })
    }

    pub(crate) fn request_gateway(pool: &Pool) -> Value {
        let options = json!({ "RequestAddressType": "com.docker.network.gateway" });
        json!({ "PoolID": pool.id, "Address": "", "Options": options })
    }

    pub(crate) fn creation(&self) -> Value {
        let of = |v6: bool| -> Value {
            self.pools.iter().filter(|pool| pool.is_v6() == v6).map(Pool::data).collect()
        };
        json!({
            "NetworkID": self.id,
            "Options": {
                "com.docker.network.enable_ipv6": self.pools.iter().any(Pool::is_v6),
                "com.docker.network.generic": {},
            },
            "IPv4Data": of(false), "IPv6Data": of(true),
        })
    }

    pub(crate) fn deletion(&self) -> Value {
        json!({ "NetworkID": self.id })
    }

    /// `docker network create`, with the subnets.
    pub(crate) fn create(&self, world: &World) -> Result<(), Broken> {
        for pool in &self.pools {
            let told =
                world.call_twice("IpamDriver.RequestPool", &Self::request_pool(pool))?.fine();
            assert_eq!((&told["PoolID"], &told["Pool"]), (&json!(pool.id), &json!(pool.subnet)));
            let told =
                world.call_twice("IpamDriver.RequestAddress", &Self::request_gateway(pool))?.fine();
            assert_eq!(told["Address"], pool.gateway, "{told}");
        }
        self.state(world)
    }

    /// `docker network create`, with no subnet: by the name.
    pub(crate) fn by_name(name: &str, world: &World, random: &mut Random) -> Result<Self, Broken> {
        let asked = json!({
            "AddressSpace": "weft", "Pool": "", "SubPool": "", "Options": {}, "V6": false,
        });
        let told = world.call("IpamDriver.RequestPool", &asked)?.fine();
        let text = |pointer: &str| {
            told.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{told}")).into()
        };
        let pool = Pool {
            id: text("/PoolID"),
            subnet: text("/Pool"),
            gateway: text("/Data/com.docker.network.gateway"),
        };
        let net = Self {
            name: name.to_owned(),
            id: random.identifier(),
            pools: vec![pool],
            small: false,
        };
        net.state(world).map(|()| net)
    }

    fn state(&self, world: &World) -> Result<(), Broken> {
        let epoch = world.epoch();
        match world.call_twice("NetworkDriver.CreateNetwork", &self.creation()) {
            Ok(Told::Fine(_)) => {
                world.engine.put_network(&self.id, &self.name);
                Ok(())
            }
            Ok(Told::Refused(text)) => {
                assert!(!world.steady(epoch), "network {}: {text}", self.name);
                Err(Broken)
            }
            Err(Broken) => {
                // An engine would not, since it was never made; but the daemon may have it, and would
                // find out only after a while that the engine does not.
                self.delete(world);
                Err(Broken)
            }
        }
    }

    /// `docker network rm`. The daemon's going does not keep it.
    pub(crate) fn delete(&self, world: &World) {
        world.engine.remove_network(&self.id);
        for pool in &self.pools {
            let address = pool.gateway.split('/').next();
            let body = json!({ "PoolID": pool.id, "Address": address });
            insist(world, "IpamDriver.ReleaseAddress", &body);
            insist(world, "IpamDriver.ReleasePool", &json!({ "PoolID": pool.id }));
        }
        insist(world, "NetworkDriver.DeleteNetwork", &self.deletion());
    }
}

/// What ends something succeeds, however often it is asked for.
pub(crate) fn insist(world: &World, method: &str, body: &Value) {
    let done = (0..20).any(|_| match world.call_twice(method, body) {
        Ok(Told::Fine(_)) => true,
        Ok(Told::Refused(text)) => panic!("{method} {body}: {text}"),
        Err(Broken) => false,
    });
    assert!(done, "{method} {body} never came to its end");
}
