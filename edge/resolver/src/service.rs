//! What is done with one query, wherever it came in.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use weft_dns::{Answer, NameIndex, answer};

use crate::config::Config;
use crate::counters::{Count, Counters};
use crate::fairness::{Account, Fairness, Permit};
use crate::forward::Forwarder;
use crate::message::{Code, Odd, Request, STREAM};
use crate::upstream::Upstreams;

/// What all listeners share.
#[derive(Debug)]
pub(crate) struct Service {
    names: RwLock<NameIndex>,
    forwarder: Forwarder,
    pub(crate) counters: Counters,
    pub(crate) fairness: Fairness,
}

/// What becomes of a query.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Send this.
    Reply(Vec<u8>),
    /// Send nothing.
    Silence,
    /// Ask others.
    Forward(Box<Onward>, Permit),
}

/// A question that is not ours to answer.
#[derive(Debug)]
pub(crate) struct Onward {
    request: Request,
    /// The resolver in the asker's container.
    inner: Option<SocketAddr>,
    /// Whether the host's servers may be asked.
    upstream: bool,
}

impl Service {
    pub(crate) fn new(config: &Config, names: NameIndex) -> Self {
        let upstreams = Upstreams::new(
            config.resolv_conf.clone(),
            config.upstream_port,
            config.limits.distrust,
        );
        Self {
            names: RwLock::new(names),
            forwarder: Forwarder { upstreams, limits: config.limits.clone() },
            counters: Counters::default(),
            fairness: Fairness::new(&config.limits, Instant::now()),
        }
    }

    pub(crate) fn names(&self) -> RwLockReadGuard<'_, NameIndex> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the names. Queries wait meanwhile: do what takes long before.
    pub(crate) fn change_names<T>(&self, change: impl FnOnce(&mut NameIndex) -> T) -> T {
        change(&mut self.names.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The account of who sends from this address at this bridge; none for strangers over TCP.
    pub(crate) fn account(&self, bridge: &Arc<str>, source: IpAddr) -> (Arc<Account>, bool) {
        let source = source.to_canonical();
        let known = self.names().asker(bridge, source).is_some();
        (self.fairness.account(bridge, source, known, Instant::now()), known)
    }

    /// Decides on one message that has leave. Over a stream replies may be long.
    pub(crate) fn decide(
        &self,
        bytes: &[u8],
        bridge: &str,
        source: IpAddr,
        account: &Account,
        stream: bool,
    ) -> Verdict {
        let request = match Request::read(bytes) {
            Ok(request) => request,
            Err(Odd::Short) => return self.counted(Count::DroppedShort, Verdict::Silence),
            Err(Odd::Response) => return self.counted(Count::DroppedResponse, Verdict::Silence),
            Err(Odd::Malformed(reply)) => {
                return self.counted(Count::Malformed, Verdict::Reply(reply));
            }
            Err(Odd::NotImplemented(reply)) => {
                return self.counted(Count::NotImplemented, Verdict::Reply(reply));
            }
        };
        let limit = if stream { STREAM } else { request.datagram() };
        let found = answer(&self.names(), (bridge, source), &request.query, rand::random());
        let (count, code, records) = match found {
            Answer::Records(records) => (Count::Answered, Code::NoError, records),
            Answer::NoData => (Count::NoData, Code::NoError, Vec::new()),
            Answer::NxDomain => (Count::NoName, Code::NoName, Vec::new()),
            Answer::Refused => (Count::Refused, Code::Refused, Vec::new()),
            Answer::Forward => match self.fairness.forward(account) {
                Some(permit) => return self.onward(request, bridge, source, permit),
                None => (Count::TooManyForwards, Code::Failed, Vec::new()),
            },
        };
        self.counted(count, Verdict::Reply(request.reply(code, &records, limit)))
    }

    fn onward(&self, request: Request, bridge: &str, source: IpAddr, permit: Permit) -> Verdict {
        let names = self.names();
        let asker = names.asker(bridge, source.to_canonical());
        let (inner, upstream) = asker.map_or((None, false), |asker| (asker.inner, asker.forward));
        Verdict::Forward(Box::new(Onward { request, inner, upstream }), permit)
    }

    /// Asks others and makes the reply; a failure (SERVFAIL) if no server answers.
    pub(crate) async fn forward(&self, onward: &Onward, stream: bool) -> Vec<u8> {
        let Onward { request, inner, upstream } = onward;
        let limit = if stream { STREAM } else { request.datagram() };
        let own = |address| self.names().is_gateway(address);
        match self.forwarder.ask(request, stream, (*inner, *upstream), own, &self.counters).await {
            Some(reply) => {
                self.counters.add(Count::Forwarded);
                request.pass(reply, limit)
            }
            None => {
                self.counters.add(Count::UpstreamFailed);
                request.reply(Code::Failed, &[], limit)
            }
        }
    }

    fn counted(&self, count: Count, verdict: Verdict) -> Verdict {
        self.counters.add(count);
        verdict
    }
}
