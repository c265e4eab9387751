//! What an agent keeps on disk: what it was told, and what it promised. Never what it derived.
//!
//! Rows can be fetched again from a server, so writing them does not wait for the disk. Records
//! (attachments, addresses on their way back) exist nowhere else: writing one returns when the
//! disk has it, and with it the rows that it would mean nothing without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, TableError, WriteTransaction,
};
use weft_model::Generation;

use crate::file::{self, FileError};

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Pages kept in memory: agents read the store once, at start.
const CACHE: usize = 1 << 20;
/// Row updates after which the disk is waited for all the same: the most that a kill can undo.
const LAZY_COMMITS: u64 = 64;

/// The agent's file. Calls block for as long as the disk takes.
#[derive(Debug)]
pub struct AgentStore {
    database: Database,
    /// Row updates that were written.
    written: AtomicU64,
    /// How many of them the disk has for sure.
    durable: AtomicU64,
    group: Mutex<Group>,
    /// A group was committed.
    committed: Condvar,
}

/// Records that wait for the disk together.
#[derive(Debug, Default)]
struct Group {
    waiting: Vec<Wish>,
    /// Number of the group that newcomers join.
    gathering: u64,
    /// All groups below this number have been tried.
    done: u64,
    /// Those of them that failed.
    failed: BTreeSet<u64>,
    /// Whether a commit is under way.
    busy: bool,
}

/// A record to write or delete.
#[derive(Debug, Clone)]
struct Wish {
    key: String,
    bytes: Option<Vec<u8>>,
    /// Rows to write unless they are there.
    rows: Vec<(String, Vec<u8>)>,
}

/// Everything in an [`AgentStore`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// How far the rows had advanced.
    pub generation: Generation,
    /// Key and value of each row, in order of key.
    pub rows: Vec<(String, Vec<u8>)>,
    /// The records.
    pub records: BTreeMap<String, Vec<u8>>,
}

/// The agent's store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be read or written; the disk may be full.
    #[error("the agent's store cannot {action}: {cause}")]
    Storage {
        /// What it was doing.
        action: &'static str,
        /// Why not.
        cause: Box<redb::Error>,
    },
}

fn storage<E: Into<redb::Error>>(action: &'static str) -> impl FnOnce(E) -> StoreError {
    move |cause| StoreError::Storage { action, cause: Box::new(cause.into()) }
}

