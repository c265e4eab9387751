//! Names: what the containers of this node may ask for, and who they are.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use weft_dns::table::{Asker, INNER_PORT, NetworkNames, Record};
use weft_model::{Endpoint, device};

use crate::attachment::Attachment;
use crate::site::Site;

/// The names of one network: of every endpoint that can be reached, here or elsewhere.
pub(crate) fn of_network(site: &Site<'_>) -> NetworkNames {
    let network = site.network();
    let local = site.local.iter().map(|at| at.endpoint);
    let mut endpoints: Vec<&Endpoint> =
        local.chain(site.remote().map(|(endpoint, _)| endpoint)).collect();
    endpoints.sort_by_key(|endpoint| endpoint.id);
    NetworkNames {
        bridge: site.bridge(),
        gateways: network.gateways().into_iter().filter(|a| site.ground.speaks(*a)).collect(),
        subnets: network.subnets.clone(),
        internal: network.internal,
        records: endpoints.into_iter().map(record).collect(),
    }
}

fn record(endpoint: &Endpoint) -> Record {
    let names = std::iter::once(&endpoint.name).chain(&endpoint.aliases);
    Record {
        names: names.map(weft_model::Name::folded).collect(),
        addresses: endpoint.addresses.clone(),
    }
}

/// The interfaces of one container, or namespace, as sources of queries. Whoever asks through one may ask for
/// the names of all its networks.
pub(crate) fn askers(interfaces: &[Attachment<'_>]) -> Vec<Asker> {
    let networks: BTreeSet<String> =
        interfaces.iter().map(|at| at.view.network.name.folded()).collect();
    let networks: Vec<String> = networks.into_iter().collect();
    let forward = interfaces.iter().any(|at| !at.view.network.internal);
    let asker = |at: &Attachment<'_>| Asker {
        bridge: device::bridge(at.view.network.vni),
        addresses: at.endpoint.addresses.clone(),
        networks: networks.clone(),
        forward,
        inner: inner(at),
    };
    interfaces.iter().map(asker).collect()
}

/// A container runtime has a resolver in its containers, which knows what only the runtime knows. It can
/// be asked at the container's address.
fn inner(at: &Attachment<'_>) -> Option<SocketAddr> {
    let lent = at.inside.is_none();
    let mut addresses = at.endpoint.addresses.iter().filter(|address| lent && address.is_ipv4());
    addresses.next().map(|address| SocketAddr::new(*address, INNER_PORT))
}
