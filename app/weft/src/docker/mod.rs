//! The front door for Docker: a network driver and an IPAM driver for the engine of this host.
//!
//! ```text
//!  dockerd ── calls on the plugin's socket ──▶ Front ──▶ agent: promise, prepare, hand over
//!     │                                          │
//!     └──── events, lists ──▶ watch ─────────────┘       names, aliases, which network is meant, leftovers
//! ```
//!
//! A driver is told neither the names of networks nor those of containers; Docker tells them to whoever
//! follows its events. Nothing here asks Docker anything while Docker waits for an answer: it holds locks
//! until it has one.
//!
//! No gateway is given to Docker. So it gives each container, except on internal networks, a second
//! interface on its own `docker_gwbridge`: published ports and the way out are Docker's, and shown by it.

mod binding;
mod book;
mod pools;
mod watch;
mod wishes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::{Mutex, Notify};
use weft_docker::engine::Engine;
use weft_docker::plugin::{
    BindError, CreateEndpoint, CreateNetwork, CreatedEndpoint, EndpointAt, Join, Joined, Limits,
    Plugin, Pool, ReleaseAddress, RequestAddress, RequestPool,
};
use weft_model::{Network, NetworkId};

use crate::agent::Agent;
use crate::agent::attachment::Attachment;
use crate::agent::lend::{Prepare, provisional_name};
use crate::agent::refusal::Refusal;
use crate::daemon::Daemon;

use book::{Book, Record, Which};
use pools::{PoolId, Token, gateway_of, with_length};

/// How long an answer may take. Docker itself would wait for ever, and nothing else could be done to the
/// container meanwhile.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a container waits for its network's name to be told.
const BINDING: Duration = Duration::from_secs(3);

/// An address that was promised and not used for so long was forgotten by a dead engine.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// Where the sockets are.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    /// Where Docker looks for the driver; its file name is the driver's name.
    pub(crate) plugin: PathBuf,
    /// Where the engine's API is.
    pub(crate) engine: PathBuf,
    /// Where the engine's root directory is seen.
    pub(crate) root: PathBuf,
}

/// The drivers of one engine.
pub(crate) struct Front {
    daemon: Arc<Daemon>,
    engine: Engine,
    root: PathBuf,
    /// `None` until this host is in a cluster.
    book: Mutex<Option<Book>>,
    /// A network's name was told.
    told: Notify,
    /// One network after the other is told of: two at once would both make it.
    naming: Mutex<()>,
    /// Addresses that were promised, and when. The network may be deleted before they come back.
    promises: std::sync::Mutex<BTreeMap<(PoolId, IpAddr), (NetworkId, Instant)>>,
}

/// Serves the plugin's socket and follows the engine, until the process ends.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) async fn start(daemon: Arc<Daemon>, sockets: &Sockets) -> Result<(), BindError> {
    let listener = weft_docker::plugin::bind(&sockets.plugin).await?;
    let front = Arc::new(Front {
        daemon,
        engine: Engine::new(&sockets.engine),
        root: sockets.root.clone(),
        book: Mutex::new(None),
        told: Notify::new(),
        naming: Mutex::default(),
        promises: std::sync::Mutex::default(),
    });
    tokio::spawn(watch::keep(front.clone()));
    let limits = Limits { call: DEADLINE, ..Limits::default() };
    let served = Served(front);
    tokio::spawn(async move {
        weft_docker::plugin::serve(listener, Arc::new(served), limits, std::future::pending())
            .await;
    });
    Ok(())
}

/// What to tell Docker's user.
fn text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Rejected(rejection) if !rejection.hint.is_empty() => {
            format!("{}: {}; {}", rejection.field, rejection.message, rejection.hint)
        }
        Refusal::Rejected(rejection) => format!("{}: {}", rejection.field, rejection.message),
        Refusal::Fault { fault, .. } if !fault.hint.is_empty() => {
            format!("{refusal}; {}", fault.hint)
        }
        Refusal::Fault { .. } | Refusal::NoServer { .. } | Refusal::Internal(_) => {
            refusal.to_string()
        }
    }
}

impl Front {
    fn agent(&self) -> Result<Arc<Agent>, String> {
        self.daemon.agent().ok_or_else(|| {
            "this host is in no cluster yet: run `weft init` here, or `weft join` with a token"
                .to_owned()
        })
    }

