//! Cluster, tokens and nodes: what is refused with which words, and what becomes of the rest.

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Tiny, authority, create, digest, endpoint, ip, join, join_as, lease, name, pool, refused,
    server, token,
};
use weft_model::row::{Cluster, Guard};
use weft_model::{ClusterId, Network, Node, NodeId, Role, RowKey, TokenId};
use weft_state::rejection::Code;
use weft_state::{Command, Outcome, apply};

fn initialise(pools: Vec<weft_model::row::Pool>, node: Node) -> Command {
    let cluster = Cluster { id: ClusterId(1), pools };
    Command::Initialise { cluster, authority: authority(), node }
}

#[test]
fn nothing_works_before_there_is_a_cluster() {
    let words = (
        Code::NotFound,
        "cluster",
        "there is no cluster yet",
        "make one with `weft init`, or join one with `weft join`",
    );
    for command in [join(2), Command::RevokeToken(TokenId(1)), lease(1, 1, &[], 1)] {
        refused(&Tiny::new(), command, words);
    }
}

#[test]
fn a_cluster_begins_once_and_with_a_server() {
    let mut tiny = Tiny::new();
    let agent = Node { role: Role::Agent, ..server() };
    refused(
        &tiny,
        initialise(Vec::new(), agent),
        (
            Code::Invalid,
            "node",
            "the first node of a cluster must be a server",
            "make the cluster with `weft init`",
        ),
    );
    for (prefix, size, message, hint) in [
        (
            "10.0.0.0/16",
            12,
            "pool 10.0.0.0/16 cannot be cut into pieces of /12",
            "pieces may be from /16 to /29",
        ),
        (
            "10.0.0.0/16",
            30,
            "pool 10.0.0.0/16 cannot be cut into pieces of /30",
            "pieces may be from /16 to /29",
        ),
        (
            "fd00::/8",
            48,
            "pool fd00::/8 cannot be cut into pieces of /48",
            "pieces may be from /64 to /120",
        ),
        ("10.0.0.1/16", 24, "10.0.0.1/16 has host bits set", "did you mean 10.0.0.0/16?"),
    ] {
        let command = initialise(vec![pool(prefix, size)], server());
        refused(&tiny, command, (Code::Invalid, "--pool", message, hint));
    }
    let command = initialise(vec![pool("10.0.0.0/8", 24)], server());
    assert_eq!(tiny.run(command.clone()), Ok(Outcome::Node(server())));
    assert!(apply(tiny.now(), command).unwrap().0.is_empty(), "the same again");
    refused(
        &tiny,
        initialise(Vec::new(), server()),
        (
            Code::Exists,
            "cluster",
            "this host is in cluster 0000000000000001 already",
            "to begin anew, stop the daemon and move its state directory away",
        ),
    );
}

#[test]
fn tokens_tell_only_those_who_know_the_secret() {
    let mut tiny = Tiny::initialised();
    let denied =
        |message| (Code::Denied, "--token", message, "ask for a new one: `weft token create`");
    let show = |token: u64, secret: u64, now: u64| Command::Join {
        token: TokenId(token),
        secret_digest: digest(secret),
        now,
        id: NodeId(2),
        name: name("node-2"),
        data_address: ip("10.0.0.2"),
        key_digest: digest(2),
    };
    let unknown = denied("the cluster does not know this token");
    refused(&tiny, show(9, 1009, 10), unknown);
    refused(&tiny, show(1, 1002, 10), unknown);
    refused(&tiny, show(1, 1001, 1000), denied("the token ended 0 seconds ago"));
    refused(&tiny, show(1, 1001, 1090), denied("the token ended 90 seconds ago"));
    assert!(apply(tiny.now(), show(1, 1001, 999)).is_ok());
    tiny.run(Command::RevokeToken(TokenId(1))).unwrap();
    refused(&tiny, show(1, 1001, 10), denied("the token was revoked"));
    refused(&tiny, show(1, 1001, 9999), denied("the token was revoked"));
    refused(&tiny, show(1, 1, 10), unknown);
    let gone =
        (Code::NotFound, "TOKEN", "there is no token 0000000000000009", "see `weft token ls`");
    refused(&tiny, Command::RevokeToken(TokenId(9)), gone);
    assert!(apply(tiny.now(), Command::RevokeToken(TokenId(1))).unwrap().0.is_empty());
}

