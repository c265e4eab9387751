//! Engines that conflict, fail or lose track.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use tokio::sync::Notify;
use weft_engine::{Embedded, Engine, EngineError, Snapshot, Watch, WatchItem};
use weft_model::{Generation, Role};
use weft_rpc::error::{rejection, told, word};
use weft_rpc::wire;
use weft_state::Transaction;

use super::super::{Settings, start};
use super::world::{World, settings};

/// An engine that several servers share, and that can be made to misbehave.
#[derive(Clone)]
struct Shared {
    engine: Arc<Embedded>,
    broken: Arc<AtomicBool>,
    lose_track: Arc<Notify>,
}

impl Shared {
    fn new(engine: Embedded) -> Self {
        let engine = Arc::new(engine);
        Self { engine, broken: Arc::default(), lose_track: Arc::default() }
    }
}

impl Engine for Shared {
    async fn transact(&self, transaction: Transaction) -> Result<Generation, EngineError> {
        if self.broken.load(Ordering::SeqCst) {
            let source = Box::new(std::io::Error::other("no space left on device"));
            return Err(EngineError::Storage { action: "commit", source });
        }
        self.engine.transact(transaction).await
    }

    async fn snapshot(&self) -> Result<Snapshot, EngineError> {
        self.engine.snapshot().await
    }

    fn watch(&self, from: Generation) -> Watch {
        let lost = Arc::clone(&self.lose_track);
        let lost = futures_util::stream::once(async move {
            lost.notified().await;
            WatchItem::Relist
        });
        let both = futures_util::stream::select(self.engine.watch(from).0, lost);
        Watch(both.boxed())
    }

    async fn compact(&self, upto: Generation) -> Result<(), EngineError> {
        self.engine.compact(upto).await
    }
}

#[tokio::test]
async fn servers_that_decide_at_once_decide_again() {
    let mut shared = None;
    let world = World::on(settings(), |engine| shared.insert(Shared::new(engine)).clone()).await;
    let shown = weft_rpc::tls::Certificates::new(
        &world.founded.certificate,
        &world.founded.ca_certificate,
        &world.key.to_pem(),
    );
    let listen = "127.0.0.1:0".parse().unwrap();
    let settings = Settings { ..settings() };
    let second = start(shared.unwrap(), listen, shown.unwrap(), settings).await.unwrap();

    let request =
        |n: u32| wire::CreateNetworkRequest { name: format!("n{n}"), ..Default::default() };
    let mut clients = Vec::new();
    for address in [world.server.address, second.address] {
        let shown = weft_rpc::tls::Certificates::new(
            &world.founded.certificate,
            &world.founded.ca_certificate,
            &world.key.to_pem(),
        );
        let authority = &world.founded.ca_certificate;
        let tls = weft_rpc::tls::client(shown.unwrap(), authority, world.cluster()).unwrap();
        clients.push(weft_rpc::connect::cluster(address, tls).await.unwrap());
    }
    let wishes = (0..40).map(|n| {
        let mut client = clients[(n % 2) as usize].clone();
        async move { client.create_network(request(n)).await }
    });
    for answer in futures_util::future::join_all(wishes).await {
        answer.unwrap();
    }
    super::world::eventually(async || {
        second.server.replica.read(|s| s.networks.len()) == 40
            && world.server.server.replica.read(|s| s.networks.len()) == 40
    })
    .await;
    let state = second.server.replica.read(Clone::clone);
    assert_eq!(state, world.server.server.replica.read(Clone::clone));
    assert_eq!(weft_state::invariants(&state), Vec::<String>::new());
}

#[tokio::test]
async fn an_engine_that_fails_is_told_and_nothing_has_changed() {
    let mut shared = None;
    let world = World::on(settings(), |engine| shared.insert(Shared::new(engine)).clone()).await;
    let shared = shared.unwrap();
    let before = world.generation();
    shared.broken.store(true, Ordering::SeqCst);
    let mut admin = world.admin().await;
    let request = wire::CreateNetworkRequest { name: "web".to_owned(), ..Default::default() };
    let refused = admin.create_network(request.clone()).await.unwrap_err();
    assert_eq!(rejection(&refused), None);
    let said = told(&refused);
    assert_eq!(said.code, word::UNAVAILABLE);
    assert_eq!(said.message, "the state engine cannot commit: no space left on device");
    assert_eq!(world.generation(), before);
    shared.broken.store(false, Ordering::SeqCst);
    admin.create_network(request).await.unwrap();
}

#[tokio::test]
async fn a_server_that_lost_track_makes_its_nodes_begin_anew() {
    let mut shared = None;
    let world = World::on(settings(), |engine| shared.insert(Shared::new(engine)).clone()).await;
    let mut a = world.node(Role::Agent, 2).await;
    let mut following = a.follow().await;
    following.snapshot().await;
    shared.unwrap().lose_track.notify_waiters();
    assert_eq!(told(&following.end().await.unwrap()).code, word::RELIST);
    let mut again = a.follow().await;
    again.snapshot().await;
    world.network("web", "10.3.0.0/24").await;
    let generation = world.generation();
    assert!(generation > 0);
}
