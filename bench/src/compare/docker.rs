//! Real Docker engines on virtual hosts.
//!
//! Each runs in the network namespace of its host, with mounts and processes of its own, so that two
//! of them, and one that the machine runs anyway, do not know of each other. All that an engine
//! writes lies in memory that goes with it; its first process takes all others along.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;
use weft_lab::{Lab, Process};

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
        let image = image()?;
        let tar = image.path().join("image.tar");
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
struct Engine {
    /// `unshare`, whose end is the end of all of it.
    process: Process,
    /// The engine itself, first of its process namespace.
    pid: u32,
    log: PathBuf,
    /// Where control groups of its containers lie.
    cgroup: String,
}

impl Engine {
    fn start(lab: &Lab, host: &str) -> anyhow::Result<Self> {
        let host = lab.host(host)?;
        let log = host.directory.join("dockerd.log");
        let file = fs::File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let cgroup = format!("{}-{}", lab.name(), host.name);
        // Its own /run and /etc/docker: no settings, sockets or state of the machine's engine.
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker && \
             exec dockerd --data-root /run/docker-data --host unix:///run/docker.sock \
             --pidfile /run/docker.pid --storage-driver vfs --cgroup-parent /{cgroup}"
        );
        let mut command = host.command("setpriv")?;
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]);
        command.args(["--kill-child", "--mount-proc", "sh", "-c", &script]);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = Process::spawn(command).context("cannot start dockerd")?;
        let mut engine = Self { process, pid: 0, log, cgroup };
        wait(Duration::from_secs(10), "dockerd runs", || {
            engine.ensure_it_runs()?;
            let is_engine = |pid: &u32| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                name.trim_end() == "dockerd"
            };
            engine.pid = lab.processes(&host.name).into_iter().find(is_engine).unwrap_or(0);
            Ok(engine.pid != 0)
        })?;
        Ok(engine)
    }

    fn ensure_it_runs(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.process.wait(Duration::ZERO)? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n");
        anyhow::bail!("dockerd ended ({status}):\n{last}")
    }

    fn wait_until_it_answers(&self) -> anyhow::Result<()> {
        wait(Duration::from_secs(60), "dockerd answers", || Ok(self.docker(&["version"]).is_ok()))
    }

    /// Its files, seen from outside.
    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// Runs `docker` against it; gives what that prints, trimmed.
    fn docker(&self, words: &[&str]) -> anyhow::Result<String> {
        let socket = format!("unix://{}", self.root().join("run/docker.sock").display());
        let mut command = Command::new("docker");
        // Nothing of whoever runs this: neither their settings nor where their engine is.
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.env("DOCKER_CONFIG", "/nonexistent");
        let output = command.args(["--host", &socket]).args(words).stdin(Stdio::null()).output();
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
        let netns = self.root().join("run/docker/netns").join(file);
        let address = ask("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
        prepare(&netns)?;
        Ok(Place { netns, address: address.parse().with_context(|| format!("'{address}'"))? })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The kernel ends all processes of a process namespace with its first one, which goes with
        // `unshare`; only then are the control groups empty.
        let _ = self.process.kill();
        let deadline = Instant::now() + Duration::from_secs(10);
        while remove_cgroups(&self.cgroup) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Removes the control groups under `name` in every hierarchy; gives how many are still there.
fn remove_cgroups(name: &str) -> usize {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    let tops = hierarchies.chain([root.to_owned()]).map(|path| path.join(name));
    let left = |top: &PathBuf| {
        let children = fs::read_dir(top).into_iter().flatten().flatten();
        for child in children.filter(|c| c.file_type().is_ok_and(|t| t.is_dir())) {
            // What is not empty stays, and is tried again.
            let _ = fs::remove_dir(child.path());
        }
        let _ = fs::remove_dir(top);
        top.exists()
    };
    tops.filter(left).count()
}

/// A directory with `image.tar`: a file system with busybox in it.
fn image() -> anyhow::Result<TempDir> {
    let directory = TempDir::with_prefix("weft-bench-").context("cannot make a directory")?;
    let bin = directory.path().join("root/bin");
    fs::create_dir_all(&bin)?;
    let paths = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = paths.iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("there is no busybox: install busybox-static")?;
    fs::copy(busybox, bin.join("busybox"))?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(directory.path().join("root")).arg("-cf");
    tar.arg(directory.path().join("image.tar")).arg(".");
    said("tar", &tar.output()?)?;
    Ok(directory)
}
