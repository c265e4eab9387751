//! The machine in single scenes.

mod common;

use common::scenes::{host_link, ip, link, row, veth, with_rows};
use common::{Host, bare_kernel, container, inet, wb, we, wv};
use weft_kernel::fake::Times;
use weft_kernel::nft::{Chain, Equal, Field, Match, Rule, Set};
use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{
    Fault, FaultKind, FdbTable, KernelState, Key, Netns, NetnsId, Object, Scope, Step,
};
use weft_reconcile::{Config, Do, Machine, Observed};

#[test]
fn batches_are_bounded_and_of_one_turn() {
    let mut machine = Machine::new(Config { batch: 1_000, ..Config::default() });
    let mut want = with_rows(2_500);
    for (key, object) in [
        (host_link(&wv(1)), link(LinkKind::Bridge, Some(&wb(1)))),
        (Key::Fdb(wv(1), FdbTable::Bridge, [2; 6]), Object::Fdb(None)),
    ] {
        want.insert(key, object);
    }
    machine.on_plan(want, 1);
    let mut sizes = Vec::new();
    loop {
        match machine.poll(0) {
            Do::Observe(scope) => {
                machine.on_observed(Observed { scope, state: KernelState::new() })
            }
            Do::Apply(steps) => {
                sizes.push(steps.len());
                let results = steps.iter().map(|_| Ok(())).collect();
                machine.on_applied(steps, results, 0);
            }
            Do::Sleep(_) => break,
        }
    }
    assert_eq!(sizes, [1, 1, 1_000, 1_000, 500, 1]);
}

#[test]
fn while_the_driver_is_about_something_there_is_nothing_else_to_do() {
    let mut machine = Machine::new(Config::default());
    machine.on_plan(with_rows(1), 1);
    assert_eq!(machine.poll(0), Do::Observe(Scope::All));
    assert_eq!(machine.poll(0), Do::Sleep(None));
    machine.on_observed(Observed { scope: Scope::All, state: KernelState::new() });
    let Do::Apply(steps) = machine.poll(0) else { panic!("steps") };
    machine.on_applied(steps, vec![Ok(())], 0);
    let Do::Apply(steps) = machine.poll(0) else { panic!("more steps") };
    assert_eq!(machine.poll(0), Do::Sleep(None));
    // It began before any step was taken: it would say that nothing is there.
    machine.on_observed(Observed { scope: Scope::Cheap, state: KernelState::new() });
    machine.on_applied(steps, vec![Ok(())], 0);
    assert_eq!(machine.have().len(), 2);
}

#[test]
fn steps_without_an_answer_have_failed() {
    let mut machine = Machine::new(Config::default());
    machine.on_plan(with_rows(0), 1);
    machine.poll(0);
    machine.on_observed(Observed { scope: Scope::All, state: KernelState::new() });
    let Do::Apply(steps) = machine.poll(0) else { panic!("steps") };
    machine.on_applied(steps, vec![], 0);
    assert_eq!(machine.status().faults[0].fault.message, "the step got no answer");
    assert!(matches!(machine.poll(0), Do::Sleep(Some(_)) | Do::Observe(_)));
}

#[test]
fn our_own_steps_do_not_come_back_as_work() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with_rows(3), 1);
    host.run(1_000);
    let quiet = host.machine.poll(host.now);
    assert!(matches!(quiet, Do::Sleep(_)));
    let (key, object) = row(2);
    host.machine.on_event(key.clone(), Some(object));
    assert_eq!(host.machine.poll(host.now), quiet, "it is known");
    host.machine.on_event(key, None);
    assert_eq!(host.machine.poll(host.now), Do::Observe(Scope::Rows(wb(1))));
}

#[test]
fn events_during_steps_are_judged_after_them() {
    let mut machine = Machine::new(Config::default());
    machine.on_plan(with_rows(0), 1);
    machine.poll(0);
    machine.on_observed(Observed { scope: Scope::All, state: KernelState::new() });
    let Do::Apply(steps) = machine.poll(0) else { panic!("steps") };
    machine.on_event(host_link(&wb(1)), Some(link(LinkKind::Bridge, None)));
    machine.on_applied(steps, vec![Ok(())], 0);
    assert_eq!(machine.poll(1_000), Do::Sleep(Some(3_000)), "the next look of the usual round");
}

