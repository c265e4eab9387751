//! What may be written and seen by whom.

use weft_model::{NodeId, Offset, Role, Row};
use weft_rpc::error::rejection;
use weft_rpc::{rows, wire};
use weft_state::rejection::Code;

use super::world::{Member, World, endpoint};

#[tokio::test]
async fn nobody_writes_rows_of_others() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut b = world.node(Role::Operator, 3).await;
    let (lease, _) = a.lease(web.id, &[], 1).await.unwrap();
    let (other, _) = b.lease(web.id, &[], 1).await.unwrap();
    let at = |lease: &weft_model::Lease| lease.offsets.iter().next().unwrap();
    let own = endpoint(&web, a.id, 1, at(&lease));
    a.put(&own).await.unwrap();
    let before = world.generation();
    let denied = |status: tonic::Status| {
        assert_eq!(rejection(&status).unwrap().code, Code::Denied, "{status:?}");
    };

    // In the other's name, over the other's row, and the other's row away.
    denied(b.put(&endpoint(&web, a.id, 2, at(&lease))).await.unwrap_err());
    denied(b.put(&endpoint(&web, b.id, 1, at(&other))).await.unwrap_err());
    let delete = wire::DeleteEndpointRequest {
        network_id: web.id.to_string(),
        endpoint_id: own.id.to_string(),
    };
    denied(b.client.delete_endpoint(delete).await.unwrap_err());
    // Addresses that the other holds, or nobody.
    for offset in [at(&lease), Offset(200)] {
        let status = b.put(&endpoint(&web, b.id, 3, offset)).await.unwrap_err();
        assert!(rejection(&status).is_some(), "{status:?}");
    }
    // Rows that are no endpoints.
    for row in world.server.server.replica.read(|s| s.rows().map(|(r, _)| r).collect::<Vec<_>>()) {
        if !matches!(row, Row::Endpoint(_)) {
            let status = a.client.put_endpoint(rows::put(&row)).await.unwrap_err();
            assert_eq!(rejection(&status).unwrap().message, "this row is no endpoint");
        }
    }
    // What cannot be read.
    for (key, value) in [("endpoint/1/2", "{}"), ("", ""), ("endpoint/x", "{}")] {
        let row = wire::Row { key: key.to_owned(), value: Some(value.into()) };
        let status = a.client.put_endpoint(row).await.unwrap_err();
        assert_eq!(rejection(&status).unwrap().field, "endpoint");
    }
    assert_eq!(world.generation(), before);
}

#[tokio::test]
async fn agents_do_not_administer() {
    let world = World::new().await;
    let mut a = world.node(Role::Agent, 2).await;
    let before = world.generation();
    let remove = || wire::RemoveRequest { name: "host-1".to_owned() };
    let refused = [
        a.client.create_network(wire::CreateNetworkRequest::default()).await.map(drop),
        a.client.remove_network(remove()).await.map(drop),
        a.client.create_token(wire::CreateTokenRequest::default()).await.map(drop),
        a.client.revoke_token(remove()).await.map(drop),
        a.client.remove_node(remove()).await.map(drop),
    ];
    for answer in refused {
        assert_eq!(answer.unwrap_err().code(), tonic::Code::PermissionDenied);
    }
    assert_eq!(world.generation(), before);
}

async fn listed(member: &mut Member, kind: &str) -> Result<Vec<Row>, tonic::Status> {
    let request = wire::ListRequest { kind: kind.to_owned() };
    let reply = member.client.list(request).await?.into_inner();
    Ok(reply.rows.iter().map(|row| rows::read(row).unwrap()).collect())
}

#[tokio::test]
async fn each_role_sees_what_it_may() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    world.network("db", "10.4.0.0/24").await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut operator = world.node(Role::Operator, 3).await;
    let (lease, _) = operator.lease(web.id, &[], 1).await.unwrap();
    let offset = lease.offsets.iter().next().unwrap();
    operator.put(&endpoint(&web, operator.id, 1, offset)).await.unwrap();

    assert_eq!(listed(&mut a, "node").await.unwrap().len(), 3);
    assert_eq!(listed(&mut a, "network").await.unwrap().len(), 2);
    assert_eq!(listed(&mut a, "endpoint").await.unwrap(), []);
    assert_eq!(listed(&mut a, "lease").await.unwrap(), []);
    let refused = listed(&mut a, "token").await.unwrap_err();
    assert_eq!(rejection(&refused).unwrap().code, Code::Denied);
    assert_eq!(listed(&mut operator, "endpoint").await.unwrap().len(), 1);
    assert_eq!(listed(&mut operator, "token").await.unwrap().len(), 2);
    for kind in ["authority", "cluster", "guard", ""] {
        let refused = listed(&mut operator, kind).await.unwrap_err();
        assert_eq!(rejection(&refused).unwrap().code, Code::Invalid);
    }
    a.lease(web.id, &[], 1).await.unwrap();
    assert_eq!(listed(&mut a, "endpoint").await.unwrap().len(), 1);
    assert_eq!(listed(&mut a, "lease").await.unwrap().len(), 2);
}

