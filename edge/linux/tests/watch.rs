//! What others do is heard; what we do ourselves is not.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::*;
use weft_kernel::key::FdbTable;
use weft_kernel::{Key, Object, Scope, Step};
use weft_linux::{Event, Linux, Watcher};

const VNI: u32 = 0x57_0001;

/// All events until there have been none for a while.
fn events(from: &Receiver<Event>) -> BTreeSet<Event> {
    let mut all = BTreeSet::new();
    while let Ok(event) = from.recv_timeout(Duration::from_millis(400)) {
        all.insert(event);
    }
    all
}

fn rows(link: &str) -> Event {
    Event::Dirty(Scope::Rows(link.into()))
}

const CHEAP: Event = Event::Dirty(Scope::Cheap);

#[test]
fn what_others_do_is_heard_and_what_we_do_is_not() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let container = Container::new();
        let id = linux.register_netns(&container.path).unwrap();
        let (say, hear) = channel();
        let watcher = linux.watch(move |event| say.send(event).unwrap()).unwrap();
        let mut objects = filters();
        objects.extend(network(VNI, 3));
        objects.extend(vtep_chains(VNI));
        objects.extend(endpoint(VNI, 3, id));
        apply(&mut linux, &puts(&objects));
        assert_eq!(events(&hear), BTreeSet::new(), "our own doing");
        apply(&mut linux, &puts(&objects));
        assert_eq!(events(&hear), BTreeSet::new(), "our own doing again");

        let heard: [(&str, &str, &[Event]); 21] = [
            ("bridge", "fdb del 02:57:00:00:00:09 dev wv-570001 self", &[rows("wv-570001")]),
            (
                "bridge",
                "fdb replace 02:57:00:00:00:02 dev wv-570001 master static",
                &[rows("wv-570001"), rows("we-000000570001")],
            ),
            (
                "bridge",
                "fdb append 00:00:00:00:00:00 dev wv-570001 dst 172.30.0.66",
                &[rows("wv-570001")],
            ),
            ("ip", "neigh del 10.3.0.9 dev wb-570001", &[rows("wb-570001")]),
            (
                "ip",
                "neigh change fd00:3::9 lladdr 02:00:00:00:00:66 dev wb-570001 nud permanent",
                &[rows("wb-570001")],
            ),
            // One that only the kernel needs is no concern of ours.
            ("ip", "neigh add 10.3.9.9 lladdr 02:00:00:00:00:66 dev wb-570001 nud reachable", &[]),
            ("ip", "addr del 10.3.0.1/16 dev wb-570001", &[CHEAP]),
            ("ip", "route del 10.3.0.0/16 dev wb-570001", &[CHEAP]),
            ("ip", "link set wb-570001 mtu 1300", &[CHEAP]),
            ("bridge", "link set dev we-000000570001 locked off", &[CHEAP]),
            ("ip", "link set wv-570001 down", &[CHEAP]),
            ("nft", "flush table inet weft", &[CHEAP, Event::HostChanged]),
            ("ip", "link add other type bridge", &[Event::HostChanged]),
            ("ip", "addr add 192.168.9.1/24 dev other", &[Event::HostChanged]),
            ("ip", "link set other up", &[Event::HostChanged]),
            ("ip", "route add 192.168.10.0/24 dev other", &[Event::HostChanged]),
            // Whatever decides by which way packets leave for other hosts.
            ("ip", "route add default via 192.168.9.2", &[Event::HostChanged]),
            ("ip", "route add 192.168.11.0/24 dev other table 77", &[Event::HostChanged]),
            ("ip", "rule add to 192.168.11.0/24 lookup 77", &[Event::HostChanged]),
            ("ip", "-6 rule add to fd11::/64 lookup 77", &[Event::HostChanged]),
            ("ip", "nexthop add id 7 via 192.168.9.3 dev other", &[Event::HostChanged]),
        ];
        for (program, args, expected) in heard {
            run(program, args);
            let got = events(&hear);
            for event in expected {
                assert!(got.contains(event), "{program} {args}: {got:?}");
            }
            let strange: Vec<&Event> = got.iter().filter(|e| !expected.contains(e)).collect();
            assert!(strange.is_empty(), "{program} {args}: {strange:?}");
        }
        run("ip", "link del wv-570001");
        let got = events(&hear);
        assert!(got.contains(&CHEAP) && got.contains(&rows("wv-570001")), "{got:?}");
        drop(watcher);
        run("ip", "link del other");
        assert_eq!(events(&hear), BTreeSet::new(), "nobody listens any more");
    });
}

