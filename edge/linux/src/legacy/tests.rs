//! Tables and rules as octets, without a kernel.

use proptest::prelude::*;
use weft_kernel::nft::{Equal, Match, Rule, Statement};

use super::entry::{decode, encode};
use super::layout::{
    ACCEPT, ALIGN, DROP, EXTENSION, HOOKS, Layout, STANDARD_TARGET, V4, V6, put, u32_at,
};
use super::table::{Gate, Info, Table};

const ERROR_TARGET: usize = 64;

fn accept(matches: Vec<Match>) -> Rule {
    Rule { matches, statements: vec![Statement::Accept], comment: "weft".into() }
}

fn link(name: &str) -> Match {
    Match::InLink(Equal::Is, name.into())
}

fn wanted() -> Vec<Rule> {
    vec![
        accept(vec![link("wb-*")]),
        accept(vec![Match::OutLink(Equal::Is, "wb-*".into())]),
        accept(vec![link("eth0"), Match::OutLink(Equal::Is, "fifteen-letters".into())]),
        accept(vec![Match::UdpPort(4789)]),
        accept(vec![link("wb-*"), Match::UdpPort(53)]),
        accept(vec![link("wb-*"), Match::TcpPort(53)]),
        accept(vec![link("wb-*"), Match::Protocol(Equal::Is, 58)]),
    ]
}

#[test]
fn rules_come_back_as_they_were() {
    for layout in [&V4, &V6] {
        for rule in wanted() {
            let entry = encode(layout, &rule).unwrap();
            assert_eq!(entry.len() % ALIGN, 0);
            assert_eq!(decode(layout, &entry), Some(rule));
        }
    }
}

#[test]
fn what_legacy_iptables_cannot_say_is_not_said() {
    let cannot = [
        accept(vec![link("*")]),
        accept(vec![link("")]),
        accept(vec![link("sixteen--letters")]),
        accept(vec![link("a*b")]),
        accept(vec![link("wb-+")]),
        accept(vec![link("fifteen-letters*")]),
        accept(vec![link("wb-*"), link("eth0")]),
        accept(vec![Match::UdpPort(53), link("wb-*")]),
        accept(vec![Match::UdpPort(53), Match::Protocol(Equal::Is, 17)]),
        accept(vec![Match::Protocol(Equal::Is, 0)]),
        accept(vec![Match::Protocol(Equal::IsNot, 6)]),
        accept(vec![Match::InLink(Equal::IsNot, "wb-*".into())]),
        accept(vec![Match::InSet(Equal::Is, vec![], "vnis".into())]),
        Rule { comment: "web".into(), ..accept(vec![link("wb-*")]) },
        Rule { statements: vec![Statement::Drop], ..accept(vec![link("wb-*")]) },
        Rule { statements: vec![Statement::Counter, Statement::Accept], ..accept(vec![]) },
    ];
    for rule in cannot {
        assert_eq!(encode(&V4, &rule), None, "{rule}");
        assert_eq!(encode(&V6, &rule), None, "{rule}");
    }
}

/// Every octet that says something, said otherwise, makes the rule somebody else's or another one.
#[test]
fn a_changed_rule_is_not_taken_for_what_it_was() {
    for layout in [&V4, &V6] {
        let rule = accept(vec![link("wb-*"), Match::UdpPort(53)]);
        let entry = encode(layout, &rule).unwrap();
        let says_something: Vec<usize> = (0..layout.addresses + 3)
            .chain(layout.link(2)..layout.link(4))
            .chain([layout.protocol, layout.flags, layout.inverted, layout.target_offset])
            // The match for UDP: name, revision, ports and what is inverted.
            .chain(layout.size + 2..layout.size + 5)
            .chain(layout.size + 31..layout.size + EXTENSION + 9)
            // The target's size, the first letter of its name, the verdict.
            .chain([entry.len() - STANDARD_TARGET, entry.len() - STANDARD_TARGET + 2])
            .chain(entry.len() - 8..entry.len() - 4)
            .collect();
        for at in says_something {
            let mut changed = entry.clone();
            changed[at] ^= 0x41;
            assert_ne!(decode(layout, &changed), Some(rule.clone()), "octet {at}");
        }
    }
}

/// An entry without matches: a standard target when there is a verdict, else an error target.
fn plain(layout: &Layout, verdict: Option<i32>) -> Vec<u8> {
    let mut entry = vec![0; layout.size];
    let size = if verdict.is_some() { STANDARD_TARGET } else { ERROR_TARGET };
    let end = u16::try_from(layout.size + size).unwrap();
    put(&mut entry, layout.target_offset, &u16::try_from(layout.size).unwrap().to_ne_bytes());
    put(&mut entry, layout.next_offset, &end.to_ne_bytes());
    let mut target = vec![0; size];
    put(&mut target, 0, &u16::try_from(size).unwrap().to_ne_bytes());
    match verdict {
        Some(verdict) => put(&mut target, EXTENSION, &verdict.to_ne_bytes()),
        None => put(&mut target, 2, b"ERROR"),
    }
    entry.extend(target);
    entry
}

