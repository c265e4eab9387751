//! Networks: what is refused with which words, and what the others are given.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Tiny, create, endpoint, join, lease, refused};
use weft_model::row::Guard;
use weft_model::{Network, NetworkId, Row, RowKey, Vni};
use weft_state::command::CreateNetwork;
use weft_state::rejection::Code;
use weft_state::{Command, Outcome, apply};

fn make(tiny: &mut Tiny, wish: CreateNetwork) -> Network {
    match tiny.run(Command::CreateNetwork(wish)).unwrap() {
        Outcome::Network(network) => network,
        other => panic!("{other:?}"),
    }
}

fn subnets(network: &Network) -> Vec<String> {
    network.subnets.iter().map(ToString::to_string).collect()
}

#[test]
fn subnets_are_checked_by_themselves() {
    let tiny = Tiny::initialised();
    let private = "use private addresses, such as 10.0.0.0/8 (RFC 1918) or fd00::/8 (RFC 4193)";
    for (given, message, hint) in [
        (&["10.3.0.5/24"][..], "10.3.0.5/24 has host bits set", "did you mean 10.3.0.0/24?"),
        (&["fd00::1/64"], "fd00::1/64 has host bits set", "did you mean fd00::/64?"),
        (
            &["10.3.0.0/30"],
            "10.3.0.0/30 has a prefix length that cannot be used",
            "IPv4 subnets may be from /8 to /29",
        ),
        (
            &["16.0.0.0/7"],
            "16.0.0.0/7 has a prefix length that cannot be used",
            "IPv4 subnets may be from /8 to /29",
        ),
        (
            &["fd00::/63"],
            "fd00::/63 has a prefix length that cannot be used",
            "IPv6 subnets may be from /64 to /120",
        ),
        (
            &["10.3.0.0/24", "fd00::/121"],
            "fd00::/121 has a prefix length that cannot be used",
            "IPv6 subnets may be from /64 to /120",
        ),
        (
            &["127.1.0.0/16"],
            "127.1.0.0/16 overlaps with 127.0.0.0/8, the loopback addresses",
            private,
        ),
        (
            &["169.254.7.0/24"],
            "169.254.7.0/24 overlaps with 169.254.0.0/16, the link-local addresses",
            private,
        ),
        (
            &["239.0.0.0/24"],
            "239.0.0.0/24 overlaps with 224.0.0.0/3, the multicast and reserved addresses",
            private,
        ),
        (
            &["0.0.0.0/8"],
            "0.0.0.0/8 overlaps with 0.0.0.0/8, the addresses that stand for no host",
            private,
        ),
        (
            &["::/64"],
            "::/64 overlaps with ::/80, the unspecified, loopback and IPv4-mapped addresses",
            private,
        ),
        (
            &["fe80:0:0:7::/64"],
            "fe80:0:0:7::/64 overlaps with fe80::/10, the link-local addresses",
            private,
        ),
        (&["ff02::/64"], "ff02::/64 overlaps with ff00::/8, the multicast addresses", private),
        (
            &["10.3.0.0/24", "10.4.0.0/24"],
            "10.3.0.0/24 and 10.4.0.0/24 are both IPv4",
            "a network has at most one subnet per address family",
        ),
        (
            &["fd01::/64", "10.4.0.0/24", "fd02::/64"],
            "fd01::/64 and fd02::/64 are both IPv6",
            "a network has at most one subnet per address family",
        ),
    ] {
        let command = Command::CreateNetwork(create(1, "web", given));
        refused(&tiny, command, (Code::Invalid, "--subnet", message, hint));
    }
}

#[test]
fn options_are_checked() {
    let tiny = Tiny::initialised();
    let web = || create(1, "web", &["10.3.0.0/24"]);
    for mtu in [0, 1279, 65001] {
        refused(
            &tiny,
            Command::CreateNetwork(CreateNetwork { mtu: Some(mtu), ..web() }),
            (
                Code::Invalid,
                "--mtu",
                &format!("an MTU of {mtu} is out of range"),
                "give 1280 to 65000, or leave it out: it then follows the path between the hosts",
            ),
        );
    }
    for mtu in [1280, 65000] {
        let wish = CreateNetwork { mtu: Some(mtu), ..web() };
        assert!(apply(tiny.now(), Command::CreateNetwork(wish)).is_ok());
    }
    refused(
        &tiny,
        Command::CreateNetwork(CreateNetwork { allow_overlap: true, ..web() }),
        (
            Code::Invalid,
            "--allow-overlap",
            "only an internal network may overlap with others",
            "add --internal, or leave out --allow-overlap",
        ),
    );
}

