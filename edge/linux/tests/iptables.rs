//! Our rules in chains that iptables made: iptables still understands its tables.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use common::*;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Equal, Match, Statement};
use weft_kernel::{KernelState, Key, Object, TableName};
use weft_linux::{Linux, facts};

#[test]
fn iptables_shows_our_rules_as_what_they_are() {
    in_netns(|| {
        run("ip", "addr add 172.30.0.15/32 dev lo");
        for (program, family) in
            [("iptables-nft", NftFamily::Ip), ("ip6tables-nft", NftFamily::Ip6)]
        {
            run(program, "-P FORWARD DROP");
            run(program, "-P INPUT DROP");
            run(program, "-A FORWARD -p tcp --dport 22 -j ACCEPT");
            let table = TableName { family, name: "filter".into() };
            let key = |chain: &str, rule: &weft_kernel::nft::Rule| {
                Key::ForeignRule(table.clone(), chain.into(), rule.to_string())
            };
            let accept = |matches| rule(matches, vec![Statement::Accept], "weft");
            let from = || Match::InLink(Equal::Is, "wb-*".into());
            let rules = [
                ("FORWARD", accept(vec![from()])),
                ("FORWARD", accept(vec![Match::OutLink(Equal::Is, "wb-*".into())])),
                ("INPUT", accept(vec![Match::UdpPort(4789)])),
                ("INPUT", accept(vec![from(), Match::UdpPort(53)])),
                ("INPUT", accept(vec![from(), Match::TcpPort(53)])),
            ];
            let objects: Objects = rules
                .iter()
                .map(|(chain, rule)| (key(chain, rule), Object::ForeignRule(rule.clone())))
                .collect();
            let mut linux = Linux::open().unwrap();
            let found = facts("172.30.0.15".parse().unwrap(), None).unwrap();
            let mine = found.drop_chains.iter().filter(|chain| chain.table == table).count();
            assert_eq!(mine, 2, "{found:?}");

            let want: KernelState = objects.iter().cloned().collect();
            for _ in 0..2 {
                apply(&mut linux, &puts(&objects));
                assert_same(&observe(&mut linux), &want);
            }
            let saved = run(program, "-S");
            let at = |line: &str| saved.lines().position(|l| l == line);
            let head = at("-A FORWARD -i wb-+ -m comment --comment weft -j ACCEPT").expect(&saved);
            assert!(head < at("-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT").expect(&saved));
            assert!(
                at("-A FORWARD -o wb-+ -m comment --comment weft -j ACCEPT").is_some(),
                "{saved}"
            );
            assert!(saved.contains("--dport 4789 -m comment --comment weft -j ACCEPT"), "{saved}");
            assert!(
                saved.contains(
                    "-i wb-+ -p udp -m udp --dport 53 -m comment --comment weft -j ACCEPT"
                ),
                "{saved}"
            );

            // A firewall that is loaded anew takes them away, and they come back.
            run(program, "-F FORWARD");
            let have = observe(&mut linux);
            assert_eq!(have.len(), 3);
            apply(&mut linux, &puts(&objects));
            assert_same(&observe(&mut linux), &want);
            apply(&mut linux, &deletes(&objects));
            assert!(!run(program, "-S").contains("wb-"), "ours are gone");
            assert_same(&observe(&mut linux), &KernelState::new());
        }
    });
}
