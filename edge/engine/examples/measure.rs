//! Prints how fast the embedded engine and the agent's store are on a disk.
//!
//! `cargo run --release -p weft-engine --example measure -- DIRECTORY`

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_engine::conformance::row;
use weft_engine::{AgentStore, Embedded, Engine};
use weft_model::row::Cluster;
use weft_model::{
    ClusterId, ClusterState, ContainerId, Endpoint, EndpointId, Generation, Lease, Mac, Name,
    Network, NetworkId, Node, NodeId, Offset, Role, Row, Vni,
};
use weft_state::{Command, Pair, Transaction, Write, apply, patch_for};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let directory = std::path::Path::new(&parent).join(format!("measure-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let measured = measure(&directory).await;
    std::fs::remove_dir_all(&directory)?;
    measured
}

async fn measure(directory: &std::path::Path) -> Result<(), Failure> {
    let path = directory.join("state.redb");
    let engine = Arc::new(Embedded::open(&path)?);
    for clients in [1, 8, 32, 128] {
        commits(&engine, clients).await?;
    }
    let begin = Instant::now();
    for chunk in 0..100 {
        let writes = (0..1000).map(|n| Write::Put(row(1_000_000 + chunk * 1000 + n, n))).collect();
        engine.transact(Transaction { preconditions: Vec::new(), writes }).await?;
    }
    println!("engine: 100,000 rows in commits of 1,000: {:?}", begin.elapsed());
    let begin = Instant::now();
    let rows = engine.snapshot().await?.rows.len();
    println!("engine: snapshot of {rows} rows: {:?}", begin.elapsed());
    drop(engine);
    let size = path.metadata()?.len() >> 10;
    let begin = Instant::now();
    drop(Embedded::open(&path)?);
    println!("engine: opening {size} KiB with the check of every page: {:?}", begin.elapsed());
    decisions();
    records(&directory.join("agent.redb"))
}

async fn commits(engine: &Arc<Embedded>, clients: u64) -> Result<(), Failure> {
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(3);
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < deadline {
                    let begin = Instant::now();
                    let writes = vec![
                        Write::Put(row(client, latencies.len() as u64)),
                        Write::Put(row(1000 + client * 1000 + latencies.len() as u64 % 1000, 1)),
                    ];
                    engine.transact(Transaction { preconditions: Vec::new(), writes }).await?;
                    latencies.push(begin.elapsed());
                }
                Ok::<_, Failure>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let rate = latencies.len() as f64 / begin.elapsed().as_secs_f64();
    report(&format!("engine: {clients} clients: {rate:.0} commits/s"), latencies);
    Ok(())
}

/// What deciding and telling cost in a network of 100,000 endpoints on 20 nodes.
fn decisions() {
    let network = Network {
        id: NetworkId(1),
        name: name("web"),
        vni: Vni::FIRST,
        subnets: ["10.0.0.0/8"].iter().flat_map(|s| s.parse()).collect(),
        mtu: None,
        internal: false,
        allow_overlap: false,
    };
    let mut state = ClusterState { cluster: Some(cluster()), ..ClusterState::default() };
    state.put(Row::Network(network.clone()), Generation(1));
    for node in 1..=21 {
        state.put(Row::Node(host(node)), Generation(1));
    }
    for node in 1..=20 {
        let offsets = (0..5001).map(|n| Offset(2 + (node - 1) * 5001 + n)).collect();
        let (network, node, node_offset) = (network.id, NodeId(node), Offset((1 << 24) - 1 - node));
        state.put(Row::Lease(Lease { network, node, node_offset, offsets }), Generation(1));
    }
    let endpoint = |node: u64, n: u64| {
        let offset = Offset(2 + (node - 1) * 5001 + n);
        Endpoint {
            id: EndpointId(node * 10_000 + n),
            network: network.id,
            node: NodeId(node),
            container: ContainerId(n),
            name: name("web"),
            aliases: Vec::new(),
            addresses: network.addresses(offset),
            mac: Mac::of_endpoint(network.vni, offset),
            allow_source: Vec::new(),
        }
    };
    for (node, n) in (1..=20).flat_map(|node| (0..5000).map(move |n| (node, n))) {
        state.put(Row::Endpoint(endpoint(node, n)), Generation(1));
    }
    let put = Command::PutEndpoint(endpoint(7, 5000));
    let times = (0..100).map(|_| timed(|| apply(&state, put.clone())));
    report("state: deciding on an endpoint among 100,000", times.collect());
    let Ok((transaction, _)) = apply(&state, put) else { return println!("state: refused") };
    let mut pair = Pair::new(state);
    let advance = timed(|| pair.advance(transaction.writes.clone(), Generation(2)));
    println!("state: taking in a commit: {advance:?}");
    for (who, node) in [("a node of the network", 3), ("another node", 21)] {
        let patch = || patch_for(pair.before(), pair.after(), pair.changes(), NodeId(node));
        report(&format!("state: patch for {who}"), (0..1000).map(|_| timed(patch)).collect());
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    std::hint::black_box(work());
    begin.elapsed()
}

fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn cluster() -> Cluster {
    Cluster { id: ClusterId(1), pools: Vec::new() }
}

fn host(node: u64) -> Node {
    Node {
        id: NodeId(node),
        name: name(&format!("node-{node}")),
        role: Role::Server,
        data_address: std::net::IpAddr::from([192, 168, 0, node as u8]),
        key_digest: format!("{node:064x}"),
        removed: false,
    }
}

fn records(path: &std::path::Path) -> Result<(), Failure> {
    let store = AgentStore::open(path)?;
    let rows: Vec<_> = (0..5000).map(|n| (format!("endpoint/{n:016x}"), vec![b'x'; 300])).collect();
    let begin = Instant::now();
    store.replace_rows(Generation(1), rows)?;
    println!("agent: 5,000 rows replaced: {:?}", begin.elapsed());
    let each = |work: &dyn Fn(u64) -> Result<(), Failure>| -> Result<Vec<Duration>, Failure> {
        (0..1000)
            .map(|n| {
                let begin = Instant::now();
                work(n).map(|()| begin.elapsed())
            })
            .collect()
    };
    let value = vec![b'x'; 600];
    let put = each(&|n| Ok(store.put_record(&format!("attachment/{}", n % 100), &value)?))?;
    report("agent: put_record", put);
    let change = || [("endpoint/0000000000000007", Some(&value))];
    let patch = each(&|n| Ok(store.patch_rows(Generation(n), change())?))?;
    report("agent: patch_rows", patch);
    Ok(())
}

fn report(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied();
    println!("{what}, p50 {:?}, p99 {:?}", at(50).unwrap_or_default(), at(99).unwrap_or_default());
}
