//! Packets that are larger than a frame, and paths that carry less than the links.
//!
//! ```text
//!          a                      b
//!  ┌───────────────┐      ┌───────────────┐
//!  │ web-1         │      │ web-2         │      4,000 octets: in fragments
//!  └───────┬───────┘      └───────┬───────┘
//!          └── route: mtu 1400 ───┘              1,440 octets: "too big", says the path
//! ```

use std::time::Duration;

use weft_tests::{Attached, Ran, stream, until};

use super::{Pair, netns, pair};

#[track_caller]
fn fragments_arrive(name: &str, settings: [&'static str; 2]) {
    let pair = pair(name, settings);
    let [here, there] = pair.both().map(netns);
    for (from, to, target) in [
        (&here, &there, pair.two.v4()),
        (&there, &here, pair.one.v4()),
        (&here, &there, pair.two.v6()),
        (&there, &here, pair.one.v6()),
    ] {
        for octets in [1_400, 1_500, 4_000, 30_000] {
            let arrived = stream::datagrams(from, to, target, octets, 10);
            assert_eq!(arrived, Ok(10), "{octets} octets to {target}");
        }
    }
}

#[test]
fn fragments_arrive_by_the_shortcut() {
    fragments_arrive("frag", ["auto", "auto"]);
}

#[test]
fn fragments_arrive_by_either_path_at_the_other() {
    fragments_arrive("fragmix", ["auto", "off"]);
}

#[test]
fn fragments_arrive_by_clsact() {
    fragments_arrive("fragcls", ["clsact", "clsact"]);
}

/// Octets of an echo request's IP packet beside its payload.
const ECHO: [u32; 2] = [28, 48];

/// An echo request of as many octets with its header, not to be cut into pieces.
fn echo(from: &Attached, target: &str, octets: u32) -> Ran {
    let header = ECHO[usize::from(target.contains(':'))];
    let payload = (octets - header).to_string();
    from.run(&["ping", "-n", "-c1", "-W1", "-M", "do", "-s", &payload, target])
}

/// What `ping` says of an echo request that the path does not carry, when first asked and when the kernel remembers.
fn too_big(pair: &Pair) -> Vec<(String, bool)> {
    let mut told = Vec::new();
    for target in [pair.two.v4(), pair.two.v6()].map(|a| a.to_string()) {
        pair.one.run(&["ip", "route", "flush", "cache"]);
        pair.one.run(&["ip", "-6", "route", "flush", "cache"]);
        for octets in [1_351; 2] {
            let ran = echo(&pair.one, &target, octets);
            let text = format!("{}{}", ran.stdout, ran.stderr);
            let line = text.lines().find(|l| l.contains("mtu")).unwrap_or(&text);
            told.push((format!("{octets} to {target}: {line}"), ran.is_ok()));
        }
        // What just fits is carried.
        told.push((format!("1350 to {target}"), echo(&pair.one, &target, 1_350).is_ok()));
    }
    told
}

/// The route to host `b` carries packets of 1,400 octets only.
#[track_caller]
fn narrow(pair: &Pair) {
    let route = "ip route add 172.10.0.16/32 dev eth0 mtu 1400";
    pair.cluster.on("a", &route.split(' ').collect::<Vec<_>>()).ok();
    // The daemon hears of it. Until then the programs send what the link carries.
    until(Duration::from_secs(5), "the sender is told", || {
        let ran = echo(&pair.one, &pair.two.v4().to_string(), 1_440);
        format!("{}{}", ran.stdout, ran.stderr).contains("mtu")
    });
}

#[test]
fn a_path_that_carries_less_says_so_to_the_sender_as_on_the_bridge_path() {
    let (by_shortcut, by_bridge) = (pair("ptb", ["auto", "auto"]), pair("ptboff", ["off", "off"]));
    for pair in [&by_shortcut, &by_bridge] {
        narrow(pair);
    }
    let told = too_big(&by_shortcut);
    assert_eq!(told, too_big(&by_bridge));
    let (carried, refused): (Vec<_>, Vec<_>) = told.iter().partition(|(_, ok)| *ok);
    assert_eq!((carried.len(), refused.len()), (2, 4), "{told:?}");
    let of_path = ["mtu = 1350", "mtu=1350", "mtu: 1350"];
    assert!(refused.iter().all(|(text, _)| of_path.iter().any(|m| text.contains(m))), "{told:?}");
}

#[test]
fn streams_and_fragments_pass_a_path_that_carries_less() {
    let pair = pair("narrow", ["auto", "auto"]);
    let [here, there] = pair.both().map(netns);
    for target in [pair.two.v4(), pair.two.v6()] {
        stream::exchange(&here, &there, target, 1_000_000).unwrap();
    }
    narrow(&pair);
    for target in [pair.two.v4(), pair.two.v6()] {
        let [one, _] = pair.cluster.traffic_while(pair.both(), || {
            stream::exchange(&here, &there, target, 8_000_000).unwrap();
        });
        assert!(one.sent_shortcut > 100 && one.sent_shortcut > 10 * one.sent_bridge, "{one:?}");
        // The first ones tell the sender.
        let arrived = stream::datagrams(&here, &there, target, 4_000, 12).unwrap();
        assert!(arrived >= 10, "{arrived} to {target}");
    }
}
