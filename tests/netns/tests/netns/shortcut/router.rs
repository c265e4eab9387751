//! A container that routes on to another namespace, whatever its links do for it or not.
//!
//! ```text
//!        a                         b
//!  ┌────────────┐   ┌────────────────────────────────┐
//!  │ client     │   │  router ─────── far            │
//!  │  10.3.0.x ─┼───┼─ 10.3.0.y       10.77.0.2      │
//!  │            │   │  10.77.0.1      fd00:77::2     │
//!  └────────────┘   └────────────────────────────────┘
//!    offloads (TSO, GSO, GRO, checksums) on and off:  client's and router's veths, far's link, the NICs
//! ```

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use weft_lab::Container;
use weft_tests::{Attached, Cluster, Topology, stream, until};

use super::{BOTH, netns, pings};

/// Octets each way.
const STREAM: usize = 20_000_000;

struct Ground {
    cluster: Cluster,
    client: Attached,
    router: Attached,
    far: Container,
}

#[track_caller]
fn inside(container: &Container, words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    let mut command = container.command(words[0]).unwrap();
    let output = command.args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn ground(name: &str, setting: &'static str) -> Ground {
    let shortcut = vec![("a", setting), ("b", setting)];
    let cluster = Cluster::with(name, Topology { shortcut, ..Topology::default() });
    cluster.network("web", &BOTH);
    let client = cluster.attach("a", "client", &["--network", "web"]);
    let granted = ["--allow-source", "10.77.0.0/24", "--allow-source", "fd00:77::/64"];
    let router = cluster.attach("b", "router", &[&["--network", "web"][..], &granted].concat());
    let far = cluster.lab().container("far").unwrap();
    let netns = &far.netns;
    for words in [
        format!("ip link add far0 type veth peer name eth0 netns {netns}"),
        "ip addr add 10.77.0.1/24 dev far0".to_owned(),
        "ip addr add fd00:77::1/64 dev far0 nodad".to_owned(),
        "ip link set far0 up".to_owned(),
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1".to_owned(),
    ] {
        inside(&router.container, &words);
    }
    for words in [
        "ip addr add 10.77.0.2/24 dev eth0",
        "ip addr add fd00:77::2/64 dev eth0 nodad",
        "ip link set eth0 up",
        "ip route add default via 10.77.0.1",
        "ip route add default via fd00:77::1",
    ] {
        inside(&far, words);
    }
    for (subnet, via) in [("10.77.0.0/24", router.v4()), ("fd00:77::/64", router.v6())] {
        inside(&client.container, &format!("ip route add {subnet} via {via}"));
    }
    cluster.wait_for_programs();
    if setting != "off" {
        cluster.wait_for_shortcut(&client, &router);
        cluster.wait_for_shortcut(&router, &client);
    }
    // Link-local addresses are not to be had at once (RFC 4862 section 5.4).
    until(Duration::from_secs(5), "the way through the router is open", || {
        ["10.77.0.2", "fd00:77::2"].iter().all(|target| client.pings(target))
    });
    Ground { cluster, client, router, far }
}

/// Where offloads can be switched.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Between the router and what is behind it.
    Far,
    /// The hosts' links on the underlay.
    Nics,
    /// The ends of veths in the client and in the router.
    Containers,
    /// Their other ends, on the hosts.
    HostEnds,
}

impl Ground {
    /// Switches all that a link does for its host.
    #[track_caller]
    fn offloads(&self, place: Place, switch: &str) {
        let words = |link: &str| -> String {
            let kinds =
                ["tso", "gso", "gro", "tx", "rx", "sg"].map(|kind| format!("{kind} {switch}"));
            format!("ethtool -K {link} {}", kinds.join(" "))
        };
        let on_host = |host: &str, link: &str| {
            let words = words(link);
            self.cluster.on(host, &words.split(' ').collect::<Vec<_>>()).ok();
        };
        match place {
            Place::Far => {
                inside(&self.router.container, &words("far0"));
                inside(&self.far, &words("eth0"));
            }
            Place::Nics => ["a", "b"].into_iter().for_each(|host| on_host(host, "eth0")),
            Place::Containers => {
                inside(&self.client.container, &words("eth0"));
                inside(&self.router.container, &words("eth0"));
            }
            Place::HostEnds => {
                [&self.client, &self.router]
                    .into_iter()
                    .for_each(|c| on_host(&c.host, &c.host_end()));
            }
        }
    }

    /// Streams there and back, in both families. All octets arrive, and by the shortcut if that is on.
    #[track_caller]
    fn all_arrives(&self, by_shortcut: bool, when: &str) {
        let (here, there): (PathBuf, PathBuf) = (netns(&self.client), self.far.netns_file());
        for target in ["10.77.0.2", "fd00:77::2"] {
            let target: IpAddr = target.parse().unwrap();
            pings(&self.client, target, 2);
            let traffic = self.cluster.traffic_while([&self.client, &self.router], || {
                let all = stream::exchange(&here, &there, target, STREAM);
                assert_eq!(all, Ok(()), "{when}, {target}");
            });
            for traffic in traffic {
                let what = format!("{when}, {target}");
                match by_shortcut {
                    true => traffic.assert_by_shortcut(300, &what),
                    false => traffic.assert_by_bridge(300, &what),
                }
            }
        }
    }
}

#[track_caller]
fn with_and_without(name: &str, places: &[Place]) {
    let ground = ground(name, "auto");
    ground.all_arrives(true, "with all offloads");
    for place in places {
        ground.offloads(*place, "off");
        ground.all_arrives(true, &format!("without offloads at {place:?}"));
        ground.offloads(*place, "on");
    }
}

#[test]
fn without_offloads_behind_the_router_and_at_the_nics() {
    with_and_without("route", &[Place::Far, Place::Nics]);
}

#[test]
fn without_offloads_at_the_containers_veths() {
    with_and_without("routeveth", &[Place::Containers, Place::HostEnds]);
}

#[test]
fn without_any_offloads() {
    let ground = ground("routenone", "auto");
    for place in [Place::Far, Place::Nics, Place::Containers, Place::HostEnds] {
        ground.offloads(place, "off");
    }
    ground.all_arrives(true, "without any offloads");
}

#[test]
fn by_clsact() {
    let ground = ground("routecls", "clsact");
    ground.all_arrives(true, "by clsact");
    ground.offloads(Place::Far, "off");
    ground.all_arrives(true, "by clsact, without offloads behind the router");
}

#[test]
fn by_the_bridge_path() {
    let ground = ground("routeoff", "off");
    ground.all_arrives(false, "by the bridge path");
    ground.offloads(Place::Far, "off");
    ground.all_arrives(false, "by the bridge path, without offloads behind the router");
}
