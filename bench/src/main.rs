//! Measures what Weft promises, and writes it down: `target/bench/report.json` and a table.
//!
//! Each measure is taken in many rounds; the report holds all of them, the median and the spread,
//! beside the figure to reach. Nothing here fails for being slow: a benchmark tells, a person judges.

mod attach;
mod memory;
mod plan;
mod report;
mod rows;

use std::process::ExitCode;

use report::Report;

/// Takes one group of measures.
type Measuring = fn(&mut Report) -> anyhow::Result<()>;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let mut report = Report::default();
    let measures: [(&str, Measuring); 4] = [
        ("plan", plan::measure),
        ("rows", rows::measure),
        ("attach", attach::measure),
        ("memory", memory::measure),
    ];
    let mut failed = false;
    for (name, measure) in measures {
        if !wants(name) {
            continue;
        }
        println!("measuring {name} …");
        if let Err(error) = measure(&mut report) {
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
