//! What was acknowledged is there after `kill -9`.
//!
//! Each test runs itself again as a child that writes and says on its standard output what was
//! acknowledged; the parent kills it at some moment and looks into the file.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use tempfile::TempDir;
use weft_engine::conformance::row;
use weft_engine::{AgentStore, Embedded, Engine, WatchItem};
use weft_model::{Generation, Row};
use weft_state::{Transaction, Write};

const FILE: &str = "WEFT_TEST_KILLED_FILE";
const WRITERS: u64 = 4;

/// The file to write to, in the child.
fn in_child() -> Option<PathBuf> {
    std::env::var_os(FILE).map(PathBuf::from)
}

/// When a child is killed: so long after it said so much.
#[derive(Debug, Clone, Copy)]
struct Life {
    said: usize,
    then: Duration,
}

/// First lives that end while the file is being made and opened, then longer ones.
fn lives() -> impl Iterator<Item = Life> {
    let short = (0..12).map(|n| Life { said: 0, then: Duration::from_millis(n * 3) });
    let long = (0..12).map(|n| Life {
        said: 5 + (n * 17) % 60,
        then: Duration::from_millis((n as u64 * 7) % 11),
    });
    short.chain(long)
}

/// Runs `test` as a child on `path`, kills it, and returns the numbers on each line that it said.
fn killed_after(life: Life, test: &str, path: &Path) -> Vec<Vec<u64>> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = output.map_while(Result::ok).filter_map(|l| numbers(l.strip_prefix("ack ")?));
    let mut said: Vec<Vec<u64>> = lines.by_ref().take(life.said).collect();
    std::thread::sleep(life.then);
    assert!(child.try_wait().unwrap().is_none(), "the child ended by itself in {life:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    said.extend(lines);
    said
}

/// `None` for a line that the kill cut off.
fn numbers(line: &str) -> Option<Vec<u64>> {
    let line = line.strip_suffix(" .")?;
    line.split(' ').map(|number| number.parse().ok()).collect()
}

fn acknowledge(numbers: &[u64]) {
    let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let mut output = std::io::stdout().lock();
    writeln!(output, "ack {} .", text.join(" ")).unwrap();
    output.flush().unwrap();
}

