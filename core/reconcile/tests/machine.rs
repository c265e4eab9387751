//! The machine in single scenes.

mod common;

use std::net::IpAddr;

use common::{Host, bare_kernel, container, inet, netdev, wb, we, wv};
use weft_kernel::fake::Times;
use weft_kernel::nft::Chain;
use weft_kernel::object::{Link, LinkKind, Port};
use weft_kernel::{
    Fault, FaultKind, FdbTable, Key, KernelState, Netns, Object, Scope, Step,
};
use weft_reconcile::{Config, Do, Machine, Observed, diff};

fn link(kind: LinkKind, bridge: Option<&str>) -> Object {
    let port =
        bridge.map(|bridge| Port { bridge: bridge.into(), neigh_suppress: true, locked: false });
    Object::Link(Link { kind, mac: [2, 0, 0, 0, 0, 1], mtu: 1450, alias: "weft".into(), port })
}

fn host_link(name: &str) -> Key {
    Key::Link(Netns::Host, name.into())
}

fn ip(last: u16) -> IpAddr {
    let [high, low] = last.to_be_bytes();
    IpAddr::from([10, 1, high, low])
}

fn row(last: u16) -> (Key, Object) {
    (Key::Neighbour(wb(1), ip(last)), Object::Neighbour([2, 0, 0, 0, 0, 9]))
}

fn with_rows(rows: u16) -> KernelState {
    let bridge = (host_link(&wb(1)), link(LinkKind::Bridge, None));
    std::iter::once(bridge).chain((0..rows).map(row)).collect()
}

fn veth() -> KernelState {
    let ns = container(0);
    let kind = LinkKind::Veth { peer_netns: ns, peer: "eth0".into() };
    let chain = Chain { hook: None, rules: vec![] };
    let peer = match link(LinkKind::VethPeer, None) {
        Object::Link(link) => Object::Link(Link { alias: String::new(), ..link }),
        other => other,
    };
    [
        (Key::Table(netdev()), Object::Table),
        (host_link(&wb(1)), link(LinkKind::Bridge, None)),
        (host_link(&we(1)), link(kind, Some(&wb(1)))),
        (Key::Link(ns, "eth0".into()), peer),
        (Key::DeviceChain(netdev(), we(1), "in".into()), Object::Chain(chain)),
        (Key::Address(ns, "eth0".into(), "10.1.0.2/24".parse().unwrap()), Object::Address),
        (Key::Up(ns, "eth0".into()), Object::Up),
        (Key::Fdb(we(1), FdbTable::Bridge, [2; 6]), Object::Fdb(None)),
    ]
    .into_iter()
    .collect()
}

#[test]
fn deletions_of_what_goes_with_a_link_are_left_out_and_its_filter_goes_last() {
    let mut want = veth();
    for key in veth().iter().map(|(key, _)| key) {
        if !matches!(key, Key::Table(_)) && *key != host_link(&wb(1)) {
            want.remove(key);
        }
    }
    let chain = Key::DeviceChain(netdev(), we(1), "in".into());
    let expected = vec![Step::Delete(host_link(&we(1))), Step::Delete(chain)];
    assert_eq!(diff(&want, &veth()), expected);
}

#[test]
fn a_link_of_another_kind_is_replaced_with_all_that_sat_on_it() {
    let mut have = veth();
    let elsewhere = LinkKind::Veth { peer_netns: container(0), peer: "old0".into() };
    have.insert(host_link(&we(1)), link(elsewhere, Some(&wb(1))));
    let steps = diff(&veth(), &have);
    assert_eq!(steps[0], Step::Delete(Key::Link(container(0), "eth0".into())), "it is in the way");
    let kinds: Vec<&Key> = steps.iter().map(Step::key).collect();
    assert!(kinds.contains(&&Key::Fdb(we(1), FdbTable::Bridge, [2; 6])));
    assert!(kinds.contains(&&Key::DeviceChain(netdev(), we(1), "in".into())));
    assert!(kinds.contains(&&Key::Up(container(0), "eth0".into())));
    assert!(!kinds.contains(&&host_link(&wb(1))), "the bridge stays");
}

#[test]
fn a_new_bridge_gets_its_ports_and_their_rows_back() {
    let mut have = veth();
    have.insert(host_link(&wb(1)), link(LinkKind::VethPeer, None));
    let steps = diff(&veth(), &have);
    let expected = [
        Step::Delete(host_link(&wb(1))),
        Step::Put(host_link(&wb(1)), link(LinkKind::Bridge, None)),
    ];
    assert_eq!(steps[..2], expected);
    assert!(!steps.contains(&Step::Delete(host_link(&we(1)))), "the port lives on");
}

#[test]
fn forwarding_comes_after_the_uplinks_were_told_to_listen() {
    let sysctl = |path: &str, value: &str| {
        (Key::Sysctl(Netns::Host, path.into()), Object::Sysctl(value.into()))
    };
    let all = "net/ipv6/conf/all/forwarding";
    let uplink = "net/ipv6/conf/eth0/accept_ra";
    let want: KernelState = [sysctl(all, "1"), sysctl(uplink, "2")].into_iter().collect();
    let steps = diff(&want, &KernelState::new());
    let keys: Vec<&Key> = steps.iter().map(Step::key).collect();
    assert_eq!(keys, [&sysctl(uplink, "").0, &sysctl(all, "").0]);

    let mut host = Host::new(bare_kernel());
    host.kernel.fail(sysctl(uplink, "").0, 13, Times::Always);
    host.machine.on_plan(want, 1);
    host.run(60_000);
    assert!(host.kernel.observe().is_empty(), "an uplink must not lose its router");
    assert_eq!(host.machine.status().held, 1);
}

#[test]
fn a_sysctl_is_never_deleted() {
    let have: KernelState =
        [(Key::Sysctl(Netns::Host, "net/ipv4/ip_forward".into()), Object::Sysctl("1".into()))]
            .into_iter()
            .collect();
    assert_eq!(diff(&KernelState::new(), &have), vec![]);
}

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
            Do::Observe(scope) => machine.on_observed(Observed { scope, state: KernelState::new() }),
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
    assert_eq!(machine.poll(0), Do::Sleep(None));
    // It began before the steps were taken: it would say that nothing is there.
    machine.on_observed(Observed { scope: Scope::Cheap, state: KernelState::new() });
    machine.on_applied(steps, vec![Ok(())], 0);
    assert_eq!(machine.have().len(), 1);
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
fn circles_in_a_plan_end() {
    let jump = |to: &str| {
        let statements = vec![weft_kernel::nft::Statement::Jump(to.into())];
        let rule = weft_kernel::nft::Rule { matches: vec![], statements, comment: String::new() };
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
