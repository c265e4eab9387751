//! Waiting for others, and asking them for addresses.

use std::time::{Duration, Instant};

use weft_model::{OffsetSet, Role, Row};
use weft_rpc::error::rejection;
use weft_rpc::{rows, wire};
use weft_state::rejection::Code;

use super::world::{LONG, World, endpoint, eventually};

#[tokio::test]
async fn waiting_ends_when_the_others_have_applied() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut b = world.node(Role::Agent, 3).await;
    let (lease, _) = a.lease(web.id, &[], 1).await.unwrap();
    b.lease(web.id, &[], 1).await.unwrap();
    let mut hears = b.follow().await;
    let (snapshot, _) = hears.snapshot().await;
    hears.applied(snapshot).await;

    let offset = lease.offsets.iter().next().unwrap();
    let generation = a.put(&endpoint(&web, a.id, 1, offset)).await.unwrap();
    let begun = Instant::now();
    assert_eq!(a.await_applied(web.id, generation, 150).await, ["host-3"]);
    assert!(begun.elapsed() >= Duration::from_millis(150));

    let (patched, _) = hears.patch().await;
    assert_eq!(patched, generation);
    let waiting = a.await_applied(web.id, generation, 10_000);
    let applying = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        hears.applied(patched).await;
    };
    let (behind, ()) = tokio::join!(waiting, applying);
    assert_eq!(behind, Vec::<String>::new());
    // The caller itself is not waited for: it has never followed.
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn who_is_not_connected_is_behind_at_once_and_not_waited_for() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    let mut a = world.node(Role::Agent, 2).await;
    let (mut b, mut c) = (world.node(Role::Agent, 3).await, world.node(Role::Agent, 4).await);
    for node in [&mut a, &mut b, &mut c] {
        node.lease(web.id, &[], 1).await.unwrap();
    }
    let applying = b.follow().await.keep_applying();
    let generation = world.generation();
    let begun = Instant::now();
    assert_eq!(a.await_applied(web.id, generation, 10_000).await, ["host-4"]);
    assert!(begun.elapsed() < Duration::from_secs(5));

    // One that goes away while it is waited for does not hold anybody up either.
    let mut silent = c.follow().await;
    silent.snapshot().await;
    let waiting = a.await_applied(web.id, generation, 10_000);
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(silent);
    };
    let (behind, ()) = tokio::join!(waiting, leaving);
    assert_eq!(behind, ["host-4"]);
    assert!(begun.elapsed() < Duration::from_secs(5));
    applying.abort();
}

#[tokio::test]
async fn what_does_not_concern_a_node_is_not_waited_for() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut b = world.node(Role::Agent, 3).await;
    a.lease(web.id, &[], 1).await.unwrap();
    b.lease(web.id, &[], 1).await.unwrap();
    let applying = b.follow().await.keep_applying();
    world.network("other", "10.4.0.0/24").await;
    let begun = Instant::now();
    let later = world.generation();
    assert!(a.await_applied(web.id, later, 10_000).await.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(5));
    applying.abort();
}

#[tokio::test]
async fn only_who_takes_part_may_wait() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    let mut a = world.node(Role::Agent, 2).await;
    let request =
        wire::AwaitAppliedRequest { network_id: web.id.to_string(), generation: 1, timeout_ms: 0 };
    let refused = a.client.await_applied(request.clone()).await.unwrap_err();
    assert_eq!(rejection(&refused).unwrap().code, Code::Denied);
    let mut operator = world.node(Role::Operator, 3).await;
    operator.client.await_applied(request).await.unwrap();
}

