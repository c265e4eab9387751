//! What nodes are told, and when their streams end.

use std::time::{Duration, SystemTime};

use weft_model::{Role, Row, RowKey};
use weft_rpc::error::{told, word};
use weft_rpc::{rows, wire};
use weft_state::Write;

use super::super::Settings;
use super::world::{World, endpoint, eventually, settings};

#[tokio::test]
async fn a_node_hears_of_what_it_takes_part_in_and_of_nothing_else() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    let (mut a, mut b) = (world.node(Role::Agent, 2).await, world.node(Role::Agent, 3).await);
    let mut bystander = world.node(Role::Agent, 4).await;
    let mut silent = bystander.follow().await;
    let (_, rows) = silent.snapshot().await;
    let own: Vec<RowKey> = rows.iter().map(Row::key).collect();
    assert_eq!(own, [RowKey::Node(bystander.id)]);

    let (lease, granted) = a.lease(web.id, &[], 1).await.unwrap();
    let mut a_hears = a.follow().await;
    let (generation, rows) = a_hears.snapshot().await;
    assert!(generation >= granted);
    let keys: Vec<RowKey> = rows.iter().map(Row::key).collect();
    let expected = [RowKey::Node(a.id), RowKey::Network(web.id), RowKey::Lease(web.id, a.id)];
    assert_eq!(keys, expected);

    // Another one begins to take part.
    let mut b_hears = b.follow().await;
    b_hears.snapshot().await;
    let (_, joined) = b.lease(web.id, &[], 1).await.unwrap();
    let (generation, changes) = a_hears.patch().await;
    assert_eq!(generation, joined);
    let keys: Vec<RowKey> = changes.iter().map(Write::key).collect();
    assert_eq!(keys, [RowKey::Node(b.id), RowKey::Lease(web.id, b.id)]);
    let (generation, changes) = b_hears.patch().await;
    assert_eq!((generation, changes.len()), (joined, 4));

    // And tells of an endpoint, and takes it back.
    let offset = lease.offsets.iter().next().unwrap();
    let there = endpoint(&web, a.id, 1, offset);
    let told_at = a.put(&there).await.unwrap();
    let (generation, changes) = b_hears.patch().await;
    assert_eq!(generation, told_at);
    assert!(changes.contains(&Write::Put(Row::Endpoint(there.clone()))), "{changes:?}");
    let gone = wire::DeleteEndpointRequest {
        network_id: web.id.to_string(),
        endpoint_id: there.id.to_string(),
    };
    a.client.delete_endpoint(gone.clone()).await.unwrap();
    let (_, changes) = b_hears.patch().await;
    assert!(changes.contains(&Write::Delete(RowKey::Endpoint(web.id, there.id))));
    a.client.delete_endpoint(gone).await.unwrap();

    // The bystander has heard heartbeats only: the next thing it hears is about itself.
    let address = wire::MoveNodeRequest { data_address: "192.0.2.44".to_owned() };
    bystander.client.move_node(address).await.unwrap();
    let (_, changes) = silent.patch().await;
    assert_eq!(changes.iter().map(Write::key).collect::<Vec<_>>(), [RowKey::Node(bystander.id)]);
}

#[tokio::test]
async fn heartbeats_come_when_nothing_else_does() {
    let world = World::new().await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut following = a.follow().await;
    following.snapshot().await;
    let beat = following.updates.message().await.unwrap().unwrap();
    assert!(matches!(beat.kind, Some(wire::update::Kind::Heartbeat(_))));
}

#[tokio::test]
async fn the_newer_of_two_streams_wins() {
    let world = World::new().await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut first = a.follow().await;
    first.snapshot().await;
    let mut second = a.follow().await;
    second.snapshot().await;
    assert_eq!(told(&first.end().await.unwrap()).code, word::SUPERSEDED);
    // The end of the older one does not disconnect the node.
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let standing = world.server.server.hub.standing(a.id);
    assert!(standing.connected);
    drop(second);
    eventually(async || !world.server.server.hub.standing(a.id).connected).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate() {
    let world = World::new().await;
    let a = world.node(Role::Agent, 2).await;
    let (now, second) = (SystemTime::now(), Duration::from_secs(1));
    let mut client = world.client_as(a.id, Role::Agent, now, second).await;
    let updates = client.follow(tokio_stream::pending()).await.unwrap();
    let (reports, _) = tokio::sync::mpsc::channel(1);
    let mut following = super::world::Following { reports, updates: updates.into_inner() };
    following.snapshot().await;
    assert_eq!(told(&following.end().await.unwrap()).code, word::UNAUTHENTICATED);
}

#[tokio::test]
async fn a_node_that_does_not_read_is_told_to_begin_anew() {
    let world = World::with(Settings { backlog: 50, ..settings() }).await;
    let web = world.network("web", "10.3.0.0/16").await;
    let (mut a, mut b) = (world.node(Role::Agent, 2).await, world.node(Role::Agent, 3).await);
    b.lease(web.id, &[], 1).await.unwrap();
    let mut slow = b.follow().await;
    slow.snapshot().await;
    // Rows that fill every buffer on the way, and then the backlog.
    let (lease, _) = a.lease(web.id, &[], 1000).await.unwrap();
    let alias = |n: usize, i: usize| format!("{n:02}{i:04}{}", "a".repeat(56)).parse().unwrap();
    let puts = lease.offsets.iter().take(700).enumerate().map(|(n, offset)| {
        let mut row = endpoint(&web, a.id, n as u64, offset);
        row.aliases = (0..64).map(|i| alias(n % 100, i)).collect();
        let mut client = a.client.clone();
        async move { client.put_endpoint(rows::put(&Row::Endpoint(row))).await }
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    let mut heard = 0;
    let end = loop {
        match slow.next().await {
            Ok(_) => heard += 1,
            Err(end) => break end,
        }
    };
    assert_eq!(told(&end.unwrap()).code, word::RELIST);
    assert!(heard < 700);
    // Beginning anew works, and the snapshot has everything.
    let mut again = b.follow().await;
    let (_, rows) = again.snapshot().await;
    assert_eq!(rows.iter().filter(|row| matches!(row, Row::Endpoint(_))).count(), 700);
}

#[tokio::test]
async fn stopping_ends_streams_and_starting_again_goes_on() {
    let world = World::new().await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut following = a.follow().await;
    let (generation, _) = following.snapshot().await;
    world.server.shutdown().await;
    following.end().await;

    let World { server, founded, key, folder } = world;
    drop(server);
    let path = folder.path().join("cluster.redb");
    let mut engine = None;
    // The engine is let go of when the last connection is.
    eventually(async || {
        engine = weft_engine::Embedded::open(&path).ok();
        engine.is_some()
    })
    .await;
    let shown = weft_rpc::tls::Certificates::new(
        &founded.certificate,
        &founded.ca_certificate,
        &key.to_pem(),
    );
    let listen = "127.0.0.1:0".parse().unwrap();
    let server =
        super::super::start(engine.unwrap(), listen, shown.unwrap(), settings()).await.unwrap();
    let world = World { server, founded, key, folder };
    let key = weft_rpc::ca::NodeKey::from_pem(&a.key.to_pem()).unwrap();
    let token = world.token(Role::Agent).await;
    let again = world.join(&token, &key, 2).await.unwrap();
    assert_eq!(again.node_id, a.id.to_string());
    assert!(world.generation() >= generation);
}
