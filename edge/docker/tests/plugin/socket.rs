//! The socket's file: made, found in the way, taken over, and taken away.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use weft_docker::plugin::bind;

use crate::common::{World, answer, raw, request};

const DELETE: &str = "NetworkDriver.DeleteNetwork";

#[tokio::test]
async fn it_is_for_root_only_in_a_directory_for_all() {
    let world = World::new().await;
    let found = fs::symlink_metadata(&world.path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let directory = world.path.parent().unwrap();
    assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o755);
    let names: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["weft.sock"]);
}

#[tokio::test]
async fn a_living_one_is_not_taken_over() {
    let world = World::new().await;
    let error = bind(&world.path).await.unwrap_err().to_string();
    let path = world.path.display();
    let told = format!("another daemon serves Docker on {path}: stop it, or choose another socket");
    assert_eq!(error, told);
    assert_eq!(world.call(DELETE, r#"{"NetworkID":"n"}"#).await, json!({}));
}

#[tokio::test]
async fn one_that_is_too_busy_to_answer_is_alive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weft.sock");
    let _hung = UnixListener::bind(&path).unwrap();
    // Nobody accepts: the queue fills.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), UnixStream::connect(&path)).await
    {
        waiting.push(stream);
    }
    let error = bind(&path).await.unwrap_err().to_string();
    assert!(error.starts_with("another daemon serves Docker on "), "{error}");
}

#[tokio::test]
async fn a_dead_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weft.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    // As one leaves it that was killed while it opened its socket.
    let hidden = directory.path().join(".weft.sock.new");
    fs::create_dir(&hidden).unwrap();
    drop(UnixListener::bind(hidden.join("sock")).unwrap());
    let listener = bind(&path).await.unwrap();
    assert_eq!(listener.path(), Some(path.as_path()));
    UnixStream::connect(&path).await.unwrap();
    assert!(!hidden.exists());
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn another_ones_file_is_not_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weft.sock");
    let first = bind(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    let _second = bind(&path).await.unwrap();
    drop(first);
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_not_a_socket_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weft.sock");
    fs::write(&path, "precious").unwrap();
    let error = bind(&path).await.unwrap_err().to_string();
    assert!(error.ends_with("is not a socket: move it away, or choose another socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let error = bind(&path.join("below")).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on "), "{error}");
    let error = bind("/".as_ref()).await.unwrap_err().to_string();
    assert!(error.starts_with("/ cannot be a socket"), "{error}");
}

#[tokio::test]
async fn two_do_not_open_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let held = fs::File::open(directory.path()).unwrap();
    held.try_lock().unwrap();
    let error = bind(&directory.path().join("weft.sock")).await.unwrap_err().to_string();
    assert!(error.starts_with("another daemon is opening its socket beside"), "{error}");
}

#[tokio::test]
async fn a_socket_of_the_service_manager_is_left_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weft.sock");
    let listener =
        weft_docker::plugin::Listener::from(tokio::net::UnixListener::bind(&path).unwrap());
    assert_eq!(listener.path(), None);
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn at_the_end_calls_under_way_are_answered_and_the_file_goes() {
    let mut world = World::new().await;
    let mut calling = UnixStream::connect(&world.path).await.unwrap();
    calling.write_all(&request(DELETE, br#"{"NetworkID":"slow"}"#)).await.unwrap();
    let mut half = UnixStream::connect(&world.path).await.unwrap();
    half.write_all(b"POST /Network").await.unwrap();
    world.called().await;
    let begun = Instant::now();
    world.stop.take().unwrap().send(()).unwrap();
    assert_eq!(answer(calling).await.json(), json!({}));
    (&mut world.served).await.unwrap();
    // Who had not asked was not waited for.
    assert!(begun.elapsed() < Duration::from_millis(4_000), "{:?}", begun.elapsed());
    assert_eq!(answer(half).await.status, 0);
    assert!(!world.path.exists());
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let limits = weft_docker::plugin::Limits {
        call: Duration::from_millis(300),
        ..weft_docker::plugin::Limits::default()
    };
    let mut world = World::limited(limits).await;
    let path = world.path.clone();
    let calling =
        tokio::spawn(
            async move { raw(&path, &request(DELETE, br#"{"NetworkID":"hangs"}"#)).await },
        );
    world.called().await;
    world.stop.take().unwrap().send(()).unwrap();
    (&mut world.served).await.unwrap();
    let told = calling.await.unwrap().json();
    assert!(told["Err"].as_str().unwrap().starts_with("weft did not answer"), "{told}");
}
