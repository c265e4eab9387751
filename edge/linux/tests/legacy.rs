//! Rules of ours in tables of legacy iptables (`iptables-legacy(8)`).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use common::*;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Equal, Match, Statement};
use weft_kernel::{Key, Object, Scope, Step, TableName};
use weft_linux::{Linux, facts, legacy_iptables_in_use};

const V4: NftFamily = NftFamily::Iptables;
const V6: NftFamily = NftFamily::Ip6tables;

/// The program of a family; it waits for the lock, which is the machine's.
fn tables(family: NftFamily, args: &str) -> String {
    let program = if family == V4 { "iptables-legacy" } else { "ip6tables-legacy" };
    run(program, &format!("-w 20 {args}"))
}

/// Everything with its counters, without the time of day.
fn save(family: NftFamily) -> String {
    let program = if family == V4 { "iptables-legacy-save" } else { "ip6tables-legacy-save" };
    let text = run(program, "-c");
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn table(family: NftFamily) -> TableName {
    TableName { family, name: "filter".into() }
}

fn foreign(family: NftFamily, chain: &str, matches: Vec<Match>) -> (Key, Object) {
    let rule = rule(matches, vec![Statement::Accept], "weft");
    let key = Key::ForeignRule(table(family), chain.into(), rule.to_string());
    (key, Object::ForeignRule(rule))
}

fn from_bridge() -> Match {
    Match::InLink(Equal::Is, "wb-*".into())
}

/// As a plan has them.
fn ours(family: NftFamily) -> Objects {
    let mut objects = vec![
        foreign(family, "FORWARD", vec![from_bridge()]),
        foreign(family, "FORWARD", vec![Match::OutLink(Equal::Is, "wb-*".into())]),
        foreign(family, "INPUT", vec![Match::UdpPort(4789)]),
        foreign(family, "INPUT", vec![from_bridge(), Match::UdpPort(53)]),
        foreign(family, "INPUT", vec![from_bridge(), Match::TcpPort(53)]),
    ];
    if family == V6 {
        objects.push(foreign(V6, "INPUT", vec![from_bridge(), Match::Protocol(Equal::Is, 58)]));
    }
    objects
}

/// Somebody's firewall: chains, jumps forth and back, matches, targets, and counters.
fn firewall(family: NftFamily) {
    let (net, icmp) = if family == V4 { ("10.9.0.0/16", "icmp") } else { ("fd09::/16", "icmpv6") };
    for args in [
        "-N ALPHA",
        "-N OMEGA",
        "-P FORWARD DROP",
        "-P INPUT DROP",
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A INPUT -j ALPHA",
        "-A INPUT",
        "-A FORWARD -j OMEGA",
        "-A FORWARD -s NET -g ALPHA",
        "-A FORWARD -i docker0 ! -o docker0 -m comment --comment weft -j ACCEPT",
        "-A FORWARD -p tcp -m multiport --dports 80,443 -j REJECT",
        "-A OUTPUT -d NET -j OMEGA",
        "-A ALPHA -p PROTO -m limit --limit 5/sec -j RETURN",
        "-A ALPHA -j OMEGA",
        "-A OMEGA -p udp -m udp --sport 1000:2000 --dport 53",
        "-A OMEGA -p tcp --syn -j LOG",
    ] {
        tables(family, &args.replace("NET", net).replace("PROTO", icmp));
    }
    // So that there is something to lose.
    tables(family, "-R FORWARD 1 -j OMEGA -c 17 4711");
    tables(family, "-I OMEGA 1 -p udp --dport 5353 -c 99 1234567890123");
}

fn drop_chains() -> Vec<String> {
    let found = facts("172.30.0.15".parse().unwrap(), None).unwrap();
    let say = |c: weft_kernel::DropChain| format!("{} {} {}", c.table, c.chain, c.input);
    found.drop_chains.into_iter().map(say).collect()
}

fn seen(linux: &mut Linux) -> Vec<String> {
    let have = linux.observe(&Scope::Cheap).unwrap();
    let foreign = |key: &&Key| matches!(key, Key::ForeignRule(..));
    have.iter().map(|(key, _)| key).filter(foreign).map(ToString::to_string).collect()
}

fn data_address() {
    run("ip", "link add up0 type bridge");
    run("ip", "addr add 172.30.0.15/24 dev up0");
}

#[test]
fn rules_come_to_the_head_and_go_without_a_trace() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        for family in [V4, V6] {
            firewall(family);
            let (before, listed) = (save(family), tables(family, "-S"));
            let objects = ours(family);
            apply(&mut linux, &puts(&objects));
            let mut want: Vec<&str> = vec![
                r#"-A INPUT -p udp -m udp --dport 4789 -m comment --comment "weft daemon" -j ACCEPT"#,
                r#"-A INPUT -i wb-+ -p udp -m udp --dport 53 -m comment --comment "weft daemon" -j ACCEPT"#,
                r#"-A INPUT -i wb-+ -p tcp -m tcp --dport 53 -m comment --comment "weft daemon" -j ACCEPT"#,
                r#"-A FORWARD -o wb-+ -m comment --comment "weft daemon" -j ACCEPT"#,
                r#"-A FORWARD -i wb-+ -m comment --comment "weft daemon" -j ACCEPT"#,
            ];
            if family == V6 {
                want.push(
                    r#"-A INPUT -i wb-+ -p ipv6-icmp -m comment --comment "weft daemon" -j ACCEPT"#,
                );
            }
            for (chain, count) in [("INPUT", want.len() - 2), ("FORWARD", 2)] {
                let listed = tables(family, &format!("-S {chain}"));
                let head: Vec<&str> = listed.lines().skip(1).take(count).collect();
                assert!(head.iter().all(|rule| want.contains(rule)), "{head:#?}");
            }
            // All else is as it was: policies, chains, rules, jumps, what they have counted.
            let unmarked = |text: String| -> String {
                let others = text.lines().filter(|line| !line.contains("weft daemon"));
                others.map(|line| format!("{line}\n")).collect()
            };
            assert_eq!(tables(family, "-S").lines().count(), listed.lines().count() + want.len());
            assert_eq!(unmarked(tables(family, "-S")), listed);
            assert_eq!(unmarked(save(family)), before);
            assert!(before.contains("[99:1234567890123]") && before.contains("[17:4711]"));
            // Once more changes nothing, not even counters.
            let with = save(family);
            apply(&mut linux, &puts(&objects));
            assert_eq!(save(family), with);
            assert_same(&observe(&mut linux), &objects.iter().cloned().collect());
            apply(&mut linux, &deletes(&objects));
            assert_eq!(save(family), before);
            apply(&mut linux, &deletes(&objects));
            assert_eq!((save(family), seen(&mut linux)), (before, Vec::new()));
        }
    });
}

