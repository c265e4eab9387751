//! What the machine promises, whatever the plan, the kernel's state and its moods.

mod common;

use std::collections::BTreeSet;

use common::mischief::{Mischief, mischief, ruins, wreak};
use common::{Host, bare_kernel, container, netdev, plain_link, worlds};
use proptest::prelude::*;
use proptest::sample::Index;
use weft_kernel::fake::Times;
use weft_kernel::{Attach, KernelState, Key, Netns, NetnsId, Object, Scope, ShortcutKey, Step};
use weft_reconcile::{Config, Damage, Do, Observed, diff};

/// Steps that may find their work done: a bridge's row moves when another port gets its MAC, and
/// whether a device's chain goes along with the device depends on the kernel.
fn may_be_idle(step: &Step) -> bool {
    matches!(step, Step::Delete(Key::Fdb(_, weft_kernel::FdbTable::Bridge, _)))
        || matches!(step.key(), Key::DeviceChain(..))
}

fn damages() -> impl Strategy<Value = Vec<Mischief>> {
    proptest::collection::vec(mischief(), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn converges_from_anything_whatever_fails_on_the_way(
        old in worlds(), new in worlds(), damage in damages(), outlive: bool,
        failing in proptest::collection::vec((any::<Index>(), 1..110i32), 0..5),
        script in proptest::collection::vec(proptest::option::weighted(0.3, 1..110i32), 0..60),
    ) {
        let want = new.want();
        let mut host = Host::new(ruins(&old, &damage, outlive));
        let foreign = host.kernel.foreign().clone();
        let keys: Vec<Key> = want.iter().map(|(key, _)| key.clone()).collect();
        for (index, errno) in failing {
            if !keys.is_empty() {
                host.kernel.fail(index.get(&keys).clone(), errno, Times::Once);
            }
        }
        host.kernel.script(script);
        host.machine.on_plan(want.clone(), 7);
        host.run(200_000);
        prop_assert_eq!(host.differences(&want), vec![]);
        prop_assert_eq!(host.kernel.foreign(), &foreign);
        let status = host.machine.status();
        prop_assert_eq!(status.faults, vec![]);
        prop_assert_eq!((status.held, status.late, status.generation_applied), (0, 0, Some(7)));
        prop_assert_eq!(host.held_twice(), vec![]);
    }

    #[test]
    fn without_faults_no_step_fails_and_none_is_for_what_is_right_already(
        old in worlds(), new in worlds(), damage in damages(), outlive: bool, nosy: bool,
    ) {
        let want = new.want();
        let config = if nosy {
            Config { batch: 2, grace: 0, distance: 0, ..Config::default() }
        } else {
            Config::default()
        };
        let mut host = Host::with(ruins(&old, &damage, outlive), config);
        host.nosy = nosy;
        host.machine.on_plan(want.clone(), 1);
        host.run(2_500);
        prop_assert_eq!(host.failures(), Vec::<&_>::new());
        let idle: Vec<&Step> =
            host.log.iter().filter(|(s, idle, _)| *idle && !may_be_idle(s)).map(|(s, ..)| s).collect();
        prop_assert_eq!(idle, Vec::<&Step>::new());
        prop_assert_eq!(host.differences(&want), vec![]);
        prop_assert_eq!(host.machine.status().repaired, 0, "a change of plan is not damage");
    }

    #[test]
    fn diff_alone_leads_all_the_way(
        old in worlds(), new in worlds(), damage in damages(), outlive: bool,
    ) {
        let want = new.want();
        let mut host = Host::new(ruins(&old, &damage, outlive));
        for step in diff(&want, &host.kernel.observe()) {
            let result = host.take(&step);
            prop_assert!(result.is_ok(), "{:?}: {:?}", step, result);
        }
        prop_assert_eq!(host.differences(&want), vec![]);
        prop_assert_eq!(diff(&want, &host.kernel.observe()), vec![]);
    }

    #[test]
    fn what_replaces_comes_before_what_goes(old in worlds(), new in worlds()) {
        let (want, have) = (new.want(), old.want());
        let steps = diff(&want, &have);
        let last_put = steps.iter().rposition(|step| matches!(step, Step::Put(..)));
        for (at, step) in steps.iter().enumerate() {
            let Step::Delete(key) = step else { continue };
            prop_assert!(have.get(key).is_some());
            let early = last_put.is_some_and(|last| at < last);
            let comes_back = want.get(key).is_some();
            let makes_room = matches!(key, Key::Link(..) | Key::Set(..) | Key::Chain(..) | Key::DeviceChain(..))
                || matches!(key, Key::Address(_, _, net) if net.addr().is_ipv6());
            prop_assert!(!early || makes_room, "{:?} goes too early", key);
            prop_assert!(early || !comes_back, "{:?} goes for good", key);
        }
    }

    #[test]
    fn a_crash_anywhere_is_only_an_interruption(
        old in worlds(), new in worlds(), damage in damages(), crashes in proptest::collection::vec(1..40usize, 1..4),
    ) {
        let want = new.want();
        let mut host = Host::new(ruins(&old, &damage, true));
        for steps in crashes {
            host.machine = weft_reconcile::Machine::new(weft_reconcile::Config::default());
            host.machine.on_plan(want.clone(), 1);
            let mut left = steps;
            while left > 0 {
                match host.machine.poll(host.now) {
                    Do::Observe(scope) => {
                        let state = host.kernel.observe_scope(&scope);
                        host.machine.on_observed(Observed { scope, state });
                    }
                    Do::Apply(batch) => {
                        let now: Vec<Step> = batch.into_iter().take(left).collect();
                        left -= now.len();
                        let results = now.iter().map(|step| host.take(step)).collect();
                        host.machine.on_applied(now, results, host.now);
                    }
                    Do::Sleep(_) => left = 0,
                }
            }
        }
        host.machine = weft_reconcile::Machine::new(weft_reconcile::Config::default());
        host.machine.on_plan(want.clone(), 1);
        host.run(1_000);
        prop_assert_eq!(host.failures(), Vec::<&_>::new());
        prop_assert_eq!(host.differences(&want), vec![]);
    }

    #[test]
    fn without_a_plan_or_a_look_nothing_is_touched(old in worlds(), new in worlds(), damage in damages()) {
        let kernel = ruins(&old, &damage, true);
        let mut planless = Host::new(kernel.clone());
        planless.machine.on_dirty(Scope::Cheap);
        planless.machine.on_overrun();
        planless.run(300_000);
        prop_assert_eq!(planless.log.len(), 0);
        prop_assert_eq!(planless.machine.status().generation_applied, None);

        let mut blind = Host::new(kernel);
        blind.machine.on_plan(new.want(), 1);
        for _ in 0..50 {
            match blind.machine.poll(blind.now) {
                Do::Observe(scope) => blind.machine.on_observe_failed(scope, blind.now),
                Do::Sleep(Some(at)) => blind.now = at,
                other => prop_assert!(false, "{:?}", other),
            }
        }
        // A look at a part is not a look at everything.
        let state = blind.kernel.observe_scope(&Scope::Cheap);
        blind.machine.on_observed(Observed { scope: Scope::Cheap, state });
        prop_assert!(!matches!(blind.machine.poll(blind.now), Do::Apply(_)));
        prop_assert_eq!(blind.machine.status().generation_applied, None);
    }

    #[test]
    fn the_latest_generation_wins_in_whatever_order_plans_come(
        plans in proptest::collection::vec((worlds(), 1..6u64, 0..4usize), 1..6),
    ) {
        let mut host = Host::new(bare_kernel());
        let mut latest: Option<(u64, KernelState)> = None;
        let mut settled_once = false;
        for (world, generation, turns) in plans {
            let newer = latest.as_ref().is_none_or(|(g, _)| generation >= *g);
            prop_assert_eq!(host.machine.on_plan(world.want(), generation), newer);
            if newer {
                // A plan that replaces a finished one of its generation takes nothing back.
                let same = latest.as_ref().is_some_and(|(g, _)| *g == generation);
                settled_once &= same;
                latest = Some((generation, world.want()));
                prop_assert!(!host.machine.is_settled());
            }
            for _ in 0..turns {
                let before = host.machine.status().generation_applied;
                host.turn(host.now + 1);
                let status = host.machine.status();
                prop_assert!(status.generation_applied >= before);
                let (generation, want) = latest.as_ref().unwrap();
                let is_laid = host.pressing_differences(want).is_empty();
                let waiting = status.late;
                prop_assert!(waiting > 0 || !status.settled || host.differences(want).is_empty());
                prop_assert!(is_laid || !status.settled);
                prop_assert!(!status.settled || status.generation_applied == Some(*generation));
                prop_assert!(!status.settled || host.machine.is_settled());
                prop_assert!(settled_once || is_laid || status.generation_applied != Some(*generation));
                settled_once |= status.settled;
            }
        }
        host.run(1_000);
        let (generation, want) = latest.unwrap();
        prop_assert_eq!(host.differences(&want), vec![]);
        prop_assert_eq!(host.machine.status().generation_applied, Some(generation));
        prop_assert_eq!(host.failures(), Vec::<&_>::new());
    }

    #[test]
    fn damage_by_others_is_repaired_in_time_and_reported(
        world in worlds(), damage in proptest::collection::vec(mischief(), 1..4), outlive: bool, told: bool,
    ) {
        let want = world.want();
        let mut kernel = bare_kernel();
        kernel.chains_outlive_links(outlive);
        let mut host = Host::new(kernel);
        host.machine.on_plan(want.clone(), 1);
        host.run(10_000);
        prop_assert_eq!(host.machine.status().repaired, 0);
        for mischief in &damage {
            wreak(&mut host.kernel, mischief);
        }
        let broken = host.differences(&want);
        if told {
            broken.iter().for_each(|key| host.machine.on_event(key.clone(), host.kernel.observe().get(key).cloned()));
            host.run(700);
            prop_assert_eq!(host.differences(&want), vec![]);
        } else {
            host.run(5_000);
            let late: Vec<Key> = host.differences(&want);
            let soon = |key: &Key| Scope::Cheap.contains(key) || Scope::Shortcut.contains(key);
            prop_assert!(!late.iter().any(soon), "{:?}", late);
            host.run(62_000);
            prop_assert_eq!(host.differences(&want), vec![]);
        }
        prop_assert_eq!(host.failures(), Vec::<&_>::new());
        let status = host.machine.status();
        let reported: BTreeSet<Key> = status.repairs.iter().map(|repair| repair.key.clone()).collect();
        for key in broken {
            // What a changed link loses is named by the link.
            let link = key.sits_on().map(|(ns, link)| Key::Link(ns, link.to_owned()));
            let by_link = link.is_some_and(|link| reported.contains(&link));
            prop_assert!(by_link || reported.contains(&key), "{:?} was not reported", key);
        }
    }

    #[test]
    fn a_failing_object_stops_only_what_needs_it(
        world in worlds(), index: Index, errno in 1..110i32,
    ) {
        let want = world.want();
        let keys: Vec<Key> = want.iter().map(|(key, _)| key.clone()).collect();
        prop_assume!(!keys.is_empty());
        let bad = index.get(&keys).clone();
        // What Linux lets through when the bad one is left out is what may not be missing.
        let mut oracle = bare_kernel();
        oracle.fail(bad.clone(), errno, Times::Always);
        oracle.apply(&diff(&want, &KernelState::new()));

        let mut host = Host::new(bare_kernel());
        host.kernel.fail(bad.clone(), errno, Times::Always);
        host.machine.on_plan(want.clone(), 3);
        host.run(120_000);
        let possible = oracle.observe();
        let missing: Vec<Key> = host
            .differences(&want)
            .into_iter()
            .filter(|key| possible.get(key) == want.get(key))
            .filter(|key| !is_forwarding(key, &bad) && !is_half_known(key, &bad))
            .collect();
        prop_assert_eq!(missing, vec![]);
        let status = host.machine.status();
        prop_assert_eq!(status.generation_applied, Some(3));
        let faulty: Vec<Key> = status.faults.iter().map(|fault| fault.key.clone()).collect();
        prop_assert_eq!(faulty, vec![bad.clone()], "only the cause is a fault");
        let tries = host.failures().len();
        prop_assert!((8..20).contains(&tries), "{} tries in two minutes", tries);

        host.kernel.heal_all();
        host.run(31_000);
        prop_assert_eq!(host.differences(&want), vec![]);
        prop_assert_eq!((host.machine.status().faults, host.machine.status().held), (vec![], 0));
    }

    #[test]
    fn objects_of_others_stay_and_only_their_place_waits(world in worlds(), index: Index) {
        let want = world.want();
        let links: Vec<Key> = want
            .iter()
            .filter(|(key, object)| matches!((key, object), (Key::Link(Netns::Host, _), Object::Link(_))))
            .map(|(key, _)| key.clone())
            .collect();
        prop_assume!(!links.is_empty());
        let taken = index.get(&links).clone();
        let mut host = Host::new(bare_kernel());
        host.kernel.put_foreign(taken.clone(), plain_link());
        let foreign = host.kernel.foreign().clone();
        host.machine.on_plan(want.clone(), 1);
        host.run(60_000);
        prop_assert_eq!(host.kernel.foreign(), &foreign);
        let faulty: Vec<Key> = host.machine.status().faults.into_iter().map(|f| f.key).collect();
        prop_assert_eq!(faulty, vec![taken.clone()]);
        prop_assert!((11..=13).contains(&host.failures().len()), "a try every five seconds");
        host.kernel.remove_foreign(&taken);
        host.run(6_000);
        prop_assert_eq!(host.differences(&want), vec![]);

        host.machine.on_plan(KernelState::new(), 2);
        host.run(1_000);
        let left: Vec<Key> = host.differences(&KernelState::new());
        prop_assert_eq!(left, vec![]);
    }

    #[test]
    fn at_rest_it_only_looks(world in worlds(), damage in damages()) {
        let mut host = Host::new(ruins(&world, &damage, true));
        host.machine.on_plan(world.want(), 1);
        host.run(1_000);
        let (steps, polls) = (host.log.len(), host.polls);
        host.run(130_000);
        prop_assert_eq!(host.log.len(), steps, "{:?}", &host.log[steps..]);
        let most = if world.shortcut.is_some() { 180 } else { 120 };
        prop_assert!(host.polls - polls < most, "{} polls in two minutes", host.polls - polls);
    }

    #[test]
    fn a_vanished_container_takes_nobody_along(world in worlds(), gone in 0..common::CONTAINERS, early: bool) {
        let want = world.want();
        let mut host = Host::new(bare_kernel());
        host.machine.on_plan(want.clone(), 1);
        if !early {
            host.run(10_000);
        }
        let Netns::Container(id) = container(gone) else { unreachable!() };
        host.kernel.remove_netns(id);
        host.run(10_000);
        let mut rest = world.clone();
        rest.locals.retain(|local| local.container != gone);
        let missing: Vec<Key> = host
            .differences(&rest.want())
            .into_iter()
            .filter(|key| rest.want().get(key).is_some_and(|object| want.get(key) == Some(object)))
            .collect();
        prop_assert_eq!(missing, vec![]);
        let was_there = want.section(&weft_kernel::Section::Container(id)).is_some();
        let expected: Vec<NetnsId> = if was_there { vec![id] } else { vec![] };
        prop_assert_eq!(host.machine.status().gone, expected);
        let tries = host.failures().len();
        host.run(130_000);
        prop_assert_eq!(host.failures().len(), tries, "a dead namespace does not come back");

        host.machine.on_plan(rest.want(), 2);
        host.run(5_000);
        prop_assert_eq!(host.differences(&rest.want()), vec![]);
        let status = host.machine.status();
        prop_assert_eq!((status.faults, status.gone, status.held), (vec![], vec![], 0));
    }

    #[test]
    fn a_batch_has_no_step_that_depends_on_another(old in worlds(), new in worlds(), outlive: bool) {
        let mut host = Host::new(ruins(&old, &[], outlive));
        host.machine.on_plan(new.want(), 1);
        loop {
            match host.machine.poll(host.now) {
                Do::Observe(scope) => {
                    let state = host.kernel.observe_scope(&scope);
                    host.machine.on_observed(Observed { scope, state });
                }
                Do::Apply(steps) => {
                    let mut backwards: Vec<Step> = steps.clone();
                    backwards.reverse();
                    let mut other = host.kernel.clone();
                    prop_assert!(other.apply(&backwards).iter().all(Result::is_ok), "{:?}", steps);
                    let results = host.kernel.apply(&steps);
                    prop_assert_eq!(other.observe(), host.kernel.observe());
                    host.machine.on_applied(steps, results, host.now);
                }
                Do::Sleep(Some(at)) if host.machine.status().late > 0 => host.now = at,
                Do::Sleep(_) => break,
            }
        }
        prop_assert_eq!(host.differences(&new.want()), vec![]);
    }
}

/// Forwarding waits for the uplinks that live from router advertisements, although Linux would
/// let it through.
fn is_forwarding(key: &Key, bad: &Key) -> bool {
    matches!((key, bad), (Key::Sysctl(_, path), Key::Sysctl(_, cause))
        if path.contains("forward") && cause.ends_with("/accept_ra"))
}

/// The shortcut is not told of an endpoint before all that it must know for it, although the
/// kernel would let it through.
fn is_half_known(key: &Key, bad: &Key) -> bool {
    let (Key::Shortcut(key), Key::Shortcut(bad)) = (key, bad) else { return false };
    let known =
        |key: &ShortcutKey| matches!(key, ShortcutKey::Endpoint(_) | ShortcutKey::Program(..));
    match bad {
        ShortcutKey::Member(..) => known(key),
        ShortcutKey::Granted(link, _) | ShortcutKey::Endpoint(link) => {
            known(key) && key.sits_on() == Some(link)
        }
        ShortcutKey::Node => matches!(key, ShortcutKey::Program(_, Attach::FromUnderlay)),
        _ => false,
    }
}

#[test]
fn kinds_of_damage_are_told_apart() {
    let mut host = Host::new(bare_kernel());
    let table = Key::Table(netdev());
    let chain = |name: &str| Key::Chain(netdev(), name.into());
    let empty = weft_kernel::nft::Chain { hook: None, rules: vec![] };
    let other = weft_kernel::nft::Chain {
        rules: vec![weft_kernel::nft::Rule {
            matches: vec![],
            statements: vec![],
            comment: String::new(),
        }],
        ..empty.clone()
    };
    let want: KernelState = [
        (table, Object::Table),
        (chain("a"), Object::Chain(empty.clone())),
        (chain("b"), Object::Chain(empty.clone())),
    ]
    .into_iter()
    .collect();
    host.machine.on_plan(want.clone(), 1);
    host.run(1_000);
    host.kernel.tamper(&Step::Delete(chain("a"))).unwrap();
    host.kernel.tamper(&Step::Put(chain("b"), Object::Chain(other))).unwrap();
    host.kernel.tamper(&Step::Put(chain("c"), Object::Chain(empty))).unwrap();
    host.machine.on_dirty(Scope::Cheap);
    host.run(1_000);
    assert_eq!(host.differences(&want), vec![]);
    let mut told: Vec<(Key, Damage)> =
        host.machine.status().repairs.into_iter().map(|r| (r.key, r.damage)).collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = vec![
        (chain("a"), Damage::Missing),
        (chain("b"), Damage::Changed),
        (chain("c"), Damage::Unexpected),
    ];
    assert_eq!(told, expected);
}
