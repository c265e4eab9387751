//! What peers can make the server hold, and for how long.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use weft_model::{NodeId, Role};
use weft_rpc::listen::Limits;
use weft_rpc::{connect, tls, wire};

use crate::stub::{SERVER, authority, certificates, client, now, start};

const PATIENT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn stalled_handshakes_do_not_keep_others_out() {
    let ca = authority();
    let limits = Limits { handshakes: 8, patience: Duration::from_millis(20), ..Limits::default() };
    let shown = certificates(&ca, (SERVER, Role::Server), now());
    let running = start(&ca, shown, limits).await;
    let mut stalled = Vec::new();
    for i in 0..200_u32 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        if i.is_multiple_of(2) {
            // The head of a TLS record whose body never comes.
            let _ = stream.write_all(&[22, 3, 1, 2, 0]).await;
        }
        stalled.push(stream);
    }
    let tls = client(certificates(&ca, (NodeId(2), Role::Agent), now()), &ca);
    let before = Instant::now();
    for _ in 0..20 {
        sleep(Duration::from_millis(25)).await;
        let mut client = connect::cluster(running.address, tls.clone()).await.unwrap();
        client.status(wire::StatusRequest {}).await.unwrap();
    }
    // Far less than the time a handshake may take.
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_stalled_handshake_is_cut_off() {
    let ca = authority();
    let limits = Limits { handshake: Duration::from_millis(100), ..Limits::default() };
    let shown = certificates(&ca, (SERVER, Role::Server), now());
    let running = start(&ca, shown, limits).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut byte = [0];
    let read = timeout(PATIENT, stream.read(&mut byte)).await.expect("it was not cut off");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn strangers_hold_few_connections_and_not_for_long() {
    let ca = authority();
    let limits =
        Limits { strangers: 2, stranger_lifetime: Duration::from_millis(500), ..Limits::default() };
    let shown = certificates(&ca, (SERVER, Role::Server), now());
    let running = start(&ca, shown, limits).await;
    let stranger = tls::joining(ca.digest()).unwrap();
    let joins = async || {
        let mut client = connect::cluster(running.address, stranger.clone()).await.ok()?;
        client.join(wire::JoinRequest::default()).await.ok()?;
        Some(client)
    };
    let held = (joins().await.unwrap(), joins().await.unwrap());
    assert!(joins().await.is_none());
    // Nodes are not kept out by strangers.
    let tls = client(certificates(&ca, (NodeId(2), Role::Agent), now()), &ca);
    let mut node = connect::cluster(running.address, tls).await.unwrap();
    node.status(wire::StatusRequest {}).await.unwrap();

    let room = async {
        while joins().await.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENT, room).await.expect("strangers were not cut off");
    drop(held);
    sleep(Duration::from_millis(600)).await;
    node.status(wire::StatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn nodes_hold_only_so_many_connections() {
    let ca = authority();
    let limits = Limits { nodes: 1, ..Limits::default() };
    let shown = certificates(&ca, (SERVER, Role::Server), now());
    let running = start(&ca, shown, limits).await;
    let tls = client(certificates(&ca, (NodeId(2), Role::Agent), now()), &ca);
    let calls = async || {
        let mut client = connect::cluster(running.address, tls.clone()).await.ok()?;
        client.status(wire::StatusRequest {}).await.ok()?;
        Some(client)
    };
    let first = calls().await.unwrap();
    assert!(calls().await.is_none());
    drop(first);
    let room = async {
        while calls().await.is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENT, room).await.expect("the room was not given back");
}

#[tokio::test]
async fn one_node_does_not_take_the_room_of_others() {
    let ca = authority();
    let limits = Limits { per_node: 2, ..Limits::default() };
    let shown = certificates(&ca, (SERVER, Role::Server), now());
    let running = start(&ca, shown, limits).await;
    let calls = async |node| {
        let tls = client(certificates(&ca, (NodeId(node), Role::Agent), now()), &ca);
        let mut client = connect::cluster(running.address, tls).await.ok()?;
        client.status(wire::StatusRequest {}).await.ok()?;
        Some(client)
    };
    let held = (calls(2).await.unwrap(), calls(2).await.unwrap());
    assert!(calls(2).await.is_none());
    let _other = calls(3).await.unwrap();
    drop(held);
    let room = async {
        while calls(2).await.is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENT, room).await.expect("the room was not given back");
}

#[tokio::test]
async fn a_stranger_sends_little() {
    let ca = authority();
    let shown = certificates(&ca, (SERVER, Role::Server), now());
    let running = start(&ca, shown, Limits::default()).await;
    let stranger = tls::joining(ca.digest()).unwrap();
    let mut client = connect::cluster(running.address, stranger).await.unwrap();
    let of = |length| wire::JoinRequest { csr: "a".repeat(length), ..Default::default() };
    client.join(of(16 * 1024)).await.unwrap();
    client.join(of(200 * 1024)).await.unwrap_err();
    // The connection goes on.
    client.join(of(16 * 1024)).await.unwrap();
    // Nodes send more.
    let tls = self::client(certificates(&ca, (NodeId(2), Role::Agent), now()), &ca);
    let mut node = connect::cluster(running.address, tls).await.unwrap();
    node.renew(wire::RenewRequest { csr: "a".repeat(200 * 1024) }).await.unwrap();
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_streams() {
    let ca = authority();
    let shown = certificates(&ca, (SERVER, Role::Server), now());
    let mut running = start(&ca, shown, Limits::default()).await;
    let tls = client(certificates(&ca, (NodeId(2), Role::Agent), now()), &ca);
    let mut client = connect::cluster(running.address, tls).await.unwrap();
    let follow = client.follow(futures_util::stream::pending()).await.unwrap();
    let mut updates = follow.into_inner();
    assert!(updates.message().await.unwrap().is_some());
    running.stop.cancel();
    timeout(PATIENT, &mut running.ended).await.expect("it does not end").unwrap();
    let end = timeout(PATIENT, updates.message()).await.expect("the stream does not end");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}
