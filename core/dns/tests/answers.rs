//! Who may ask what, and what is said.
#![allow(clippy::unwrap_used, reason = "tests stop at surprises")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_dns::{
    Answer, Asker, Data, Kind, NameIndex, NameTable, NetworkNames, Query, Record, answer,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn record(names: &[&str], addresses: &[&str]) -> Record {
    Record {
        names: names.iter().map(|&n| n.to_owned()).collect(),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
    }
}

fn network(
    bridge: &str,
    gateway: &str,
    subnets: &[&str],
    internal: bool,
    records: Vec<Record>,
) -> Arc<NetworkNames> {
    Arc::new(NetworkNames {
        bridge: bridge.to_owned(),
        gateways: vec![ip(gateway)],
        subnets: subnets.iter().map(|s| s.parse().unwrap()).collect(),
        internal,
        records,
    })
}

fn asker(bridge: &str, addresses: &[&str], networks: &[&str], forward: bool) -> Asker {
    Asker {
        bridge: bridge.to_owned(),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        networks: networks.iter().map(|&n| n.to_owned()).collect(),
        forward,
        inner: None,
    }
}

/// `web` (10.3.0.0/16 and fd00:3::/64), `back` (10.4.0.0/16), `vault` (internal, the same subnet
/// as `back`), and four containers: on web; on web and back; on vault; on back.
fn index() -> NameIndex {
    let web = vec![
        record(&["web-1"], &["10.3.0.2", "fd00:3::2"]),
        record(&["web-2", "www"], &["10.3.0.5", "fd00:3::5"]),
        record(&["worker"], &["10.3.0.6"]),
        record(&["worker"], &["10.3.0.7"]),
        record(&["worker"], &["10.3.0.8"]),
        record(&["six"], &["fd00:3::9"]),
        record(&["starting"], &[]),
        record(&["both"], &["10.3.0.20"]),
    ];
    let back = vec![record(&["db"], &["10.4.0.2"]), record(&["both"], &["10.4.0.20"])];
    let vault = vec![record(&["safe"], &["10.4.0.2"]), record(&["key"], &["10.4.0.3"])];
    let networks = [
        ("web", network("wb-570001", "10.3.0.1", &["10.3.0.0/16", "fd00:3::/64"], false, web)),
        ("back", network("wb-570002", "10.4.0.1", &["10.4.0.0/16"], false, back)),
        ("vault", network("wb-570003", "10.4.0.1", &["10.4.0.0/16"], true, vault)),
    ];
    NameIndex::new(&NameTable {
        generation: 7,
        networks: networks.into_iter().map(|(n, net)| (n.to_owned(), net)).collect(),
        askers: vec![
            asker("wb-570001", &["10.3.0.2", "fd00:3::2"], &["web"], true),
            asker("wb-570001", &["10.3.0.20"], &["web", "back"], true),
            asker("wb-570002", &["10.4.0.20"], &["web", "back"], true),
            asker("wb-570002", &["10.4.0.2"], &["back"], true),
            asker("wb-570003", &["10.4.0.2"], &["vault"], false),
            asker("wb-570003", &["10.4.0.9"], &["vault", "left-behind"], false),
        ],
    })
}

const WEB: (&str, &str) = ("wb-570001", "10.3.0.2");
const BOTH: (&str, &str) = ("wb-570001", "10.3.0.20");
const BACK: (&str, &str) = ("wb-570002", "10.4.0.2");
const VAULT: (&str, &str) = ("wb-570003", "10.4.0.2");

fn ask(who: (&str, &str), name: &str, kind: Kind) -> Answer {
    match answer(&index(), (who.0, ip(who.1)), &Query::text(name, kind), 0) {
        Answer::Records(mut data) => {
            data.sort_by_key(|data| format!("{data:?}"));
            Answer::Records(data)
        }
        other => other,
    }
}

fn at(addresses: &[&str]) -> Answer {
    Answer::Records(addresses.iter().map(|a| Data::Address(ip(a))).collect())
}

fn names(names: &[&str]) -> Answer {
    Answer::Records(names.iter().map(|&n| Data::Name(n.to_owned())).collect())
}

#[track_caller]
fn check(table: &[((&str, &str), &str, Kind, Answer)]) {
    for (who, name, kind, want) in table {
        assert_eq!(ask(*who, name, *kind), *want, "{who:?} asks {name} {kind:?}");
    }
}

#[test]
fn names_and_aliases_with_and_without_the_network() {
    check(&[
        (WEB, "web-2", Kind::A, at(&["10.3.0.5"])),
        (WEB, "web-2.", Kind::A, at(&["10.3.0.5"])),
        (WEB, "WEB-2", Kind::A, at(&["10.3.0.5"])),
        (WEB, "Web-2.wEb.", Kind::A, at(&["10.3.0.5"])),
        (WEB, "web-2.web", Kind::Aaaa, at(&["fd00:3::5"])),
        (WEB, "www", Kind::Aaaa, at(&["fd00:3::5"])),
        (WEB, "www.web", Kind::A, at(&["10.3.0.5"])),
        (WEB, "worker", Kind::A, at(&["10.3.0.6", "10.3.0.7", "10.3.0.8"])),
        (WEB, "web-1", Kind::A, at(&["10.3.0.2"])),
    ]);
}

