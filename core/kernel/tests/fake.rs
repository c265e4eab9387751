//! The fake kernel behaves like Linux where steps can go wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use weft_kernel::fake::Times;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Chain, Equal, Field, Match, Rule, Set, Statement};
use weft_kernel::object::{Link, LinkKind, Port, Route};
use weft_kernel::{
    FakeKernel, FaultKind, FdbTable, KernelState, Key, Netns, NetnsId, Object, Scope, Step,
    TableName,
};

const BOX: Netns = Netns::Container(NetnsId(7));

fn host(name: &str) -> Key {
    Key::Link(Netns::Host, name.into())
}

fn plain(kind: LinkKind, bridge: Option<&str>) -> Link {
    let port =
        bridge.map(|bridge| Port { bridge: bridge.into(), neigh_suppress: true, locked: true });
    Link { kind, mac: [2, 0, 0, 0, 0, 1], mtu: 1450, alias: "weft".into(), port }
}

fn link(kind: LinkKind, bridge: Option<&str>) -> Object {
    Object::Link(plain(kind, bridge))
}

fn veth(peer: &str, bridge: Option<&str>) -> Object {
    link(LinkKind::Veth { peer_netns: BOX, peer: peer.into() }, bridge)
}

fn vxlan(vni: u32) -> LinkKind {
    LinkKind::Vxlan { vni, local: [172, 10, 0, 1].into(), port: 4789 }
}

fn table() -> TableName {
    TableName { family: NftFamily::Inet, name: "weft".into() }
}

fn put(kernel: &mut FakeKernel, key: Key, object: Object) -> Result<(), i32> {
    kernel.apply(&[Step::Put(key, object)]).remove(0).map_err(|fault| fault.errno)
}

fn delete(kernel: &mut FakeKernel, key: Key) -> Result<(), i32> {
    kernel.apply(&[Step::Delete(key)]).remove(0).map_err(|fault| fault.errno)
}

fn address(ns: Netns, link: &str, net: &str) -> Key {
    Key::Address(ns, link.into(), net.parse().unwrap())
}

fn route(ns: Netns, net: &str, link: &str) -> Key {
    Key::Route(ns, net.parse().unwrap(), link.into())
}

/// A bridge with a VXLAN device and a veth into a container.
fn built() -> FakeKernel {
    let mut kernel = FakeKernel::new();
    kernel.add_netns(NetnsId(7));
    let remote = "172.10.0.2".parse().unwrap();
    for (key, object) in [
        (host("wb-1"), link(LinkKind::Bridge, None)),
        (host("we-1"), veth("eth0", Some("wb-1"))),
        (host("wv-1"), link(vxlan(1), Some("wb-1"))),
        (address(Netns::Host, "wb-1", "10.1.0.1/24"), Object::Address),
        (address(Netns::Host, "wb-1", "fd00::1/64"), Object::Address),
        (address(BOX, "eth0", "10.1.0.2/24"), Object::Address),
        (Key::Up(Netns::Host, "wb-1".into()), Object::Up),
        (Key::Up(BOX, "eth0".into()), Object::Up),
        (Key::Neighbour("wb-1".into(), "10.1.0.9".parse().unwrap()), Object::Neighbour([9; 6])),
        (Key::Fdb("we-1".into(), FdbTable::Bridge, [2; 6]), Object::Fdb(None)),
        (Key::Fdb("wv-1".into(), FdbTable::Device, [9; 6]), Object::Fdb(Some(remote))),
        (Key::Fdb("wv-1".into(), FdbTable::Bridge, [9; 6]), Object::Fdb(None)),
        (Key::Flood("wv-1".into(), remote), Object::Flood),
        (Key::Sysctl(BOX, "net/ipv6/conf/eth0/accept_ra".into()), Object::Sysctl("0".into())),
    ] {
        put(&mut kernel, key, object).unwrap();
    }
    kernel
}

