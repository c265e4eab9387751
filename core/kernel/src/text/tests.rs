use std::net::IpAddr;

use super::*;
use crate::key::NftFamily;
use crate::nft::{
    Chain, ChainKind, Equal, Family, Field, Hook, HookPoint, Match, PacketType, Rule, Set,
    Statement, TrackState,
};
use crate::{Attach, LocalEndpoint, ShortcutKey, ShortcutObject, TableName, UnderlayPath};

const MAC: MacBytes = [2, 1, 0, 0, 0, 5];
const INSIDE: Netns = Netns::Container(NetnsId(7));

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

fn table() -> TableName {
    TableName { family: NftFamily::Inet, name: "weft".into() }
}

#[track_caller]
fn check(key: Key, object: Object, name: &str, text: &str) {
    assert_eq!(key.to_string(), name);
    assert_eq!(line(&key, &object), text);
}

#[test]
fn rows_print_as_bridge_and_ip_do() {
    let wv = || "wv-570001".to_owned();
    check(
        Key::Fdb(wv(), FdbTable::Device, MAC),
        Object::Fdb(Some(ip("172.10.0.16"))),
        "fdb 02:01:00:00:00:05 dev wv-570001",
        "02:01:00:00:00:05 dev wv-570001 dst 172.10.0.16 self static",
    );
    check(
        Key::Fdb(wv(), FdbTable::Bridge, MAC),
        Object::Fdb(None),
        "fdb 02:01:00:00:00:05 dev wv-570001 master",
        "02:01:00:00:00:05 dev wv-570001 master static",
    );
    check(
        Key::Flood(wv(), ip("172.10.0.16")),
        Object::Flood,
        "fdb 00:00:00:00:00:00 dev wv-570001 dst 172.10.0.16",
        "00:00:00:00:00:00 dev wv-570001 dst 172.10.0.16 self permanent",
    );
    check(
        Key::Neighbour("wb-570001".into(), ip("fd00:3::5")),
        Object::Neighbour(MAC),
        "neigh fd00:3::5 dev wb-570001",
        "fd00:3::5 dev wb-570001 lladdr 02:01:00:00:00:05 PERMANENT proto 87",
    );
}

#[test]
fn addresses_routes_and_sysctls_print_as_ip_and_sysctl_do() {
    check(
        Key::Address(Netns::Host, "wb-570001".into(), net("10.3.0.1/24")),
        Object::Address,
        "addr 10.3.0.1/24 dev wb-570001",
        "inet 10.3.0.1/24 dev wb-570001",
    );
    check(
        Key::Route(INSIDE, net("::/0"), "eth0".into()),
        Object::Route(Route { via: Some(ip("fd00:3::1")), source: None }),
        "route default dev eth0 netns 7",
        "default via fd00:3::1 dev eth0 proto 87 netns 7",
    );
    check(
        Key::Route(Netns::Host, net("10.3.0.0/24"), "wb-570001".into()),
        Object::Route(Route { via: None, source: Some(ip("10.3.0.254")) }),
        "route 10.3.0.0/24 dev wb-570001",
        "10.3.0.0/24 dev wb-570001 proto 87 src 10.3.0.254",
    );
    check(
        Key::Sysctl(Netns::Host, "net/ipv6/conf/eth0.100/accept_ra".into()),
        Object::Sysctl("2".into()),
        "sysctl net.ipv6.conf.eth0/100.accept_ra",
        "net.ipv6.conf.eth0/100.accept_ra = 2",
    );
    check(
        Key::Up(INSIDE, "eth0".into()),
        Object::Up,
        "link eth0 up netns 7",
        "link eth0 up netns 7",
    );
}

#[test]
fn links_print_as_ip_does() {
    let port = Port { bridge: "wb-570001".into(), neigh_suppress: false, locked: true };
    let veth = LinkKind::Veth { peer_netns: INSIDE, peer: "eth0".into() };
    check(
        Key::Link(Netns::Host, "we-0000000000a1".into()),
        Object::Link(Link {
            kind: veth,
            mac: MAC,
            mtu: 1450,
            alias: "weft endpoint web-1".into(),
            port: Some(port),
        }),
        "link we-0000000000a1",
        "we-0000000000a1@eth0: mtu 1450 master wb-570001 link/ether 02:01:00:00:00:05 veth link-netns 7 \
         bridge_slave learning off neigh_suppress off locked on alias weft endpoint web-1",
    );
    let port = Port { bridge: "wb-570001".into(), neigh_suppress: false, locked: true };
    check(
        Key::Link(Netns::Host, "we-0000000000a2".into()),
        Object::Link(Link {
            kind: LinkKind::Lent,
            mac: MAC,
            mtu: 1450,
            alias: "weft lent web-2".into(),
            port: Some(port),
        }),
        "link we-0000000000a2",
        "we-0000000000a2: mtu 1450 master wb-570001 link/ether 02:01:00:00:00:05 veth lent \
         bridge_slave learning off neigh_suppress off locked on alias weft lent web-2",
    );
    let kind = LinkKind::Vxlan { vni: 5_701_633, local: ip("172.10.0.15"), port: 4789 };
    check(
        Key::Link(Netns::Host, "wv-570001".into()),
        Object::Link(Link { kind, mac: MAC, mtu: 1450, alias: String::new(), port: None }),
        "link wv-570001",
        "wv-570001: mtu 1450 link/ether 02:01:00:00:00:05 vxlan id 5701633 local 172.10.0.15 \
         dstport 4789 nolearning",
    );
}