#[test]
fn names_are_given_once() {
    let mut tiny = Tiny::initialised();
    let made = make(&mut tiny, create(1, "web", &["10.3.0.0/24"]));
    let words = (
        Code::Exists,
        "NAME",
        "there is a network 'web' already",
        "choose another name, or remove it first: `weft network rm web`",
    );
    refused(&tiny, Command::CreateNetwork(create(2, "web", &["10.4.0.0/24"])), words);
    refused(&tiny, Command::CreateNetwork(create(2, "WEB", &["10.4.0.0/24"])), words);
    refused(
        &tiny,
        Command::CreateNetwork(create(1, "db", &["10.4.0.0/24"])),
        (
            Code::Exists,
            "id",
            "there is another network 0000000000000001",
            "try again: networks get random identifiers",
        ),
    );
    let again = apply(tiny.now(), Command::CreateNetwork(create(1, "web", &["10.3.0.0/24"])));
    let (transaction, outcome) = again.unwrap();
    assert!(transaction.is_empty());
    assert_eq!(outcome, Outcome::Network(made));
}

#[test]
fn overlaps_are_refused_unless_both_sides_allow_them() {
    let mut tiny = Tiny::initialised();
    make(&mut tiny, create(1, "web", &["10.3.0.0/16", "fd03::/64"]));
    let overlapping = |internal, allow_overlap| {
        let wish = create(2, "db", &["10.3.7.0/24"]);
        Command::CreateNetwork(CreateNetwork { internal, allow_overlap, ..wish })
    };
    let message = "10.3.7.0/24 overlaps with subnet 10.3.0.0/16 of network 'web'";
    let free = "choose another subnet, or leave out --subnet to get a free one";
    refused(&tiny, overlapping(true, false), (Code::Overlap, "--subnet", message, free));
    refused(
        &tiny,
        overlapping(true, true),
        (
            Code::Overlap,
            "--subnet",
            message,
            "choose another subnet: network 'web' does not allow overlaps",
        ),
    );
    tiny.run(Command::RemoveNetwork(NetworkId(1))).unwrap();
    let both = |wish| CreateNetwork { internal: true, allow_overlap: true, ..wish };
    make(&mut tiny, both(create(1, "web", &["10.3.0.0/16", "fd03::/64"])));
    tiny.run(overlapping(true, true)).unwrap();
    let six = Command::CreateNetwork(create(3, "six", &["fd03::/96"]));
    let message = "fd03::/96 overlaps with subnet fd03::/64 of network 'web'";
    refused(&tiny, six, (Code::Overlap, "--subnet", message, free));
}

#[test]
fn hosts_come_first() {
    let mut tiny = Tiny::initialised();
    tiny.run(join(2)).unwrap();
    let occupied = vec![
        ("192.168.0.0/16".parse().unwrap(), "node a, link eth0".to_owned()),
        ("172.17.0.0/16".parse().unwrap(), "node a, link docker0".to_owned()),
    ];
    let wish =
        |subnet: &str| CreateNetwork { occupied: occupied.clone(), ..create(1, "web", &[subnet]) };
    let free = "choose another subnet, or leave out --subnet to get a free one";
    refused(
        &tiny,
        Command::CreateNetwork(wish("172.17.3.0/24")),
        (
            Code::Overlap,
            "--subnet",
            "172.17.3.0/24 overlaps with the route 172.17.0.0/16 of a host (node a, link docker0)",
            free,
        ),
    );
    refused(
        &tiny,
        Command::CreateNetwork(wish("10.0.0.0/24")),
        (
            Code::Overlap,
            "--subnet",
            "10.0.0.0/24 holds the data address 10.0.0.1 of node 'node-1'",
            free,
        ),
    );
    let asked = CreateNetwork { internal: true, allow_overlap: true, ..wish("172.17.3.0/24") };
    make(&mut tiny, asked);
}

#[test]
fn subnets_come_from_the_pools_around_everything_else() {
    let mut tiny = Tiny::initialised();
    make(&mut tiny, create(1, "given", &["10.96.0.0/27"]));
    let cut = |id, name: &str, ipv6| CreateNetwork { ipv6, ..create(id, name, &[]) };
    let occupied = vec![("10.96.0.32/28".parse().unwrap(), "node a, link eth0".to_owned())];
    let network = make(&mut tiny, CreateNetwork { occupied, ..cut(2, "two", true) });
    assert_eq!(subnets(&network), ["10.96.0.48/28", "fd96::/120"]);
    assert_eq!(
        subnets(&make(&mut tiny, cut(3, "three", true))),
        ["10.96.0.32/28", "fd96::100/120"]
    );
    // What is missing is cut, what is given is kept.
    let half = CreateNetwork { ipv6: true, ..create(4, "four", &["10.4.0.0/24"]) };
    assert_eq!(subnets(&make(&mut tiny, half)), ["10.4.0.0/24", "fd96::200/120"]);
    let turned = make(&mut tiny, create(5, "five", &["fd05::/64", "10.5.0.0/24"]));
    assert_eq!(subnets(&turned), ["10.5.0.0/24", "fd05::/64"]);
    for id in 6..18 {
        make(&mut tiny, cut(id, &format!("net-{id}"), false));
    }
    refused(
        &tiny,
        Command::CreateNetwork(cut(99, "more", false)),
        (
            Code::Exhausted,
            "--subnet",
            "no subnet is left in the cluster's IPv4 address pools (10.96.0.0/24)",
            "remove a network, or give an IPv4 subnet with --subnet",
        ),
    );
}