/// INPUT: accepts. FORWARD: a jump to the chain at the end, a rule that only counts, drop.
/// OUTPUT: accepts. A chain of a user's with a jump within the table. The end.
fn sample(layout: &'static Layout) -> (Info, Vec<u8>) {
    let (rule, error) = (layout.size + STANDARD_TARGET, layout.size + ERROR_TARGET);
    let offset = |rules: usize, errors: usize| (rules * rule + errors * error) as i32;
    let entries = [
        plain(layout, Some(ACCEPT)),
        plain(layout, Some(offset(5, 1))),
        plain(layout, Some(offset(3, 0))),
        plain(layout, Some(DROP)),
        plain(layout, Some(ACCEPT)),
        plain(layout, None),
        plain(layout, Some(offset(1, 0))),
        plain(layout, Some(-5)),
        plain(layout, None),
    ];
    let mut info = Info { hooks: 0b1110, entries: 9, ..Info::default() };
    let at = |rules: usize| u32::try_from(rules * rule).unwrap();
    info.first = [u32::MAX, 0, at(1), at(4), u32::MAX];
    info.policy = [u32::MAX, 0, at(3), at(4), u32::MAX];
    let octets = entries.concat();
    info.size = u32::try_from(octets.len()).unwrap();
    (info, octets)
}

#[test]
fn jumps_and_chains_follow_what_moves() {
    for layout in [&V4, &V6] {
        let (info, octets) = sample(layout);
        let old = Table::new(layout, info, octets).unwrap();
        assert!(old.drops(Gate::Forward) && !old.drops(Gate::Input));
        let mut table = old.clone();
        let rules = wanted();
        for rule in &rules {
            let entry = encode(layout, rule).unwrap();
            assert!(table.insert(Gate::Forward, &entry) && table.insert(Gate::Input, &entry));
        }
        // A table that makes no sense is refused, as the kernel refuses it.
        let again = Table::new(layout, table.info, table.octets.clone()).unwrap();
        assert!(again.drops(Gate::Forward) && !again.drops(Gate::Input));
        let ours = |table: &Table, gate| -> Vec<Rule> {
            table.ours(gate).into_iter().map(|(_, rule)| rule).rev().collect()
        };
        assert_eq!(
            (ours(&again, Gate::Forward), ours(&again, Gate::Input)),
            (rules.clone(), rules)
        );
        let added = table.octets.len() - old.octets.len();
        let verdict = |octets: &[u8], at: usize| {
            u32_at(octets, at + layout.size + EXTENSION).unwrap() as usize
        };
        let rule = layout.size + STANDARD_TARGET;
        // To the chain of the user's, and from there to the head of FORWARD.
        let jump = rule + added;
        assert_eq!(verdict(&table.octets, jump), verdict(&old.octets, rule) + added);
        let user = 5 * rule + layout.size + ERROR_TARGET;
        assert_eq!(verdict(&old.octets, user), rule);
        assert_eq!(
            verdict(&table.octets, user + added),
            rule + added / 2,
            "the head, ours included"
        );
        assert_eq!(table.info.first[2] as usize, rule + added / 2);
        assert_eq!(table.origins.iter().flatten().count(), 9);
        for gate in Gate::ALL {
            while let Some((at, _)) = table.ours(gate).pop() {
                table.remove(at);
            }
        }
        assert_eq!((&table.octets, table.info), (&old.octets, old.info));
        assert_eq!(table.origins, old.origins);
    }
}

proptest! {
    /// Whatever the kernel says, nothing breaks; what is taken for a table stays one.
    #[test]
    fn odd_octets_do_no_harm(
        v6 in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        hook in 0..HOOKS,
        first in prop::option::of(0..3_000_u32),
        policy in prop::option::of(0..3_000_u32),
        entries in prop::option::of(0..12_u32),
    ) {
        let layout = if v6 { &V6 } else { &V4 };
        let (mut info, octets) = sample(layout);
        let mut table = Table::new(layout, info, octets).unwrap();
        for rule in wanted() {
            table.insert(Gate::Forward, &encode(layout, &rule).unwrap());
        }
        info = table.info;
        let mut octets = table.octets;
        for (at, value) in changes {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
            info.size = u32::try_from(octets.len()).unwrap();
        }
        info.first[hook] = first.unwrap_or(info.first[hook]);
        info.policy[hook] = policy.unwrap_or(info.policy[hook]);
        info.entries = entries.unwrap_or(info.entries);
        if let Some(mut table) = Table::new(layout, info, octets) {
            let rule = &wanted()[0];
            for gate in Gate::ALL {
                table.drops(gate);
                table.insert(gate, &encode(layout, rule).unwrap());
                while let Some((at, _)) = table.ours(gate).pop() {
                    table.remove(at);
                }
            }
            prop_assert!(Table::new(layout, table.info, table.octets).is_some());
        }
    }

    #[test]
    fn odd_entries_are_not_ours(octets in prop::collection::vec(any::<u8>(), 0..700)) {
        prop_assert_eq!(decode(&V4, &octets), None);
        prop_assert_eq!(decode(&V6, &octets), None);
    }
}
