//! The local socket: how the command line and front doors of this host reach its daemon.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::access::AccessLayer;
use crate::listen::{self, Connection};

/// Where the daemon listens unless told otherwise.
pub const SOCKET: &str = "/run/weft/weft.sock";

/// Why the local socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A daemon listens there.
    #[error("another weft daemon listens on {0}: stop it, or choose another socket")]
    InUse(PathBuf),
    /// A file that is not a socket is in the way.
    #[error("{0} exists and is not a socket: move it away, or choose another socket")]
    NotASocket(PathBuf),
    /// The system says no.
    #[error("cannot listen on {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No daemon listens there.
    #[error("no weft daemon answers on {path}: is it running? ('systemctl status weft')")]
    NoDaemon {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Opens the socket at `path`, for root only (mode 0600). A file that a dead daemon left behind
/// is replaced; the socket of a living one is not.
///
/// # Errors
/// [`LocalError::InUse`], [`LocalError::NotASocket`], [`LocalError::Io`].
pub async fn open(path: &Path) -> Result<UnixListener, LocalError> {
    let failed = |source| LocalError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(LocalError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
            Ok(_) => return Err(LocalError::InUse(path.to_owned())),
        },
    }
    // Bound under another name and moved, so that it is never there with wider permissions, and
    // never missing while an old one is replaced.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)?;
    Ok(listener)
}

/// Serves `routes` on the local socket, guarded by `access`, until `shutdown`. Only root, and
/// the user the daemon runs as, are let in.
///
/// # Errors
/// When the transport fails as a whole.
pub async fn serve(
    listener: UnixListener,
    access: AccessLayer,
    routes: tonic::service::Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let cut = CancellationToken::new();
    let incoming = Incoming { listener, cut: cut.clone() };
    listen::run(incoming, access, routes, shutdown, cut).await
}

struct Incoming {
    listener: UnixListener,
    cut: CancellationToken,
}

impl futures_util::Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let stream = match self.listener.poll_accept(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok((stream, _))) => stream,
            };
            if may_enter(&stream) {
                return Poll::Ready(Some(Ok(Connection::local(stream, self.cut.clone()))));
            }
        }
    }
}

/// Whether the process on the other end is root's or the daemon's user's (`SO_PEERCRED`,
/// unix(7)).
fn may_enter(stream: &UnixStream) -> bool {
    let own = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m));
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || own.is_ok_and(|own| own == peer.uid()))
}

/// A channel to the daemon of this host.
///
/// # Errors
/// [`LocalError::NoDaemon`].
pub async fn connect(path: &Path) -> Result<Channel, LocalError> {
    let target = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let target = target.clone();
        async move { UnixStream::connect(target).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_timeout(Duration::from_secs(5))
        .connect_with_connector(connector)
        .await
        .map_err(|source| LocalError::NoDaemon { path: path.to_owned(), source })
}
