//! The nodes that are connected to this server, and what they last said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::watch;
use tonic::Status;
use weft_engine::Batch;
use weft_model::{ClusterState, Generation, NodeId};
use weft_rpc::{error, wire};
use weft_state::patch_for;

use super::outbox::Outbox;

/// What a node can make a server remember: more is left out.
const MAX_FAULTS: usize = 256;
const MAX_ROUTES: usize = 4096;
const MAX_TEXT: usize = 1024;

/// All nodes that were heard of since this server started.
pub(super) struct Hub {
    nodes: Mutex<BTreeMap<NodeId, Heard>>,
    /// Moves whenever a node connects, disconnects or has applied something.
    news: watch::Sender<()>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { nodes: Mutex::default(), news: watch::Sender::new(()) }
    }
}

/// What was heard of one node.
#[derive(Default)]
struct Heard {
    outbox: Option<Arc<Outbox>>,
    version: String,
    applied: Generation,
    faults: Vec<wire::ObjectFault>,
    routes: Vec<(IpNet, String)>,
}

/// How it stands with one node.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) connected: bool,
    pub(super) version: String,
    pub(super) wanted: Generation,
    pub(super) applied: Generation,
    pub(super) faults: Vec<wire::ObjectFault>,
}

/// Whether a node has applied a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Applied,
    Behind,
    Disconnected,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Heard>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_news(&self) {
        self.news.send_modify(|()| {});
    }

    /// Tells when to look at [`Self::progress`] again.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The node follows from now on through `outbox`. An older connection of it ends.
    pub(super) fn connect(&self, node: NodeId, outbox: Arc<Outbox>) {
        let mut nodes = self.lock();
        let heard = nodes.entry(node).or_default();
        // What it has applied it will say again, and what it said before may be of another life.
        heard.applied = Generation::default();
        heard.faults.clear();
        if let Some(older) = heard.outbox.replace(outbox) {
            older.fail(error::superseded());
        }
        drop(nodes);
        self.tell_news();
    }

    /// The connection is gone, unless it was replaced by a newer one already.
    pub(super) fn disconnect(&self, node: NodeId, outbox: &Arc<Outbox>) {
        let mut nodes = self.lock();
        if let Some(heard) = nodes.get_mut(&node) {
            heard.outbox.take_if(|current| Arc::ptr_eq(current, outbox));
        }
        drop(nodes);
        self.tell_news();
    }

    /// Takes in a report that came on the connection of `outbox`.
    pub(super) fn report(&self, node: NodeId, outbox: &Arc<Outbox>, report: wire::Report) {
        let mut nodes = self.lock();
        let Some(heard) = nodes.get_mut(&node) else { return };
        if !heard.outbox.as_ref().is_some_and(|current| Arc::ptr_eq(current, outbox)) {
            return;
        }
        match report.kind {
            Some(wire::report::Kind::Hello(hello)) => heard.version = cut(hello.version),
            Some(wire::report::Kind::Applied(applied)) => {
                heard.applied = Generation(applied.generation);
                let faults = applied.faults.into_iter().take(MAX_FAULTS);
                heard.faults = faults.map(cut_fault).collect();
            }
            Some(wire::report::Kind::HostRoutes(routes)) => {
                let routes = routes.routes.into_iter().take(MAX_ROUTES);
                let parsed = routes.filter_map(|r| Some((r.prefix.parse().ok()?, cut(r.link))));
                heard.routes = parsed.collect();
            }
            None => {}
        }
        drop(nodes);
        self.tell_news();
    }

    /// Gives every connected node what `batch` changes for it. Called under the lock of the
    /// state, so that a node's snapshot contains either all of a commit or nothing.
    pub(super) fn tell(&self, before: &ClusterState, after: &ClusterState, batch: &Batch) {
        for (node, heard) in self.lock().iter() {
            if let Some(outbox) = &heard.outbox {
                outbox.push(batch.revision, patch_for(before, after, &batch.changes, *node));
            }
        }
    }

    /// Asks `node` for addresses; false when it is not connected.
    pub(super) fn recall(&self, node: NodeId, recall: wire::Recall) -> bool {
        let nodes = self.lock();
        let outbox = nodes.get(&node).and_then(|heard| heard.outbox.as_ref());
        outbox.inspect(|outbox| outbox.recall(recall)).is_some()
    }

    /// Ends the node's connection.
    pub(super) fn close(&self, node: NodeId, why: Status) {
        if let Some(outbox) = self.lock().get_mut(&node).and_then(|heard| heard.outbox.take()) {
            outbox.fail(why);
        }
        self.tell_news();
    }

    /// Ends all connections: each node begins anew with a snapshot.
    pub(super) fn relist_all(&self) {
        for heard in self.lock().values_mut() {
            if let Some(outbox) = heard.outbox.take() {
                outbox.fail(error::relist());
            }
        }
        self.tell_news();
    }

    /// Ends all connections because the server stops.
    pub(super) fn close_all(&self) {
        for heard in self.lock().values_mut() {
            if let Some(outbox) = heard.outbox.take() {
                outbox.close();
            }
        }
        self.tell_news();
    }

    /// Whether `node` has applied everything up to `generation` that concerns it.
    pub(super) fn progress(&self, node: NodeId, generation: Generation) -> Progress {
        let nodes = self.lock();
        let Some((heard, outbox)) =
            nodes.get(&node).and_then(|heard| Some((heard, heard.outbox.as_ref()?)))
        else {
            return Progress::Disconnected;
        };
        // A generation that does not concern the node never reaches it: then having applied all
        // it was told is enough.
        let all = outbox.wanted().is_some_and(|wanted| heard.applied >= wanted);
        if heard.applied >= generation || all { Progress::Applied } else { Progress::Behind }
    }

    /// How it stands with `node`.
    pub(super) fn standing(&self, node: NodeId) -> Standing {
        let nodes = self.lock();
        let Some(heard) = nodes.get(&node) else { return Standing::default() };
        Standing {
            connected: heard.outbox.is_some(),
            version: heard.version.clone(),
            wanted: heard.outbox.as_ref().and_then(|o| o.wanted()).unwrap_or_default(),
            applied: heard.applied,
            faults: heard.faults.clone(),
        }
    }

    /// The routes of the hosts, each with where it was seen; `name` says what a node is called,
    /// and `None` for nodes that do not count any more.
    pub(super) fn routes(&self, name: impl Fn(NodeId) -> Option<String>) -> Vec<(IpNet, String)> {
        let nodes = self.lock();
        let named = nodes.iter().filter_map(|(id, heard)| Some((name(*id)?, heard)));
        named
            .flat_map(|(name, heard)| {
                let seen = move |link: &str| format!("node '{name}', link {link}");
                heard.routes.iter().map(move |(prefix, link)| (*prefix, seen(link)))
            })
            .collect()
    }
}

fn cut_fault(fault: wire::ObjectFault) -> wire::ObjectFault {
    let wire::ObjectFault { object, message, hint } = fault;
    wire::ObjectFault { object: cut(object), message: cut(message), hint: cut(hint) }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_TEXT).last();
        text.truncate(end.unwrap_or(0));
    }
    text
}
