//! `weft attach`, `weft detach`: network namespaces go onto networks and off them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weft_model::Endpoint;
use weft_rpc::wire;

use super::Outcome;
use super::args::{AttachArgs, DetachArgs, Format, Wish};
use super::client::Client;
use super::output;
use super::problem::Problem;
use super::resolv;
use super::rows;

/// Puts a namespace onto networks.
pub(super) async fn attach(mut local: Client, args: AttachArgs) -> Outcome {
    let netns = container_netns(args.container.netns.as_deref(), args.container.pid)?;
    let attached = all(&mut local, &args.wish, &netns).await?;
    let resolver = match resolv::file_for(&netns) {
        Some(file) if resolv::write(&file, &attached.resolv_conf)? => {
            format!("names: {}", file.display())
        }
        Some(file) => format!(
            "{} is somebody else's and stays; for names it needs:\n{}",
            file.display(),
            attached.resolv_conf
        ),
        None => {
            format!("For names, the container's /etc/resolv.conf needs:\n{}", attached.resolv_conf)
        }
    };
    match args.listing.output {
        Format::Json => {
            let endpoints: Value = attached.replies.iter().map(Attached::json).collect();
            output::json(&json!({ "endpoints": endpoints, "resolv_conf": attached.resolv_conf }))
        }
        Format::Table => {
            let mut text: String = attached.replies.iter().map(Attached::line).collect();
            text.push_str(resolver.trim_end());
            text.push('\n');
            output::print(&text)
        }
    }
}

/// What came of a wish.
pub(super) struct AllAttached {
    replies: Vec<Attached>,
    /// For the container's resolv.conf.
    pub(super) resolv_conf: String,
}

struct Attached {
    endpoint: Endpoint,
    reply: wire::AttachReply,
}

/// One request per network, checked against each other before the first is sent.
pub(super) fn requests(wish: &Wish, netns: &Path) -> Result<Vec<wire::AttachRequest>, Problem> {
    let mut requests: Vec<wire::AttachRequest> = Vec::new();
    for network in &wish.networks {
        if requests.iter().any(|r| r.network.eq_ignore_ascii_case(network.as_str())) {
            return Err(Problem::new(format!("'{network}' was given twice")).at("--network"));
        }
        let for_it =
            wish.addresses.iter().filter(|a| a.network.as_ref().is_none_or(|n| n == network));
        requests.push(wire::AttachRequest {
            network: network.to_string(),
            name: wish.name.to_string(),
            aliases: wish.aliases.iter().map(ToString::to_string).collect(),
            addresses: for_it.map(|a| a.ip.to_string()).collect(),
            netns: netns.to_string_lossy().into_owned(),
            allow_source: wish.allow_source.iter().map(ToString::to_string).collect(),
            timeout_ms: u32::try_from(wish.wait.as_millis()).unwrap_or(u32::MAX),
        });
    }
    for address in &wish.addresses {
        match &address.network {
            None if requests.len() > 1 => {
                return Err(Problem::new(format!("which network is {} for?", address.ip))
                    .at("--ip")
                    .hint(format!("write it as --ip {}={}", wish.networks[0], address.ip)));
            }
            Some(network) if !wish.networks.contains(network) => {
                return Err(Problem::new(format!(
                    "network '{network}' is not among those of --network"
                ))
                .at("--ip"));
            }
            _ => {}
        }
    }
    Ok(requests)
}

/// States the wish, one network after the other. When a later one is refused, those that this
/// call made go again, so that a refusal changes nothing.
pub(super) async fn all(
    local: &mut Client,
    wish: &Wish,
    netns: &Path,
) -> Result<AllAttached, Problem> {
    let requests = requests(wish, netns)?;
    let mut before = Vec::new();
    if requests.len() > 1 {
        let known = rows::networks(local).await?;
        if let Some(missing) = wish.networks.iter().find(|n| known.iter().all(|k| k.name != **n)) {
            return Err(Problem::new(format!("there is no network '{missing}'"))
                .at("--network")
                .hint("see `weft network ls`, or create it with `weft network create`"));
        }
        before = rows::endpoints(local).await?;
    }
    let mut done = AllAttached { replies: Vec::new(), resolv_conf: String::new() };
    for request in requests {
        match one(local, request).await {
            Ok(attached) => {
                done.resolv_conf.clone_from(&attached.reply.resolv_conf);
                attached.warn();
                done.replies.push(attached);
            }
            Err(problem) => {
                let new = |a: &&Attached| before.iter().all(|e| e.id != a.endpoint.id);
                for attached in done.replies.iter().filter(new) {
                    let network = attached.reply.network_name.clone();
                    let netns = netns.to_string_lossy().into_owned();
                    local
                        .detach(wire::DetachRequest { netns, network, ..Default::default() })
                        .await?;
                }
                return Err(problem);
            }
        }
    }
    Ok(done)
}

