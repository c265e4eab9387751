//! Random lives of a cluster, with servers that decide on old news.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Tiny, Wish, command, wishes};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use weft_model::{ClusterState, NodeId, Row, RowKey};
use weft_state::{Pair, Write, apply, invariants, needed_by, patch_for};

/// One wish, told to a server that is `lag` commits behind; `retry`: on a conflict it looks again.
#[derive(Debug, Clone)]
struct Step {
    wish: Wish,
    lag: usize,
    retry: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (wishes(), prop_oneof![3 => Just(0_usize), 2 => 1_usize..6], any::<bool>());
    prop::collection::vec(step.prop_map(|(wish, lag, retry)| Step { wish, lag, retry }), 1..80)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Senseless,
    Rejected,
    Unchanged,
    Conflict,
    Committed,
}

fn take(tiny: &mut Tiny, step: &Step) -> Ending {
    let mut ending = decide(tiny, &step.wish, step.lag);
    if ending == Ending::Conflict && step.retry {
        ending = decide(tiny, &step.wish, 0);
        assert_ne!(ending, Ending::Conflict, "decided on the newest state");
    }
    ending
}

fn decide(tiny: &mut Tiny, wish: &Wish, lag: usize) -> Ending {
    let seen = tiny.seen(lag).clone();
    let Some(command) = command(&seen, wish) else { return Ending::Senseless };
    let decision = apply(&seen, command.clone());
    assert_eq!(decision, apply(&seen, command), "the same wish on the same state");
    let Ok((transaction, _)) = decision else { return Ending::Rejected };
    if transaction.is_empty() {
        assert_eq!(transaction.preconditions, []);
        return Ending::Unchanged;
    }
    for write in &transaction.writes {
        let key = write.key();
        let demanded = transaction.preconditions.iter().any(|p| p.key == key);
        assert!(demanded, "{key} is written without looking");
    }
    if tiny.commit(&transaction) { Ending::Committed } else { Ending::Conflict }
}

/// What `needed_by` gives, as the bytes that an agent keeps.
fn needed(state: &ClusterState, node: NodeId) -> BTreeMap<RowKey, Vec<u8>> {
    needed_by(state, node).map(|row: Row| (row.key(), row.value())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_must_not_be_ever_is(steps in steps()) {
        let mut tiny = Tiny::busy();
        for step in &steps {
            let before = tiny.now().clone();
            let ending = take(&mut tiny, step);
            if ending != Ending::Committed {
                prop_assert_eq!(tiny.now(), &before);
            }
            prop_assert_eq!(invariants(tiny.now()), Vec::<String>::new(), "after {:?}", step);
        }
    }

    #[test]
    fn a_repeated_wish_changes_nothing(steps in steps()) {
        let mut tiny = Tiny::busy();
        for step in &steps {
            // More addresses are more addresses, each time they are asked for.
            let any = matches!(&step.wish, Wish::Lease { wanted, count, .. } if wanted.is_empty() && *count > 0);
            let command = command(tiny.now(), &step.wish).filter(|_| !any);
            take(&mut tiny, &Step { lag: 0, ..step.clone() });
            let Some(command) = command else { continue };
            if let Ok((transaction, _)) = apply(tiny.now(), command) {
                prop_assert!(transaction.is_empty(), "again: {:?}", step);
            }
        }
    }

    #[test]
    fn patches_lead_from_snapshot_to_snapshot(steps in steps()) {
        let mut tiny = Tiny::busy();
        let mut pair = Pair::new(tiny.now().clone());
        for step in &steps {
            if take(&mut tiny, step) != Ending::Committed {
                continue;
            }
            let [.., before, after] = &tiny.states[..] else { unreachable!() };
            let changes = tiny.commits.last().unwrap();
            pair.advance(changes.clone(), after.generation);
            prop_assert_eq!((pair.before(), pair.after()), (before, after));
            for node in (1..=5).map(NodeId) {
                let mut rows = needed(before, node);
                for write in patch_for(before, after, changes, node) {
                    match write {
                        Write::Put(row) => {
                            let old = rows.insert(row.key(), row.value());
                            prop_assert_ne!(old, Some(row.value()), "told without need");
                        }
                        Write::Delete(key) => {
                            prop_assert!(rows.remove(&key).is_some(), "{} was never told", key);
                        }
                    }
                }
                prop_assert_eq!(rows, needed(after, node), "node {} after {:?}", node, step);
            }
        }
    }
}

/// The random lives are worth something only if they reach everything.
#[test]
fn random_lives_reach_every_command_in_every_way() {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let mut seen: BTreeMap<(String, Ending), u32> = BTreeMap::new();
    let (mut patched, mut fullest) = (0, 0);
    for _ in 0..300 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let mut tiny = Tiny::busy();
        for step in &steps {
            let ending = take(&mut tiny, step);
            let kind = format!("{:?}", step.wish);
            let kind = kind.split([' ', '(']).next().unwrap().to_owned();
            *seen.entry((kind, ending)).or_default() += 1;
            if let ([.., before, after], Ending::Committed) = (&tiny.states[..], ending) {
                let changes = tiny.commits.last().unwrap();
                patched += u32::from(!patch_for(before, after, changes, NodeId(2)).is_empty());
            }
            fullest = fullest.max(tiny.now().endpoints.len());
        }
    }
    let kinds =
        ["Join", "Remove", "Move", "Create", "RemoveNetwork", "Lease", "Release", "Put", "Delete"];
    for kind in kinds {
        for ending in [Ending::Committed, Ending::Unchanged, Ending::Conflict] {
            let count = seen.get(&(kind.to_owned(), ending)).copied().unwrap_or(0);
            assert!(count > 0, "{kind} {ending:?}: {count} of {seen:#?}");
        }
    }
    assert!(patched > 500, "{patched}");
    assert!(fullest >= 6, "{fullest}");
}