#[test]
fn an_overrun_means_to_read_everything_but_not_all_the_time() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with_rows(3), 1);
    host.run(10_000);
    host.machine.on_overrun();
    assert_eq!(host.machine.poll(host.now), Do::Observe(Scope::All));
    let state = host.kernel.observe();
    host.machine.on_observed(Observed { scope: Scope::All, state });
    host.machine.on_overrun();
    assert_eq!(host.machine.poll(host.now), Do::Sleep(Some(host.now + 1_000)));
}

#[test]
fn doubts_about_many_links_are_one_reading() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with_rows(3), 1);
    host.run(10_000);
    (0..100).for_each(|n| host.machine.on_dirty(Scope::Rows(format!("we-{n}"))));
    assert_eq!(host.machine.poll(host.now), Do::Observe(Scope::All));
}

#[test]
fn steps_go_before_readings_until_a_reading_is_late() {
    let config = Config { batch: 1, ..Config::default() };
    let grace = config.grace;
    let mut machine = Machine::new(config);
    machine.on_plan(with_rows(1_000), 1);
    machine.poll(0);
    machine.on_observed(Observed { scope: Scope::All, state: KernelState::new() });
    machine.on_dirty(Scope::Cheap);
    let mut now = 0;
    while let Do::Apply(steps) = machine.poll(now) {
        now += 100;
        machine.on_applied(steps, vec![Ok(())], now);
    }
    assert!((grace..grace + 500).contains(&now), "{now}");
}

#[test]
fn tries_grow_rarer_up_to_half_a_minute() {
    let mut host = Host::new(bare_kernel());
    let key = row(1).0;
    host.kernel.fail(key.clone(), 105, Times::Always);
    host.machine.on_plan(with_rows(3), 1);
    let (mut last, mut waits) = (None, Vec::new());
    while host.now < 200_000 {
        let tries = host.failures().len();
        host.turn(host.now + 10_000_000);
        if host.failures().len() > tries {
            waits.extend(last.map(|last| host.now - last));
            last = Some(host.now);
        }
    }
    assert!((75..=350).contains(&waits[0]), "{waits:?}");
    assert!(waits.windows(2).all(|w| w[1] > w[0] || w[1] >= 22_000), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 30_300), "{waits:?}");
    assert!(*waits.last().unwrap() >= 22_000, "{waits:?}");
    assert_eq!(host.differences(&with_rows(3)), vec![key]);
}

#[test]
fn a_changed_wish_is_tried_at_once() {
    let mut host = Host::new(bare_kernel());
    let (key, _) = row(1);
    host.kernel.fail(key.clone(), 105, Times::Always);
    host.machine.on_plan(with_rows(3), 1);
    host.run(60_000);
    let tries = host.failures().len();
    let mut want = with_rows(3);
    want.insert(key.clone(), Object::Neighbour([4; 6]));
    host.machine.on_plan(want, 1);
    host.run(10);
    assert_eq!(host.failures().len(), tries + 1);
    assert_eq!(host.machine.status().faults[0].attempts, 1);
    let mut want = with_rows(3);
    want.remove(&key);
    host.machine.on_plan(want, 1);
    assert_eq!(host.machine.status().faults, vec![], "what nobody wants is no fault");
}

#[test]
fn an_unchanged_section_is_not_compared_again() {
    let want = with_rows(3);
    let mut machine = Machine::new(Config::default());
    machine.on_plan(want.clone(), 1);
    machine.poll(0);
    machine.on_observed(Observed { scope: Scope::All, state: want.clone() });
    assert!(matches!(machine.poll(0), Do::Sleep(_)));
    assert_eq!(machine.status().generation_applied, Some(1));
    machine.on_plan(want, 2);
    assert_eq!(machine.status().generation_applied, Some(1), "not before it was looked at");
    assert!(matches!(machine.poll(0), Do::Sleep(_)));
    assert_eq!(machine.status().generation_applied, Some(2));
}

