//! Congestion is reported through the tunnel (RFC 6040).
//!
//! ```text
//!          a                 underlay                b
//!  ┌───────────────┐   ┌─────────────────┐   ┌───────────────┐
//!  │ web-1 ────────┼──▶│ marks the outer │──▶│ web-2         │
//!  │  Not-ECT, ECT │   │ header: CE      │   │  lost, CE     │
//!  └───────────────┘   └─────────────────┘   └───────────────┘
//! ```

use std::net::{IpAddr, SocketAddr};

use weft_tests::{Capture, Topology, frame, run};

use super::{Pair, netns, pair_on};

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// Runs `nft` where the hosts' cables end.
#[track_caller]
fn nft(pair: &Pair, words: &str) {
    let mut command = weft_lab::enter(&pair.cluster.lab().underlay(), None, "nft").unwrap();
    command.arg(words);
    run(command).ok();
}

/// From now on, outer headers are marked so; `None`: left as they are.
#[track_caller]
fn mark(pair: &Pair, mark: Option<&str>) {
    nft(pair, "add table bridge congested");
    nft(pair, "delete table bridge congested");
    let Some(mark) = mark else { return };
    nft(pair, "add table bridge congested");
    nft(pair, "add chain bridge congested forward { type filter hook forward priority 0; }");
    let family = if pair.cluster.host("a").address.is_ipv4() { "ip" } else { "ip6" };
    nft(pair, &format!("add rule bridge congested forward udp dport 4789 {family} ecn set {mark}"));
}

/// What a frame with these bits looks like on the cable behind host `a`, and when it arrives; `None`: it does not.
#[track_caller]
fn sent(pair: &Pair, (from, to): (IpAddr, IpAddr), bits: u8) -> (Option<u8>, Option<u8>) {
    let payload = format!("congestion-{bits}-{from}");
    let (one, two) = (&pair.one, &pair.two);
    let plain = frame::udp(
        (one.mac(), SocketAddr::new(from, 9)),
        (two.mac(), SocketAddr::new(to, 9)),
        payload.as_bytes(),
    );
    let cable = Capture::begin(&pair.cluster.lab().underlay(), "a");
    let there = Capture::begin(&netns(two), "eth0");
    frame::send(&netns(one), "eth0", &frame::with_ecn(&plain, bits));
    let find = |frames: Vec<Vec<u8>>| frames.into_iter().find(|f| f.ends_with(payload.as_bytes()));
    let arrived = find(there.end()).and_then(|f| frame::ecn(&f));
    (find(cable.end()).and_then(|f| frame::ecn(&f)), arrived)
}

#[track_caller]
fn reported(name: &str, settings: [&'static str; 2], ipv6_underlay: bool) {
    let pair = pair_on(name, settings, Topology { ipv6_underlay, ..Topology::default() });
    let families = [(pair.one.v4(), pair.two.v4()), (pair.one.v6(), pair.two.v6())];
    // The programs copy the bits; the kernel's tunnels say ECT(0) for CE (RFC 3168 section 9.1.1).
    let outer = |bits| Some(if bits == CE && settings[0] == "off" { ECT_0 } else { bits });
    for family in families {
        mark(&pair, None);
        for bits in [NOT_ECT, ECT_1, ECT_0, CE] {
            assert_eq!(sent(&pair, family, bits), (outer(bits), Some(bits)), "{family:?}");
        }
        mark(&pair, Some("ce"));
        let by_programs = pair.cluster.dropped_while(("b", "web"), || {
            for (bits, arrived) in
                [(NOT_ECT, None), (ECT_1, Some(CE)), (ECT_0, Some(CE)), (CE, Some(CE))]
            {
                assert_eq!(sent(&pair, family, bits), (outer(bits), arrived), "{family:?}");
            }
        });
        let counted = by_programs.get("congestion_lost").copied();
        assert_eq!(counted, (settings[1] != "off").then_some(1), "{by_programs:?}");
        mark(&pair, Some("ect1"));
        for (bits, arrived) in [(NOT_ECT, NOT_ECT), (ECT_1, ECT_1), (ECT_0, ECT_1), (CE, CE)] {
            assert_eq!(sent(&pair, family, bits), (outer(bits), Some(arrived)), "{family:?}");
        }
    }
}

#[test]
fn congestion_is_reported_by_the_shortcut() {
    reported("ecn", ["auto", "auto"], false);
}

#[test]
fn congestion_is_reported_over_ipv6() {
    reported("ecn6", ["auto", "auto"], true);
}

#[test]
fn congestion_is_reported_by_the_bridge_path_alike() {
    reported("ecnoff", ["off", "off"], false);
}
