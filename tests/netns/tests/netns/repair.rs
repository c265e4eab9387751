//! Somebody else damages what is ours; it is mended within five seconds, and told.
//!
//! ```text
//!          a                      b  ← damaged
//!  ┌───────────────┐      ┌───────────────┐
//!  │ web-1         │      │ web-2         │
//!  └───────────────┘      └───────────────┘
//! ```

use std::time::Duration;

use weft_tests::{Attached, Cluster, difference, dump, until, within};

struct Ground {
    cluster: Cluster,
    one: Attached,
    two: Attached,
    /// `570000`: what the network's links end in.
    vni: String,
}

fn ground(name: &str) -> Ground {
    let cluster = Cluster::up(name, 2);
    let network = cluster.network("web", &["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"]);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    one.ping("web-2");
    cluster.settle();
    let vni = format!("{:06x}", network["vni"].as_u64().unwrap());
    Ground { cluster, one, two, vni }
}

impl Ground {
    /// Does the damage on `b`, sees that there is some, and waits for it to be mended.
    #[track_caller]
    fn damaged(&self, words: &str) {
        let before = dump(&self.cluster, "b");
        let words: Vec<String> = words
            .split(' ')
            .map(|w| {
                w.replace("VNI", &self.vni)
                    .replace("REMOTE_MAC", &mac(&self.one))
                    .replace("LOCAL_MAC", &mac(&self.two))
                    .replace("REMOTE_IP", &self.one.v4().to_string())
                    .replace("HOST_END", &self.two.host_end())
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // Mended so quickly that nobody sees it is as good: only a damage that fails is a bug of the test.
        self.cluster.on("b", &words).ok();
        let mut last = String::new();
        let mended = within(Duration::from_secs(5), || {
            last = difference(&before, &dump(&self.cluster, "b"));
            last.is_empty()
        });
        assert!(mended.is_some(), "not mended after {words:?}:\n{last}");
        until(Duration::from_secs(2), "reached again", || {
            self.one.run(&["ping", "-n", "-c1", "-W1", &self.two.v4().to_string()]).is_ok()
        });
        // A resolver whose bridge is a new one listens there, too.
        until(Duration::from_secs(5), "names are answered again", || {
            let asked = self.two.run(&["dig", "+short", "+tries=1", "+time=1", "web-1", "A"]);
            asked.stdout.trim() == self.one.v4().to_string()
        });
        self.two.ping(&self.one.v6().to_string());
    }
}

fn mac(attached: &Attached) -> String {
    attached.mac().map(|o| format!("{o:02x}")).join(":")
}

#[test]
fn links() {
    let ground = ground("links");
    for damage in [
        "ip link set wv-VNI down",
        "ip link set wb-VNI down",
        "ip link set HOST_END down",
        "ip link set wv-VNI nomaster",
        "ip link set HOST_END nomaster",
        "ip link set wv-VNI mtu 1300",
        "ip link del wv-VNI",
        "ip link del wb-VNI",
        "ip link del HOST_END",
        "bridge link set dev HOST_END locked off learning on",
        "bridge link set dev wv-VNI neigh_suppress off",
    ] {
        ground.damaged(damage);
    }
    let status = ground.cluster.json("b", &["status"]);
    assert!(!status["repairs"].as_array().unwrap().is_empty(), "{status}");
}

#[test]
fn rows() {
    let ground = ground("rows");
    for damage in [
        "bridge fdb del REMOTE_MAC dev wv-VNI self",
        "bridge fdb del REMOTE_MAC dev wv-VNI master",
        "bridge fdb replace REMOTE_MAC dev wv-VNI self dst 172.10.0.99",
        "bridge fdb del LOCAL_MAC dev HOST_END master",
        "ip neigh del REMOTE_IP dev wb-VNI",
        "ip neigh replace REMOTE_IP lladdr 02:00:00:00:00:99 dev wb-VNI nud permanent",
        "ip neigh flush dev wb-VNI nud permanent",
    ] {
        ground.damaged(damage);
    }
}

#[test]
fn addresses_routes_and_switches() {
    let ground = ground("routes");
    for damage in [
        "ip addr del 10.3.0.1/24 dev wb-VNI",
        "ip addr flush dev wb-VNI",
        "ip route flush dev wb-VNI",
        "ip -6 route del fd00:3::/64 dev wb-VNI",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
    ] {
        ground.damaged(damage);
    }
}

#[test]
fn filters() {
    let ground = ground("filters");
    for damage in [
        "nft delete table inet weft",
        "nft delete table netdev weft",
        "nft flush table inet weft",
        "nft flush ruleset",
    ] {
        ground.damaged(damage);
    }
}

#[test]
fn what_is_somebody_elses_stays() {
    let ground = ground("theirs");
    let on = |words: &str| ground.cluster.on("b", &words.split(' ').collect::<Vec<_>>()).ok();
    on("ip link add wx-other type bridge");
    on("ip link add theirs type vxlan id 42 dstport 4789 local 172.10.0.16 nolearning");
    on("ip route add 10.77.0.0/24 dev eth0");
    on("ip neigh add 172.10.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent");
    on("nft add table inet theirs");
    on("nft add chain inet theirs c");
    let before = dump(&ground.cluster, "b");
    ground.cluster.kill_daemon("b");
    ground.cluster.start_daemon("b");
    ground.cluster.wait_until_connected();
    ground.damaged("ip link del wv-VNI");
    std::thread::sleep(Duration::from_secs(2));
    let after = dump(&ground.cluster, "b");
    assert_eq!(before, after, "{}", difference(&before, &after));
}