#[test]
fn a_deletion_that_fails_is_shown_and_tried_again() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with_rows(3), 1);
    host.run(1_000);
    let (key, _) = row(1);
    host.kernel.fail(key.clone(), 16, Times::Once);
    host.machine.on_plan(with_rows(1), 2);
    host.turn(host.now);
    host.turn(host.now);
    assert_eq!(host.machine.status().faults[0].key, key);
    host.run(1_000);
    assert_eq!(host.differences(&with_rows(1)), vec![]);
    assert_eq!(host.machine.status().faults, vec![]);
}

#[test]
fn a_link_that_cannot_be_replaced_keeps_what_it_has() {
    let vxlan = |last| LinkKind::Vxlan { vni: 1, local: ip(last), port: 4789 };
    let want = |last| -> KernelState {
        [
            (host_link(&wv(1)), link(vxlan(last), None)),
            (Key::Up(Netns::Host, wv(1)), Object::Up),
            (Key::Flood(wv(1), ip(77)), Object::Flood),
        ]
        .into_iter()
        .collect()
    };
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(want(1), 1);
    host.run(1_000);
    host.kernel.fail(host_link(&wv(1)), 16, Times::Always);
    host.machine.on_plan(want(2), 2);
    let steps = host.log.len();
    host.run(60_000);
    let tried: Vec<&Step> = host.log[steps..].iter().map(|(step, ..)| step).collect();
    assert!(tried.iter().all(|step| **step == Step::Delete(host_link(&wv(1)))), "{tried:?}");
    host.kernel.heal_all();
    host.run(31_000);
    assert_eq!(host.differences(&want(2)), vec![]);
}

#[test]
fn a_link_that_cannot_be_changed_costs_its_rows_nothing() {
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with_rows(3), 1);
    host.run(1_000);
    host.kernel.fail(host_link(&wb(1)), 16, Times::Always);
    let mut want = with_rows(3);
    let Object::Link(old) = link(LinkKind::Bridge, None) else { unreachable!() };
    want.insert(host_link(&wb(1)), Object::Link(Link { mac: [6; 6], ..old }));
    host.machine.on_plan(want, 2);
    host.turn(host.now);
    let steps = host.log.len();
    host.run(60_000);
    let rows = host.log[steps..].iter().filter(|(step, ..)| *step.key() != host_link(&wb(1)));
    assert_eq!(rows.count(), 0);
}

#[test]
fn a_set_that_cannot_be_replaced_leaves_its_table_alone_between_tries() {
    let with = |fields: Vec<Field>| -> KernelState {
        let look = Match::InSet(Equal::Is, fields.clone(), "s".into());
        let rule = Rule { matches: vec![look], statements: vec![], comment: String::new() };
        [
            (Key::Table(inet()), Object::Table),
            (Key::Set(inet(), "s".into()), Object::Set(Set { of: fields })),
            (
                Key::Chain(inet(), "c".into()),
                Object::Chain(Chain { hook: None, rules: vec![rule] }),
            ),
            (Key::Chain(inet(), "d".into()), Object::Chain(Chain { hook: None, rules: vec![] })),
        ]
        .into_iter()
        .collect()
    };
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(with(vec![Field::Vni]), 1);
    host.run(1_000);
    let set = Key::Set(inet(), "s".into());
    host.kernel.fail(set.clone(), 16, Times::Always);
    host.machine.on_plan(with(vec![Field::SourceV4]), 2);
    host.run(60_000);
    let on_set = host.log.iter().filter(|(step, ..)| *step.key() == set).count();
    let on_other = Key::Chain(inet(), "d".into());
    let on_other = host.log.iter().filter(|(step, ..)| *step.key() == on_other).count();
    assert!(on_set > 8, "{on_set} tries");
    assert!(on_other <= 2 * on_set, "{on_other} steps on a chain for {on_set} tries");
    host.kernel.heal_all();
    host.run(31_000);
    assert_eq!(host.differences(&with(vec![Field::SourceV4])), vec![]);
}

