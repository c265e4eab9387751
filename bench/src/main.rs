//! Measures what Weft promises, and writes it down: `target/bench/report.json` and tables.
//!
//! Each measure is taken in many rounds; the report holds all of them, the median and the spread,
//! beside the figure to reach. Nothing here fails for being slow: a benchmark tells, a person judges.

mod attach;
mod compare;
mod memory;
mod options;
mod plan;
mod pretended;
mod report;
mod rows;
mod start;

use std::process::ExitCode;

use clap::Parser;

use options::{Group, Options};
use report::Report;

/// Takes one group of measures.
type Measuring = fn(&mut Report, &Options) -> anyhow::Result<()>;

fn main() -> ExitCode {
    let options = Options::parse();
    let mut report = Report::default();
    // The comparison comes last: it wants a machine on which nothing is being taken down.
    let groups: [(Group, &str, Measuring); 6] = [
        (Group::Plan, "plan", |report, _| plan::measure(report)),
        (Group::Rows, "rows", |report, _| rows::measure(report)),
        (Group::Attach, "attach", |report, _| attach::measure(report)),
        (Group::Memory, "memory", |report, _| memory::measure(report)),
        (Group::Start, "start", |report, _| start::measure(report)),
        (Group::Compare, "compare", |report, options| compare::measure(report, &options.compare)),
    ];
    let mut failed = false;
    for (group, name, measure) in groups {
        if !options.wants(group) {
            continue;
        }
        println!("measuring {name} …");
        if let Err(error) = measure(&mut report, &options) {
            eprintln!("{name} could not be measured: {error:#}");
            failed = true;
        }
    }
    report.print();
    if let Err(error) = report.write() {
        eprintln!("the report could not be written: {error:#}");
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
