//! The driver: a thread of its own that plans, asks the reconciler what to do next, does it to the
//! kernel and publishes how far it is.
//!
//! A thread, because netlink and namespaces are synchronous, and so that a slow kernel never
//! stalls the sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use weft_dns::NameTable;
use weft_kernel::{
    Attach, Fault, FaultKind, KernelState, Key, Netns, NetnsId, Scope, Section, ShortcutKey,
    Traffic,
};
use weft_linux::{Event, Linux};
use weft_model::Generation;
use weft_plan::{Planner, View};
use weft_reconcile::{Damage, Do, Machine, Observed, Repair};

use super::attachment::NetnsRef;
use super::keep::{has_unknown_network, keep_what_is};

/// How far the kernel is, for everybody who waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Number of the newest view that has been applied, but for the faults.
    pub(crate) sequence: u64,
    /// The cluster generation of that view.
    pub(crate) generation: Generation,
    /// Number of the newest view that is wanted.
    pub(crate) wanted_sequence: u64,
    /// The cluster generation of it.
    pub(crate) wanted_generation: Generation,
    /// What the kernel refused.
    pub(crate) faults: Vec<ObjectFault>,
    /// What others changed and was put right, newest last.
    pub(crate) repairs: Vec<String>,
    /// How many repairs there were since the daemon began.
    pub(crate) repairs_total: u64,
    /// How many objects are wanted.
    pub(crate) objects: usize,
}

/// An object that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectFault {
    pub(crate) key: Key,
    pub(crate) fault: Fault,
}

/// The names of a view, for the resolver.
#[derive(Debug, Clone, Default)]
pub(crate) struct WantedNames {
    /// Number of the view.
    pub(crate) sequence: u64,
    /// The cluster generation of it.
    pub(crate) generation: Generation,
    /// The names.
    pub(crate) table: Arc<NameTable>,
}

/// A pair to be made whose other end a container runtime will take.
#[derive(Debug, Clone)]
pub(crate) struct Lend {
    /// The host's end.
    pub(crate) link: String,
    /// The other one, in the host's namespace until it is taken.
    pub(crate) peer: String,
    /// The other one's MAC.
    pub(crate) peer_mac: [u8; 6],
}

enum Message {
    Lend(Lend),
    Plan { sequence: u64, view: Box<View>, complete: bool },
    RegisterNetns(NetnsRef),
    KeepNetns(Vec<NetnsId>),
    Event(Event),
    Objects { asked: Asked, answer: oneshot::Sender<Vec<ObjectState>> },
    Count { links: Vec<String>, answer: oneshot::Sender<Counters> },
    Stop,
}

/// Which objects somebody asks about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// Everything in these.
    pub(crate) sections: BTreeSet<Section>,
    /// And these, as far as they are wanted.
    pub(crate) keys: BTreeSet<Key>,
}

/// One object as `weft endpoint inspect` shows it.
#[derive(Debug, Clone)]
pub(crate) struct ObjectState {
    pub(crate) line: String,
    pub(crate) present: bool,
    pub(crate) fault: Option<String>,
}

/// What the kernel has counted, and who is not counted on the shortcut.
#[derive(Debug)]
pub(crate) struct Counters {
    /// The counters.
    pub(crate) traffic: Result<Traffic, Fault>,
    /// How many programs are yet to be attached.
    pub(crate) waiting: usize,
    /// The links among those asked about whose program should be attached and is not.
    pub(crate) unattached: BTreeSet<String>,
}

/// The handle to the thread.
pub(crate) struct Driver {
    messages: Sender<Message>,
    progress: watch::Receiver<Arc<Progress>>,
    names: watch::Receiver<WantedNames>,
}

impl Driver {
    /// Starts the thread. `linux` is already open in the host's namespace.
    pub(crate) fn start(
        linux: Linux,
        on_host_change: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (messages, inbox) = channel();
        let (progress_in, progress) = watch::channel(Arc::new(Progress::default()));
        let (names_in, names) = watch::channel(WantedNames::default());
        let events = messages.clone();
        let watcher = linux
            .watch(move |event| {
                if matches!(event, Event::HostChanged) {
                    on_host_change();
                } else if events.send(Message::Event(event)).is_err() {
                    // The driver has stopped; so will the watcher.
                }
            })
            .map_err(std::io::Error::other)?;
        std::thread::Builder::new().name("driver".to_owned()).spawn(move || {
            let _watcher = watcher;
            Loop {
                linux,
                planner: Planner::default(),
                machine: Machine::new(weft_reconcile::Config::default()),
                inbox,
                progress: progress_in,
                names: names_in,
                generations: BTreeMap::new(),
                lends: Vec::new(),
                wanted: KernelState::new(),
                begun: Instant::now(),
                seen: false,
            }
            .run();
        })?;
        Ok(Self { messages, progress, names })
    }

    /// Hands over a view. Only the newest one counts. Until it is `complete`, nothing that
    /// other nodes need is deleted.
    pub(crate) fn plan(&self, sequence: u64, view: View, complete: bool) {
        self.send(Message::Plan { sequence, view: Box::new(view), complete });
    }