#[test]
fn sets_and_chains_print_as_nft_does() {
    let of = vec![Field::SourceV4, Field::Vni];
    check(
        Key::Set(table(), "members4".into()),
        Object::Set(Set { of: of.clone() }),
        "set inet weft members4",
        "set inet weft members4 { typeof ip saddr . @th,96,24; }",
    );
    let rule = Rule {
        matches: vec![
            Match::UdpPort(4789),
            Match::InSet(Equal::Is, vec![Field::Vni], "vnis".into()),
            Match::InSet(Equal::IsNot, of, "members4".into()),
        ],
        statements: vec![Statement::Counter, Statement::Drop],
        comment: "not from a member".into(),
    };
    let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Prerouting, priority: -300 };
    check(
        Key::Chain(table(), "prerouting".into()),
        Object::Chain(Chain { hook: Some(hook), rules: vec![rule] }),
        "chain inet weft prerouting",
        "chain inet weft prerouting {\n  type filter hook prerouting priority raw; policy accept;\n  \
         udp dport 4789 @th,96,24 @vnis ip saddr . @th,96,24 != @members4 counter drop \
         comment \"not from a member\"\n}",
    );
    let netdev = TableName { family: NftFamily::Netdev, name: "weft".into() };
    let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Ingress, priority: 0 };
    check(
        Key::DeviceChain(netdev, "wv-570001".into(), "wv-570001-in".into()),
        Object::Chain(Chain { hook: Some(hook), rules: Vec::new() }),
        "chain netdev weft wv-570001-in dev wv-570001",
        "chain netdev weft wv-570001-in {\n  type filter hook ingress device \"wv-570001\" \
         priority filter; policy accept;\n}",
    );
}

#[test]
fn every_match_and_statement_prints_as_nft_does() {
    let is = |m: Match| Rule { matches: vec![m], statements: vec![], comment: String::new() };
    let matches = [
        (Match::InLink(Equal::Is, "wb-*".into()), "iifname \"wb-*\""),
        (Match::OutLink(Equal::IsNot, "wb-570001".into()), "oifname != \"wb-570001\""),
        (Match::Source(Equal::IsNot, net("10.3.0.5/32")), "ip saddr != 10.3.0.5"),
        (Match::Destination(Equal::Is, net("fd00:3::/64")), "ip6 daddr fd00:3::/64"),
        (Match::EtherSource(Equal::IsNot, MAC), "ether saddr != 02:01:00:00:00:05"),
        (Match::EtherDestination(Equal::Is, MAC), "ether daddr 02:01:00:00:00:05"),
        (Match::EtherType(Equal::Is, 0x0806), "ether type arp"),
        (Match::EtherType(Equal::IsNot, 0x88cc), "ether type != 0x88cc"),
        (Match::Family(Family::V6), "meta nfproto ipv6"),
        (Match::Protocol(Equal::Is, 17), "meta l4proto udp"),
        (Match::Protocol(Equal::IsNot, 132), "meta l4proto != 132"),
        (Match::TcpPort(53), "tcp dport 53"),
        (
            Match::Tracked(vec![TrackState::Established, TrackState::Related]),
            "ct state established,related",
        ),
        (Match::ArpSenderIp(Equal::IsNot, ip("10.3.0.5")), "arp saddr ip != 10.3.0.5"),
        (Match::ArpSenderMac(Equal::IsNot, MAC), "arp saddr ether != 02:01:00:00:00:05"),
        (Match::Icmp6Type(134), "icmpv6 type nd-router-advert"),
        (Match::NdTarget(Equal::IsNot, ip("fd00:3::5")), "icmpv6 taddr != fd00:3::5"),
        (Match::PacketType(PacketType::Multicast), "meta pkttype multicast"),
    ];
    for (part, text) in matches {
        assert_eq!(is(part).to_string(), text);
    }
    let all = Rule {
        matches: vec![],
        statements: vec![
            Statement::LimitOver { rate: 1000, burst: 1000 },
            Statement::SetPacketTypeHost,
            Statement::SetEtherSource(MAC),
            Statement::Notrack,
            Statement::Masquerade(Some((32768, 65535))),
            Statement::Masquerade(None),
            Statement::Jump("inside".into()),
            Statement::Return,
            Statement::Accept,
        ],
        comment: String::new(),
    };
    assert_eq!(
        all.to_string(),
        "limit rate over 1000/second burst 1000 packets meta pkttype set host ether saddr set \
         02:01:00:00:00:05 notrack masquerade to :32768-65535 masquerade jump inside return accept"
    );
}

