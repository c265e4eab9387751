//! Everything that is measured between: hosts, engines, daemons, containers.
//!
//! ```text
//!   plain hosts:   a ═══ b       no Docker, no rules; a VXLAN device on each
//!   Docker hosts:  a ═══ b       dockerd and a Weft daemon on each, a swarm of two
//! ```
//!
//! Both pairs have the same cable, a veth pair.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use weft_lab::Lab;

use super::docker::Swarm;
use super::hosts::{Between, congestion_control, pair, place, raw_vxlan, reaches};
use super::known::Known;
use super::measures::{Figure, Measure};
use super::tools::Path;
use super::tools::sockperf::Waiting;
use super::variants::{Group, Shortcut, Variant};
use super::way::{self, Counted};
use super::weft::Weft;

/// UDP port of Weft's VXLAN devices where Docker has devices of its own with other flags on 4789:
/// the kernel lets devices share a port only with the same flags.
const WEFT_PORT: u16 = 4790;

/// What is there, as far as the chosen variants need it.
#[derive(Debug)]
pub(crate) struct World {
    paths: BTreeMap<Variant, Path>,
    docker: Option<DockerHosts>,
    plain: Option<Lab>,
    known: BTreeMap<Variant, Known>,
}

/// Hosts with Docker and Weft. What runs on them goes before they do.
#[derive(Debug)]
struct DockerHosts {
    weft: Weft,
    swarm: Swarm,
    _lab: Lab,
}

impl World {
    /// Makes what these variants need.
    ///
    /// # Errors
    /// When the system, Docker or Weft refuses; then nothing is left of it.
    pub(crate) fn up(variants: &[Variant], between: Between) -> anyhow::Result<Self> {
        let (paths, known) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { paths, docker: None, plain: None, known };
        if variants.iter().any(|v| v.on_plain_hosts()) {
            let lab = world.plain.insert(pair("plain", between)?);
            let bare = Path { client: place(lab, "a")?, server: place(lab, "b")? };
            let vxlan = raw_vxlan(lab)?;
            world.paths.extend([(Variant::Bare, bare), (Variant::Vxlan, vxlan)]);
        }
        let on_docker_hosts = |v: &&Variant| v.on_docker_hosts();
        if variants.iter().any(|v| on_docker_hosts(&v)) {
            let mut settings = variants.iter().filter(on_docker_hosts).filter_map(|v| v.shortcut());
            let shortcut = settings.next_back().unwrap_or(Shortcut::Off);
            world.docker_hosts(shortcut, between)?;
        }
        for variant in variants.iter().filter(|v| v.known().is_some()) {
            let known = Known::up(*variant).with_context(|| variant.name())?;
            world.paths.insert(*variant, known.path.clone());
            world.known.insert(*variant, known);
        }
        world.paths.values().try_for_each(reaches)?;
        Ok(world)
    }

    fn docker_hosts(&mut self, shortcut: Shortcut, between: Between) -> anyhow::Result<()> {
        let lab = pair("docker", between)?;
        let swarm = Swarm::up(&lab).context("Docker")?;
        let weft = Weft::up(&lab, WEFT_PORT, shortcut).context("Weft")?;
        weft.network("10.3.0.0/24")?;
        let (a, b) = (weft.host("a")?, weft.host("b")?);
        let client = weft.attach(&lab, a, "near")?;
        let over = Path { client: client.clone(), server: weft.attach(&lab, b, "over")? };
        let local = Path { client, server: weft.attach(&lab, a, "beside")? };
        weft.settle()?;
        let rules = Path { client: place(&lab, "a")?, server: place(&lab, "b")? };
        self.paths.extend([
            (Variant::BareRules, rules),
            (Variant::DockerOverlay, swarm.overlay.clone()),
            (Variant::LocalDocker, swarm.local.clone()),
            (Variant::WeftBridge, over.clone()),
            (Variant::WeftShortcut, over),
            (Variant::LocalWeftBridge, local.clone()),
            (Variant::LocalWeft, local),
        ]);
        self.docker = Some(DockerHosts { weft, swarm, _lab: lab });
        Ok(())
    }

    /// How Weft's daemons are set.
    pub(crate) fn shortcut(&self) -> Option<Shortcut> {
        self.docker.as_ref().map(|d| d.weft.shortcut())
    }

    /// Which Docker this is, and which congestion control TCP has.
    ///
    /// # Errors
    /// When the latter cannot be read, or differs between variants.
    pub(crate) fn settings(&self) -> anyhow::Result<(Option<String>, String)> {
        let ends = self.paths.values().flat_map(|p| [&p.client.netns, &p.server.netns]);
        let all: anyhow::Result<BTreeSet<String>> = ends.map(|e| congestion_control(e)).collect();
        let all: Vec<String> = all?.into_iter().collect();
        let [one] = all.as_slice() else { anyhow::bail!("unlike congestion control: {all:?}") };
        Ok((self.docker.as_ref().map(|d| d.swarm.version.clone()), one.clone()))
    }

    /// Sets the daemons as a variant needs them, and starts what is to be started beforehand. What
    /// cannot be is left out: it will be started in its turn.
    ///
    /// # Errors
    /// When the daemons cannot be set.
    pub(crate) fn prepare(
        &mut self,
        variant: Variant,
        measures: &[Measure],
    ) -> anyhow::Result<BTreeMap<Measure, Waiting>> {
        if variant.on_docker_hosts()
            && let (Some(docker), Some(shortcut)) = (&mut self.docker, variant.shortcut())
        {
            docker.weft.set(shortcut)?;
        }
        let path = self.paths.get(&variant).context("this variant was not made")?;
        let start = |m: &Measure| Some((*m, m.beforehand()?.start(path).ok()?));
        let waiting: Vec<(Measure, Waiting)> = measures.iter().filter_map(start).collect();
        Ok(waiting.into_iter().filter(|(_, waiting)| waiting.hold().is_ok()).collect())
    }

    /// Measures a variant once, and sees that its packets went its way.
    ///
    /// # Errors
    /// When a tool fails, or packets went another way.
    pub(crate) fn measure(
        &self,
        variant: Variant,
        measure: Measure,
        waiting: Option<Waiting>,
    ) -> anyhow::Result<Vec<(Figure, f64)>> {
        let path = self.paths.get(&variant).context("this variant was not made")?;
        let before = self.counted(variant)?;
        let figures = measure.take(path, waiting)?;
        let after = self.counted(variant)?;
        if let (Some(shortcut), Some(before), Some(after)) = (variant.shortcut(), before, after) {
            way::judge(shortcut, before, after)?;
        }
        Ok(figures)
    }

    fn counted(&self, variant: Variant) -> anyhow::Result<Option<Counted>> {
        if let Some(known) = self.known.get(&variant) {
            return known.counted();
        }
        let (Some(docker), Some(_)) = (&self.docker, variant.shortcut()) else { return Ok(None) };
        let ends = match variant.group() {
            Group::Local => [("a", "near"), ("a", "beside")],
            Group::Hosts | Group::Known => [("a", "near"), ("b", "over")],
        };
        way::counted(&docker.weft, ends)
    }
}
