//! The stream of events: whole, in pieces, and cut.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use weft_docker::engine::{Engine, Error, Event};

use crate::fake::{EVENTS, Fake, Reply};

const WEB: &str = "667bf0b79a034947fc722189138c58e93f2305c12a636572a09f2ed598c71735";
const OPEN: &str = "46862981a415bf87d01641a6b700f3346417ab7c5ec6c32f3588869aed74827c";
const CONTAINER: &str = "ee90919e388cdc7a3c25d0a898aee17e6b0ae55900e404895b7575deb6ebd6b1";

/// What the recorded stream tells, of what is asked for.
fn recorded() -> Vec<Event> {
    let (web, open) = (|| WEB.to_owned(), || OPEN.to_owned());
    let (container, driver) = (|| CONTAINER.to_owned(), || "weft".to_owned());
    vec![
        Event::NetworkCreated { id: web(), name: "web".to_owned(), driver: driver() },
        Event::NetworkCreated { id: open(), name: "open".to_owned(), driver: driver() },
        Event::Connected { network: web(), container: container() },
        Event::Started { container: container() },
        Event::Died { container: container() },
        Event::Disconnected { network: web(), container: container() },
        Event::NetworkDestroyed { id: web(), name: "web".to_owned() },
        Event::NetworkDestroyed { id: open(), name: "open".to_owned() },
    ]
}

/// All of a stream: its events, and the error at its end.
async fn all(engine: &Engine, since: Option<SystemTime>) -> (Vec<Event>, Error) {
    let mut stream = engine.events(since);
    let mut events = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap();
        match next.expect("an error before the end") {
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(stream.next().await.is_none());
                assert!(stream.next().await.is_none());
                return (events, error);
            }
        }
    }
}

#[tokio::test]
async fn whole_and_in_pieces() {
    for size in [EVENTS.len(), 4096, 100, 7] {
        let fake = Fake::always(Reply::stream(EVENTS.as_bytes().chunks(size)).ended());
        let (events, error) = all(&fake.engine, None).await;
        assert_eq!(events, recorded(), "{size}");
        let path = fake.path.display();
        let closed = format!("the Docker engine on {path} tells no more events: it was closed");
        assert_eq!(error.to_string(), closed);
    }
}

#[tokio::test]
async fn each_is_told_as_it_comes() {
    let mut reply = Reply::stream(EVENTS.as_bytes().split_inclusive(|byte| *byte == b'\n').take(2));
    reply.pause = Duration::from_millis(100);
    reply.parts.push(vec![]);
    reply.parts.extend(std::iter::repeat_n(vec![], 300));
    let fake = Fake::always(reply);
    let mut stream = fake.engine.events(None);
    for event in &recorded()[..2] {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
        assert_eq!(next.unwrap().unwrap().unwrap(), *event);
    }
    // The deadline of a question is not one for a stream that has begun.
    let silence = tokio::time::timeout(Duration::from_millis(1_500), stream.next()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test]
async fn the_engine_filters() {
    let fake = Fake::always(Reply::stream([]).ended());
    let since = UNIX_EPOCH + Duration::new(1_795_460_689, 906_563_530);
    _ = all(&fake.engine, Some(since)).await;
    _ = all(&fake.engine, None).await;
    let [with, without] = &fake.asked()[..] else { panic!() };
    assert!(with.starts_with("/events?"), "{with}");
    assert!(with.contains("since=1795460689.906563530"), "{with}");
    assert!(!without.contains("since"), "{without}");
    for target in [with, without] {
        assert!(target.contains("%22type%22%3A%5B%22network%22%2C%22container%22%5D"), "{target}");
        for action in ["create", "destroy", "connect", "disconnect", "start", "die", "rename"] {
            assert!(target.contains(&format!("%22{action}%22")), "{action}: {target}");
        }
    }
}

#[tokio::test]
async fn a_stream_is_cut() {
    let third = EVENTS.match_indices('\n').nth(2).unwrap().0 + 1;
    for end in [0, third, third + 40] {
        // The connection ends, within a chunk's frame or without.
        let fake = Fake::always(Reply::stream([&EVENTS.as_bytes()[..end]]));
        let (events, error) = all(&fake.engine, None).await;
        assert_eq!(events, recorded()[..if end == 0 { 0 } else { 2 }], "{end}");
        assert!(matches!(error, Error::Cut { .. }), "{end}: {error:?}");
        let begin = format!("the Docker engine on {} tells no more events: ", fake.path.display());
        assert!(error.to_string().starts_with(&begin), "{error}");
    }
    // It ends as it should, in the middle of an event.
    let half = &EVENTS.as_bytes()[..third + 40];
    let fake = Fake::always(Reply::stream([half]).ended());
    let (events, error) = all(&fake.engine, None).await;
    assert_eq!(events, recorded()[..2]);
    assert!(matches!(error, Error::Cut { .. }), "{error:?}");
}

#[tokio::test]
async fn there_is_no_stream() {
    let engine = Engine::new("/nonexistent/docker.sock");
    let (events, error) = all(&engine, None).await;
    assert_eq!(events, []);
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");

    let fake = Fake::always(Reply::error("400 Bad Request", "invalid filter 'type'"));
    let (_, error) = all(&fake.engine, None).await;
    let refused = format!(
        "the Docker engine on {} refuses: invalid filter 'type' (status 400)",
        fake.path.display()
    );
    assert_eq!(error.to_string(), refused);

    let mut fake = Fake::always(Reply::hang());
    let (_, error) = all(&fake.engine, None).await;
    assert!(matches!(error, Error::Late { .. }), "{error:?}");

    fake.die().await;
    let (_, error) = all(&fake.engine, None).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_understood_ends_it_and_what_is_not_known_does_not() {
    let odd = [
        r#"{"Type":"network","Action":"prune","Actor":{"ID":"","Attributes":{"reclaimed":"0"}}}"#,
        r#"{"Type":"network","Action":"update","Actor":{"ID":"n","Attributes":null}}"#,
        r#"{"Type":"container","Action":"exec_start: sh","Actor":{"ID":"c"}}"#,
        r#"{"Type":"network","Action":"remove","Actor":{"ID":"n","Attributes":{"name":"s"}}}"#,
        r#"{"Type":"container","Action":"rename","Actor":{"ID":"c","Attributes":{"oldName":"/a"}}}"#,
        r#"{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":{"name":"w"}}}"#,
    ]
    .join("\n");
    let fake = Fake::always(Reply::stream([odd.as_bytes(), b"\n"]).ended());
    let (events, _) = all(&fake.engine, None).await;
    let told = [
        Event::NetworkDestroyed { id: "n".to_owned(), name: "s".to_owned() },
        Event::Renamed { container: "c".to_owned() },
    ];
    assert_eq!(events, told);

    for junk in [&b"<html>\n"[..], b"{\"Type\":7}\n", b"\xff\xff\n", b"{\"Type\":\"moon\"}\n"] {
        let fake = Fake::always(Reply::stream([EVENTS.as_bytes(), junk]).ended());
        let (events, error) = all(&fake.engine, None).await;
        assert_eq!(events, recorded());
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    }
}
