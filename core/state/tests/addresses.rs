//! Leases and endpoints: who gets which addresses, and with which words others are refused.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Tiny, create, delete, endpoint, ip, join, lease, name, refused, release};
use weft_model::{
    ClusterState, Endpoint, Lease, Mac, Network, NetworkId, NodeId, Offset, OffsetSet, RowKey,
};
use weft_state::rejection::Code;
use weft_state::{Command, Outcome, apply, choose, offset_for, recallable};

/// Nodes 1 to 3, and network 1 ('web').
fn web(subnets: &[&str]) -> Tiny {
    let mut tiny = Tiny::initialised();
    tiny.run(join(2)).unwrap();
    tiny.run(join(3)).unwrap();
    tiny.run(Command::CreateNetwork(create(1, "web", subnets))).unwrap();
    tiny
}

fn granted(tiny: &mut Tiny, command: Command) -> (u64, String) {
    match tiny.run(command).unwrap() {
        Outcome::Lease(lease) => (lease.node_offset.0, lease.offsets.to_string()),
        other => panic!("{other:?}"),
    }
}

fn attach(tiny: &mut Tiny, node: u64, id: u64, offset: u64) {
    let endpoint = endpoint(tiny.network(1), node, id, offset);
    tiny.run(Command::PutEndpoint(endpoint)).unwrap();
}

fn set(text: &str) -> OffsetSet {
    text.parse().unwrap()
}

#[test]
fn containers_get_the_bottom_and_nodes_the_top() {
    let mut tiny = web(&["10.3.0.0/24", "fd03::/64"]);
    assert_eq!(granted(&mut tiny, lease(1, 1, &[], 0)), (254, String::new()), "takes part only");
    // 251 are free, for three nodes: a share is 251 / 12.
    assert_eq!(granted(&mut tiny, lease(1, 2, &[], 1)), (253, "2-21".to_owned()));
    assert_eq!(granted(&mut tiny, lease(1, 3, &[], 40)), (252, "22-61".to_owned()));
    assert_eq!(granted(&mut tiny, lease(1, 1, &[], 1)), (254, "62-76".to_owned()));
    assert_eq!(granted(&mut tiny, lease(1, 1, &[200], 9)), (254, "62-76,200".to_owned()));
}

#[test]
fn a_share_is_never_large_and_never_nothing() {
    let mut large = web(&["11.0.0.0/8"]);
    assert_eq!(granted(&mut large, lease(1, 1, &[], 1)), ((1 << 24) - 2, "2-65".to_owned()));
    assert_eq!(granted(&mut large, lease(1, 2, &[], 5000)).1, "66-1089", "at most 1,024 at once");
    let mut small = web(&["10.3.0.0/29"]);
    assert_eq!(granted(&mut small, lease(1, 1, &[], 1)), (6, "2".to_owned()));
    assert_eq!(granted(&mut small, lease(1, 2, &[], 9)), (5, "3-4".to_owned()), "all there is");
}

#[test]
fn a_network_of_ipv6_alone_works_alike() {
    let mut tiny = web(&["fd03::/64"]);
    assert_eq!(granted(&mut tiny, lease(1, 1, &[], 1)), (u64::MAX, "2-65".to_owned()));
    assert_eq!(granted(&mut tiny, lease(1, 2, &[], 1)), (u64::MAX - 1, "66-129".to_owned()));
    let far = 0x1234_5678_9abc_def0;
    assert_eq!(granted(&mut tiny, lease(1, 2, &[far], 0)).1, format!("66-129,{far}"));
    attach(&mut tiny, 2, 7, far);
    let mac = tiny.now().endpoints_of(NetworkId(1)).next().unwrap().mac;
    assert_eq!(mac.0[0], 6, "hashed: {mac}");
}

#[test]
fn positions_whose_macs_collide_are_not_both_given() {
    let mut tiny = web(&["fd03::/64"]);
    let vni = tiny.network(1).vni;
    let mut seen = std::collections::BTreeMap::new();
    let mac = |offset| Mac::of_endpoint(vni, Offset(offset));
    let pair = (1_u64 << 32..).find_map(|o| seen.insert(mac(o), o).map(|other| (other, o)));
    let (one, two) = pair.unwrap();
    granted(&mut tiny, lease(1, 1, &[one], 0));
    let address = tiny.network(1).addresses(Offset(two))[0];
    let words = (
        Code::Busy,
        "--ip",
        &*format!("{address} would get a MAC address that is in use"),
        "choose another address, or leave out --ip",
    );
    refused(&tiny, lease(1, 1, &[two], 0), words);
    refused(&tiny, lease(1, 2, &[two], 0), words);
    let mut both = web(&["fd03::/64"]);
    assert_eq!(both.network(1).vni, vni);
    assert!(both.run(lease(1, 1, &[one, two], 0)).is_err());
    assert_eq!(weft_state::invariants(both.now()), Vec::<String>::new());
}

