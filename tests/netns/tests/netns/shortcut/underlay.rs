//! What is under the tunnel changes while packets flow.
//!
//! ```text
//!          a                                    b
//!  ┌───────────────┐                    ┌───────────────┐
//!  │ web-1 ────────┼── 1,000 a second ──┼──────▶ web-2  │
//!  └──── eth0 ─────┘                    └──── eth0 ─────┘
//!    by the gateway, not straight        another MAC; another link under the same name;
//!                                        its address on another link
//! ```

use std::time::Duration;

use weft_tests::{Capture, Cluster, run};

use super::{Pair, pair};

/// Until packets take the shortcut again.
const SOON: Duration = Duration::from_secs(8);

/// Runs words where the hosts' cables end.
#[track_caller]
fn underlay(cluster: &Cluster, words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    let mut command = weft_lab::enter(&cluster.lab().underlay(), None, words[0]).unwrap();
    command.args(&words[1..]);
    run(command).ok();
}

#[track_caller]
fn on(pair: &Pair, host: &str, words: &str) {
    pair.cluster.on(host, &words.split(' ').collect::<Vec<_>>()).ok();
}

/// Packets flow while the change is made, get through again soon, and then all of them.
#[track_caller]
fn survives(pair: &Pair, change: impl FnOnce()) {
    let probes = pair.probes();
    std::thread::sleep(Duration::from_millis(300));
    change();
    pair.resumes(SOON);
    for probe in probes {
        let report = probe.end();
        assert!(report.sent > 300 && report.lost < report.sent, "{report:?}");
        assert!(report.longest_gap < SOON, "{report:?}");
    }
    let probes = pair.probes();
    let traffic =
        pair.cluster.traffic_while(pair.both(), || std::thread::sleep(Duration::from_millis(500)));
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
    for traffic in traffic {
        traffic.assert_by_shortcut(300, "after the change");
    }
}

/// Gives a link of `b` what `eth0` had.
#[track_caller]
fn address(pair: &Pair, link: &str) {
    for words in [
        format!("ip link set {link} up"),
        format!("ip addr add 172.10.0.16/24 dev {link}"),
        format!("ip addr add fd00:10::16/64 dev {link} nodad"),
        "ip route replace default via 172.10.0.1".to_owned(),
        format!("ip route replace default via fd00:10::1 dev {link}"),
    ] {
        on(pair, "b", &words);
    }
}

#[test]
fn a_nic_is_replaced_by_another_of_its_name() {
    let pair = pair("nic", ["auto", "auto"]);
    survives(&pair, || {
        on(&pair, "b", "ip link del eth0");
        let netns = &pair.cluster.host("b").netns;
        underlay(
            &pair.cluster,
            &format!("ip link add name b type veth peer name eth0 netns {netns}"),
        );
        underlay(&pair.cluster, "ip link set dev b master br0 up");
        address(&pair, "eth0");
    });
}

#[test]
fn the_address_moves_to_another_link() {
    let pair = pair("moved", ["auto", "auto"]);
    survives(&pair, || {
        let netns = &pair.cluster.host("b").netns;
        underlay(
            &pair.cluster,
            &format!("ip link add name b2 type veth peer name lan netns {netns}"),
        );
        underlay(&pair.cluster, "ip link set dev b2 master br0 up");
        on(&pair, "b", "ip link set eth0 down");
        on(&pair, "b", "ip addr flush dev eth0");
        address(&pair, "lan");
    });
}

#[test]
fn a_host_gets_another_mac_while_no_daemon_runs() {
    let pair = pair("mac", ["auto", "auto"]);
    // As networks of daemons that are not there would have it: it says so itself.
    on(&pair, "b", "sysctl -qw net.ipv4.conf.all.arp_notify=1");
    let probes = pair.probes();
    for host in ["a", "b"] {
        pair.cluster.kill_daemon(host);
    }
    std::thread::sleep(Duration::from_millis(200));
    on(&pair, "b", "ip link set dev eth0 address 02:00:5e:00:53:16");
    weft_tests::until(SOON, "packets arrive again", || {
        pair.one.run(&["ping", "-n", "-c1", "-W1", &pair.two.v4().to_string()]).is_ok()
    });
    for probe in probes {
        let report = probe.end();
        assert!(report.lost < report.sent && report.longest_gap < SOON, "{report:?}");
    }
    // Nobody is there yet who could have put anything right.
    let probes = pair.probes();
    let cable = Capture::begin(&pair.cluster.lab().underlay(), "a");
    std::thread::sleep(Duration::from_millis(500));
    let mac = [2, 0, 0x5e, 0, 0x53, 0x16];
    let to_it = cable.end().iter().filter(|f| f[..6] == mac).count();
    assert!(to_it > 300, "{to_it}");
    for probe in probes {
        probe.end().assert_nothing_lost();
    }
    for host in ["a", "b"] {
        pair.cluster.start_daemon(host);
    }
    // It was the shortcut that carried them: the counters were there all the time.
    for traffic in pair.both().map(|attached| pair.cluster.traffic(attached)) {
        assert!(traffic.sent_shortcut.min(traffic.received_shortcut) > 600, "{traffic:?}");
        assert!(traffic.sent_bridge.max(traffic.received_bridge) < 100, "{traffic:?}");
    }
    pair.resumes(SOON);
}

/// The MAC of the underlay's own end.
#[track_caller]
fn gateway(cluster: &Cluster) -> [u8; 6] {
    let mut command = weft_lab::enter(&cluster.lab().underlay(), None, "ip").unwrap();
    command.args(["-j", "link", "show", "br0"]);
    let shown: serde_json::Value = serde_json::from_str(&run(command).ok()).unwrap();
    let text = shown[0]["address"].as_str().unwrap();
    let octets = text.split(':').map(|o| u8::from_str_radix(o, 16).unwrap());
    octets.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn the_way_leads_through_a_gateway_and_back() {
    let pair = pair("gateway", ["auto", "auto"]);
    let gateway = gateway(&pair.cluster);
    underlay(
        &pair.cluster,
        "sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0",
    );
    let seen = |what: &str| {
        let cable = Capture::begin(&pair.cluster.lab().underlay(), "a");
        pair.one.ping(&pair.two.v4().to_string());
        let frames = cable.end();
        let tunnelled = frames.iter().filter(|f| {
            f.get(36..38) == Some(&4789_u16.to_be_bytes()) && f[26..30] == [172, 10, 0, 15]
        });
        let by_gateway: Vec<bool> = tunnelled.map(|f| f[..6] == gateway).collect();
        assert!(!by_gateway.is_empty(), "{what}");
        by_gateway
    };
    assert!(seen("before").iter().all(|by_gateway| !by_gateway));
    survives(&pair, || on(&pair, "a", "ip route add 172.10.0.16/32 via 172.10.0.1 dev eth0"));
    assert!(seen("by the gateway").iter().all(|by_gateway| *by_gateway));
    survives(&pair, || on(&pair, "a", "ip route del 172.10.0.16/32"));
    assert!(seen("straight").iter().all(|by_gateway| !by_gateway));
}
