//! The sockets that should be open, and the ones that are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::place::At;
use crate::service::Service;
use crate::socket;

/// A bridge and a gateway's address on it.
pub(crate) type Place = (String, IpAddr);

/// All places where queries come in.
#[derive(Debug)]
pub(crate) struct Listeners {
    service: Arc<Service>,
    port: u16,
    idle: Duration,
    open: BTreeMap<Place, Open>,
    /// Why the others are not open.
    errors: BTreeMap<Place, String>,
    stopping: watch::Sender<bool>,
}

#[derive(Debug)]
struct Open {
    /// The bridge's index when the sockets were bound: a bridge made anew has another, and the old
    /// sockets would stay silent.
    index: u32,
    udp: JoinHandle<()>,
    tcp: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.udp.abort();
        self.tcp.abort();
    }
}

impl Listeners {
    pub(crate) fn new(service: Arc<Service>, port: u16, idle: Duration) -> Self {
        let stopping = watch::Sender::new(false);
        Self { service, port, idle, open: BTreeMap::new(), errors: BTreeMap::new(), stopping }
    }

    /// Opens and closes sockets until they are as the table says. What cannot be opened yet is
    /// tried again at the next call.
    pub(crate) fn settle(&mut self) {
        let names = self.service.names();
        let wanted: BTreeSet<Place> =
            names.listeners().map(|(bridge, gateway)| (bridge.to_owned(), gateway)).collect();
        drop(names);
        let mut bridges: BTreeMap<String, Option<u32>> = BTreeMap::new();
        for (bridge, _) in &wanted {
            let index = || if_nametoindex(bridge.as_str()).ok();
            bridges.entry(bridge.clone()).or_insert_with(index);
        }
        let index = |bridge: &str| bridges.get(bridge).copied().flatten();
        self.open
            .retain(|place, open| wanted.contains(place) && index(&place.0) == Some(open.index));
        let mut errors = BTreeMap::new();
        for place in
            wanted.into_iter().filter(|place| !self.open.contains_key(place)).collect::<Vec<_>>()
        {
            let opened = match index(&place.0) {
                Some(index) => {
                    self.open_at(&place, index).map_err(|error| explain(&place, self.port, &error))
                }
                None => Err(format!("bridge {} does not exist yet", place.0)),
            };
            match opened {
                Ok(open) => {
                    tracing::info!(bridge = place.0, address = %place.1, "answering");
                    self.open.insert(place, open);
                }
                Err(error) => {
                    if self.errors.get(&place) != Some(&error) {
                        tracing::warn!(bridge = place.0, address = %place.1, error, "not answering");
                    }
                    errors.insert(place, error);
                }
            }
        }
        self.errors = errors;
    }

    /// Why some places are not open.
    pub(crate) fn errors(&self) -> &BTreeMap<Place, String> {
        &self.errors
    }

    /// How many places are open.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Answers what has come in already, and closes all sockets.
    pub(crate) async fn close(&mut self) {
        self.stopping.send_replace(true);
        for (_, mut open) in std::mem::take(&mut self.open) {
            // A task ends only early or by a panic, and either way its socket is closed.
            let _ended = (&mut open.udp).await;
            let _ended = (&mut open.tcp).await;
        }
    }

    fn open_at(&self, (bridge, gateway): &Place, index: u32) -> io::Result<Open> {
        let address = SocketAddr::new(*gateway, self.port);
        let place = Arc::new(At {
            service: Arc::clone(&self.service),
            bridge: bridge.as_str().into(),
            address,
            idle: self.idle,
        });
        let streams = socket::streams(bridge, address)?;
        let datagrams = Arc::new(socket::datagrams(bridge, address)?);
        let udp = Arc::clone(&place).datagrams(datagrams, self.stopping.subscribe());
        Ok(Open {
            index,
            udp: tokio::spawn(udp),
            tcp: tokio::spawn(place.streams(streams, self.stopping.subscribe())),
        })
    }
}

/// An error in words that help.
fn explain((bridge, gateway): &Place, port: u16, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "port {port} of {gateway} is taken by another program: let it listen at addresses of \
             its own, not at all of them (see: ss -lpn 'sport = {port}')"
        ),
        Some(libc::EPERM) => {
            format!(
                "binding to {bridge} is not permitted: it takes CAP_NET_RAW and CAP_NET_BIND_SERVICE"
            )
        }
        _ => format!("cannot listen at {gateway} on {bridge}: {error}"),
    }
}
