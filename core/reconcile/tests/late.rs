//! Steps that can wait: the shortcut's programs.

mod common;

use std::collections::BTreeSet;

use common::scenes::{ip, row};
use common::shortcut::world;
use common::{Host, bare_kernel, is_program, wb, we};
use weft_kernel::fake::Times;
use weft_kernel::{
    Attach, KernelState, Key, Netns, Object, Scope, ShortcutKey, ShortcutObject, Step,
};
use weft_reconcile::{Config, Do, Machine, Observed};

fn program(link: &str, attach: Attach) -> Key {
    Key::Shortcut(ShortcutKey::Program(link.into(), attach))
}

fn at_veth(n: u8) -> Key {
    program(&we(n), Attach::FromContainer)
}

fn endpoint(n: u8) -> Key {
    Key::Shortcut(ShortcutKey::Endpoint(we(n)))
}

/// `want` and many rows.
fn with_rows(mut want: KernelState, rows: u16) -> KernelState {
    (0..rows).map(row).for_each(|(key, object)| want.insert(key, object));
    want
}

/// Does what it is told; every step takes so long. Answers when which program was put or deleted.
fn drive(
    host: &mut Host,
    until: u64,
    cost: u64,
    mut meanwhile: impl FnMut(&mut Host),
) -> Vec<(u64, Key)> {
    let mut programs = Vec::new();
    while host.now < until {
        meanwhile(host);
        match host.machine.poll(host.now) {
            Do::Observe(scope) => {
                let state = host.kernel.observe_scope(&scope);
                host.machine.on_observed(Observed { scope, state });
            }
            Do::Apply(steps) => {
                let late = steps.iter().filter(|step| is_program(step.key()));
                programs.extend(late.map(|step| (host.now, step.key().clone())));
                assert!(steps.len() == 1 || !steps.iter().any(|step| is_program(step.key())));
                let results = steps.iter().map(|step| host.take(step)).collect();
                host.now += cost;
                host.machine.on_applied(steps, results, host.now);
            }
            Do::Sleep(at) => {
                assert!(at.is_none_or(|at| at > host.now), "a sleep that is over already");
                host.now = at.unwrap_or(until).min(until).min(host.now + 10);
            }
        }
    }
    programs
}

fn nothing(_: &mut Host) {}

#[test]
fn a_plan_is_applied_before_its_programs_are_attached_and_they_come_one_by_one() {
    let mut host = Host::new(bare_kernel());
    let want = world(4).want();
    host.machine.on_plan(want.clone(), 3);
    assert_eq!(drive(&mut host, 90, 1, nothing), []);
    let status = host.machine.status();
    assert_eq!((status.settled, status.generation_applied), (true, Some(3)));
    assert_eq!((status.late, status.held), (5, 0));
    assert_eq!(host.pressing_differences(&want), vec![]);
    assert_eq!(host.differences(&want).len(), 5);

    let programs = drive(&mut host, 1_000, 10, nothing);
    let times: Vec<u64> = programs.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [100, 110, 120, 130, 140]);
    assert_eq!(host.differences(&want), vec![]);
    assert_eq!(host.machine.status().late, 0);
    assert_eq!(host.failures(), Vec::<&_>::new());
}

#[test]
fn a_new_plan_goes_before_what_can_wait() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(world(4).want(), 1);
    drive(&mut host, 90, 1, nothing);
    drive(&mut host, 115, 10, nothing);
    assert_eq!(host.machine.status().late, 3);
    let came = host.now;
    host.machine.on_plan(world(5).want(), 2);
    let programs = drive(&mut host, 2_000, 10, nothing);
    assert!(host.log.iter().any(|(step, ..)| *step.key() == endpoint(4)));
    assert!(programs[0].0 >= came + 100, "{programs:?} after {came}");
    assert_eq!(programs.len(), 4);
    assert_eq!(host.differences(&world(5).want()), vec![]);
}

