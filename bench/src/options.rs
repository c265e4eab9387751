//! The words of the command line.

use clap::{Parser, ValueEnum};

use crate::compare;

/// Measures what Weft promises, and writes it down.
#[derive(Debug, Parser)]
#[command(name = "weft-bench", version)]
pub(crate) struct Options {
    /// What to measure [default: all]
    #[arg(value_name = "GROUP", value_enum)]
    groups: Vec<Group>,
    #[command(flatten, next_help_heading = "Of compare")]
    pub(crate) compare: compare::Scope,
}

/// A group of measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Planning what a host's kernel should hold
    Plan,
    /// Writing rows to the kernel
    Rows,
    /// Attaching containers
    Attach,
    /// Memory of the daemon
    Memory,
    /// Starting Docker's containers, and how soon their names are known
    Start,
    /// The data path, beside the bare host network and Docker
    Compare,
}

impl Options {
    /// Whether a group is to be measured.
    pub(crate) fn wants(&self, group: Group) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        let words = [&["weft-bench"], words].concat();
        Options::try_parse_from(words).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_said_is_everything() {
        let options = parse(&[]).unwrap();
        assert!(Group::value_variants().iter().all(|g| options.wants(*g)));
        let options = parse(&["plan", "compare", "--rounds", "3"]).unwrap();
        assert!(options.wants(Group::Compare) && !options.wants(Group::Rows));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (words, named) in [
            (&["paln"][..], "paln"),
            (&["compare", "--rounds", "0"], "--rounds"),
            (&["compare", "--only", "bare,docker"], "docker"),
            (&["compare", "--measure", "ping"], "ping"),
        ] {
            assert!(parse(words).unwrap_err().contains(named), "{words:?}");
        }
        parse(&["compare", "--only", "bare,known-100000", "--measure", "udp,stream-8"]).unwrap();
    }
}
