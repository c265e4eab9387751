//! Calls of the plugin's methods, as an engine makes them, and what every answer must be.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The daemon promises an answer within ten seconds.
const DEADLINE: Duration = Duration::from_secs(12);

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Fine(Value),
    Refused(String),
}

impl Told {
    #[track_caller]
    pub(crate) fn fine(self) -> Value {
        match self {
            Self::Fine(value) => value,
            Self::Refused(text) => panic!("refused: {text}"),
        }
    }

    #[track_caller]
    pub(crate) fn refused(self) -> String {
        match self {
            Self::Fine(value) => panic!("not refused: {value}"),
            Self::Refused(text) => text,
        }
    }
}

/// The connection broke, or there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// The plugin's socket, as an engine uses it.
#[derive(Debug)]
pub(crate) struct Caller {
    socket: PathBuf,
    calls: AtomicU64,
}

impl Caller {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, calls: AtomicU64::new(0) }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// One call; panics when what comes back is no answer to it.
    pub(crate) fn call(&self, method: &str, body: &[u8]) -> Result<Told, Broken> {
        let begin = Instant::now();
        let answer = self.converse(method, body).map_err(|error| {
            let late = error.kind() == std::io::ErrorKind::WouldBlock;
            assert!(!late, "{method} was not answered within {DEADLINE:?}");
            Broken
        })?;
        if answer.is_empty() {
            return Err(Broken);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (head, said) = answer.split_once("\r\n\r\n").ok_or(Broken)?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
        assert!(begin.elapsed() < DEADLINE, "{method} took {:?}", begin.elapsed());
        // A connection that breaks in the middle of an answer.
        let length: Option<usize> = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        if length != Some(said.len()) {
            return Err(Broken);
        }
        Ok(read(method, said))
    }

    fn converse(&self, method: &str, body: &[u8]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        // Without a content type, as engines send it.
        let head = format!(
            "POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n\
             Content-Length: {}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8(answer).unwrap_or_else(|e| panic!("{method}: not UTF-8: {e}")))
    }
}

/// What an answer says; panics when it is not of the form that this method's answers have.
fn read(method: &str, said: &str) -> Told {
    let value: Value =
        serde_json::from_str(said).unwrap_or_else(|e| panic!("{method}: {e}: {said}"));
    let object = value.as_object().unwrap_or_else(|| panic!("{method}: no object: {said}"));
    let (error, others) =
        if method.starts_with("IpamDriver.") { ("Error", "Err") } else { ("Err", "Error") };
    assert!(!object.contains_key(others), "{method}: the wrong word for an error: {said}");
    if let Some(text) = object.get(error) {
        let text = text.as_str().unwrap_or_default();
        assert!(object.len() == 1 && !text.is_empty(), "{method}: {said}");
        let crashed = text.contains("panicked") || text.contains("could not answer");
        assert!(!crashed, "{method}: {said}");
        return Told::Refused(text.to_owned());
    }
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let form = match method {
        "IpamDriver.RequestPool" => !text("/PoolID").is_empty() && text("/Pool").contains('/'),
        "IpamDriver.RequestAddress" => text("/Address").contains('/'),
        "NetworkDriver.CreateEndpoint" => text("/Interface/MacAddress").len() == 17,
        "NetworkDriver.EndpointOperInfo" => object["Value"].is_object(),
        "NetworkDriver.Join" => {
            text("/InterfaceName/SrcName").starts_with("wd-")
                && text("/InterfaceName/DstPrefix") == "eth"
        }
        _ => object.is_empty(),
    };
    assert!(form, "{method}: not what is to be answered: {said}");
    Told::Fine(value)
}
