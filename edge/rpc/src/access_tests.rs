use super::*;
use crate::error::{told, word};
use crate::wire::PATHS;
use std::collections::BTreeSet;
use tonic::Code;
use weft_model::row::{Authority, Cluster};
use weft_model::{ClusterId, ContainerId, Endpoint, Lease, Mac, Node, Offset, Token, TokenId};
use weft_state::command::CreateNetwork;

/// The table as it is meant, written down a second time: who may, and nobody else.
const MEANT: &[(&str, &str)] = &[
    ("/weft.v1.Cluster/Join", "S....."),
    ("/weft.v1.Cluster/Renew", ".EAOV."),
    ("/weft.v1.Cluster/Follow", "..AOV."),
    ("/weft.v1.Cluster/Lease", "..AOV."),
    ("/weft.v1.Cluster/Release", "..AOV."),
    ("/weft.v1.Cluster/PutEndpoint", "..AOV."),
    ("/weft.v1.Cluster/DeleteEndpoint", "..AOV."),
    ("/weft.v1.Cluster/AwaitApplied", "..AOV."),
    ("/weft.v1.Cluster/MoveNode", "..AOV."),
    ("/weft.v1.Cluster/List", "..AOV."),
    ("/weft.v1.Cluster/Status", "..AOV."),
    ("/weft.v1.Cluster/CreateNetwork", "...OV."),
    ("/weft.v1.Cluster/RemoveNetwork", "...OV."),
    ("/weft.v1.Cluster/CreateToken", "...OV."),
    ("/weft.v1.Cluster/RevokeToken", "...OV."),
    ("/weft.v1.Cluster/RemoveNode", "...OV."),
    ("/weft.v1.Local/Init", ".....L"),
    ("/weft.v1.Local/JoinCluster", ".....L"),
    ("/weft.v1.Local/Attach", ".....L"),
    ("/weft.v1.Local/Detach", ".....L"),
    ("/weft.v1.Local/Status", ".....L"),
    ("/weft.v1.Local/InspectEndpoint", ".....L"),
    ("/weft.v1.Local/List", ".....L"),
    ("/weft.v1.Local/CreateNetwork", ".....L"),
    ("/weft.v1.Local/RemoveNetwork", ".....L"),
    ("/weft.v1.Local/CreateToken", ".....L"),
    ("/weft.v1.Local/RevokeToken", ".....L"),
    ("/weft.v1.Local/RemoveNode", ".....L"),
];

fn node(id: u64, role: Role) -> NodeIdentity {
    NodeIdentity { cluster: ClusterId(1), id: NodeId(id), role, not_after: u64::MAX }
}

fn peer(kind: Kind) -> Peer {
    let identity = match kind {
        Kind::Stranger => Identity::Stranger,
        Kind::LocalRoot => Identity::LocalRoot,
        Kind::Expired => Identity::Node(NodeIdentity { not_after: 1, ..node(2, Role::Server) }),
        Kind::Agent => Identity::Node(node(2, Role::Agent)),
        Kind::Operator => Identity::Node(node(2, Role::Operator)),
        Kind::Server => Identity::Node(node(2, Role::Server)),
    };
    Peer { identity, address: None }
}

fn layer() -> AccessLayer {
    AccessLayer::new(Arc::new(|node| node == NodeId(13)))
}

#[test]
fn every_call_of_the_protocol_is_in_the_table_once() {
    let in_table: Vec<&str> = TABLE.iter().map(|e| e.path).collect();
    let distinct: BTreeSet<&str> = in_table.iter().copied().collect();
    assert_eq!(distinct.len(), in_table.len());
    assert_eq!(distinct, PATHS.iter().copied().collect());
    assert_eq!(distinct, MEANT.iter().map(|(path, _)| *path).collect());
}

