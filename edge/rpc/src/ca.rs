//! The cluster's certificate authority, and the keys of nodes.
//!
//! A certificate names cluster, role and node in one URI ([`identity::uri`]); of a signing
//! request only the public key counts. ECDSA on P-256 throughout (`ring` has it, every TLS
//! stack knows it).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use weft_model::row::Authority;
use weft_model::{ClusterId, NodeId, Role};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::identity;
use crate::token::KeyDigest;

/// How long a node's certificate is good if nothing else is asked for: 24 h.
pub const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Certificates begin this long before they are made, for hosts whose clocks run late: 1 h.
pub const BACK_DATE: Duration = Duration::from_secs(60 * 60);

/// The DNS name in the certificates of servers. Nobody resolves or checks it: TLS wants one.
pub const SERVER_NAME: &str = "weft-server";

/// Signing requests longer than this are refused unread.
const MAX_REQUEST: usize = 16 * 1024;

/// What went wrong with a key or a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The signing request is not one.
    #[error("the signing request cannot be parsed")]
    Request,
    /// The signing request is not signed by the key in it.
    #[error("the signing request is not signed by its own key")]
    Signature,
    /// Another kind of key.
    #[error("the signing request's key is of an unknown kind: use ECDSA on P-256, or Ed25519")]
    KeyKind,
    /// The stored authority or key cannot be read.
    #[error("the {0} cannot be parsed")]
    Stored(&'static str),
    /// The library could not make it.
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

/// The key pair of a node or of a server.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A fresh one.
    ///
    /// # Errors
    /// [`CaError::Make`] when the kernel gives no random numbers.
    pub fn generate() -> Result<Self, CaError> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// Reads it back from PEM (PKCS #8).
    ///
    /// # Errors
    /// [`CaError::Stored`].
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        KeyPair::from_pem(pem).map(Self).map_err(|_| CaError::Stored("private key"))
    }

    /// The private key, PEM (PKCS #8), for the key file (mode 0600) only.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The digest of the public key: what the node's row remembers.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.0.subject_public_key_info())
    }

    /// A signing request (PEM) for the public key. It asks for nothing: the authority decides.
    ///
    /// # Errors
    /// [`CaError::Make`].
    pub fn signing_request(&self) -> Result<String, CaError> {
        Ok(CertificateParams::default().serialize_request(&self.0)?.pem()?)
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeKey").field(&self.digest()).finish()
    }
}

/// A signing request whose signature was checked. Nothing of it is kept but the key.
#[derive(Debug)]
pub struct SigningRequest {
    key: SubjectPublicKeyInfo,
    digest: KeyDigest,
}

impl SigningRequest {
    /// Reads a PEM signing request (PKCS #10, RFC 2986). Subject, names and extensions asked for
    /// are ignored.
    ///
    /// # Errors
    /// [`CaError::Request`], [`CaError::Signature`], [`CaError::KeyKind`].
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        if pem.len() > MAX_REQUEST {
            return Err(CaError::Request);
        }
        let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| CaError::Request)?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| CaError::Request)?;
        if !rest.is_empty() {
            return Err(CaError::Request);
        }
        let info = request.certification_request_info.subject_pki.raw;
        let key = SubjectPublicKeyInfo::from_der(info).map_err(|_| CaError::KeyKind)?;
        let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519];
        if !kinds.contains(&key.algorithm()) {
            return Err(CaError::KeyKind);
        }
        request.verify_signature().map_err(|_| CaError::Signature)?;
        Ok(Self { key, digest: KeyDigest::of(info) })
    }

    /// The digest of its public key.
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }
}

/// For whom a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// What it may do.
    pub role: Role,
}

/// The cluster's certificate authority, ready to sign.
pub struct CertificateAuthority {
    certificate: String,
    digest: KeyDigest,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// A fresh authority for `cluster`. Its certificate has no end (RFC 5280 section 4.1.2.5):
    /// what ends are the certificates it signs.
    ///
    /// # Errors
    /// [`CaError::Make`].
    pub fn create(cluster: ClusterId) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Weft cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
        let certificate = params.self_signed(&key)?.pem();
        let digest = KeyDigest::of(&key.subject_public_key_info());
        Ok(Self { certificate, digest, issuer: Issuer::new(params, key) })
    }

    /// The authority in `row`.
    ///
    /// # Errors
    /// [`CaError::Stored`] when key or certificate cannot be parsed or do not belong together.
    pub fn load(row: &Authority) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(&row.private_key)
            .map_err(|_| CaError::Stored("authority's private key"))?;
        let digest = certificate_digest(&row.certificate)?;
        if digest != KeyDigest::of(&key.subject_public_key_info()) {
            return Err(CaError::Stored("pair of the authority's key and certificate"));
        }
        let issuer = Issuer::from_ca_cert_pem(&row.certificate, key)
            .map_err(|_| CaError::Stored("authority's certificate"))?;
        Ok(Self { certificate: row.certificate.clone(), digest, issuer })
    }

    /// As a row.
    pub fn row(&self) -> Authority {
        Authority {
            certificate: self.certificate.clone(),
            private_key: self.issuer.key().serialize_pem(),
        }
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The digest of its public key: the part of a join token that tells it from impostors.
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }

    /// Signs a certificate (PEM) for `subject` and the key of `request`, good from
    /// [`BACK_DATE`] before `now` until `lifetime` after it.
    ///
    /// # Errors
    /// [`CaError::Make`].
    pub fn sign(
        &self,
        request: &SigningRequest,
        subject: Subject,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String, CaError> {
        let Subject { cluster, node, role } = subject;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("{role} {node}"));
        let uri = identity::uri(cluster, role, node);
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role == Role::Server {
            params.subject_alt_names.push(SanType::DnsName(SERVER_NAME.try_into()?));
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let serial: [u8; 16] = rand::random();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        params.not_before = epoch + now.saturating_sub(BACK_DATE);
        params.not_after = epoch + now + lifetime;
        Ok(params.signed_by(&request.key, &self.issuer)?.pem())
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The digest of the public key in a PEM certificate.
///
/// # Errors
/// [`CaError::Stored`].
pub fn certificate_digest(pem: &str) -> Result<KeyDigest, CaError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| CaError::Stored("certificate"))?;
    public_key_digest(&der).ok_or(CaError::Stored("certificate"))
}

/// The digest of the public key in a DER certificate; `None` when it is not one.
pub(crate) fn public_key_digest(der: &[u8]) -> Option<KeyDigest> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(KeyDigest::of(certificate.public_key().raw))
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
