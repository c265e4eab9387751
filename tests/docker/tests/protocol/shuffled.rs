//! Calls in no order: what each must be answered follows from those before it.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::call::Told;
use crate::network::{Net, insist};
use crate::random::Random;
use crate::world::World;

/// One call about one network, one endpoint and one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Pool,
    Gateway,
    CreateNetwork,
    Request,
    CreateEndpoint,
    Join,
    Info,
    External,
    Leave,
    DeleteEndpoint,
    Release,
    ReleasePool,
    DeleteNetwork,
}

/// In Docker's order.
const ALL: [Step; 13] = [
    Step::Pool,
    Step::Gateway,
    Step::CreateNetwork,
    Step::Request,
    Step::CreateEndpoint,
    Step::Join,
    Step::Info,
    Step::External,
    Step::Leave,
    Step::DeleteEndpoint,
    Step::Release,
    Step::ReleasePool,
    Step::DeleteNetwork,
];

/// What there is, after the calls so far.
#[derive(Debug, Default, Clone, Copy)]
struct There {
    network: bool,
    promise: bool,
    endpoint: bool,
    joined: bool,
}

impl There {
    /// Whether a step must succeed; what there is after it.
    fn after(self, step: Step) -> (bool, Self) {
        let mut next = self;
        let fine = match step {
            Step::CreateNetwork => {
                next.network = true;
                true
            }
            Step::DeleteNetwork => {
                next.network = false;
                true
            }
            Step::Request => {
                let fine = self.network && !self.promise && !self.endpoint;
                next.promise |= fine;
                fine
            }
            Step::CreateEndpoint => {
                if self.network {
                    (next.endpoint, next.promise) = (true, false);
                }
                self.network
            }
            Step::Join => {
                next.joined |= self.endpoint;
                self.endpoint
            }
            Step::DeleteEndpoint => {
                (next.endpoint, next.joined) = (false, false);
                true
            }
            Step::Release => {
                next.promise = false;
                true
            }
            _ => true,
        };
        (fine, next)
    }
}

fn call(step: Step, net: &Net, endpoint: &str, address: IpAddr) -> (&'static str, Value) {
    let pool = &net.pools[0];
    let at = json!({ "NetworkID": net.id, "EndpointID": endpoint });
    match step {
        Step::Pool => ("IpamDriver.RequestPool", Net::request_pool(pool)),
        Step::Gateway => ("IpamDriver.RequestAddress", Net::request_gateway(pool)),
        Step::CreateNetwork => ("NetworkDriver.CreateNetwork", net.creation()),
        Step::Request => (
            "IpamDriver.RequestAddress",
            json!({ "PoolID": pool.id, "Address": address, "Options": {} }),
        ),
        Step::CreateEndpoint => {
            let interface = json!({ "Address": format!("{address}/24") });
            let mut body = at;
            body["Interface"] = interface;
            ("NetworkDriver.CreateEndpoint", body)
        }
        Step::Join => {
            let mut body = at;
            body["SandboxKey"] = json!(format!("/var/run/docker/netns/{}", &endpoint[..12]));
            ("NetworkDriver.Join", body)
        }
        Step::Info => ("NetworkDriver.EndpointOperInfo", at),
        Step::External => ("NetworkDriver.ProgramExternalConnectivity", at),
        Step::Leave => ("NetworkDriver.Leave", at),
        Step::DeleteEndpoint => ("NetworkDriver.DeleteEndpoint", at),
        Step::Release => {
            ("IpamDriver.ReleaseAddress", json!({ "PoolID": pool.id, "Address": address }))
        }
        Step::ReleasePool => ("IpamDriver.ReleasePool", json!({ "PoolID": pool.id })),
        Step::DeleteNetwork => ("NetworkDriver.DeleteNetwork", net.deletion()),
    }
}

/// All calls once, some again, in any order, on a network that nobody else uses.
pub(crate) fn run(world: &World, name: &str, subnet: &str, random: &mut Random) {
    let net = Net::of(name, &[subnet], random);
    let endpoint = random.identifier();
    let prefix = subnet.rsplit_once('.').unwrap().0;
    let address: IpAddr = format!("{prefix}.{}", 2 + random.below(200)).parse().unwrap();
    let mut steps = ALL.to_vec();
    for _ in 0..random.below(8) {
        steps.push(*random.pick(&ALL));
    }
    if random.percent(80) {
        random.shuffle(&mut steps);
    }
    let epoch = world.epoch();
    let mut there = There::default();
    let mut done = Vec::new();
    for step in steps {
        let (method, body) = call(step, &net, &endpoint, address);
        done.push(step);
        let Ok(told) = world.call(method, &body) else { break };
        if !world.steady(epoch) {
            break;
        }
        let (fine, next) = there.after(step);
        assert_eq!(
            matches!(told, Told::Fine(_)),
            fine,
            "{told:?} to the last of {done:?} about {address} and {there:?}"
        );
        if step == Step::Info {
            let known = told.fine()["Value"]["weft.endpoint"].is_string();
            assert_eq!(known, there.endpoint, "{done:?}");
        }
        there = next;
        match step {
            // Now and then it tells of the network, and that is read while the calls go on.
            Step::CreateNetwork => world.engine.put_network(&net.id, &net.name),
            Step::DeleteNetwork => world.engine.remove_network(&net.id),
            _ => {}
        }
    }
    for step in [Step::Leave, Step::DeleteEndpoint, Step::Release] {
        let (method, body) = call(step, &net, &endpoint, address);
        insist(world, method, &body);
    }
    net.delete(world);
}
