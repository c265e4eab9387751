//! Rows as the wire carries them.

use weft_model::row::InvalidRow;
use weft_model::{Row, RowKey};
use weft_state::Write;

use crate::wire;

/// A wire row that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableRow {
    /// Neither key nor value of a row this version knows.
    #[error(transparent)]
    Invalid(#[from] InvalidRow),
    /// A row with a value was expected.
    #[error("row '{0}' has no value")]
    NoValue(String),
    /// The answer has no row at all.
    #[error("the answer has no row")]
    Missing,
}

/// The row as it goes over the wire.
pub fn put(row: &Row) -> wire::Row {
    wire::Row { key: row.key().to_string(), value: Some(row.value()) }
}

/// A deletion as it goes over the wire.
pub fn delete(key: RowKey) -> wire::Row {
    wire::Row { key: key.to_string(), value: None }
}

/// A change as it goes over the wire.
pub fn change(write: &Write) -> wire::Row {
    match write {
        Write::Put(row) => put(row),
        Write::Delete(key) => delete(*key),
    }
}

/// Reads a change.
///
/// # Errors
/// [`UnreadableRow::Invalid`].
pub fn read_change(row: &wire::Row) -> Result<Write, UnreadableRow> {
    Ok(match &row.value {
        Some(value) => Write::Put(Row::decode(&row.key, value)?),
        None => Write::Delete(row.key.parse()?),
    })
}

/// Reads a row that must have a value.
///
/// # Errors
/// [`UnreadableRow`].
pub fn read(row: &wire::Row) -> Result<Row, UnreadableRow> {
    let value = row.value.as_ref().ok_or_else(|| UnreadableRow::NoValue(row.key.clone()))?;
    Ok(Row::decode(&row.key, value)?)
}

/// Reads the row of an answer.
///
/// # Errors
/// [`UnreadableRow`].
pub fn read_answer(row: Option<&wire::Row>) -> Result<Row, UnreadableRow> {
    read(row.ok_or(UnreadableRow::Missing)?)
}

/// Reads the changes of an update. Rows of kinds that only a newer version knows are left out,
/// so that a cluster can be upgraded node by node.
///
/// # Errors
/// [`UnreadableRow`] when a row of a known kind cannot be read.
pub fn read_changes(rows: &[wire::Row]) -> Result<Vec<Write>, UnreadableRow> {
    const KNOWN: [&str; 8] =
        ["cluster", "authority", "node", "network", "lease", "endpoint", "token", "guard"];
    rows.iter()
        .filter(|row| row.key.split('/').next().is_some_and(|kind| KNOWN.contains(&kind)))
        .map(read_change)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Lease, NetworkId, NodeId, Offset};

    fn lease() -> Row {
        Row::Lease(Lease {
            network: NetworkId(1),
            node: NodeId(2),
            node_offset: Offset(254),
            offsets: "2-17".parse().unwrap(),
        })
    }

    #[test]
    fn a_change_survives_the_wire() {
        for write in [Write::Put(lease()), Write::Delete(lease().key())] {
            assert_eq!(read_change(&change(&write)).unwrap(), write);
        }
        assert_eq!(read_answer(Some(&put(&lease()))).unwrap(), lease());
    }

    #[test]
    fn what_is_not_a_row_is_named() {
        let message = |row: &wire::Row| read(row).unwrap_err().to_string();
        let deleted = delete(lease().key());
        let key = &deleted.key;
        assert_eq!(message(&deleted), format!("row '{key}' has no value"));
        let cut = wire::Row { key: key.clone(), value: Some(b"{\"network\":".to_vec()) };
        assert_eq!(message(&cut), format!("the value of row '{key}' cannot be read"));
        let odd = wire::Row { key: "lease/1/2".to_owned(), value: Some(Vec::new()) };
        assert_eq!(message(&odd), "'lease/1/2' is not the key of a row this version knows");
        let foreign = wire::Row { key: deleted.key.replace('1', "3"), value: put(&lease()).value };
        assert!(matches!(read(&foreign), Err(UnreadableRow::Invalid(InvalidRow::Key(_)))));
        assert_eq!(read_answer(None).unwrap_err().to_string(), "the answer has no row");
    }

    #[test]
    fn kinds_of_newer_versions_are_left_out_but_damage_is_not() {
        let newer = wire::Row { key: "policy/1".to_owned(), value: Some(b"{}".to_vec()) };
        let rows = [newer, put(&lease())];
        assert_eq!(read_changes(&rows).unwrap(), [Write::Put(lease())]);
        let damaged = wire::Row { value: Some(b"{}".to_vec()), ..put(&lease()) };
        assert!(read_changes(&[damaged]).is_err());
    }
}
