//! Nobody speaks in another's name: not a container, not a stranger on the underlay.
//!
//! ```text
//!          a                      b                 c (no member of web)
//!  ┌───────────────┐      ┌───────────────┐      ┌───────────────┐
//!  │ liar          │      │ victim        │      │ stranger      │
//!  └───────────────┘      └───────────────┘      └───────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use weft_tests::{Attached, Capture, Cluster, frame};

const SENTINEL: &[u8] = b"in-anothers-name";

struct Ground {
    cluster: Cluster,
    liar: Attached,
    victim: Attached,
    vni: u32,
}

fn ground(name: &str, hosts: usize) -> Ground {
    let cluster = Cluster::up(name, hosts);
    let network = cluster.network("web", &["--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64"]);
    let liar = cluster.attach("a", "liar", &["--network", "web"]);
    let victim = cluster.attach("b", "victim", &["--network", "web"]);
    liar.ping("victim");
    let vni = u32::try_from(network["vni"].as_u64().unwrap()).unwrap();
    Ground { cluster, liar, victim, vni }
}

impl Ground {
    /// How many frames with the sentinel reach the victim when `send` is done.
    fn arriving(&self, send: impl FnOnce()) -> usize {
        let capture = Capture::begin(&self.victim.container.netns_file(), "eth0");
        send();
        // What the victim says to it (ICMP quotes it) does not count.
        let to_victim = |f: &[u8]| f.get(..6) == Some(&self.victim.mac());
        let contains = |f: &[u8]| f.windows(SENTINEL.len()).any(|w| w == SENTINEL);
        capture.end().iter().filter(|f| to_victim(f) && contains(f)).count()
    }

    fn lie(&self, bytes: &[u8]) {
        frame::send(&self.liar.container.netns_file(), "eth0", bytes);
    }
}

fn at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 9)
}

#[test]
fn a_container_sends_only_from_its_own_addresses() {
    let ground = ground("spoof", 2);
    let (liar, victim) = (&ground.liar, &ground.victim);
    let datagram = |mac, source: IpAddr, target: IpAddr| {
        frame::udp((mac, at(source)), (victim.mac(), at(target)), SENTINEL)
    };
    // In its own name it arrives: the test would see it.
    for (own, target) in [(liar.v4(), victim.v4()), (liar.v6(), victim.v6())] {
        assert_eq!(ground.arriving(|| ground.lie(&datagram(liar.mac(), own, target))), 1);
    }
    let other: IpAddr = "10.3.0.99".parse().unwrap();
    let outside: IpAddr = "8.8.8.8".parse().unwrap();
    let other_v6: IpAddr = "fd00:3::99".parse().unwrap();
    let gateway: IpAddr = "10.3.0.1".parse().unwrap();
    let stolen = [2, 0, 0, 0, 0, 0x99];
    for (what, lie) in [
        ("another's IPv4 address", datagram(liar.mac(), other, victim.v4())),
        ("the victim's own address", datagram(liar.mac(), victim.v4(), victim.v4())),
        ("an outside address", datagram(liar.mac(), outside, victim.v4())),
        ("the gateway's address", datagram(liar.mac(), gateway, victim.v4())),
        ("another's IPv6 address", datagram(liar.mac(), other_v6, victim.v6())),
        ("another's MAC", datagram(stolen, liar.v4(), victim.v4())),
        ("the victim's MAC", datagram(victim.mac(), liar.v4(), victim.v4())),
    ] {
        assert_eq!(ground.arriving(|| ground.lie(&lie)), 0, "{what}");
    }
    liar.ping("victim");
}

#[test]
fn a_container_answers_for_nobody_else() {
    let ground = ground("arp", 2);
    let (liar, victim) = (&ground.liar, &ground.victim);
    let v4 = |a: IpAddr| match a {
        IpAddr::V4(a) => a,
        IpAddr::V6(_) => panic!("{a}"),
    };
    let arps = |send: &dyn Fn()| {
        let capture = Capture::begin(&victim.container.netns_file(), "eth0");
        send();
        capture.end().iter().filter(|f| f.get(12..14) == Some(&[8, 6])).count()
    };
    let announce = |mac, sender: Ipv4Addr| {
        let bytes =
            frame::arp(liar.mac(), victim.mac(), 2, (mac, sender), (victim.mac(), v4(victim.v4())));
        ground.lie(&bytes);
    };
    assert_eq!(arps(&|| announce(liar.mac(), v4(liar.v4()))), 1, "its own address");
    assert_eq!(arps(&|| announce(liar.mac(), Ipv4Addr::new(10, 3, 0, 1))), 0, "the gateway's");
    assert_eq!(arps(&|| announce(liar.mac(), Ipv4Addr::new(10, 3, 0, 77))), 0, "somebody's");
    assert_eq!(arps(&|| announce([2, 0, 0, 0, 0, 9], v4(liar.v4()))), 0, "with another MAC inside");
}

#[test]
fn a_router_may_send_what_it_was_granted() {
    let ground = ground("router", 2);
    let flags = ["--network", "web", "--allow-source", "10.77.0.0/16"];
    let router = ground.cluster.attach("a", "router", &flags);
    let send = |source: &str| {
        let source = at(source.parse().unwrap());
        let bytes = frame::udp(
            (router.mac(), source),
            (ground.victim.mac(), at(ground.victim.v4())),
            SENTINEL,
        );
        frame::send(&router.container.netns_file(), "eth0", &bytes);
    };
    assert_eq!(ground.arriving(|| send("10.77.3.4")), 1);
    assert_eq!(ground.arriving(|| send("10.78.3.4")), 0);
}

#[test]
fn vxlan_from_a_stranger_is_dropped() {
    let ground = ground("stranger", 3);
    let inner = frame::udp(
        (ground.liar.mac(), at(ground.liar.v4())),
        (ground.victim.mac(), at(ground.victim.v4())),
        SENTINEL,
    );
    let payload = frame::vxlan(ground.vni, &inner);
    let target = SocketAddr::new(ground.cluster.host("b").address, 4789);
    let from = |host: &str| {
        let netns = ground.cluster.host(host).netns_file();
        let payload = payload.clone();
        weft_lab::in_netns(&netns, move || UdpSocket::bind("0.0.0.0:0")?.send_to(&payload, target))
            .unwrap();
    };
    assert_eq!(ground.arriving(|| from("a")), 1, "a member's: the test would see it");
    assert_eq!(ground.arriving(|| from("c")), 0, "a stranger's");
    // Once it takes part, it is none any more.
    ground.cluster.attach("c", "third", &["--network", "web"]);
    assert_eq!(ground.arriving(|| from("c")), 1, "a new member's");
}

#[test]
fn a_container_cannot_forge_vxlan() {
    let ground = ground("forge", 2);
    let inner = frame::udp(
        ([2, 0, 0, 0, 0, 9], at("10.3.0.99".parse().unwrap())),
        (ground.victim.mac(), at(ground.victim.v4())),
        SENTINEL,
    );
    let payload = frame::vxlan(ground.vni, &inner);
    // Masqueraded, it would carry the address of a member: host a.
    let target = SocketAddr::new(ground.cluster.host("b").address, 4789);
    let netns = ground.liar.container.netns_file();
    let arrived = ground.arriving(|| {
        let _ = weft_lab::in_netns(&netns, move || {
            UdpSocket::bind("0.0.0.0:0")?.send_to(&payload, target)
        });
    });
    assert_eq!(arrived, 0);
}
