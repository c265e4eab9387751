//! One conversation with the daemon of this host, over its socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use weft_rpc::wire::local_client::LocalClient;

use super::problem::Problem;

/// What the commands speak with.
pub(super) type Client = LocalClient<Channel>;

/// Where the daemon listens when nobody says otherwise.
pub(super) const SOCKET: &str = "/run/weft/weft.sock";

/// Longer than any call may take: an attach waits up to 10 s for this host's kernel and as long for others.
const DEADLINE: Duration = Duration::from_secs(30);

/// The socket's path.
pub(super) fn path(given: Option<PathBuf>) -> PathBuf {
    given.unwrap_or_else(|| SOCKET.into())
}

/// Connects and lets `conversation` take place; returns what it comes to.
pub(super) fn with<T>(
    socket: &Path,
    conversation: impl AsyncFnOnce(Client) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { conversation(connect(socket).await?).await })
}

async fn connect(socket: &Path) -> Result<Client, Problem> {
    // Opened once by itself first: the transport's own words for a refused connection say less.
    tokio::net::UnixStream::connect(socket).await.map_err(|error| refused(socket, &error))?;
    let unreachable = |error: &dyn std::fmt::Display| {
        Problem::new(format!("cannot speak with the daemon at {}: {error}", socket.display()))
    };
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
        .map_err(|e| unreachable(&e).at("--socket"))?
        .timeout(DEADLINE)
        .connect()
        .await
        .map_err(|e| unreachable(&e))?;
    Ok(LocalClient::new(channel))
}

fn refused(socket: &Path, error: &std::io::Error) -> Problem {
    let problem = Problem::new(format!("cannot reach the daemon at {}: {error}", socket.display()));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => problem.hint("run this as root"),
        _ => problem.hint(
            "start it with `weft daemon` (or `systemctl start weft`), or name its socket with --socket",
        ),
    }
}