#[tokio::test]
async fn a_hundred_wait_at_once() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/16").await;
    let mut a = world.node(Role::Agent, 2).await;
    let (lease, _) = a.lease(web.id, &[], 100).await.unwrap();
    let mut applying = Vec::new();
    for n in 3..9 {
        let mut other = world.node(Role::Agent, n).await;
        other.lease(web.id, &[], 1).await.unwrap();
        applying.push(other.follow().await.keep_applying());
    }
    eventually(async || {
        let generation = world.generation();
        a.await_applied(web.id, generation, 1000).await.is_empty()
    })
    .await;
    let begun = Instant::now();
    let attaches = lease.offsets.iter().take(100).enumerate().map(|(n, offset)| {
        let row = endpoint(&web, a.id, n as u64, offset);
        let mut client = a.client.clone();
        async move {
            let row = rows::put(&Row::Endpoint(row));
            let generation = client.put_endpoint(row).await.unwrap().into_inner().generation;
            let network_id = web.id.to_string();
            let request = wire::AwaitAppliedRequest { network_id, generation, timeout_ms: 5000 };
            client.await_applied(request).await.unwrap().into_inner().behind
        }
    });
    for behind in futures_util::future::join_all(attaches).await {
        assert!(behind.is_empty(), "{behind:?}");
    }
    println!("100 endpoints, applied by 6 nodes: {:?}", begun.elapsed());
    for task in applying {
        task.abort();
    }
}

#[tokio::test]
async fn addresses_come_back_from_who_does_not_use_them() {
    let world = World::new().await;
    // Positions 2 to 6 of a /29, of which each node takes one for itself.
    let tiny = world.network("tiny", "10.3.0.0/29").await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut b = world.node(Role::Agent, 3).await;
    let (held, _) = a.lease(tiny.id, &[], 4).await.unwrap();
    b.lease(tiny.id, &[], 0).await.unwrap_err();
    let used = held.offsets.iter().next().unwrap();
    a.put(&endpoint(&tiny, a.id, 1, used)).await.unwrap();

    // While the holder is not connected, there is nobody to ask.
    let begun = Instant::now();
    let refused = b.lease(tiny.id, &[], 1).await.unwrap_err();
    assert_eq!(rejection(&refused).unwrap().code, Code::Exhausted);
    assert!(begun.elapsed() < Duration::from_millis(500));

    let mut hears = a.follow().await;
    hears.snapshot().await;
    let asking = tokio::spawn(async move {
        let lease = b.lease(tiny.id, &[], 1).await;
        (b, lease)
    });
    let recall = loop {
        if let wire::update::Kind::Recall(recall) = hears.next().await.unwrap() {
            break recall;
        }
    };
    assert_eq!(recall.network_id, tiny.id.to_string());
    assert!(recall.count >= 1 && recall.offsets.is_empty(), "{recall:?}");
    let unused: OffsetSet = held.offsets.iter().filter(|o| *o != used).collect();
    a.release(tiny.id, &unused.to_string()).await.unwrap();
    let (_b, lease) = tokio::time::timeout(LONG, asking).await.unwrap().unwrap();
    let (lease, _) = lease.unwrap();
    assert!(!lease.offsets.is_empty() && !lease.offsets.contains(used));
}

#[tokio::test]
async fn one_address_is_asked_back_by_name_or_is_busy() {
    let world = World::new().await;
    let web = world.network("web", "10.3.0.0/24").await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut b = world.node(Role::Agent, 3).await;
    a.lease(web.id, &[7, 8], 0).await.unwrap();
    let (lease, _) = a.lease(web.id, &[], 0).await.unwrap();
    assert!(lease.offsets.contains(weft_model::Offset(7)));
    a.put(&endpoint(&web, a.id, 1, weft_model::Offset(8))).await.unwrap();
    let mut hears = a.follow().await;
    hears.snapshot().await;

    let begun = Instant::now();
    let refused = b.lease(web.id, &[8], 0).await.unwrap_err();
    assert_eq!(rejection(&refused).unwrap().code, Code::Busy);
    assert!(begun.elapsed() < Duration::from_millis(500), "a used address was asked for");

    let asking = tokio::spawn(async move { b.lease(web.id, &[7], 0).await });
    let recall = loop {
        if let wire::update::Kind::Recall(recall) = hears.next().await.unwrap() {
            break recall;
        }
    };
    assert_eq!(recall.offsets, "7");
    // The holder keeps it: the asker is refused after its wait.
    let refused = asking.await.unwrap().unwrap_err();
    assert_eq!(rejection(&refused).unwrap().code, Code::Busy);
    assert!(begun.elapsed() < LONG);
}
