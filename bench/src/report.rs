//! The report: every measure with all its rounds.

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use crate::compare::Comparison;

/// All measures of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    measures: Vec<Measure>,
    /// The data path, side by side with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Comparison>,
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
struct Measure {
    name: String,
    unit: &'static str,
    /// The figure to reach, at most, and which of the statistics it is about.
    reach: Option<Reach>,
    median: f64,
    p99: f64,
    least: f64,
    most: f64,
    rounds: Vec<f64>,
}

/// A figure to reach.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Reach {
    pub(crate) statistic: Statistic,
    pub(crate) at_most: f64,
}

/// What of the rounds counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Statistic {
    Median,
    P99,
}

impl Reach {
    pub(crate) const fn median(at_most: f64) -> Option<Self> {
        Some(Self { statistic: Statistic::Median, at_most })
    }

    pub(crate) const fn p99(at_most: f64) -> Option<Self> {
        Some(Self { statistic: Statistic::P99, at_most })
    }
}

impl Report {
    /// Adds what was measured, in whatever order the rounds were.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        rounds: Vec<f64>,
        reach: Option<Reach>,
    ) {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let last = sorted.len().saturating_sub(1);
            // Nearest rank: with few rounds, the 99th percentile is the slowest one.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let rank = ((part * sorted.len() as f64).ceil() as usize).saturating_sub(1).min(last);
            sorted.get(rank).copied().unwrap_or(f64::NAN)
        };
        self.measures.push(Measure {
            name: name.into(),
            unit,
            reach,
            median: at(0.5),
            p99: at(0.99),
            least: at(0.0),
            most: at(1.0),
            rounds,
        });
    }

    /// Adds a comparison.
    pub(crate) fn compared(&mut self, comparison: Comparison) {
        self.compared = Some(comparison);
    }

    /// The tables.
    pub(crate) fn print(&self) {
        if !self.measures.is_empty() {
            self.print_measures();
        }
        if let Some(comparison) = &self.compared {
            println!("\n{}", comparison.tables());
        }
    }

    fn print_measures(&self) {
        println!();
        println!(
            "{:<64} {:>9} {:>9} {:>9} {:>9} {:>6}  reach",
            "measure", "median", "p99", "least", "most", "rounds"
        );
        for m in &self.measures {
            let reach = m.reach.map_or_else(String::new, |r| {
                let (word, value) = match r.statistic {
                    Statistic::Median => ("median", m.median),
                    Statistic::P99 => ("p99", m.p99),
                };
                let verdict = if value <= r.at_most { "reached" } else { "MISSED" };
                format!("{word} ≤ {} {}: {verdict}", r.at_most, m.unit)
            });
            println!(
                "{:<64} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>6}  {reach}",
                format!("{} [{}]", m.name, m.unit),
                m.median,
                m.p99,
                m.least,
                m.most,
                m.rounds.len()
            );
        }
    }

    /// Writes `report.json` into `target/bench`, and what a comparison has to show.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let directory = PathBuf::from("target/bench");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
        };
        write("report.json", &serde_json::to_vec_pretty(self)?)?;
        println!("\nall rounds: {}", directory.join("report.json").display());
        if let Some(comparison) = &self.compared {
            write("performance.md", comparison.tables().as_bytes())?;
            write("performance.svg", comparison.chart().as_bytes())?;
            println!("tables and chart: performance.md, performance.svg beside it");
        }
        Ok(())
    }
}
