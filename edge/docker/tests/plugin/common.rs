//! A plugin that writes down what it is asked, and an engine's way of asking.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weft_docker::plugin::{
    CreateEndpoint, CreateNetwork, CreatedEndpoint, EndpointAt, Join, Joined, Limits, Plugin, Pool,
    ReleaseAddress, RequestAddress, RequestPool, StaticRoute, bind, serve,
};

/// How long a slow call takes.
pub(crate) const SLOW: Duration = Duration::from_millis(800);

/// A call as it reached the plugin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    CreateNetwork(CreateNetwork),
    DeleteNetwork(String),
    CreateEndpoint(CreateEndpoint),
    EndpointInfo(EndpointAt),
    DeleteEndpoint(EndpointAt),
    Join(Join),
    Leave(EndpointAt),
    RequestPool(RequestPool),
    ReleasePool(String),
    RequestAddress(RequestAddress),
    ReleaseAddress(ReleaseAddress),
}

/// Answers every call. Networks named `refused`, `panics`, `hangs`, `blocks` and `slow` do as they
/// are called.
#[derive(Default)]
pub(crate) struct Recorder {
    seen: Mutex<Vec<Seen>>,
    pub(crate) ended: Mutex<Vec<String>>,
}

impl Recorder {
    fn see(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    /// What was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn behave(name: &str) -> Result<(), String> {
    match name {
        "refused" => Err("no Weft network 'web': create it with 'weft network create web'".into()),
        "panics" => panic!("as asked"),
        "hangs" => std::future::pending().await,
        "slow" => {
            tokio::time::sleep(SLOW).await;
            Ok(())
        }
        "blocks" => {
            std::thread::sleep(5 * SLOW);
            Ok(())
        }
        _ => Ok(()),
    }
}

impl Plugin for Recorder {
    async fn create_network(&self, request: CreateNetwork) -> Result<(), String> {
        self.see(Seen::CreateNetwork(request.clone()));
        behave(&request.id).await
    }

    async fn delete_network(&self, id: String) -> Result<(), String> {
        self.see(Seen::DeleteNetwork(id.clone()));
        behave(&id).await?;
        self.ended.lock().unwrap().push(id);
        Ok(())
    }

    async fn create_endpoint(&self, request: CreateEndpoint) -> Result<CreatedEndpoint, String> {
        self.see(Seen::CreateEndpoint(request.clone()));
        behave(&request.at.network).await?;
        let mac = (request.at.endpoint != "unnamed").then_some([0x02, 0x42, 0x0a, 3, 0, 0x0c]);
        Ok(CreatedEndpoint { mac })
    }

    async fn endpoint_info(&self, at: EndpointAt) -> Result<BTreeMap<String, String>, String> {
        self.see(Seen::EndpointInfo(at.clone()));
        behave(&at.network).await?;
        Ok(BTreeMap::from([("com.example.node".to_owned(), "a".to_owned())]))
    }

    async fn delete_endpoint(&self, at: EndpointAt) -> Result<(), String> {
        self.see(Seen::DeleteEndpoint(at.clone()));
        behave(&at.network).await
    }

    async fn join(&self, request: Join) -> Result<Joined, String> {
        self.see(Seen::Join(request.clone()));
        behave(&request.at.network).await?;
        let mut joined = Joined {
            source_name: "wlab34".to_owned(),
            prefix: "eth".to_owned(),
            ..Joined::default()
        };
        if request.at.endpoint == "routed" {
            joined.gateway = Some("10.3.0.1".parse().unwrap());
            joined.gateway6 = Some("fd00:3::1".parse().unwrap());
            joined.disable_gateway_service = true;
            let route = |destination: &str, hop: Option<&str>| StaticRoute {
                destination: destination.parse().unwrap(),
                next_hop: hop.map(|hop| hop.parse().unwrap()),
            };
            joined.static_routes = vec![
                route("10.8.0.0/16", Some("10.3.0.254")),
                route("224.0.0.0/4", None),
                route("fd00:8::/32", Some("fd00:3::fe")),
            ];
        }
        Ok(joined)
    }

    async fn leave(&self, at: EndpointAt) -> Result<(), String> {
        self.see(Seen::Leave(at.clone()));
        behave(&at.network).await
    }

    async fn request_pool(&self, request: RequestPool) -> Result<Pool, String> {
        self.see(Seen::RequestPool(request.clone()));
        behave(&request.space).await?;
        let any: IpNet = if request.v6 { "::/0" } else { "0.0.0.0/0" }.parse().unwrap();
        let label = "com.docker.network.gateway".to_owned();
        Ok(match request.pool {
            Some(pool) => Pool { id: pool.to_string(), pool, data: BTreeMap::new() },
            None => Pool {
                id: "open-1".to_owned(),
                pool: any,
                data: BTreeMap::from([(label, any.to_string())]),
            },
        })
    }

    async fn release_pool(&self, id: String) -> Result<(), String> {
        self.see(Seen::ReleasePool(id.clone()));
        behave(&id).await
    }

    async fn request_address(&self, request: RequestAddress) -> Result<IpNet, String> {
        self.see(Seen::RequestAddress(request.clone()));
        behave(&request.pool).await?;
        let any = || "10.3.0.2".parse().unwrap();
        Ok(IpNet::new(request.address.unwrap_or_else(any), 24).unwrap())
    }

    async fn release_address(&self, request: ReleaseAddress) -> Result<(), String> {
        self.see(Seen::ReleaseAddress(request.clone()));
        behave(&request.pool).await
    }
}

/// A plugin that is served.
pub(crate) struct World {
    pub(crate) plugin: Arc<Recorder>,
    pub(crate) path: PathBuf,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::limited(Limits::default()).await
    }

    pub(crate) async fn limited(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugins/weft.sock");
        let listener = bind(&path).await.unwrap();
        let plugin = Arc::new(Recorder::default());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, Arc::clone(&plugin), limits, async {
            _ = stopped.await;
        }));
        Self { plugin, path, stop: Some(stop), served, _directory: directory }
    }

    /// Calls `method` as an engine does.
    pub(crate) async fn call(&self, method: &str, body: &str) -> Value {
        let reply = self.post(method, body.as_bytes()).await;
        assert_eq!(reply.status, 200, "{method}: {reply:?}");
        reply.json()
    }

    /// Waits until the plugin is asked something.
    pub(crate) async fn called(&self) {
        while self.plugin.seen.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn post(&self, method: &str, body: &[u8]) -> Reply {
        raw(&self.path, &request(method, body)).await
    }
}

/// What an engine sends: no content type, and a line feed at the end of the body.
pub(crate) fn request(method: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\n\
         User-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
         Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

/// Sends these bytes and reads until the server closes.
pub(crate) async fn raw(path: &Path, bytes: &[u8]) -> Reply {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // It may have been answered before all is written.
    _ = stream.write_all(bytes).await;
    answer(stream).await
}

/// The answer on this connection; of status 0 if there is none.
pub(crate) async fn answer(mut stream: UnixStream) -> Reply {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes));
    _ = read.await.expect("the server closes");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}