async fn write_for_ever(path: &Path) {
    let engine = std::sync::Arc::new(Embedded::open(path).unwrap());
    let begin = engine.snapshot().await.unwrap().revision.0;
    let writers = (0..WRITERS).map(|id| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for value in begin + 1.. {
                let writes = vec![Write::Put(row(id, value)), Write::Put(row(100 + id, value))];
                let transaction = Transaction { preconditions: Vec::new(), writes };
                let revision = engine.transact(transaction).await.unwrap();
                acknowledge(&[id, value, revision.0]);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// id → (value, revision)
async fn found(engine: &Embedded) -> (u64, BTreeMap<u64, (u64, u64)>) {
    let snapshot = engine.snapshot().await.unwrap();
    let rows = snapshot.rows.iter().map(|(row, written)| match row {
        Row::Token(token) => (token.id.0, (token.expires_at, written.0)),
        other => panic!("{other:?}"),
    });
    (snapshot.revision.0, rows.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_commits_survive_a_kill() {
    if let Some(path) = in_child() {
        return write_for_ever(&path).await;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    let mut acknowledged: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for life in lives() {
        for said in killed_after(life, "acknowledged_commits_survive_a_kill", &path) {
            let [id, value, revision] = said[..] else { panic!("{said:?}") };
            acknowledged.insert(id, (value, revision));
        }
        let engine = Embedded::open(&path).unwrap();
        let (revision, rows) = found(&engine).await;
        for (id, (value, at)) in &acknowledged {
            let row = rows.get(id).unwrap_or_else(|| panic!("row {id} is gone after {life:?}"));
            assert!(row >= &(*value, *at), "row {id}: {row:?}, acknowledged {value} at {at}");
        }
        for id in 0..WRITERS {
            assert_eq!(rows.get(&id), rows.get(&(100 + id)), "half a transaction");
        }
        let told: Vec<u64> = engine
            .watch(Generation(0))
            .0
            .take(usize::try_from(revision).unwrap())
            .map(|item| match item {
                WatchItem::Batch(batch) => batch.revision.0,
                WatchItem::Relist => panic!("history has a hole"),
            })
            .collect()
            .await;
        assert!(told.into_iter().eq(1..=revision));
    }
}

fn keep_records_for_ever(path: &Path) {
    let store = AgentStore::open(path).unwrap();
    let begin = store.load().unwrap().generation.0;
    for n in begin + 1.. {
        store.patch_rows(Generation(n), [("row", Some(n.to_string()))]).unwrap();
        store.put_record(&format!("attachment/{}", n % 50), n.to_string().as_bytes()).unwrap();
        acknowledge(&[n]);
    }
}

#[test]
fn acknowledged_records_survive_a_kill() {
    if let Some(path) = in_child() {
        return keep_records_for_ever(&path);
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    let mut last = 0;
    for life in lives() {
        let said = killed_after(life, "acknowledged_records_survive_a_kill", &path);
        last = said.last().map_or(last, |numbers| numbers[0]);
        let stored = AgentStore::open(&path).unwrap().load().unwrap();
        assert!(stored.generation.0 >= last, "{} but {last} was said", stored.generation);
        for n in (1..=last).rev().take(50) {
            let record = stored.records.get(&format!("attachment/{}", n % 50));
            let kept: u64 = String::from_utf8_lossy(record.unwrap()).parse().unwrap();
            assert!(kept >= n, "record {n} is {kept}");
        }
        // Rows and generation go together.
        if let Some((_, value)) = stored.rows.first() {
            assert_eq!(String::from_utf8_lossy(value), stored.generation.to_string());
        }
    }
}

fn keep_records_on_rows_for_ever(path: &Path) {
    let store = AgentStore::open(path).unwrap();
    for n in store.load().unwrap().records.len() as u64 + 1.. {
        let row = (format!("network/{n}"), n.to_string().into_bytes());
        store
            .put_record_on(&format!("attachment/{n}"), n.to_string().as_bytes(), vec![row])
            .unwrap();
        // The update that brings the row comes later, and is not waited for.
        store.patch_rows(Generation(n), [(format!("network/{n}"), Some("newer"))]).unwrap();
        acknowledge(&[n]);
    }
}

#[test]
fn no_record_is_there_without_the_rows_it_stands_on() {
    if let Some(path) = in_child() {
        return keep_records_on_rows_for_ever(&path);
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    for life in lives() {
        killed_after(life, "no_record_is_there_without_the_rows_it_stands_on", &path);
        let stored = AgentStore::open(&path).unwrap().load().unwrap();
        let rows: BTreeMap<String, Vec<u8>> = stored.rows.into_iter().collect();
        for (key, value) in &stored.records {
            let row = rows.get(&key.replace("attachment/", "network/"));
            let row = row.unwrap_or_else(|| panic!("no row for {key}"));
            assert!(row == value || row == b"newer", "{key}: {row:?}");
        }
    }
}

#[test]
fn a_row_that_is_there_is_not_made_older_by_a_record() {
    let directory = TempDir::new().unwrap();
    let store = AgentStore::open(directory.path().join("agent.redb")).unwrap();
    store.patch_rows(Generation(2), [("network/1", Some("newer"))]).unwrap();
    let old = vec![("network/1".to_owned(), b"old".to_vec())];
    store.put_record_on("attachment/1", b"a", old).unwrap();
    assert_eq!(store.load().unwrap().rows, [("network/1".to_owned(), b"newer".to_vec())]);
}

fn write_rows_for_ever(path: &Path) {
    let store = AgentStore::open(path).unwrap();
    let begin = store.load().unwrap().generation.0;
    for n in begin + 1.. {
        store.patch_rows(Generation(n), [("row", Some(n.to_string()))]).unwrap();
        acknowledge(&[n]);
    }
}

#[test]
fn a_kill_undoes_no_more_than_a_few_row_updates() {
    if let Some(path) = in_child() {
        return write_rows_for_ever(&path);
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    for life in (1..6).map(|n| Life { said: n * 100, then: Duration::ZERO }) {
        let said = killed_after(life, "a_kill_undoes_no_more_than_a_few_row_updates", &path);
        let last = said.last().unwrap()[0];
        let store = AgentStore::open(&path).unwrap();
        let stored = store.load().unwrap();
        assert!(stored.generation.0 + 64 >= last, "{} of {last}", stored.generation);
        assert_eq!(String::from_utf8_lossy(&stored.rows[0].1), stored.generation.to_string());
    }
}
