//! `weft lab`: virtual hosts on this machine, to try things out.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use serde_json::{Value, json};
use weft_lab::{Lab, LabConfig, Owner};

use super::Outcome;
use super::args::{LabCommand, Listing};
use super::output;
use super::problem::Problem;

pub(super) fn run(command: LabCommand) -> Outcome {
    match command {
        LabCommand::Up { name, hosts, ipv6_underlay, mtu } => {
            let config = LabConfig {
                hosts: usize::from(hosts),
                ipv6_underlay,
                mtu,
                owner: Owner::Nobody,
                ..LabConfig::new(&name)
            };
            up(config)
        }
        LabCommand::Exec { name, host, command } => exec(&name, &host, &command),
        LabCommand::Status(listing) => status(listing),
        LabCommand::Down { name } => {
            Lab::down_named(&name).map_err(lab_problem)?;
            output::print(&format!("Lab '{name}' is gone.\n"))
        }
    }
}

fn lab_problem(error: weft_lab::Error) -> Problem {
    let hint = error.hint();
    Problem::new(error.to_string()).hint(hint)
}

fn up(config: LabConfig) -> Outcome {
    let name = config.name.clone();
    let lab = Lab::up(config).map_err(lab_problem)?;
    let mut text = format!("Lab '{name}' is up:\n");
    for host in lab.hosts() {
        text.push_str(&format!("  {}  {}  (namespace {})\n", host.name, host.address, host.netns));
    }
    let flag = if name == "lab" { String::new() } else { format!(" --name {name}") };
    text.push_str(&format!(
        "\nTry:\n  weft lab exec{flag} a -- weft daemon &\n  weft lab exec{flag} b -- weft daemon &\n  \
         weft lab exec{flag} a -- weft init\n  weft lab exec{flag} b -- weft join …\n  weft lab down{flag}\n"
    ));
    lab.leave_up();
    output::print(&text)
}

fn exec(name: &str, host: &str, command: &[OsString]) -> Outcome {
    let lab = Lab::open(name).map_err(lab_problem)?;
    let (program, arguments) =
        command.split_first().ok_or_else(|| Problem::new("no command was given").at("CMD"))?;
    let mut command = lab.command(host, program).map_err(|e| lab_problem(e).at("HOST"))?;
    command.args(arguments);
    // Stays this process, so that signals and the terminal need no passing on.
    let error = command.exec();
    let problem = Problem::new(format!("cannot run '{}': {error}", program.to_string_lossy()));
    Err(problem.at("CMD"))
}

fn status(listing: Listing) -> Outcome {
    let labs = Lab::list().map_err(lab_problem)?;
    let lines = labs.iter().flat_map(|lab| {
        lab.hosts().iter().map(|host| {
            vec![
                lab.name().to_owned(),
                host.name.clone(),
                host.address.to_string(),
                host.netns.clone(),
                lab.processes(&host.name).len().to_string(),
            ]
        })
    });
    let value: Value = labs
        .iter()
        .map(|lab| {
            let hosts: Value = lab
                .hosts()
                .iter()
                .map(|h| json!({ "name": h.name, "address": h.address, "netns": h.netns }))
                .collect();
            json!({ "name": lab.name(), "hosts": hosts })
        })
        .collect();
    let headings = ["LAB", "HOST", "ADDRESS", "NAMESPACE", "PROCESSES"];
    output::listing(listing.output, &headings, lines, &value)
}
