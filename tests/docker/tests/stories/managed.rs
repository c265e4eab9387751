//! Weft as a managed plugin: Docker itself runs the daemon.
//!
//! ```text
//!  dockerd ──▶ plugin weft:latest ── /run/weft/weft.sock ◀── weft init, weft join … on the host
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weft_docker_tests::{Engines, IMAGE, Said, wait_until};
use weft_lab::docker;

/// How long a plugin of some hundred megabytes takes to be read in and started.
const INSTALL: Duration = Duration::from_secs(120);

const WEFT: [&str; 4] = ["--driver", "weft:latest", "--ipam-driver", "weft:latest"];

/// Two hosts in a cluster, whose daemons are plugins.
struct Managed(Engines);

impl Managed {
    #[track_caller]
    fn up(story: &str) -> Self {
        let story = Self(Engines::up(story, 2));
        for host in ["a", "b"] {
            story.0.cluster().stop_daemon(host);
            story.install(host);
        }
        let joining = story.0.cluster().init();
        story.0.cluster().join("b", &joining);
        story.0.cluster().wait_until_connected();
        story
    }

    /// Builds the plugin from the program under test, and lets the engine of a host have it.
    #[track_caller]
    fn install(&self, name: &str) {
        let host = self.0.cluster().host(name);
        let shared = docker::directory(host);
        let directory = shared.join("plugin");
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/docker-plugin/build.sh");
        let built = Command::new(script).arg(weft_tests::weft_binary()).arg(&directory).output();
        let built = built.unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        fs::create_dir_all(shared.join("state")).unwrap();
        let create = ["plugin", "create", "weft", directory.to_str().unwrap()];
        self.0.docker_within(name, INSTALL, &create).ok();
        // A room's engine has its API, and what is shared with the host, at a place of its own.
        let pins = format!("WEFT_BPF_DIR={}", host.bpf_dir().display());
        let (api, state) =
            ("WEFT_DOCKER_SOCKET=/run/api/docker.sock", "state.source=/run/api/state");
        self.0.docker(name, &["plugin", "set", "weft", api, state, &pins]).ok();
        self.0.docker_within(name, INSTALL, &["plugin", "enable", "weft"]).ok();
        let socket: PathBuf = host.socket();
        let _ = fs::remove_file(&socket);
        symlink(self.0.engine(name).root().join("run/weft/weft.sock"), socket).unwrap();
    }

    /// Makes a Docker network on a host.
    #[track_caller]
    fn network(&self, host: &str, flags: &[&str], name: &str) -> Said {
        self.0.docker(host, &[&["network", "create"], flags, &[name]].concat())
    }

    /// `weft run --network web` on a host. On a real one that is all; a room's engine numbers processes by
    /// itself, and the plugin sees its numbers.
    #[track_caller]
    fn run_by_weft(&self, host: &str, words: &[&str]) {
        let root = self.0.engine(host).root();
        let first = root.strip_prefix("/proc").unwrap().iter().next().unwrap().to_str().unwrap();
        let weft = weft_tests::weft_binary();
        let begin = ["nsenter", "--target", first, "--mount", "--pid", "env"];
        let weft = ["WEFT_SOCKET=/run/weft/weft.sock", weft.to_str().unwrap()];
        let run = ["run", "--network", "web", "--name", "once", "--"];
        let words = [&begin[..], &weft, &run, words].concat();
        self.0.cluster().on(host, &words).ok();
    }
}

impl Drop for Managed {
    /// A plugin's control group is nobody's when its engine is gone.
    fn drop(&mut self) {
        for host in ["a", "b"] {
            let mut client = self.0.engine(host).client();
            let _ = client.args(["plugin", "disable", "--force", "weft"]).output();
        }
    }
}

#[test]
fn a_managed_plugin_connects_containers_and_may_be_away_for_a_while() {
    let story = Managed::up("managed");
    let docker = |host: &str, words: &[&str]| story.0.docker(host, words);
    // The name without its tag is that of a plugin that puts its socket there by itself.
    let complaint = story.network("b", &["-d", "weft", "--ipam-driver", "weft"], "web").fails();
    assert!(complaint.contains("could not resolve driver weft in registry"), "{complaint}");
    for host in ["a", "b"] {
        // By name only: it is told by Docker's events.
        story.network(host, &WEFT, "web").ok();
    }
    story.0.run("a", "api", &["--network", "web"]);
    story.0.run("b", "front", &["--network", "web"]);
    story.0.endpoint("api");
    story.0.endpoint("front");
    assert!(story.0.pings("b", "front", "api"), "api from b");
    assert!(story.0.pings("a", "api", "front"), "front from a");
    story.run_by_weft("b", &["ping", "-c1", "-W2", "api"]);

    let complaint = docker("b", &["plugin", "disable", "weft"]).fails();
    assert!(complaint.contains("plugin weft:latest is in use"), "{complaint}");
    let api = story.0.address("a", "api", "web");
    docker("b", &["plugin", "disable", "--force", "weft"]).ok();
    let answered = docker("b", &["exec", "front", "ping", "-c20", "-i0.1", "-W2", &api]).ok();
    assert!(answered.contains(" 0% packet loss"), "{answered}");
    docker("b", &["run", "--rm", "--network", "web", IMAGE, "true"]).fails();
    docker("b", &["plugin", "enable", "weft"]).ok();
    let words = ["run", "--rm", "--network", "web", IMAGE, "ping", "-c1", "-W2", "api"];
    wait_until(Duration::from_secs(20), "containers start again", || docker("b", &words).is_ok());
    // It is not swept for having a driver of another name, either.
    std::thread::sleep(Duration::from_secs(15));
    assert!(story.0.pings("b", "front", &api));
    story.0.endpoint("front");
}

