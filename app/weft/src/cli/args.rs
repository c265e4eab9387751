//! The words of the command line. Values are read here, so that what makes no sense is refused
//! before anybody is asked, naming the word it was given to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use weft_model::{Name, Role};

use super::config::DaemonArgs;
use super::parse;

/// Joins containers on different hosts into networks, as if each network were one switch.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Args {
    /// Where the daemon of this host listens [default: /run/weft/weft.sock]
    #[arg(long, global = true, env = "WEFT_SOCKET", value_name = "PATH", hide_env_values = true)]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon: one per host, kept running by the service manager
    Daemon(Box<DaemonArgs>),
    /// Make a cluster; this host becomes its first server
    Init(InitArgs),
    /// Join this host to a cluster
    Join(JoinArgs),
    /// Tokens that let hosts join
    #[command(subcommand)]
    Token(TokenCommand),
    /// The hosts of the cluster
    #[command(subcommand)]
    Node(NodeCommand),
    /// Networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Run a command in a fresh network namespace on a network
    Run(RunArgs),
    /// Put a network namespace onto a network
    Attach(AttachArgs),
    /// Take a container off its networks
    Detach(DetachArgs),
    /// Containers' connections to networks
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// What this host and the cluster know and do
    Status(Listing),
    /// Look for what is wrong, and say what mends it; ends with 1 when something is
    Doctor(Listing),
    /// Virtual hosts on this machine, to try things out
    #[command(subcommand)]
    Lab(LabCommand),
    /// Print a completion script for a shell
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Answer names; the daemon starts this by itself
    #[command(hide = true)]
    Resolver(ResolverArgs),
    /// The process inside the namespace of `weft run`, before it becomes the command
    #[command(hide = true)]
    ContainerInit(ContainerInitArgs),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What every listing takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Listing {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// What to call this host [default: its host name]
    #[arg(long, env = "WEFT_NAME", value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// Where other hosts reach this server [default: the data address]
    #[arg(long, env = "WEFT_ADVERTISE", value_name = "IP")]
    pub(crate) advertise: Option<IpAddr>,
    /// Where other hosts send containers' packets [default: the address of the default route]
    #[arg(long, env = "WEFT_DATA_ADDRESS", value_name = "IP")]
    pub(crate) data_address: Option<IpAddr>,
    /// Addresses for networks without a subnet of their own, and how long a prefix each gets,
    /// as in 10.64.0.0/12,24
    #[arg(long = "pool", value_name = "CIDR,LENGTH", value_parser = parse::pool)]
    pub(crate) pools: Vec<String>,
    /// Where the cluster state lies: `embedded`, a file on this server
    #[arg(long, default_value = "embedded", value_name = "ENGINE", value_parser = parse::engine)]
    pub(crate) engine: String,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// Address and port of a server
    #[arg(value_name = "ADDR:PORT", value_parser = parse::server_address)]
    pub(crate) address: SocketAddr,
    /// What `weft init` or `weft token create` printed
    #[arg(long, env = "WEFT_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    /// What to call this host [default: its host name]
    #[arg(long, env = "WEFT_NAME", value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// Where other hosts send containers' packets [default: the address that reaches the server]
    #[arg(long, env = "WEFT_DATA_ADDRESS", value_name = "IP")]
    pub(crate) data_address: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is shown this once
    Create {
        /// What a host that joins with it becomes: agent, operator or server
        #[arg(long, default_value = "agent", value_name = "ROLE")]
        role: Role,
        /// How long it stays good, as in 30m, 24h or 7d
        #[arg(long, default_value = "24h", value_name = "TIME", value_parser = parse::duration)]
        lifetime: std::time::Duration,
        #[command(flatten)]
        listing: Listing,
    },
    /// List the tokens, without their secrets
    Ls(Listing),
    /// Refuse a token from now on
    Revoke {
        /// The token's identifier
        #[arg(value_name = "ID", value_parser = parse::token_id)]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the hosts
    Ls(Listing),
    /// Show one host
    Inspect {
        /// Its name or identifier
        node: Name,
    },
    /// Remove a host for good: its addresses are freed, its certificate refused
    Rm {
        /// Its name or identifier
        node: Name,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network
    Create(NetworkCreateArgs),
    /// List the networks
    Ls(Listing),
    /// Show one network
    Inspect {
        /// Its name or identifier
        network: Name,
    },
    /// Remove a network that nothing is attached to
    Rm {
        /// Its name or identifier
        network: Name,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct NetworkCreateArgs {
    /// What to call it
    pub(crate) name: Name,
    /// Its addresses, at most one range per family [default: from the cluster's pools]
    #[arg(long = "subnet", value_name = "CIDR", value_parser = parse::subnet)]
    pub(crate) subnets: Vec<IpNet>,
    /// Without --subnet: an IPv6 range too
    #[arg(long, conflicts_with = "subnets")]
    pub(crate) ipv6: bool,
    /// Octets of the largest packet [default: what the underlay carries]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1280..=65000))]
    pub(crate) mtu: Option<u32>,
    /// No way out and no way in
    #[arg(long)]
    pub(crate) internal: bool,
    /// Its addresses may also be another network's or the host's; only with --internal
    #[arg(long, requires = "internal")]
    pub(crate) allow_overlap: bool,
    /// An option, as in KEY=VALUE
    #[arg(long = "opt", value_name = "KEY=VALUE", value_parser = parse::key_value)]
    pub(crate) options: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

/// Who goes onto which network, and how: the same for `run` and `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// The network; several may be given, the first that is not internal gives the default route
    #[arg(long = "network", required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<Name>,
    /// What others call the container
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Name,
    /// A further name
    #[arg(long = "alias", value_name = "NAME")]
    pub(crate) aliases: Vec<Name>,
    /// An address it must have; with several networks as NETWORK=IP
    #[arg(long = "ip", value_name = "[NETWORK=]IP", value_parser = parse::address)]
    pub(crate) addresses: Vec<parse::Address>,
    /// Addresses beyond its own that it may send from, for a container that routes
    #[arg(long = "allow-source", value_name = "CIDR", value_parser = parse::subnet)]
    pub(crate) allow_source: Vec<IpNet>,
    /// How long to wait for the other hosts, as in 500ms
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = parse::wait)]
    pub(crate) wait: std::time::Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) wish: Wish,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) wish: Wish,
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

/// Which network namespace.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ContainerArgs {
    /// The network namespace, as a path, or as its name under /run/netns
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: Option<PathBuf>,
    /// The network namespace of this process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DetachArgs {
    /// The container's name, or an endpoint's identifier
    #[arg(value_name = "NAME", required_unless_present_any = ["name", "netns", "pid"])]
    pub(crate) container: Option<Name>,
    /// The same, as a flag
    #[arg(long, value_name = "NAME", conflicts_with = "container")]
    pub(crate) name: Option<Name>,
    /// Its network namespace, as a path, or as its name under /run/netns
    #[arg(long, value_name = "PATH", conflicts_with_all = ["container", "name"])]
    pub(crate) netns: Option<PathBuf>,
    /// The network namespace of this process
    #[arg(long, value_name = "PID", conflicts_with_all = ["container", "name", "netns"],
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
    /// Off this network only [default: off all]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<Name>,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// List the endpoints
    Ls {
        /// Of this network only
        #[arg(long, value_name = "NETWORK")]
        network: Option<Name>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one endpoint with what this host's kernel holds for it
    Inspect {
        /// The container's name, or the endpoint's identifier
        endpoint: Name,
        /// On this network
        #[arg(long, value_name = "NETWORK")]
        network: Option<Name>,
        #[command(flatten)]
        listing: Listing,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Make virtual hosts on a virtual underlay
    Up {
        /// What to call the lab
        #[arg(long, default_value = "lab", value_name = "NAME", value_parser = parse::lab_name)]
        name: String,
        /// How many hosts
        #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=26))]
        hosts: u8,
        /// The hosts' addresses are IPv6 only
        #[arg(long)]
        ipv6_underlay: bool,
        /// Octets of the largest packet on the underlay
        #[arg(long, default_value_t = 1500, value_name = "N", value_parser = clap::value_parser!(u32).range(1280..=65535))]
        mtu: u32,
    },
    /// Run a command on a virtual host
    Exec {
        /// The lab
        #[arg(long, default_value = "lab", value_name = "NAME", value_parser = parse::lab_name)]
        name: String,
        /// The host: a, b, …
        host: String,
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<std::ffi::OsString>,
    },
    /// Show the labs of this machine
    Status(Listing),
    /// Remove a lab and everything in it
    Down {
        /// The lab
        #[arg(long, default_value = "lab", value_name = "NAME", value_parser = parse::lab_name)]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResolverArgs {
    /// Where the daemon left its table and listens for the resolver
    #[arg(long, env = "WEFT_RUN_DIR", default_value = "/run/weft", value_name = "DIR")]
    pub(crate) run_dir: PathBuf,
    /// Where the host's own name servers are written
    #[arg(long, env = "WEFT_RESOLV_CONF", default_value = "/etc/resolv.conf", value_name = "PATH")]
    pub(crate) resolv_conf: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ContainerInitArgs {
    /// Told to when the namespace is there
    #[arg(long, value_name = "FD")]
    pub(crate) ready: i32,
    /// Where what to write into resolv.conf comes from; its end starts the command
    #[arg(long, value_name = "FD")]
    pub(crate) go: i32,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}
