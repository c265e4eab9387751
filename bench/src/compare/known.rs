//! Weft with few and with many endpoints known, each in a cluster of its own.
//!
//! ```text
//!   host b ────── host a ────── host c, whose daemon has stepped aside:
//!    └ measured ────┘           10, 1,000 or 100,000 endpoints are in its name
//! ```
//!
//! While packets are measured the daemons of all clusters stand still: what is compared is the
//! way of a packet, not who else works on this machine meanwhile.

use anyhow::Context;
use weft_lab::{Host, Lab};

use super::hosts::{Between, on, pair, reaches, said};
use super::tools::Path;
use super::variants::{Shortcut, Variant};
use super::way::{self, Counted};
use super::weft::Weft;
use crate::pretended;

/// The file of a server's state, in its state directory.
const CLUSTER: &str = "cluster.redb";

/// A cluster that knows so many.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) path: Path,
    // Daemons go before the hosts they run on.
    weft: Weft,
    _lab: Lab,
}

impl Known {
    /// Makes the cluster of a variant.
    ///
    /// # Errors
    /// When Weft does not do as it should, and when the variant knows nobody.
    pub(crate) fn up(variant: Variant) -> anyhow::Result<Self> {
        let count = variant.known().context("not a variant of how many are known")?;
        let lab = pair(&format!("k{count}"), Between::Cable)?;
        let far = third_host(&lab)?;
        let mut weft = Weft::up(&lab, 4789, variant.shortcut().unwrap_or(Shortcut::Auto))?;
        let network = weft.network("10.0.0.0/14")?;
        let own = {
            // It lives for as long as it takes to join and to take part in the network.
            let _daemon = weft.daemon(&far)?;
            weft.wait_until_it_answers(&far)?;
            weft.join_guest(&far)?;
            weft.attach(&lab, &far, "far")?.address
        };
        let aside = pretended::Host { netns: far.netns_file(), state_dir: far.state_dir() };
        let mut endpoints = pretended::endpoints(&aside, &network, count)?;
        endpoints.retain(|endpoint| !endpoint.addresses.contains(&own));
        endpoints.truncate(count as usize);
        weft.stop()?;
        pretended::write(&weft.host("a")?.state_dir().join(CLUSTER), endpoints)?;
        weft.start()?;
        weft.settle()?;
        // Only now, so that they learn of all endpoints at once.
        let (a, b) = (weft.host("a")?, weft.host("b")?);
        let client = weft.attach(&lab, a, "near")?;
        let server = weft.attach(&lab, b, "over")?;
        weft.settle()?;
        for host in [a, b] {
            let held = on(&lab, &host.name, &["bridge", "fdb", "show"])?;
            let held = held.matches(&format!(" dst {}", far.address)).count();
            anyhow::ensure!(held > count as usize, "host {} knows only {held}", host.name);
        }
        let path = Path { client, server };
        reaches(&path)?;
        weft.pause(true)?;
        Ok(Self { path, weft, _lab: lab })
    }

    /// What the hosts have counted for the measured containers.
    ///
    /// # Errors
    /// When Weft does not answer.
    pub(crate) fn counted(&self) -> anyhow::Result<Option<Counted>> {
        self.weft.pause(false)?;
        let counted = way::counted(&self.weft, [("a", "near"), ("b", "over")]);
        self.weft.pause(true)?;
        counted
    }
}

/// Lays a cable from host `a` to a third one.
fn third_host(lab: &Lab) -> anyhow::Result<Host> {
    let a = lab.host("a")?;
    let host = Host {
        name: "c".to_owned(),
        netns: lab.container("c")?.netns,
        address: [172, 10, 1, 2].into(),
        address_v6: std::net::Ipv6Addr::UNSPECIFIED,
        directory: a.directory.with_file_name("c"),
    };
    std::fs::create_dir_all(host.state_dir())?;
    std::fs::create_dir_all(host.run_dir())?;
    std::fs::write(host.resolv_conf(), "# none\n")?;
    let cable = ["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0"];
    on(lab, "a", &[&cable[..], &["netns", &host.netns]].concat())?;
    on(lab, "a", &["ip", "address", "add", "172.10.1.1/24", "dev", "eth1"])?;
    on(lab, "a", &["ip", "link", "set", "eth1", "up"])?;
    on(lab, "a", &["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    let gateway = a.address.to_string();
    on(lab, "b", &["ip", "route", "add", "172.10.1.0/24", "via", &gateway])?;
    for words in [
        ["address", "add", "172.10.1.2/24", "dev", "eth0"].as_slice(),
        &["link", "set", "eth0", "up"],
        &["route", "add", "default", "via", "172.10.1.1"],
    ] {
        said(&words.join(" "), &host.command("ip")?.args(words).output()?)?;
    }
    Ok(host)
}
