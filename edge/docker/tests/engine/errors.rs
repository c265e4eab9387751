//! Engines that are not there, do not answer, or say something else.

use std::time::{Duration, Instant};

use weft_docker::engine::{Engine, Error};

use crate::fake::{Fake, Reply, WEB};

async fn told(fake: &Fake) -> [String; 3] {
    [
        fake.engine.networks_of("weft").await.unwrap_err().to_string(),
        fake.engine.network("n1").await.unwrap_err().to_string(),
        fake.engine.container("c1").await.unwrap_err().to_string(),
    ]
}

#[tokio::test]
async fn there_is_none() {
    let engine = Engine::new("/nonexistent/docker.sock");
    let error = engine.network("n").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let told = "no Docker engine answers on /nonexistent/docker.sock: is it running? ('systemctl \
                status docker'): there is no such socket";
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn there_was_one() {
    let mut fake = Fake::always(Reply::ok(WEB));
    assert_eq!(fake.engine.path(), fake.path);
    fake.engine.network("web").await.unwrap().unwrap();
    fake.die().await;
    let path = fake.path.display();
    let begin =
        format!("no Docker engine answers on {path}: is it running? ('systemctl status docker'): ");
    for error in told(&fake).await {
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains("Connection refused"), "{error}");
    }
}

#[tokio::test]
async fn it_does_not_answer() {
    // Not at all, and only half.
    let mut half = Reply::ok(WEB);
    half.parts[0].truncate(300);
    half.pause = Duration::from_secs(60);
    for reply in [Reply::hang(), half] {
        let fake = Fake::always(reply);
        let begun = Instant::now();
        let path = fake.path.display().to_string();
        for error in told(&fake).await {
            let late = format!(
                "the Docker engine on {path} did not answer within 500ms: see 'journalctl -u docker'"
            );
            assert_eq!(error, late);
        }
        let took = begun.elapsed();
        assert!((1_400..9_000).contains(&took.as_millis()), "{took:?}");
    }
}

#[tokio::test]
async fn it_refuses() {
    let fake = Fake::always(Reply::error("500 Internal Server Error", "This node is locked\n"));
    let path = fake.path.display().to_string();
    for error in told(&fake).await {
        let refused =
            format!("the Docker engine on {path} refuses: This node is locked (status 500)");
        assert_eq!(error, refused);
    }
    // Something else that speaks HTTP: that it has no such page says nothing about a network.
    for body in [r#"{"message":"page not found"}"#, "404 page not found\n", ""] {
        let fake = Fake::always(Reply::new("404 Not Found", body));
        for error in told(&fake).await {
            assert!(error.contains("(status 404)"), "{error}");
        }
    }
}

#[tokio::test]
async fn it_says_what_cannot_be_understood() {
    let cut = Reply { parts: vec![Reply::ok(WEB).parts[0][..300].to_vec()], ..Reply::default() };
    let replies = [
        Reply::ok("<html>"),
        Reply::ok("7"),
        Reply::ok("{\"Name\":7}"),
        Reply::ok(""),
        Reply { parts: vec![b"SSH-2.0-OpenSSH\r\n".to_vec()], ..Reply::default() },
        Reply { parts: vec![vec![]], ..Reply::default() },
        cut,
    ];
    for reply in replies {
        let sent = String::from_utf8_lossy(&reply.parts[0]).into_owned();
        let fake = Fake::always(reply);
        for error in [
            fake.engine.networks_of("weft").await.unwrap_err(),
            fake.engine.network("n1").await.unwrap_err(),
            fake.engine.container("c1").await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Unreadable { .. }), "{sent}: {error:?}");
        }
    }
}
