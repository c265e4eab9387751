//! The shortcut's objects among the others: where they belong, and how the fake kernel takes them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;

use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{
    Attach, FakeKernel, FaultKind, Key, LocalEndpoint, Netns, NetnsId, Object, Scope, Section,
    ShortcutKey, ShortcutObject, Step, UnderlayPath,
};

const VETH: &str = "we-0000000000a1";
const BOX: Netns = Netns::Container(NetnsId(7));

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn path() -> UnderlayPath {
    UnderlayPath { link: "eth0".into(), next_hop: None, mtu: 1500 }
}

fn endpoint() -> ShortcutObject {
    ShortcutObject::Endpoint(LocalEndpoint { vni: 1, mac: [2; 6], v4: None, v6: None, more: true })
}

fn program(link: &str, attach: Attach) -> ShortcutKey {
    ShortcutKey::Program(link.into(), attach)
}

/// One of each kind, in the order of creation; the first five need nothing.
fn one_of_each() -> Vec<(ShortcutKey, ShortcutObject)> {
    vec![
        (ShortcutKey::Node, ShortcutObject::Node { data_address: ip("172.10.0.15"), port: 4789 }),
        (ShortcutKey::Vtep(ip("172.10.0.16")), ShortcutObject::Vtep(path())),
        (ShortcutKey::Member(1, ip("172.10.0.16")), ShortcutObject::Member([1; 6])),
        (ShortcutKey::Neighbour(1, ip("fd00::5")), ShortcutObject::Neighbour([5; 6])),
        (ShortcutKey::Fdb(1, [5; 6]), ShortcutObject::Fdb(ip("172.10.0.16"))),
        (
            ShortcutKey::Granted(VETH.into(), "192.168.0.0/16".parse().unwrap()),
            ShortcutObject::Granted,
        ),
        (ShortcutKey::Endpoint(VETH.into()), endpoint()),
        (program(VETH, Attach::FromContainer), ShortcutObject::Program),
        (program("eth0", Attach::FromUnderlay), ShortcutObject::Program),
    ]
}

fn put(kernel: &mut FakeKernel, key: ShortcutKey, object: ShortcutObject) -> Result<(), i32> {
    let step = Step::Put(Key::Shortcut(key), Object::Shortcut(object));
    kernel.apply(&[step]).remove(0).map_err(|fault| fault.errno)
}

fn veth() -> Step {
    let kind = LinkKind::Veth { peer_netns: BOX, peer: "eth0".into() };
    let link = Link { kind, mac: [6; 6], mtu: 1450, alias: String::new(), port: None };
    Step::Put(Key::Link(Netns::Host, VETH.into()), Object::Link(link))
}

fn with_veth() -> FakeKernel {
    let mut kernel = FakeKernel::new();
    kernel.add_netns(NetnsId(7));
    assert_eq!(kernel.apply(&[veth()]), vec![Ok(())]);
    kernel
}

#[test]
fn every_key_is_in_the_section_it_changes_with() {
    let sections: Vec<Section> =
        one_of_each().into_iter().map(|(key, _)| Key::Shortcut(key).section()).collect();
    let network = || Section::of_device("wb-000001");
    let endpoint = || Section::of_device(VETH);
    assert_eq!(
        sections,
        [
            Section::Host,
            Section::Host,
            network(),
            network(),
            network(),
            endpoint(),
            endpoint(),
            endpoint(),
            Section::Host,
        ]
    );
    let lan = Key::Shortcut(program("br-lan", Attach::FromUnderlay));
    assert_eq!(lan.section(), Section::Devices("lan".into()));
}

#[test]
fn what_is_at_a_link_sits_on_it_and_the_rest_on_none() {
    for (key, _) in one_of_each() {
        let key = Key::Shortcut(key);
        let expected = match &key {
            Key::Shortcut(ShortcutKey::Program(link, Attach::FromUnderlay)) => Some(link.as_str()),
            Key::Shortcut(
                ShortcutKey::Granted(..) | ShortcutKey::Endpoint(_) | ShortcutKey::Program(..),
            ) => Some(VETH),
            _ => None,
        };
        assert_eq!(key.sits_on(), expected.map(|link| (Netns::Host, link)), "{key}");
        assert_eq!(key.netns(), None, "{key}");
        assert_eq!(Scope::of(&key), Scope::Shortcut);
        assert!(Scope::All.contains(&key) && Scope::Shortcut.contains(&key));
        assert!(!Scope::Cheap.contains(&key), "{key}");
    }
}

