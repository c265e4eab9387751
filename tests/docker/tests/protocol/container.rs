//! Containers of the engine, and its calls about them.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::call::{Broken, Told};
use crate::engine::Endpoint;
use crate::network::{Net, insist};
use crate::random::Random;
use crate::world::{Holder, World};

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Container {
    net: Net,
    /// The engine's identifier of its endpoint.
    id: String,
    /// Per pool: the address, and in CIDR form.
    addresses: Vec<(IpAddr, String)>,
    /// Weft's identifier of its endpoint, if it was asked for.
    endpoint: Option<String>,
}

/// The address of CIDR form.
pub(crate) fn address_of(text: &str) -> IpAddr {
    text.split('/')
        .next()
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

impl Container {
    /// `docker run`: as far as it gets. What fails is taken back, as an engine does it.
    pub(crate) fn start(world: &World, net: &Net, random: &mut Random) -> Option<Self> {
        let mut container = Self {
            net: net.clone(),
            id: random.identifier(),
            addresses: Vec::new(),
            endpoint: None,
        };
        // A part of the containers end early, as when another network of theirs fails.
        let last = if random.percent(20) { random.below(3) } else { 3 };
        let begun = container.request(world, random)
            && last > 0
            && container.create(world)
            && last > 1
            && container.join(world, random)
            && last > 2;
        if begun {
            return Some(container);
        }
        container.stop(world, random);
        None
    }

    fn request(&mut self, world: &World, random: &mut Random) -> bool {
        let epoch = world.epoch();
        for pool in self.net.pools.clone() {
            let body = json!({ "PoolID": pool.id, "Address": "", "Options": {} });
            let asked = world.epoch();
            match world.call("IpamDriver.RequestAddress", &body) {
                Ok(Told::Fine(told)) => {
                    let text = told["Address"].as_str().unwrap_or_default().to_owned();
                    let address = address_of(&text);
                    self.promised(world, address, asked);
                    self.addresses.push((address, text));
                }
                Ok(Told::Refused(text)) => {
                    let full = self.net.small && text.contains("no address");
                    assert!(full || !world.steady(epoch), "{}: {text}", self.net.name);
                    return false;
                }
                Err(Broken) => return false,
            }
            if random.percent(10) {
                // Weft does not promise it to anybody else.
                let text = self.addresses.last().map(|(address, _)| address.to_string());
                let body = json!({ "PoolID": pool.id, "Address": text, "Options": {} });
                let told = world.call("IpamDriver.RequestAddress", &body);
                if world.steady(epoch) {
                    told.unwrap().refused();
                }
            }
        }
        true
    }

    /// Nobody else may have it.
    fn promised(&self, world: &World, address: IpAddr, asked: u64) {
        let mut held = world.held();
        let key = (self.net.name.clone(), address);
        let before = held.get(&key);
        let endpoint = matches!(before, Some(Holder::Endpoint(_)));
        if world.steady(asked) || endpoint {
            assert!(before.is_none(), "{key:?} is promised to {}, and to {before:?}", self.id);
            held.insert(key, Holder::Promised(self.id.clone()));
        }
    }

    fn creation(&self) -> Value {
        let of = |v6: bool| {
            let mut all = self.addresses.iter().filter(|(address, _)| address.is_ipv6() == v6);
            all.next().map(|(_, text)| text.clone()).unwrap_or_default()
        };
        json!({
            "NetworkID": self.net.id, "EndpointID": self.id,
            "Interface": { "Address": of(false), "AddressIPv6": of(true), "MacAddress": "" },
            "Options": {
                "com.docker.network.endpoint.exposedports": [{ "Proto": 6, "Port": 80 }],
                "com.docker.network.portmap": [],
            },
        })
    }

    fn create(&self, world: &World) -> bool {
        let epoch = world.epoch();
        // Whoever's promise was forgotten may find that another has the address by now.
        let sure = self.holds(world, &Holder::Promised(self.id.clone()));
        let told = world.call_twice("NetworkDriver.CreateEndpoint", &self.creation());
        match told {
            Ok(Told::Fine(_)) => {}
            Ok(Told::Refused(text)) => {
                assert!(!sure || !world.steady(epoch), "{} on {}: {text}", self.id, self.net.name);
                return false;
            }
            Err(Broken) => return false,
        }
        let mut held = world.held();
        for (address, _) in &self.addresses {
            let key = (self.net.name.clone(), *address);
            let before = held.insert(key.clone(), Holder::Endpoint(self.id.clone()));
            let mine = match &before {
                None => true,
                Some(Holder::Promised(id)) => *id == self.id || !sure,
                Some(Holder::Endpoint(id)) => *id == self.id,
            };
            assert!(mine, "{key:?} is held by {}, and by {before:?}", self.id);
        }
        drop(held);
        let endpoint = Endpoint {
            network: self.net.id.clone(),
            container: format!("{}{}", &self.id[32..], &self.id[..32]),
            name: format!("c-{}", &self.id[..16]),
            alias: "service".to_owned(),
        };
        world.engine.put_endpoint(&self.id, endpoint);
        true
    }

    fn holds(&self, world: &World, holder: &Holder) -> bool {
        let held = world.held();
        let mine = |address: &IpAddr| held.get(&(self.net.name.clone(), *address)) == Some(holder);
        self.addresses.iter().all(|(address, _)| mine(address))
    }

    fn at(&self) -> Value {
        json!({ "NetworkID": self.net.id, "EndpointID": self.id })
    }

    fn join(&mut self, world: &World, random: &mut Random) -> bool {
        let epoch = world.epoch();
        let sandbox = format!("/var/run/docker/netns/{}", &self.id[..12]);
        let body = json!({
            "NetworkID": self.net.id, "EndpointID": self.id, "SandboxKey": sandbox, "Options": {},
        });
        match world.call_twice("NetworkDriver.Join", &body) {
            Ok(Told::Fine(_)) => {}
            Ok(Told::Refused(text)) => {
                assert!(!world.steady(epoch), "{} on {}: {text}", self.id, self.net.name);
                return false;
            }
            Err(Broken) => return false,
        }
        if let Ok(told) = world.call_twice("NetworkDriver.EndpointOperInfo", &self.at()) {
            let told = told.fine();
            self.endpoint = told["Value"]["weft.endpoint"].as_str().map(str::to_owned);
            assert!(self.endpoint.is_some(), "a joined endpoint is not known: {told}");
        }
        let external = json!({ "NetworkID": self.net.id, "EndpointID": self.id, "Options": {} });
        drop(world.call_twice("NetworkDriver.ProgramExternalConnectivity", &external));
        if random.percent(50) {
            world.engine.tell_of(&self.id);
        }
        if random.percent(10) {
            self.check_listed(world);
        }
        true
    }

    /// Has the engine tell of it.
    pub(crate) fn tell(&self, world: &World) {
        world.engine.tell_of(&self.id);
    }

    pub(crate) fn check_listed(&self, world: &World) {
        let addresses: Vec<IpAddr> = self.addresses.iter().map(|(address, _)| *address).collect();
        if let Some(id) = &self.endpoint {
            world.check_listed(id, Some(&addresses));
        }
    }

    /// `docker stop`. The daemon's going does not keep it.
    pub(crate) fn stop(self, world: &World, random: &mut Random) {
        insist(world, "NetworkDriver.RevokeExternalConnectivity", &self.at());
        insist(world, "NetworkDriver.Leave", &self.at());
        // From here on others may be given the addresses, before the answer is here.
        let promises = self.let_go(world, true);
        insist(world, "NetworkDriver.DeleteEndpoint", &self.at());
        world.engine.remove_endpoint(&self.id);
        if let Some(id) = self.endpoint.as_ref().filter(|_| random.percent(10)) {
            world.check_listed(id, None);
        }
        self.let_go(world, false);
        for (pool, (address, _)) in self.net.pools.iter().zip(&self.addresses) {
            let body = json!({ "PoolID": pool.id, "Address": address });
            // Whoever has it by now must not lose it: that a promise is whose is not said in the call.
            if promises {
                insist(world, "IpamDriver.ReleaseAddress", &body);
            }
        }
    }

    /// Forgets who has the addresses: of the endpoint, or of a promise. True when it had promises.
    fn let_go(&self, world: &World, of_endpoint: bool) -> bool {
        let mut held = world.held();
        let mut promises = false;
        for (address, _) in &self.addresses {
            let key = (self.net.name.clone(), *address);
            match held.get(&key) {
                Some(Holder::Endpoint(id)) if of_endpoint && *id == self.id => {
                    held.remove(&key);
                }
                Some(Holder::Promised(id)) if *id == self.id => {
                    promises = true;
                    if !of_endpoint {
                        held.remove(&key);
                    }
                }
                _ => {}
            }
        }
        promises
    }
}