#[test]
fn tokens_are_made_once_and_properly() {
    let tiny = Tiny::initialised();
    let bad = weft_model::Token { secret_digest: "secret".to_owned(), ..token(4, Role::Agent) };
    refused(
        &tiny,
        Command::CreateToken(bad),
        (
            Code::Invalid,
            "TOKEN",
            "the digest of a token's secret must be 64 lower-case hexadecimal digits",
            "send the SHA-256 of the secret",
        ),
    );
    refused(
        &tiny,
        Command::CreateToken(token(1, Role::Server)),
        (
            Code::Exists,
            "TOKEN",
            "there is another token 0000000000000001",
            "try again: tokens get random identifiers",
        ),
    );
    let again = apply(tiny.now(), Command::CreateToken(token(1, Role::Agent))).unwrap();
    assert!(again.0.is_empty());
}

#[test]
fn joining_gives_the_token_s_role_and_the_same_key_the_same_node() {
    let mut tiny = Tiny::initialised();
    let node = |place: u64, role| Node {
        id: NodeId(2),
        name: name(&format!("node-{place}")),
        role,
        data_address: format!("10.0.0.{place}").parse().unwrap(),
        key_digest: digest(2),
        removed: false,
    };
    let joined = |node: Node| Ok(Outcome::Joined(node.clone(), node.role));
    assert_eq!(tiny.run(join(2)), joined(node(2, Role::Agent)));
    let before = tiny.states.len();
    assert_eq!(tiny.run(join(2)), joined(node(2, Role::Agent)));
    // Another identifier, another token: still the same node with its first role.
    assert_eq!(tiny.run(join_as(3, 7, 2, 2)), joined(node(2, Role::Agent)));
    assert_eq!(tiny.states.len(), before, "nothing was written");
    assert_eq!(tiny.run(join_as(1, 7, 5, 2)), joined(node(5, Role::Agent)));
    assert_eq!(tiny.now().nodes[&NodeId(2)], node(5, Role::Agent));
    assert!(tiny.revision_of(RowKey::Guard(Guard::Nodes)) == Some(tiny.now().generation));
}

#[test]
fn names_and_data_addresses_are_given_once() {
    let mut tiny = Tiny::initialised();
    tiny.run(join(2)).unwrap();
    refused(
        &tiny,
        join_as(1, 3, 2, 3),
        (
            Code::Exists,
            "NAME",
            "there is another node called 'node-2'",
            "join under another name, or remove the other node: `weft node rm`",
        ),
    );
    refused(
        &tiny,
        join_as(1, 2, 3, 3),
        (
            Code::Exists,
            "id",
            "there is another node 0000000000000002",
            "try again: nodes get random identifiers",
        ),
    );
    let taken = (
        Code::Exists,
        "--data-address",
        "10.0.0.1 is the data address of node 'node-1'",
        "give another address of this host, or remove the other node: `weft node rm`",
    );
    refused(&tiny, Command::MoveNode { node: NodeId(2), data_address: ip("10.0.0.1") }, taken);
    // A removed node's name and address are free again; its key is not.
    tiny.run(Command::RemoveNode(NodeId(2))).unwrap();
    assert!(apply(tiny.now(), join_as(1, 3, 2, 3)).is_ok());
    refused(
        &tiny,
        join_as(1, 3, 4, 2),
        (
            Code::Denied,
            "key",
            "a node with this key was removed from the cluster",
            "to join again as a new node, delete the key in the host's state directory",
        ),
    );
}

