//! Hosts as other programs leave them: drop policies, bridge filters, reverse path filters.
//!
//! ```text
//!          a                      b
//!  ┌───────────────┐      ┌───────────────┐
//!  │ web-1 ◀───────┼──────┼─────▶ web-2   │     both hosts: FORWARD and INPUT drop,
//!  │   └───────────┼──▶ 192.0.2.1         │     br_netfilter on, rp_filter 0, 1, 2
//!  └───────────────┘      └───────────────┘
//! ```

use std::time::Duration;

use weft_tests::{Attached, Cluster, until};

fn pair(cluster: &Cluster) -> (Attached, Attached) {
    cluster.network("web", &["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"]);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    (one, two)
}

/// What Docker and ufw do to a host, and an administrator who knows what is needed to log in.
fn drop_everything(cluster: &Cluster) {
    for host in ["a", "b"] {
        for tool in ["iptables", "ip6tables"] {
            let on = |words: &str| {
                cluster
                    .on(host, &[&[tool, "-w"], &words.split(' ').collect::<Vec<_>>()[..]].concat())
                    .ok()
            };
            on("-A INPUT -i lo -j ACCEPT");
            on("-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
            on("-A INPUT -p tcp --dport 7373 -j ACCEPT");
            on(if tool == "iptables" {
                "-A INPUT -p icmp -j ACCEPT"
            } else {
                "-A INPUT -p icmpv6 -j ACCEPT"
            });
            on("-P INPUT DROP");
            on("-P FORWARD DROP");
        }
    }
}

#[track_caller]
fn all_works(one: &Attached, two: &Attached, when: &str) {
    until(Duration::from_secs(6), when, || {
        one.pings("web-2")
            && two.pings("web-1")
            && one.pings(&two.v6().to_string())
            && two.pings(&one.v6().to_string())
            && one.pings("192.0.2.1")
            && two.pings("2001:db8::1")
    });
}

#[test]
fn where_forward_and_input_drop() {
    let cluster = Cluster::up("drop", 2);
    drop_everything(&cluster);
    let (one, two) = pair(&cluster);
    all_works(&one, &two, "with drop policies from before");
    // Others put their rules back in order, without ours.
    for host in ["a", "b"] {
        cluster.on(host, &["iptables", "-w", "-F", "FORWARD"]).ok();
    }
    all_works(&one, &two, "after somebody flushed the chain");
    // What iptables shows of our rules must not read as "accept everything".
    let saved = cluster.on("a", &["iptables-save"]).ok();
    for line in saved.lines().filter(|l| l.starts_with("-A FORWARD") && l.ends_with("-j ACCEPT")) {
        assert!(line.contains(" -i ") || line.contains(" -o "), "{line}");
    }
}

#[test]
fn where_the_policy_turns_to_drop_later() {
    let cluster = Cluster::up("later", 2);
    let (one, two) = pair(&cluster);
    all_works(&one, &two, "before");
    drop_everything(&cluster);
    all_works(&one, &two, "after");
}

#[test]
fn where_bridges_are_filtered_and_paths_are_checked() {
    let cluster = Cluster::up("matrix", 2);
    let (one, two) = pair(&cluster);
    let set = |key: &str, value: &str| {
        for host in ["a", "b"] {
            cluster.on(host, &["sysctl", "-qw", &format!("{key}={value}")]).ok();
        }
    };
    drop_everything(&cluster);
    for bridge_filter in ["0", "1"] {
        set("net.bridge.bridge-nf-call-iptables", bridge_filter);
        set("net.bridge.bridge-nf-call-ip6tables", bridge_filter);
        for reverse_path in ["0", "1", "2"] {
            set("net.ipv4.conf.all.rp_filter", reverse_path);
            set("net.ipv4.conf.default.rp_filter", reverse_path);
            let when = format!("bridge-nf-call-iptables={bridge_filter} rp_filter={reverse_path}");
            all_works(&one, &two, &when);
            cluster.on("a", &["ping", "-n", "-c1", "-W2", &two.v4().to_string()]).ok();
        }
    }
}
