//! What is done to a daemon, and what must hold after.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weft_tests::{Cluster, difference, dump};

use crate::call::Broken;
use crate::container::Container;
use crate::network::Net;
use crate::random::Random;
use crate::world::{self, Held, World, weight};
use crate::{bad, shuffled};

/// Callers at once.
const CALLERS: usize = 4;

/// Sequences of calls that are tried, unless `WEFT_PROTOCOL_SEQUENCES` says how many.
const SEQUENCES: usize = 1600;

/// Of what a network may be left with, in KiB of memory: caches and the allocator's own.
const MEMORY: u64 = 32 * 1024;

/// The networks of the cluster that all callers use.
const SHARED: [(&str, &[&str]); 3] = [
    ("web", &["10.61.0.0/24"]),
    ("tiny", &["10.62.0.0/29"]),
    ("dual", &["10.63.0.0/24", "fd00:63::/64"]),
];

fn number(variable: &str, default: impl FnOnce() -> u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => default(),
    }
}

/// Another one each time, and how to have it again.
fn seed(story: &str) -> u64 {
    let seed = number("WEFT_PROTOCOL_SEED", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    eprintln!(
        "again with: WEFT_PROTOCOL_SEED={seed} cargo test -p weft-docker-tests --test protocol {story}"
    );
    seed
}

fn sequences(part: usize) -> usize {
    let all = number("WEFT_PROTOCOL_SEQUENCES", || u64::try_from(SEQUENCES).unwrap());
    usize::try_from(all).unwrap().div_ceil(part)
}

/// Makes the networks that callers share, and those of each caller.
fn networks(cluster: &Cluster) {
    for (name, subnets) in SHARED {
        let flags: Vec<&str> = subnets.iter().flat_map(|subnet| ["--subnet", *subnet]).collect();
        cluster.network(name, &flags);
    }
    cluster.network("named", &["--subnet", "10.64.0.0/24"]);
    for caller in 0..2 * CALLERS {
        let (name, subnet) = own(caller);
        cluster.network(&name, &["--subnet", &subnet]);
    }
}

fn own(caller: usize) -> (String, String) {
    (format!("own-{caller}"), format!("10.7{caller}.0.0/24"))
}

/// The engine's networks that callers share.
fn shared(world: &World, random: &mut Random) -> Vec<Net> {
    let mut nets: Vec<Net> =
        SHARED.iter().map(|(name, subnets)| Net::of(name, subnets, random)).collect();
    for net in &nets {
        net.create(world).unwrap();
    }
    nets.push(Net::by_name("named", world, random).unwrap());
    nets
}

/// What one caller does: sequences, with containers that run on meanwhile.
fn caller(world: &World, nets: &[Net], caller: usize, seed: u64, next: &dyn Fn() -> bool) {
    let mut random = Random::new(seed.wrapping_add(u64::try_from(caller + 1).unwrap() << 32));
    let mut running: Vec<Container> = Vec::new();
    while next() {
        world.wait_until_steady();
        match random.below(100) {
            0..45 => {
                let net = random.pick(nets).clone();
                running.extend(Container::start(world, &net, &mut random));
                while running.len() > random.below(5) {
                    let one = running.swap_remove(random.below(running.len()));
                    one.stop(world, &mut random);
                }
            }
            45..55 => network(world, caller, &mut random),
            55..85 => {
                let (name, subnet) = own(caller);
                shuffled::run(world, &name, &subnet, &mut random);
            }
            85..97 => (0..5).for_each(|_| bad::run(world, &nets[0], &mut random)),
            _ => bad::harmless(world, &nets[0], &mut random),
        }
    }
    for container in running {
        container.stop(world, &mut random);
    }
}

/// A network's life, with a container in it.
fn network(world: &World, caller: usize, random: &mut Random) {
    let made = if random.percent(50) {
        let (name, subnet) = own(CALLERS + caller);
        let net = Net::of(&name, &[&subnet], random);
        net.create(world).map(|()| net)
    } else {
        Net::by_name(&own(CALLERS + caller).0, world, random)
    };
    let Ok(net) = made else { return };
    if let Some(container) = Container::start(world, &net, random) {
        container.stop(world, random);
    }
    net.delete(world);
}

/// Several callers at once, until all sequences are done.
fn call_all(world: &World, nets: &[Net], seed: u64, many: usize, killing: bool) {
    let left = AtomicUsize::new(many);
    let failed = AtomicBool::new(false);
    let ended = AtomicUsize::new(0);
    let next = || {
        let one = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        one.is_ok() && !failed.load(Ordering::Relaxed)
    };
    std::thread::scope(|scope| {
        for number in 0..CALLERS {
            let (failed, ended, next) = (&failed, &ended, &next);
            scope.spawn(move || {
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    caller(world, nets, number, seed, next);
                }));
                ended.fetch_add(1, Ordering::SeqCst);
                if let Err(panic) = done {
                    failed.store(true, Ordering::Relaxed);
                    std::panic::resume_unwind(panic);
                }
            });
        }
        let mut random = Random::new(!seed);
        while killing && ended.load(Ordering::SeqCst) < CALLERS {
            std::thread::sleep(Duration::from_millis(random.next() % 3000));
            if ended.load(Ordering::SeqCst) == 0 {
                world.kill();
            }
        }
    });
}

