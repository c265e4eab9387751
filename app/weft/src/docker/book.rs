//! The book: which networks one engine has with this driver, and which of Weft's networks each is.
//!
//! An engine tells a driver of a network once in the network's life, so it is kept on disk.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_model::{Name, NetworkId};

use super::pools::{PoolId, Token};

/// A network of the engine's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// How it was asked for.
    pub(super) wish: Wish,
    /// What the engine calls it, once it has said so.
    pub(super) name: Option<String>,
    /// The network it is, once that is known.
    pub(super) network: Option<Bound>,
    /// Why it is not known, as of the last try.
    #[serde(skip)]
    pub(super) why: Option<String>,
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wish {
    /// By subnets, the IPv4 one first, or by name.
    pub(super) which: Which,
    /// `--internal`.
    pub(super) internal: bool,
    /// Octets of an inner IP packet (`-o mtu=`); `None`: what the path carries.
    pub(super) mtu: Option<u16>,
    /// `-o allow-overlap=true`.
    pub(super) allow_overlap: bool,
}

/// How a network is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Which {
    /// It has these subnets.
    Subnets(Vec<IpNet>),
    /// It is called like the engine's; this is the token of its pool.
    ByName(Token),
}

/// A network of Weft's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) id: NetworkId,
    pub(super) name: Name,
}

impl Wish {
    /// Whether this pool is one of its.
    pub(super) fn has(&self, pool: PoolId) -> bool {
        match (&self.which, pool) {
            (Which::Subnets(subnets), PoolId::Subnet(subnet)) => subnets.contains(&subnet),
            (Which::ByName(token), PoolId::ByName(of)) => *token == of,
            _ => false,
        }
    }
}

/// All networks of one engine, by its identifiers.
#[derive(Debug, Default)]
pub(super) struct Book {
    records: BTreeMap<String, Record>,
}

impl Book {
    /// What was kept on disk, by key and bytes. What cannot be read is left out, and said.
    pub(super) fn from_disk<'a>(stored: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let read = |(key, bytes): (&str, &[u8])| {
            let id = key.strip_prefix(PREFIX)?;
            serde_json::from_slice(bytes)
                .inspect_err(|error| tracing::warn!(%key, %error, "record on disk left out"))
                .ok()
                .map(|record| (id.to_owned(), record))
        };
        Self { records: stored.filter_map(read).collect() }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    pub(super) fn put(&mut self, id: &str, record: Record) {
        self.records.insert(id.to_owned(), record);
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.records.remove(id);
    }

    /// The engine's identifiers of all of them.
    pub(super) fn ids(&self) -> Vec<String> {
        self.records.keys().cloned().collect()
    }

    /// The network that a pool belongs to.
    pub(super) fn of_pool(&self, pool: PoolId) -> Option<(&String, &Record)> {
        self.records.iter().find(|(_, record)| record.wish.has(pool))
    }
}

/// Where a network's record lies on disk.
pub(super) const PREFIX: &str = "docker/network/";

/// The key of a network's record.
pub(super) fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}
