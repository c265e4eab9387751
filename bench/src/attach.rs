//! Attaching through the local socket, alone and acknowledged by the other hosts of a network.
//!
//! ```text
//!  this process ──▶ a/weft.sock ──▶ daemon a ──▶ server ──▶ daemons b … t ──▶ their kernels
//!               ◀───────────── all have applied it ◀─────────────┘
//! ```

use std::time::{Duration, Instant};

use anyhow::Context;
use tonic::transport::Channel;
use weft_lab::{Container, Host};
use weft_rpc::wire::{self, local_client::LocalClient};
use weft_tests::Cluster;

use crate::report::{Reach, Report};

const ROUNDS: usize = 200;
const HOSTS: usize = 20;
const AT_ONCE: usize = 100;
const BURSTS: usize = 7;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    {
        let cluster = Cluster::up("ba1", 1);
        cluster.network("web", &["--subnet", "10.3.0.0/16"]);
        let containers = containers(&cluster, ROUNDS)?;
        let times = runtime.block_on(one_by_one(cluster.host("a"), &containers))?;
        report.add(
            "attach through the local socket (p50)",
            "ms",
            times.clone(),
            Reach::median(10.0),
        );
        report.add("attach through the local socket (p99)", "ms", times, Reach::p99(40.0));
    }
    let cluster = Cluster::up("ba20", HOSTS);
    cluster.network("web", &["--subnet", "10.3.0.0/16"]);
    let kept: Vec<_> = cluster
        .hosts()
        .iter()
        .map(|host| cluster.attach(&host.name, &format!("on-{}", host.name), &["--network", "web"]))
        .collect();
    anyhow::ensure!(kept.len() == HOSTS, "every host takes part");
    let alone = containers(&cluster, ROUNDS)?;
    let times = runtime.block_on(one_by_one(cluster.host("a"), &alone))?;
    let name = format!("attach acknowledged by all of {HOSTS} hosts");
    report.add(name, "ms", times, Reach::p99(50.0));
    let mut bursts = Vec::new();
    for _ in 0..BURSTS {
        let burst = containers(&cluster, AT_ONCE)?;
        bursts.push(runtime.block_on(all_at_once(cluster.host("a"), &burst))?);
        runtime.block_on(detach_all(cluster.host("a"), &burst))?;
        for container in &burst {
            cluster.lab().remove_container(container)?;
        }
    }
    let name = format!("{AT_ONCE} attaches at once, applied by all of {HOSTS} hosts");
    report.add(name, "s", bursts, Reach::median(0.5));
    Ok(())
}

fn containers(cluster: &Cluster, count: usize) -> anyhow::Result<Vec<Container>> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let next = || NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    (0..count).map(|_| Ok(cluster.lab().container(&format!("n{}", next()))?)).collect()
}

async fn connect(host: &Host) -> anyhow::Result<LocalClient<Channel>> {
    Ok(LocalClient::new(weft_rpc::local::connect(&host.socket()).await?))
}

fn wish(number: usize, container: &Container) -> wire::AttachRequest {
    wire::AttachRequest {
        network: "web".to_owned(),
        name: format!("c{number}"),
        netns: container.netns_file().display().to_string(),
        timeout_ms: 10_000,
        ..Default::default()
    }
}

/// Milliseconds of each attach. The first one also brings the network onto the host, and does
/// not count.
async fn one_by_one(host: &Host, containers: &[Container]) -> anyhow::Result<Vec<f64>> {
    let mut client = connect(host).await?;
    let mut times = Vec::new();
    for (number, container) in containers.iter().enumerate() {
        let begun = Instant::now();
        let reply = client.attach(wish(number, container)).await.context("attach")?.into_inner();
        let took = begun.elapsed();
        acknowledged(&reply)?;
        if number > 0 {
            times.push(took.as_secs_f64() * 1e3);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(times)
}

/// Seconds until all attaches have been applied by all hosts.
async fn all_at_once(host: &Host, containers: &[Container]) -> anyhow::Result<f64> {
    let client = connect(host).await?;
    let begun = Instant::now();
    let attaches: Vec<_> = containers
        .iter()
        .enumerate()
        .map(|(number, container)| {
            let (mut client, wish) = (client.clone(), wish(1000 + number, container));
            tokio::spawn(async move { client.attach(wish).await })
        })
        .collect();
    for attach in attaches {
        acknowledged(&attach.await?.context("attach")?.into_inner())?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

async fn detach_all(host: &Host, containers: &[Container]) -> anyhow::Result<()> {
    let mut client = connect(host).await?;
    for container in containers {
        let netns = container.netns_file().display().to_string();
        client.detach(wire::DetachRequest { netns, ..Default::default() }).await?;
    }
    Ok(())
}

fn acknowledged(reply: &wire::AttachReply) -> anyhow::Result<()> {
    anyhow::ensure!(
        reply.behind.is_empty() && !reply.unpublished,
        "not acknowledged by all: behind {:?}, unpublished {}",
        reply.behind,
        reply.unpublished
    );
    Ok(())
}