#[test]
fn what_a_step_takes_along_is_put_again_at_once() {
    let mut want = with_rows(3);
    want.insert(Key::Up(Netns::Host, wb(1)), Object::Up);
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(want, 1);
    host.run(1_000);
    host.machine.on_plan(with_rows(3), 2);
    host.run(10);
    assert_eq!(host.differences(&with_rows(3)), vec![], "going down cost the rows");
}

#[test]
fn before_a_failed_step_is_tried_again_reality_is_read() {
    let mut host = Host::new(bare_kernel());
    let (key, object) = row(1);
    host.machine.on_plan(with_rows(1), 1);
    host.run(1_000);
    host.kernel.fail(key.clone(), 105, Times::Once);
    host.machine.on_plan(with_rows(2), 2);
    host.turn(host.now);
    assert_eq!(host.failures().len(), 1);
    // Somebody has done it meanwhile.
    host.kernel.heal_all();
    host.kernel.tamper(&Step::Put(key, object)).unwrap();
    host.run(1_000);
    assert!(!host.log.iter().any(|(_, idle, _)| *idle), "it was there already");
    assert_eq!(host.machine.status().faults, vec![]);
}

#[test]
fn a_gone_container_is_one_fault_and_one_try() {
    let mut host = Host::new(bare_kernel());
    host.kernel.remove_netns(NetnsId(100));
    host.machine.on_plan(veth(), 1);
    host.run(600_000);
    let status = host.machine.status();
    let faulty: Vec<(&Key, FaultKind, Option<u64>)> =
        status.faults.iter().map(|f| (&f.key, f.fault.kind, f.next)).collect();
    assert_eq!(faulty, [(&host_link(&we(1)), FaultKind::NetnsGone, None)]);
    assert_eq!(status.gone, [NetnsId(100)]);
    assert_eq!(host.failures().len(), 1);
    assert_eq!(status.held, 2, "the filter and the row of the host's end");
}

#[test]
fn circles_in_a_plan_end() {
    let jump = |to: &str| {
        let statements = vec![weft_kernel::nft::Statement::Jump(to.into())];
        let rule = Rule { matches: vec![], statements, comment: String::new() };
        Object::Chain(Chain { hook: None, rules: vec![rule] })
    };
    let chain = |name: &str| Key::Chain(inet(), name.into());
    let want: KernelState = [
        (Key::Table(inet()), Object::Table),
        (chain("a"), jump("b")),
        (chain("b"), jump("a")),
        (host_link(&wb(1)), link(LinkKind::Bridge, Some(&wb(1)))),
    ]
    .into_iter()
    .collect();
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(want, 1);
    host.run(60_000);
    assert_eq!(host.machine.status().generation_applied, Some(1));
    assert!(!host.machine.status().faults.is_empty());
}

#[test]
fn two_veths_that_want_one_place_do_not_take_turns() {
    let mut want = veth();
    let kind = LinkKind::Veth { peer_netns: container(0), peer: "eth0".into() };
    want.insert(host_link(&we(2)), link(kind, Some(&wb(1))));
    let mut host = Host::new(bare_kernel());
    host.machine.on_plan(want, 1);
    host.run(60_000);
    let faulty: Vec<Key> = host.machine.status().faults.into_iter().map(|f| f.key).collect();
    assert_eq!(faulty, vec![host_link(&we(2))]);
    let deletes = host.log.iter().filter(|(step, ..)| matches!(step, Step::Delete(_))).count();
    assert_eq!(deletes, 0, "the first one keeps it");
}

#[test]
fn an_error_of_the_namespace_without_a_namespace_is_an_error_like_others() {
    let mut machine = Machine::new(Config::default());
    machine.on_plan(with_rows(0), 1);
    machine.poll(0);
    machine.on_observed(Observed { scope: Scope::All, state: KernelState::new() });
    let Do::Apply(steps) = machine.poll(0) else { panic!("steps") };
    let fault = Fault {
        call: "ip link add".into(),
        errno: 2,
        message: "gone".into(),
        kind: FaultKind::NetnsGone,
        hint: String::new(),
    };
    machine.on_applied(steps, vec![Err(fault)], 0);
    let status = machine.status();
    assert_eq!(status.gone, vec![]);
    assert!(status.faults[0].next.is_some());
}