    async fn create_network(&self, request: CreateNetwork) -> Result<(), String> {
        let wish = wishes::read(&request)?;
        let agent = self.agent()?;
        let mut record = Record { wish, name: None, network: None, why: None };
        {
            let mut book = self.book.lock().await;
            let book = loaded(&mut book, &agent).await?;
            if let Some(known) = book.get(&request.id) {
                return if known.wish == record.wish {
                    Ok(())
                } else {
                    Err(format!(
                        "NetworkID: network {} is there already, and another one",
                        request.id
                    ))
                };
            }
            if let Which::Subnets(subnets) = &record.wish.which {
                for subnet in subnets {
                    if let Some((_, other)) = book.of_pool(PoolId::Subnet(*subnet)) {
                        let name = other.name.as_deref().unwrap_or("another network");
                        return Err(format!(
                            "--subnet: this engine has {subnet} already, as '{name}'"
                        ));
                    }
                }
            }
        }
        if let Which::Subnets(subnets) = &record.wish.which {
            record.network = binding::by_subnets(&agent, &record.wish, subnets).await?;
        }
        self.write(&agent, &request.id, record).await
    }

    async fn delete_network(&self, id: String) -> Result<(), String> {
        let agent = self.agent()?;
        let mut book = self.book.lock().await;
        let book = loaded(&mut book, &agent).await?;
        let (store, key) = (agent.store.clone(), book::key(&id));
        let deleted = tokio::task::spawn_blocking(move || store.delete_record(&key)).await;
        deleted.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        book.remove(&id);
        Ok(())
    }

    async fn create_endpoint(&self, request: CreateEndpoint) -> Result<CreatedEndpoint, String> {
        let agent = self.agent()?;
        if request.mac.is_some() {
            return Err("--mac-address: on a Weft network the address decides about the MAC, so \
                        that a used address leaves nothing stale anywhere; leave it out"
                .to_owned());
        }
        let network = self.network_of(&agent, &request.at.network).await?;
        let id = network.id;
        let addresses: Vec<IpAddr> =
            request.v4.into_iter().chain(request.v6).map(|net| net.addr()).collect();
        let wish = Prepare {
            network,
            name: provisional_name(&request.at.endpoint).map_err(|r| text(&r))?,
            addresses: addresses.clone(),
            runtime_network: request.at.network,
            runtime_endpoint: request.at.endpoint,
        };
        let mac = agent.prepare(wish).await.map_err(|refusal| text(&refusal))?;
        self.promises().retain(|(_, address), (of, _)| *of != id || !addresses.contains(address));
        Ok(CreatedEndpoint { mac: Some(mac.0) })
    }

    async fn delete_endpoint(&self, at: EndpointAt) -> Result<(), String> {
        let agent = self.agent()?;
        let of_network = |a: &Attachment| a.lent().is_some_and(|lent| lent.network == at.network);
        let Some(gone) = agent.lent(&at.endpoint).filter(of_network) else { return Ok(()) };
        let removed = agent.remove_attachments(vec![gone.endpoint.id]).await;
        if let Some(sandbox) = gone.lent().and_then(|lent| lent.sandbox.clone()) {
            // Names may have been asked for through the one that went.
            agent.lead_names_soon(sandbox);
        }
        removed.map(|_| ()).map_err(|refusal| text(&refusal))
    }

    async fn join(&self, request: Join) -> Result<Joined, String> {
        let agent = self.agent()?;
        let handed = agent.hand_over(&request.at.endpoint, self.seen_at(&request.sandbox)).await;
        let source_name = handed.map_err(|refusal| text(&refusal))?;
        Ok(Joined { source_name, prefix: "eth".to_owned(), ..Joined::default() })
    }

