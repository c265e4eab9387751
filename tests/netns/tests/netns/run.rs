//! `weft run`: a command in a fresh namespace on a network.
//!
//! ```text
//!          a                      b
//!  ┌───────────────┐      ┌───────────────┐
//!  │ job (run)     │      │ web-2         │
//!  └───────────────┘      └───────────────┘
//! ```

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use weft_lab::Process;
use weft_tests::{Attached, Cluster, Ran, until, weft_binary};

fn ground(name: &str) -> (Cluster, Attached) {
    let cluster = Cluster::up(name, 2);
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    (cluster, two)
}

fn run(cluster: &Cluster, script: &str) -> Ran {
    cluster.weft(
        "a",
        &["run", "--network", "web", "--name", "job", "--ip", "10.3.0.9", "--", "sh", "-c", script],
    )
}

#[track_caller]
fn assert_gone(cluster: &Cluster) {
    until(Duration::from_secs(5), "the endpoint is gone", || {
        cluster.json("a", &["endpoint", "ls"]).as_array().unwrap().len() == 1
    });
}

#[test]
fn it_is_on_the_network_from_its_first_instruction_and_ends_as_the_command_ends() {
    let (cluster, _) = ground("run");
    let host_resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    let ran =
        run(&cluster, "ip -br addr show eth0; cat /etc/resolv.conf; ping -c1 -W2 web-2 && exit 7");
    assert_eq!(ran.code, Some(7), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("10.3.0.9/24") && ran.stdout.contains("nameserver 10.3.0.1"),
        "{}",
        ran.stdout
    );
    assert_eq!(std::fs::read_to_string("/etc/resolv.conf").unwrap(), host_resolver);
    assert_gone(&cluster);
    assert_eq!(run(&cluster, "kill -9 $$").code, Some(137));
    assert_gone(&cluster);
}

#[test]
fn signals_reach_the_command() {
    let (cluster, two) = ground("signals");
    let mut command = cluster.lab().command("a", weft_binary()).unwrap();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    command.args(["run", "--network", "web", "--name", "job", "--", "sh", "-c", script]);
    command.stdout(Stdio::piped());
    let mut job = Process::spawn(command).unwrap();
    let mut line = String::new();
    BufReader::new(job.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    two.ping("job");
    job.signal(Signal::SIGTERM).unwrap();
    let status = job.wait(Duration::from_secs(5)).unwrap().expect("it does not end");
    assert_eq!(status.code(), Some(9));
    assert_gone(&cluster);
}

#[test]
fn killed_it_leaves_nothing_running_and_the_daemon_tidies_up() {
    let (cluster, _) = ground("killed");
    let mut command = cluster.lab().command("a", weft_binary()).unwrap();
    command.args([
        "run",
        "--network",
        "web",
        "--name",
        "job",
        "--",
        "sh",
        "-c",
        "echo $$; exec sleep 60",
    ]);
    command.stdout(Stdio::piped());
    let mut job = Process::spawn(command).unwrap();
    let mut line = String::new();
    BufReader::new(job.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
    let process = format!("/proc/{}", line.trim());
    assert!(std::path::Path::new(&process).exists());
    job.kill().unwrap();
    until(Duration::from_secs(5), "the command is gone", || {
        !std::path::Path::new(&process).exists()
    });
    until(Duration::from_secs(15), "the endpoint is gone", || {
        cluster.json("a", &["endpoint", "ls"]).as_array().unwrap().len() == 1
    });
}

#[test]
fn what_cannot_run_says_why_and_leaves_nothing() {
    let (cluster, _) = ground("cannot");
    let words = |extra: &[&'static str]| [&["run", "--name", "job"][..], extra].concat();
    let none = cluster.weft("a", &words(&["--network", "nope", "--", "true"])).fails(1);
    assert!(none.contains("nope"), "{none}");
    let absent =
        cluster.weft("a", &words(&["--network", "web", "--", "/no/such/program"])).fails(127);
    assert!(absent.contains("/no/such/program"), "{absent}");
    cluster.weft("a", &words(&["--network", "web", "--", "/etc/passwd"])).fails(126);
    cluster.weft("a", &words(&["--network", "web"])).fails(2);
    assert_gone(&cluster);
}