#[test]
fn a_table_in_use_is_read_and_no_other_comes_into_being() {
    in_netns(|| {
        data_address();
        let mut linux = Linux::open().unwrap();
        assert_eq!((drop_chains(), seen(&mut linux)), (vec![], vec![]));
        let (key, object) = ours(V4).remove(0);
        let fault = linux.apply(&[Step::Put(key.clone(), object)]).remove(0).unwrap_err();
        assert_eq!(fault.message, "iptables-legacy has no table filter in use");
        assert_eq!(
            fault.call,
            "iptables-legacy -t filter -I FORWARD -i wb-+ -m comment --comment \"weft daemon\" -j ACCEPT"
        );
        apply(&mut linux, &[Step::Delete(key)]);
        assert!(!legacy_iptables_in_use());
        // Another table is none of our business, and does not bring this one into being.
        tables(V4, "-t nat -P OUTPUT ACCEPT");
        assert_eq!((drop_chains(), seen(&mut linux)), (vec![], vec![]));
        let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap();
        assert_eq!(names, "nat\n");

        tables(V4, "-P FORWARD DROP");
        assert_eq!(drop_chains(), ["iptables filter FORWARD false"]);
        tables(V6, "-P INPUT DROP");
        tables(V6, "-P OUTPUT DROP");
        assert_eq!(drop_chains(), ["iptables filter FORWARD false", "ip6tables filter INPUT true"]);
        tables(V4, "-P FORWARD ACCEPT");
        assert_eq!(drop_chains(), ["ip6tables filter INPUT true"]);
    });
}

