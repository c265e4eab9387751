//! The table, ordered by what is asked: nothing is scanned per query, and a change costs as much
//! as it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Asker, Delta, NameTable, NetworkChange, NetworkNames, Patch, Record};

/// A [`NameTable`], ready to answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameIndex {
    generation: u64,
    networks: BTreeMap<String, NetworkIndex>,
    askers: BTreeMap<String, BTreeMap<IpAddr, Arc<Asker>>>,
}

/// The names of one network, by name and by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkIndex {
    bridge: String,
    gateways: Vec<IpAddr>,
    pub(crate) subnets: Vec<IpNet>,
    internal: bool,
    names: Multimap<String>,
    addresses: Multimap<IpAddr>,
}

/// Which records stand under a key. The order within a key means nothing; it is kept sorted, so
/// that two indexes of the same table are equal however they came about.
type Multimap<K> = BTreeMap<K, Vec<Arc<Record>>>;

/// A patch that does not belong to this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the change does not fit the names at hand ({0}): hand over the whole table")]
pub struct Misfit(pub String);

impl NameIndex {
    /// The index of a table.
    pub fn new(table: &NameTable) -> Self {
        let networks = table.networks.iter();
        let mut index = Self {
            generation: table.generation,
            networks: networks.map(|(name, net)| (name.clone(), NetworkIndex::new(net))).collect(),
            askers: BTreeMap::new(),
        };
        for asker in &table.askers {
            index.add_asker(asker);
        }
        index
    }

    /// How far the cluster rows in it have advanced.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many networks it knows.
    pub fn networks(&self) -> usize {
        self.networks.len()
    }

    /// How many addresses have names.
    pub fn addresses(&self) -> usize {
        self.networks.values().map(|network| network.addresses.len()).sum()
    }

    /// Where queries come in: (bridge, gateway address).
    pub fn listeners(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.networks.values().flat_map(|network| {
            network.gateways.iter().map(|gateway| (network.bridge.as_str(), *gateway))
        })
    }

    /// Whether queries sent to this address come back here.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.networks.values().any(|network| network.gateways.contains(&address))
    }

    /// Who sends from this address at this bridge.
    pub fn asker(&self, bridge: &str, source: IpAddr) -> Option<&Asker> {
        self.askers.get(bridge)?.get(&source).map(Arc::as_ref)
    }

    pub(crate) fn network(&self, name: &str) -> Option<&NetworkIndex> {
        self.networks.get(name)
    }

    /// Changes the index as the patch says.
    ///
    /// # Errors
    /// If the patch removes or changes what is not here. The index is then half changed: throw it
    /// away and build it from a whole table.
    pub fn apply(&mut self, patch: Patch) -> Result<(), Misfit> {
        for (name, change) in patch.networks {
            match change {
                NetworkChange::Gone => {
                    let gone = self.networks.remove(&name);
                    gone.ok_or_else(|| Misfit(format!("network {name} is not known")))?;
                }
                NetworkChange::Whole(network) => {
                    self.networks.insert(name, NetworkIndex::new(&network));
                }
                NetworkChange::Records(delta) => {
                    let network = self.networks.get_mut(&name);
                    let network =
                        network.ok_or_else(|| Misfit(format!("network {name} is not known")))?;
                    network.change(delta)?;
                }
            }
        }
        for asker in &patch.askers.removed {
            self.remove_asker(asker)?;
        }
        for asker in &patch.askers.added {
            self.add_asker(asker);
        }
        self.generation = patch.generation;
        Ok(())
    }

    fn add_asker(&mut self, asker: &Asker) {
        let shared = Arc::new(asker.clone());
        let at = self.askers.entry(asker.bridge.clone()).or_default();
        for address in &asker.addresses {
            at.insert(*address, Arc::clone(&shared));
        }
    }

    fn remove_asker(&mut self, asker: &Asker) -> Result<(), Misfit> {
        let misfit = || Misfit(format!("nobody asks at {} as {asker:?}", asker.bridge));
        if asker.addresses.is_empty() {
            return Ok(());
        }
        let at = self.askers.get_mut(&asker.bridge).ok_or_else(misfit)?;
        for address in &asker.addresses {
            at.remove(address).filter(|known| **known == *asker).ok_or_else(misfit)?;
        }
        if at.is_empty() {
            self.askers.remove(&asker.bridge);
        }
        Ok(())
    }
}

impl NetworkIndex {
    fn new(network: &NetworkNames) -> Self {
        let mut index = Self {
            bridge: network.bridge.clone(),
            gateways: network.gateways.clone(),
            subnets: network.subnets.clone(),
            internal: network.internal,
            names: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        for record in &network.records {
            index.add(Arc::new(record.clone()));
        }
        index
    }

    /// The endpoints of this name; none if nobody has it.
    pub(crate) fn named(&self, name: &str) -> Option<&[Arc<Record>]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// The endpoints of this address.
    pub(crate) fn at(&self, address: IpAddr) -> &[Arc<Record>] {
        self.addresses.get(&address).map_or(&[], Vec::as_slice)
    }

    fn change(&mut self, delta: Delta<Record>) -> Result<(), Misfit> {
        for record in &delta.removed {
            self.remove(record)?;
        }
        for record in delta.added {
            self.add(Arc::new(record));
        }
        Ok(())
    }

    fn add(&mut self, record: Arc<Record>) {
        for name in &record.names {
            insert(&mut self.names, name.clone(), &record);
        }
        for address in &record.addresses {
            insert(&mut self.addresses, *address, &record);
        }
    }

    fn remove(&mut self, record: &Record) -> Result<(), Misfit> {
        let here = record.names.iter().all(|name| take(&mut self.names, name, record))
            && record.addresses.iter().all(|address| take(&mut self.addresses, address, record));
        here.then_some(()).ok_or_else(|| Misfit(format!("{record:?} is not known")))
    }
}

fn insert<K: Ord>(map: &mut Multimap<K>, key: K, record: &Arc<Record>) {
    let records = map.entry(key).or_insert_with(|| Vec::with_capacity(1));
    let place = records.partition_point(|other| other < record);
    records.insert(place, Arc::clone(record));
}

/// Takes one such record away; false if there is none.
fn take<K: Ord>(map: &mut Multimap<K>, key: &K, record: &Record) -> bool {
    let Some(records) = map.get_mut(key) else { return false };
    let Some(place) = records.iter().position(|other| **other == *record) else { return false };
    records.remove(place);
    if records.is_empty() {
        map.remove(key);
    }
    true
}
