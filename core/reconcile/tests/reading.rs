//! What is read when, and what of it is held once.

mod common;

use std::sync::Arc;

use common::scenes::{row, with_rows};
use common::shortcut::{vni, world};
use common::{Host, bare_kernel, wb, we};
use weft_kernel::{
    KernelState, Key, Netns, Object, Scope, Section, ShortcutKey, ShortcutObject, Step,
};
use weft_reconcile::{Config, Do, Observed};

/// Runs for a while; answers when what was read.
fn readings(host: &mut Host, span: u64) -> Vec<(u64, Scope)> {
    let until = host.now + span;
    let mut read = Vec::new();
    while host.now < until {
        match host.machine.poll(host.now) {
            Do::Observe(scope) => {
                read.push((host.now, scope.clone()));
                let state = host.kernel.observe_scope(&scope);
                host.machine.on_observed(Observed { scope, state });
            }
            Do::Apply(steps) => {
                let results = steps.iter().map(|step| host.take(step)).collect();
                host.machine.on_applied(steps, results, host.now);
            }
            Do::Sleep(at) => {
                assert!(at.is_none_or(|at| at > host.now), "a sleep that is over already");
                host.now = at.unwrap_or(until).min(until);
            }
        }
    }
    read
}

fn of_shortcut(read: &[(u64, Scope)]) -> Vec<u64> {
    read.iter().filter(|(_, scope)| *scope == Scope::Shortcut).map(|(at, _)| *at).collect()
}

fn fdb() -> Key {
    Key::Shortcut(ShortcutKey::Fdb(vni(1), [2, 1, 0, 0, 0, 8]))
}

#[test]
fn a_small_shortcut_is_read_every_few_seconds_and_repaired() {
    let mut host = Host::new(bare_kernel());
    let want = world(2).want();
    host.machine.on_plan(want.clone(), 1);
    let read = of_shortcut(&readings(&mut host, 50_000));
    assert!((15..=17).contains(&read.len()), "{read:?}");
    assert!(want.get(&fdb()).is_some());
    host.kernel.tamper(&Step::Delete(fdb())).unwrap();
    host.run(5_000);
    assert_eq!(host.differences(&want), vec![]);
    assert_eq!(host.machine.status().repaired, 1);
}

#[test]
fn a_large_shortcut_is_read_as_often_as_everything() {
    let config = Config { few_shortcut_objects: 10, ..Config::default() };
    let mut host = Host::with(bare_kernel(), config);
    let want = world(2).want();
    host.machine.on_plan(want.clone(), 1);
    let read = readings(&mut host, 200_000);
    // Before anything had been read, there was none.
    assert!(of_shortcut(&read).len() <= 1, "{read:?}");
    let all = read.iter().filter(|(_, scope)| *scope == Scope::All).count();
    assert_eq!(all, 4);
    host.kernel.tamper(&Step::Delete(fdb())).unwrap();
    host.run(61_000);
    assert_eq!(host.differences(&want), vec![]);
}

#[test]
fn a_host_without_a_shortcut_does_not_look_for_one_until_there_is() {
    let mut host = Host::new(bare_kernel());
    let mut without = world(2);
    without.shortcut = None;
    host.machine.on_plan(without.want(), 1);
    assert_eq!(of_shortcut(&readings(&mut host, 120_000)), []);
    host.machine.on_plan(world(2).want(), 2);
    assert!(!of_shortcut(&readings(&mut host, 4_000)).is_empty());
    host.machine.on_plan(without.want(), 3);
    readings(&mut host, 65_000);
    assert_eq!(of_shortcut(&readings(&mut host, 60_000)), [], "it is gone");
}

#[test]
fn what_an_earlier_daemon_left_is_looked_after_although_nobody_wants_it() {
    let mut host = Host::new(bare_kernel());
    let member = ShortcutKey::Member(7, "172.10.0.99".parse().unwrap());
    let step = Step::Put(Key::Shortcut(member), Object::Shortcut(ShortcutObject::Member([1; 6])));
    host.kernel.tamper(&step).unwrap();
    host.machine.on_plan(with_rows(1), 1);
    host.run(1_000);
    assert_eq!(host.differences(&with_rows(1)), vec![]);
}

#[test]
fn a_reading_of_the_shortcut_that_fails_is_tried_again() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(world(1).want(), 1);
    host.run(2_000);
    let mut failed = Vec::new();
    while failed.len() < 5 {
        match host.machine.poll(host.now) {
            Do::Observe(Scope::Shortcut) => {
                failed.push(host.now);
                host.machine.on_observe_failed(Scope::Shortcut, host.now);
            }
            Do::Observe(scope) => {
                let state = host.kernel.observe_scope(&scope);
                host.machine.on_observed(Observed { scope, state });
            }
            Do::Apply(steps) => panic!("there is nothing to do: {steps:?}"),
            Do::Sleep(at) => host.now = at.unwrap(),
        }
    }
    assert!(failed.windows(2).all(|w| w[1] - w[0] >= 250), "{failed:?}");
    assert!(failed[4] - failed[0] < 10_000, "{failed:?}");
    host.kernel.tamper(&Step::Delete(fdb())).unwrap();
    host.run(8_000);
    assert_eq!(host.differences(&world(1).want()), vec![]);
}

