//! The mounts and processes of an engine, and what keeps them together.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::{Host, Process, docker, process};

/// In the directory that is shared: where the engine's `/run` is put together.
pub(super) const MOUNT_POINT: &str = "run";

/// Run as the first process of its namespace, with the shared directory as `$1`. It tells the number
/// that it has outside, then collects ended processes until its input ends; with it, all others end.
///
/// The engine has its own `/run`, `/etc/docker` and `/opt`: no settings, sockets or state of an engine of
/// the machine, and nothing of its own stays there. `/run` is shared, as systemd makes it: managed plugins
/// see namespaces that the engine mounts later.
const SCRIPT: &str = r#"
set -e
read -r pid rest </proc/self/stat
mount -n -t proc proc /proc
mount -n -t tmpfs -o mode=0755 tmpfs "$1/run"
mkdir -p "$1/run/docker/plugins" "$1/run/api"
mount -n --bind "$1/plugins" "$1/run/docker/plugins"
mount -n --bind "$1" "$1/run/api"
mount -n --move "$1/run" /run
mount -n --make-rshared /run
mkdir -p /etc/docker
mount -n -t tmpfs tmpfs /etc/docker
mount -n -t tmpfs tmpfs /opt
exec 3<&0
echo "$pid"
cat <&3 >/dev/null &
wait $!
"#;

/// Mounts and processes of their own, in the network namespace of a host, for as long as this lives.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `unshare`, which holds our end of the pipe.
    process: Process,
    /// The first process of the namespace, as seen from here.
    first: u32,
}

impl Keeper {
    /// Makes them; complaints go to `log`.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn start(host: &Host, log: File) -> io::Result<Self> {
        docker::make_directories(host)?;
        let mut command = host.command("unshare")?;
        // Slave: what the machine unmounts goes here as well, so that no namespace outlives its name.
        command.args(["--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-c", SCRIPT, "keeper"]).arg(docker::directory(host));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = Process::spawn(command)?;
        let mut line = String::new();
        if let Some(output) = process.child().stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let first = line.trim().parse();
        let first = first.map_err(|_| io::Error::other("its mounts could not be made"))?;
        let keeper = Self { process, first };
        let link = docker::root(host);
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::os::unix::fs::symlink(keeper.root(), link)?,
        }
        Ok(keeper)
    }

    /// The first process of the namespace, as seen from here.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Its files, seen from outside.
    pub(super) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.first))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The kernel ends all processes of the namespace with its first one, which goes with `unshare`.
        let _ = self.process.kill();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !has_ended(self.first) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process is gone, or waits only for somebody to ask how it ended. The first process of a
/// namespace comes that far after all others (pid_namespaces(7)).
fn has_ended(pid: u32) -> bool {
    process::field(pid, 3).is_none_or(|state| state == "Z")
}
