//! Endpoints in the name of a host whose daemon has stepped aside: their addresses are leased with
//! that host's own certificate, as its daemon would, and others learn of them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::{StreamExt, stream};
use weft_engine::{Embedded, Engine};
use weft_model::{
    ContainerId, Endpoint, EndpointId, Lease, Mac, Network, NetworkId, NodeId, Offset, Row,
};
use weft_rpc::connect::Client;
use weft_rpc::tls::Certificates;
use weft_rpc::wire;
use weft_state::{Transaction, Write};

/// Puts that are under way at once; the server commits many together.
const AT_ONCE: usize = 256;

/// The host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Its network namespace: the underlay is reached from there only.
    pub(crate) netns: PathBuf,
    /// Where its daemon kept its state.
    pub(crate) state_dir: PathBuf,
}

/// Leases addresses of a network, as `weft network create -o json` told of it, in the name of the
/// host, and gives an endpoint for each: `count`, and one more, as one of the addresses may be in use.
///
/// # Errors
/// When the server refuses.
pub(crate) fn endpoints(
    host: &Host,
    network: &serde_json::Value,
    count: u32,
) -> anyhow::Result<Vec<Endpoint>> {
    let network: Network = serde_json::from_value(network.clone())?;
    inside(host, async || {
        let (client, me) = connect(&host.state_dir).await?;
        let offsets = offsets(&client, network.id, count + 1).await?;
        let numbered = offsets.into_iter().zip(2_u64..);
        Ok(numbered.map(|(offset, number)| endpoint(&network, me, number, offset)).collect())
    })
}

/// Puts endpoints to the server, as the host's daemon would.
///
/// # Errors
/// When the server refuses more than the one whose address is in use.
pub(crate) fn put(host: &Host, endpoints: Vec<Endpoint>) -> anyhow::Result<()> {
    inside(host, async || {
        let (client, _) = connect(&host.state_dir).await?;
        let puts = endpoints.into_iter().map(|endpoint| {
            let row = weft_rpc::rows::put(&Row::Endpoint(endpoint));
            let mut client = client.clone();
            async move { client.put_endpoint(row).await.is_err() }
        });
        let puts = stream::iter(puts).buffer_unordered(AT_ONCE);
        let refused = puts.filter(|refused| std::future::ready(*refused)).count().await;
        anyhow::ensure!(refused <= 1, "{refused} endpoints were refused");
        Ok(())
    })
}

/// Writes endpoints into the file of a server that does not run: what matters is that they are
/// there, not how they came.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(file: &Path, endpoints: Vec<Endpoint>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let writes = endpoints.into_iter().map(|endpoint| Write::Put(Row::Endpoint(endpoint)));
    let transaction = Transaction { preconditions: Vec::new(), writes: writes.collect() };
    runtime.block_on(async {
        Embedded::open(file)?.transact(transaction).await?;
        Ok(())
    })
}

/// Runs `work` in the namespace of the host, on a thread of its own, because a namespace belongs to
/// a thread.
fn inside<T: Send>(
    host: &Host,
    work: impl AsyncFnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let run = || {
        let netns = std::fs::File::open(&host.netns)?;
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn endpoint(network: &Network, node: NodeId, number: u64, offset: Offset) -> Endpoint {
    Endpoint {
        id: EndpointId(number),
        network: network.id,
        node,
        container: ContainerId(number),
        name: format!("far-{number}").parse().unwrap_or_else(|_| unreachable!("a plain name")),
        aliases: Vec::new(),
        addresses: network.addresses(offset),
        mac: Mac::of_endpoint(network.vni, offset),
        allow_source: Vec::new(),
    }
}

/// Speaks to the server as the host.
async fn connect(state_dir: &Path) -> anyhow::Result<(Client, NodeId)> {
    let identity = state_dir.join("identity");
    let read = |name: &str| std::fs::read_to_string(identity.join(name));
    let (key, certificate, ca) = (read("key.pem")?, read("certificate.pem")?, read("ca.pem")?);
    let certificates = Certificates::new(&certificate, &ca, &key)?;
    let me = certificates.identity()?;
    let tls = weft_rpc::tls::client(certificates, &ca, me.cluster)?;
    let node: serde_json::Value = serde_json::from_str(&read("node.json")?)?;
    let server = node["servers"][0].as_str().context("no server")?.parse()?;
    Ok((weft_rpc::connect::cluster(server, tls).await?, me.id))
}

/// Addresses that belong to the host now, at least `count` of them and not many more.
async fn offsets(client: &Client, network: NetworkId, count: u32) -> anyhow::Result<Vec<Offset>> {
    let mut held = 0;
    loop {
        let lease = lease(client, network, count).await?;
        let all: Vec<Offset> = lease.offsets.iter().take(count as usize).collect();
        if all.len() == count as usize {
            return Ok(all);
        }
        anyhow::ensure!(all.len() > held, "no more than {held} addresses were granted");
        held = all.len();
    }
}

async fn lease(client: &Client, network: NetworkId, count: u32) -> anyhow::Result<Lease> {
    let request = wire::LeaseRequest { network_id: network.to_string(), wanted: Vec::new(), count };
    let reply = client.clone().lease(request).await?.into_inner();
    match weft_rpc::rows::read_answer(reply.row.as_ref())? {
        Row::Lease(lease) => Ok(lease),
        other => anyhow::bail!("not a lease: {}", other.key()),
    }
}