fn keys(state: &KernelState) -> Vec<Key> {
    state.iter().map(|(key, _)| key.clone()).collect()
}

/// A refused step has changed nothing.
#[track_caller]
fn refused(kernel: &mut FakeKernel, key: Key, object: Object, errno: i32) {
    let before = kernel.observe();
    assert_eq!(put(kernel, key, object), Err(errno));
    assert_eq!(kernel.observe(), before);
}

#[test]
fn what_has_no_ground_is_refused() {
    let mut kernel = built();
    let gone = "wb-9";
    refused(&mut kernel, address(Netns::Host, gone, "10.9.0.1/24"), Object::Address, 19);
    refused(&mut kernel, Key::Up(Netns::Host, gone.into()), Object::Up, 19);
    refused(&mut kernel, host("we-9"), veth("eth9", Some(gone)), 19);
    refused(&mut kernel, Key::Link(BOX, "eth9".into()), link(LinkKind::VethPeer, None), 19);
    let neighbour = Key::Neighbour(gone.into(), "10.1.0.9".parse().unwrap());
    refused(&mut kernel, neighbour, Object::Neighbour([1; 6]), 19);
    let sysctl = Key::Sysctl(BOX, "net/ipv6/conf/eth9/accept_ra".into());
    refused(&mut kernel, sysctl, Object::Sysctl("0".into()), 2);
    refused(&mut kernel, Key::Set(table(), "s".into()), Object::Set(Set { of: vec![] }), 2);
    let foreign = Key::ForeignRule(table(), "FORWARD".into(), "accept".into());
    let rule = Rule { matches: vec![], statements: vec![], comment: String::new() };
    refused(&mut kernel, foreign, Object::ForeignRule(rule), 2);
    refused(&mut kernel, host("x"), Object::Up, 22);
}

#[test]
fn rows_and_routes_need_more_than_a_link() {
    let mut kernel = built();
    let to_host = Key::Fdb("we-1".into(), FdbTable::Device, [1; 6]);
    refused(&mut kernel, to_host, Object::Fdb(Some([1, 1, 1, 1].into())), 95);
    put(&mut kernel, host("we-2"), veth("eth1", None)).unwrap();
    refused(&mut kernel, Key::Fdb("we-2".into(), FdbTable::Bridge, [1; 6]), Object::Fdb(None), 95);
    let on_link = |source: Option<&str>| {
        Object::Route(Route { via: None, source: source.map(|ip| ip.parse().unwrap()) })
    };
    refused(&mut kernel, route(BOX, "0.0.0.0/0", "eth1"), on_link(None), 100);
    refused(&mut kernel, route(BOX, "0.0.0.0/0", "eth0"), on_link(Some("10.1.0.3")), 22);
    let via = Route { via: Some("10.2.0.1".parse().unwrap()), source: None };
    refused(&mut kernel, route(BOX, "0.0.0.0/0", "eth0"), Object::Route(via.clone()), 101);
    put(&mut kernel, route(BOX, "10.2.0.0/24", "eth0"), on_link(None)).unwrap();
    put(&mut kernel, route(BOX, "0.0.0.0/0", "eth0"), Object::Route(via)).unwrap();
}

#[test]
fn places_are_taken_once() {
    let mut kernel = built();
    refused(&mut kernel, host("wb-1"), link(vxlan(9), None), 17);
    refused(&mut kernel, host("wv-2"), link(vxlan(1), None), 17);
    refused(&mut kernel, host("we-2"), veth("eth0", None), 17);
    refused(&mut kernel, address(Netns::Host, "wb-1", "fd00::1/48"), Object::Address, 17);
    put(&mut kernel, address(Netns::Host, "wb-1", "10.1.0.1/16"), Object::Address).unwrap();
}

#[test]
fn a_bridge_has_1023_ports() {
    let mut kernel = built();
    for n in 2..1023 {
        put(&mut kernel, host(&format!("we-{n}")), veth(&format!("eth{n}"), Some("wb-1"))).unwrap();
    }
    refused(&mut kernel, host("we-9999"), veth("eth9999", Some("wb-1")), 54);
    put(&mut kernel, host("we-1"), veth("eth0", Some("wb-1"))).unwrap();
}

