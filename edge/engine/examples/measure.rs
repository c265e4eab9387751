//! Prints how fast the embedded engine and the agent's store are on a disk.
//!
//! `cargo run --release -p weft-engine --example measure -- DIRECTORY`

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_engine::conformance::row;
use weft_engine::{AgentStore, Embedded, Engine};
use weft_model::Generation;
use weft_state::{Transaction, Write};

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

fn records(path: &std::path::Path) -> Result<(), Failure> {
    let store = AgentStore::open(path)?;
    let rows: Vec<_> = (0..5000).map(|n| (format!("endpoint/{n:016x}"), vec![b'x'; 300])).collect();
    let begin = Instant::now();
    store.replace_rows(Generation(1), rows)?;
    println!("agent: 5,000 rows replaced: {:?}", begin.elapsed());
    let timed = |work: &dyn Fn(u64) -> Result<(), Failure>| -> Result<Vec<Duration>, Failure> {
        (0..1000)
            .map(|n| {
                let begin = Instant::now();
                work(n).map(|()| begin.elapsed())
            })
            .collect()
    };
    let value = vec![b'x'; 600];
    let put = timed(&|n| Ok(store.put_record(&format!("attachment/{}", n % 100), &value)?))?;
    report("agent: put_record", put);
    let change = || [("endpoint/0000000000000007", Some(&value))];
    let patch = timed(&|n| Ok(store.patch_rows(Generation(n), change())?))?;
    report("agent: patch_rows", patch);
    Ok(())
}

fn report(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied();
    println!("{what}, p50 {:?}, p99 {:?}", at(50).unwrap_or_default(), at(99).unwrap_or_default());
}