#[test]
fn a_family_without_a_pool_must_be_given() {
    let mut tiny = Tiny::initialised();
    let mut cluster = tiny.now().cluster.clone().unwrap();
    cluster.pools.retain(|pool| pool.prefix.addr().is_ipv4());
    let state = tiny.states.last_mut().unwrap();
    state.put(Row::Cluster(cluster), state.generation);
    refused(
        &tiny,
        Command::CreateNetwork(CreateNetwork { ipv6: true, ..create(1, "web", &[]) }),
        (
            Code::Exhausted,
            "--subnet",
            "the cluster has no IPv6 address pool to take a subnet from",
            "give an IPv6 subnet with --subnet",
        ),
    );
}

#[test]
fn vnis_are_unique_and_a_freed_one_rests() {
    let mut tiny = Tiny::initialised();
    let first = make(&mut tiny, create(1, "a", &["10.3.0.0/24"]));
    assert_eq!(first.vni, Vni::FIRST);
    let second = make(&mut tiny, create(2, "b", &["10.4.0.0/24"]));
    assert_ne!(second.vni, first.vni);
    for round in 0..20 {
        tiny.run(Command::RemoveNetwork(NetworkId(2 + round))).unwrap();
        let freed = tiny.states[tiny.states.len() - 2].networks[&NetworkId(2 + round)].vni;
        let next = make(&mut tiny, create(3 + round, "b", &["10.4.0.0/24"]));
        assert_ne!(next.vni, freed);
        assert_ne!(next.vni, first.vni);
    }
}

#[test]
fn vnis_wrap_around_and_end() {
    let mut tiny = Tiny::initialised();
    let web = make(&mut tiny, create(1, "web", &["10.3.0.0/24"]));
    let state = tiny.states.last_mut().unwrap();
    let generation = state.generation;
    for vni in Vni::FIRST.get() + 2..=Vni::LAST.get() {
        let id = NetworkId(u64::from(vni));
        let (vni, name) = (Vni::new(vni).unwrap(), format!("n-{vni}").parse().unwrap());
        state.networks.insert(id, Network { id, vni, name, subnets: Vec::new(), ..web.clone() });
    }
    state.written.insert(RowKey::Guard(Guard::Networks), weft_model::Generation(65_535 + 7));
    state.generation = generation;
    assert_eq!(make(&mut tiny, create(2, "b", &["10.4.0.0/24"])).vni.get(), Vni::FIRST.get() + 1);
    refused(
        &tiny,
        Command::CreateNetwork(create(3, "c", &["10.5.0.0/24"])),
        (
            Code::Exhausted,
            "NAME",
            "all 65536 VXLAN network identifiers are in use",
            "remove a network: `weft network rm`",
        ),
    );
}

#[test]
fn a_network_in_use_stays_and_an_unused_one_takes_its_leases_along() {
    let mut tiny = Tiny::busy();
    let network = tiny.network(1).clone();
    let ids: Vec<(u64, u64)> = [(1, 1), (2, 2), (3, 3), (1, 4)].into_iter().collect();
    for (node, id) in &ids {
        let nth = usize::from(*id == 4);
        let offset = tiny.lease(1, *node).offsets.iter().nth(nth).unwrap().0;
        tiny.run(Command::PutEndpoint(endpoint(&network, *node, *id, offset))).unwrap();
    }
    refused(
        &tiny,
        Command::RemoveNetwork(NetworkId(1)),
        (
            Code::Busy,
            "NAME",
            "network 'net-1' is used by 'c-1' on node 'node-1', 'c-2' on node 'node-2', \
             'c-3' on node 'node-3' and 1 more",
            "detach the containers first: `weft detach`",
        ),
    );
    for (_, id) in &ids[1..] {
        tiny.run(common::delete(1, *id)).unwrap();
    }
    refused(
        &tiny,
        Command::RemoveNetwork(NetworkId(1)),
        (
            Code::Busy,
            "NAME",
            "network 'net-1' is used by 'c-1' on node 'node-1'",
            "detach the containers first: `weft detach`",
        ),
    );
    tiny.run(common::delete(1, 1)).unwrap();
    tiny.run(Command::RemoveNetwork(NetworkId(1))).unwrap();
    assert_eq!(tiny.now().leases_of(NetworkId(1)).count(), 0);
    assert_eq!(tiny.revision_of(RowKey::Guard(Guard::Leases(NetworkId(1)))), None);
    assert!(apply(tiny.now(), Command::RemoveNetwork(NetworkId(1))).unwrap().0.is_empty());
    refused(
        &tiny,
        lease(1, 1, &[], 1),
        (
            Code::NotFound,
            "--network",
            "there is no network 0000000000000001",
            "see `weft network ls`, or create it with `weft network create`",
        ),
    );
}
