//! Completion scripts and manual pages, made from the words of the command line.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use super::Outcome;
use super::args::Args;
use super::output;
use super::problem::Problem;

/// Prints the completion script for `shell`.
pub(super) fn completion(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "weft", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes one manual page per command into `directory`.
pub(super) fn man(directory: &Path) -> Outcome {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Args::command(), directory))
        .map_err(|e| Problem::new(format!("{}: {e}", directory.display())).at("DIRECTORY"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_consistent() {
        Args::command().debug_assert();
    }
}
