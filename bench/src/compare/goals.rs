//! What is to be reached, as ratios of two variants of one run.

use serde::Serialize;

use super::measures::Figure;
use super::results::{Ratio, Results};
use super::variants::Variant;

/// A ratio to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    figure: Figure,
    of: Variant,
    against: Variant,
    bound: Bound,
    /// The next aim, when the first is reached.
    then: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What became of a goal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) figure: Figure,
    pub(crate) of: Variant,
    pub(crate) against: Variant,
    /// "≤ 1.15, then ≤ 1.05".
    pub(crate) reach: String,
    /// `None`: not measured in this run.
    pub(crate) measured: Option<Ratio>,
    /// For people: met, or missed by how much.
    pub(crate) verdict: String,
}

const fn most(figure: Figure, of: Variant, against: Variant, ratio: f64) -> Goal {
    Goal { figure, of, against, bound: Bound::AtMost(ratio), then: None }
}

const fn least(figure: Figure, of: Variant, against: Variant, ratio: f64) -> Goal {
    Goal { figure, of, against, bound: Bound::AtLeast(ratio), then: None }
}

const fn then(goal: Goal, next: f64) -> Goal {
    Goal { then: Some(next), ..goal }
}

/// All of them.
pub(crate) const GOALS: [Goal; 20] = {
    use Variant::{
        Bare, DockerOverlay, Known10, Known1000, Known100000, LocalDocker, LocalWeft, WeftShortcut,
    };
    [
        then(most(Figure::UdpP50, WeftShortcut, Bare, 1.15), 1.05),
        then(most(Figure::TcpP50, WeftShortcut, Bare, 1.15), 1.05),
        most(Figure::UdpP50, WeftShortcut, DockerOverlay, 0.68),
        most(Figure::TcpP50, WeftShortcut, DockerOverlay, 0.68),
        least(Figure::Redis, WeftShortcut, Bare, 0.95),
        least(Figure::Redis, WeftShortcut, DockerOverlay, 1.50),
        least(Figure::Http, WeftShortcut, Bare, 0.95),
        least(Figure::Http, WeftShortcut, DockerOverlay, 1.50),
        least(Figure::Stream1, WeftShortcut, Bare, 0.97),
        least(Figure::Stream1, WeftShortcut, DockerOverlay, 1.10),
        least(Figure::Stream8, WeftShortcut, Bare, 0.97),
        least(Figure::Stream8, WeftShortcut, DockerOverlay, 1.10),
        least(Figure::Flows1, WeftShortcut, Bare, 0.90),
        least(Figure::Flows8, WeftShortcut, Bare, 0.90),
        least(Figure::Flows32, WeftShortcut, Bare, 0.90),
        most(Figure::UdpP50, LocalWeft, LocalDocker, 0.80),
        most(Figure::TcpP50, LocalWeft, LocalDocker, 0.80),
        most(Figure::UdpP50, Known1000, Known10, 1.05),
        most(Figure::UdpP50, Known100000, Known10, 1.05),
        most(Figure::TcpP50, Known100000, Known10, 1.05),
    ]
};

impl Goal {
    /// What became of it.
    pub(crate) fn judge(&self, results: &Results) -> Outcome {
        let measured = results.ratio(self.of, self.against, self.figure);
        let (sign, bound) = match self.bound {
            Bound::AtMost(bound) => ("≤", bound),
            Bound::AtLeast(bound) => ("≥", bound),
        };
        let then = self.then.map_or_else(String::new, |next| format!(", then {sign} {next:.2}"));
        let verdict = measured.map(|ratio| self.verdict(ratio.median, bound));
        Outcome {
            figure: self.figure,
            of: self.of,
            against: self.against,
            reach: format!("{sign} {bound:.2}{then}"),
            measured,
            verdict: verdict.unwrap_or_else(|| "not measured".to_owned()),
        }
    }

    fn verdict(&self, ratio: f64, bound: f64) -> String {
        // As printed, so that nobody reads "1.15, missed".
        let ratio = (ratio * 100.0).round() / 100.0;
        let reached = |bound: f64| match self.bound {
            Bound::AtMost(_) => ratio <= bound,
            Bound::AtLeast(_) => ratio >= bound,
        };
        let by = |bound: f64| format!("{:.0} %", ((ratio / bound - 1.0) * 100.0).abs().max(1.0));
        match (reached(bound), self.then) {
            (false, _) => format!("MISSED by {}", by(bound)),
            (true, Some(next)) if !reached(next) => {
                format!("met; {next:.2} missed by {}", by(next))
            }
            (true, _) => "met".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(goal: &Goal, value: f64) -> String {
        let mut results = Results::default();
        results.begin_round(0);
        results.note(goal.against, goal.figure, 1.0);
        results.note(goal.of, goal.figure, value);
        goal.judge(&results).verdict
    }

    #[test]
    fn a_goal_is_met_or_missed_by_so_much() {
        let (of, against) = (Variant::WeftShortcut, Variant::Bare);
        let goal = then(most(Figure::UdpP50, of, against, 1.15), 1.05);
        assert_eq!(judged(&goal, 1.05), "met");
        assert_eq!(judged(&goal, 1.154), "met; 1.05 missed by 10 %");
        assert_eq!(judged(&goal, 1.38), "MISSED by 20 %");
        let goal = least(Figure::Http, of, against, 0.95);
        assert_eq!(judged(&goal, 0.95), "met");
        assert_eq!(judged(&goal, 0.76), "MISSED by 20 %");
        assert_eq!(judged(&goal, 0.943), "MISSED by 1 %");
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let outcome = GOALS[0].judge(&Results::default());
        assert_eq!((outcome.measured, outcome.verdict.as_str()), (None, "not measured"));
        assert_eq!(outcome.reach, "≤ 1.15, then ≤ 1.05");
    }
}