    /// Where a path of the engine's is seen from here.
    fn seen_at(&self, path: &Path) -> PathBuf {
        // `/var/run` is a link to `/run`, and a link would be followed from this daemon's root.
        let path = path.strip_prefix("/var").unwrap_or(path);
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn request_pool(request: &RequestPool) -> Result<Pool, String> {
        if let Some(unknown) = request.options.keys().next() {
            return Err(format!("--ipam-opt {unknown}: there is no such option; leave it out"));
        }
        if request.sub_pool.is_some_and(|part| Some(part) != request.pool) {
            return Err(
                "--ip-range: Weft leases a subnet's addresses to hosts as they need them; \
                        leave it out"
                    .to_owned(),
            );
        }
        match request.pool {
            Some(subnet) if subnet.trunc() != subnet => Err(format!(
                "--subnet: {subnet} has host bits set; did you mean {}?",
                subnet.trunc()
            )),
            Some(subnet) => Ok(Pool {
                id: PoolId::Subnet(subnet).to_string(),
                pool: subnet,
                data: BTreeMap::new(),
            }),
            // Docker would compare an answer with the host's routes, and ask again for ever.
            None if request.v6 => {
                Err("--ipv6: say which IPv6 subnet, with --subnet; `weft network ls` shows what \
                     networks have"
                    .to_owned())
            }
            None => {
                let token = Token::new(rand::random());
                let gateway =
                    ("com.docker.network.gateway".to_owned(), token.gateway().to_string());
                Ok(Pool {
                    id: PoolId::ByName(token).to_string(),
                    pool: IpNet::default(),
                    data: BTreeMap::from([gateway]),
                })
            }
        }
    }

    async fn request_address(&self, request: RequestAddress) -> Result<IpNet, String> {
        let pool: PoolId = request.pool.parse()?;
        if request.gateway {
            return gateway(pool, request.address);
        }
        let agent = self.agent()?;
        let id = {
            let mut book = self.book.lock().await;
            let found = loaded(&mut book, &agent).await?.of_pool(pool).map(|(id, _)| id.clone());
            found.ok_or_else(|| {
                format!(
                    "PoolID: no network of this engine has pool {pool}; if this is about \
                         --aux-address, leave that out"
                )
            })?
        };
        let network = self.network_of(&agent, &id).await?;
        let v6 = matches!(pool, PoolId::Subnet(IpNet::V6(_)));
        let promised = agent.promise(&network, v6, request.address).await;
        let address = promised.map_err(|refusal| text(&refusal))?;
        self.promises().insert((pool, address), (network.id, Instant::now()));
        let length = network.subnet_of(address).map_or(0, IpNet::prefix_len);
        with_length(address, length)
    }

    async fn release_address(&self, request: ReleaseAddress) -> Result<(), String> {
        let pool: PoolId = request.pool.parse()?;
        let promise = self.promises().remove(&(pool, request.address));
        if let Some((network, _)) = promise {
            retract(&*self.agent()?, network, request.address);
        }
        Ok(())
    }

    /// Gives back what a dead engine was promised.
    fn forget_promises(&self, agent: &Agent) {
        let mut promises = self.promises();
        let old = promises.extract_if(.., |_, (_, since)| since.elapsed() > FORGOTTEN);
        for ((_, address), (network, _)) in old {
            retract(agent, network, address);
        }
    }

    fn promises(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<(PoolId, IpAddr), (NetworkId, Instant)>> {
        self.promises.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The network that this one of the engine's is, as soon as that is known.
    async fn network_of(&self, agent: &Arc<Agent>, id: &str) -> Result<Network, String> {
        let until = tokio::time::Instant::now() + BINDING;
        let mut tried = false;
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let record = {
                let mut book = self.book.lock().await;
                loaded(&mut book, agent).await?.get(id).cloned()
            };
            let record = record.ok_or_else(|| {
                format!("NetworkID: network {id} is not known here; remove and create it again")
            })?;
            if let Some(bound) = record.network {
                return agent.find_network(&bound.name).await.map_err(|refusal| text(&refusal));
            }
            if let (Some(name), false) = (&record.name, tried) {
                // What was in the way when the name was told may be gone: another host was just making
                // the network.
                tried = true;
                let bound = self.on_name(agent, id, name).await;
                tracing::debug!(?bound, "tried again");
                continue;
            }
            if tokio::time::timeout_at(until, told).await.is_err() {
                return Err(self.why_unbound(&record));
            }
        }
    }

    fn why_unbound(&self, record: &Record) -> String {
        let why = record.why.as_deref().unwrap_or("it takes too long; start the container again");
        match &record.name {
            Some(name) => {
                format!("Docker's network '{name}' could not be made a network of Weft's: {why}")
            }
            None => format!(
                "Docker did not say what this network is called: is its API at {}, and may Weft open it?",
                self.engine.path().display()
            ),
        }
    }

    /// Keeps a record, on disk first.
    async fn write(&self, agent: &Arc<Agent>, id: &str, record: Record) -> Result<(), String> {
        let mut book = self.book.lock().await;
        self.write_locked(loaded(&mut book, agent).await?, agent, id, record).await
    }

    /// Keeps what is known of a network by now, unless it was deleted meanwhile.
    async fn rewrite(&self, agent: &Arc<Agent>, id: &str, record: Record) -> Result<(), String> {
        let mut book = self.book.lock().await;
        let book = loaded(&mut book, agent).await?;
        if book.get(id).is_none() {
            return Ok(());
        }
        self.write_locked(book, agent, id, record).await
    }

    /// The book stays locked until the disk has it: of two changes the later is the last there, too.
    async fn write_locked(
        &self,
        book: &mut Book,
        agent: &Arc<Agent>,
        id: &str,
        record: Record,
    ) -> Result<(), String> {
        let bytes = serde_json::to_vec(&record).map_err(|e| e.to_string())?;
        let (store, key) = (agent.store.clone(), book::key(id));
        let written = tokio::task::spawn_blocking(move || store.put_record(&key, &bytes)).await;
        written.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        book.put(id, record);
        self.told.notify_waiters();
        Ok(())
    }
}

fn retract(agent: &Agent, network: NetworkId, address: IpAddr) {
    let network = agent.state().knowledge.rows.networks.get(&network).cloned();
    if let Some(network) = network {
        agent.retract(&network, address);
    }
}

/// The gateway is known without asking anybody.
fn gateway(pool: PoolId, wanted: Option<IpAddr>) -> Result<IpNet, String> {
    match pool {
        PoolId::ByName(token) => Ok(token.gateway()),
        PoolId::Subnet(subnet) => match gateway_of(subnet) {
            Some(first) if wanted.is_none_or(|wanted| wanted == first) => {
                with_length(first, subnet.prefix_len())
            }
            _ => Err(wishes::wrong_gateway(subnet)),
        },
    }
}

/// The book, read from disk the first time.
async fn loaded<'a>(book: &'a mut Option<Book>, agent: &Agent) -> Result<&'a mut Book, String> {
    if book.is_none() {
        let store = agent.store.clone();
        let stored = tokio::task::spawn_blocking(move || store.load()).await;
        let stored = stored.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let records = stored.records.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice()));
        *book = Some(Book::from_disk(records));
    }
    book.as_mut().ok_or_else(|| "the book of networks is not open".to_owned())
}

