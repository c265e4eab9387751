//! The table `inet weft`: who may send VXLAN to us, what containers reach, and under which
//! address they are seen outside.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_kernel::nft::{
    Chain, ChainKind, Equal, Family, Field, Hook, HookPoint, Match, Rule, Set, Statement,
    TrackState,
};
use weft_kernel::{DropReason, Key, Object};
use weft_model::Network;

use super::{OUR_BRIDGES, accept, drop, filter, from_link, inet, netdev, rule, to_link};
use crate::Out;
use crate::ground::Ground;
use crate::site::Site;

/// `IPPROTO_UDP`
const UDP: u8 = 17;

const VNIS: &str = "vnis";
const MEMBERS_V4: &str = "members4";
const MEMBERS_V6: &str = "members6";
/// Where frames inside one network go on from `prerouting`. Chains are made in the order of
/// their names, so one that is jumped to has to come before.
const INSIDE: &str = "inside";
/// Where packets from one of our bridges to one of our bridges go on from `forward`.
const BETWEEN: &str = "between";

/// All that does not belong to one device.
pub(crate) fn of_host(ground: &Ground, sites: &[Site<'_>], out: &mut Out) {
    out.push((Key::Table(inet()), Object::Table));
    out.push((Key::Table(netdev()), Object::Table));
    members(sites, out);
    let mut chain = |name: &str, chain| {
        out.push((Key::Chain(inet(), name.to_owned()), Object::Chain(chain)));
    };
    chain(INSIDE, Chain { hook: None, rules: sites.iter().flat_map(inside).collect() });
    chain("prerouting", filter(HookPoint::Prerouting, -300, prerouting(ground)));
    chain("input", filter(HookPoint::Input, 0, vec![no_vxlan(ground)]));
    chain(BETWEEN, Chain { hook: None, rules: between(sites) });
    chain("forward", filter(HookPoint::Forward, 0, forward(ground, sites)));
    let hook = Hook { kind: ChainKind::Nat, point: HookPoint::Postrouting, priority: 100 };
    let rules = sites.iter().flat_map(|site| masquerade(ground, site.network())).collect();
    chain("postrouting", Chain { hook: Some(hook), rules });
}

/// Our VNIs, and from where frames of each are accepted.
fn members(sites: &[Site<'_>], out: &mut Out) {
    let sets = [
        (VNIS, vec![Field::Vni]),
        (MEMBERS_V4, vec![Field::SourceV4, Field::Vni]),
        (MEMBERS_V6, vec![Field::SourceV6, Field::Vni]),
    ];
    for (name, of) in sets {
        out.push((Key::Set(inet(), name.to_owned()), Object::Set(Set { of })));
    }
    let mut element = |set: &str, element| {
        out.push((Key::Element(inet(), set.to_owned(), element), Object::Element));
    };
    for site in sites {
        let vni = site.network().vni;
        element(VNIS, vni.to_string());
        for peer in site.peers() {
            let set = if peer.data_address.is_ipv4() { MEMBERS_V4 } else { MEMBERS_V6 };
            element(set, format!("{} . {vni}", peer.data_address));
        }
    }
}

/// Of the frames that carry our VNIs only those of members come in; other VNIs on the same port
/// are not ours to judge.
fn prerouting(ground: &Ground) -> Vec<Rule> {
    let stranger = |family, field, set: &str| {
        drop(
            vec![
                Match::UdpPort(ground.vxlan_port),
                Match::Family(family),
                Match::InSet(Equal::Is, vec![Field::Vni], VNIS.to_owned()),
                Match::InSet(Equal::IsNot, vec![field, Field::Vni], set.to_owned()),
            ],
            DropReason::NotAMember,
        )
    };
    vec![
        rule(vec![from_link(OUR_BRIDGES)], vec![Statement::Jump(INSIDE.to_owned())], ""),
        stranger(Family::V4, Field::SourceV4, MEMBERS_V4),
        stranger(Family::V6, Field::SourceV6, MEMBERS_V6),
    ]
}

/// What stays in its network is not tracked. The addresses of this host are left out: answers to
/// what the host asked must find the state of the question.
fn inside(site: &Site<'_>) -> Vec<Rule> {
    let network = site.network();
    let of_subnet = |subnet: &IpNet| {
        let host =
            [Network::address_at(subnet, Network::GATEWAY), site.node_address(subnet.addr())];
        let here = vec![from_link(&site.bridge()), Match::Destination(Equal::Is, subnet.trunc())];
        let not_host =
            host.into_iter().flatten().map(|a: IpAddr| Match::Destination(Equal::IsNot, a.into()));
        rule(
            here.into_iter().chain(not_host).collect(),
            vec![Statement::Notrack, Statement::Accept],
            network.name.as_str(),
        )
    };
    network.subnets.iter().map(of_subnet).collect()
}

/// A container that speaks VXLAN to this host or through it could speak for a node.
fn no_vxlan(ground: &Ground) -> Rule {
    drop(
        vec![from_link(OUR_BRIDGES), Match::UdpPort(ground.vxlan_port)],
        DropReason::VxlanFromContainer,
    )
}

/// Networks are apart; what is bridged inside one passes here where `br_netfilter` is on.
fn between(sites: &[Site<'_>]) -> Vec<Rule> {
    let same = |site: &Site<'_>| {
        let bridge = site.bridge();
        accept(vec![from_link(&bridge), to_link(&bridge)], site.network().name.as_str())
    };
    sites.iter().map(same).chain([drop(vec![], DropReason::NetworksApart)]).collect()
}

fn forward(ground: &Ground, sites: &[Site<'_>]) -> Vec<Rule> {
    let both = vec![from_link(OUR_BRIDGES), to_link(OUR_BRIDGES)];
    let mut rules =
        vec![rule(both, vec![Statement::Jump(BETWEEN.to_owned())], ""), no_vxlan(ground)];
    for site in sites.iter().filter(|site| site.network().internal) {
        rules.push(drop(vec![from_link(&site.bridge())], DropReason::InternalNoWayOut));
        rules.push(drop(vec![to_link(&site.bridge())], DropReason::InternalNoWayIn));
    }
    let answers = Match::Tracked(vec![TrackState::Established, TrackState::Related]);
    rules.push(accept(vec![to_link(OUR_BRIDGES), answers], ""));
    rules.push(drop(vec![to_link(OUR_BRIDGES)], DropReason::NotAskedFor));
    rules
}

/// Outside, containers are seen under the host's address.
fn masquerade(ground: &Ground, network: &Network) -> Vec<Rule> {
    if network.internal {
        return Vec::new();
    }
    // Answers come to the source port: were it the VXLAN port, the VTEP would take them.
    let ports = if ground.vxlan_port < 32_768 { (32_768, 65_535) } else { (1_024, 32_767) };
    let bridge = weft_model::device::bridge(network.vni);
    let of_subnet = |subnet: &IpNet| {
        let leaving = vec![
            Match::Source(Equal::Is, subnet.trunc()),
            Match::OutLink(Equal::IsNot, bridge.clone()),
        ];
        let mut udp = leaving.clone();
        udp.push(Match::Protocol(Equal::Is, UDP));
        [
            rule(udp, vec![Statement::Masquerade(Some(ports))], network.name.as_str()),
            rule(leaving, vec![Statement::Masquerade(None)], network.name.as_str()),
        ]
    };
    network.subnets.iter().flat_map(of_subnet).collect()
}
