//! The agent: runs on every host, turns what it was told into what the kernel and the resolver hold.
//!
//! ```text
//!  local socket ──▶ attach / detach ──┐                        ┌──▶ driver ──▶ kernel
//!                                     ├──▶ knowledge ──▶ view ─┤
//!  servers ───────▶ uplink: rows ─────┘                        └──▶ names ──▶ resolver
//!          ◀─────── uplink: endpoints, applied generation ◀── driver status
//! ```

pub(crate) mod attach;
pub(crate) mod attachment;
pub(crate) mod cooling;
pub(crate) mod detach;
pub(crate) mod driver;
pub(crate) mod facts;
pub(crate) mod inner;
pub(crate) mod keep;
pub(crate) mod knowledge;
pub(crate) mod lease;
pub(crate) mod lend;
pub(crate) mod names;
pub(crate) mod publish;
pub(crate) mod refusal;
pub(crate) mod shortcut;
pub(crate) mod tally;
pub(crate) mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;
use weft_engine::AgentStore;
use weft_model::{ClusterId, EndpointId, NetworkId, NodeId, OffsetSet, Row};
use weft_plan::HostFacts;

use attachment::Attachment;
use cooling::Cooling;
use driver::Driver;
use facts::Look;
use knowledge::Knowledge;
use names::Names;
use shortcut::Shortcut;
use tally::Tally;
use uplink::Uplink;

/// Who this node is; from its certificate.
#[derive(Debug, Clone)]
pub(crate) struct OwnNode {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) data_address: IpAddr,
    pub(crate) vxlan_port: u16,
}

/// The agent. Shared by the local socket, the uplink and the housekeeping task.
pub(crate) struct Agent {
    pub(crate) me: OwnNode,
    pub(crate) driver: Driver,
    pub(crate) uplink: Uplink,
    pub(crate) names: Arc<Names>,
    pub(crate) store: Arc<AgentStore>,
    pub(crate) shortcut: Shortcut,
    /// Has the facts about the host read anew.
    pub(crate) look: Arc<Look>,
    state: Mutex<State>,
}

/// What changes, behind one lock that is never held across a wait.
pub(crate) struct State {
    pub(crate) knowledge: Knowledge,
    pub(crate) cooling: Cooling,
    /// Addresses on their way back to the servers: not given out any more.
    pub(crate) returning: BTreeMap<NetworkId, OffsetSet>,
    pub(crate) facts: HostFacts,
    /// The nodes that the facts tell how to reach.
    facts_peers: BTreeSet<IpAddr>,
    /// What containers here sent and received, as far as it has been read.
    pub(crate) tally: Tally,
    /// When it was read last.
    counted: Option<Instant>,
    /// Networks of which the servers had no address left when last asked.
    pub(crate) exhausted: BTreeSet<NetworkId>,
    /// Chains of others that refuse by a rule, for people to mend.
    pub(crate) refusing: Vec<weft_kernel::DropChain>,
    /// Number of the newest view handed to the driver.
    pub(crate) sequence: u64,
    /// Place of the next attachment in the order of attachment.
    pub(crate) next_order: u64,
    /// Whether a server has sent a snapshot since this process began.
    pub(crate) complete: bool,
    /// What a server refused about an endpoint of ours.
    pub(crate) refused: BTreeMap<EndpointId, weft_state::Rejection>,
}

/// Counters are not read again for an endpoint that goes so soon after they were read.
const COUNTED_JUST_NOW: Duration = Duration::from_millis(250);

/// How long a detach waits for the counters.
const COUNT_ONCE_MORE: Duration = Duration::from_millis(100);

/// What came of reading the counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// Why they could not be read: the tally is as it was.
    pub(crate) error: Option<String>,
    /// How many programs are yet to be attached.
    pub(crate) waiting: usize,
    /// Endpoints of this node whose program should be attached and is not.
    pub(crate) unattached: BTreeSet<EndpointId>,
}