#[test]
fn wanted_addresses_are_given_or_refused_with_the_reason() {
    let mut tiny = web(&["10.3.0.0/24"]);
    granted(&mut tiny, lease(1, 1, &[], 1));
    granted(&mut tiny, lease(1, 2, &[50], 0));
    attach(&mut tiny, 1, 7, 5);
    let other = "choose another address, or leave out --ip";
    for (offset, code, message, hint) in [
        (0, Code::Reserved, "10.3.0.0 is kept for network 'web' itself", other),
        (1, Code::Reserved, "10.3.0.1 is kept for the gateway of network 'web'", other),
        (255, Code::Reserved, "10.3.0.255 is kept for broadcasts in network 'web'", other),
        (
            254,
            Code::Reserved,
            "10.3.0.254 is kept for node 'node-1' itself in network 'web'",
            other,
        ),
        (
            256,
            Code::Outside,
            "position 256 is outside of network 'web'",
            "choose an address in 10.3.0.0/24",
        ),
        (5, Code::Busy, "10.3.0.5 is used by 'c-7' on node 'node-1'", other),
        (
            6,
            Code::Busy,
            "10.3.0.6 is leased to node 'node-1', which does not use it",
            "try again in a moment, choose another address, or leave out --ip",
        ),
    ] {
        refused(&tiny, lease(1, 2, &[60, offset], 0), (code, "--ip", message, hint));
        // By the one who takes part only now, too.
        refused(&tiny, lease(1, 3, &[offset], 0), (code, "--ip", message, hint));
    }
    // What it holds already, it is given again.
    assert!(apply(tiny.now(), lease(1, 1, &[5, 6], 0)).unwrap().0.is_empty());
    // Who wants the topmost free address gets it, and another one for itself.
    assert_eq!(granted(&mut tiny, lease(1, 3, &[252, 252], 0)), (251, "252".to_owned()));
}

#[test]
fn addresses_are_found_their_positions() {
    let mut tiny = web(&["10.3.0.0/24", "fd03::/64"]);
    let network = tiny.network(1).clone();
    assert_eq!(offset_for(&network, ip("10.3.0.7")), Ok(Offset(7)));
    assert_eq!(offset_for(&network, ip("fd03::7")), Ok(Offset(7)));
    assert_eq!(offset_for(&network, ip("fd03::7777")), Ok(Offset(0x7777)));
    for (address, code, message) in [
        ("10.9.0.7", Code::Outside, "10.9.0.7 is outside of network 'web'"),
        ("fd09::7", Code::Outside, "fd09::7 is outside of network 'web'"),
        ("fd03::", Code::Reserved, "10.3.0.0 and fd03:: are kept for network 'web' itself"),
        (
            "fd03::1",
            Code::Reserved,
            "10.3.0.1 and fd03::1 are kept for the gateway of network 'web'",
        ),
    ] {
        let rejection = offset_for(&network, ip(address)).unwrap_err();
        assert_eq!((rejection.code, rejection.message.as_str()), (code, message));
    }
    // An IPv6 address of its own beside the IPv4 one.
    assert_eq!(granted(&mut tiny, lease(1, 2, &[7, 0x7777], 0)).1, "7,30583");
    let both = Endpoint {
        addresses: vec![ip("10.3.0.7"), ip("fd03::7777")],
        ..endpoint(&network, 2, 1, 7)
    };
    tiny.run(Command::PutEndpoint(both)).unwrap();
    assert_eq!(weft_state::invariants(tiny.now()), Vec::<String>::new());
}

#[test]
fn a_full_network_says_what_is_used_and_what_is_idle() {
    let mut tiny = web(&["10.3.0.0/28"]);
    granted(&mut tiny, lease(1, 1, &[], 5));
    granted(&mut tiny, lease(1, 2, &[], 6));
    attach(&mut tiny, 1, 1, 2);
    attach(&mut tiny, 2, 2, 7);
    refused(
        &tiny,
        lease(1, 1, &[], 1),
        (
            Code::Exhausted,
            "--network",
            "network 'web' (10.3.0.0/28) has no address left: 2 are in use, 9 are leased to nodes \
             that do not use them",
            "detach containers, or make a network with a larger subnet",
        ),
    );
    refused(
        &tiny,
        lease(1, 3, &[], 0),
        (
            Code::Exhausted,
            "--network",
            "network 'web' (10.3.0.0/28) has no address left for node 'node-3' itself",
            "detach containers, or make a network with a larger subnet",
        ),
    );
    let unused = |node, wanted: &[u64], count| {
        let wanted: Vec<Offset> = wanted.iter().map(|o| Offset(*o)).collect();
        recallable(tiny.now(), NetworkId(1), NodeId(node), &wanted, count)
    };
    let (first, second) = ((NodeId(1), set("3-6")), (NodeId(2), set("8-12")));
    assert_eq!(unused(3, &[], 1), std::slice::from_ref(&second), "whoever has most");
    assert_eq!(unused(3, &[], 6), [second, first.clone()]);
    assert_eq!(unused(2, &[], 6), [first], "others only");
    assert_eq!(unused(3, &[], 0), []);
    assert_eq!(unused(3, &[4, 9, 2, 13], 0), [(NodeId(1), set("4")), (NodeId(2), set("9"))]);
    assert_eq!(unused(1, &[4], 0), []);
    assert_eq!(recallable(tiny.now(), NetworkId(9), NodeId(1), &[], 1), []);
    // What comes back can be had.
    tiny.run(release(1, 2, "8-12", false)).unwrap();
    assert_eq!(granted(&mut tiny, lease(1, 3, &[], 1)).0, 12);
}

