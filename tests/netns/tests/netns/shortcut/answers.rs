//! Who has an address is answered on the spot: nobody else hears the question.
//!
//! ```text
//!          a                                 b
//!  ┌───────────────┐                 ┌───────────────┐
//!  │ web-1         │                 │ web-2         │
//!  │   │ ▲         │                 │   (hears      │
//!  │   └─┘ ARP, ND │── (nothing) ───▶│     nothing)  │
//!  └───────────────┘                 └───────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_tests::{Attached, Capture, Vxlan, frame};

use super::{netns, pair};

fn v4(of: &Attached) -> Ipv4Addr {
    match of.v4() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address}"),
    }
}

fn v6(of: &Attached) -> Ipv6Addr {
    match of.v6() {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => panic!("{address}"),
    }
}

/// Whether a frame says that somebody has his IPv4 or his IPv6 address at his MAC.
fn tells_of(frame: &[u8], who: &Attached) -> bool {
    let arp = frame.get(12..14) == Some(&[8, 6])
        && frame.get(20..22) == Some(&[0, 2])
        && frame.get(22..32) == Some(&[&who.mac()[..], &v4(who).octets()].concat());
    let nd = frame.get(12..14) == Some(&[0x86, 0xdd])
        && frame.get(54) == Some(&136)
        && frame.get(62..78) == Some(&v6(who).octets())
        && frame.get(78..86) == Some(&[&[2, 1][..], &who.mac()].concat());
    arp || nd
}

/// Whether it asks for an address, in either family.
fn asks(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 1])
        || frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(54) == Some(&135)
}

#[test]
fn a_question_is_answered_and_goes_nowhere() {
    let pair = pair("answers", ["auto", "auto"]);
    let (one, two) = (&pair.one, &pair.two);
    let questions = [
        (
            "ARP to all",
            frame::arp(one.mac(), frame::BROADCAST, 1, (one.mac(), v4(one)), ([0; 6], v4(two))),
        ),
        ("ARP to it", frame::arp(one.mac(), two.mac(), 1, (one.mac(), v4(one)), ([0; 6], v4(two)))),
        ("ND", frame::solicitation((one.mac(), v6(one)), v6(two))),
    ];
    let cables = ["a", "b"].map(|link| Capture::begin(&pair.cluster.lab().underlay(), link));
    let there = Capture::begin(&netns(two), "eth0");
    for (what, question) in questions {
        let here = Capture::begin(&netns(one), "eth0");
        frame::send(&netns(one), "eth0", &question);
        let frames = here.end();
        let answers = frames.iter().filter(|f| tells_of(f, two) && f[..6] == one.mac()).count();
        assert_eq!(answers, 1, "{what}: {frames:?}");
    }
    for container in pair.both() {
        container.run(&["ip", "neigh", "flush", "all"]).ok();
    }
    for (from, to) in [(one, two), (two, one)] {
        from.ping(&to.v4().to_string());
        from.ping(&to.v6().to_string());
    }
    let heard = there.end();
    let heard: Vec<_> = heard.iter().filter(|f| f[6..12] != two.mac() && asks(f)).collect();
    assert!(heard.is_empty(), "{heard:?}");
    let packets = cables.into_iter().flat_map(Capture::end);
    let packets: Vec<Vxlan> = packets.filter_map(|f| Vxlan::parse(&f, 4789)).collect();
    assert!(packets.iter().any(|p| p.inner_addresses() == Some((one.v4(), two.v4()))));
    let asked: Vec<_> = packets.iter().filter(|p| p.resolves_addresses()).collect();
    assert!(asked.is_empty(), "{asked:?}");
}

/// Who asks whether an address is free (RFC 5227, RFC 4862 section 5.4.2) is not answered for somebody else: not for
/// himself, or he would give his address up. Who is near enough to hear it answers himself.
#[track_caller]
fn free(name: &str, settings: [&'static str; 2]) {
    let pair = pair(name, settings);
    let (one, two) = (&pair.one, &pair.two);
    let near = pair.cluster.attach("a", "web-3", &["--network", "web"]);
    pair.cluster.wait_for_programs();
    let nobody = (one.mac(), Ipv4Addr::UNSPECIFIED);
    let there = Capture::begin(&netns(two), "eth0");
    for (about, answers) in [(one, 0), (two, 0), (&near, 1)] {
        for (what, question) in [
            ("ARP", frame::arp(one.mac(), frame::BROADCAST, 1, nobody, ([0; 6], v4(about)))),
            ("ND", frame::solicitation((one.mac(), Ipv6Addr::UNSPECIFIED), v6(about))),
        ] {
            let here = Capture::begin(&netns(one), "eth0");
            frame::send(&netns(one), "eth0", &question);
            let frames = here.end();
            let told = frames.iter().filter(|f| tells_of(f, about)).count();
            // Defending its own address it may say so itself.
            let told = if about.name == one.name { 0 } else { told };
            assert_eq!(told, answers, "{what} about {}: {frames:?}", about.name);
            let not_its_own = |f: &&Vec<u8>| f[6..12] != one.mac() && tells_of(f, one);
            assert_eq!(frames.iter().filter(not_its_own).count(), 0, "{what}: {frames:?}");
        }
    }
    // The other host knows its own addresses; the question does not go there.
    assert_eq!(there.end().iter().filter(|f| f[6..12] == one.mac() && asks(f)).count(), 0);
}

#[test]
fn who_asks_whether_an_address_is_free_hears_of_it_from_its_owner_only() {
    free("dad", ["auto", "auto"]);
}

#[test]
fn and_so_on_the_bridge_path() {
    free("dadoff", ["off", "off"]);
}