#[test]
fn a_veth_brings_its_other_end_and_takes_it_along() {
    let mut kernel = built();
    let end = Key::Link(BOX, "eth0".into());
    let Some(Object::Link(fresh)) = kernel.observe().get(&end).cloned() else { panic!("no end") };
    assert_eq!((fresh.kind, fresh.mtu, fresh.alias), (LinkKind::VethPeer, 1500, String::new()));
    let mut other = kernel.clone();
    delete(&mut kernel, host("we-1")).unwrap();
    delete(&mut other, end).unwrap();
    assert_eq!(kernel.observe(), other.observe(), "either end takes the other along");
    let left = keys(&kernel.observe());
    assert!(left.iter().all(|key| !matches!(key.section(), weft_kernel::Section::Container(_))));
    assert!(!left.contains(&Key::Fdb("we-1".into(), FdbTable::Bridge, [2; 6])));
    assert!(left.contains(&Key::Fdb("wv-1".into(), FdbTable::Bridge, [9; 6])));
}

#[test]
fn a_deleted_bridge_sets_its_ports_free() {
    let mut kernel = built();
    delete(&mut kernel, host("wb-1")).unwrap();
    let state = kernel.observe();
    assert_eq!(state.get(&host("we-1")), Some(&veth("eth0", None)));
    let left = keys(&state);
    assert!(!left.iter().any(|key| matches!(key, Key::Fdb(_, FdbTable::Bridge, _))));
    assert!(left.iter().any(|key| matches!(key, Key::Fdb(_, FdbTable::Device, _))));
    assert!(!left.iter().any(|key| key.sits_on() == Some((Netns::Host, "wb-1"))));
}

#[test]
fn a_link_that_goes_down_loses_what_linux_takes() {
    let mut kernel = built();
    let to = route(Netns::Host, "10.1.0.0/24", "wb-1");
    put(&mut kernel, to, Object::Route(Route { via: None, source: None })).unwrap();
    let before = keys(&kernel.observe());
    delete(&mut kernel, Key::Up(Netns::Host, "wb-1".into())).unwrap();
    let after = keys(&kernel.observe());
    let lost: Vec<Key> = before.into_iter().filter(|key| !after.contains(key)).collect();
    let expected = vec![
        address(Netns::Host, "wb-1", "fd00::1/64"),
        Key::Up(Netns::Host, "wb-1".into()),
        route(Netns::Host, "10.1.0.0/24", "wb-1"),
        Key::Neighbour("wb-1".into(), "10.1.0.9".parse().unwrap()),
    ];
    assert_eq!(lost, expected);
}

#[test]
fn a_new_mac_or_another_bridge_costs_rows() {
    let mut kernel = built();
    let bridge = Object::Link(Link { mac: [4; 6], ..plain(LinkKind::Bridge, None) });
    put(&mut kernel, host("wb-1"), bridge).unwrap();
    assert!(!keys(&kernel.observe()).iter().any(|key| matches!(key, Key::Neighbour(..))));
    put(&mut kernel, host("wb-2"), link(LinkKind::Bridge, None)).unwrap();
    put(&mut kernel, host("we-1"), veth("eth0", Some("wb-2"))).unwrap();
    let row = Key::Fdb("we-1".into(), FdbTable::Bridge, [2; 6]);
    assert_eq!(kernel.observe().get(&row), None);
}

#[test]
fn a_bridge_has_one_row_per_mac() {
    let mut kernel = built();
    put(&mut kernel, Key::Fdb("we-1".into(), FdbTable::Bridge, [9; 6]), Object::Fdb(None)).unwrap();
    let moved = Key::Fdb("wv-1".into(), FdbTable::Bridge, [9; 6]);
    assert_eq!(kernel.observe().get(&moved), None);
    let own = Key::Fdb("wv-1".into(), FdbTable::Device, [9; 6]);
    assert!(kernel.observe().get(&own).is_some(), "the device's own table is another one");
}

