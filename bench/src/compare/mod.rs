//! The side-by-side comparison: the bare host network, the kernel's VXLAN, Docker and Weft, between
//! the same two virtual hosts, in one run.
//!
//! ```text
//!   for round { for block of measures { for variant, each turn in another order { measure … } } }
//! ```

mod chart;
mod docker;
mod goals;
mod ground;
mod hosts;
mod interrupt;
mod known;
mod measures;
mod outcome;
mod results;
mod table;
mod tools;
mod variants;
mod way;
mod weft;
mod world;

use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;

use hosts::Between;
use measures::{BLOCKS, Measure};
pub(crate) use outcome::Comparison;
use results::Results;
use variants::{Group, Variant};
use world::World;

use crate::report::Report;

/// Rounds, unless told otherwise.
const ROUNDS: u16 = 7;

/// What of it to run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Scope {
    /// How often everything is measured [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// These variants only
    #[arg(long, value_name = "VARIANT", value_enum, value_delimiter = ',')]
    only: Vec<Variant>,
    /// These measures only
    #[arg(long, value_name = "MEASURE", value_enum, value_delimiter = ',')]
    measure: Vec<Measure>,
    /// One round, and at most 1,000 endpoints known: to see that it works, not to measure
    #[arg(long)]
    quick: bool,
    /// A bare cable between the hosts instead of a switch (a bridge)
    #[arg(long)]
    cable: bool,
}

impl Scope {
    fn rounds(&self) -> u16 {
        self.rounds.unwrap_or(if self.quick { 1 } else { ROUNDS })
    }

    const fn between(&self) -> Between {
        if self.cable { Between::Cable } else { Between::Switch }
    }

    fn variants(&self) -> Vec<Variant> {
        let wanted = |v: &Variant| match self.only.as_slice() {
            [] => !(self.quick && *v == Variant::Known100000),
            only => only.contains(v),
        };
        Variant::all().iter().copied().filter(wanted).collect()
    }

    fn measures(&self) -> Vec<Measure> {
        let wanted = |m: &Measure| self.measure.is_empty() || self.measure.contains(m);
        Measure::value_variants().iter().copied().filter(wanted).collect()
    }
}

/// Takes all rounds. What was measured is in the report also when something failed.
///
/// # Errors
/// When something could not be measured.
pub(crate) fn measure(report: &mut Report, scope: &Scope) -> anyhow::Result<()> {
    interrupt::watch()?;
    let mut run = Run {
        results: Results::default(),
        measures: scope.measures(),
        failures: Vec::new(),
        turn: 0,
        begun: Instant::now(),
        docker: None,
        tcp: None,
    };
    // What is known comes in the end, on hosts of its own, when all others are gone.
    let (known, others): (Vec<Variant>, Vec<Variant>) =
        scope.variants().into_iter().partition(|v| v.group() == Group::Known);
    for part in [others, known].into_iter().filter(|part| !part.is_empty()) {
        let ended = interrupt::check().and_then(|()| run.part(&part, scope));
        if let Err(error) = ended {
            run.failures.push(format!("{error:#}"));
        }
    }
    report.compared(Comparison::new(&run.results, ground::Ground::new(run.docker, run.tcp)));
    anyhow::ensure!(run.failures.is_empty(), "{}", run.failures.join("; "));
    Ok(())
}

/// A run under way.
struct Run {
    results: Results,
    measures: Vec<Measure>,
    failures: Vec<String>,
    turn: usize,
    begun: Instant,
    /// Which Docker was measured.
    docker: Option<String>,
    /// With which congestion control.
    tcp: Option<String>,
}

impl Run {
    fn tell(&self, what: &str) {
        println!("  {:4.0} s: {what}", self.begun.elapsed().as_secs_f64());
    }

    /// All rounds of these variants, in a world of their own.
    fn part(&mut self, variants: &[Variant], scope: &Scope) -> anyhow::Result<()> {
        let rounds = scope.rounds();
        self.tell("hosts, engines and containers …");
        let mut world = World::up(variants, scope.between())?;
        let (docker, tcp) = world.settings()?;
        self.docker = self.docker.take().or(docker);
        self.tcp = Some(tcp);
        for round in 0..rounds {
            self.tell(&format!("round {} of {rounds}", round + 1));
            self.results.begin_round(usize::from(round));
            self.round(&mut world, variants)?;
        }
        self.tell("taking it down");
        Ok(())
    }

    fn round(&mut self, world: &mut World, variants: &[Variant]) -> anyhow::Result<()> {
        for block in BLOCKS {
            let wanted = block.iter().copied().filter(|m| self.measures.contains(m));
            let block: Vec<Measure> = wanted.collect();
            let taken = |v: &Variant| block.iter().any(|m| m.is_of(v.group()));
            let taking_part: Vec<Variant> = variants.iter().copied().filter(taken).collect();
            for variant in variants::order(&taking_part, self.turn, world.shortcut()) {
                let mut measures = block.clone();
                measures.retain(|m| m.is_of(variant.group()));
                self.turn_of(world, variant, &measures)?;
            }
            self.turn += 1;
        }
        Ok(())
    }

    /// Takes the measures of a block of one variant.
    fn turn_of(
        &mut self,
        world: &mut World,
        variant: Variant,
        measures: &[Measure],
    ) -> anyhow::Result<()> {
        interrupt::check()?;
        let mut waiting = world.prepare(variant, measures).with_context(|| variant.name())?;
        for measure in measures {
            let taken = world.measure(variant, *measure, waiting.remove(measure));
            // When it fails, once more. Then it is a gap, and the run goes on.
            let again = |error: anyhow::Error| {
                interrupt::check()?;
                eprintln!("  {} {measure:?}: {error:#}; once more", variant.name());
                world.measure(variant, *measure, None)
            };
            match taken.or_else(again) {
                Ok(figures) => {
                    for (figure, value) in figures {
                        self.results.note(variant, figure, value);
                    }
                }
                Err(error) => {
                    interrupt::check()?;
                    let failure = format!("{} {measure:?}: {error:#}", variant.name());
                    eprintln!("  {failure}");
                    self.failures.push(failure);
                }
            }
        }
        Ok(())
    }
}
