//! Everything at once, in any order; afterwards all is well.

#![allow(clippy::unwrap_used, reason = "helpers of a test")]

mod common;

use std::collections::BTreeSet;

use common::{CONTAINERS, Host, World, bare_kernel, container, worlds};
use proptest::prelude::*;
use proptest::sample::Index;
use weft_kernel::fake::Times;
use weft_kernel::object::Link;
use weft_kernel::{KernelState, Key, LinkKind, Netns, Object, Scope, Step};
use weft_reconcile::{Config, Do, Machine};

#[derive(Debug, Clone)]
enum Event {
    Plan(World),
    Delete(Index, bool),
    Corrupt(Index, bool),
    Fail(Index, i32, bool),
    Heal,
    Script(Vec<Option<i32>>),
    Crash,
    Overrun,
    Dirty(Index),
    Blind,
    Vanish(u8),
    Run(u64),
    Turns(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => worlds().prop_map(Event::Plan),
        3 => (any::<Index>(), any::<bool>()).prop_map(|(at, told)| Event::Delete(at, told)),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(at, told)| Event::Corrupt(at, told)),
        2 => (any::<Index>(), 1..110i32, any::<bool>()).prop_map(|(a, e, b)| Event::Fail(a, e, b)),
        1 => Just(Event::Heal),
        1 => proptest::collection::vec(proptest::option::of(1..110i32), 0..9).prop_map(Event::Script),
        1 => Just(Event::Crash),
        1 => Just(Event::Overrun),
        1 => any::<Index>().prop_map(Event::Dirty),
        1 => Just(Event::Blind),
        1 => (0..CONTAINERS).prop_map(Event::Vanish),
        3 => (0..8_000u64).prop_map(Event::Run),
        6 => (1..9u8).prop_map(Event::Turns),
    ];
    proptest::collection::vec(event, 1..25)
}

/// The container that a runtime looks after.
const LENT: u8 = CONTAINERS - 1;

/// What is wanted of an object if that container's ends are lent: nothing inside.
fn lent(key: &Key, object: &Object) -> Option<(Key, Object)> {
    let inside = container(LENT);
    match object {
        _ if key.netns() == Some(inside) => None,
        Object::Link(link) if matches!(&link.kind, LinkKind::Veth { peer_netns, .. } if *peer_netns == inside) => {
            Some((key.clone(), Object::Link(Link { kind: LinkKind::Lent, ..link.clone() })))
        }
        _ => Some((key.clone(), object.clone())),
    }
}

struct Chaos {
    host: Host,
    world: Option<World>,
    generation: u64,
    vanished: BTreeSet<u8>,
}

impl Chaos {
    /// What is planned now, less the containers that are no more.
    fn want(&self) -> KernelState {
        let Some(mut world) = self.world.clone() else { return KernelState::new() };
        world.locals.retain(|local| !self.vanished.contains(&local.container));
        for local in world.locals.iter_mut().filter(|local| local.container == LENT) {
            // No end is ever both: identifiers are not used twice.
            local.id = 7 + local.eth;
        }
        world.want().iter().filter_map(|(key, object)| lent(key, object)).collect()
    }

    fn plan(&mut self) {
        if self.world.is_some() {
            self.lend();
            self.generation += 1;
            self.host.machine.on_plan(self.want(), self.generation);
        }
    }

    /// The runtime asks for what is wanted and not there.
    fn lend(&mut self) {
        let there = self.host.kernel.observe();
        for (key, object) in self.want().iter().filter(|(key, _)| there.get(key).is_none()) {
            if let (Key::Link(_, name), Object::Link(link)) = (key, object)
                && link.kind == LinkKind::Lent
            {
                self.host.kernel.lend(name, link).unwrap();
            }
        }
        self.host.machine.on_dirty(Scope::Cheap);
    }

    fn any_key(&self, at: Index, state: &KernelState) -> Option<Key> {
        let keys: Vec<Key> = state.iter().map(|(key, _)| key.clone()).collect();
        (!keys.is_empty()).then(|| at.get(&keys).clone())
    }