#[test]
fn data_addresses_must_be_reachable_from_all_nodes() {
    let mut tiny = Tiny::initialised();
    tiny.run(join(2)).unwrap();
    tiny.run(Command::CreateNetwork(create(1, "web", &["10.3.0.0/24"]))).unwrap();
    let hint = "give the address of this host that the other hosts send to";
    for (address, message) in [
        ("0.0.0.0", "0.0.0.0 is no address of a host"),
        ("::", ":: is no address of a host"),
        ("224.0.0.9", "224.0.0.9 is a multicast address"),
        ("127.0.0.1", "127.0.0.1 is a loopback address, which other hosts cannot reach"),
        ("::1", "::1 is a loopback address, which other hosts cannot reach"),
        ("255.255.255.255", "255.255.255.255 is a broadcast address"),
        ("fe80::7", "fe80::7 is a link-local address, which is not unique among hosts"),
    ] {
        let command = Command::MoveNode { node: NodeId(2), data_address: ip(address) };
        refused(&tiny, command, (Code::Invalid, "--data-address", message, hint));
    }
    refused(
        &tiny,
        Command::MoveNode { node: NodeId(2), data_address: ip("fd77::2") },
        (
            Code::Invalid,
            "--data-address",
            "fd77::2 cannot be reached from node 'node-1'",
            "give an IPv4 address of this host: all data addresses are of one family",
        ),
    );
    refused(
        &tiny,
        Command::MoveNode { node: NodeId(2), data_address: ip("10.3.0.77") },
        (
            Code::Overlap,
            "--data-address",
            "10.3.0.77 lies in subnet 10.3.0.0/24 of network 'web'",
            "give another address of this host, or remove that network",
        ),
    );
    let unkeyed = Command::Join {
        token: TokenId(1),
        secret_digest: digest(1001),
        now: 0,
        id: NodeId(3),
        name: name("node-3"),
        data_address: ip("10.0.0.3"),
        key_digest: "ABC".to_owned(),
    };
    refused(
        &tiny,
        unkeyed,
        (
            Code::Invalid,
            "key",
            "the digest of a node's key must be 64 lower-case hexadecimal digits",
            "send the SHA-256 of the public key",
        ),
    );
}

#[test]
fn a_removed_node_leaves_a_mark_and_nothing_else() {
    let mut tiny = Tiny::busy();
    let on = |tiny: &Tiny, n: u64| -> Network { tiny.network(n).clone() };
    let first = tiny.lease(1, 2).offsets.iter().next().unwrap().0;
    tiny.run(Command::PutEndpoint(endpoint(&on(&tiny, 1), 2, 5, first))).unwrap();
    let old = tiny.now().nodes[&NodeId(2)].clone();
    let marked = Node { removed: true, ..old };
    assert_eq!(tiny.run(Command::RemoveNode(NodeId(2))), Ok(Outcome::Node(marked.clone())));
    let now = tiny.now();
    assert_eq!(now.nodes[&NodeId(2)], marked);
    assert!(now.leases.values().all(|lease| lease.node != NodeId(2)));
    assert!(now.endpoints.is_empty());
    for network in [1, 2].map(weft_model::NetworkId) {
        assert_eq!(tiny.revision_of(RowKey::Guard(Guard::Leases(network))), Some(now.generation));
    }
    assert!(apply(now, Command::RemoveNode(NodeId(2))).unwrap().0.is_empty());
    let gone = (
        Code::Denied,
        "NODE",
        "node 'node-2' was removed from the cluster",
        "to join again as a new node, delete the key in the host's state directory",
    );
    refused(&tiny, lease(1, 2, &[], 1), gone);
    refused(&tiny, Command::PutEndpoint(endpoint(&on(&tiny, 1), 2, 5, first)), gone);
    refused(&tiny, Command::MoveNode { node: NodeId(2), data_address: ip("10.0.0.9") }, gone);
    let unknown =
        (Code::NotFound, "NODE", "there is no node 0000000000000009", "see `weft node ls`");
    refused(&tiny, Command::RemoveNode(NodeId(9)), unknown);
    refused(&tiny, lease(1, 9, &[], 1), unknown);
}

#[test]
fn the_last_server_stays() {
    let mut tiny = Tiny::initialised();
    let words = (
        Code::Busy,
        "NODE",
        "node 'node-1' is the only server of the cluster",
        "let another server join first",
    );
    refused(&tiny, Command::RemoveNode(NodeId(1)), words);
    tiny.run(join(2)).unwrap();
    refused(&tiny, Command::RemoveNode(NodeId(1)), words);
    tiny.run(join_as(3, 3, 3, 3)).unwrap();
    tiny.run(Command::RemoveNode(NodeId(1))).unwrap();
    let words = (words.0, words.1, "node 'node-3' is the only server of the cluster", words.3);
    refused(&tiny, Command::RemoveNode(NodeId(3)), words);
}
