//! Nothing is left, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use weft_docker_tests::{Engines, wait_until};
use weft_lab::{Lab, LabConfig};

/// Set for the second self of this program: it makes a story and waits to be killed.
const SECOND: &str = "WEFT_DOCKER_TESTS_SECOND";

/// For each of two engines: itself, containerd, the keeper; two containers of two processes and a shim each.
const AT_LEAST: usize = 2 * (3 + 2 * 3);

/// Processes, each with when it started: identifiers are used again.
type Processes = BTreeSet<(u32, String)>;

fn running() -> Processes {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, started(pid)?))).collect()
}

/// When a process started (proc_pid_stat(5), field 22); `None` when it has ended.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}

fn namespace(pid: u32, kind: &str) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?.ino())
}

/// The processes of a lab's engines and containers: those in process namespaces that are not this one's.
fn of_engines(lab: &Lab) -> Processes {
    let own = namespace(std::process::id(), "pid");
    let on_hosts = lab.hosts().iter().flat_map(|h| lab.processes(&h.name));
    let engines: BTreeSet<u64> =
        on_hosts.filter_map(|pid| namespace(pid, "pid")).filter(|n| Some(*n) != own).collect();
    let belongs = |pid: u32| {
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        group.contains(lab.name()) || namespace(pid, "pid").is_some_and(|n| engines.contains(&n))
    };
    running().into_iter().filter(|(pid, _)| belongs(*pid)).collect()
}

/// All processes of a lab.
fn of(lab: &Lab) -> Processes {
    let on_hosts: BTreeSet<u32> = lab.hosts().iter().flat_map(|h| lab.processes(&h.name)).collect();
    let on_hosts = running().into_iter().filter(|(pid, _)| on_hosts.contains(pid));
    on_hosts.chain(of_engines(lab)).collect()
}

/// What is left of a lab on the machine.
fn traces(lab: &str, of_it: &Processes) -> Vec<String> {
    let mut found = Vec::new();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
    let directories = ["/run/netns", "/run/weft-lab", "/etc/netns", "/sys/fs/cgroup"];
    for directory in directories.iter().map(Into::into).chain(hierarchies) {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten().map(|e| e.path());
        found.extend(entries.filter(|p| p.display().to_string().contains(lab)));
    }
    let mut found: Vec<String> = found.iter().map(|p| p.display().to_string()).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(lab)).map(str::to_owned));
    for process in running() {
        let words = fs::read(format!("/proc/{}/cmdline", process.0)).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if of_it.contains(&process) || words.contains(lab) {
            found.push(format!("process {process:?}: {words}"));
        }
    }
    found
}

/// What is in the places where an engine of the machine itself would write.
fn places() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for place in ["/run", "/var/lib", "/var/lib/docker", "/run/docker", "/etc/docker", "/opt"] {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        found.extend(entries.map(|e| e.path().display().to_string()));
    }
    found
}

fn story(name: &str) -> Engines {
    let story = Engines::up(name, 2);
    for host in ["a", "b"] {
        story.docker(host, &["network", "create", "local"]).ok();
        story.run(host, "one", &["--network", "local", "--publish", "8080:80"]);
        story.run(host, "two", &["--network", "none", "--restart", "always"]);
    }
    story
}

#[test]
fn dropped_it_leaves_nothing() {
    let before = places();
    let story = story("dropped");
    let lab = story.cluster().lab();
    let (name, processes) = (lab.name().to_owned(), of(lab));
    assert!(of_engines(lab).len() >= AT_LEAST, "{:?}", of_engines(lab));
    assert!(processes.len() >= AT_LEAST + 2, "{processes:?}");
    assert!(traces(&name, &processes).len() > AT_LEAST);
    drop(story);
    assert_eq!(traces(&name, &processes), Vec::<String>::new());
    assert_eq!(places(), before);
}

#[test]
fn of_a_killed_process_nothing_runs_on_and_the_next_lab_clears_away_the_rest() {
    if std::env::var_os(SECOND).is_some() {
        // A thread that ends must not take the engines along.
        let story = std::thread::spawn(|| story("second")).join().unwrap();
        println!("\nlab={}", story.cluster().lab().name());
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let before = places();
    let test = "end::of_a_killed_process_nothing_runs_on_and_the_next_lab_clears_away_the_rest";
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(SECOND, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(second.stdout.take().unwrap());
    let name = std::io::BufRead::lines(output)
        .find_map(|line| line.unwrap().strip_prefix("lab=").map(str::to_owned))
        .expect("the second self made no story");
    let lab = Lab::open(&name).unwrap();
    let (processes, engines) = (of(&lab), of_engines(&lab));
    assert!(engines.len() >= AT_LEAST, "{engines:?}");
    second.kill().unwrap();
    second.wait().unwrap();
    // Without anybody's help, engines and containers end.
    wait_until(Duration::from_secs(10), "its engines and containers end", || {
        running().is_disjoint(&engines)
    });
    let next = LabConfig::new(&format!("wt-docker-next-{}", std::process::id()));
    Lab::up(next).unwrap().down().unwrap();
    // It may have been another test's lab that came first, and is not done yet.
    wait_until(Duration::from_secs(10), "nothing is left", || traces(&name, &processes).is_empty());
    assert_eq!(places(), before);
}