#[test]
fn what_others_do_to_our_rules_is_seen_and_what_is_theirs_is_not_ours() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        firewall(V4);
        let objects = ours(V4);
        apply(&mut linux, &puts(&objects));
        assert_eq!(seen(&mut linux).len(), 5);
        tables(V4, "-F FORWARD");
        assert_eq!(
            seen(&mut linux),
            [
                "rule iptables filter INPUT iifname \"wb-*\" tcp dport 53 accept comment \"weft\"",
                "rule iptables filter INPUT iifname \"wb-*\" udp dport 53 accept comment \"weft\"",
                "rule iptables filter INPUT udp dport 4789 accept comment \"weft\"",
            ]
        );
        apply(&mut linux, &puts(&objects));
        assert_same(&observe(&mut linux), &objects.iter().cloned().collect());
        // Saved and restored they are what they were; changed they are not.
        let text = run("iptables-legacy-save", "");
        let file = std::env::temp_dir().join(format!("wt-legacy-{}", nix::unistd::gettid()));
        std::fs::write(&file, text).unwrap();
        run("iptables-legacy-restore", &format!("-w 20 {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        assert_same(&observe(&mut linux), &objects.iter().cloned().collect());
        tables(V4, "-F");
        assert_eq!(seen(&mut linux), Vec::<String>::new());
        // A comment of an administrator's makes no rule ours.
        tables(V4, "-A INPUT -p tcp --dport 7373 -m comment --comment weft -j ACCEPT");
        tables(V4, "-A INPUT -i wb-+ -s 10.0.0.0/8 -m comment --comment weft -j ACCEPT");
        assert_eq!(seen(&mut linux), Vec::<String>::new());
        let before = save(V4);
        let deletes: Vec<Step> = deletes(&objects);
        apply(&mut linux, &deletes);
        assert_eq!(save(V4), before);
    });
}

#[test]
fn bad_wishes_are_refused_and_change_nothing() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        firewall(V4);
        let before = save(V4);
        let good = foreign(V4, "FORWARD", vec![from_bridge()]);
        let odd = foreign(V4, "FORWARD", vec![Match::Icmp6Type(134)]);
        let nowhere = foreign(V4, "ALPHA", vec![from_bridge()]);
        let kind = (good.0.clone(), Object::Table);
        let refused = |linux: &mut Linux, (key, object): (Key, Object)| {
            linux.apply(&[Step::Put(key, object)]).remove(0).unwrap_err().message
        };
        assert_eq!(
            refused(&mut linux, odd.clone()),
            "legacy iptables cannot say: icmpv6 type nd-router-advert accept comment \"weft\""
        );
        assert_eq!(
            refused(&mut linux, nowhere),
            "no rule of ours belongs into chain ALPHA of table filter"
        );
        assert_eq!(refused(&mut linux, kind), "the object is of another kind than its key");
        assert_eq!(save(V4), before);
        // One that is refused does not stop the next.
        let steps: Vec<Step> = [odd, good].into_iter().map(|(k, o)| Step::Put(k, o)).collect();
        let results = linux.apply(&steps);
        assert!(results[0].is_err() && results[1].is_ok());
        assert_eq!(seen(&mut linux).len(), 1);
    });
}

/// Everybody changes the table at once; nobody's change is lost.
#[test]
fn the_lock_is_shared_with_the_programs() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        firewall(V4);
        let rules = tables(V4, "-S").lines().count();
        let objects = ours(V4);
        let mut children: Vec<_> = (0..6)
            .map(|number| {
                let args = format!("-w 20 -A ALPHA -p tcp --dport {} -j RETURN", 1_000 + number);
                std::process::Command::new("iptables-legacy")
                    .args(args.split_whitespace())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for _ in 0..20 {
            apply(&mut linux, &puts(&objects));
            apply(&mut linux, &deletes(&objects));
        }
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        apply(&mut linux, &puts(&objects));
        assert_eq!(tables(V4, "-S").lines().count(), rules + 6 + objects.len());
        // A lock that is held a little is waited for.
        apply(&mut linux, &deletes(&objects));
        let lock = std::fs::File::options().write(true).open("/run/xtables.lock").unwrap();
        lock.lock().unwrap();
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(lock);
        });
        apply(&mut linux, &puts(&objects));
        release.join().unwrap();
    });
}

/// Somebody who does not care for our lock: whoever was told that it is done finds it done.
#[test]
fn a_table_that_others_replaced_meanwhile_is_read_anew() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        firewall(V4);
        let rules = tables(V4, "-S").lines().count();
        let objects = ours(V4);
        let other = std::env::temp_dir().join(format!("wt-legacy-lock-{}", nix::unistd::gettid()));
        let script = "for n in $(seq 60); do iptables-legacy -w 20 -A ALPHA -p tcp \
             --dport $n -j RETURN 2>/dev/null && echo $n; done";
        let child = std::process::Command::new("sh")
            .args(["-c", script])
            .env("XTABLES_LOCKFILE", &other)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        for _ in 0..60 {
            apply(&mut linux, &puts(&objects));
            apply(&mut linux, &deletes(&objects));
        }
        let output = child.wait_with_output().unwrap();
        std::fs::remove_file(&other).unwrap();
        apply(&mut linux, &puts(&objects));
        let listed = tables(V4, "-S");
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(!told.is_empty());
        for port in told.lines() {
            let rule = format!("-A ALPHA -p tcp -m tcp --dport {port} -j RETURN");
            assert!(listed.lines().any(|line| line == rule), "{rule}\n{listed}");
        }
        // The program also calls it a failure when only its counters came too late.
        let theirs = |line: &&str| line.starts_with("-A ALPHA -p tcp -m tcp --dport");
        let others = listed.lines().filter(|line| !theirs(line)).count();
        assert_eq!(others, rules + objects.len());
    });
}