#[tokio::test]
async fn status_shows_what_nodes_reported() {
    let world = World::new().await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut operator = world.node(Role::Operator, 3).await;
    let mut following = a.follow().await;
    let (generation, _) = following.snapshot().await;
    let hello = wire::Hello { version: "1.2.3".to_owned() };
    following.say(wire::report::Kind::Hello(hello)).await;
    let faults: Vec<wire::ObjectFault> = (0..300)
        .map(|n| wire::ObjectFault {
            object: format!("link {n}"),
            message: "é".repeat(1000),
            hint: String::new(),
        })
        .collect();
    let applied = wire::Applied { generation, faults };
    following.say(wire::report::Kind::Applied(applied)).await;
    let status = async |member: &mut Member, of: NodeId| {
        let reply = member.client.status(wire::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(reply.nodes.len(), 3);
        let of = |n: &wire::NodeStatus| matches!(rows::read_answer(n.node.as_ref()).unwrap(), Row::Node(n) if n.id == of);
        reply.nodes.into_iter().find(of).unwrap()
    };
    super::world::eventually(async || {
        status(&mut operator, a.id).await.applied_generation == generation
    })
    .await;
    let seen = status(&mut operator, a.id).await;
    assert!(seen.connected);
    assert_eq!(seen.version, "1.2.3");
    assert_eq!(seen.wanted_generation, generation);
    // What a node can make the server keep is bounded.
    assert_eq!(seen.faults.len(), 256);
    assert_eq!(seen.faults[0].message, "é".repeat(512));
    let own = a.id;
    assert_eq!(status(&mut a, own).await.faults.len(), 256);
    let mut b = world.node(Role::Agent, 4).await;
    let reply = b.client.status(wire::StatusRequest {}).await.unwrap().into_inner();
    assert!(reply.nodes.iter().all(|node| node.faults.is_empty()));
}

#[tokio::test]
async fn networks_stay_clear_of_the_hosts_routes() {
    let world = World::new().await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut following = a.follow().await;
    following.snapshot().await;
    let route =
        |prefix: &str| wire::HostRoute { prefix: prefix.to_owned(), link: "eth0".to_owned() };
    let routes = vec![route("10.3.0.0/16"), route("nonsense")];
    following.say(wire::report::Kind::HostRoutes(wire::HostRoutes { routes })).await;
    super::world::eventually(async || {
        !world.server.server.hub.routes(|_| Some(String::new())).is_empty()
    })
    .await;
    let mut admin = world.admin().await;
    let create = |subnet: &str| wire::CreateNetworkRequest {
        name: "web".to_owned(),
        subnets: vec![subnet.to_owned()],
        ..Default::default()
    };
    let refused = admin.create_network(create("10.3.7.0/24")).await.unwrap_err();
    let why = rejection(&refused).unwrap();
    assert_eq!((why.code, why.field.as_str()), (Code::Overlap, "--subnet"));
    assert!(why.message.contains("node 'host-2', link eth0"), "{}", why.message);
    // The routes of a node that was removed do not count.
    admin.remove_node(wire::RemoveRequest { name: "host-2".to_owned() }).await.unwrap();
    admin.create_network(create("10.3.7.0/24")).await.unwrap();
}

#[tokio::test]
async fn a_bad_wish_for_a_network_names_the_field() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let before = world.generation();
    let good = wire::CreateNetworkRequest { name: "web".to_owned(), ..Default::default() };
    let option = |key: &str| [(key.to_owned(), String::new())].into_iter().collect();
    let bad = [
        ("NAME", wire::CreateNetworkRequest { name: String::new(), ..good.clone() }),
        ("--subnet", wire::CreateNetworkRequest { subnets: vec!["x".to_owned()], ..good.clone() }),
        ("--mtu", wire::CreateNetworkRequest { mtu: 70_000, ..good.clone() }),
        ("--mtu", wire::CreateNetworkRequest { mtu: 100, ..good.clone() }),
        ("--opt", wire::CreateNetworkRequest { options: option("encrypted"), ..good.clone() }),
        ("--opt", wire::CreateNetworkRequest { options: option("colour"), ..good.clone() }),
    ];
    for (field, request) in bad {
        let refused = admin.create_network(request).await.unwrap_err();
        let why = rejection(&refused).unwrap();
        assert_eq!((why.code, why.field.as_str()), (Code::Invalid, field), "{why:?}");
    }
    let nothing = wire::RemoveRequest { name: "nothing".to_owned() };
    for (what, answer) in [
        ("network", admin.remove_network(nothing.clone()).await),
        ("node", admin.remove_node(nothing.clone()).await),
    ] {
        let why = rejection(&answer.unwrap_err()).unwrap();
        assert_eq!(why.message, format!("there is no {what} 'nothing'"));
        assert_eq!(why.hint, format!("see 'weft {what} ls'"));
    }
    assert_eq!(world.generation(), before);

    let reply = admin.create_network(wire::CreateNetworkRequest { ipv6: true, ..good }).await;
    let row = reply.unwrap().into_inner().row;
    let Row::Network(web) = rows::read_answer(row.as_ref()).unwrap() else { panic!("no network") };
    assert_eq!(web.subnets.len(), 2);
    let by_id = wire::RemoveRequest { name: web.id.to_string() };
    admin.remove_network(by_id).await.unwrap();
}