    /// Makes a namespace known, before the first plan that mentions it.
    pub(crate) fn register_netns(&self, netns: &NetnsRef) {
        self.send(Message::RegisterNetns(netns.clone()));
    }

    /// Has a pair made as soon as a plan has its host's end, and before anything of that is done:
    /// to be called before the plan is handed over.
    pub(crate) fn lend(&self, lend: Lend) {
        self.send(Message::Lend(lend));
    }

    /// Forgets all namespaces but these.
    pub(crate) fn keep_netns(&self, live: Vec<NetnsId>) {
        self.send(Message::KeepNetns(live));
    }

    /// Wanted objects, with what is wrong with them.
    pub(crate) async fn objects(&self, asked: Asked) -> Vec<ObjectState> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Objects { asked, answer });
        answered.await.unwrap_or_default()
    }

    /// What the kernel has counted, and which of these links lack their program; `None` when the
    /// thread, which may be about a long list of steps, does not answer within `patience`.
    pub(crate) async fn count(&self, links: Vec<String>, patience: Duration) -> Option<Counters> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Count { links, answer });
        tokio::time::timeout(patience, answered).await.ok()?.ok()
    }

    /// How far the kernel is.
    pub(crate) fn progress(&self) -> watch::Receiver<Arc<Progress>> {
        self.progress.clone()
    }

    /// The newest names.
    pub(crate) fn names(&self) -> watch::Receiver<WantedNames> {
        self.names.clone()
    }

    /// Waits until view `sequence` has been applied; `None` when it takes longer than `deadline`.
    pub(crate) async fn applied(&self, sequence: u64, deadline: Duration) -> Option<Arc<Progress>> {
        let mut progress = self.progress.clone();
        let wait = progress.wait_for(|p| p.sequence >= sequence);
        match tokio::time::timeout(deadline, wait).await {
            Ok(Ok(progress)) => Some(progress.clone()),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Ends the thread. The kernel stays as it is.
    pub(crate) fn stop(&self) {
        self.send(Message::Stop);
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::error!("the driver has stopped; the kernel is not kept up to date any more");
        }
    }
}

struct Loop {
    linux: Linux,
    planner: Planner,
    machine: Machine,
    inbox: Receiver<Message>,
    progress: watch::Sender<Arc<Progress>>,
    names: watch::Sender<WantedNames>,
    /// The cluster generation of each view that is not yet applied.
    generations: BTreeMap<u64, Generation>,
    /// Pairs to be made once they are planned.
    lends: Vec<Lend>,
    wanted: KernelState,
    begun: Instant,
    /// Whether everything has been read once.
    seen: bool,
}

impl Loop {
    fn run(mut self) {
        // No look at the kernel before the first plan: by then all namespaces are known. A veth whose
        // other end lies in an unknown one would look like somebody else's, and be made anew.
        let mut wait = None;
        loop {
            if !self.take_messages(wait) {
                return;
            }
            if self.generations.is_empty() && self.wanted.is_empty() {
                continue;
            }
            wait = match self.machine.poll(self.now()) {
                Do::Observe(scope) => {
                    self.observe(scope);
                    Some(Duration::ZERO)
                }
                Do::Apply(steps) => {
                    let results = self.linux.apply(&steps);
                    self.log_faults(&steps, &results);
                    self.machine.on_applied(steps, results, self.now());
                    Some(Duration::ZERO)
                }
                Do::Sleep(until) => {
                    until.map(|until| Duration::from_millis(until.saturating_sub(self.now())))
                }
            };
            self.publish();
        }
    }