#[test]
fn every_call_takes_exactly_those_it_is_meant_for() {
    let mut refused = 0;
    for (path, who) in MEANT {
        for (kind, letter) in Kind::ALL.into_iter().zip(who.chars()) {
            let admitted = layer().admit(path, Some(&peer(kind)));
            assert_eq!(admitted.is_ok(), letter != '.', "{path} by {kind}");
            match admitted {
                Ok(caller) => assert_eq!(caller.peer(), &peer(kind)),
                Err(status) => {
                    refused += 1;
                    let unknown = matches!(kind, Kind::Stranger | Kind::Expired);
                    let code = if unknown { Code::Unauthenticated } else { Code::PermissionDenied };
                    assert_eq!(status.code(), code, "{path} by {kind}");
                    assert!(!status.message().is_empty());
                }
            }
        }
    }
    assert_eq!(refused, 28 * 6 - (1 + 4 + 9 * 3 + 5 * 2 + 12));
}

#[test]
fn what_is_not_in_the_table_is_denied_to_all() {
    for path in ["", "/", "/weft.v1.Cluster/", "/weft.v1.Cluster/join", "/weft.v2.Cluster/Join"] {
        for kind in Kind::ALL {
            let status = layer().admit(path, Some(&peer(kind))).unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{path} by {kind}");
        }
    }
}

#[test]
fn a_removed_node_is_refused_everywhere() {
    for role in [Role::Agent, Role::Operator, Role::Server] {
        for not_after in [1, u64::MAX] {
            let identity = Identity::Node(NodeIdentity { not_after, ..node(13, role) });
            for path in PATHS {
                let removed = Peer { identity: identity.clone(), address: None };
                let status = layer().admit(path, Some(&removed)).unwrap_err();
                assert_eq!(told(&status).code, word::REMOVED, "{path}");
            }
        }
    }
}

#[test]
fn a_call_without_a_peer_or_past_the_gate_is_refused() {
    let status = layer().admit("/weft.v1.Cluster/Join", None).unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(Caller::of(&tonic::Request::new(())).unwrap_err().code(), Code::Internal);
}

fn endpoint(node: u64) -> Endpoint {
    Endpoint {
        id: EndpointId(5),
        network: NetworkId(3),
        node: NodeId(node),
        container: ContainerId(4),
        name: "web".parse().unwrap(),
        aliases: Vec::new(),
        addresses: Vec::new(),
        mac: Mac::ZERO,
        allow_source: Vec::new(),
    }
}

fn own_commands(id: u64) -> Vec<Command> {
    let (network, node) = (NetworkId(3), NodeId(id));
    vec![
        Command::Lease { network, node, wanted: Vec::new(), count: 1 },
        Command::Release { network, node, offsets: "2".parse().unwrap(), leave: false },
        Command::MoveNode { node, data_address: "10.0.0.1".parse().unwrap() },
        Command::PutEndpoint(endpoint(id)),
    ]
}

fn token() -> Token {
    let secret_digest = String::new();
    Token { id: TokenId(1), secret_digest, role: Role::Agent, expires_at: 0, revoked: false }
}

fn operator_commands() -> Vec<Command> {
    vec![
        Command::CreateToken(token()),
        Command::RevokeToken(TokenId(1)),
        Command::RemoveNode(NodeId(2)),
        Command::RemoveNetwork(NetworkId(3)),
        Command::CreateNetwork(CreateNetwork {
            id: NetworkId(9),
            name: "db".parse().unwrap(),
            subnets: Vec::new(),
            ipv6: false,
            mtu: None,
            internal: false,
            allow_overlap: false,
            occupied: Vec::new(),
        }),
    ]
}

fn server_node() -> Node {
    Node {
        id: NodeId(2),
        name: "a".parse().unwrap(),
        role: Role::Server,
        data_address: "10.0.0.1".parse().unwrap(),
        key_digest: String::new(),
        removed: false,
    }
}

fn nobodys_commands() -> Vec<Command> {
    let cluster = Cluster { id: ClusterId(1), pools: Vec::new() };
    let authority = Authority { certificate: String::new(), private_key: String::new() };
    let join = Command::Join {
        token: TokenId(1),
        secret_digest: String::new(),
        now: 0,
        id: NodeId(2),
        name: "b".parse().unwrap(),
        data_address: "10.0.0.2".parse().unwrap(),
        key_digest: String::new(),
    };
    vec![Command::Initialise { cluster, authority, node: server_node() }, join]
}

