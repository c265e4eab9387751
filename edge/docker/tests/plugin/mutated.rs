//! Requests as no engine sends them: each is answered, in JSON, and reaches the plugin only if it
//! is not refused.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::common::World;
use crate::requests::{ALL, OWN, error_key};

/// A change of the bytes.
#[derive(Debug, Clone)]
enum Cut {
    Set(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    End(Index),
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Cut::Set(at, byte)),
        (any::<Index>(), select(&b"\"{}[]:,0n\\"[..])).prop_map(|(at, byte)| Cut::Set(at, byte)),
        (any::<Index>(), 1..9_usize).prop_map(|(at, many)| Cut::Remove(at, many)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Cut::Insert(at, bytes)),
        any::<Index>().prop_map(Cut::End),
    ]
}

fn apply(bytes: &mut Vec<u8>, cut: Cut) {
    let end = bytes.len() + 1;
    match cut {
        Cut::Set(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Cut::Set(..) => {}
        Cut::Remove(at, many) => {
            let from = at.index(end);
            let to = (from + many).min(bytes.len());
            bytes.drain(from..to);
        }
        Cut::Insert(at, new) => {
            let at = at.index(end);
            bytes.splice(at..at, new);
        }
        Cut::End(at) => bytes.truncate(at.index(end)),
    }
}

/// A value of another kind, or of the same kind and wrong.
fn other() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null])),
        Just(json!({ "": { "": [] } })),
        select(vec![
            "10.3.0.0/24",
            "10.3.0.2",
            "::",
            "fd00::/129",
            "0.0.0.0/0",
            "02:42:0a:03:00:02",
            "/"
        ])
        .prop_map(Value::from),
    ]
}

/// Every value of a document, by its JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

async fn holds(world: &World, method: &str, body: &[u8]) {
    let reply = world.post(method, body).await;
    assert_eq!(reply.status, 200, "{method}: {reply:?}");
    let answer = reply.json();
    let called = world.plugin.take().len();
    let key = error_key(method);
    let refused = answer.get(key).is_some_and(|error| {
        assert!(!error.as_str().unwrap().is_empty());
        assert_eq!(answer.as_object().unwrap().len(), 1);
        true
    });
    assert!(answer.is_object() && answer.get("Err").or(answer.get("Error")).is_some() == refused);
    // One call of the plugin for each good answer, and none for an error.
    let own = OWN.contains(&method);
    assert_eq!(called, usize::from(!refused && !own), "{method}: {answer}");
}

fn run(test: impl AsyncFn(&World)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(&World::new().await).await });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes(tried in prop::collection::vec(
        (select(&ALL[..]), prop::collection::vec(cut(), 0..4)), 16))
    {
        run(async |world| {
            for ((method, body), cuts) in &tried {
                let mut bytes = body.as_bytes().to_vec();
                cuts.iter().for_each(|cut| apply(&mut bytes, cut.clone()));
                holds(world, method, &bytes).await;
            }
        });
    }

    #[test]
    fn values(tried in prop::collection::vec(
        (select(&ALL[..]), prop::collection::vec((any::<Index>(), other()), 1..4)), 16))
    {
        run(async |world| {
            for ((method, body), changes) in &tried {
                let mut value: Value = serde_json::from_str(body).unwrap();
                for (at, other) in changes {
                    let mut found = Vec::new();
                    places(&value, "", &mut found);
                    *value.pointer_mut(&found[at.index(found.len())]).unwrap() = other.clone();
                }
                holds(world, method, value.to_string().as_bytes()).await;
            }
        });
    }
}
