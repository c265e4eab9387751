//! The tables: readable on a terminal, and as Markdown.

use std::fmt::Write;

use super::goals::Outcome;
use super::ground::Ground;
use super::results::Results;
use super::variants::{Group, Variant};

/// Everything: what the run stood on, the goals, the figures of each group.
pub(crate) fn markdown(results: &Results, goals: &[Outcome], ground: &Ground) -> String {
    let mut text = format!(
        "{} rounds on Linux {}, {} cores ({}). Weft {}, Docker {}, {}; TCP with {}.\n",
        results.number_of_rounds(),
        ground.kernel,
        ground.processors,
        ground.processor,
        ground.weft,
        ground.docker.as_deref().unwrap_or("not measured"),
        ground.tools.join(", "),
        ground.congestion_control.as_deref().unwrap_or("nothing"),
    );
    let goals: Vec<Vec<String>> = goals.iter().map(goal).collect();
    text += "\nWhat is to be reached: ratios of medians; in brackets the least and the most of any \
             round.\n\n";
    text += &table(&["measure", "of", "against", "reach", "measured", "verdict"], &goals);
    for (group, title) in [
        (Group::Hosts, "From host to host"),
        (Group::Local, "Two containers of one host"),
        (Group::Known, "From host to host, with more and more endpoints known"),
    ] {
        let wanted = |v: &Variant| v.group() == group && results.has(*v);
        let variants: Vec<Variant> = Variant::all().iter().copied().filter(wanted).collect();
        if !variants.is_empty() {
            let _ = write!(text, "\n{title}: medians; in brackets the least and the most.\n\n");
            text += &figures(results, &variants);
        }
    }
    text
}

fn goal(outcome: &Outcome) -> Vec<String> {
    let measured = outcome.measured.map_or_else(
        || "–".to_owned(),
        |r| format!("{:.2} ({:.2}–{:.2})", r.median, r.least, r.most),
    );
    vec![
        outcome.figure.title().to_owned(),
        outcome.of.title().to_owned(),
        outcome.against.title().to_owned(),
        outcome.reach.clone(),
        measured,
        outcome.verdict.clone(),
    ]
}

/// Figures down, variants across.
fn figures(results: &Results, variants: &[Variant]) -> String {
    let titles: Vec<&str> = variants.iter().map(|v| v.title()).collect();
    let mut rows = Vec::new();
    for figure in results.figures() {
        let cell = |variant: &Variant| {
            let summary = results.summary(*variant, figure)?;
            let [median, least, most] =
                [summary.median, summary.least, summary.most].map(|v| figure.show(v));
            Some(format!("{median} ({least}–{most})"))
        };
        let cells: Vec<Option<String>> = variants.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let name = format!("{} [{}]", figure.title(), figure.unit());
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
            rows.push([name].into_iter().chain(cells).collect());
        }
    }
    table(&[&["measure"], titles.as_slice()].concat(), &rows)
}

/// A Markdown table whose columns stand below each other as they are.
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        let lengths = cells.chain(headings.get(column).copied()).map(|cell| cell.chars().count());
        lengths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(headings.to_vec());
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    text += &line(dashes.iter().map(String::as_str).collect());
    text.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::measures::Figure;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = vec![vec!["µ".to_owned(), "12345".to_owned()]];
        let expected = "| aa | b     |\n| -- | ----- |\n| µ  | 12345 |\n";
        assert_eq!(table(&["aa", "b"], &rows), expected);
    }

    #[test]
    fn what_was_not_measured_has_a_dash() {
        let mut results = Results::default();
        results.begin_round(0);
        results.note(Variant::Bare, Figure::UdpP50, 20.24);
        results.note(Variant::Vxlan, Figure::Http, 5.5);
        let text = figures(&results, &[Variant::Bare, Variant::Vxlan]);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert!(rows[0].contains("| 20.2 (20.2–20.2) | –"), "{text}");
        assert!(rows[1].contains("| –                | 5.50 (5.50–5.50)"), "{text}");
    }
}
