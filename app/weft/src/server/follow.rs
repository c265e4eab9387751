//! One node's stream: what it needs to know goes out, what it has done with it comes in.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Status, Streaming};
use weft_rpc::{NodeIdentity, error, wire};

use super::outbox::{Next, Outbox, update};
use super::{Server, now};

pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<wire::Update, Status>> + Send>>;

impl Server {
    /// Begins a stream for `node`.
    pub(super) fn follow(
        self: &Arc<Self>,
        node: &NodeIdentity,
        mut reports: Streaming<wire::Report>,
    ) -> Updates {
        let outbox = Arc::new(Outbox::new(node.id, self.settings.backlog));
        self.hub.connect(node.id, Arc::clone(&outbox));
        // Between the access table and here, the node may have been removed: then nobody else
        // closes this stream.
        if self.replica.read(|state| state.nodes.get(&node.id).is_none_or(|n| n.removed)) {
            outbox.fail(error::removed("this node was removed from the cluster", ""));
        }
        let reader = tokio::spawn({
            let (server, outbox, id) = (Arc::clone(self), Arc::clone(&outbox), node.id);
            async move {
                while let Ok(Some(report)) = reports.message().await {
                    server.hub.report(id, &outbox, report);
                }
                outbox.close();
            }
        });
        let left = Duration::from_secs(node.not_after.saturating_sub(now()));
        let following = Following {
            server: Arc::clone(self),
            node: node.clone(),
            outbox,
            reader: reader.abort_handle(),
            // The certificate's end is seconds exact, and good through its last one.
            until: Instant::now() + left + Duration::from_secs(1),
            ended: false,
        };
        Box::pin(futures_util::stream::unfold(following, |mut following| async {
            following.next().await.map(|update| (update, following))
        }))
    }
}

struct Following {
    server: Arc<Server>,
    node: NodeIdentity,
    outbox: Arc<Outbox>,
    reader: AbortHandle,
    until: Instant,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Result<wire::Update, Status>> {
        if self.ended {
            return None;
        }
        let heartbeat = sleep(self.server.settings.heartbeat);
        tokio::pin!(heartbeat);
        loop {
            let replica = &self.server.replica;
            match self.outbox.next(|look| replica.read(|state| look(state))) {
                Next::Send(update) => return Some(Ok(update)),
                Next::End => return None,
                Next::Fail(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
                Next::Wait => {}
            }
            tokio::select! {
                () = self.outbox.woken() => {}
                () = &mut heartbeat => {
                    let beat = wire::update::Kind::Heartbeat(wire::Heartbeat {});
                    return Some(Ok(update(beat)));
                }
                () = sleep_until(self.until) => {
                    self.ended = true;
                    return Some(Err(error::unauthenticated(
                        "the certificate of this connection has ended",
                        "connect again with a renewed one",
                    )));
                }
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.reader.abort();
        self.server.hub.disconnect(self.node.id, &self.outbox);
    }
}