#[test]
fn what_is_used_is_not_given_back() {
    let mut tiny = web(&["10.3.0.0/24", "fd03::/64"]);
    granted(&mut tiny, lease(1, 1, &[], 1));
    granted(&mut tiny, lease(1, 2, &[100], 1));
    attach(&mut tiny, 1, 7, 5);
    refused(
        &tiny,
        release(1, 1, "2-8", false),
        (
            Code::Busy,
            "offsets",
            "10.3.0.5 and fd03::5 cannot be given back while 'c-7' uses 10.3.0.5 and fd03::5",
            "detach the container first: `weft detach`",
        ),
    );
    refused(
        &tiny,
        release(1, 1, "", true),
        (
            Code::Busy,
            "offsets",
            "network 'web' cannot be left while 'c-7' uses 10.3.0.5 and fd03::5",
            "detach the container first: `weft detach`",
        ),
    );
    // What others hold, or nobody, stays as it is; asked for all there is, it still ends.
    let all = release(1, 1, "6-18446744073709551615", false);
    assert_eq!(granted(&mut tiny, all.clone()), (254, "2-5".to_owned()));
    assert_eq!(tiny.lease(1, 2).offsets, set("100"));
    assert!(apply(tiny.now(), all).unwrap().0.is_empty());
    tiny.run(delete(1, 7)).unwrap();
    assert_eq!(tiny.run(release(1, 1, "", true)), Ok(Outcome::Done));
    assert!(!tiny.now().leases.contains_key(&(NetworkId(1), NodeId(1))));
    assert!(apply(tiny.now(), release(1, 1, "", true)).unwrap().0.is_empty());
    assert!(apply(tiny.now(), release(9, 1, "2", false)).unwrap().0.is_empty());
}

#[test]
fn an_endpoint_must_fit_its_lease() {
    let mut tiny = web(&["10.3.0.0/24", "fd03::/64"]);
    granted(&mut tiny, lease(1, 1, &[], 1));
    granted(&mut tiny, lease(1, 2, &[100], 0));
    attach(&mut tiny, 1, 7, 5);
    let network = tiny.network(1).clone();
    let good = endpoint(&network, 1, 8, 6);
    let refuse = |endpoint: Endpoint, code, field, message: &str, hint: &str| {
        refused(&tiny, Command::PutEndpoint(endpoint), (code, field, message, hint));
    };
    let each = "give one address in each of, and in this order: 10.3.0.0/24, fd03::/64";
    for (addresses, given) in [
        (vec![], ""),
        (vec![ip("10.3.0.6")], "10.3.0.6"),
        (vec![ip("fd03::6"), ip("10.3.0.6")], "fd03::6, 10.3.0.6"),
        (vec![ip("10.3.0.6"), ip("fd04::6")], "10.3.0.6, fd04::6"),
        (vec![ip("10.3.0.6"), ip("fd03::6"), ip("fd03::7")], "10.3.0.6, fd03::6, fd03::7"),
    ] {
        let message =
            format!("'c-8' must have one address in each subnet of network 'web', not [{given}]");
        let endpoint = Endpoint { addresses, ..good.clone() };
        refuse(endpoint, Code::Invalid, "--ip", &message, each);
    }
    let ask = "ask for a lease of this address first";
    let foreign = endpoint(&network, 1, 8, 100);
    let message = "10.3.0.100 is not leased to the node of 'c-8'";
    refuse(foreign, Code::Denied, "--ip", message, ask);
    let half = Endpoint { addresses: vec![ip("10.3.0.6"), ip("fd03::64")], ..good.clone() };
    refuse(half, Code::Denied, "--ip", "fd03::64 is not leased to the node of 'c-8'", ask);
    let gateway = endpoint(&network, 1, 8, 1);
    refuse(
        gateway,
        Code::Reserved,
        "--ip",
        "10.3.0.1 and fd03::1 are kept for the gateway of network 'web'",
        "choose another address, or leave out --ip",
    );
    let mac = Endpoint { mac: Mac([2, 0, 0, 0, 0, 7]), ..good.clone() };
    refuse(
        mac,
        Code::Invalid,
        "mac",
        "'c-8' cannot have the MAC address 02:00:00:00:00:07",
        "at its address it is 02:00:00:00:00:06",
    );
    refuse(
        Endpoint { id: weft_model::EndpointId(9), ..endpoint(&network, 1, 7, 5) },
        Code::Busy,
        "--ip",
        "10.3.0.5 is used by 'c-7' on node 'node-1'",
        "choose another address, or leave out --ip",
    );
    let six = Endpoint { addresses: vec![ip("10.3.0.6"), ip("fd03::5")], ..good.clone() };
    refuse(
        six,
        Code::Busy,
        "--ip",
        "fd03::5 is used by 'c-7' on node 'node-1'",
        "choose another address, or leave out --ip",
    );
    refuse(
        endpoint(&network, 2, 7, 100),
        Code::Denied,
        "endpoint",
        "endpoint 0000000000000007 belongs to node 'node-1'",
        "a node writes its own endpoints only",
    );
    refuse(
        endpoint(&network, 3, 8, 6),
        Code::Denied,
        "--network",
        "node 'node-3' does not take part in network 'web'",
        "ask for a lease first",
    );
    assert!(apply(tiny.now(), Command::PutEndpoint(good)).is_ok());
}

