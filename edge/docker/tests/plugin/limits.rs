//! What is too large, too slow, or too much.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use weft_docker::plugin::Limits;

use crate::common::{SLOW, World, answer, raw, request};

const DELETE: &str = "NetworkDriver.DeleteNetwork";

fn delete(id: &str) -> String {
    json!({ "NetworkID": id }).to_string()
}

fn quick() -> Limits {
    Limits {
        read: Duration::from_millis(1_000),
        call: Duration::from_millis(500),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_hanging_call_is_answered_at_its_deadline() {
    let world = World::limited(quick()).await;
    let begun = Instant::now();
    let told = "weft did not answer NetworkDriver.DeleteNetwork within 500ms: see 'weft status' \
                and 'journalctl -u weft', and repeat the command";
    assert_eq!(world.call(DELETE, &delete("hangs")).await, json!({ "Err": told }));
    let took = begun.elapsed();
    assert!((500..1_500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_notice_its_deadline_is_not_waited_for() {
    let world = World::limited(quick()).await;
    let begun = Instant::now();
    let answer = world.call(DELETE, &delete("blocks")).await;
    assert!(answer["Err"].as_str().unwrap().starts_with("weft did not answer"), "{answer}");
    let took = begun.elapsed();
    assert!((1_500..3_500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_body_has_a_size() {
    let world = World::new().await;
    let sized = |size: usize| {
        let frame = r#"{"NetworkID":"n","x":""}"#;
        format!(r#"{{"NetworkID":"n","x":"{}"}}"#, "x".repeat(size - frame.len()))
    };
    assert_eq!(world.call(DELETE, &sized(1 << 20)).await, json!({}));
    let told = json!({ "Err": "the request is larger than 1048576 bytes" });
    assert_eq!(world.call(DELETE, &sized((1 << 20) + 1)).await, told);
    assert_eq!(world.call(DELETE, &sized(3 << 20)).await, told);
    let endless =
        format!("POST /{DELETE} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(raw(&world.path, endless.as_bytes()).await.json(), told);
    assert_eq!(world.plugin.take().len(), 1);
}

#[tokio::test]
async fn a_head_has_a_size() {
    let world = World::new().await;
    let head = format!("POST /{DELETE} HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    assert_eq!(raw(&world.path, head.as_bytes()).await.status, 431);
}

#[tokio::test]
async fn half_a_request_holds_up_nobody() {
    let world = World::limited(quick()).await;
    let whole = request(DELETE, delete("n").as_bytes());
    let body_at = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut halves = Vec::new();
    for cut in [0, 1, 20, body_at - 1, body_at, body_at + 5, whole.len() - 1] {
        let mut stream = UnixStream::connect(&world.path).await.unwrap();
        stream.write_all(&whole[..cut]).await.unwrap();
        halves.push((cut, stream));
    }
    let begun = Instant::now();
    assert_eq!(world.call(DELETE, &delete("n")).await, json!({}));
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    for (cut, stream) in halves {
        let reply = answer(stream).await;
        if cut < body_at {
            assert_ne!(reply.status, 200, "{cut}: {reply:?}");
        } else {
            let told = "the request did not arrive within 1s: repeat the command";
            assert_eq!(reply.json(), json!({ "Err": told }), "{cut}");
        }
    }
    assert!(begun.elapsed() < Duration::from_millis(4_000), "{:?}", begun.elapsed());
    assert_eq!(world.plugin.take().len(), 1);
}

#[tokio::test]
async fn calls_wait_for_their_turn_within_their_deadline() {
    let limits = Limits { calls: 2, call: 2 * SLOW - SLOW / 3, ..quick() };
    let world = World::limited(limits).await;
    // Two at once: the third and fourth wait, and then are too late; the fifth and sixth do not
    // even begin.
    let body = delete("slow");
    let answers = join_all((0..6).map(|_| world.call(DELETE, &body))).await;
    let done = answers.iter().filter(|answer| **answer == json!({})).count();
    let within = format!("NetworkDriver.DeleteNetwork within {:?}: see 'weft status'", limits.call);
    let told = |begin: &str| {
        let begin = format!("{begin} {within}");
        let begins =
            |answer: &&Value| answer["Err"].as_str().is_some_and(|e| e.starts_with(&begin));
        answers.iter().filter(begins).count()
    };
    let late = told("weft did not answer");
    let busy = told("weft was busy with 2 other calls and did not get to");
    assert_eq!((done, late, busy), (2, 2, 2), "{answers:?}");
    assert_eq!(world.plugin.take().len(), 4);
    // Those that were dropped gave their place back.
    assert_eq!(world.call(DELETE, &delete("n")).await, json!({}));
}

#[tokio::test]
async fn many_calls_run_at_once() {
    let world = World::new().await;
    let begun = Instant::now();
    let body = delete("slow");
    let answers = join_all((0..64).map(|_| world.call(DELETE, &body))).await;
    assert!(answers.iter().all(|answer| *answer == json!({})));
    assert!(begun.elapsed() < Duration::from_millis(10_000), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn connections_wait_to_be_taken() {
    let world = World::limited(Limits { connections: 2, ..quick() }).await;
    // Both seats are taken, until the idle ones have had their time.
    let begun = Instant::now();
    let _idle = UnixStream::connect(&world.path).await.unwrap();
    let _other = UnixStream::connect(&world.path).await.unwrap();
    assert_eq!(world.call(DELETE, &delete("n")).await, json!({}));
    let waited = begun.elapsed();
    assert!((900..4_000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn who_hangs_up_stops_nothing() {
    let world = World::new().await;
    let mut stream = UnixStream::connect(&world.path).await.unwrap();
    stream.write_all(&request(DELETE, delete("slow").as_bytes())).await.unwrap();
    world.called().await;
    drop(stream);
    assert!(world.plugin.ended.lock().unwrap().is_empty());
    tokio::time::sleep(2 * SLOW).await;
    assert_eq!(*world.plugin.ended.lock().unwrap(), ["slow"]);
}
