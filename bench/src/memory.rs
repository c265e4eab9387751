//! Resident memory of a daemon: idle, and with 5,000 endpoints of another host.

use std::time::Duration;

use anyhow::Context;
use weft_tests::{Cluster, until};

use crate::pretended;
use crate::report::{Reach, Report};

const REMOTE: u32 = 5_000;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::up("bm", 3);
    // What starting took has gone back by then: the allocator keeps unused pages for a second.
    std::thread::sleep(Duration::from_secs(4));
    let idle = resident(&cluster, "c")?;
    report.add("resident memory of a daemon, idle", "MB", vec![idle], Reach::median(25.0));
    let network = cluster.network("web", &["--subnet", "10.3.0.0/16"]);
    let here = cluster.attach("c", "here", &["--network", "web"]);
    // Host b's daemon steps aside: its endpoints are put in its name, by its own certificate.
    let there = cluster.attach("b", "there", &["--network", "web"]);
    cluster.kill_daemon("b");
    let host = cluster.host("b");
    let aside = pretended::Host { netns: host.netns_file(), state_dir: host.state_dir() };
    pretended::put(&aside, pretended::endpoints(&aside, &network, REMOTE)?)?;
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