    fn break_it(&mut self, step: &Step, told: bool) {
        if self.host.kernel.tamper(step).is_ok() && told {
            let now = self.host.kernel.observe().get(step.key()).cloned();
            self.host.machine.on_event(step.key().clone(), now);
        }
    }

    fn happen(&mut self, event: Event) {
        let state = self.host.kernel.observe();
        match event {
            Event::Plan(world) => {
                self.world = Some(world);
                self.plan();
            }
            Event::Delete(at, told) => {
                if let Some(key) = self.any_key(at, &state) {
                    self.break_it(&Step::Delete(key), told);
                }
            }
            Event::Corrupt(at, told) => {
                let key = self.any_key(at, &state);
                let link = key.and_then(|key| Some((key.clone(), state.get(&key)?.clone())));
                if let Some((key, Object::Link(mut link))) = link {
                    link.mtu += 1;
                    link.mac[5] ^= 0x80;
                    self.break_it(&Step::Put(key, Object::Link(link)), told);
                }
            }
            Event::Fail(at, errno, always) => {
                if let Some(key) = self.any_key(at, &self.want()) {
                    let times = if always { Times::Always } else { Times::Once };
                    self.host.kernel.fail(key, errno, times);
                }
            }
            Event::Heal => self.host.kernel.heal_all(),
            Event::Script(outcomes) => self.host.kernel.script(outcomes),
            Event::Crash => {
                self.host.machine = Machine::new(Config::default());
                self.plan();
            }
            Event::Overrun => self.host.machine.on_overrun(),
            Event::Dirty(at) => {
                if let Some(key) = self.any_key(at, &state) {
                    self.host.machine.on_dirty(Scope::of(&key));
                }
            }
            Event::Blind => match self.host.machine.poll(self.host.now) {
                Do::Observe(scope) => self.host.machine.on_observe_failed(scope, self.host.now),
                Do::Apply(steps) => {
                    // The driver died half way through, and nobody knows where.
                    self.host.kernel.apply(&steps[..steps.len() / 2]);
                    self.host.machine.on_applied(steps, vec![], self.host.now);
                }
                Do::Sleep(_) => {}
            },
            Event::Vanish(index) => {
                if let Netns::Container(id) = container(index) {
                    self.host.kernel.remove_netns(id);
                    self.host.run(500);
                    self.vanished.insert(index);
                    self.plan();
                }
            }
            Event::Run(span) => self.host.run(span),
            Event::Turns(turns) => (0..turns).for_each(|_| {
                self.host.turn(self.host.now);
            }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_all_is_well_in_the_end(events in events(), outlive: bool) {
        let mut kernel = bare_kernel();
        kernel.chains_outlive_links(outlive);
        let foreign = kernel.foreign().clone();
        let host = Host::new(kernel);
        let mut chaos = Chaos { host, world: None, generation: 0, vanished: BTreeSet::new() };
        for event in events {
            chaos.happen(event);
        }
        chaos.host.kernel.heal_all();
        if chaos.world.is_some() {
            chaos.lend();
        }
        chaos.host.run(95_000);
        prop_assert_eq!(chaos.host.kernel.foreign(), &foreign);
        let status = chaos.host.machine.status();
        if chaos.world.is_none() {
            prop_assert_eq!(chaos.host.log.len(), 0);
        } else {
            prop_assert_eq!(chaos.host.differences(&chaos.want()), vec![]);
            prop_assert_eq!(status.generation_applied, Some(chaos.generation));
            prop_assert_eq!((status.faults, status.held, status.gone), (vec![], 0, vec![]));
            prop_assert_eq!((status.late, chaos.host.held_twice()), (0, vec![]));
            let steps = chaos.host.log.len();
            chaos.host.run(65_000);
            prop_assert_eq!(chaos.host.log.len(), steps, "at rest");
        }
    }
}
