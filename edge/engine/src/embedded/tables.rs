//! What lies in the file, and reading it.
//!
//! | table | key | value |
//! |---|---|---|
//! | `rows` | a row's key | the revision it was last written at, and its value |
//! | `history` | a revision | its changes, see [`encode`] |
//! | `meta` | `format`, `revision` (newest), `compacted` (newest that is forgotten) | a number |

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use weft_model::row::InvalidRow;
use weft_model::{Generation, Row};
use weft_state::Write;

use crate::contract::Batch;
use crate::file;

pub(super) const ROWS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("rows");
pub(super) const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const REVISION: &str = "revision";
pub(super) const COMPACTED: &str = "compacted";
const FORMAT: &str = "format";

/// What a file says of itself.
pub(super) struct Head {
    pub(super) format: u64,
    pub(super) revision: u64,
}

/// Makes the tables, if the file has none yet.
pub(super) fn prepare(database: &Database) -> Result<Head, redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    let head = {
        let mut meta = txn.open_table(META)?;
        let get = |meta: &redb::Table<'_, &str, u64>, key| -> Result<Option<u64>, redb::Error> {
            Ok(meta.get(key)?.map(|v| v.value()))
        };
        let format = match get(&meta, FORMAT)? {
            Some(format) => format,
            None => {
                meta.insert(FORMAT, file::FORMAT)?;
                meta.insert(REVISION, 0)?;
                meta.insert(COMPACTED, 0)?;
                file::FORMAT
            }
        };
        Head { format, revision: get(&meta, REVISION)?.unwrap_or(0) }
    };
    if head.format <= file::FORMAT {
        txn.open_table(ROWS)?;
        txn.open_table(HISTORY)?;
        txn.commit()?;
    }
    Ok(head)
}

/// A row as it is stored: key, revision, value.
pub(super) type Stored = (String, u64, Vec<u8>);

/// Everything, at the newest revision.
pub(super) fn snapshot(database: &Database) -> Result<(Generation, Vec<Stored>), redb::Error> {
    let txn = database.begin_read()?;
    let revision = revision_in(&txn.open_table(META)?)?;
    let mut rows = Vec::new();
    for entry in txn.open_table(ROWS)?.iter()? {
        let (key, stored) = entry?;
        let (written, value) = stored.value();
        rows.push((key.value().to_owned(), written, value.to_vec()));
    }
    Ok((Generation(revision), rows))
}

/// The newest revision.
pub(super) fn revision(database: &Database) -> Result<u64, redb::Error> {
    revision_in(&database.begin_read()?.open_table(META)?)
}

fn revision_in(meta: &ReadOnlyTable<&str, u64>) -> Result<u64, redb::Error> {
    Ok(meta.get(REVISION)?.map_or(0, |v| v.value()))
}

/// Up to `most` revisions from `first` to `last`: as many as follow each other without a gap.
pub(super) fn history(
    database: &Database,
    first: u64,
    last: u64,
    most: usize,
) -> Result<Vec<Batch>, redb::Error> {
    let history = database.begin_read()?.open_table(HISTORY)?;
    let mut batches = Vec::new();
    for (entry, expected) in history.range(first..=last)?.zip(first..).take(most) {
        let (revision, changes) = entry?;
        if revision.value() != expected {
            break;
        }
        let changes = read_changes(changes.value()).ok_or_else(|| {
            redb::Error::Corrupted(format!("the changes of revision {expected} cannot be read"))
        })?;
        batches.push(Batch { revision: Generation(expected), changes });
    }
    Ok(batches)
}

/// Reads stored rows.
pub(super) fn decode(stored: Vec<Stored>) -> Result<Vec<(Row, Generation)>, InvalidRow> {
    stored
        .into_iter()
        .map(|(key, written, value)| Ok((Row::decode(&key, &value)?, Generation(written))))
        .collect()
}

/// Appends one change: length and text of the key, 1 and length and octets of the value, or 0
/// for a deletion. Lengths have four octets, the lowest first.
pub(super) fn encode(changes: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    let mut field = |octets: &[u8]| {
        let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        changes.extend_from_slice(&length.to_le_bytes());
        changes.extend_from_slice(octets);
    };
    field(key.as_bytes());
    match value {
        Some(value) => {
            field(&[1]);
            field(value);
        }
        None => field(&[0]),
    }
}

fn read_changes(mut octets: &[u8]) -> Option<Vec<Write>> {
    fn field<'a>(octets: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = octets.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *octets = rest;
        Some(field)
    }
    let mut changes = Vec::new();
    while !octets.is_empty() {
        let key = std::str::from_utf8(field(&mut octets)?).ok()?;
        changes.push(match field(&mut octets)? {
            [1] => Write::Put(Row::decode(key, field(&mut octets)?).ok()?),
            [0] => Write::Delete(key.parse().ok()?),
            _ => return None,
        });
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use weft_model::row::Guard;
    use weft_model::{RowKey, TokenId};

    use super::*;

    #[test]
    fn changes_read_back_and_broken_ones_do_not() {
        let guard = Row::Guard(Guard::Nodes);
        let token = RowKey::Token(TokenId(7));
        let mut octets = Vec::new();
        encode(&mut octets, &guard.key().to_string(), Some(&guard.value()));
        encode(&mut octets, &token.to_string(), None);
        let changes = vec![Write::Put(guard), Write::Delete(token)];
        assert_eq!(read_changes(&octets), Some(changes.clone()));
        for cut in 1..octets.len() {
            let whole = read_changes(&octets[..cut]);
            assert!(whole.is_none() || whole.as_deref() == Some(&changes[..1]), "cut at {cut}");
        }
        assert_eq!(read_changes(&[255; 9]), None);
    }
}