#[test]
fn routes_go_with_the_address_they_prefer() {
    let mut kernel = built();
    let to = route(Netns::Host, "10.5.0.0/24", "wb-1");
    let source = Some("10.1.0.1".parse().unwrap());
    put(&mut kernel, to.clone(), Object::Route(Route { via: None, source })).unwrap();
    put(&mut kernel, address(Netns::Host, "wb-1", "10.1.0.1/16"), Object::Address).unwrap();
    delete(&mut kernel, address(Netns::Host, "wb-1", "10.1.0.1/24")).unwrap();
    assert!(kernel.observe().get(&to).is_some(), "the address is still there");
    delete(&mut kernel, address(Netns::Host, "wb-1", "10.1.0.1/16")).unwrap();
    assert_eq!(kernel.observe().get(&to), None);
}

#[test]
fn a_devices_chain_stays_or_goes_with_it() {
    let device = TableName { family: NftFamily::Netdev, name: "weft".into() };
    let chain = Key::DeviceChain(device.clone(), "we-1".into(), "in".into());
    for stays in [true, false] {
        let mut kernel = built();
        kernel.chains_outlive_links(stays);
        put(&mut kernel, Key::Table(device.clone()), Object::Table).unwrap();
        let empty = Object::Chain(Chain { hook: None, rules: vec![] });
        put(&mut kernel, chain.clone(), empty.clone()).unwrap();
        delete(&mut kernel, host("we-1")).unwrap();
        assert_eq!(kernel.observe().get(&chain).is_some(), stays);
        refused(
            &mut kernel,
            Key::DeviceChain(device.clone(), "we-9".into(), "in".into()),
            empty,
            19,
        );
    }
}

#[test]
fn nftables_keeps_what_is_in_use() {
    let mut kernel = FakeKernel::new();
    let (set, chain) = (Key::Set(table(), "s".into()), Key::Chain(table(), "c".into()));
    let of = |fields: &[Field]| Object::Set(Set { of: fields.to_vec() });
    let rule = Rule {
        matches: vec![Match::InSet(Equal::Is, vec![Field::Vni], "s".into())],
        statements: vec![Statement::Jump("t".into())],
        comment: String::new(),
    };
    let jumping = Object::Chain(Chain { hook: None, rules: vec![rule] });
    let target = Key::Chain(table(), "t".into());
    put(&mut kernel, Key::Table(table()), Object::Table).unwrap();
    refused(&mut kernel, Key::Element(table(), "s".into(), "1".into()), Object::Element, 2);
    put(&mut kernel, set.clone(), of(&[Field::Vni])).unwrap();
    refused(&mut kernel, chain.clone(), jumping.clone(), 2);
    put(&mut kernel, target.clone(), Object::Chain(Chain { hook: None, rules: vec![] })).unwrap();
    put(&mut kernel, chain.clone(), jumping).unwrap();
    put(&mut kernel, Key::Element(table(), "s".into(), "1".into()), Object::Element).unwrap();
    refused(&mut kernel, set.clone(), of(&[Field::SourceV4]), 17);
    assert_eq!(delete(&mut kernel, set.clone()), Err(16));
    assert_eq!(delete(&mut kernel, target), Err(16));
    delete(&mut kernel, chain).unwrap();
    delete(&mut kernel, set).unwrap();
    assert_eq!(keys(&kernel.observe()).len(), 2, "elements went with their set");
    delete(&mut kernel, Key::Table(table())).unwrap();
    assert!(kernel.observe().is_empty());
}

#[test]
fn sysctls_are_set_and_never_taken_away() {
    let mut kernel = FakeKernel::new();
    let key = Key::Sysctl(Netns::Host, "net/ipv4/ip_forward".into());
    put(&mut kernel, key.clone(), Object::Sysctl("1".into())).unwrap();
    assert_eq!(delete(&mut kernel, key), Err(1));
}