impl Agent {
    /// Brings back what is on disk and hands the first view to the driver.
    pub(crate) fn start(
        me: OwnNode,
        store: Arc<AgentStore>,
        driver: Driver,
        uplink: Uplink,
        names: Arc<Names>,
        shortcut: Shortcut,
        look: Arc<Look>,
    ) -> anyhow::Result<Arc<Self>> {
        let mut knowledge = Knowledge::new(me.node, me.data_address, me.vxlan_port);
        let stored = store.load()?;
        let rows = stored.rows.iter().filter_map(|(key, value)| {
            Row::decode(key, value)
                .inspect_err(|e| tracing::warn!(error = %e, "row on disk left out"))
                .ok()
        });
        knowledge.replace(stored.generation, rows.collect());
        let boot = attach::boot_id();
        let mut next_order = 0;
        let mut returning = BTreeMap::new();
        let mut attachments = Vec::new();
        for (key, bytes) in &stored.records {
            if let Some(network) = key.strip_prefix("returning/") {
                let offsets = String::from_utf8_lossy(bytes).parse();
                if let (Ok(network), Ok(offsets)) = (network.parse(), offsets) {
                    returning.insert(network, offsets);
                }
                continue;
            }
            if !key.starts_with("attachment/") {
                continue;
            }
            match serde_json::from_slice::<Attachment>(bytes) {
                Ok(attachment) => attachments.push(attachment),
                Err(error) => tracing::warn!(%key, %error, "record on disk left out"),
            }
        }
        let links = detach::links_of_lent(attachments.iter())
            .context("cannot read which links the host has")?;
        for attachment in attachments {
            if attachment.is_gone(&boot, &links) {
                tracing::info!(endpoint = %attachment.endpoint.name, "gone while the daemon was away");
                store.delete_record(&attachment.record_key())?;
                continue;
            }
            next_order = next_order.max(attachment.order + 1);
            if let Some(netns) = attachment.netns() {
                driver.register_netns(netns);
            }
            knowledge.attach(attachment);
        }
        let peers = knowledge.peers().clone();
        let facts = weft_linux::facts(me.data_address, shortcut.is_on().then_some(&peers))
            .context("cannot read the host's facts")?;
        let state = State {
            knowledge,
            tally: Tally::default(),
            counted: None,
            cooling: Cooling::default(),
            returning,
            exhausted: BTreeSet::new(),
            refusing: Vec::new(),
            facts,
            facts_peers: peers,
            sequence: 0,
            next_order,
            complete: false,
            refused: BTreeMap::new(),
        };
        let state = Mutex::new(state);
        let agent = Arc::new(Self { me, driver, uplink, names, store, shortcut, look, state });
        agent.replan();
        Ok(agent)
    }

    /// The state, locked. A panic elsewhere must not silence the agent, so poison is ignored:
    /// every change of the state is complete before anything that could panic.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the current view to the driver; returns its number.
    pub(crate) fn replan(&self) -> u64 {
        let mut state = self.state();
        self.replan_locked(&mut state)
    }

    /// [`Self::replan`] for who holds the lock already.
    pub(crate) fn replan_locked(&self, state: &mut State) -> u64 {
        state.sequence += 1;
        self.look_for_peers(state);
        let view = state.knowledge.view(state.facts.clone());
        self.driver.plan(state.sequence, view, state.complete);
        state.sequence
    }

    /// Takes in new facts about the host, with how to reach these peers.
    pub(crate) fn on_facts(&self, facts: HostFacts, peers: BTreeSet<IpAddr>) {
        let mut state = self.state();
        state.facts_peers = peers;
        if state.facts == facts {
            self.look_for_peers(&state);
        } else {
            state.facts = facts;
            self.replan_locked(&mut state);
        }
    }

    /// Has the facts read anew if other peers are there than they tell of.
    fn look_for_peers(&self, state: &State) {
        if self.shortcut.is_on() && state.facts_peers != *state.knowledge.peers() {
            self.look.peers.notify_one();
        }
    }

    /// Has the counters of endpoints that are about to go read, unless they were just read: all of
    /// a host's rules are looked at, which must not be done for each of many that go at once.
    pub(crate) async fn count_once_more(&self) {
        let just_now = self.state().counted.is_some_and(|then| then.elapsed() < COUNTED_JUST_NOW);
        if !just_now {
            self.count(COUNT_ONCE_MORE).await;
        }
    }

    /// Has the kernel's counters read into the tally, within `patience`.
    pub(crate) async fn count(&self, patience: Duration) -> Counted {
        let local = self.state().knowledge.local();
        let links = local.iter().map(|l| l.link.clone()).collect();
        let Some(counters) = self.driver.count(links, patience).await else {
            let error = "the kernel is being programmed: ask again in a moment".to_owned();
            return Counted { error: Some(error), ..Counted::default() };
        };
        let unattached = local.iter().filter(|l| counters.unattached.contains(&l.link));
        let unattached = unattached.map(|l| l.endpoint).collect();
        let error = match &counters.traffic {
            Ok(traffic) => {
                let mut state = self.state();
                let networks = state.knowledge.networks().map(|n| n.id).collect();
                state.tally.take(traffic, &local, &networks);
                state.counted = Some(Instant::now());
                None
            }
            Err(fault) => Some(fault.to_string()),
        };
        Counted { error, waiting: counters.waiting, unattached }
    }

    /// How far the driver is.
    pub(crate) fn progress(&self) -> watch::Receiver<Arc<driver::Progress>> {
        self.driver.progress()
    }
}
