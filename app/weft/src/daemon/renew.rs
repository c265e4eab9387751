//! Renews this node's certificate before it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use weft_rpc::wire;

use super::{Daemon, Running};

/// How often the end is looked at, at most: short-lived certificates are looked at more often.
const LOOK: Duration = Duration::from_secs(60);

/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Renews while less than this part of the lifetime is left.
const LEFT: u32 = 3;

/// Renews for as long as the process lives. A certificate that has ended already is renewed too:
/// a cluster that was switched off comes back.
pub(crate) async fn keep(daemon: Arc<Daemon>, running: Arc<Running>) {
    let lifetime = daemon.config.certificate_lifetime;
    let look = LOOK.min(lifetime / (LEFT * 4)).max(Duration::from_millis(200));
    loop {
        let good = renew_if_needed(&daemon, &running).await;
        let wait = if good { look } else { AGAIN.min(look) };
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.8..1.2))).await;
    }
}

/// Whether the certificate is good for a while.
async fn renew_if_needed(daemon: &Daemon, running: &Running) -> bool {
    let Ok(identity) = running.certificates.identity() else { return false };
    let left = Duration::from_secs(identity.not_after.saturating_sub(now()));
    if left > daemon.config.certificate_lifetime / LEFT {
        return true;
    }
    match renew(daemon, running).await {
        Ok(()) => {
            tracing::info!("certificate renewed");
            true
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "certificate not renewed");
            false
        }
    }
}

async fn renew(daemon: &Daemon, running: &Running) -> anyhow::Result<()> {
    let stored = daemon.identity.load()?.context("this host is in no cluster")?;
    let csr = stored.key.signing_request()?;
    let reply = match &running.server {
        Some(server) => server.renew_own(&csr).await?,
        None => ask(running, &stored, csr).await?,
    };
    let key = stored.key.to_pem();
    running.certificates.replace(&reply.certificate, &reply.ca_certificate, &key)?;
    running.agent.uplink.on_renewed();
    daemon.identity.keep_certificate(&reply.certificate)
}

/// On a connection of its own: the uplink's is refused once the certificate has ended.
async fn ask(
    running: &Running,
    stored: &super::identity::StoredIdentity,
    csr: String,
) -> anyhow::Result<wire::RenewReply> {
    let tls = weft_rpc::tls::client(
        running.certificates.clone(),
        &stored.ca_certificate,
        stored.node.cluster,
    )?;
    let servers = running.servers.borrow().clone();
    let mut reason = anyhow::anyhow!("no server is known");
    for address in servers {
        let asked = async {
            let mut client = weft_rpc::connect::cluster(address, tls.clone()).await?;
            let reply = client.renew(wire::RenewRequest { csr: csr.clone() }).await;
            reply.map_err(|s| anyhow::anyhow!("{}", weft_rpc::error::told(&s).message))
        };
        match asked.await {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// Seconds since 1970-01-01 UTC.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