#[test]
fn every_step_can_be_taken_twice() {
    let mut kernel = built();
    let state = kernel.observe();
    for (key, object) in state.iter() {
        let step = Step::Put(key.clone(), object.clone());
        assert!(kernel.holds(&step));
        assert_eq!(kernel.apply(&[step]), vec![Ok(())]);
    }
    assert_eq!(kernel.observe(), state);
    delete(&mut kernel, host("we-1")).unwrap();
    delete(&mut kernel, host("we-1")).unwrap();
}

#[test]
fn objects_of_others_are_in_the_way_and_stay() {
    let mut kernel = built();
    kernel.put_foreign(host("wb-2"), link(LinkKind::Bridge, None));
    let seen = kernel.observe();
    let steps = [
        Step::Put(host("wb-2"), link(LinkKind::Bridge, None)),
        Step::Put(address(Netns::Host, "wb-2", "10.2.0.1/24"), Object::Address),
        Step::Delete(host("wb-2")),
    ];
    let kinds: Vec<Option<FaultKind>> =
        kernel.apply(&steps).into_iter().map(|result| result.err().map(|f| f.kind)).collect();
    assert_eq!(kinds, [Some(FaultKind::Taken), Some(FaultKind::Taken), None]);
    assert_eq!(kernel.observe(), seen);
    assert_eq!(kernel.foreign().len(), 1);
    kernel.put_foreign(Key::Link(BOX, "eth5".into()), link(LinkKind::Bridge, None));
    refused(&mut kernel, host("we-5"), veth("eth5", None), 17);
    kernel.remove_foreign(&host("wb-2"));
    put(&mut kernel, host("wb-2"), link(LinkKind::Bridge, None)).unwrap();
}

#[test]
fn our_rules_go_with_the_chain_of_others() {
    let mut kernel = FakeKernel::new();
    let chain = Key::Chain(table(), "FORWARD".into());
    kernel.put_foreign(chain.clone(), Object::Chain(Chain { hook: None, rules: vec![] }));
    let rule = Rule { matches: vec![], statements: vec![], comment: String::new() };
    let key = Key::ForeignRule(table(), "FORWARD".into(), "accept".into());
    put(&mut kernel, key, Object::ForeignRule(rule)).unwrap();
    kernel.remove_foreign(&chain);
    assert!(kernel.observe().is_empty());
}

#[test]
fn a_dead_namespace_takes_all_along_and_says_so() {
    let mut kernel = built();
    kernel.remove_netns(NetnsId(7));
    let state = kernel.observe();
    assert_eq!(state.get(&host("we-1")), None);
    assert!(state.get(&host("wv-1")).is_some());
    let steps = [
        Step::Put(host("we-1"), veth("eth0", None)),
        Step::Put(Key::Up(BOX, "eth0".into()), Object::Up),
        Step::Delete(Key::Link(BOX, "eth0".into())),
    ];
    for result in kernel.apply(&steps) {
        assert_eq!(result.map_err(|fault| fault.kind), Err(FaultKind::NetnsGone));
    }
    assert_eq!(kernel.observe(), state);
}