/// What answers the engine. An answer that comes too late is dropped, but not what it is about: that
/// comes to its end.
struct Served(Arc<Front>);

impl Served {
    async fn whole<T: Send + 'static>(
        &self,
        act: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        tokio::spawn(act).await.map_err(|error| format!("Weft could not answer: {error}"))?
    }
}

impl Plugin for Served {
    async fn create_network(&self, request: CreateNetwork) -> Result<(), String> {
        let front = self.0.clone();
        self.whole(async move { front.create_network(request).await }).await
    }

    async fn delete_network(&self, id: String) -> Result<(), String> {
        let front = self.0.clone();
        self.whole(async move { front.delete_network(id).await }).await
    }

    async fn create_endpoint(&self, request: CreateEndpoint) -> Result<CreatedEndpoint, String> {
        let front = self.0.clone();
        self.whole(async move { front.create_endpoint(request).await }).await
    }

    async fn endpoint_info(&self, at: EndpointAt) -> Result<BTreeMap<String, String>, String> {
        let lent = self.0.agent()?.lent(&at.endpoint);
        let facts = lent.map(|a| {
            BTreeMap::from([
                ("weft.endpoint".to_owned(), a.endpoint.id.to_string()),
                ("weft.link".to_owned(), a.host_end()),
            ])
        });
        Ok(facts.unwrap_or_default())
    }

    async fn delete_endpoint(&self, at: EndpointAt) -> Result<(), String> {
        let front = self.0.clone();
        self.whole(async move { front.delete_endpoint(at).await }).await
    }

    async fn join(&self, request: Join) -> Result<Joined, String> {
        let front = self.0.clone();
        self.whole(async move { front.join(request).await }).await
    }

    /// Docker takes the interface back and deletes the endpoint right after; until then it stays.
    async fn leave(&self, _: EndpointAt) -> Result<(), String> {
        Ok(())
    }

    async fn request_pool(&self, request: RequestPool) -> Result<Pool, String> {
        Front::request_pool(&request)
    }

    /// Nothing is stored of a pool.
    async fn release_pool(&self, id: String) -> Result<(), String> {
        id.parse::<PoolId>().map(|_| ())
    }

    async fn request_address(&self, request: RequestAddress) -> Result<IpNet, String> {
        let front = self.0.clone();
        self.whole(async move { front.request_address(request).await }).await
    }

    async fn release_address(&self, request: ReleaseAddress) -> Result<(), String> {
        let front = self.0.clone();
        self.whole(async move { front.release_address(request).await }).await
    }
}
