//! Virtual hosts: pairs on a cable, and what is the same on all of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use weft_lab::{Lab, LabConfig};

use super::interrupt;
use super::tools::{self, Place};

/// The congestion control of all variants: what Linux uses unless somebody chose another one, or what
/// comes closest where the machine lets only its own namespace have that (`tcp(7)`).
const CONGESTION_CONTROL: [&str; 2] = ["cubic", "reno"];

const CONGESTION_FILE: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// What lies between two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// A veth pair: it costs nothing, so what a variant adds shows as large as can be.
    Cable,
    /// A bridge, as machines have one between them.
    Switch,
}

/// Two hosts `a` and `b` with nothing but a cable or a switch between them.
///
/// # Errors
/// When the system refuses.
pub(crate) fn pair(name: &str, between: Between) -> anyhow::Result<Lab> {
    let name = format!("bench-{name}-{}", std::process::id());
    // No servers to ask of names: nothing may leave the machine.
    let resolv_conf = Some("# none\n".to_owned());
    let direct_cable = between == Between::Cable;
    let config = LabConfig { direct_cable, resolv_conf, ..LabConfig::new(&name) };
    let lab = Lab::up(config).map_err(|e| anyhow::anyhow!("no hosts: {e} {}", e.hint()))?;
    for host in lab.hosts() {
        prepare(&host.netns_file())?;
    }
    Ok(lab)
}

/// A host itself as a place.
///
/// # Errors
/// When there is no such host.
pub(crate) fn place(lab: &Lab, host: &str) -> anyhow::Result<Place> {
    let host = lab.host(host)?;
    Ok(Place { netns: host.netns_file(), address: host.address })
}

/// Makes a namespace like all others that are measured.
///
/// # Errors
/// When the system refuses.
pub(crate) fn prepare(netns: &Path) -> anyhow::Result<()> {
    let set = || {
        let mut tried = CONGESTION_CONTROL.iter().map(|c| std::fs::write(CONGESTION_FILE, c));
        tried.find(Result::is_ok).unwrap_or(Err(std::io::ErrorKind::PermissionDenied.into()))
    };
    weft_lab::in_netns(netns, set)
        .with_context(|| format!("cannot set the congestion control of {}", netns.display()))
}

/// The congestion control of a namespace.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn congestion_control(netns: &Path) -> anyhow::Result<String> {
    let text = weft_lab::in_netns(netns, || std::fs::read_to_string(CONGESTION_FILE))?;
    Ok(text.trim().to_owned())
}

/// A VXLAN device of the kernel on each of two plain hosts, as one would make it by hand.
///
/// # Errors
/// When the system refuses.
pub(crate) fn raw_vxlan(lab: &Lab) -> anyhow::Result<tools::Path> {
    let end = |own: &str, other: &str, address: &str| {
        let (local, remote) = (lab.host(own)?.address.to_string(), lab.host(other)?.address);
        let (remote, with_length) = (remote.to_string(), format!("{address}/24"));
        let add = ["ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "4789"];
        let ends = ["local", &local, "remote", &remote, "dev", "eth0"];
        on(lab, own, &[&add[..], &ends].concat())?;
        on(lab, own, &["ip", "address", "add", &with_length, "dev", "vx0"])?;
        on(lab, own, &["ip", "link", "set", "vx0", "up"])?;
        anyhow::Ok(Place { netns: lab.host(own)?.netns_file(), address: address.parse()? })
    };
    Ok(tools::Path { client: end("a", "b", "10.7.0.1")?, server: end("b", "a", "10.7.0.2")? })
}

/// Runs words on a host; gives what they print.
///
/// # Errors
/// When they fail, with what they complained about.
pub(crate) fn on(lab: &Lab, host: &str, words: &[&str]) -> anyhow::Result<String> {
    said(&words.join(" "), &lab.exec(host, words)?)
}

/// What a command printed.
///
/// # Errors
/// When it failed, with what it complained about.
pub(crate) fn said(what: &str, output: &std::process::Output) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{what} failed ({}): {complaint}{text}",
        output.status
    );
    Ok(text)
}

/// Waits until an echo request is answered from one end to the other.
///
/// # Errors
/// When it is not within a few seconds.
pub(crate) fn reaches(path: &tools::Path) -> anyhow::Result<()> {
    let target = path.server.address.to_string();
    wait(Duration::from_secs(20), &format!("{target} answers"), || {
        let ping = weft_lab::enter(&path.client.netns, None, "ping");
        let ran = ping.and_then(|mut p| p.args(["-n", "-c1", "-W1", &target]).output());
        Ok(ran.context("cannot run ping")?.status.success())
    })
}

/// Polls until something holds.
///
/// # Errors
/// When it does not in time, or cannot be seen.
pub(crate) fn wait(
    limit: Duration,
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !holds().with_context(|| format!("waiting until {what}"))? {
        interrupt::check()?;
        anyhow::ensure!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}
