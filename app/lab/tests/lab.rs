//! Labs on the real kernel: they come up connected, and go without a trace. Needs root.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weft_lab::{Error, Lab, LabConfig, Owner, netns_file};

fn name(test: &str) -> String {
    format!("wt-{test}-{}", std::process::id())
}

fn exec(lab: &Lab, host: &str, words: &[&str]) -> (bool, String) {
    let output = lab.exec(host, words).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// What is left of a lab on the machine.
fn traces(lab: &str) -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["/run/netns", "/run/weft-lab", "/etc/netns"] {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|e| e.file_name().into_string().unwrap());
        found.extend(names.filter(|n| n.contains(lab)).map(|n| format!("{directory}/{n}")));
    }
    found
}

#[test]
fn hosts_reach_each_other_and_the_outside_in_both_families() {
    let lab = Lab::up(LabConfig { hosts: 3, ..LabConfig::new(&name("reach")) }).unwrap();
    for target in ["172.10.0.16", "172.10.0.17", "fd00:10::16", "192.0.2.1", "2001:db8::1"] {
        let (well, text) = exec(&lab, "a", &["ping", "-c1", "-W2", target]);
        assert!(well, "{target}: {text}");
    }
    let (_, links) = exec(&lab, "a", &["ip", "-br", "link"]);
    assert_eq!(links.lines().count(), 2, "{links}");
    let (_, env) = exec(&lab, "b", &["env"]);
    assert!(
        env.contains(&format!("WEFT_SOCKET=/run/weft-lab/{}/b/run/weft.sock", lab.name())),
        "{env}"
    );
}

#[test]
fn an_ipv6_underlay_has_no_ipv4_and_the_mtu_asked_for() {
    let config = LabConfig { ipv6_underlay: true, mtu: 1400, ..LabConfig::new(&name("six")) };
    let lab = Lab::up(config).unwrap();
    assert_eq!(lab.host("b").unwrap().address.to_string(), "fd00:10::16");
    assert!(exec(&lab, "a", &["ping", "-c1", "-W2", "fd00:10::16"]).0);
    let (_, addresses) = exec(&lab, "a", &["ip", "-4", "addr", "show", "eth0"]);
    assert_eq!(addresses, "");
    let (_, link) = exec(&lab, "a", &["ip", "link", "show", "eth0"]);
    assert!(link.contains("mtu 1400"), "{link}");
}

