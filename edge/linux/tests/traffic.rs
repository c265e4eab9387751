//! What frames did is counted by the path they took.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;
mod ground;

use std::net::IpAddr;

use common::*;
use ground::*;
use weft_kernel::nft::{Equal, HookPoint, Match};
use weft_kernel::object::{Link, Port};
use weft_kernel::{
    Attach, Count, DropReason, EndpointTraffic, FdbTable, Key, LinkKind, Netns, Object,
    ShortcutKey, ShortcutObject, Traffic,
};
use weft_linux::{Linux, ShortcutConfig};

const OTHER: &str = "we-0000000000b2";

/// A second endpoint of the network, 10.3.0.3.
fn second(container: &Container, linux: &mut Linux) -> Objects {
    let inside = Netns::Container(linux.register_netns(&container.path).unwrap());
    let (host, end, eth0) = (Netns::Host, || OTHER.to_owned(), || "eth0".to_owned());
    let link = |kind, mac, alias: &str, port| {
        Object::Link(Link { kind, mac, mtu: 1450, alias: alias.into(), port })
    };
    let port = Port { bridge: "wb-570001".into(), neigh_suppress: false, locked: true };
    let veth = LinkKind::Veth { peer_netns: inside, peer: eth0() };
    let address: ipnet::IpNet = "10.3.0.3/16".parse().unwrap();
    vec![
        (Key::Link(host, end()), link(veth, mac(0x71), "weft endpoint web-2", Some(port))),
        (Key::Link(inside, eth0()), link(LinkKind::VethPeer, mac(0x13), "", None)),
        (Key::Address(inside, eth0(), address), Object::Address),
        (Key::Up(host, end()), Object::Up),
        (Key::Up(inside, eth0()), Object::Up),
        (Key::Neighbour("wb-570001".into(), address.addr()), Object::Neighbour(mac(0x13))),
        (Key::Fdb(end(), FdbTable::Bridge, mac(0x13)), Object::Fdb(None)),
    ]
}

/// What the shortcut is to know of both endpoints.
fn both() -> Objects {
    let v4 = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut objects = objects();
    objects.retain(|(key, _)| !matches!(key, Key::Shortcut(ShortcutKey::Granted(..))));
    for (_, object) in &mut objects {
        if let Object::Shortcut(ShortcutObject::Endpoint(endpoint)) = object {
            endpoint.more = false;
        }
    }
    let other = weft_kernel::LocalEndpoint {
        vni: VNI,
        mac: mac(0x13),
        v4: Some("10.3.0.3".parse().unwrap()),
        v6: None,
        more: false,
    };
    objects.extend([
        object(ShortcutKey::Endpoint(OTHER.into()), ShortcutObject::Endpoint(other)),
        object(ShortcutKey::Program(OTHER.into(), Attach::FromContainer), ShortcutObject::Program),
        object(ShortcutKey::Neighbour(VNI, v4("10.3.0.2")), ShortcutObject::Neighbour(mac(2))),
        object(ShortcutKey::Neighbour(VNI, v4("10.3.0.3")), ShortcutObject::Neighbour(mac(0x13))),
    ]);
    objects
}

/// Answers to ten pings of 100 octets, each a frame of 142; with an address of its own that the
/// container may not send from, if that is asked for.
fn ping(container: &Container, from: &'static str, to: &'static str) -> usize {
    container.run(move || {
        let args = format!("-n -c 10 -i 0.01 -W 1 -s 100 -I {from} {to}");
        let output = std::process::Command::new("ping").args(args.split(' ')).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains("bytes from")).count()
    })
}