#[test]
fn plans_that_keep_coming_do_not_starve_what_can_wait() {
    let mut host = Host::new(bare_kernel());
    let (mut next, mut generation) = (0, 0);
    let programs = drive(&mut host, 4_000, 1, |host| {
        if host.now >= next {
            next = host.now + 50;
            generation += 1;
            let rows = u16::try_from(generation % 7).unwrap();
            host.machine.on_plan(with_rows(world(4).want(), rows), generation);
        }
    });
    let times: Vec<u64> = programs.iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 5, "{times:?}");
    assert!((2_000..2_100).contains(&times[0]), "{times:?}");
    assert!(times.windows(2).all(|w| (100..200).contains(&(w[1] - w[0]))), "{times:?}");
    assert_eq!(host.machine.status().late, 0);
}

#[test]
fn work_without_end_does_not_starve_what_can_wait() {
    let mut host = Host::with(bare_kernel(), Config { batch: 1, ..Config::default() });
    host.machine.on_plan(world(3).want(), 1);
    drive(&mut host, 99, 1, nothing);
    assert_eq!(host.machine.status().late, 4);
    let want = with_rows(world(3).want(), 5_000);
    host.machine.on_plan(want.clone(), 2);
    let mut times = drive(&mut host, 4_500, 1, |host| {
        assert_ne!(host.machine.status().generation_applied, Some(2), "there is no end");
    });
    times.retain(|(at, _)| *at < 4_500);
    assert_eq!(times.len(), 4, "{times:?}");
    assert!((2_000..2_400).contains(&times[0].0), "{times:?}");
    assert!(times.windows(2).all(|w| w[1].0 - w[0].0 >= 100), "{times:?}");
    drive(&mut host, 7_000, 1, nothing);
    assert_eq!(host.differences(&want), vec![]);
    assert_eq!(host.held_twice(), vec![]);
}

#[test]
fn a_program_that_waited_too_long_still_waits_for_its_link_and_the_tables() {
    let mut host = Host::with(bare_kernel(), Config { batch: 1, ..Config::default() });
    let want = with_rows(world(3).want(), 5_000);
    host.machine.on_plan(want.clone(), 1);
    let programs = drive(&mut host, 7_000, 1, nothing);
    assert_eq!(programs.len(), 4);
    assert!(programs[0].0 > 5_000, "the endpoints come after the rows: {programs:?}");
    assert_eq!(host.failures(), Vec::<&_>::new());
    let taken = |key: &Key| host.log.iter().position(|(step, ..)| step.key() == key);
    for n in 0..3 {
        assert!(taken(&endpoint(n)) < taken(&at_veth(n)));
    }
    assert_eq!(host.differences(&want), vec![]);
}

#[test]
fn programs_are_taken_away_late_too_and_never_where_the_link_goes() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(world(4).want(), 1);
    host.run(1_000);
    let (steps, came) = (host.log.len(), host.now);
    let mut off = world(2);
    off.shortcut = None;
    host.machine.on_plan(off.want(), 2);
    assert_eq!(drive(&mut host, came + 90, 1, nothing), []);
    assert!(host.machine.is_settled());
    assert_eq!(host.machine.status().late, 3);
    assert_eq!(host.pressing_differences(&off.want()), vec![]);
    let deleted = drive(&mut host, came + 1_000, 10, nothing);
    let expected = BTreeSet::from([program("eth0", Attach::FromUnderlay), at_veth(0), at_veth(1)]);
    assert_eq!(deleted.iter().map(|(_, key)| key.clone()).collect::<BTreeSet<_>>(), expected);
    assert_eq!(deleted.len(), 3);
    assert_eq!(host.differences(&off.want()), vec![]);
    let ours = host.log[steps..].iter().filter(|(s, ..)| matches!(s.key(), Key::Shortcut(_)));
    assert!(ours.clone().all(|(_, idle, _)| !idle), "what goes with its link is not deleted");
}

#[test]
fn what_is_not_wanted_any_more_does_not_wait_any_more() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(world(4).want(), 1);
    drive(&mut host, 50, 1, nothing);
    assert_eq!(host.machine.status().late, 5);
    host.machine.on_plan(world(1).want(), 2);
    drive(&mut host, 90, 1, nothing);
    assert_eq!(host.machine.status().late, 2);
    host.machine.on_plan(KernelState::new(), 3);
    host.run(5_000);
    assert!(host.kernel.observe().is_empty());
    let late = host.log.iter().filter(|(step, ..)| is_program(step.key())).count();
    assert_eq!(late, 0, "they never came and never went");
}

