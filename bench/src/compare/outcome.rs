//! What a run found, as the report keeps it.

use serde::Serialize;

use super::goals::{GOALS, Outcome};
use super::ground::Ground;
use super::measures::Figure;
use super::results::{Results, Summary};
use super::variants::Variant;
use super::{chart, table};

/// A whole comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    ground: Ground,
    /// One per variant and figure.
    figures: Vec<Measured>,
    goals: Vec<Outcome>,
    #[serde(skip)]
    tables: String,
    #[serde(skip)]
    chart: String,
}

/// One figure of one variant.
#[derive(Debug, Serialize)]
struct Measured {
    variant: Variant,
    figure: Figure,
    unit: &'static str,
    better: &'static str,
    #[serde(flatten)]
    summary: Summary,
    /// A round that failed is `null`.
    rounds: Vec<Option<f64>>,
}

impl Comparison {
    /// Sums it up.
    pub(crate) fn new(results: &Results, ground: Ground) -> Self {
        let measured = |figure: Figure, variant: Variant| {
            Some(Measured {
                variant,
                figure,
                unit: figure.unit(),
                better: if figure.is_time() { "less" } else { "more" },
                summary: results.summary(variant, figure)?,
                rounds: results.rounds(variant, figure),
            })
        };
        let figures = results
            .figures()
            .into_iter()
            .flat_map(|figure| Variant::all().iter().filter_map(move |v| measured(figure, *v)))
            .collect();
        let goals: Vec<Outcome> = GOALS.iter().map(|goal| goal.judge(results)).collect();
        let tables = table::markdown(results, &goals, &ground);
        Self { chart: chart::svg(results), ground, figures, goals, tables }
    }

    /// The tables, readable as they are and as Markdown.
    pub(crate) fn tables(&self) -> &str {
        &self.tables
    }

    /// The chart, as SVG.
    pub(crate) fn chart(&self) -> &str {
        &self.chart
    }
}
