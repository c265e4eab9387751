//! What holds for every table.
#![allow(clippy::unwrap_used, reason = "tests stop at surprises")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_dns::{
    Answer, Asker, Data, Kind, NameIndex, NameTable, NetworkNames, Patch, Query, Record, answer,
};

const NAMES: [&str; 6] = ["a", "b", "c", "web", "back", "zz"];
const NETWORKS: [&str; 3] = ["web", "back", "vault"];

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u8..6).prop_map(|n| Ipv4Addr::new(10, 3, 0, n).into()),
        (0_u16..6).prop_map(|n| Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, n).into()),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let name = (0..NAMES.len()).prop_map(|n| NAMES[n].to_owned());
    (vec(name, 1..3), vec(address(), 0..3))
        .prop_map(|(names, addresses)| Record { names, addresses })
}

fn network() -> impl Strategy<Value = Arc<NetworkNames>> {
    (0_u8..3, any::<bool>(), vec(record(), 0..6)).prop_map(|(n, internal, records)| {
        Arc::new(NetworkNames {
            bridge: format!("wb-{n}"),
            gateways: vec![Ipv4Addr::new(10, 3, 0, 254).into()],
            subnets: vec!["10.3.0.0/24".parse().unwrap()],
            internal,
            records,
        })
    })
}

/// One asker per (bridge, address), as containers that cannot take each other's addresses are.
fn askers() -> impl Strategy<Value = Vec<Asker>> {
    let networks = proptest::sample::subsequence(NETWORKS.to_vec(), 0..=3);
    vec((0_u8..2, 1_u8..4, networks, any::<bool>()), 0..4).prop_map(|list| {
        let mut seen = BTreeSet::new();
        list.into_iter()
            .filter(|(bridge, host, ..)| seen.insert((*bridge, *host)))
            .map(|(bridge, host, networks, forward)| Asker {
                bridge: format!("wb-{bridge}"),
                addresses: vec![Ipv4Addr::new(10, 3, 0, host).into()],
                networks: networks.into_iter().map(str::to_owned).collect(),
                forward,
                inner: None,
            })
            .collect()
    })
}

fn table() -> impl Strategy<Value = NameTable> {
    let networks = proptest::collection::btree_map(0..NETWORKS.len(), network(), 0..=3);
    (any::<u64>(), networks, askers()).prop_map(|(generation, networks, askers)| NameTable {
        generation,
        networks: networks.into_iter().map(|(n, net)| (NETWORKS[n].to_owned(), net)).collect(),
        askers,
    })
}

fn query() -> impl Strategy<Value = Query> {
    let label = prop_oneof![
        (0..NAMES.len()).prop_map(|n| NAMES[n].to_owned()),
        (0..NETWORKS.len()).prop_map(|n| NETWORKS[n].to_uppercase()),
        Just("com".to_owned()),
    ];
    let kinds = vec![Kind::A, Kind::Aaaa, Kind::Ptr, Kind::Any, Kind::Transfer, Kind::Other];
    (vec(label, 0..4), proptest::sample::select(kinds))
        .prop_map(|(labels, kind)| Query::new(labels.iter().map(|label| label.as_bytes()), kind))
}

/// The same decision in the plainest words: every record is looked at.
fn plain(table: &NameTable, asker: &Asker, query: &Query) -> Answer {
    if query.kind == Kind::Transfer {
        return Answer::Refused;
    }
    let on: BTreeMap<&String, &Arc<NetworkNames>> =
        table.networks.iter().filter(|(name, _)| asker.networks.contains(name)).collect();
    let last_is_ours = query.labels.last().is_some_and(|last| on.contains_key(last));
    let mut known = query.labels.len() == 1 && last_is_ours;
    let mut found = BTreeSet::new();
    for (network, names) in on {
        let short = query.labels.len() == 1;
        let long = query.labels.len() == 2 && query.labels[1] == *network;
        for record in &names.records {
            if (short || long) && record.names.contains(&query.labels[0]) {
                known = true;
                found.extend(record.addresses.iter().copied());
            }
        }
    }
    let family = |four: bool| -> Vec<Data> {
        let of = found.iter().filter(|address| address.is_ipv4() == four);
        of.map(|address| Data::Address(*address)).collect()
    };
    let data = match query.kind {
        Kind::A => family(true),
        Kind::Aaaa => family(false),
        Kind::Any if family(true).is_empty() => family(false),
        Kind::Any => family(true),
        Kind::Ptr | Kind::Transfer | Kind::Other => Vec::new(),
    };
    match (known, data.is_empty()) {
        (true, false) => Answer::Records(data),
        (true, true) => Answer::NoData,
        (false, _) if last_is_ours => Answer::NxDomain,
        (false, _) if asker.forward => Answer::Forward,
        (false, _) if query.labels.is_empty() => Answer::NoData,
        (false, _) => Answer::NxDomain,
    }
}

fn sorted(answer: Answer) -> Answer {
    match answer {
        Answer::Records(mut data) => {
            data.sort_by_key(|data| match data {
                Data::Address(address) => *address,
                Data::Name(name) => panic!("a name {name} for a forward question"),
            });
            Answer::Records(data)
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn the_index_answers_as_a_scan_would(table in table(), query in query(), seed: u64) {
        let index = NameIndex::new(&table);
        for asker in &table.askers {
            let said = answer(&index, (&asker.bridge, asker.addresses[0]), &query, seed);
            prop_assert_eq!(sorted(said), plain(&table, asker, &query));
        }
    }

    #[test]
    fn nothing_of_an_own_network_and_nothing_of_internal_askers_goes_upstream(
        table in table(), query in query(), host in 0_u8..6, bridge in 0_u8..3, seed: u64,
    ) {
        let (bridge, source) = (format!("wb-{bridge}"), Ipv4Addr::new(10, 3, 0, host).into());
        let index = NameIndex::new(&table);
        if answer(&index, (&bridge, source), &query, seed) == Answer::Forward {
            let asker = index.asker(&bridge, source).unwrap();
            prop_assert!(asker.forward);
            let last = query.labels.last();
            let own = |name: &String| asker.networks.contains(name) && table.networks.contains_key(name);
            prop_assert!(!last.is_some_and(own));
        }
    }

    #[test]
    fn a_patch_leads_to_the_same_index_as_the_whole_table(old in table(), new in table()) {
        let mut index = NameIndex::new(&old);
        let patch = Patch::between(&old, &new);
        let written = serde_json::to_string(&patch).unwrap();
        index.apply(serde_json::from_str(&written).unwrap()).unwrap();
        prop_assert_eq!(index, NameIndex::new(&new));
    }

    #[test]
    fn nothing_changed_is_an_empty_patch(table in table()) {
        let copy: NameTable =
            serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
        let patch = Patch::between(&table, &copy);
        prop_assert_eq!(patch, Patch { generation: table.generation, ..Patch::default() });
    }

    #[test]
    fn a_patch_for_another_table_is_refused_or_harmless(
        other in table(), old in table(), new in table(),
    ) {
        let mut index = NameIndex::new(&other);
        if index.apply(Patch::between(&old, &new)).is_ok() {
            prop_assert_eq!(index.generation(), new.generation);
        }
    }
}
