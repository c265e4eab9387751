//! `weft init`, `weft join`: this host becomes part of a cluster. And the resolver process.

use serde_json::json;
use weft_rpc::wire;

use super::Outcome;
use super::args::{Format, InitArgs, JoinArgs, ResolverArgs};
use super::client::Client;
use super::output;
use super::problem::Problem;
use super::rows;
use super::token;

/// Makes a cluster and prints how others join it.
pub(super) async fn init(mut local: Client, args: InitArgs) -> Outcome {
    let request = wire::InitRequest {
        name: args.name.map_or_else(host_name, |n| Ok(n.to_string()))?,
        advertise_address: args.advertise.map(|a| a.to_string()).unwrap_or_default(),
        data_address: args.data_address.map(|a| a.to_string()).unwrap_or_default(),
        pools: args.pools,
    };
    let reply = local.init(request).await?.into_inner();
    token::print_created(args.listing.output, &reply, "This host is now the first of a cluster.")
}

/// Joins a cluster.
pub(super) async fn join(mut local: Client, args: JoinArgs) -> Outcome {
    let request = wire::JoinClusterRequest {
        address: args.address.to_string(),
        token: args.token,
        name: args.name.map_or_else(host_name, |n| Ok(n.to_string()))?,
        data_address: args.data_address.map(|a| a.to_string()).unwrap_or_default(),
    };
    let reply = local.join_cluster(request).await?.into_inner();
    let node = rows::node(reply.node.as_ref())?;
    match args.listing.output {
        Format::Json => output::json(&json!(node)),
        Format::Table => output::print(&format!(
            "This host joined the cluster as '{}' ({}), data address {}.\n",
            node.name, node.role, node.data_address
        )),
    }
}

/// The host's name up to the first dot.
fn host_name() -> Result<String, Problem> {
    let unfit = |what: &str| {
        Problem::new(format!("the host name {what} cannot name a node"))
            .at("--name")
            .hint("give a name with --name")
    };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_err(|_| unfit("is not known and"))?;
    let label = name.trim().split('.').next().unwrap_or_default();
    let name: weft_model::Name = label.parse().map_err(|_| unfit(&format!("'{label}'")))?;
    Ok(name.to_string())
}

/// Answers names until it is told to stop.
pub(super) fn resolver(args: &ResolverArgs) -> anyhow::Result<()> {
    crate::daemon::resolver(&args.run_dir, &args.resolv_conf)
}