fn denied(who: &Identity, command: &Command, owner: Option<u64>) -> bool {
    match may_write(who, command, |_, _| owner.map(NodeId)) {
        Ok(()) => false,
        Err(rejection) => {
            assert_eq!(rejection.code, weft_state::rejection::Code::Denied);
            true
        }
    }
}

#[test]
fn a_node_writes_only_its_own_rows_whatever_its_role() {
    for role in [Role::Agent, Role::Operator, Role::Server] {
        let who = Identity::Node(node(2, role));
        for (own, others) in own_commands(2).iter().zip(&own_commands(3)) {
            assert!(!denied(&who, own, None), "{own:?}");
            assert!(denied(&who, others, None), "{others:?}");
        }
        let put = Command::PutEndpoint(endpoint(2));
        let delete = Command::DeleteEndpoint { network: NetworkId(3), endpoint: EndpointId(5) };
        for command in [put, delete] {
            assert!(!denied(&who, &command, None));
            assert!(!denied(&who, &command, Some(2)));
            assert!(denied(&who, &command, Some(3)), "{command:?} of another node's endpoint");
        }
    }
}

#[test]
fn only_operators_and_servers_administer() {
    for command in operator_commands() {
        assert!(denied(&Identity::Node(node(2, Role::Agent)), &command, None), "{command:?}");
        assert!(!denied(&Identity::Node(node(2, Role::Operator)), &command, None));
        assert!(!denied(&Identity::Node(node(2, Role::Server)), &command, None));
    }
}

#[test]
fn strangers_only_join_and_nobody_initialises_over_the_wire() {
    let all = [own_commands(2), operator_commands(), nobodys_commands()].concat();
    for command in &all {
        let joins = matches!(command, Command::Join { .. });
        assert_eq!(denied(&Identity::Stranger, command, None), !joins, "{command:?}");
        assert!(denied(&Identity::LocalRoot, command, None));
    }
    for command in nobodys_commands() {
        for role in [Role::Agent, Role::Operator, Role::Server] {
            assert!(denied(&Identity::Node(node(2, role)), &command, None), "{command:?}");
        }
    }
}

#[test]
fn listings_show_each_role_what_it_may_see() {
    let lease = |network| {
        Row::Lease(Lease {
            network: NetworkId(network),
            node: NodeId(9),
            node_offset: Offset(254),
            offsets: "2".parse().unwrap(),
        })
    };
    let takes_part = |network| network == NetworkId(3);
    let authority = Authority { certificate: String::new(), private_key: String::new() };
    for role in [Role::Agent, Role::Operator, Role::Server] {
        let who = node(2, role);
        let privileged = role != Role::Agent;
        let shows = |listing: Listing, row: &Row| listing.shows(row, &who, takes_part);
        assert!(shows(Listing::Leases, &lease(3)));
        assert_eq!(shows(Listing::Leases, &lease(4)), privileged);
        assert!(shows(Listing::Endpoints, &Row::Endpoint(endpoint(9))));
        let foreign = Row::Endpoint(Endpoint { network: NetworkId(4), ..endpoint(9) });
        assert_eq!(shows(Listing::Endpoints, &foreign), privileged);
        assert_eq!(shows(Listing::Tokens, &Row::Token(token())), privileged);
        for (listing, word) in Listing::ALL {
            assert!(!shows(listing, &Row::Authority(authority.clone())));
            let asked = Listing::for_caller(word, &who);
            assert_eq!(asked.is_ok(), privileged || listing != Listing::Tokens, "{word}");
        }
        for word in ["authority", "cluster", "guard", "Node", ""] {
            let wrong = Listing::for_caller(word, &who).unwrap_err();
            assert_eq!(wrong.message, format!("'{word}' cannot be listed"));
            assert_eq!(wrong.hint, "list one of: node, network, lease, endpoint, token");
        }
    }
}