#[test]
fn a_state_prints_section_by_section_and_a_step_as_a_change() {
    let up = Key::Up(Netns::Host, "wb-570001".into());
    let forward = Key::Sysctl(Netns::Host, "net/ipv4/ip_forward".into());
    let state = KernelState::from_iter([
        (up.clone(), Object::Up),
        (forward.clone(), Object::Sysctl("1".into())),
    ]);
    assert_eq!(
        render(&state),
        "host\n  net.ipv4.ip_forward = 1\ndevices 570001\n  link wb-570001 up\n"
    );
    assert_eq!(
        Step::Put(forward, Object::Sysctl("1".into())).to_string(),
        "+ net.ipv4.ip_forward = 1"
    );
    assert_eq!(Step::Delete(up).to_string(), "- link wb-570001 up");
}

#[test]
fn forwarding_is_switched_on_after_every_other_sysctl() {
    let sysctl = |path: &str| Key::Sysctl(Netns::Host, path.into());
    let uplink = sysctl("net/ipv6/conf/eth0/accept_ra");
    assert!(uplink < sysctl("net/ipv6/conf/all/forwarding"));
    assert!(uplink < sysctl("net/ipv4/ip_forward"));
    assert!(sysctl("net/ipv6/conf/all/forwarding") < Key::Up(Netns::Host, "eth0".into()));
}

#[track_caller]
fn check_shortcut(key: ShortcutKey, object: ShortcutObject, name: &str, rest: &str) {
    check(Key::Shortcut(key), Object::Shortcut(object), name, &format!("{name}{rest}"));
}

#[test]
fn the_shortcuts_objects_print_as_what_they_mean() {
    let we = || "we-0000000000a1".to_owned();
    let vtep = ip("172.10.0.16");
    let path = |next_hop| UnderlayPath { link: "eth0".into(), next_hop, mtu: 1500 };
    check_shortcut(
        ShortcutKey::Node,
        ShortcutObject::Node { data_address: ip("172.10.0.15"), port: 4789 },
        "shortcut node",
        " local 172.10.0.15 dstport 4789",
    );
    check_shortcut(
        ShortcutKey::Vtep(vtep),
        ShortcutObject::Vtep(path(None)),
        "shortcut vtep 172.10.0.16",
        " dev eth0 mtu 1500",
    );
    check_shortcut(
        ShortcutKey::Vtep(vtep),
        ShortcutObject::Vtep(path(Some(ip("fe80::1")))),
        "shortcut vtep 172.10.0.16",
        " via fe80::1 dev eth0 mtu 1500",
    );
    check_shortcut(
        ShortcutKey::Member(5_701_633, vtep),
        ShortcutObject::Member(MAC),
        "shortcut member vni 5701633 172.10.0.16",
        " gateway 02:01:00:00:00:05",
    );
    check_shortcut(
        ShortcutKey::Neighbour(5_701_633, ip("fd00:3::5")),
        ShortcutObject::Neighbour(MAC),
        "shortcut neigh vni 5701633 fd00:3::5",
        " lladdr 02:01:00:00:00:05",
    );
    check_shortcut(
        ShortcutKey::Fdb(5_701_633, MAC),
        ShortcutObject::Fdb(vtep),
        "shortcut fdb vni 5701633 02:01:00:00:00:05",
        " dst 172.10.0.16",
    );
    check_shortcut(
        ShortcutKey::Granted(we(), net("192.168.0.0/16")),
        ShortcutObject::Granted,
        "shortcut granted dev we-0000000000a1 192.168.0.0/16",
        "",
    );
    check_shortcut(
        ShortcutKey::Program(we(), Attach::FromContainer),
        ShortcutObject::Program,
        "shortcut program from_container dev we-0000000000a1",
        "",
    );
}

#[test]
fn an_endpoint_of_the_shortcut_prints_the_addresses_it_has() {
    let with = |v4: Option<&str>, v6: Option<&str>, more| {
        ShortcutObject::Endpoint(LocalEndpoint {
            vni: 5_701_633,
            mac: MAC,
            v4: v4.map(|text| text.parse().unwrap()),
            v6: v6.map(|text| text.parse().unwrap()),
            more,
        })
    };
    let check = |object, rest: &str| {
        let key = ShortcutKey::Endpoint("we-0000000000a1".into());
        check_shortcut(key, object, "shortcut endpoint dev we-0000000000a1", rest);
    };
    let base = " vni 5701633 link/ether 02:01:00:00:00:05";
    check(with(None, None, false), base);
    let six = format!("{base} fd00:3::5");
    check(with(None, Some("fd00:3::5"), false), &six);
    let all = format!("{base} 10.3.0.5 fd00:3::5 and more");
    check(with(Some("10.3.0.5"), Some("fd00:3::5"), true), &all);
}
