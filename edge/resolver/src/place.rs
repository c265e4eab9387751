//! What is read and answered at one place: a gateway's address on its bridge.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use crate::backlog::Backlog;
use crate::counters::Count;
use crate::fairness::{Account, Leave, Permit};
use crate::forward::framed;
use crate::penalty::Penalties;
use crate::service::{Onward, Service, Verdict};
use crate::socket;

/// A bridge and a gateway's address on it.
#[derive(Debug)]
pub(crate) struct At {
    pub(crate) service: Arc<Service>,
    pub(crate) bridge: Arc<str>,
    pub(crate) address: SocketAddr,
    /// How long a connection may lie idle.
    pub(crate) idle: Duration,
}

/// How many datagrams of one place are read, and how many answered, before the others have their
/// turn.
const READ: usize = 128;
const ANSWER: usize = 16;
/// The longest message that is read: no query needs more.
const QUERY: usize = 2_048;
/// How many are still read when stopping.
const LAST: usize = 256;

impl At {
    /// Answers over UDP until told to stop, and then what has come in already.
    pub(crate) async fn datagrams(
        self: Arc<Self>,
        socket: Arc<UdpSocket>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut desk =
            Desk { at: self, socket, backlog: Backlog::default(), penalties: Penalties::default() };
        // Ends also when the sender is gone: then the process is ending.
        let stop = async { _ = stopping.wait_for(|stopping| *stopping).await };
        tokio::pin!(stop);
        loop {
            let well = tokio::select! {
                ready = desk.ready() => ready.is_ok() && desk.turn(),
                () = until(desk.penalties.next()) => desk.let_in(),
                () = &mut stop => break,
            };
            if well {
                tokio::task::yield_now().await;
            } else {
                // The socket or the kernel is in trouble: trying again at once only burns time.
                sleep(Duration::from_millis(100)).await;
            }
        }
        desk.finish().await;
    }

    async fn forward(
        self: Arc<Self>,
        socket: Weak<UdpSocket>,
        onward: Box<Onward>,
        permit: Permit,
        from: SocketAddr,
    ) {
        let reply = self.service.forward(&onward, false).await;
        // The socket may be closed by now: this process is about to end and another answers. Then
        // a socket that exists for the moment of sending only takes nothing away from that one.
        let socket = socket
            .upgrade()
            .map_or_else(|| socket::datagrams(&self.bridge, self.address).map(Arc::new), Ok);
        match socket {
            Ok(socket) if socket.writable().await.is_ok() => self.send(&socket, &reply, from),
            _ => self.service.counters.add(Count::Unsendable),
        }
        drop(permit);
    }

    fn send(&self, socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
        if socket.try_send_to(reply, to).is_err() {
            self.service.counters.add(Count::Unsendable);
        }
    }

    /// Answers over TCP until told to stop, and takes the connections that are open already.
    pub(crate) async fn streams(
        self: Arc<Self>,
        listener: TcpListener,
        mut stopping: watch::Receiver<bool>,
    ) {
        let stop = async { _ = stopping.wait_for(|stopping| *stopping).await };
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            self.accept(accepted).await;
        }
        let handed = socket::hand_over(&listener);
        tracing::debug!(?handed, at = %self.address, "closing");
        for _ in 0..LAST {
            let wait = timeout(Duration::from_millis(2), listener.accept());
            let Ok(accepted) = wait.await else { break };
            self.accept(accepted).await;
        }
    }

    async fn accept(self: &Arc<Self>, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let Ok((stream, from)) = accepted else {
            // Out of descriptors, say: trying again at once would only burn time.
            return sleep(Duration::from_millis(100)).await;
        };
        let (account, known) = self.service.account(&self.bridge, from.ip());
        let permit = known.then(|| self.service.fairness.connection(&account)).flatten();
        let Some(permit) = permit else {
            return self.service.counters.add(Count::ConnectionsRefused);
        };
        let place = Arc::clone(self);
        tokio::spawn(async move {
            // However the connection ended, it is over.
            let _ended = place.stream(stream, from.ip()).await;
            drop(permit);
        });
    }

    /// Answers the queries of one connection, one after the other.
    async fn stream(&self, mut stream: TcpStream, source: IpAddr) -> io::Result<()> {
        loop {
            let message = timeout(self.idle, read_framed(&mut stream)).await??;
            let (account, _) = self.service.account(&self.bridge, source);
            if account.query(Instant::now()) != Leave::Granted {
                self.service.counters.add(Count::DroppedRate);
                return Ok(());
            }
            let reply = match self.service.decide(&message, &self.bridge, source, &account, true) {
                Verdict::Reply(reply) => reply,
                Verdict::Silence => return Ok(()),
                Verdict::Forward(onward, permit) => {
                    let reply = self.service.forward(&onward, true).await;
                    drop(permit);
                    reply
                }
            };
            timeout(self.idle, stream.write_all(&framed(&reply))).await??;
        }
    }
}

