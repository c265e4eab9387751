//! Engines on different hosts, and what they share with their host.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use weft_docker_tests::{Engines, IMAGE, wait_until};
use weft_lab::docker;

#[test]
fn containers_run_on_none_and_on_a_bridge_of_their_host() {
    let story = Engines::up("bridge", 2);
    for host in ["a", "b"] {
        let words = ["run", "--rm", "--network", "none", IMAGE, "ip", "-o", "link"];
        let links = story.docker(host, &words).ok();
        assert_eq!(links.lines().count(), 1, "{links}");
        story.docker(host, &["network", "create", "local"]).ok();
        story.run(host, "one", &["--network", "local", "--publish", "8080:80", "--hostname", host]);
        story.run(host, "two", &["--network", "local"]);
        assert!(story.pings(host, "two", "one"));
        let found = story.exec(host, "two", &["nslookup", "one"]).ok();
        assert!(found.contains(&story.address(host, "one", "local")), "{found}");
    }
    // A published port answers on its own host and from the other.
    for from in ["a", "b"] {
        for (to, address) in [("a", "172.10.0.15"), ("b", "172.10.0.16")] {
            let url = format!("http://{address}:8080/");
            assert_eq!(story.fetch(from, &url).ok(), format!("{to}\n"), "from {from}");
        }
    }
    let ports = story.docker("a", &["ps", "--format", "{{.Names}} {{.Ports}}"]).ok();
    assert!(ports.contains("one 0.0.0.0:8080->80/tcp"), "{ports}");
    // Another host is reached from inside, as that host's engine is not.
    assert!(story.pings("a", "two", "172.10.0.16"));
    assert!(!story.pings("a", "two", &story.address("b", "two", "local")));
    // `serve` ends when it is told to.
    assert!(story.docker("a", &["stop", "one"]).took < Duration::from_secs(5));
}

#[test]
fn engines_have_bridges_of_their_own_also_for_the_way_out() {
    let story = Engines::up("pools", 2);
    // What makes docker_gwbridge without a plugin: a swarm.
    for (host, number, address) in [("a", 20, "172.10.0.15"), ("b", 21, "172.10.0.16")] {
        story.docker(host, &["swarm", "init", "--advertise-addr", address]).ok();
        let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
        let words = ["network", "inspect", "--format", format, "docker_gwbridge"];
        wait_until(Duration::from_secs(10), "its bridge to the outside is there", || {
            story.docker(host, &words).is_ok()
        });
        let subnet = story.docker(host, &words).ok();
        assert!(subnet.starts_with(&format!("172.{number}.")), "{host}: {subnet}");
    }
}

#[test]
fn an_engine_finds_the_plugins_of_its_own_host() {
    let story = Engines::up("plugins", 2);
    let place = docker::plugins(story.cluster().host("a")).join("probe.sock");
    let listener = UnixListener::bind(&place).unwrap();
    let plugin = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        stream.write_all(b"HTTP/1.0 500 No\r\n\r\nprobed").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        request
    });
    let complaint = story.docker("a", &["network", "create", "-d", "probe", "x"]).fails();
    assert!(complaint.contains("probed"), "{complaint}");
    assert_eq!(plugin.join().unwrap(), "POST /Plugin.Activate HTTP/1.1\r\n");
    let complaint = story.docker("b", &["network", "create", "-d", "probe", "x"]).fails();
    assert!(complaint.contains("plugin \"probe\" not found"), "{complaint}");
}

#[test]
fn daemons_are_told_where_the_engine_of_their_host_is() {
    let story = Engines::up("told", 2);
    for host in story.cluster().hosts() {
        let daemon = story.cluster().lab().processes(&host.name).into_iter().find(|pid| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.ends_with(b"\0daemon\0")
        });
        let environment = std::fs::read(format!("/proc/{}/environ", daemon.unwrap())).unwrap();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        for (name, path) in [
            ("WEFT_DOCKER_PLUGIN", docker::plugins(host).join("weft.sock")),
            ("WEFT_DOCKER_SOCKET", docker::socket(host)),
        ] {
            let variable = format!("{name}={}", path.display());
            assert!(environment.split('\0').any(|v| v == variable), "{environment}");
        }
    }
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let story = Engines::up("long", 1);
    let engine = story.engine("a");
    let limit = Duration::from_secs(2);
    assert!(story.docker_within("a", limit, &["version"]).is_ok());
    engine.signal(Signal::SIGSTOP).unwrap();
    let hangs = || story.docker_within("a", limit, &["version"]);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(hangs)).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("not within 2s: docker version"), "{text}");
    engine.signal(Signal::SIGCONT).unwrap();
    wait_until(limit, "it answers again", || story.docker("a", &["version"]).is_ok());
}