    /// Milliseconds since the thread began.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes in everything that has arrived, waiting for the first for `wait` at most (`None`: as
    /// long as it takes). False when the agent is gone.
    fn take_messages(&mut self, wait: Option<Duration>) -> bool {
        let first = match wait {
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => self.inbox.recv_timeout(wait),
        };
        let mut newest = None;
        let mut next = match first {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        while let Some(message) = next {
            match message {
                Message::Plan { sequence, view, complete } => {
                    newest = Some((sequence, view, complete))
                }
                Message::RegisterNetns(netns) => {
                    if let Err(fault) = self.linux.register_netns(&netns.path) {
                        tracing::warn!(path = %netns.path.display(), %fault, "namespace not found");
                    }
                }
                Message::Lend(lend) => {
                    self.lends.retain(|other| other.link != lend.link);
                    self.lends.push(lend);
                }
                Message::KeepNetns(live) => self.linux.keep_netns(&live),
                Message::Event(Event::Dirty(scope)) => self.machine.on_dirty(scope),
                Message::Event(Event::Overrun) => self.machine.on_overrun(),
                Message::Event(Event::HostChanged) => {}
                // Whoever asked may have gone away meanwhile.
                Message::Objects { asked, answer } => drop(answer.send(self.objects(&asked))),
                Message::Count { links, answer } => drop(answer.send(self.count(links))),
                Message::Stop => return false,
            }
            next = self.inbox.try_recv().ok();
        }
        if let Some((sequence, view, complete)) = newest {
            self.plan(sequence, &view, complete);
        }
        true
    }

    fn plan(&mut self, sequence: u64, view: &View, complete: bool) {
        if !complete && !self.seen {
            self.observe(Scope::All);
        }
        let plan = self.planner.plan(view);
        self.wanted = plan.kernel.clone();
        self.make_lends();
        let want = if complete {
            plan.kernel
        } else {
            keep_what_is(plan.kernel, self.machine.have(), has_unknown_network(view))
        };
        self.generations.insert(sequence, plan.generation);
        self.machine.on_plan(want, sequence);
        self.names.send_replace(WantedNames {
            sequence,
            generation: plan.generation,
            table: plan.names,
        });
    }

    /// One that cannot be made is a fault of its link, which cannot be put then.
    fn make_lends(&mut self) {
        for lend in std::mem::take(&mut self.lends) {
            let key = Key::Link(Netns::Host, lend.link.clone());
            let Some(weft_kernel::Object::Link(link)) = self.wanted.get(&key) else {
                self.lends.push(lend);
                continue;
            };
            if let Err(fault) = self.linux.lend(&lend.link, &lend.peer, link, lend.peer_mac) {
                tracing::warn!(link = %lend.link, %fault, "not made");
            }
            self.machine.on_dirty(Scope::Cheap);
        }
    }

    fn observe(&mut self, scope: Scope) {
        match self.linux.observe(&scope) {
            Ok(state) => {
                self.seen = self.seen || scope == Scope::All;
                self.machine.on_observed(Observed { scope, state });
            }
            Err(fault) => {
                tracing::warn!(%fault, "the kernel could not be read");
                self.machine.on_observe_failed(scope, self.now());
            }
        }
    }

    fn log_faults(&self, steps: &[weft_kernel::Step], results: &[Result<(), Fault>]) {
        for (step, result) in steps.iter().zip(results) {
            if let Err(fault) = result {
                let gone = fault.kind == FaultKind::NetnsGone;
                if !gone {
                    tracing::warn!(object = %step.key(), %fault, "the kernel refused");
                }
            }
        }
    }

    fn objects(&self, asked: &Asked) -> Vec<ObjectState> {
        let status = self.machine.status();
        let whole = asked.sections.iter().filter_map(|section| self.wanted.section(section));
        let whole = whole.flat_map(|objects| objects.iter());
        let single = asked.keys.iter().filter_map(|key| Some((key, self.wanted.get(key)?)));
        let state = |(key, object): (&Key, &weft_kernel::Object)| {
            let fault = status.faults.iter().find(|f| f.key == *key);
            ObjectState {
                line: weft_kernel::text::line(key, object),
                present: self.machine.have().get(key) == Some(object),
                fault: fault.map(|f| f.fault.to_string()),
            }
        };
        whole.chain(single).map(state).collect()
    }

    fn count(&mut self, links: Vec<String>) -> Counters {
        let unattached = |link: &String| {
            let program = ShortcutKey::Program(link.clone(), Attach::FromContainer);
            let program = Key::Shortcut(program);
            self.wanted.get(&program).is_some() && self.machine.have().get(&program).is_none()
        };
        Counters {
            unattached: links.into_iter().filter(unattached).collect(),
            waiting: self.machine.status().late,
            traffic: self.linux.traffic(),
        }
    }

    fn publish(&mut self) {
        let status = self.machine.status();
        let sequence = status.generation_applied.unwrap_or_default();
        let wanted_sequence = status.generation_wanted.unwrap_or_default();
        let generation = self.generations.get(&sequence).copied();
        let wanted_generation = self.generations.get(&wanted_sequence).copied();
        self.generations.retain(|s, _| *s >= sequence);
        let objects = self.wanted.len();
        let faults = status.faults.into_iter();
        let faults: Vec<ObjectFault> =
            faults.map(|f| ObjectFault { key: f.key, fault: f.fault }).collect();
        self.progress.send_if_modified(|current| {
            let same = current.sequence == sequence
                && current.wanted_sequence == wanted_sequence
                && current.repairs_total == status.repaired
                && current.faults == faults;
            if same {
                return false;
            }
            *current = Arc::new(Progress {
                sequence,
                generation: generation.unwrap_or(current.generation),
                wanted_sequence,
                wanted_generation: wanted_generation.unwrap_or(current.wanted_generation),
                faults,
                repairs: status.repairs.iter().map(repair_line).collect(),
                repairs_total: status.repaired,
                objects,
            });
            true
        });
    }
}

/// What was wrong where, in a line.
fn repair_line(repair: &Repair) -> String {
    let damage = match repair.damage {
        Damage::Missing => "was taken away",
        Damage::Changed => "was changed",
        Damage::Unexpected => "was not ours to have",
    };
    format!("{}: {damage}", repair.key)
}