#[test]
fn a_program_that_fails_is_a_fault_and_holds_nobody_up() {
    let mut host = Host::new(bare_kernel());
    host.kernel.fail(at_veth(1), 22, Times::Always);
    host.machine.on_plan(world(4).want(), 1);
    host.run(120_000);
    let status = host.machine.status();
    assert!(status.settled);
    assert_eq!((status.late, status.held), (0, 0));
    let faulty: Vec<&Key> = status.faults.iter().map(|fault| &fault.key).collect();
    assert_eq!(faulty, [&at_veth(1)]);
    assert_eq!(host.differences(&world(4).want()), vec![at_veth(1)]);
    let tries = host.failures().len();
    assert!((8..20).contains(&tries), "{tries} tries in two minutes");
    host.kernel.heal_all();
    host.run(31_000);
    assert_eq!(host.differences(&world(4).want()), vec![]);
    assert_eq!(host.machine.status().faults, vec![]);
}

#[test]
fn a_fault_whose_time_comes_while_it_is_not_quiet_waits_and_costs_nothing() {
    let mut host = Host::new(bare_kernel());
    let at = program("eth0", Attach::FromUnderlay);
    host.kernel.fail(at.clone(), 22, Times::Once);
    host.machine.on_plan(world(0).want(), 1);
    host.run(105);
    assert_eq!(host.failures().len(), 1);
    let (mut next, mut generation) = (0, 1);
    let polls = host.polls;
    let until = host.now + 1_500;
    while host.now < until {
        if host.now >= next {
            next = host.now + 60;
            generation += 1;
            host.machine.on_plan(with_rows(world(0).want(), generation), generation.into());
        }
        host.turn(next.min(until));
    }
    assert!(host.polls - polls < 300, "{} polls", host.polls - polls);
    assert_eq!(host.machine.status().late, 1);
    assert_eq!(host.machine.status().faults.len(), 1, "it is shown all the while");
    host.run(1_000);
    assert_eq!((host.machine.status().late, host.machine.status().faults.len()), (0, 0));
    assert!(host.kernel.observe().get(&at).is_some());
}

#[test]
fn a_link_of_the_underlay_is_not_ours_and_its_program_waits_for_none() {
    for name in ["eth0", "br-lan", "wlan7"] {
        let mut host = Host::new(bare_kernel());
        let node = Key::Shortcut(ShortcutKey::Node);
        let address = ShortcutObject::Node { data_address: ip(1), port: 4789 };
        let at = program(name, Attach::FromUnderlay);
        let want: KernelState = [
            (node.clone(), Object::Shortcut(address)),
            (at.clone(), Object::Shortcut(ShortcutObject::Program)),
        ]
        .into_iter()
        .collect();
        // As when the link is not there.
        host.kernel.fail(at.clone(), 19, Times::Always);
        host.machine.on_plan(want.clone(), 1);
        host.run(10_000);
        let status = host.machine.status();
        assert_eq!((status.faults.len(), status.held, status.settled), (1, 0, true));
        host.kernel.heal_all();
        host.run(31_000);
        assert_eq!(host.differences(&want), vec![]);
        host.kernel.fail(node.clone(), 28, Times::Always);
        host.kernel.tamper(&Step::Delete(node)).unwrap();
        host.kernel.tamper(&Step::Delete(at)).unwrap();
        host.run(10_000);
        let status = host.machine.status();
        assert_eq!((status.faults.len(), status.held), (1, 1), "without the node it does nothing");
    }
}

#[test]
fn an_endpoint_waits_for_what_it_was_granted_and_for_the_members_of_its_network() {
    let granted = "192.168.0.0/16".parse().unwrap();
    let member = common::shortcut::vni(1);
    for (bad, waiting) in [
        // The first, third and fourth endpoint: those that are routers.
        (ShortcutKey::Granted(we(0), granted), vec![0]),
        (ShortcutKey::Member(member, "172.10.0.12".parse().unwrap()), vec![0, 1, 2, 3]),
    ] {
        let mut host = Host::new(bare_kernel());
        let bad = Key::Shortcut(bad);
        host.kernel.fail(bad.clone(), 28, Times::Always);
        let want = world(4).want();
        host.machine.on_plan(want.clone(), 1);
        host.run(5_000);
        let held = waiting.iter().flat_map(|n| [endpoint(*n), at_veth(*n)]);
        let expected: BTreeSet<Key> = held.chain([bad.clone()]).collect();
        assert_eq!(host.differences(&want).into_iter().collect::<BTreeSet<_>>(), expected);
        let status = host.machine.status();
        assert_eq!((status.faults.len(), status.held), (1, 2 * waiting.len()));
        assert!(status.settled);
        host.kernel.heal_all();
        host.run(31_000);
        assert_eq!(host.differences(&want), vec![]);
    }
}