/// What a place needs for UDP.
struct Desk {
    at: Arc<At>,
    socket: Arc<UdpSocket>,
    backlog: Backlog<(Arc<Account>, SocketAddr, Vec<u8>)>,
    penalties: Penalties,
}

impl Desk {
    /// Waits until there is something to read or to answer.
    async fn ready(&self) -> io::Result<()> {
        if self.backlog.is_empty() { self.socket.readable().await } else { Ok(()) }
    }

    /// Reads what is there and answers some of it; false if the socket is in trouble.
    fn turn(&mut self) -> bool {
        let mut buffer = [0; QUERY];
        for _ in 0..READ {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => self.take(&buffer[..length], from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        for _ in 0..ANSWER {
            let Some((account, from, bytes)) = self.backlog.pop() else { break };
            self.answer(&account, from, &bytes);
        }
        true
    }

    /// Puts a datagram into its asker's queue, if that has leave and room.
    fn take(&mut self, bytes: &[u8], from: SocketAddr) {
        let (account, _) = self.at.service.account(&self.at.bridge, from.ip());
        let now = Instant::now();
        let leave = match account.query(now) {
            Leave::Granted => {
                let item = (Arc::clone(&account), from, bytes.to_vec());
                if self.backlog.push(from.ip(), item) {
                    return;
                }
                account.refuse(now)
            }
            refused => refused,
        };
        self.at.service.counters.add(Count::DroppedRate);
        // A kernel that takes no filter leaves things as they are: dropped after reading.
        if leave == Leave::Flood && self.penalties.shut_out(&self.socket, from.ip(), now).is_ok() {
            self.at.service.counters.add(Count::ShutOut);
        }
    }

    fn answer(&self, account: &Account, from: SocketAddr, bytes: &[u8]) {
        match self.at.service.decide(bytes, &self.at.bridge, from.ip(), account, false) {
            Verdict::Silence => {}
            Verdict::Reply(reply) => self.at.send(&self.socket, &reply, from),
            Verdict::Forward(onward, permit) => {
                let socket = Arc::downgrade(&self.socket);
                tokio::spawn(Arc::clone(&self.at).forward(socket, onward, permit, from));
            }
        }
    }

    fn let_in(&mut self) -> bool {
        self.penalties.let_in(&self.socket, Instant::now()).is_ok()
    }

    /// Hands what comes from now on to the next resolver, and answers what has come in already.
    async fn finish(mut self) {
        let handed = socket::hand_over(&*self.socket);
        tracing::debug!(?handed, at = %self.at.address, "closing");
        for _ in 0..LAST {
            while let Some((account, from, bytes)) = self.backlog.pop() {
                self.answer(&account, from, &bytes);
            }
            let wait = timeout(Duration::from_millis(2), self.socket.readable());
            let Ok(Ok(())) = wait.await else { break };
            self.turn();
        }
    }
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