/// Neighbours that need not be asked for, so that every frame is accounted for.
fn acquaint(container: &Container, address: &str, mac: &str) {
    let (address, mac) = (address.to_owned(), mac.to_owned());
    container.run(move || {
        run("ip", &format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent"))
    });
}

fn more(before: &Traffic, after: &Traffic, link: &str) -> EndpointTraffic {
    let none = EndpointTraffic::default();
    let (a, b) = (before.endpoints.get(link).unwrap_or(&none), &after.endpoints[link]);
    let less =
        |b: Count, a: Count| Count { packets: b.packets - a.packets, bytes: b.bytes - a.bytes };
    EndpointTraffic {
        sent_shortcut: less(b.sent_shortcut, a.sent_shortcut),
        sent_bridge: less(b.sent_bridge, a.sent_bridge),
        received_shortcut: less(b.received_shortcut, a.received_shortcut),
        received_bridge: less(b.received_bridge, a.received_bridge),
        dropped: b
            .dropped
            .iter()
            .map(|(reason, count)| {
                (*reason, less(*count, a.dropped.get(reason).copied().unwrap_or_default()))
            })
            .filter(|(_, count)| count.packets > 0)
            .collect(),
    }
}

const TEN: Count = Count { packets: 10, bytes: 1420 };
const NONE: Count = Count { packets: 0, bytes: 0 };

fn two_endpoints(linux: &mut Linux) -> (Container, Container) {
    let (one, two) = (Container::new(), Container::new());
    let id = linux.register_netns(&one.path).unwrap();
    let mut base = base(id);
    base.extend(second(&two, linux));
    apply(linux, &puts(&base));
    // Nobody says anything of their own accord.
    for link in ["wb-570001", "wv-570001", END, OTHER] {
        run("sysctl", &format!("-qw net.ipv6.conf.{link}.disable_ipv6=1"));
    }
    for container in [&one, &two] {
        container.cmd("sysctl", "-qw net.ipv6.conf.eth0.disable_ipv6=1");
        acquaint(container, "10.3.0.1", "02:57:00:00:00:03");
        acquaint(container, "10.3.0.2", "02:57:00:00:00:02");
        acquaint(container, "10.3.0.3", "02:57:00:00:00:13");
    }
    one.cmd("ip", "addr add 10.3.0.77/16 dev eth0");
    run("ip", "neigh replace 10.3.0.2 lladdr 02:57:00:00:00:02 dev wb-570001 nud permanent");
    (one, two)
}

#[test]
fn without_the_shortcut_everything_goes_by_the_bridge_path() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        assert_eq!(linux.traffic().unwrap(), Traffic::default());
        let (one, _two) = two_endpoints(&mut linux);
        let guard = drop_rule(
            vec![Match::Source(Equal::Is, "10.3.0.77/32".parse().unwrap())],
            DropReason::NotItsAddress.as_str(),
        );
        let harmless = drop_rule(vec![Match::EtherSource(Equal::Is, mac(99))], "of no reason");
        let chain = Key::DeviceChain(netdev(), END.into(), format!("{END}-in"));
        let guard = filter(HookPoint::Ingress, 0, vec![guard, harmless]);
        let objects = vec![(Key::Table(netdev()), Object::Table), (chain, guard)];
        apply(&mut linux, &puts(&objects));
        let before = linux.traffic().unwrap();
        assert_eq!(ping(&one, "10.3.0.2", "10.3.0.3"), 10);
        assert_eq!(ping(&one, "10.3.0.77", "10.3.0.3"), 0);
        let after = linux.traffic().unwrap();
        let of = more(&before, &after, END);
        assert_eq!((of.sent_bridge, of.received_bridge), (TEN, TEN));
        assert_eq!((of.sent_shortcut, of.received_shortcut), (NONE, NONE));
        assert_eq!(of.dropped, [(DropReason::NotItsAddress, TEN)].into());
        let of = more(&before, &after, OTHER);
        assert_eq!((of.sent_bridge, of.received_bridge), (TEN, TEN));
        assert_eq!(of.dropped, [].into());
        assert!(after.underlay.is_empty());
    });
}