#[test]
fn the_shortcut_comes_after_everything_else_and_programs_come_last() {
    let keys: Vec<Key> = one_of_each().into_iter().map(|(key, _)| Key::Shortcut(key)).collect();
    let mut sorted = keys.clone();
    sorted.sort();
    // Of two programs, the name of the link decides.
    sorted.swap(7, 8);
    assert_eq!(sorted, keys);
    let table =
        weft_kernel::TableName { family: weft_kernel::key::NftFamily::Inet, name: "z".into() };
    assert!(Key::ForeignRule(table, "z".into(), "z".into()) < keys[0]);
}

#[test]
fn entries_about_others_need_nothing_and_those_of_an_endpoint_its_link() {
    let mut kernel = FakeKernel::new();
    let results: Vec<Result<(), i32>> =
        one_of_each().into_iter().map(|(key, object)| put(&mut kernel, key, object)).collect();
    let no_device = Err(19);
    let expected =
        [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), no_device, no_device, no_device, Ok(())];
    assert_eq!(results, expected);
    assert_eq!(kernel.observe().len(), 6);

    let mut kernel = with_veth();
    for (key, object) in one_of_each() {
        assert_eq!(put(&mut kernel, key.clone(), object.clone()), Ok(()));
        assert_eq!(put(&mut kernel, key, object), Ok(()), "twice is as good as once");
    }
    assert_eq!(kernel.observe_scope(&Scope::Shortcut).len(), one_of_each().len());
}

#[test]
fn what_sits_on_a_link_goes_with_it_and_the_rest_stays() {
    let mut kernel = with_veth();
    for (key, object) in one_of_each() {
        put(&mut kernel, key, object).unwrap();
    }
    let delete = Step::Delete(Key::Link(Netns::Host, VETH.into()));
    assert_eq!(kernel.apply(&[delete]), vec![Ok(())]);
    let left: Vec<Key> = kernel.observe().iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(left.iter().all(|key| key.sits_on().is_none_or(|(_, link)| link == "eth0")));
    let steps: Vec<Step> = left.into_iter().map(Step::Delete).collect();
    assert!(kernel.apply(&steps).iter().all(Result::is_ok));
    assert!(kernel.observe().is_empty());
}

#[test]
fn a_link_of_the_underlay_may_be_anybodys_but_none_of_ours_that_is_missing() {
    let mut kernel = with_veth();
    let (kind, alias) = (LinkKind::Bridge, String::new());
    let bridge = Link { kind, mac: [4; 6], mtu: 1500, alias, port: None };
    let nic = Key::Link(Netns::Host, "br-lan".into());
    kernel.put_foreign(nic.clone(), Object::Link(bridge));
    let at = |link: &str| program(link, Attach::FromUnderlay);
    assert_eq!(put(&mut kernel, at("br-lan"), ShortcutObject::Program), Ok(()));
    assert_eq!(put(&mut kernel, at("eth1"), ShortcutObject::Program), Ok(()));
    assert_eq!(put(&mut kernel, at("wb-000009"), ShortcutObject::Program), Err(19));
    let from_container = program("eth1", Attach::FromContainer);
    assert_eq!(put(&mut kernel, from_container, ShortcutObject::Program), Err(19));
    let step = Step::Put(
        Key::Shortcut(program("br-lan", Attach::FromContainer)),
        Object::Shortcut(ShortcutObject::Program),
    );
    let refused = kernel.apply(&[step]).remove(0).map_err(|fault| fault.kind);
    assert_eq!(refused, Err(FaultKind::Taken), "that link is somebody else's");
    kernel.remove_foreign(&nic);
    assert_eq!(kernel.observe().get(&Key::Shortcut(at("br-lan"))), None);
    assert!(kernel.observe().get(&Key::Shortcut(at("eth1"))).is_some());
}

#[test]
fn an_object_of_another_kind_is_refused() {
    let mut kernel = with_veth();
    let all = one_of_each();
    for (n, (key, _)) in all.iter().enumerate() {
        for (m, (_, object)) in all.iter().enumerate() {
            let fits = n == m || n >= 7 && m >= 7;
            let result = put(&mut kernel, key.clone(), object.clone());
            assert_eq!(result, if fits { Ok(()) } else { Err(22) }, "{key:?} {object:?}");
        }
        let other = Step::Put(Key::Shortcut(key.clone()), Object::Up);
        assert!(kernel.apply(&[other]).remove(0).is_err(), "{key:?}");
    }
}
