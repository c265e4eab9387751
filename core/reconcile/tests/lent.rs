//! Ends that are lent to a container runtime: no step makes them.

#![allow(clippy::unwrap_used, reason = "helpers of a test")]

mod common;

use common::scenes::{host_link, lent, link, veth};
use common::{Host, bare_kernel, container, wb, we};
use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{FaultKind, KernelState, Key, Netns, Object, Scope, Step};
use weft_reconcile::diff;

fn end() -> Key {
    host_link(&we(1))
}

fn object() -> Link {
    match link(LinkKind::Lent, Some(&wb(1))) {
        Object::Link(link) => link,
        other => panic!("{other:?}"),
    }
}

fn deletes(steps: &[Step]) -> Vec<&Key> {
    steps.iter().filter(|step| matches!(step, Step::Delete(_))).map(Step::key).collect()
}

fn only(want: &[Key]) -> KernelState {
    let kept = lent();
    want.iter().map(|key| (key.clone(), kept.get(key).unwrap().clone())).collect()
}

#[test]
fn a_lent_end_is_changed_in_place_whatever_differs() {
    let mut have = lent();
    for wrong in [
        Link { mac: [2, 0, 0, 0, 0, 7], ..object() },
        Link { mtu: 1300, alias: "weft lent other".into(), ..object() },
        Link { port: None, ..object() },
    ] {
        have.insert(end(), Object::Link(wrong.clone()));
        let steps = diff(&lent(), &have);
        assert_eq!(deletes(&steps), [] as [&Key; 0], "{wrong:?}");
        assert_eq!(steps[0], Step::Put(end(), Object::Link(object())));
    }
    assert_eq!(diff(&lent(), &lent()), []);
}

#[test]
fn what_is_of_another_kind_makes_room_both_ways() {
    let steps = diff(&lent(), &veth());
    assert_eq!(steps[0], Step::Delete(end()), "{steps:?}");
    assert!(steps.contains(&Step::Put(end(), Object::Link(object()))));
    let steps = diff(&veth(), &lent());
    assert_eq!(steps[0], Step::Delete(end()), "{steps:?}");
    assert_eq!(deletes(&steps).len(), 1, "what sat on it went along");
}

#[test]
fn one_that_nobody_wants_is_deleted_and_takes_nothing_from_containers() {
    let mut have = lent();
    let inside = Key::Link(container(0), "eth0".into());
    have.insert(inside.clone(), link(LinkKind::VethPeer, None));
    let mut want = only(&[host_link(&wb(1))]);
    want.insert(inside, link(LinkKind::VethPeer, None));
    want.insert(Key::Table(common::netdev()), Object::Table);
    let steps = diff(&want, &have);
    assert_eq!(deletes(&steps)[0], &end());
    assert!(
        steps
            .iter()
            .all(|step| matches!(step.key(), Key::Link(Netns::Host, _) | Key::DeviceChain(..))),
        "{steps:?}"
    );
}

#[test]
fn a_missing_end_is_one_fault_and_holds_only_what_sits_on_it() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(lent(), 1);
    host.run(60_000);
    let status = host.machine.status();
    let faults: Vec<(&Key, FaultKind, &str)> =
        status.faults.iter().map(|f| (&f.key, f.fault.kind, f.fault.hint.as_str())).collect();
    assert_eq!(faults, [(&end(), FaultKind::Again, "restart the container")]);
    assert_eq!((status.generation_applied, status.held), (Some(1), 3));
    assert!(status.faults[0].next.is_some(), "it is tried again");
    assert!(host.failures().len() < 20, "less and less often");
    assert_eq!(host.log.iter().filter(|(step, ..)| matches!(step, Step::Delete(_))).count(), 0);
    assert!(host.kernel.observe().get(&host_link(&wb(1))).is_some(), "the rest is there");
}

#[test]
fn an_end_that_is_lent_at_last_need_not_wait_for_its_turn() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(lent(), 1);
    let begun = host.now;
    while host.machine.status().faults.first().is_none_or(|f| f.next < Some(host.now + 9_000)) {
        host.run(1_000);
        assert!(host.now < begun + 300_000, "the waits do not grow");
    }
    host.kernel.lend(&we(1), &object()).unwrap();
    host.machine.on_dirty(Scope::Cheap);
    host.run(1_000);
    assert_eq!(host.differences(&lent()), []);
    assert_eq!(host.machine.status().faults, []);
    assert_eq!(host.machine.status().repairs, [], "nobody has damaged anything");
}

#[test]
fn an_end_that_goes_with_its_container_is_forgotten_with_the_plan() {
    let mut host = Host::new(bare_kernel());
    host.kernel.lend(&we(1), &object()).unwrap();
    host.machine.on_plan(lent(), 1);
    host.run(1_000);
    assert_eq!(host.differences(&lent()), []);
    host.kernel.tamper(&Step::Delete(end())).unwrap();
    host.machine.on_event(end(), None);
    host.run(10_000);
    let faulty: Vec<Key> = host.machine.status().faults.into_iter().map(|f| f.key).collect();
    assert_eq!(faulty, [end()]);
    let rest = only(&[Key::Table(common::netdev()), host_link(&wb(1))]);
    host.machine.on_plan(rest.clone(), 2);
    host.run(10_000);
    assert_eq!(host.machine.status().faults, []);
    assert_eq!(host.differences(&rest), []);
}

#[test]
fn an_end_made_anew_gets_back_all_that_sat_on_the_old_one() {
    let mut host = Host::new(bare_kernel());
    host.kernel.lend(&we(1), &object()).unwrap();
    host.machine.on_plan(lent(), 1);
    host.run(1_000);
    host.kernel.tamper(&Step::Delete(end())).unwrap();
    host.kernel.lend(&we(1), &object()).unwrap();
    host.machine.on_dirty(Scope::Cheap);
    host.run(2_000);
    assert_eq!(host.differences(&lent()), []);
    assert_eq!(host.failures().len(), 0);
}