async fn one(local: &mut Client, request: wire::AttachRequest) -> Result<Attached, Problem> {
    let reply = local.attach(request).await?.into_inner();
    Ok(Attached { endpoint: rows::endpoint(reply.endpoint.as_ref())?, reply })
}

impl Attached {
    fn line(&self) -> String {
        let (endpoint, reply) = (&self.endpoint, &self.reply);
        format!(
            "'{}' is on network '{}' as {}: {}, MTU {}\n",
            endpoint.name,
            reply.network_name,
            reply.interface,
            output::joined(&endpoint.addresses),
            reply.mtu
        )
    }

    fn json(&self) -> Value {
        let mut value = json!(self.endpoint);
        value["network_name"] = json!(self.reply.network_name);
        value["interface"] = json!(self.reply.interface);
        value["gateways"] = json!(self.reply.gateways);
        value["mtu"] = json!(self.reply.mtu);
        value["behind"] = json!(self.reply.behind);
        value["unpublished"] = json!(self.reply.unpublished);
        value
    }

    /// Tells what is not yet as it should be, beside the answer.
    fn warn(&self) {
        let (name, network) = (&self.endpoint.name, &self.reply.network_name);
        if self.reply.unpublished {
            eprintln!(
                "warning: no server could be told of '{name}' on '{network}' yet; other hosts learn of it later"
            );
        }
        if !self.reply.behind.is_empty() {
            let nodes = self.reply.behind.join(", ");
            eprintln!("warning: not yet known on {nodes}: '{name}' on '{network}'");
        }
    }
}

/// Takes a container off its networks.
pub(super) async fn detach(mut local: Client, args: DetachArgs) -> Outcome {
    let netns = match (&args.netns, args.pid) {
        (None, None) => None,
        // A namespace may be gone already: the daemon knows it by its path, too.
        (Some(given), _) => {
            Some(resolv::netns_path(given).or_else(|_| Ok::<_, Problem>(given.clone()))?)
        }
        (_, Some(pid)) => Some(pid_netns(pid)),
    };
    let request = wire::DetachRequest {
        name: args.container.or(args.name).map(|n| n.to_string()).unwrap_or_default(),
        netns: netns.as_deref().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default(),
        network: args.network.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let reply = local.detach(request).await?.into_inner();
    let endpoints: Vec<Endpoint> =
        reply.endpoints.iter().map(|row| rows::endpoint(Some(row))).collect::<Result<_, _>>()?;
    if args.network.is_none()
        && let Some(file) = netns.as_deref().and_then(resolv::file_for)
    {
        resolv::remove(&file)?;
    }
    match args.listing.output {
        Format::Json => output::json(&json!(endpoints)),
        Format::Table if endpoints.is_empty() => output::print("Nothing was attached.\n"),
        Format::Table => {
            let line = |e: &Endpoint| {
                format!("'{}' ({}) is detached.\n", e.name, output::joined(&e.addresses))
            };
            output::print(&endpoints.iter().map(line).collect::<String>())
        }
    }
}

fn container_netns(netns: Option<&Path>, pid: Option<u32>) -> Result<PathBuf, Problem> {
    match (netns, pid) {
        (Some(given), _) => resolv::netns_path(given),
        (None, Some(pid)) => {
            let path = pid_netns(pid);
            std::fs::metadata(&path).map_err(|e| {
                Problem::new(format!("process {pid}: {e}"))
                    .at("--pid")
                    .hint("give the identifier of a running process")
            })?;
            Ok(path)
        }
        (None, None) => Err(Problem::new("no network namespace was given").at("--netns")),
    }
}

fn pid_netns(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        wish: Wish,
    }

    fn wish(words: &str) -> Wish {
        Words::parse_from(format!("x {words}").split(' ')).wish
    }

    #[test]
    fn an_address_goes_to_its_network() {
        let netns = Path::new("/run/netns/x");
        let one = requests(&wish("--network web --name n --ip 10.3.0.2"), netns).unwrap();
        assert_eq!(one[0].addresses, ["10.3.0.2"]);
        assert_eq!(one[0].timeout_ms, 500);
        let two = wish("--network web --network db --name n --ip db=10.4.0.2");
        let two = requests(&two, netns).unwrap();
        assert!(two[0].addresses.is_empty());
        assert_eq!(two[1].addresses, ["10.4.0.2"]);
    }

    #[test]
    fn an_address_without_or_with_another_network_is_refused() {
        let netns = Path::new("/run/netns/x");
        for (words, message) in [
            (
                "--network web --network db --name n --ip 10.3.0.2",
                "error: --ip: which network is 10.3.0.2 for?\nhint: write it as --ip web=10.3.0.2",
            ),
            (
                "--network web --name n --ip db=10.3.0.2",
                "error: --ip: network 'db' is not among those of --network",
            ),
            ("--network web --network WEB --name n", "error: --network: 'WEB' was given twice"),
        ] {
            assert_eq!(requests(&wish(words), netns).unwrap_err().to_string(), message);
        }
    }
}