#[test]
fn lists_in_endpoints_have_an_end() {
    let mut tiny = web(&["10.3.0.0/24"]);
    granted(&mut tiny, lease(1, 1, &[], 1));
    let good = endpoint(tiny.network(1), 1, 8, 6);
    let aliases = Endpoint { aliases: vec![name("a"); 65], ..good.clone() };
    refused(
        &tiny,
        Command::PutEndpoint(aliases),
        (Code::Invalid, "--alias", "65 aliases are too many", "give at most 64"),
    );
    let sources = vec!["10.9.0.0/16".parse().unwrap(); 65];
    let sources = Endpoint { allow_source: sources, ..good.clone() };
    refused(
        &tiny,
        Command::PutEndpoint(sources),
        (Code::Invalid, "--allow-source", "65 source prefixes are too many", "give at most 64"),
    );
    let bits = Endpoint { allow_source: vec!["10.9.0.1/16".parse().unwrap()], ..good };
    refused(
        &tiny,
        Command::PutEndpoint(bits),
        (
            Code::Invalid,
            "--allow-source",
            "10.9.0.1/16 has host bits set",
            "did you mean 10.9.0.0/16?",
        ),
    );
}

#[test]
fn an_endpoint_may_change_and_its_lease_notices_when_it_must() {
    let mut tiny = web(&["10.3.0.0/24"]);
    granted(&mut tiny, lease(1, 1, &[], 1));
    attach(&mut tiny, 1, 7, 5);
    let network = tiny.network(1).clone();
    let key = RowKey::Lease(network.id, NodeId(1));
    let then = tiny.revision_of(key);
    let same = endpoint(&network, 1, 7, 5);
    assert!(apply(tiny.now(), Command::PutEndpoint(same.clone())).unwrap().0.is_empty());
    let louder = Endpoint { name: name("C-7"), ..same.clone() };
    tiny.run(Command::PutEndpoint(louder)).unwrap();
    let stored = |state: &ClusterState| state.endpoints_of(network.id).next().unwrap().clone();
    assert_eq!(stored(tiny.now()).name.as_str(), "C-7", "a change of case is a change");
    assert_eq!(tiny.revision_of(key), then, "no address has changed");
    tiny.run(Command::PutEndpoint(endpoint(&network, 1, 7, 6))).unwrap();
    assert_eq!(tiny.revision_of(key), Some(tiny.now().generation));
    assert_eq!(stored(tiny.now()).addresses, [ip("10.3.0.6")]);
}

#[test]
fn agents_choose_the_lowest_that_is_free_and_cold() {
    let tiny = web(&["10.3.0.0/24", "fd03::/64"]);
    let network: &Network = tiny.network(1);
    let lease = Lease {
        network: network.id,
        node: NodeId(1),
        node_offset: Offset(254),
        offsets: set("5-7,9,300"),
    };
    let choose = |used, cooling| choose(network, &lease, &set(used), &set(cooling));
    assert_eq!(choose("", ""), Some(Offset(5)));
    assert_eq!(choose("5", "6"), Some(Offset(7)));
    assert_eq!(choose("5-7", ""), Some(Offset(9)));
    assert_eq!(choose("5-7", "9"), None, "300 is not in both subnets");
}