#[test]
fn a_name_without_what_was_asked_for_is_no_data_never_no_name() {
    check(&[
        (WEB, "worker", Kind::Aaaa, Answer::NoData),
        (WEB, "six", Kind::A, Answer::NoData),
        (WEB, "six.web", Kind::A, Answer::NoData),
        (WEB, "starting", Kind::A, Answer::NoData),
        (WEB, "starting.web", Kind::Any, Answer::NoData),
        (WEB, "web-2", Kind::Other, Answer::NoData),
        (WEB, "web-2", Kind::Ptr, Answer::NoData),
        (WEB, "web", Kind::A, Answer::NoData),
        (VAULT, "vault", Kind::Other, Answer::NoData),
    ]);
}

#[test]
fn any_is_one_set_of_records() {
    check(&[
        (WEB, "web-2", Kind::Any, at(&["10.3.0.5"])),
        (WEB, "six", Kind::Any, at(&["fd00:3::9"])),
        (WEB, "localhost", Kind::Any, at(&["127.0.0.1"])),
        (WEB, "2.0.3.10.in-addr.arpa", Kind::Any, names(&["web-1.web"])),
    ]);
}

#[test]
fn what_ends_in_an_own_network_is_never_asked_upstream() {
    check(&[
        (WEB, "nobody.web", Kind::A, Answer::NxDomain),
        (WEB, "a.b.web", Kind::A, Answer::NxDomain),
        (WEB, "web-2.web.web", Kind::A, Answer::NxDomain),
        (WEB, "_http._tcp.web", Kind::Other, Answer::NxDomain),
        (BOTH, "nobody.back", Kind::Aaaa, Answer::NxDomain),
        (WEB, "nobody", Kind::A, Answer::Forward),
        (WEB, "example.com", Kind::A, Answer::Forward),
        (WEB, "example.com", Kind::Other, Answer::Forward),
        (WEB, "web.example.com", Kind::A, Answer::Forward),
        (WEB, ".", Kind::Other, Answer::Forward),
    ]);
}

#[test]
fn networks_of_others_do_not_exist() {
    check(&[
        (WEB, "db", Kind::A, Answer::Forward),
        (WEB, "db.back", Kind::A, Answer::Forward),
        (BACK, "web-2", Kind::A, Answer::Forward),
        (BACK, "db", Kind::A, at(&["10.4.0.2"])),
        (BOTH, "db", Kind::A, at(&["10.4.0.2"])),
        (BOTH, "web-2", Kind::A, at(&["10.3.0.5"])),
        (BOTH, "both", Kind::A, at(&["10.3.0.20", "10.4.0.20"])),
        (BOTH, "both.back", Kind::A, at(&["10.4.0.20"])),
        (("wb-570002", "10.4.0.20"), "web-2", Kind::A, at(&["10.3.0.5"])),
    ]);
}

#[test]
fn on_internal_networks_nothing_is_forwarded() {
    check(&[
        (VAULT, "safe", Kind::A, at(&["10.4.0.2"])),
        (VAULT, "nobody", Kind::A, Answer::NxDomain),
        (VAULT, "nobody.vault", Kind::A, Answer::NxDomain),
        (VAULT, "db.back", Kind::A, Answer::NxDomain),
        (VAULT, "example.com", Kind::A, Answer::NxDomain),
        (VAULT, "1.1.1.1.in-addr.arpa", Kind::Ptr, Answer::NxDomain),
        (VAULT, ".", Kind::Other, Answer::NoData),
        (("wb-570003", "10.4.0.9"), "x.left-behind", Kind::A, Answer::NxDomain),
    ]);
}

#[test]
fn where_a_container_has_a_resolver_of_its_own_it_may_know_more() {
    let inner = "10.4.0.2:7353".parse().ok();
    let vault = asker(VAULT.0, &[VAULT.1], &["vault"], false);
    let table = NameTable {
        networks: BTreeMap::from([(
            "vault".to_owned(),
            network(
                VAULT.0,
                "10.4.0.1",
                &["10.4.0.0/16"],
                true,
                vec![record(&["safe"], &["10.4.0.2"])],
            ),
        )]),
        askers: vec![weft_dns::Asker { inner, ..vault }],
        ..NameTable::default()
    };
    let index = NameIndex::new(&table);
    let ask = |name, kind| answer(&index, (VAULT.0, ip(VAULT.1)), &Query::text(name, kind), 7);
    assert_eq!(ask("safe", Kind::A), at(&["10.4.0.2"]));
    assert_eq!(ask("nobody", Kind::A), Answer::Forward);
    assert_eq!(ask("example.com", Kind::A), Answer::Forward);
    // What is ours is ours.
    assert_eq!(ask("nobody.vault", Kind::A), Answer::NxDomain);
}