#[test]
fn a_direct_cable_joins_two_hosts_and_nothing_else() {
    let name = name("direct");
    let direct = |hosts| LabConfig { hosts, direct_cable: true, ..LabConfig::new(&name) };
    for crowd in [1, 3] {
        assert!(matches!(Lab::up(direct(crowd)), Err(Error::Cable(n)) if n == crowd));
        assert_eq!(traces(&name), Vec::<String>::new());
    }
    let lab = Lab::up(direct(2)).unwrap();
    for target in ["172.10.0.16", "fd00:10::16"] {
        let (well, text) = exec(&lab, "a", &["ping", "-c1", "-W2", target]);
        assert!(well, "{target}: {text}");
    }
    let (_, route) = exec(&lab, "a", &["ip", "route", "show", "default"]);
    assert_eq!(route, "");
    assert!(!lab.underlay().exists());
    lab.down().unwrap();
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn down_leaves_nothing_and_kills_only_what_is_inside() {
    let name = name("down");
    let lab = Lab::up(LabConfig::new(&name)).unwrap();
    let container = lab.container("x").unwrap();
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let mut inside = lab.spawn("a", &["sleep", "60"]).unwrap();
    // A grandchild that nobody here has a handle of.
    lab.exec("b", &["sh", "-c", "sleep 60 >/dev/null 2>&1 &"]).unwrap();
    assert_eq!((lab.processes("a").len(), lab.processes("b").len()), (1, 1));
    let resolv_conf = format!("/etc/netns/{}/resolv.conf", container.netns);
    fs::create_dir_all(Path::new(&resolv_conf).parent().unwrap()).unwrap();
    fs::write(&resolv_conf, "nameserver 10.3.0.1\n").unwrap();
    let seen = container.command("cat").unwrap().arg("/etc/resolv.conf").output().unwrap();
    assert_eq!(seen.stdout, b"nameserver 10.3.0.1\n");
    lab.down().unwrap();
    assert_eq!(traces(&name), Vec::<String>::new());
    assert!(inside.wait(Duration::from_secs(1)).unwrap().is_some());
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_name_that_is_taken_is_refused_and_nothing_is_touched() {
    let name = name("taken");
    let lab = Lab::up(LabConfig::new(&name)).unwrap();
    assert!(matches!(Lab::up(LabConfig::new(&name)), Err(Error::Exists(_))));
    assert!(exec(&lab, "a", &["ping", "-c1", "-W2", "172.10.0.16"]).0);
    lab.down().unwrap();

    // Somebody else's namespace where host b's would be: half a lab is cleared away, theirs stays.
    let theirs = format!("{name}-b");
    assert!(Command::new("ip").args(["netns", "add", &theirs]).status().unwrap().success());
    assert!(matches!(Lab::up(LabConfig::new(&name)), Err(Error::Taken(n)) if n == theirs));
    assert_eq!(traces(&name), [format!("/run/netns/{theirs}")]);
    assert!(
        Command::new("ip").args(["netns", "exec", &theirs, "true"]).status().unwrap().success()
    );
    assert!(Command::new("ip").args(["netns", "del", &theirs]).status().unwrap().success());
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(matches!(Lab::up(LabConfig::new("No")), Err(Error::Name(_))));
    let crowd = LabConfig { hosts: 27, ..LabConfig::new(&name("crowd")) };
    assert!(matches!(Lab::up(crowd), Err(Error::Hosts(27))));
    assert!(matches!(Lab::open(&name("absent")), Err(Error::NotFound(_))));
    assert!(matches!(Lab::down_named("../etc"), Err(Error::Name(_))));
}

#[test]
fn a_lab_of_a_killed_process_is_cleared_away_by_the_next() {
    let orphaned = name("orphan");
    if std::env::var_os("WEFT_LAB_ORPHAN").is_some() {
        // The second self: makes a lab in its parent's name and waits to be killed.
        let name = std::env::var("WEFT_LAB_ORPHAN").unwrap();
        let _lab = Lab::up(LabConfig::new(&name)).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args(["a_lab_of_a_killed_process_is_cleared_away_by_the_next", "--exact"])
        .env("WEFT_LAB_ORPHAN", &orphaned)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !netns_file(&format!("{orphaned}-b")).exists() {
        assert!(Instant::now() < deadline, "the second self made no lab");
        std::thread::sleep(Duration::from_millis(10));
    }
    // While its owner lives, others leave it alone.
    Lab::up(LabConfig::new(&name("next"))).unwrap().down().unwrap();
    assert!(!traces(&orphaned).is_empty());
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(!traces(&orphaned).is_empty());
    Lab::up(LabConfig::new(&name("next"))).unwrap().down().unwrap();
    assert_eq!(traces(&orphaned), Vec::<String>::new());
}

#[test]
fn a_lab_of_nobody_stays_until_it_is_taken_down_by_name() {
    let name = name("stays");
    let config = LabConfig { owner: Owner::Nobody, ..LabConfig::new(&name) };
    Lab::up(config).unwrap().leave_up();
    let lab = Lab::open(&name).unwrap();
    assert!(exec(&lab, "a", &["ping", "-c1", "-W2", "172.10.0.16"]).0);
    drop(lab);
    assert!(Lab::list().unwrap().iter().any(|l| l.name() == name));
    Lab::down_named(&name).unwrap();
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn a_rebooted_host_keeps_its_state_directory_and_nothing_else() {
    let lab = Lab::up(LabConfig { mtu: 1400, ..LabConfig::new(&name("reboot")) }).unwrap();
    let host = lab.host("b").unwrap();
    fs::write(host.state_dir().join("kept"), "").unwrap();
    fs::write(host.run_dir().join("lost"), "").unwrap();
    let mut process = lab.spawn("b", &["sleep", "60"]).unwrap();
    exec(&lab, "b", &["ip", "link", "add", "extra", "type", "bridge"]);
    lab.reboot("b").unwrap();
    assert!(process.wait(Duration::from_secs(1)).unwrap().is_some());
    assert!(host.state_dir().join("kept").exists() && !host.run_dir().join("lost").exists());
    assert!(!exec(&lab, "b", &["ip", "link", "show", "extra"]).0);
    assert!(exec(&lab, "b", &["ip", "link", "show", "eth0"]).1.contains("mtu 1400"));
    let (well, text) = exec(&lab, "a", &["ping", "-c1", "-W2", "172.10.0.16"]);
    assert!(well, "{text}");
}

#[test]
fn what_a_host_pinned_goes_when_it_reboots_and_with_the_lab() {
    if std::env::var_os("WEFT_LAB_PINS").is_none() {
        // In a mount namespace of its own, because a second file system for pins would hide the first.
        let itself = std::env::current_exe().unwrap();
        let test = "what_a_host_pinned_goes_when_it_reboots_and_with_the_lab";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "slave"])
            .arg(itself)
            .args([test, "--exact"])
            .env("WEFT_LAB_PINS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        return;
    }
    let mounted = Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]).status().unwrap();
    assert!(mounted.success());
    let name = name("pins");
    let lab = Lab::up(LabConfig::new(&name)).unwrap();
    let pins = |host: &str| lab.host(host).unwrap().bpf_dir();
    assert_eq!(pins("b"), Path::new("/sys/fs/bpf/weft-lab").join(&name).join("b"));
    let (_, env) = exec(&lab, "b", &["env"]);
    assert!(env.lines().any(|l| l == format!("WEFT_BPF_DIR={}", pins("b").display())), "{env}");
    for host in ["a", "b"] {
        let node = pins(host).join("0000000000000001");
        fs::create_dir_all(&node).unwrap();
        // Of all files, those that are no pins can be symbolic links only.
        std::os::unix::fs::symlink("x", node.join("from_underlay")).unwrap();
    }
    lab.reboot("b").unwrap();
    assert!(pins("a").join("0000000000000001").exists() && !pins("b").exists());
    lab.down().unwrap();
    let left = fs::read_dir("/sys/fs/bpf/weft-lab").unwrap().flatten();
    assert_eq!(left.filter(|e| e.file_name() == *name).count(), 0);
}