#[test]
fn a_program_that_somebody_took_away_comes_back_at_once() {
    let mut host = Host::new(bare_kernel());
    let want = world(2).want();
    host.machine.on_plan(want.clone(), 1);
    host.run(10_000);
    host.kernel.tamper(&Step::Delete(at_veth(1))).unwrap();
    host.machine.on_event(at_veth(1), None);
    host.run(300);
    assert_eq!(host.differences(&want), vec![]);
    assert_eq!(host.machine.status().repaired, 1);
}

#[test]
fn a_program_goes_and_comes_with_a_link_that_is_made_anew() {
    let mut host = Host::new(bare_kernel());
    let want = world(2).want();
    host.machine.on_plan(want.clone(), 1);
    host.run(10_000);
    host.kernel.tamper(&Step::Delete(Key::Link(Netns::Host, we(1)))).unwrap();
    host.machine.on_event(Key::Link(Netns::Host, we(1)), None);
    host.run(700);
    assert_eq!(host.differences(&want), vec![]);
    assert_eq!(host.failures(), Vec::<&_>::new());
    assert!(host.kernel.observe().get(&Key::Link(Netns::Host, wb(1))).is_some());
}

#[test]
fn what_may_be_wrong_is_read_before_a_program_is_put() {
    let mut host = Host::new(bare_kernel());
    let want = world(2).want();
    host.machine.on_plan(want.clone(), 1);
    drive(&mut host, 90, 1, nothing);
    let link = Key::Link(Netns::Host, we(1));
    host.kernel.tamper(&Step::Delete(link.clone())).unwrap();
    host.machine.on_event(link, None);
    let programs = drive(&mut host, 2_000, 1, nothing);
    assert!(programs[0].0 >= 250, "two readings keep a distance: {programs:?}");
    assert_eq!(programs.len(), 3);
    assert_eq!(host.failures(), Vec::<&_>::new());
    assert_eq!(host.differences(&want), vec![]);
}

#[test]
fn a_storm_of_events_does_not_starve_what_can_wait() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(world(2).want(), 1);
    drive(&mut host, 90, 1, nothing);
    let programs = drive(&mut host, 3_000, 1, |host| host.machine.on_dirty(Scope::Rows(wb(1))));
    let times: Vec<u64> = programs.iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 3, "{times:?}");
    assert!((2_000..2_500).contains(&times[0]), "{times:?}");
    assert!(times.windows(2).all(|w| w[1] - w[0] >= 100), "{times:?}");
}

#[test]
fn a_program_that_waits_and_is_found_again_waits_once() {
    let mut host = Host::new(bare_kernel());
    let want = world(1).want();
    host.machine.on_plan(want.clone(), 1);
    drive(&mut host, 90, 1, nothing);
    // The other end of the veth has been moved away: it is made anew, with all that sits on it.
    let mut seen = host.kernel.observe_scope(&Scope::Cheap);
    seen.remove(&Key::Link(common::container(0), "eth0".into()));
    host.machine.on_observed(Observed { scope: Scope::Cheap, state: seen });
    let programs = drive(&mut host, 5_000, 1, nothing);
    assert_eq!(programs.len(), 2, "{programs:?}");
    assert_eq!(host.machine.status().late, 0);
    assert!(host.log.iter().any(|(s, ..)| *s == Step::Delete(Key::Link(Netns::Host, we(0)))));
    assert_eq!(host.differences(&want), vec![]);
}

#[test]
fn nothing_is_late_before_there_is_a_plan() {
    let mut machine = Machine::new(Config::default());
    assert_eq!(machine.poll(0), Do::Observe(Scope::All));
    machine.on_observed(Observed { scope: Scope::All, state: world(2).want() });
    assert!(matches!(machine.poll(10_000), Do::Sleep(_)));
    assert_eq!(machine.status().late, 0);
}
