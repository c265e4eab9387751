//! An engine that says what it is told to say.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use weft_docker::engine::Engine;

pub(crate) const NETWORKS: &str = include_str!("recorded/networks.json");
pub(crate) const WEB: &str = include_str!("recorded/web.json");
pub(crate) const OPEN: &str = include_str!("recorded/open.json");
pub(crate) const STARTING: &str = include_str!("recorded/starting.json");
pub(crate) const API2: &str = include_str!("recorded/api2.json");
pub(crate) const IDLE: &str = include_str!("recorded/idle.json");
pub(crate) const EVENTS: &str = include_str!("recorded/events.jsonl");

/// What is sent on a connection before it is closed.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) parts: Vec<Vec<u8>>,
    /// Between the parts, and at the end.
    pub(crate) pause: Duration,
}

/// The head of every answer of Docker 20.10.
fn head(status: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n\
         Docker-Experimental: false\r\nOstype: linux\r\nServer: Docker/20.10.24 (linux)\r\n"
    )
}

impl Reply {
    pub(crate) fn new(status: &str, body: &str) -> Self {
        let length = body.len();
        let whole = format!("{}Content-Length: {length}\r\n\r\n{body}", head(status));
        Self { parts: vec![whole.into_bytes()], ..Self::default() }
    }

    pub(crate) fn ok(body: &str) -> Self {
        Self::new("200 OK", body)
    }

    pub(crate) fn error(status: &str, message: &str) -> Self {
        Self::new(status, &format!("{}\n", serde_json::json!({ "message": message })))
    }

    /// Nothing, and no end.
    pub(crate) fn hang() -> Self {
        Self { parts: vec![vec![]], pause: Duration::from_secs(60) }
    }

    /// A stream in chunks of these texts, as `/events` is; without its end.
    pub(crate) fn stream<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let start = format!("{}Transfer-Encoding: chunked\r\n\r\n", head("200 OK"));
        let mut parts = vec![start.into_bytes()];
        parts.extend(chunks.into_iter().map(|chunk| {
            let mut part = format!("{:x}\r\n", chunk.len()).into_bytes();
            part.extend_from_slice(chunk);
            part.extend_from_slice(b"\r\n");
            part
        }));
        Self { parts, pause: Duration::from_millis(1) }
    }

    pub(crate) fn ended(mut self) -> Self {
        self.parts.push(b"0\r\n\r\n".to_vec());
        self
    }
}

pub(crate) struct Fake {
    pub(crate) engine: Engine,
    pub(crate) path: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    served: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Fake {
    /// An engine that answers a request's target with what `script` says.
    pub(crate) fn new(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, heard) = (Arc::new(script), Arc::clone(&asked));
        let served = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, Arc::clone(&script), Arc::clone(&heard)));
            }
        });
        let engine = Engine::new(&path).with_deadline(Duration::from_millis(500));
        Self { engine, path, asked, served, _directory: directory }
    }

    /// One that says the same to everything.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// The targets that were asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub(crate) async fn die(&mut self) {
        self.served.abort();
        _ = (&mut self.served).await;
    }
}

async fn converse(
    mut stream: UnixStream,
    script: Arc<impl Fn(&str) -> Reply>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("GET ").unwrap().split(' ').next().unwrap().to_owned();
    asked.lock().unwrap().push(target.clone());
    let reply = if target.starts_with("/v1") {
        let told = "client version 1.52 is too new. Maximum supported API version is 1.41";
        Reply::error("400 Bad Request", told)
    } else {
        script(&target)
    };
    for part in reply.parts {
        if stream.write_all(&part).await.is_err() {
            return;
        }
        tokio::time::sleep(reply.pause).await;
    }
}
