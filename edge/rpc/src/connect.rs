//! Channels to servers: by socket address, never by name, with a deadline on everything.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::ca::SERVER_NAME;
use crate::tls::Disbelief;
use crate::wire::cluster_client::ClusterClient;

/// How long connecting may take, TCP and TLS together.
pub const CONNECT: Duration = Duration::from_secs(5);

/// Snapshots come as one message; this is 1,000,000 rows and more. Servers are believed not to
/// send nonsense.
const MAX_MESSAGE: usize = 512 * 1024 * 1024;

/// Why a server could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody there, or nobody answers.
    #[error("the server at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Which.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// It is there, but it is not who it should be, or does not know us.
    #[error("the server at {address} is not trusted: {reason}")]
    Untrusted {
        /// Which.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// A client for the cluster's servers over one channel.
pub type Client = ClusterClient<Channel>;

/// Connects to the server at `address`.
///
/// # Errors
/// [`ConnectError`].
pub async fn cluster(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<Client, ConnectError> {
    let connector = service_fn(move |_| {
        let tls = Arc::clone(&tls);
        async move { open(address, tls).await.map(TokioIo::new) }
    });
    let channel = endpoint()
        .connect_with_connector(connector)
        .await
        .map_err(|error| explain(address, &error))?;
    Ok(ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://weft-server")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
}

async fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        TlsConnector::from(tls).connect(name, stream).await
    };
    timeout(CONNECT, connecting)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 5 s")))
}

fn explain(address: SocketAddr, error: &tonic::transport::Error) -> ConnectError {
    let mut innermost = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let tls = error
            .downcast_ref::<io::Error>()
            .and_then(|e| e.get_ref())
            .and_then(|e| e.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls {
            return ConnectError::Untrusted { address, reason: explain_tls(tls) };
        }
        innermost = error.to_string();
        cause = error.source();
    }
    ConnectError::Unreachable { address, reason: innermost }
}

fn explain_tls(error: &rustls::Error) -> String {
    use rustls::Error::InvalidCertificate;
    match error {
        InvalidCertificate(CertificateError::Other(other)) => {
            let why = other.0.downcast_ref::<Disbelief>();
            why.map_or_else(|| error.to_string(), Disbelief::to_string)
        }
        InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate begins in the future: check the clocks of both hosts".to_owned(),
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired: check the clocks of both hosts".to_owned()
        }
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is of another cluster".to_owned()
        }
        other => other.to_string(),
    }
}
