//! Mutual TLS 1.3. Whoever is believed is believed for the URI in a certificate that the
//! cluster's authority signed; host names play no part.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use weft_model::{ClusterId, Role};

use crate::ca::{self, CaError};
use crate::identity::NodeIdentity;
use crate::token::KeyDigest;

/// Certificates or keys that TLS cannot work with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text cannot be parsed.
    #[error("the {0} cannot be parsed")]
    Unreadable(&'static str),
    /// The certificate is for another key.
    #[error("certificate and private key do not belong together")]
    Mismatch,
    /// TLS refuses them.
    #[error("TLS cannot be set up")]
    Tls(#[from] Error),
}

impl From<CaError> for TlsError {
    fn from(_: CaError) -> Self {
        Self::Unreadable("certificate of the authority")
    }
}

/// Why a certificate was not believed, beyond what webpki checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// The authority is not the one the join token names.
    #[error(
        "the server belongs to another cluster than the join token: check the address, or make a \
         new token with 'weft token create' on the right cluster"
    )]
    Pin,
    /// Not a server.
    #[error("the other side is not a server of the cluster, it is {0}")]
    Role(Role),
    /// Of another cluster.
    #[error("the other side belongs to cluster {0}, not to ours")]
    Cluster(ClusterId),
    /// No node at all.
    #[error(transparent)]
    Identity(#[from] crate::identity::InvalidIdentity),
}

impl From<Disbelief> for Error {
    fn from(why: Disbelief) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// `ring`, always: the process default is never asked.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// The certificate that this side shows; a renewed one takes its place while connections live.
#[derive(Debug)]
pub struct Certificates(ArcSwap<CertifiedKey>);

impl Certificates {
    /// From PEM texts. The authority's certificate is sent along, so that a joining host can
    /// hold it against its token.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(certificate: &str, authority: &str, key: &str) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(certificate, authority, key)?))))
    }

    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError`], and then the old one stays.
    pub fn replace(&self, certificate: &str, authority: &str, key: &str) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(certificate, authority, key)?));
        Ok(())
    }

    /// Who this side says it is.
    ///
    /// # Errors
    /// [`TlsError::Unreadable`] when the certificate names no node.
    pub fn identity(&self) -> Result<NodeIdentity, TlsError> {
        let shown = self.0.load();
        let first = shown.cert.first().ok_or(TlsError::Unreadable("certificate"))?;
        NodeIdentity::of_certificate(first).map_err(|_| TlsError::Unreadable("certificate"))
    }
}

fn certified(certificate: &str, authority: &str, key: &str) -> Result<CertifiedKey, TlsError> {
    let chain = vec![read(certificate, "certificate")?, read_authority(authority)?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| TlsError::Unreadable("private key"))?;
    let certified = CertifiedKey::new(chain, provider().key_provider.load_private_key(key)?);
    certified.keys_match().map_err(|_| TlsError::Mismatch)?;
    Ok(certified)
}

fn read(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Unreadable(what))
}

fn read_authority(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    read(pem, "certificate of the authority")
}

fn roots(authority: CertificateDer<'_>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    Ok(Arc::new(roots))
}

impl rustls::server::ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl rustls::client::ResolvesClientCert for Certificates {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS for a server: shows `certificates`; takes clients without a certificate, and clients
/// whose certificate the authority signed for `cluster`, even if it has expired (what such a
/// client may do is the access table's business).
///
/// Sessions are never resumed: every connection shows its certificate anew.
///
/// # Errors
/// [`TlsError`].
pub fn server(
    certificates: Arc<Certificates>,
    authority: &str,
    cluster: ClusterId,
) -> Result<Arc<ServerConfig>, TlsError> {
    let roots = roots(read_authority(authority)?)?;
    let inner = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(NodeVerifier { inner, cluster }))
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// TLS for a node: shows `certificates`, believes only servers of `cluster`.
///
/// # Errors
/// [`TlsError`].
pub fn client(
    certificates: Arc<Certificates>,
    authority: &str,
    cluster: ClusterId,
) -> Result<Arc<ClientConfig>, TlsError> {
    let trust = Trust::Authority { roots: roots(read_authority(authority)?)?, cluster };
    let config = client_builder(trust)?.with_client_cert_resolver(certificates);
    Ok(Arc::new(finish(config)))
}

/// TLS for a host that joins: shows nothing, believes only a server whose authority has the
/// digest in the join token.
///
/// # Errors
/// [`TlsError`].
pub fn joining(pin: KeyDigest) -> Result<Arc<ClientConfig>, TlsError> {
    let config = client_builder(Trust::Pin(pin))?.with_no_client_auth();
    Ok(Arc::new(finish(config)))
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(trust: Trust) -> Result<ClientBuilder, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier { trust })))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// What a client holds a server's certificate against.
#[derive(Debug)]
enum Trust {
    Authority { roots: Arc<RootCertStore>, cluster: ClusterId },
    Pin(KeyDigest),
}

#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (roots, ours) = match &self.trust {
            Trust::Authority { roots, cluster } => (Arc::clone(roots), Some(*cluster)),
            Trust::Pin(pin) => {
                let pinned = |c: &&CertificateDer<'_>| ca::public_key_digest(c) == Some(*pin);
                let authority = intermediates.iter().find(pinned).ok_or(Disbelief::Pin)?;
                (roots(authority.clone())?, None)
            }
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
        let identity = NodeIdentity::of_certificate(end_entity).map_err(Disbelief::from)?;
        if ours.is_some_and(|ours| ours != identity.cluster) {
            return Err(Disbelief::Cluster(identity.cluster).into());
        }
        if identity.role != Role::Server {
            return Err(Disbelief::Role(identity.role).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct NodeVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    cluster: ClusterId,
}

impl ClientCertVerifier for NodeVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let identity = NodeIdentity::of_certificate(end_entity).map_err(Disbelief::from)?;
        if identity.cluster != self.cluster {
            return Err(Disbelief::Cluster(identity.cluster).into());
        }
        // An expired certificate must still be right in everything else: it is checked as of
        // its last second. The identity tells later that it has expired.
        let last = UnixTime::since_unix_epoch(Duration::from_secs(identity.not_after));
        let at = if now > last { last } else { now };
        self.inner.verify_client_cert(end_entity, intermediates, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