#[test]
fn services_of_a_swarm_are_on_a_network_whose_configuration_every_host_has() {
    let story = Managed::up("swarm");
    let on_a = |words: &[&str]| story.0.docker("a", words);
    on_a(&["swarm", "init", "--advertise-addr", "172.10.0.15"]).ok();
    let token = on_a(&["swarm", "join-token", "--quiet", "worker"]).ok();
    story.0.docker("b", &["swarm", "join", "--token", &token, "172.10.0.15:2377"]).ok();
    for host in ["a", "b"] {
        let flags = ["--config-only", "--ipam-driver", "weft:latest", "--subnet", "10.5.0.0/24"];
        story.network(host, &flags, "web-config").ok();
    }
    let flags = ["-d", "weft:latest", "--scope", "swarm", "--config-from", "web-config"];
    story.network("a", &flags, "web").ok();
    let service = |name: &str, network: &str, mode: &str, more: &[&str]| {
        let begin = ["service", "create", "--detach", "--no-resolve-image", "--mode", "global"];
        let words = ["--name", name, "--network", network, "--endpoint-mode", mode];
        on_a(&[&begin[..], &words, more, &[IMAGE]].concat())
    };
    let publish = ["--publish", "mode=host,published=8080,target=80"];
    service("api", "web", "dnsrr", &publish).ok();
    service("virtual", "web", "vip", &[]).ok();
    let tasks = |host: &str| {
        let words = ["ps", "--quiet", "--filter", "label=com.docker.swarm.service.name=api"];
        story.0.docker(host, &words).ok()
    };
    // An engine first asks the world for the image, which there is not.
    wait_until(Duration::from_secs(90), "a task runs on each host", || {
        ["a", "b"].iter().all(|host| tasks(host).lines().count() == 1)
    });
    for host in ["a", "b"] {
        let task = tasks(host);
        wait_until(Duration::from_secs(20), "both tasks answer to the service's name", || {
            story.0.nslookup(host, &task, "api").len() == 2
        });
        for address in story.0.nslookup(host, &task, "api") {
            assert!(address.starts_with("10.5.0."), "{address}");
            assert!(story.0.pings(host, &task, &address), "{address} from {host}");
        }
        // A published port is that of the host which the task runs on.
        story.0.fetch(host, "http://127.0.0.1:8080/").ok();
        // On such a network a swarm makes up no address for a service either.
        wait_until(Duration::from_secs(20), "its name is its tasks' addresses", || {
            story.0.nslookup(host, &task, "virtual").len() == 2
        });
        assert!(story.0.pings(host, &task, "virtual"));
    }

    // What does not work, and what Docker says.
    story.network("a", &WEFT, "here").ok();
    let complaint = service("other", "here", "dnsrr", &[]).fails();
    assert!(complaint.contains("network here not found"), "{complaint}");
    let complaint = service("other", "web", "dnsrr", &["--publish", "8081:80"]).fails();
    let words = "port published with ingress mode can't be used with dnsrr mode";
    assert!(complaint.contains(words), "{complaint}");
    story.network("a", &[&WEFT[..], &["--scope", "swarm"]].concat(), "bare").ok();
    service("other", "bare", "dnsrr", &[]).ok();
    wait_until(Duration::from_secs(90), "a task is rejected", || {
        let words = ["service", "ps", "--no-trunc", "--format", "{{.Error}}", "other"];
        on_a(&words).ok().contains("Weft gives out the addresses of its networks itself")
    });
}

#[test]
fn a_swarm_takes_no_plugin_that_put_its_socket_there_by_itself() {
    let story = Engines::up("legacy", 1);
    story.docker("a", &["swarm", "init", "--advertise-addr", "172.10.0.15"]).ok();
    let flags = ["--scope", "swarm", "--subnet", "10.5.0.0/24"];
    let complaint = story.network("a", "web", &flags).fails();
    assert!(complaint.contains("legacy plugin"), "{complaint}");
}
