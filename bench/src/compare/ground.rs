//! What a run stood on: figures mean little without it.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// The machine and the tools.
#[derive(Debug, Serialize)]
pub(crate) struct Ground {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) docker: Option<String>,
    /// Of TCP.
    pub(crate) congestion_control: Option<String>,
    pub(crate) weft: String,
    /// How far the machine was from idle when the rounds had ended (`proc_loadavg(5)`).
    pub(crate) load: String,
    pub(crate) tools: Vec<String>,
}

impl Ground {
    /// Looks; what cannot be seen is left empty.
    pub(crate) fn new(docker: Option<String>, congestion_control: Option<String>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let weft = super::weft::program().map(|p| version(&p.to_string_lossy(), "--version"));
        let tools = [
            ("iperf3", "--version"),
            ("sockperf", "--version"),
            ("ab", "-V"),
            ("nginx", "-v"),
            ("redis-benchmark", "--version"),
        ];
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: model.unwrap_or_default().trim_matches([':', ' ', '\t']).to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            docker,
            congestion_control,
            weft: weft.unwrap_or_default(),
            load: read("/proc/loadavg").trim().to_owned(),
            tools: tools
                .iter()
                .map(|(tool, flag)| format!("{tool} {}", version(tool, flag)))
                .collect(),
        }
    }
}

/// The first word with a digit of what a program prints about itself.
fn version(program: &str, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output();
    let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    first_version(&String::from_utf8_lossy(&text))
}

fn first_version(text: &str) -> String {
    let numbered = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')
            || word
                .rsplit_once('/')
                .is_some_and(|(_, v)| v.starts_with(|c: char| c.is_ascii_digit()))
    };
    let word = text.split([' ', '\n', '=', ',']).find(numbered).unwrap_or_default();
    word.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::first_version;

    #[test]
    fn a_version_is_found_where_programs_print_it() {
        for (text, version) in [
            ("iperf 3.12 (cJSON 1.7.15)\nLinux", "3.12"),
            ("sockperf, version 3.7-no.git\ncompiled with 1", "3.7-no.git"),
            ("This is ApacheBench, Version 2.3 <$Revision: 1903618 $>", "2.3"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("redis-benchmark 7.0.15", "7.0.15"),
            ("weft 0.1.0", "0.1.0"),
            ("nothing", ""),
        ] {
            assert_eq!(first_version(text), version, "{text}");
        }
    }
}
