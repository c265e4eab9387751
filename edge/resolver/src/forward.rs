//! Asking upstream: small on purpose. A random port and id, and the question compared; what does
//! not match is passed over while the wait goes on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{timeout, timeout_at};

use crate::config::Limits;
use crate::counters::{Count, Counters};
use crate::message::{Request, is_failure, is_truncated};
use crate::upstream::Upstreams;

/// Asks the servers one after the other, until one answers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) upstreams: Upstreams,
    pub(crate) limits: Limits,
}

impl Forwarder {
    /// The first answer that is not a failure, else the first failure, else nothing. Servers that
    /// `own` holds for addresses of ours are left out: they would ask us. `of_asker`: the resolver in
    /// its container, which is asked first, and whether others may be asked at all.
    pub(crate) async fn ask(
        &self,
        request: &Request,
        stream: bool,
        of_asker: (Option<SocketAddr>, bool),
        own: impl Fn(IpAddr) -> bool,
        counters: &Counters,
    ) -> Option<Vec<u8>> {
        let mut failure = None;
        let (inner, upstream) = of_asker;
        if let Some(inner) = inner {
            match self.ask_one(request, stream, inner, counters).await {
                Ok(reply) if is_failure(&reply) => failure = Some(reply),
                Ok(reply) => return Some(reply),
                Err(_) => counters.add(Count::InnerSilent),
            }
        }
        for server in self.upstreams.servers(Instant::now()) {
            if !upstream || own(server.ip()) {
                continue;
            }
            let heard = self.ask_one(request, stream, server, counters).await;
            self.upstreams.heard(server, heard.is_ok(), Instant::now());
            match heard {
                Ok(reply) if is_failure(&reply) => failure = failure.or(Some(reply)),
                Ok(reply) => return Some(reply),
                Err(_) => counters.add(Count::UpstreamSilent),
            }
        }
        failure
    }

    async fn ask_one(
        &self,
        request: &Request,
        stream: bool,
        server: SocketAddr,
        counters: &Counters,
    ) -> io::Result<Vec<u8>> {
        let patience = self.limits.patience;
        if stream {
            return timeout(patience, over_tcp(request, server)).await?;
        }
        let reply = self.over_udp(request, server, counters).await?;
        if !is_truncated(&reply) {
            return Ok(reply);
        }
        // What was cut for the path to us may fit the asker. If not, it comes back over TCP.
        Ok(timeout(patience, over_tcp(request, server))
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or(reply))
    }

    /// One exchange over UDP. The connected socket takes datagrams of this server only.
    async fn over_udp(
        &self,
        request: &Request,
        server: SocketAddr,
        counters: &Counters,
    ) -> io::Result<Vec<u8>> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        let id = rand::random();
        let query = request.upstream(id);
        let start = tokio::time::Instant::now();
        let mut buffer = vec![0; 4_096];
        for until in [start + self.limits.resend, start + self.limits.patience] {
            socket.send(&query).await?;
            while let Ok(received) = timeout_at(until, socket.recv(&mut buffer)).await {
                let length = received?;
                if request.is_answered_by(&buffer[..length], id) {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                counters.add(Count::UpstreamStray);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// One exchange over TCP.
async fn over_tcp(request: &Request, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id = rand::random();
    stream.write_all(&framed(&request.upstream(id))).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    if request.is_answered_by(&reply, id) {
        Ok(reply)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A message with its length before it (RFC 1035 section 4.2.2).
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests;
