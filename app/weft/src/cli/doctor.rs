//! `weft doctor`: looks for what is wrong, and says what mends it.

use std::process::ExitCode;

use serde_json::{Value, json};
use weft_rpc::wire;

use super::Outcome;
use super::args::Format;
use super::client::Client;
use super::node;
use super::output;
use super::problem::Problem;

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    what: String,
    /// What is wrong, and what mends it; `None`: nothing.
    wrong: Option<(String, String)>,
}

pub(super) async fn run(mut local: Client, format: Format) -> Outcome {
    let status = local.status(wire::StatusRequest {}).await?.into_inner();
    let findings = look(&status)?;
    match format {
        Format::Json => output::json(&findings.iter().map(Finding::json).collect::<Value>())?,
        Format::Table => output::print(&findings.iter().map(Finding::lines).collect::<String>())?,
    };
    let well = findings.iter().all(|f| f.wrong.is_none());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Finding {
    fn json(&self) -> Value {
        let (message, hint) = self.wrong.clone().unwrap_or_default();
        json!({ "what": self.what, "ok": self.wrong.is_none(), "message": message, "hint": hint })
    }

    fn lines(&self) -> String {
        match &self.wrong {
            None => format!("ok     {}\n", self.what),
            Some((message, hint)) if hint.is_empty() => {
                format!("WRONG  {}: {message}\n", self.what)
            }
            Some((message, hint)) => {
                format!("WRONG  {}: {message}\n       hint: {hint}\n", self.what)
            }
        }
    }
}

fn finding(what: impl Into<String>, well: bool, message: String, hint: &str) -> Finding {
    Finding { what: what.into(), wrong: (!well).then(|| (message, hint.to_owned())) }
}

fn look(status: &wire::LocalStatusReply) -> Result<Vec<Finding>, Problem> {
    let mut findings = vec![finding(
        "in a cluster",
        !status.cluster_id.is_empty(),
        "this host is in no cluster yet".into(),
        "run `weft init` here, or `weft join` with a token from another host",
    )];
    if status.cluster_id.is_empty() {
        return Ok(findings);
    }
    findings.push(finding(
        "connected to a server",
        status.connected,
        format!("{} cannot be reached; containers go on, changes wait", status.server_address),
        "is the server running, and TCP port 7373 open between the hosts?",
    ));
    findings.push(finding(
        "kernel holds what is wanted",
        status.applied_generation >= status.wanted_generation,
        format!("generation {} of {}", status.applied_generation, status.wanted_generation),
        "wait a moment and look again; if it stays, see the faults and the daemon's log",
    ));
    findings.push(finding(
        "names are answered",
        status.resolver,
        "the resolver does not run".into(),
        "the daemon starts it again by itself; see its log for why it ended",
    ));
    findings.extend(status.shortcut.iter().flat_map(shortcut));
    if status.faults.is_empty() {
        findings.push(Finding { what: "kernel objects".into(), wrong: None });
    }
    findings.extend(status.faults.iter().map(|fault| Finding {
        what: "kernel object".into(),
        wrong: Some((format!("{}: {}", fault.object, fault.message), fault.hint.clone())),
    }));
    if let Some(repair) = status.repairs.last() {
        findings.push(finding(
            "nobody else changes our objects",
            false,
            format!("{} repairs, the newest: {repair}", status.repairs.len()),
            "find out which program of this host did it",
        ));
    }
    if let Some(cluster) = &status.cluster {
        for known in node::from_status(cluster)? {
            let state = known.state();
            findings.push(finding(
                format!("node {}", known.node.name),
                matches!(state, "ready" | "removed"),
                format!("it is {state} ({})", known.node.data_address),
                "look at `weft status` on that host; remove a host that is gone for good with `weft node rm`",
            ));
        }
    }
    Ok(findings)
}

/// Without the shortcut everything works, but slower: worth knowing, unless somebody wanted it so.
fn shortcut(status: &wire::ShortcutStatus) -> Vec<Finding> {
    if status.state == "off" {
        return vec![finding("the shortcut is off, a setting", true, String::new(), "")];
    }
    let mut findings = vec![finding(
        "the shortcut is on",
        status.state == "on",
        format!("packets go the bridge path: {}", status.reason),
        &status.hint,
    )];
    // Those that wait for their turn get it within seconds.
    let missing = status.unattached.iter().filter(|_| status.waiting == 0);
    findings.extend(missing.map(|name| {
        finding(
            format!("the shortcut of endpoint {name}"),
            false,
            "its program is not attached, so its packets go the bridge path".to_owned(),
            "see `weft endpoint inspect` for what the kernel says of it",
        )
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_cluster_has_one_finding() {
        let findings = look(&wire::LocalStatusReply::default()).unwrap();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].lines().starts_with("WRONG  in a cluster"));
    }

    #[test]
    fn all_is_well_when_everything_is_applied() {
        let status = wire::LocalStatusReply {
            cluster_id: "0000000000000001".into(),
            connected: true,
            resolver: true,
            ..Default::default()
        };
        assert!(look(&status).unwrap().iter().all(|f| f.wrong.is_none()));
        let lost = wire::LocalStatusReply { connected: false, ..status };
        let wrong: Vec<_> = look(&lost)
            .unwrap()
            .into_iter()
            .filter(|f| f.wrong.is_some())
            .map(|f| f.what)
            .collect();
        assert_eq!(wrong, ["connected to a server"]);
    }

    #[test]
    fn a_shortcut_that_is_missing_is_told_with_the_reason() {
        let lines = |status: &wire::ShortcutStatus| -> String {
            shortcut(status).iter().map(Finding::lines).collect()
        };
        let on = wire::ShortcutStatus { state: "on".into(), ..Default::default() };
        assert_eq!(lines(&on), "ok     the shortcut is on\n");
        let late = wire::ShortcutStatus { unattached: vec!["web-1".into()], ..on };
        assert!(lines(&late).contains("WRONG  the shortcut of endpoint web-1: its program is not"));
        assert_eq!(
            lines(&wire::ShortcutStatus { waiting: 1, ..late }),
            "ok     the shortcut is on\n"
        );
        let off = wire::ShortcutStatus { state: "off".into(), ..Default::default() };
        assert_eq!(lines(&off), "ok     the shortcut is off, a setting\n");
        let missing = wire::ShortcutStatus {
            state: "unavailable".into(),
            reason: "mount -t bpf: Operation not permitted".into(),
            hint: "give the daemon CAP_SYS_ADMIN".into(),
            ..Default::default()
        };
        assert_eq!(
            lines(&missing),
            "WRONG  the shortcut is on: packets go the bridge path: mount -t bpf: Operation not permitted\n       \
             hint: give the daemon CAP_SYS_ADMIN\n"
        );
    }
}
