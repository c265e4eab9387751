//! What commands print: tables for people, JSON for programs.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::Value;

use super::Outcome;
use super::args::Format;

/// Prints `text` as it is, and ends well. A reader that went away (`weft … | head`) is no failure.
pub(super) fn print(text: &str) -> Outcome {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a value for programs.
pub(super) fn json(value: &Value) -> Outcome {
    // Reading a value back as text cannot fail: its maps have text keys.
    print(&format!("{value:#}\n"))
}

/// Prints rows under headings, or the value.
pub(super) fn listing(
    format: Format,
    headings: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    value: &Value,
) -> Outcome {
    match format {
        Format::Json => json(value),
        Format::Table => print(&table(headings, rows)),
    }
}

/// Rows under headings, as text.
pub(super) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().copied());
    for row in rows {
        table.add_row(row.into_iter().map(|cell| if cell.is_empty() { "-".into() } else { cell }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

/// Lines of `word: text`, the words aligned.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(word, _)| word.len()).max().unwrap_or_default() + 2;
    facts
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(word, text)| format!("{:<width$}{text}\n", format!("{word}:")))
        .collect()
}

/// Values with commas between.
pub(super) fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A moment in seconds since 1970, as people write it (UTC).
pub(super) fn moment(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map_or_else(|| seconds.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_columns() {
        let rows = vec![
            vec!["web".to_owned(), "10.3.0.0/24".to_owned()],
            vec!["db".to_owned(), String::new()],
        ];
        assert_eq!(table(&["NAME", "SUBNET"], rows), "NAME  SUBNET\nweb   10.3.0.0/24\ndb    -\n");
    }

    #[test]
    fn facts_leave_out_what_is_not_known() {
        let lines = facts(&[("node", "a".into()), ("server", String::new()), ("id", "7".into())]);
        assert_eq!(lines, "node:   a\nid:     7\n");
    }
}