#[test]
fn a_failed_entry_is_tried_again_after_a_reading_of_the_shortcut() {
    let mut host = Host::new(bare_kernel());
    host.kernel.fail(fdb(), 28, weft_kernel::fake::Times::Once);
    host.machine.on_plan(world(1).want(), 1);
    let read = readings(&mut host, 1_000);
    assert_eq!(of_shortcut(&read).len(), 1, "{read:?}");
    assert_eq!(host.differences(&world(1).want()), vec![]);
}

#[test]
fn with_a_link_that_vanished_went_what_sat_on_it() {
    let mut host = Host::new(bare_kernel());
    let want = world(2).want();
    host.machine.on_plan(want.clone(), 1);
    host.run(10_000);
    host.kernel.tamper(&Step::Delete(Key::Link(Netns::Host, we(1)))).unwrap();
    host.machine.on_event(Key::Link(Netns::Host, we(1)), None);
    let read = readings(&mut host, 500);
    assert_eq!(read.iter().map(|(_, scope)| scope).collect::<Vec<_>>(), [&Scope::Cheap]);
    assert_eq!(host.differences(&want), vec![], "neither rows nor the shortcut had to be read");
    assert_eq!(host.failures(), Vec::<&_>::new());
}

/// Of which sections the machine holds what it wants and what it knows twice.
fn held_twice(host: &Host) -> Vec<Section> {
    let want = host.machine.want();
    let shared = |section: &Section, known| {
        let wanted = want.and_then(|want| want.section(section));
        wanted.is_some_and(|wanted| Arc::ptr_eq(wanted, known))
    };
    let have = host.machine.have().sections();
    have.filter(|(section, known)| !shared(section, known)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn what_is_as_wanted_is_held_once() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(world(4).want(), 1);
    host.run(90);
    assert!(held_twice(&host).contains(&Section::Host), "a program is still missing");
    assert!(!held_twice(&host).contains(&Section::of_device(&wb(1))));
    host.run(900);
    assert_eq!(held_twice(&host), []);
    let read = readings(&mut host, 20_000);
    assert!(read.iter().all(|(_, scope)| *scope != Scope::All), "not only with everything read");
    assert_eq!(held_twice(&host), [], "to read it is no reason to hold it");
}

#[test]
fn what_has_become_as_wanted_by_our_own_steps_is_held_once() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with_rows(100), 1);
    host.run(100);
    assert_eq!(held_twice(&host), []);
    for (generation, rows) in [(2, 101), (3, 50), (4, 51)] {
        host.machine.on_plan(with_rows(rows), generation);
        host.run(100);
        assert_eq!(held_twice(&host), [], "{rows}");
        assert_eq!(host.differences(&with_rows(rows)), vec![]);
    }
    // The same again, but as a new copy, as after a restart of the planner.
    host.machine.on_plan(with_rows(51), 5);
    host.run(100);
    assert_eq!(held_twice(&host), []);
}

#[test]
fn what_was_damaged_and_repaired_is_held_once() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with_rows(100), 1);
    host.run(1_000);
    let (key, _) = row(7);
    host.kernel.tamper(&Step::Delete(key.clone())).unwrap();
    host.machine.on_event(key, None);
    host.run(1_000);
    assert_eq!(host.machine.status().repaired, 1);
    assert_eq!(held_twice(&host), []);
}

#[test]
fn what_is_found_as_wanted_is_held_once() {
    let mut host = Host::new(common::laid(bare_kernel(), &world(4).want()));
    host.machine.on_plan(world(4).want(), 1);
    host.run(50);
    assert_eq!(host.log.len(), 0);
    assert_eq!(held_twice(&host), []);
}

#[test]
fn what_only_looks_alike_is_not_shared() {
    let mut host = Host::new(bare_kernel());
    let sysctl = |n: u8| Key::Sysctl(Netns::Host, format!("net/ipv4/conf/{}/x{n}", wb(1)));
    let mut want = with_rows(3);
    want.insert(sysctl(1), Object::Sysctl("0".into()));
    host.machine.on_plan(want.clone(), 1);
    host.run(100);
    // Sysctls are never taken back: there is one more than wanted, and one row less.
    let mut next = with_rows(3);
    let (missing, _) = row(2);
    host.kernel.fail(missing.clone(), 105, weft_kernel::fake::Times::Always);
    host.kernel.tamper(&Step::Delete(missing.clone())).unwrap();
    host.machine.on_event(missing.clone(), None);
    host.machine.on_plan(next.clone(), 2);
    host.run(2_000);
    assert_eq!(host.machine.have().get(&missing), None);
    assert!(host.machine.have().get(&sysctl(1)).is_some());
    assert_eq!(held_twice(&host), [Section::of_device(&wb(1))]);
    host.kernel.heal_all();
    host.run(31_000);
    next.insert(sysctl(1), Object::Sysctl("0".into()));
    let have: KernelState = host.machine.have().clone();
    assert_eq!(have, next);
}