/// After everything was released all of it can be had again.
fn all_can_be_had_again(world: &World, nets: Vec<Net>, random: &mut Random) {
    for net in &nets {
        net.delete(world);
    }
    world.check_empty();
    assert_eq!(*world.held(), BTreeMap::new(), "the model itself");
    // A record that was left would keep the subnet from another network.
    let nets = {
        drop(nets);
        shared(world, random)
    };
    let tiny = nets.iter().find(|net| net.small).unwrap();
    let asked: Vec<_> = (2..6).map(|n| format!("10.62.0.{n}")).collect();
    for address in &asked {
        let body = serde_json::json!({ "PoolID": tiny.pools[0].id, "Address": address });
        let told = world.call("IpamDriver.RequestAddress", &body).unwrap().fine();
        assert_eq!(told["Address"], format!("{address}/29"));
    }
    for address in &asked {
        let body = serde_json::json!({ "PoolID": tiny.pools[0].id, "Address": address });
        world.call("IpamDriver.ReleaseAddress", &body).unwrap().fine();
    }
    nets.iter().for_each(|net| net.delete(world));
}

fn say(story: &str, world: &World, many: usize, begin: Instant) {
    eprintln!(
        "{story}: {many} sequences, {} calls, {} listings, {:.1} s",
        world.caller.calls(),
        world.listings(),
        begin.elapsed().as_secs_f64()
    );
}

#[test]
fn thousands_of_sequences_leave_nothing() {
    let seed = seed("thousands_of_sequences_leave_nothing");
    let cluster = world::cluster("many", 1);
    networks(&cluster);
    let held = Held::default();
    let world = World::new(&cluster, "a", &held);
    let mut random = Random::new(seed);
    let nets = shared(&world, &mut random);
    let (begin, many) = (Instant::now(), sequences(1));
    let daemon = world.daemon();
    // Whatever is made once and kept is made by these.
    call_all(&world, &nets, seed ^ 1, many / 10, false);
    let before = weight(daemon);
    call_all(&world, &nets, seed, many, false);
    say("thousands of sequences", &world, many + many / 10, begin);
    all_can_be_had_again(&world, nets, &mut random);
    assert_eq!(world.daemon(), daemon, "it is another process");
    let mut after = weight(daemon);
    let light = weft_tests::within(Duration::from_secs(10), || {
        after = weight(daemon);
        after.0 <= before.0 + 4 && after.1 <= before.1 + MEMORY
    });
    eprintln!("open files and KiB: {before:?}, then {after:?}");
    assert!(light.is_some(), "open files and KiB in memory: {before:?}, then {after:?}");
}

