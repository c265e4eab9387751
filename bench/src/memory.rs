//! Resident memory of a daemon: idle, and with 5,000 endpoints of another host.

use std::time::Duration;

use anyhow::Context;
use weft_model::{ContainerId, Endpoint, EndpointId, Lease, Mac, Network, NetworkId, Row};
use weft_rpc::tls::Certificates;
use weft_rpc::wire;
use weft_tests::{Cluster, until};

use crate::report::{Reach, Report};

const REMOTE: u32 = 5_000;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::up("bm", 3);
    let idle = resident(&cluster, "c")?;
    report.add("resident memory of a daemon, idle", "MB", vec![idle], Reach::median(25.0));
    let network = cluster.network("web", &["--subnet", "10.3.0.0/16"]);
    let here = cluster.attach("c", "here", &["--network", "web"]);
    // Host b's daemon steps aside: its endpoints are put in its name, by its own certificate.
    let there = cluster.attach("b", "there", &["--network", "web"]);
    cluster.kill_daemon("b");
    std::thread::scope(|scope| {
        scope
            .spawn(|| on_host_b(&cluster, &network))
            .join()
            .map_err(|_| anyhow::anyhow!("panic"))?
    })?;
    until(Duration::from_secs(60), "all endpoints are in the kernel", || {
        let fdb = cluster.on("c", &["bridge", "fdb", "show"]).ok();
        fdb.matches(" dst ").count() > REMOTE as usize
    });
    std::thread::sleep(Duration::from_secs(2));
    let full = resident(&cluster, "c")?;
    let name = format!("resident memory of a daemon, {REMOTE} remote endpoints");
    report.add(name, "MB", vec![full], Reach::median(64.0));
    let server = resident(&cluster, "a")?;
    report.add("the same of the server's daemon", "MB", vec![server], None);
    drop((here, there));
    Ok(())
}

/// Megabytes (10⁶) of the host's daemon, the resolver not included: `VmRSS`, proc(5).
fn resident(cluster: &Cluster, host: &str) -> anyhow::Result<f64> {
    for pid in cluster.lab().processes(host) {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if !command.trim_end().ends_with(" daemon") {
            continue;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        return Ok(kilobytes * 1024.0 / 1e6);
    }
    anyhow::bail!("host {host} has no daemon")
}

/// Speaks to the server from host b's namespace: the underlay is reached from there only, and
/// nothing may leave the machine. On a thread of its own, because a namespace belongs to a thread.
fn on_host_b(cluster: &Cluster, network: &serde_json::Value) -> anyhow::Result<()> {
    let netns = std::fs::File::open(cluster.host("b").netns_file())?;
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fill(cluster, network))
}

/// Puts endpoints in the name of host b.
async fn fill(cluster: &Cluster, network: &serde_json::Value) -> anyhow::Result<()> {
    let identity = cluster.host("b").state_dir().join("identity");
    let read = |name: &str| std::fs::read_to_string(identity.join(name));
    let (key, certificate, ca) = (read("key.pem")?, read("certificate.pem")?, read("ca.pem")?);
    let certificates = Certificates::new(&certificate, &ca, &key)?;
    let me = certificates.identity()?;
    let tls = weft_rpc::tls::client(certificates, &ca, me.cluster)?;
    let node: serde_json::Value = serde_json::from_str(&read("node.json")?)?;
    let server = node["servers"][0].as_str().context("no server")?.parse()?;
    let mut client = weft_rpc::connect::cluster(server, tls).await?;
    let network: Network = serde_json::from_value(network.clone())?;
    let mut used = 1;
    while used < REMOTE {
        let lease = lease(&mut client, network.id, REMOTE).await?;
        let fresh = lease.offsets.iter().skip(used as usize - 1);
        let before = used;
        for offset in fresh.take((REMOTE - used) as usize) {
            used += 1;
            let endpoint = Endpoint {
                id: EndpointId(u64::from(used)),
                network: network.id,
                node: me.id,
                container: ContainerId(u64::from(used)),
                name: format!("far-{used}").parse()?,
                aliases: Vec::new(),
                addresses: network.addresses(offset),
                mac: Mac::of_endpoint(network.vni, offset),
                allow_source: Vec::new(),
            };
            let row = weft_rpc::rows::put(&Row::Endpoint(endpoint));
            // The one address that host b's own container has is refused, and skipped.
            if client.put_endpoint(row).await.is_err() && used > before + 1 {
                anyhow::bail!("an endpoint at offset {} was refused", offset.0);
            }
        }
        anyhow::ensure!(used > before, "no more addresses were granted");
    }
    Ok(())
}

async fn lease(
    client: &mut weft_rpc::connect::Client,
    network: NetworkId,
    count: u32,
) -> anyhow::Result<Lease> {
    let request = wire::LeaseRequest { network_id: network.to_string(), wanted: Vec::new(), count };
    let reply = client.lease(request).await?.into_inner();
    match weft_rpc::rows::read_answer(reply.row.as_ref())? {
        Row::Lease(lease) => Ok(lease),
        other => anyhow::bail!("not a lease: {}", other.key()),
    }
}
