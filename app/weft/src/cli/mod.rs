//! The command line: words in, one request to the local daemon, an answer people and programs can read.
//!
//! ```text
//!  args ──▶ one file per noun ──▶ client ──▶ /run/weft/weft.sock
//!                │
//!                └──▶ output: table or JSON
//! ```
//!
//! Nothing here touches the kernel's networking: a command states a wish and shows what came of it.
//! `weft run` is the one exception that makes something itself: the fresh namespace of its process.

mod args;
mod attach;
mod client;
pub(crate) mod config;
mod container;
mod doctor;
mod endpoint;
mod generate;
mod host;
mod lab;
mod network;
mod node;
mod output;
mod parse;
mod problem;
mod resolv;
mod rows;
mod run;
mod status;
mod token;
mod traffic;

use std::process::ExitCode;

use clap::Parser;

pub(crate) use config::{DaemonConfig, ShortcutSetting};

use args::{Args, Command};
use problem::Problem;

/// What every command comes to: the status it ends with, or why it failed.
type Outcome = Result<ExitCode, Problem>;

/// Reads the command line, does what it says, and gives the status to end with: 0 when it was done,
/// 1 when it could not be, 2 when it was not understood.
pub(crate) fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nobody is left to tell when even standard error is closed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    dispatch(args).unwrap_or_else(|problem| {
        problem.print();
        ExitCode::FAILURE
    })
}

fn dispatch(args: Args) -> Outcome {
    let socket = args.socket;
    match args.command {
        Command::Daemon(options) => {
            let config = DaemonConfig::load(&options, socket)?;
            crate::daemon::run(config)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Resolver(options) => {
            host::resolver(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::ContainerInit(options) => container::init(&options),
        Command::Run(options) => run::run(&client::path(socket), &options),
        Command::Lab(command) => lab::run(command),
        Command::Completion { shell } => generate::completion(shell),
        Command::Man { directory } => generate::man(&directory),
        other => client::with(&client::path(socket), async |local| ask(other, local).await),
    }
}

/// The commands that are one conversation with the daemon.
async fn ask(command: Command, local: client::Client) -> Outcome {
    match command {
        Command::Init(options) => host::init(local, options).await,
        Command::Join(options) => host::join(local, options).await,
        Command::Token(command) => token::run(local, command).await,
        Command::Node(command) => node::run(local, command).await,
        Command::Network(command) => network::run(local, command).await,
        Command::Endpoint(command) => endpoint::run(local, command).await,
        Command::Attach(options) => attach::attach(local, options).await,
        Command::Detach(options) => attach::detach(local, options).await,
        Command::Status(listing) => status::run(local, listing.output).await,
        Command::Doctor(listing) => doctor::run(local, listing.output).await,
        Command::Daemon(_)
        | Command::Resolver(_)
        | Command::ContainerInit(_)
        | Command::Run(_)
        | Command::Lab(_)
        | Command::Completion { .. }
        | Command::Man { .. } => Err(Problem::new("this command does not speak with the daemon")),
    }
}