#[test]
fn a_daemon_that_is_killed_keeps_what_it_answered() {
    let seed = seed("a_daemon_that_is_killed_keeps_what_it_answered");
    let cluster = world::cluster("killed", 1);
    networks(&cluster);
    let held = Held::default();
    let world = World::new(&cluster, "a", &held);
    let mut random = Random::new(seed);
    let nets = shared(&world, &mut random);
    let (begin, many) = (Instant::now(), sequences(5));
    call_all(&world, &nets, seed, many, true);
    say("with kills", &world, many, begin);
    eprintln!("killed {} times", world.epoch() / 2);
    assert!(world.epoch() > 2, "it was hardly killed");
    all_can_be_had_again(&world, nets, &mut random);
}

#[test]
fn bad_calls_change_nothing() {
    let seed = seed("bad_calls_change_nothing");
    let cluster = world::cluster("bad", 1);
    networks(&cluster);
    let held = Held::default();
    let world = World::new(&cluster, "a", &held);
    let mut random = Random::new(seed);
    let nets = shared(&world, &mut random);
    let mut running = Vec::new();
    while running.len() < 6 {
        running.extend(Container::start(&world, &nets[running.len() % nets.len()], &mut random));
    }
    running.iter().for_each(|container| container.tell(&world));
    cluster.settle();
    let state = || (dump(&cluster, "a"), cluster.listings());
    let same = |before: &(_, serde_json::Value), what: &str| {
        let mut changed = String::new();
        let same = weft_tests::within(Duration::from_secs(5), || {
            let now = state();
            changed = format!("{}{}", difference(&before.0, &now.0), now.1);
            now == *before
        });
        assert!(same.is_some(), "{what} changed\n{changed}\nfrom {}", before.1);
    };
    // Names arrive a moment after the calls.
    std::thread::sleep(Duration::from_secs(3));
    let before = state();
    let begin = Instant::now();
    for round in 0..10 {
        for _ in 0..100 {
            bad::run(&world, &nets[0], &mut random);
            bad::harmless(&world, &nets[0], &mut random);
        }
        same(&before, &format!("bad calls in round {round}"));
    }
    say("bad calls", &world, 10, begin);
    world.kill();
    same(&before, "the daemon's coming back");
    running.iter().for_each(|container| container.check_listed(&world));
    running.into_iter().for_each(|container| container.stop(&world, &mut random));
    all_can_be_had_again(&world, nets, &mut random);
}

#[test]
fn two_engines_never_have_the_same_address() {
    let seed = seed("two_engines_never_have_the_same_address");
    let cluster = world::cluster("two", 2);
    networks(&cluster);
    let held: Held = Mutex::default();
    let worlds = ["a", "b"].map(|host| World::new(&cluster, host, &held));
    let (begin, many) = (Instant::now(), sequences(10));
    let left = AtomicU64::new(u64::try_from(many).unwrap());
    std::thread::scope(|scope| {
        for (number, world) in worlds.iter().enumerate() {
            let left = &left;
            scope.spawn(move || -> Result<(), Broken> {
                let mut random = Random::new(seed ^ u64::try_from(number + 1).unwrap());
                let net = Net::of("web", &["10.61.0.0/24"], &mut random);
                net.create(world)?;
                let next = || {
                    let less = |n: u64| n.checked_sub(1);
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
                };
                let mut running = Vec::new();
                while next() {
                    running.extend(Container::start(world, &net, &mut random));
                    while running.len() > 20 {
                        running.swap_remove(random.below(20)).stop(world, &mut random);
                    }
                }
                running.into_iter().for_each(|c: Container| c.stop(world, &mut random));
                net.delete(world);
                Ok(())
            });
        }
    });
    worlds.iter().for_each(World::check_empty);
    worlds.iter().for_each(|world| say(world.host, world, many, begin));
}
