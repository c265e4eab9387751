//! The server: HTTP/1.1 on a unix socket, one call per connection, everything bounded.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Plugin;
use super::bind::Listener;
use super::call::{Call, Method, perform};

/// How long a call that does not even notice its deadline is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// How much is asked of the server at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// How long a request may take to arrive, head and body each, and its answer to be read.
    pub read: Duration,
    /// How long a call may take, the wait for its turn included. Docker itself waits for ever.
    pub call: Duration,
    /// Calls that are under way at once; the others wait.
    pub calls: usize,
    /// Connections that are open at once; the others wait to be taken.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            read: Duration::from_secs(5),
            call: Duration::from_secs(10),
            calls: 64,
            connections: 256,
        }
    }
}

/// Serves `plugin` on `listener` until `shutdown`. Then no call is taken any more, those under way
/// come to their end, at the latest to their deadline, and the socket's file goes.
pub async fn serve<P: Plugin>(
    listener: Listener,
    plugin: Arc<P>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let seats = Arc::new(Semaphore::new(limits.connections));
    let calls = Semaphore::new(limits.calls);
    let door = Arc::new(Door { plugin, limits, calls, closing: CancellationToken::new() });
    let mut guests = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_gone) = guests.join_next() => {}
            (stream, seat) = guest(&listener, &seats) => {
                let door = Arc::clone(&door);
                guests.spawn(async move {
                    door.converse(stream).await;
                    drop(seat);
                });
            }
        }
    }
    drop(listener);
    door.closing.cancel();
    let gone = async { while guests.join_next().await.is_some() {} };
    if timeout(limits.call + GRACE + limits.read, gone).await.is_err() {
        tracing::warn!("calls of Docker are cut off: they did not end by their deadline");
    }
}

/// The next connection, as soon as there is room for it.
async fn guest(
    listener: &Listener,
    seats: &Arc<Semaphore>,
) -> (UnixStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let seat = Arc::clone(seats).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok(stream) => return (stream, seat),
            Err(error) => {
                // Out of descriptors: time gives some back.
                tracing::warn!(%error, "a connection of Docker could not be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct Door<P> {
    plugin: Arc<P>,
    limits: Limits,
    calls: Semaphore,
    closing: CancellationToken,
}

impl<P: Plugin> Door<P> {
    /// One connection, and its one call: a connection that was kept could be closed while the next
    /// call is on its way, which an engine takes for a failure and repeats without a body.
    async fn converse(self: Arc<Self>, stream: UnixStream) {
        let Limits { read, call, .. } = self.limits;
        let arrived = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| {
            let (door, arrived) = (Arc::clone(&self), Arc::clone(&arrived));
            async move { Ok::<_, Infallible>(door.answer(request, &arrived).await) }
        });
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(read)
            .keep_alive(false)
            .max_buf_size(1 << 16)
            .serve_connection(TokioIo::new(stream), service);
        let mut conversation = pin!(timeout(read * 3 + call + GRACE, conversation));
        tokio::select! {
            said = &mut conversation => return ended(said),
            () = self.closing.cancelled() => {}
        }
        // Who has not asked yet is not waited for.
        if arrived.load(Ordering::Relaxed) {
            ended(conversation.await);
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        arrived: &AtomicBool,
    ) -> Response<Full<Bytes>> {
        let Some(method) = Method::at(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "weft knows no such method\n");
        };
        if request.method() != hyper::Method::POST {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "methods are called by POST\n");
            refusal.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("POST"));
            return refusal;
        }
        let read = self.body(request.into_body()).await.and_then(|body| method.read(&body));
        arrived.store(true, Ordering::Relaxed);
        let answer = match read {
            Ok(call) => self.call(method, call).await,
            Err(error) => Err(error),
        };
        match &answer {
            Ok(_) => tracing::debug!(method = method.name, "Docker's call is answered"),
            Err(error) => tracing::warn!(method = method.name, %error, "Docker's call is refused"),
        }
        let body = method.response(answer).to_string();
        let mut response = Response::new(Full::from(body));
        let kind =
            hyper::header::HeaderValue::from_static("application/vnd.docker.plugins.v1.2+json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    async fn body(&self, mut body: Incoming) -> Result<Vec<u8>, String> {
        let Limits { body: most, read, .. } = self.limits;
        let large = || format!("the request is larger than {most} bytes");
        if body.size_hint().lower() > most as u64 {
            return Err(large());
        }
        let all = async {
            let mut all = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| format!("the request broke off: {error}"))?;
                let data = frame.into_data().unwrap_or_default();
                if all.len() + data.len() > most {
                    return Err(large());
                }
                all.extend_from_slice(&data);
            }
            Ok(all)
        };
        let late =
            |_| Err(format!("the request did not arrive within {read:?}: repeat the command"));
        timeout(read, all).await.unwrap_or_else(late)
    }

    /// Has the plugin do it, in a task of its own: an engine that hangs up does not stop what it
    /// asked for in the middle, and a panic ends nothing but the call.
    async fn call(self: &Arc<Self>, method: &Method, call: Call) -> Result<Value, String> {
        let (name, within) = (method.name, self.limits.call);
        let deadline = Instant::now() + within;
        let door = Arc::clone(self);
        let task = tokio::spawn(async move {
            let turn = timeout_at(deadline, door.calls.acquire()).await;
            // Turns come free at deadlines too, and then there is no time left to use one.
            let Some(_turn) = turn.ok().filter(|_| Instant::now() < deadline) else {
                return Err(door.busy(name));
            };
            let done = timeout_at(deadline, perform(&*door.plugin, call)).await;
            done.unwrap_or_else(|_| Err(late(name, within)))
        });
        match timeout_at(deadline + GRACE, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::error!(method = name, %error, "a call of Docker panicked");
                Err(format!(
                    "weft failed at {name}, by a fault of its own: see 'journalctl -u weft', and \
                     repeat the command"
                ))
            }
            Err(_) => Err(late(name, within)),
        }
    }

    fn busy(&self, name: &str) -> String {
        let Limits { call, calls, .. } = self.limits;
        format!(
            "weft was busy with {calls} other calls and did not get to {name} within {call:?}: \
             see 'weft status', and repeat the command"
        )
    }
}

fn late(name: &str, within: Duration) -> String {
    format!(
        "weft did not answer {name} within {within:?}: see 'weft status' and 'journalctl -u weft', \
         and repeat the command"
    )
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

fn ended(said: Result<Result<(), hyper::Error>, tokio::time::error::Elapsed>) {
    match said {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of Docker ended early"),
        Err(_) => tracing::debug!("a connection of Docker did not take its answer"),
    }
}
