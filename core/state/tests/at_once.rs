//! Two servers decide at once, on the same state: whatever they decide, and whoever is first.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Tiny, create, delete, endpoint, ip, join, join_as, lease, name, release};
use weft_model::{Endpoint, Network, NetworkId, NodeId, TokenId};
use weft_state::{Command, apply, invariants};

fn join_at(id: u64, address: &str) -> Command {
    match join(id) {
        Command::Join { token, secret_digest, now, id, name, key_digest, .. } => Command::Join {
            token,
            secret_digest,
            now,
            id,
            name,
            data_address: ip(address),
            key_digest,
        },
        other => other,
    }
}

/// Node 4 is a second server, and each node of network 1 has one endpoint, with its number.
fn begin() -> Tiny {
    let mut tiny = Tiny::busy();
    tiny.run(Command::RemoveNode(NodeId(4))).unwrap();
    tiny.run(join_as(3, 14, 4, 14)).unwrap();
    // A network on which nobody ever held anything.
    tiny.run(Command::CreateNetwork(create(8, "new", &["10.8.0.0/24"]))).unwrap();
    for node in 1..=3 {
        let network = tiny.network(1).clone();
        let offset = tiny.lease(1, node).offsets.iter().next().unwrap().0;
        tiny.run(Command::PutEndpoint(endpoint(&network, node, node, offset))).unwrap();
    }
    assert_eq!(invariants(tiny.now()), Vec::<String>::new());
    tiny
}

fn commands(tiny: &Tiny) -> Vec<Command> {
    let web: Network = tiny.network(1).clone();
    let nth = |network, node, n| tiny.lease(network, node).offsets.iter().nth(n).unwrap().0;
    let put = |node, id, n| endpoint(&web, node, id, nth(1, node, n));
    let renamed = |e: Endpoint| Endpoint { aliases: vec![name("alias")], ..e };
    let six = tiny.network(2).clone();
    let mut commands = vec![
        join(5),
        join_as(1, 6, 5, 6),
        join_as(1, 7, 7, 5),
        join_as(1, 14, 8, 14),
        join_at(8, "10.9.0.5"),
        join_at(9, "10.0.0.99"),
        Command::MoveNode { node: NodeId(14), data_address: ip("10.0.0.5") },
        Command::MoveNode { node: NodeId(14), data_address: ip("10.9.0.9") },
        Command::MoveNode { node: NodeId(3), data_address: ip("10.0.0.99") },
        Command::RevokeToken(TokenId(1)),
        Command::RemoveNetwork(NetworkId(1)),
        Command::RemoveNetwork(NetworkId(2)),
        Command::RemoveNetwork(NetworkId(8)),
        lease(8, 1, &[], 0),
        lease(8, 2, &[], 1),
        lease(1, 14, &[], 0),
        lease(1, 14, &[20], 0),
        lease(1, 3, &[20], 0),
        lease(1, 1, &[], 3),
        lease(1, 2, &[], 3),
        lease(1, 2, &[29], 0),
        lease(2, 3, &[], 0),
        lease(2, 14, &[], 2),
        release(1, 3, &nth(1, 3, 1).to_string(), false),
        release(1, 1, &nth(1, 1, 1).to_string(), false),
        release(2, 1, "", true),
        release(2, 2, "", true),
        Command::PutEndpoint(put(1, 10, 1)),
        Command::PutEndpoint(put(1, 11, 1)),
        Command::PutEndpoint(put(1, 12, 0)),
        Command::PutEndpoint(put(3, 13, 1)),
        Command::PutEndpoint(put(1, 1, 1)),
        Command::PutEndpoint(renamed(put(1, 1, 0))),
        Command::PutEndpoint(renamed(put(2, 2, 0))),
        Command::PutEndpoint(endpoint(&six, 1, 20, nth(2, 1, 0))),
        Command::PutEndpoint(endpoint(&six, 2, 20, nth(2, 2, 0))),
    ];
    commands.extend((1..=3).map(|id| delete(1, id)));
    commands.extend([1, 2, 3, 14].map(|id| Command::RemoveNode(NodeId(id))));
    let subnets: [(u64, &str, &[&str]); 5] = [
        (3, "x", &["10.9.0.0/24"]),
        (4, "x", &["10.10.0.0/24"]),
        (5, "y", &["10.9.0.0/25"]),
        (6, "z", &[]),
        (7, "zz", &[]),
    ];
    commands.extend(subnets.map(|(id, name, s)| Command::CreateNetwork(create(id, name, s))));
    commands
}

#[test]
fn any_two_decisions_at_once_leave_the_cluster_whole() {
    let tiny = begin();
    let commands = commands(&tiny);
    let (mut both, mut conflicts) = (0, 0);
    for first in &commands {
        for second in &commands {
            let decide = |command: &Command| apply(tiny.now(), command.clone());
            let (Ok((one, _)), Ok((two, _))) = (decide(first), decide(second)) else { continue };
            let mut both_of_them = Tiny::from(tiny.now().clone());
            assert!(both_of_them.commit(&one));
            let happened = both_of_them.commit(&two);
            both += u32::from(happened);
            conflicts += u32::from(!happened);
            let broken = invariants(both_of_them.now());
            assert_eq!(broken, Vec::<String>::new(), "{first:?}\nand then {second:?}");
        }
    }
    assert!(both > 500 && conflicts > 300, "{both} went together, {conflicts} did not");
}

/// Things that depend on nothing in common must not wait for each other.
#[test]
fn what_is_independent_goes_together() {
    let tiny = begin();
    let web = tiny.network(1).clone();
    let nth = |node, n| tiny.lease(1, node).offsets.iter().nth(n).unwrap().0;
    let pairs = [
        (
            Command::PutEndpoint(endpoint(&web, 1, 10, nth(1, 1))),
            Command::PutEndpoint(endpoint(&web, 3, 11, nth(3, 1))),
        ),
        (Command::PutEndpoint(endpoint(&web, 1, 10, nth(1, 1))), lease(1, 2, &[], 1)),
        (Command::PutEndpoint(endpoint(&web, 1, 10, nth(1, 1))), join(5)),
        (delete(1, 1), delete(1, 2)),
        (delete(1, 1), Command::PutEndpoint(endpoint(&web, 1, 10, nth(1, 1)))),
        (lease(1, 1, &[], 1), lease(2, 2, &[], 1)),
        (lease(1, 1, &[], 1), lease(8, 1, &[], 1)),
    ];
    for (first, second) in pairs {
        let mut both = Tiny::from(tiny.now().clone());
        let one = apply(tiny.now(), first.clone()).unwrap().0;
        let two = apply(tiny.now(), second.clone()).unwrap().0;
        assert!(!one.is_empty() && !two.is_empty());
        assert!(both.commit(&one) && both.commit(&two), "{first:?} and {second:?}");
    }
}

/// A token that was revoked a moment ago lets nobody in.
#[test]
fn a_revoked_token_stops_who_is_just_joining() {
    let mut tiny = begin();
    let joining = apply(tiny.now(), join(5)).unwrap().0;
    tiny.run(Command::RevokeToken(TokenId(1))).unwrap();
    assert!(!tiny.commit(&joining));
}
