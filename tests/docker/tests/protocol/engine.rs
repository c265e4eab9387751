//! An engine that has what the test says it has, and tells of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// How many events an engine keeps.
const KEPT: usize = 256;

/// The engine. It answers as long as the test's process lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Engine(Arc<Mutex<Has>>);

#[derive(Debug, Default)]
struct Has {
    /// Names, by identifier.
    networks: BTreeMap<String, String>,
    /// By identifier of the endpoint.
    endpoints: BTreeMap<String, Endpoint>,
    listeners: Vec<mpsc::Sender<Value>>,
    /// What was told, and when: whoever comes a little late asks for that.
    told: Vec<(Duration, Value)>,
}

/// An endpoint of a container.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) network: String,
    pub(crate) container: String,
    pub(crate) name: String,
    pub(crate) alias: String,
}

impl Engine {
    pub(crate) fn listen(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket)
            .unwrap_or_else(|e| panic!("cannot listen on {}: {e}", socket.display()));
        let engine = Self::default();
        let served = engine.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let engine = served.clone();
                // Whoever asks may hang up at any moment.
                std::thread::spawn(move || drop(engine.converse(stream)));
            }
        });
        engine
    }

    fn has(&self) -> MutexGuard<'_, Has> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many follow the events.
    pub(crate) fn listeners(&self) -> usize {
        self.has().listeners.len()
    }

    pub(crate) fn put_network(&self, id: &str, name: &str) {
        let mut has = self.has();
        has.networks.insert(id.to_owned(), name.to_owned());
        has.tell("network", "create", id, json!({ "name": name, "type": "weft" }));
    }

    pub(crate) fn remove_network(&self, id: &str) {
        let mut has = self.has();
        let name = has.networks.remove(id);
        has.tell("network", "destroy", id, json!({ "name": name, "type": "weft" }));
    }

    /// An endpoint is there; whether that is told is the caller's to choose.
    pub(crate) fn put_endpoint(&self, id: &str, endpoint: Endpoint) {
        self.has().endpoints.insert(id.to_owned(), endpoint);
    }

    /// Tells that the container of an endpoint was connected.
    pub(crate) fn tell_of(&self, id: &str) {
        let mut has = self.has();
        let Some(endpoint) = has.endpoints.get(id).cloned() else { return };
        let about = json!({ "container": endpoint.container, "type": "weft" });
        has.tell("network", "connect", &endpoint.network, about);
    }

    pub(crate) fn remove_endpoint(&self, id: &str) {
        self.has().endpoints.remove(id);
    }

    fn converse(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head);
        let target = head.strip_prefix("GET ").unwrap_or_default();
        let path = target.split([' ', '?']).next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let found = match parts.as_slice() {
            ["events"] => return self.tell_events(stream, since(target)),
            ["networks"] => Ok(self.has().all_networks()),
            ["networks", id] => {
                self.has().network(id).ok_or_else(|| format!("network {id} not found"))
            }
            ["containers", id, "json"] => {
                self.has().container(id).ok_or_else(|| format!("No such container: {id}"))
            }
            _ => Err("page not found".to_owned()),
        };
        let (status, body) = match found {
            Ok(body) => ("200 OK", body),
            Err(message) => ("404 Not Found", json!({ "message": message })),
        };
        let body = body.to_string();
        write!(stream, "{}Content-Length: {}\r\n\r\n{body}", answer(status), body.len())
    }

    fn tell_events(&self, mut stream: UnixStream, since: Duration) -> std::io::Result<()> {
        let (sender, events) = mpsc::channel();
        {
            let mut has = self.has();
            for (_, event) in has.told.iter().filter(|(at, _)| *at >= since) {
                drop(sender.send(event.clone()));
            }
            has.listeners.push(sender);
        }
        write!(stream, "{}Transfer-Encoding: chunked\r\n\r\n", answer("200 OK"))?;
        for event in events {
            let line = format!("{event}\n");
            write!(stream, "{:x}\r\n{line}\r\n", line.len())?;
        }
        Ok(())
    }
}

/// The head of every answer of Docker 20.10.
fn answer(status: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n\
         Docker-Experimental: false\r\nOstype: linux\r\nServer: Docker/20.10.24 (linux)\r\n"
    )
}

/// From when on events are asked for.
fn since(target: &str) -> Duration {
    let text = target.split(['?', '&', ' ']).find_map(|part| part.strip_prefix("since="));
    let seconds = text.and_then(|text| text.parse().ok()).unwrap_or(f64::MAX);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

impl Has {
    fn tell(&mut self, kind: &str, action: &str, id: &str, attributes: Value) {
        let actor = json!({ "ID": id, "Attributes": attributes });
        let event = json!({ "Type": kind, "Action": action, "Actor": actor, "scope": "local" });
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.told.push((now, event));
        let old = self.told.len().saturating_sub(KEPT);
        self.told.drain(..old);
    }

    fn all_networks(&self) -> Value {
        self.networks.keys().filter_map(|id| self.network(id)).collect()
    }

    fn network(&self, id: &str) -> Option<Value> {
        let name = self.networks.get(id)?;
        let mine = self.endpoints.iter().filter(|(_, endpoint)| endpoint.network == id);
        let containers: Map<String, Value> = mine
            .map(|(id, endpoint)| {
                let shown = json!({ "Name": endpoint.name, "EndpointID": id });
                (endpoint.container.clone(), shown)
            })
            .collect();
        Some(json!({
            "Name": name, "Id": id, "Scope": "local", "Driver": "weft",
            "IPAM": { "Driver": "weft", "Options": {}, "Config": [] },
            "Internal": false, "Containers": containers, "Options": {}, "Labels": {},
        }))
    }

    fn container(&self, container: &str) -> Option<Value> {
        let (id, endpoint) = self.endpoints.iter().find(|(_, e)| e.container == container)?;
        let name = self.networks.get(&endpoint.network).cloned().unwrap_or_default();
        let place = json!({
            "NetworkID": endpoint.network, "EndpointID": id,
            "Aliases": [endpoint.alias, container.get(..12)],
        });
        Some(json!({
            "Id": container, "Name": format!("/{}", endpoint.name),
            "State": { "Running": true, "Pid": 0 }, "Config": { "Hostname": "", "Labels": {} },
            "NetworkSettings": { "SandboxKey": "", "Networks": { name: place } },
        }))
    }
}
