//! Two real Docker engines, one on each of two virtual hosts.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use weft_lab::{Lab, docker};

use super::hosts::{prepare, said, wait};
use super::tools::{self, Place};

/// The one image: busybox and nothing else.
const IMAGE: &str = "weft-bench-busybox";

/// A network that spans hosts, away from the hosts' own and from Weft's.
const OVERLAY: &str = "10.9.0.0/24";

/// Two engines joined as a swarm, and the containers on them.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) overlay: tools::Path,
    pub(crate) local: tools::Path,
    /// As the engine tells it.
    pub(crate) version: String,
    _engines: [Engine; 2],
}

impl Swarm {
    /// Starts engines on hosts `a` and `b` of `lab`, joins them, and starts the containers.
    ///
    /// # Errors
    /// When Docker does not do as it should.
    pub(crate) fn up(lab: &Lab) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("weft-bench-").context("cannot make a directory")?;
        let tar = docker::image(directory.path())?;
        let engines = [Engine::start(lab, "a")?, Engine::start(lab, "b")?];
        let [a, b] = &engines;
        for engine in [a, b] {
            engine.wait_until_it_answers()?;
            engine.docker(&["import", &tar.to_string_lossy(), IMAGE])?;
        }
        let (first, second) = (lab.host("a")?.address, lab.host("b")?.address);
        let (first, second) = (first.to_string(), second.to_string());
        a.docker(&["swarm", "init", "--advertise-addr", &first])?;
        let token = a.docker(&["swarm", "join-token", "-q", "worker"])?;
        let server = format!("{first}:2377");
        b.docker(&["swarm", "join", "--token", &token, "--advertise-addr", &second, &server])?;
        let overlay = ["network", "create", "--driver", "overlay", "--attachable"];
        a.docker(&[&overlay[..], &["--subnet", OVERLAY, "over"]].concat())?;
        a.docker(&["network", "create", "--driver", "bridge", "local"])?;
        Ok(Self {
            overlay: tools::Path {
                client: a.container("over-a", "over")?,
                server: b.container("over-b", "over")?,
            },
            local: tools::Path {
                client: a.container("local-1", "local")?,
                server: a.container("local-2", "local")?,
            },
            version: a.docker(&["version", "--format", "{{.Server.Version}}"])?,
            _engines: engines,
        })
    }
}

/// One engine.
#[derive(Debug)]
struct Engine(docker::Engine);

impl Engine {
    fn start(lab: &Lab, host: &str) -> anyhow::Result<Self> {
        Ok(Self(docker::Engine::start(lab, host, &[])?))
    }

    fn wait_until_it_answers(&self) -> anyhow::Result<()> {
        wait(Duration::from_secs(60), "dockerd answers", || {
            self.0.ensure_it_runs()?;
            Ok(self.0.answers())
        })
    }

    /// Runs `docker` against it; gives what that prints, trimmed.
    fn docker(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.0.client().args(words).output();
        let text = said(&format!("docker {}", words.join(" ")), &output.context("run docker")?)?;
        Ok(text.trim().to_owned())
    }

    /// A container that sleeps on a network.
    fn container(&self, name: &str, network: &str) -> anyhow::Result<Place> {
        let run = ["run", "--detach", "--name", name, "--network", network, IMAGE];
        self.docker(&[&run[..], &["/bin/busybox", "sleep", "1000000"]].concat())?;
        let ask = |format: &str| self.docker(&["inspect", "--format", format, name]);
        let key = ask("{{.NetworkSettings.SandboxKey}}")?;
        let file = Path::new(&key).file_name().context("the container has no namespace")?;
        // The key begins with /var/run, a link that would lead out of the engine's own files.
        let netns = self.0.root().join("run/docker/netns").join(file);
        let address = ask("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
        prepare(&netns)?;
        Ok(Place { netns, address: address.parse().with_context(|| format!("'{address}'"))? })
    }
}