/// Two namespaces on two links of the host, named like bridges of ours.
fn routed() -> [Container; 2] {
    for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{path}"), "1").unwrap();
    }
    [1, 2].map(|octet| {
        let container = Container::new();
        let netns = container.path.to_string_lossy().into_owned();
        let host = format!("wb-{octet}");
        run("ip", &format!("link add {host} type veth peer name c{octet}"));
        run("ip", &format!("addr add 10.{octet}.0.1/24 dev {host}"));
        run("ip", &format!("addr add fd00:{octet}::1/64 dev {host} nodad"));
        run("ip", &format!("link set {host} up"));
        let task = netns.split('/').nth(4).unwrap();
        run("ip", &format!("link set c{octet} netns {task}"));
        container.cmd("ip", "link set lo up");
        container.cmd("ip", &format!("addr add 10.{octet}.0.2/24 dev c{octet}"));
        container.cmd("ip", &format!("addr add fd00:{octet}::2/64 dev c{octet} nodad"));
        container.cmd("ip", &format!("link set c{octet} up"));
        container.cmd("ip", &format!("route add default via 10.{octet}.0.1"));
        container.cmd("ip", &format!("-6 route add default via fd00:{octet}::1"));
        container
    })
}

/// Whether packets pass from one container to the other.
fn pass([from, to]: &[Container; 2], target: &str) -> bool {
    // A new one each time: a program that another test is about to start may hold the last a little.
    static PORT: AtomicU16 = AtomicU16::new(7_000);
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let target = SocketAddr::new(target.parse::<IpAddr>().unwrap(), port);
    let receiver = to.run(move || {
        let socket = UdpSocket::bind(target).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket
    });
    from.run(move || {
        let any: SocketAddr =
            if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        for _ in 0..3 {
            socket.send_to(b"weft", target).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    receiver.recv(&mut [0; 16]).is_ok()
}

#[test]
fn packets_pass_with_our_rules_only() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let containers = routed();
        for (family, target) in [(V4, "10.2.0.2"), (V6, "fd00:2::2")] {
            // The links may need a moment.
            let there = (0..20).any(|_| pass(&containers, target));
            assert!(there, "before anybody drops");
            tables(family, "-P FORWARD DROP");
            assert!(!pass(&containers, target), "while {family} drops");
            let objects = ours(family);
            apply(&mut linux, &puts(&objects));
            assert!(pass(&containers, target), "with rules of ours");
            // What comes after ours is not asked.
            tables(family, "-A FORWARD -j REJECT");
            assert!(pass(&containers, target), "with a reject behind ours");
            let counted = save(family);
            let hit = |line: &str| {
                line.contains("-A FORWARD")
                    && line.contains("weft daemon")
                    && !line.starts_with("[0:")
            };
            assert!(counted.lines().any(hit), "{counted}");
            apply(&mut linux, &deletes(&objects));
            assert!(!pass(&containers, target), "after they went");
        }
    });
}

#[test]
fn a_rule_of_ours_that_somebody_changed_is_somebody_elses() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        tables(V4, "-P FORWARD DROP");
        let objects = vec![foreign(V4, "FORWARD", vec![from_bridge()])];
        apply(&mut linux, &puts(&objects));
        let changed = std::process::Command::new("iptables-legacy")
            .args(["-w", "20", "-R", "FORWARD", "1", "-i", "wb-+", "-m", "comment"])
            .args(["--comment", "weft daemon", "-j", "DROP"])
            .status()
            .unwrap();
        assert!(changed.success());
        assert_eq!(seen(&mut linux), Vec::<String>::new());
        apply(&mut linux, &puts(&objects));
        let listed = tables(V4, "-S FORWARD");
        let verdicts: Vec<&str> =
            listed.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(verdicts, ["DROP", "ACCEPT", "DROP"], "the policy, ours at the head, theirs");
    });
}