#[test]
fn links_of_others_are_heard_of_though_we_have_just_changed_something() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        run("ip", "link add up0 type veth peer name up1");
        run("ip", "addr add 172.30.0.15/24 dev up0");
        run("ip", "link set up0 up");
        run("ip", "link set up1 up");
        let (say, hear) = channel();
        let _watcher = linux.watch(move |event| say.send(event).unwrap()).unwrap();
        events(&hear);
        let objects = network(VNI, 3);
        for change in [
            "route add default via 172.30.0.1",
            "-6 addr add fd77::15/64 dev up0 nodad",
            "link set up0 mtu 1400",
            "link set up0 down",
        ] {
            apply(&mut linux, &puts(&objects));
            run("ip", change);
            assert_eq!(events(&hear), BTreeSet::from([Event::HostChanged]), "{change}");
        }
        apply(&mut linux, &deletes(&objects));
        assert_eq!(events(&hear), BTreeSet::new(), "our own doing");
    });
}

#[test]
fn rows_that_were_there_before_are_known_once_they_were_observed() {
    in_netns(|| {
        apply(&mut Linux::open().unwrap(), &puts(&network(VNI, 3)));
        let mut linux = Linux::open().unwrap();
        let (say, hear) = channel();
        let _watcher = linux.watch(move |event| say.send(event).unwrap()).unwrap();
        linux.observe(&Scope::All).unwrap();
        run("bridge", "fdb del 02:57:00:00:00:09 dev wv-570001 self");
        assert_eq!(events(&hear), BTreeSet::from([rows("wv-570001")]));
        linux.observe(&Scope::Rows("wv-570001".into())).unwrap();
        run("bridge", "fdb del 02:57:00:00:00:09 dev wv-570001 master");
        assert_eq!(events(&hear), BTreeSet::from([rows("wv-570001")]));
    });
}

fn many_rows(count: u32) -> Vec<Step> {
    (0..count)
        .map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            let key = Key::Fdb("wv-570001".into(), FdbTable::Device, [2, 0, 0, a, b, c]);
            Step::Put(key, Object::Fdb(Some("172.30.0.16".parse().unwrap())))
        })
        .collect()
}

#[test]
fn a_burst_of_our_own_does_not_drown_the_watcher() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &puts(&network(VNI, 3)));
        let (say, hear) = channel();
        let _watcher = linux.watch(move |event| say.send(event).unwrap()).unwrap();
        apply(&mut linux, &many_rows(20_000));
        assert_eq!(events(&hear), BTreeSet::new());
    });
}

#[test]
fn more_than_the_socket_holds_is_an_overrun() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &puts(&network(VNI, 3)));
        let (say, hear) = channel();
        // A listener that is slow to listen.
        let slow = std::sync::Once::new();
        let watcher = Watcher::start(move |event| {
            say.send(event).unwrap();
            slow.call_once(|| std::thread::sleep(Duration::from_secs(10)));
        });
        let _watcher = watcher.unwrap();
        run("bridge", "fdb del 02:57:00:00:00:09 dev wv-570001 self");
        run("bridge", "fdb append 00:00:00:00:00:00 dev wv-570001 dst 172.30.0.66");
        let first = hear.recv_timeout(Duration::from_secs(2)).unwrap();
        assert_eq!(first, rows("wv-570001"));
        apply(&mut linux, &many_rows(150_000));
        let mut rest = Vec::new();
        while let Ok(event) = hear.recv_timeout(Duration::from_secs(11)) {
            let last = event == Event::HostChanged;
            rest.push(event);
            if last {
                break;
            }
        }
        assert!(rest.contains(&Event::Overrun), "{rest:?}");
    });
}