impl AgentStore {
    /// Opens the store at `path`, creating an empty one when there is none.
    ///
    /// # Errors
    /// [`StoreError::File`] when it is in use, damaged, or written by a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let database = file::open(path, CACHE)?;
        let store = Self {
            database,
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            group: Mutex::default(),
            committed: Condvar::new(),
        };
        let format = || number(&store.database.begin_read()?, "format");
        match format().map_err(storage("be read"))? {
            None => store.write("write its format", Durability::Immediate, |txn| {
                txn.open_table(META)?.insert("format", file::FORMAT)?;
                Ok(())
            })?,
            Some(format) if format > file::FORMAT => {
                return Err(FileError::Newer { path: path.to_owned(), format }.into());
            }
            Some(_) => {}
        }
        Ok(store)
    }

    /// Reads everything, as it is at one moment.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn load(&self) -> Result<Stored, StoreError> {
        let read = || -> Result<Stored, redb::Error> {
            let txn = self.database.begin_read()?;
            Ok(Stored {
                generation: Generation(number(&txn, "generation")?.unwrap_or(0)),
                rows: pairs(&txn, ROWS)?,
                records: pairs(&txn, RECORDS)?.into_iter().collect(),
            })
        };
        read().map_err(storage("be read"))
    }

    /// Puts `rows` in place of all rows. Does not wait for the disk: a kill may undo it, whole.
    ///
    /// # Errors
    /// [`StoreError::Storage`], and then nothing changed.
    pub fn replace_rows<K: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        generation: Generation,
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), StoreError> {
        self.write_rows(|txn| {
            txn.delete_table(ROWS)?;
            let mut table = txn.open_table(ROWS)?;
            for (key, value) in rows {
                table.insert(key.as_ref(), value.as_ref())?;
            }
            txn.open_table(META)?.insert("generation", generation.0)?;
            Ok(())
        })
    }

    /// Writes (`Some`) and deletes (`None`) single rows. Does not wait for the disk: a kill may
    /// undo the newest of these, each whole, in order.
    ///
    /// # Errors
    /// [`StoreError::Storage`], and then nothing changed.
    pub fn patch_rows<K: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        generation: Generation,
        changes: impl IntoIterator<Item = (K, Option<V>)>,
    ) -> Result<(), StoreError> {
        self.write_rows(|txn| {
            let mut table = txn.open_table(ROWS)?;
            for (key, value) in changes {
                match value {
                    Some(value) => drop(table.insert(key.as_ref(), value.as_ref())?),
                    None => drop(table.remove(key.as_ref())?),
                }
            }
            txn.open_table(META)?.insert("generation", generation.0)?;
            Ok(())
        })
    }

    /// Writes a record; when it returns, the record survives the machine's death, and so does
    /// everything written before.
    ///
    /// # Errors
    /// [`StoreError::Storage`], and then nothing changed.
    pub fn put_record(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_record_on(key, bytes, Vec::new())
    }

    /// [`Self::put_record`] of one that means nothing without these rows: those that are not there
    /// yet, because the update that brings them is still on its way, are written along with it.
    ///
    /// # Errors
    /// [`StoreError::Storage`], and then nothing changed.
    pub fn put_record_on(
        &self,
        key: &str,
        bytes: &[u8],
        rows: Vec<(String, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        self.record(Wish { key: key.to_owned(), bytes: Some(bytes.to_vec()), rows })
    }

    /// Waits until the disk has everything. Costs nothing when it has.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn flush(&self) -> Result<(), StoreError> {
        if self.not_durable() == 0 {
            return Ok(());
        }
        self.write("write to the disk", Durability::Immediate, |_| Ok(()))
    }

    /// Deletes a record, if it is there, as durably as [`Self::put_record`] writes one.
    ///
    /// # Errors
    /// [`StoreError::Storage`], and then nothing changed.
    pub fn delete_record(&self, key: &str) -> Result<(), StoreError> {
        self.record(Wish { key: key.to_owned(), bytes: None, rows: Vec::new() })
    }

    /// Writes or deletes a record. Calls that come while the disk is busy share the next commit:
    /// the first of them makes it for all.
    fn record(&self, wish: Wish) -> Result<(), StoreError> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = group.gathering;
        group.waiting.push(wish.clone());
        while group.done <= mine {
            if !group.busy {
                return self.lead(group);
            }
            group = self.committed.wait(group).unwrap_or_else(PoisonError::into_inner);
        }
        let failed = group.failed.contains(&mine);
        drop(group);
        // Somebody else's record may be at fault: by itself, this one gets its own answer.
        if failed { self.write_records(&[wish]) } else { Ok(()) }
    }

    /// Commits everything that waits.
    fn lead(&self, mut group: MutexGuard<'_, Group>) -> Result<(), StoreError> {
        let number = group.gathering;
        let records = std::mem::take(&mut group.waiting);
        group.gathering += 1;
        group.busy = true;
        drop(group);
        let result = self.write_records(&records);
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        group.busy = false;
        group.done = number + 1;
        if result.is_err() {
            group.failed.insert(number);
        }
        drop(group);
        self.committed.notify_all();
        result
    }

    fn write_records(&self, wishes: &[Wish]) -> Result<(), StoreError> {
        self.write("write a record", Durability::Immediate, |txn| {
            let mut records = txn.open_table(RECORDS)?;
            let mut rows = txn.open_table(ROWS)?;
            for Wish { key, bytes, rows: on } in wishes {
                match bytes {
                    Some(bytes) => drop(records.insert(key.as_str(), bytes.as_slice())?),
                    None => drop(records.remove(key.as_str())?),
                }
                for (key, value) in on {
                    // One that is there was brought by an update, and may be newer.
                    if rows.get(key.as_str())?.is_none() {
                        rows.insert(key.as_str(), value.as_slice())?;
                    }
                }
            }
            Ok(())
        })
    }

    fn write_rows(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        // Counts the one that is to be written now.
        let lazy = self.not_durable() + 1;
        let durability = if lazy < LAZY_COMMITS { Durability::None } else { Durability::Immediate };
        self.write("write rows", durability, |txn| {
            change(txn)?;
            // There is one transaction at a time: whoever comes next sees it.
            self.written.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Row updates that a kill would undo.
    fn not_durable(&self) -> u64 {
        let durable = self.durable.load(Ordering::Relaxed);
        self.written.load(Ordering::Relaxed).saturating_sub(durable)
    }

    fn write(
        &self,
        action: &'static str,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let mut txn = self.database.begin_write().map_err(storage(action))?;
        txn.set_durability(durability).map_err(storage(action))?;
        // An error drops the transaction, which undoes it.
        change(&txn).map_err(storage(action))?;
        let written = self.written.load(Ordering::Relaxed);
        txn.commit().map_err(storage(action))?;
        if matches!(durability, Durability::Immediate) {
            self.durable.fetch_max(written, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What an empty store has no table for is not there.
fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, redb::Error> {
    match txn.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn number(txn: &ReadTransaction, key: &str) -> Result<Option<u64>, redb::Error> {
    let Some(table) = open(txn, META)? else { return Ok(None) };
    Ok(table.get(key)?.map(|number| number.value()))
}

fn pairs(
    txn: &ReadTransaction,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let Some(table) = open(txn, table)? else { return Ok(Vec::new()) };
    let mut pairs = Vec::new();
    for pair in table.iter()? {
        let (key, value) = pair?;
        pairs.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(pairs)
}