#[test]
fn the_same_subnet_twice_is_told_apart_by_the_bridge() {
    check(&[
        (BACK, "2.0.4.10.in-addr.arpa", Kind::Ptr, names(&["db.back"])),
        (VAULT, "2.0.4.10.in-addr.arpa", Kind::Ptr, names(&["safe.vault"])),
        (VAULT, "db", Kind::A, Answer::NxDomain),
    ]);
}

#[test]
fn reverse_names() {
    let two = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.0.0.0.0.0.d.f.ip6.arpa";
    check(&[
        (WEB, "5.0.3.10.in-addr.arpa.", Kind::Ptr, names(&["web-2.web"])),
        (WEB, "5.0.3.10.IN-ADDR.ARPA", Kind::Ptr, names(&["web-2.web"])),
        (WEB, two, Kind::Ptr, names(&["web-1.web"])),
        (WEB, two, Kind::Other, Answer::NoData),
        (WEB, "99.0.3.10.in-addr.arpa", Kind::Ptr, Answer::NxDomain),
        (WEB, "x.5.0.3.10.in-addr.arpa", Kind::Ptr, Answer::NxDomain),
        (WEB, "0.3.10.in-addr.arpa", Kind::Ptr, Answer::NoData),
        (WEB, "10.in-addr.arpa", Kind::Other, Answer::Forward),
        (WEB, "2.0.4.10.in-addr.arpa", Kind::Ptr, Answer::Forward),
        (WEB, "8.8.8.8.in-addr.arpa", Kind::Ptr, Answer::Forward),
        (BOTH, "2.0.4.10.in-addr.arpa", Kind::Ptr, names(&["db.back"])),
    ]);
}

#[test]
fn localhost_is_the_asker_itself() {
    check(&[
        (WEB, "localhost", Kind::A, at(&["127.0.0.1"])),
        (WEB, "LocalHost.", Kind::Aaaa, at(&["::1"])),
        (VAULT, "x.localhost", Kind::A, at(&["127.0.0.1"])),
        (WEB, "localhost", Kind::Other, Answer::NoData),
        (WEB, "1.0.0.127.in-addr.arpa", Kind::Ptr, names(&["localhost"])),
        (WEB, "9.0.0.127.in-addr.arpa", Kind::Ptr, Answer::NxDomain),
    ]);
}

#[test]
fn strangers_transfers_and_other_classes_are_refused() {
    check(&[
        (("wb-570001", "10.3.0.99"), "web-2", Kind::A, Answer::Refused),
        (("wb-570001", "10.4.0.2"), "db", Kind::A, Answer::Refused),
        (("wb-570003", "10.3.0.2"), "web-2", Kind::A, Answer::Refused),
        (("eth0", "10.3.0.2"), "web-2", Kind::A, Answer::Refused),
        (("eth0", "192.0.2.1"), "localhost", Kind::A, Answer::Refused),
        (WEB, "web", Kind::Transfer, Answer::Refused),
        (WEB, "example.com", Kind::Transfer, Answer::Refused),
    ]);
    let chaos = Query { internet: false, ..Query::text("version.bind", Kind::Other) };
    assert_eq!(answer(&index(), (WEB.0, ip(WEB.1)), &chaos, 0), Answer::Refused);
}

#[test]
fn the_source_may_be_an_ipv4_address_in_ipv6_clothes() {
    check(&[(("wb-570001", "::ffff:10.3.0.2"), "web-2", Kind::A, at(&["10.3.0.5"]))]);
}

#[test]
fn labels_that_only_look_like_names() {
    let dotted = Query::new([b"web-2.web".as_slice()], Kind::A);
    assert_eq!(answer(&index(), (WEB.0, ip(WEB.1)), &dotted, 0), Answer::Forward);
    let binary = Query::new([b"\xff\xfe".as_slice(), b"web"], Kind::A);
    assert_eq!(answer(&index(), (WEB.0, ip(WEB.1)), &binary, 0), Answer::NxDomain);
}

#[test]
fn each_address_of_a_name_comes_first_about_as_often() {
    let index = index();
    let mut first = std::collections::BTreeMap::new();
    for seed in 0..3_000 {
        let query = Query::text("worker", Kind::A);
        let Answer::Records(data) = answer(&index, (WEB.0, ip(WEB.1)), &query, seed) else {
            panic!("no records");
        };
        assert_eq!(data.len(), 3);
        let Data::Address(address) = data[0] else { panic!("{data:?}") };
        *first.entry(address).or_insert(0) += 1;
    }
    assert!(first.values().all(|count| (900..1_100).contains(count)), "{first:?}");
}
