//! The embedded engine: the contract, and what only a file can get wrong.

#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use futures_util::StreamExt;
use tempfile::TempDir;
use weft_engine::conformance::{Backend, row};
use weft_engine::embedded::Options;
use weft_engine::{Embedded, Engine, EngineError, WatchItem};
use weft_model::Generation;
use weft_state::{Transaction, Write};

struct EmbeddedBackend(TempDir);

impl Backend for EmbeddedBackend {
    type Engine = Embedded;

    async fn fresh() -> Self {
        Self(TempDir::new().unwrap())
    }

    async fn open(&self) -> Embedded {
        Embedded::open(self.0.path().join("state.redb")).unwrap()
    }
}

weft_engine::conformance!(contract, EmbeddedBackend);

fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state.redb");
    (directory, path)
}

fn put(id: u64, value: u64) -> Transaction {
    Transaction { preconditions: Vec::new(), writes: vec![Write::Put(row(id, value))] }
}

/// The whole chain of causes as one line.
fn told(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_second_opening_is_refused_and_harms_nothing() {
    let (_directory, path) = place();
    let engine = Embedded::open(&path).unwrap();
    engine.transact(put(1, 1)).await.unwrap();
    let refused = Embedded::open(&path).unwrap_err();
    assert_eq!(
        told(&refused),
        format!(
            "the state engine cannot open its file: '{}' is in use: is another weft daemon \
             running on it?",
            path.display()
        )
    );
    engine.transact(put(2, 2)).await.unwrap();
    drop(engine);
    assert_eq!(Embedded::open(&path).unwrap().snapshot().await.unwrap().rows.len(), 2);
}

#[tokio::test]
async fn only_its_owner_reads_the_file() {
    let (_directory, path) = place();
    let _engine = Embedded::open(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let (_directory, path) = place();
    for content in [&b"hello"[..], &[0; 5000], &[0xff; 100_000]] {
        std::fs::write(&path, content).unwrap();
        let text = told(&Embedded::open(&path).unwrap_err());
        let begins = format!(
            "the state engine cannot open its file: '{}' is damaged or not a store of weft (",
            path.display()
        );
        assert!(text.starts_with(&begins), "{text}");
        assert!(text.ends_with("): restore it from a backup, or move it away to begin anew"));
        assert_eq!(std::fs::read(&path).unwrap(), content, "the file was changed");
    }
}

#[tokio::test]
async fn damage_from_outside_is_found_at_the_start() {
    let (_directory, path) = place();
    let engine = Embedded::open(&path).unwrap();
    for id in 0..200 {
        engine.transact(put(id, 1)).await.unwrap();
    }
    drop(engine);
    let healthy = std::fs::read(&path).unwrap();
    let needle = row(77, 1).value();
    let at = healthy.windows(needle.len()).position(|w| w == needle).unwrap();
    let mut damaged = healthy.clone();
    // All copies of the row, so that the live one is among them.
    let mut from = at;
    while let Some(next) = damaged[from..].windows(needle.len()).position(|w| w == needle) {
        damaged[from + next + 20] ^= 1;
        from += next + 1;
    }
    std::fs::write(&path, &damaged).unwrap();
    let text = told(&Embedded::open(&path).unwrap_err());
    assert!(text.contains("is damaged or not a store of weft"), "{text}");
    std::fs::write(&path, &healthy).unwrap();
    assert_eq!(Embedded::open(&path).unwrap().snapshot().await.unwrap().rows.len(), 200);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_not_touched() {
    let (_directory, path) = place();
    drop(Embedded::open(&path).unwrap());
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(meta).unwrap().insert("format", 2).unwrap();
    txn.commit().unwrap();
    drop(database);
    assert_eq!(
        told(&Embedded::open(&path).unwrap_err()),
        format!(
            "the state engine cannot open its file: '{}' was written by a newer version of weft \
             (format 2): install that version",
            path.display()
        )
    );
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named() {
    let (directory, _) = place();
    let path = directory.path().join("nowhere/state.redb");
    let text = told(&Embedded::open(&path).unwrap_err());
    assert_eq!(
        text,
        format!(
            "the state engine cannot open its file: cannot open '{}': No such file or directory \
             (os error 2)",
            path.display()
        )
    );
}

#[tokio::test]
async fn history_is_bounded_by_itself() {
    let (_directory, path) = place();
    let options = Options { keep: 20, ..Options::default() };
    let engine = Embedded::open_with(&path, options).unwrap();
    for value in 0..100 {
        engine.transact(put(1, value)).await.unwrap();
    }
    let first = |from| engine.watch(Generation(from)).0.into_future();
    assert_eq!(first(70).await.0, Some(WatchItem::Relist), "older than keep and its slack");
    match first(80).await.0 {
        Some(WatchItem::Batch(batch)) => assert_eq!(batch.revision, Generation(81)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reader_that_falls_behind_gets_what_it_has_and_then_relists() {
    let (_directory, path) = place();
    let options = Options { queue: 4, ..Options::default() };
    let engine = Embedded::open_with(&path, options).unwrap();
    let watch = engine.watch(Generation(0));
    for value in 0..10 {
        engine.transact(put(1, value)).await.unwrap();
    }
    let told: Vec<WatchItem> = watch.0.collect().await;
    let revisions: Vec<Option<u64>> = told
        .iter()
        .map(|item| match item {
            WatchItem::Batch(batch) => Some(batch.revision.0),
            WatchItem::Relist => None,
        })
        .collect();
    assert_eq!(revisions, [Some(1), Some(2), Some(3), Some(4), None]);
}

#[tokio::test]
async fn watches_end_when_the_engine_is_dropped() {
    let (_directory, path) = place();
    let engine = Embedded::open(&path).unwrap();
    let (fresh, mut read) = (engine.watch(Generation(0)), engine.watch(Generation(0)));
    engine.transact(put(1, 1)).await.unwrap();
    read.0.next().await.unwrap();
    let unread = engine.watch(Generation(0));
    drop(engine);
    assert_eq!(read.0.next().await, None);
    assert_eq!(fresh.0.collect::<Vec<_>>().await.len(), 1);
    // Watches that are still held do not keep the file from being opened.
    assert_eq!(Embedded::open(&path).unwrap().snapshot().await.unwrap().rows.len(), 1);
    drop(unread);
}
