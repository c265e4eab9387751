//! The agent's store.

#![allow(clippy::unwrap_used)]

use tempfile::TempDir;
use weft_engine::{AgentStore, Stored};
use weft_model::Generation;

fn rows(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect()
}

#[test]
fn an_empty_store_holds_nothing() {
    let directory = TempDir::new().unwrap();
    let store = AgentStore::open(directory.path().join("agent.redb")).unwrap();
    assert_eq!(store.load().unwrap(), Stored::default());
    store.delete_record("never/was").unwrap();
    assert_eq!(store.load().unwrap(), Stored::default());
}

#[test]
fn what_was_kept_is_there_after_reopening() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    let store = AgentStore::open(&path).unwrap();
    store.replace_rows(Generation(3), rows(&[("node/1", "a"), ("node/2", "b")])).unwrap();
    store
        .patch_rows(
            Generation(5),
            [("node/2", None), ("node/3", Some("c")), ("node/1", Some("z")), ("node/9", None)],
        )
        .unwrap();
    store.put_record("attachment/1", b"{}").unwrap();
    store.put_record("attachment/2", b"{}").unwrap();
    store.put_record("attachment/2", b"{\"x\":1}").unwrap();
    store.delete_record("attachment/1").unwrap();
    let expected = Stored {
        generation: Generation(5),
        rows: rows(&[("node/1", "z"), ("node/3", "c")]),
        records: [("attachment/2".to_owned(), b"{\"x\":1}".to_vec())].into(),
    };
    assert_eq!(store.load().unwrap(), expected);
    drop(store);
    let store = AgentStore::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), expected);
    store.replace_rows(Generation(6), rows(&[("node/7", "q")])).unwrap();
    let stored = store.load().unwrap();
    assert_eq!((stored.generation, stored.rows), (Generation(6), rows(&[("node/7", "q")])));
    assert_eq!(stored.records, expected.records, "records are not rows");
}

#[test]
fn many_lazy_row_updates_do_not_make_the_file_grow_for_ever() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    let store = AgentStore::open(&path).unwrap();
    let value = "x".repeat(500);
    for n in 0..2000 {
        let key = format!("endpoint/{}", n % 20);
        store.patch_rows(Generation(n), [(key, Some(&value))]).unwrap();
    }
    let size = path.metadata().unwrap().len();
    assert!(size < 4 << 20, "{size} octets for 20 rows");
}

#[test]
fn a_second_opening_and_a_damaged_file_are_told_apart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    let store = AgentStore::open(&path).unwrap();
    assert_eq!(
        AgentStore::open(&path).unwrap_err().to_string(),
        format!("'{}' is in use: is another weft daemon running on it?", path.display())
    );
    drop(store);
    std::fs::write(&path, b"nonsense").unwrap();
    let text = AgentStore::open(&path).unwrap_err().to_string();
    assert!(text.contains("is damaged or not a store of weft"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), b"nonsense");
}

#[test]
fn a_store_that_was_closed_has_kept_its_rows() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    for generation in 1..4 {
        let store = AgentStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap().generation, Generation(generation - 1));
        store.replace_rows(Generation(generation), rows(&[("a", "b")])).unwrap();
        if generation == 2 {
            store.flush().unwrap();
        }
    }
}

#[test]
fn what_a_dying_process_left_while_making_a_file_is_no_hindrance() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.redb");
    std::fs::write(directory.path().join("agent.redb.new"), b"half a file").unwrap();
    drop(AgentStore::open(&path).unwrap());
    let left: Vec<_> =
        directory.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["agent.redb"]);
}