#[test]
fn a_lent_end_is_not_made_by_steps_but_changed_and_deleted() {
    let mut kernel = built();
    let lent = |bridge| link(LinkKind::Lent, bridge);
    let before = kernel.observe();
    let fault = kernel.apply(&[Step::Put(host("we-2"), lent(Some("wb-1")))]).remove(0).unwrap_err();
    assert_eq!((fault.errno, fault.kind), (19, FaultKind::Again));
    assert_eq!(fault.message, "the container's end is gone");
    assert_eq!(fault.hint, "restart the container");
    assert_eq!(kernel.observe(), before);
    refused(&mut kernel, host("we-2"), lent(Some("wb-9")), 19);

    kernel.lend("we-2", &plain(LinkKind::Lent, Some("wb-1"))).unwrap();
    assert_eq!(kernel.observe().get(&host("we-2")), Some(&lent(None)), "on no bridge yet");
    assert_eq!(kernel.observe().len(), before.len() + 1, "the other end is not ours");
    let row = Key::Fdb("we-2".into(), FdbTable::Bridge, [4; 6]);
    refused(&mut kernel, row.clone(), Object::Fdb(None), 95);
    put(&mut kernel, host("we-2"), lent(Some("wb-1"))).unwrap();
    put(&mut kernel, row.clone(), Object::Fdb(None)).unwrap();
    refused(&mut kernel, host("we-2"), veth("eth0", Some("wb-1")), 17);
    refused(&mut kernel, host("we-1"), lent(Some("wb-1")), 17);

    kernel.lend("we-2", &Link { mtu: 1400, ..plain(LinkKind::Lent, None) }).unwrap();
    let kept = Object::Link(Link { mtu: 1400, ..plain(LinkKind::Lent, Some("wb-1")) });
    assert_eq!(kernel.observe().get(&host("we-2")), Some(&kept), "it stays where it is");
    assert_eq!(kernel.observe().get(&row), Some(&Object::Fdb(None)));
    kernel.remove_netns(NetnsId(7));
    assert_eq!(kernel.observe().get(&host("we-2")), Some(&kept), "that was another container");
    delete(&mut kernel, host("we-2")).unwrap();
    assert_eq!((kernel.observe().get(&host("we-2")), kernel.observe().get(&row)), (None, None));

    kernel.put_foreign(host("we-3"), link(LinkKind::Bridge, None));
    let fault = kernel.lend("we-3", &plain(LinkKind::Lent, None)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Taken);
    assert_eq!(kernel.observe().get(&host("we-3")), None);
}

#[test]
fn faults_come_as_told() {
    let mut kernel = FakeKernel::new();
    let bridge = || Step::Put(host("wb-1"), link(LinkKind::Bridge, None));
    kernel.fail(host("wb-1"), 12, Times::Once);
    let errnos = |kernel: &mut FakeKernel| -> Vec<Option<i32>> {
        let results = kernel.apply(&[bridge(), bridge()]);
        results.into_iter().map(|result| result.err().map(|fault| fault.errno)).collect()
    };
    assert_eq!(errnos(&mut kernel), [Some(12), None]);
    kernel.fail(host("wb-1"), 12, Times::Always);
    assert_eq!(errnos(&mut kernel), [Some(12), Some(12)]);
    kernel.heal(&host("wb-1"));
    kernel.script([None, Some(105)]);
    assert_eq!(errnos(&mut kernel), [None, Some(105)]);
    assert_eq!(errnos(&mut kernel), [None, None]);
}

#[test]
fn others_may_break_what_is_ours_within_the_kernels_rules() {
    let mut kernel = built();
    kernel.fail(host("we-1"), 12, Times::Always);
    kernel.tamper(&Step::Delete(host("we-1"))).unwrap();
    assert_eq!(kernel.observe().get(&Key::Link(BOX, "eth0".into())), None);
    assert!(kernel.tamper(&Step::Put(Key::Up(BOX, "eth0".into()), Object::Up)).is_err());
}

#[test]
fn a_scope_shows_its_part() {
    let kernel = built();
    assert_eq!(kernel.observe_scope(&Scope::All), kernel.observe());
    let rows = kernel.observe_scope(&Scope::Rows("wv-1".into()));
    assert_eq!(rows.len(), 3);
    let cheap = kernel.observe_scope(&Scope::Cheap);
    assert!(cheap.iter().all(|(key, _)| Scope::Cheap.contains(key)));
    let others = ["wb-1", "we-1"].map(|l| kernel.observe_scope(&Scope::Rows(l.into())).len());
    assert_eq!(cheap.len() + rows.len() + others.iter().sum::<usize>(), kernel.observe().len());
}