#[test]
fn a_frame_that_takes_the_shortcut_is_told_from_one_that_does_not() {
    for hook in HOOKS {
        in_bpffs(move |bpffs| {
            uplink();
            let mut linux = Linux::open().unwrap();
            let (one, _two) = two_endpoints(&mut linux);
            let dir = bpffs.join("weft/7");
            linux.start_shortcut(&ShortcutConfig { dir, hook }).unwrap();
            apply(&mut linux, &puts(&both()));
            let before = linux.traffic().unwrap();
            assert_eq!(ping(&one, "10.3.0.2", "10.3.0.3"), 10);
            let after = linux.traffic().unwrap();
            for link in [END, OTHER] {
                let of = more(&before, &after, link);
                assert_eq!((of.sent_shortcut, of.received_shortcut), (TEN, TEN), "{link}");
                assert_eq!((of.sent_bridge, of.received_bridge), (NONE, NONE), "{link}");
            }
            // The gateway is the bridge's business, and so are its answers.
            let before = after;
            assert_eq!(ping(&one, "10.3.0.2", "10.3.0.1"), 10);
            let after = linux.traffic().unwrap();
            let of = more(&before, &after, END);
            assert_eq!((of.sent_bridge, of.received_bridge), (TEN, TEN));
            assert_eq!((of.sent_shortcut, of.received_shortcut), (NONE, NONE));
            // An address that it was not given.
            let before = after;
            assert_eq!(ping(&one, "10.3.0.77", "10.3.0.3"), 0);
            let after = linux.traffic().unwrap();
            let of = more(&before, &after, END);
            assert_eq!(of.dropped, [(DropReason::NotItsAddress, TEN)].into());
            assert_eq!((of.sent_bridge, of.sent_shortcut), (NONE, NONE));
            // Half of it by each path: the other endpoint's program is gone.
            let program = ShortcutKey::Program(OTHER.into(), Attach::FromContainer);
            apply(&mut linux, &[weft_kernel::Step::Delete(Key::Shortcut(program))]);
            let before = linux.traffic().unwrap();
            assert_eq!(ping(&one, "10.3.0.2", "10.3.0.3"), 10);
            let after = linux.traffic().unwrap();
            let of = more(&before, &after, OTHER);
            assert_eq!((of.received_shortcut, of.sent_bridge), (TEN, TEN));
            let of = more(&before, &after, END);
            assert_eq!((of.sent_shortcut, of.received_bridge), (TEN, TEN));
        });
    }
}

#[test]
fn what_was_dropped_of_the_underlay_is_told_by_network_and_reason() {
    in_netns(|| {
        uplink();
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &puts(&network(VNI, 3)));
        let far = Container::new();
        let of = far.path.iter().nth(4).unwrap().to_str().unwrap().to_owned();
        run("ip", &format!("link set up1 netns {of}"));
        far.cmd("ip", "addr add 172.30.0.16/24 dev up1");
        far.cmd("ip", "link set up1 up");
        far.cmd(
            "ip",
            "link add vx type vxlan id 5701633 local 172.30.0.16 remote 172.30.0.15 dstport 4789",
        );
        far.cmd("sysctl", "-qw net.ipv6.conf.vx.disable_ipv6=1");
        far.cmd("ip", "link set vx address 02:57:00:00:00:03");
        far.cmd("ip", "addr add 10.3.0.9/16 dev vx");
        far.cmd("ip", "link set vx up");
        far.cmd("ip", "neigh replace 10.3.0.1 lladdr 02:57:00:00:00:03 dev vx nud permanent");
        let member = drop_rule(
            vec![Match::UdpPort(4789), Match::Source(Equal::Is, "172.30.0.16/32".parse().unwrap())],
            DropReason::NotAMember.as_str(),
        );
        let gateway = drop_rule(
            vec![Match::EtherSource(Equal::Is, mac(3))],
            DropReason::AnotherHostsGateway.as_str(),
        );
        let tables = vec![
            (Key::Table(inet()), Object::Table),
            (Key::Table(netdev()), Object::Table),
            (
                Key::DeviceChain(netdev(), "wv-570001".into(), "wv-570001-in".into()),
                filter(HookPoint::Ingress, 0, vec![gateway]),
            ),
        ];
        apply(&mut linux, &puts(&tables));
        let send = || {
            far.run(|| {
                let args = "-n -c 5 -i 0.01 -W 1 -s 100 10.3.0.1";
                std::process::Command::new("ping").args(args.split(' ')).output().unwrap();
            });
        };
        send();
        let five = Count { packets: 5, bytes: 5 * 142 };
        let got = linux.traffic().unwrap().underlay;
        assert_eq!(got, [((VNI, DropReason::AnotherHostsGateway), five)].into());
        let chain = filter(HookPoint::Prerouting, -300, vec![member]);
        apply(&mut linux, &puts(&[(Key::Chain(inet(), "prerouting".into()), chain)]));
        send();
        let got = linux.traffic().unwrap().underlay;
        let outer = Count { packets: 5, bytes: 5 * (142 + 50) };
        assert_eq!(
            got,
            [((VNI, DropReason::AnotherHostsGateway), five), ((0, DropReason::NotAMember), outer)]
                .into()
        );
    });
}
