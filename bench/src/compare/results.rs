//! All rounds of all figures of all variants.

use std::collections::BTreeMap;

use serde::Serialize;

use super::measures::Figure;
use super::variants::Variant;

/// What was measured, round by round; a round that failed is a gap.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// The one under way, counted from 0.
    round: usize,
    rounds: usize,
    values: BTreeMap<(Figure, Variant), Vec<Option<f64>>>,
}

/// Of one figure of one variant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// A quarter of the rounds is not above this.
    pub(crate) lower_quartile: f64,
    /// A quarter of the rounds is not below this.
    pub(crate) upper_quartile: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// One variant measured by another: the ratio of the medians, and of the rounds, each by its own.
pub(crate) type Ratio = Summary;

impl Summary {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        // Linear between the two nearest.
        let at = |part: usize| {
            let place = (values.len() - 1) * part;
            let (low, rest) = (place / 4, place % 4);
            let high = (low + usize::from(rest > 0)).min(values.len() - 1);
            #[allow(clippy::cast_precision_loss, reason = "0 to 3")]
            let share = rest as f64 / 4.0;
            values[low] + (values[high] - values[low]) * share
        };
        Some(Self { median: at(2), lower_quartile: at(1), upper_quartile: at(3), least, most })
    }
}

impl Results {
    /// What is noted from now on is of this round, counted from 0.
    pub(crate) fn begin_round(&mut self, round: usize) {
        self.round = round;
        self.rounds = self.rounds.max(round + 1);
    }

    /// Notes a figure of this round.
    pub(crate) fn note(&mut self, variant: Variant, figure: Figure, value: f64) {
        let rounds = self.rounds.max(self.round + 1);
        let values = self.values.entry((figure, variant)).or_default();
        values.resize(rounds, None);
        values[self.round] = Some(value);
    }

    /// Round by round; empty: it was never measured.
    pub(crate) fn rounds(&self, variant: Variant, figure: Figure) -> Vec<Option<f64>> {
        let mut values = self.values.get(&(figure, variant)).cloned().unwrap_or_default();
        if !values.is_empty() {
            values.resize(self.rounds, None);
        }
        values
    }

    /// `None`: it was never measured.
    pub(crate) fn summary(&self, variant: Variant, figure: Figure) -> Option<Summary> {
        Summary::of(self.rounds(variant, figure).into_iter().flatten().collect())
    }

    /// One variant measured by another; `None`: one of the two was never measured.
    ///
    /// The median is that of the medians; the rest is of rounds, each by the same round of the other.
    pub(crate) fn ratio(
        &self,
        variant: Variant,
        against: Variant,
        figure: Figure,
    ) -> Option<Ratio> {
        let (one, other) = (self.summary(variant, figure)?, self.summary(against, figure)?);
        let (ones, others) = (self.rounds(variant, figure), self.rounds(against, figure));
        let pairs = ones.into_iter().zip(others).filter_map(|(a, b)| Some(a? / b?));
        let spread = Summary::of(pairs.collect())?;
        Some(Ratio { median: one.median / other.median, ..spread })
    }

    /// The figures there are.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let known = |figure: &Figure| self.values.keys().any(|(of, _)| of == figure);
        Figure::ALL.into_iter().filter(known).collect()
    }

    /// Whether anything of a variant was measured.
    pub(crate) fn has(&self, variant: Variant) -> bool {
        self.values.keys().any(|(_, known)| *known == variant)
    }

    /// How many rounds there were.
    pub(crate) fn number_of_rounds(&self) -> usize {
        self.rounds
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles_are_those_of_the_textbook() {
        let summary = Summary::of(vec![5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!((summary.least, summary.lower_quartile, summary.median), (1.0, 2.0, 3.0));
        assert_eq!((summary.upper_quartile, summary.most), (4.0, 5.0));
        assert_eq!(Summary::of(vec![1.0, 2.0]).map(|s| s.median), Some(1.5));
        assert_eq!(Summary::of(vec![7.0]).map(|s| s.upper_quartile), Some(7.0));
        assert_eq!(Summary::of(Vec::new()), None);
    }

    #[test]
    fn a_round_that_failed_is_a_gap_and_its_ratio_is_not_made_up() {
        let (a, b, figure) = (Variant::WeftShortcut, Variant::Bare, Figure::UdpP50);
        let mut results = Results::default();
        let rounds = [(Some(2.0), 1.0), (None, 1.0), (Some(6.0), 2.0)];
        for (round, (one, other)) in rounds.into_iter().enumerate() {
            results.begin_round(round);
            results.note(b, figure, other);
            if let Some(one) = one {
                results.note(a, figure, one);
            }
        }
        assert_eq!(results.rounds(a, figure), [Some(2.0), None, Some(6.0)]);
        let ratio = results.ratio(a, b, figure).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (4.0, 2.0, 3.0));
        assert_eq!(results.ratio(a, Variant::Vxlan, figure), None);
        results.begin_round(3);
        assert_eq!(results.rounds(a, figure).len(), 4);
    }
}
