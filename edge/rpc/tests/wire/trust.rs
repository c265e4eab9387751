//! Whom TLS believes.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_model::{ClusterId, NodeId, Role};
use weft_rpc::ca::CertificateAuthority;
use weft_rpc::connect::{self, ConnectError};
use weft_rpc::tls::{self, Certificates};
use weft_rpc::{identity, wire};

use crate::stub::{
    CLUSTER, SERVER, authority, call_everything, certificates, client, now, server, start,
};

async fn refused(address: std::net::SocketAddr, tls: Arc<rustls::ClientConfig>) -> String {
    match connect::cluster(address, tls).await {
        Err(ConnectError::Untrusted { reason, .. }) => reason,
        other => panic!("not refused as untrusted: {other:?}"),
    }
}

/// A certificate that says what `uri` says, good for both sides, signed by `ca`, and followed in
/// the chain by `sent`.
fn forged(ca: &CertificateAuthority, uri: &str, sent: &str) -> Arc<Certificates> {
    let row = ca.row();
    let authority_key = KeyPair::from_pem(&row.private_key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&row.certificate, authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["weft-server".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    Certificates::new(&certificate, sent, &key.serialize_pem()).unwrap()
}

#[tokio::test]
async fn a_joining_host_believes_only_the_cluster_in_its_token() {
    let (ca, other) = (authority(), authority());
    let running = server(&ca).await;
    let right = tls::joining(ca.digest()).unwrap();
    let mut client = connect::cluster(running.address, right).await.unwrap();
    client.join(wire::JoinRequest::default()).await.unwrap();

    let wrong = tls::joining(other.digest()).unwrap();
    let reason = refused(running.address, wrong).await;
    assert!(reason.starts_with("the server belongs to another cluster than the join token"));
}

#[tokio::test]
async fn an_impostor_who_sends_the_right_authority_along_is_not_believed() {
    let (ca, evil) = (authority(), authority());
    let uri = identity::uri(CLUSTER, Role::Server, SERVER);
    let shown = forged(&evil, &uri, ca.certificate());
    let running = start(&ca, shown, Default::default()).await;
    let reason = refused(running.address, tls::joining(ca.digest()).unwrap()).await;
    assert_eq!(reason, "its certificate is of another cluster");
    let node = certificates(&ca, (NodeId(2), Role::Agent), now());
    let reason = refused(running.address, client(node, &ca)).await;
    assert_eq!(reason, "its certificate is of another cluster");
}

#[tokio::test]
async fn an_agent_is_not_believed_to_be_a_server() {
    let ca = authority();
    let node = || client(certificates(&ca, (NodeId(2), Role::Agent), now()), &ca);
    // As the authority signs them: not good for the server's side at all.
    let agent = certificates(&ca, (NodeId(3), Role::Agent), now());
    let running = start(&ca, agent, Default::default()).await;
    refused(running.address, node()).await;
    refused(running.address, tls::joining(ca.digest()).unwrap()).await;
    // And if it were, its role is not.
    let uri = identity::uri(CLUSTER, Role::Operator, NodeId(3));
    let running = start(&ca, forged(&ca, &uri, ca.certificate()), Default::default()).await;
    let reason = refused(running.address, node()).await;
    assert_eq!(reason, "the other side is not a server of the cluster, it is operator");
    let reason = refused(running.address, tls::joining(ca.digest()).unwrap()).await;
    assert_eq!(reason, "the other side is not a server of the cluster, it is operator");
}

#[tokio::test]
async fn another_cluster_or_no_node_is_refused_on_both_sides() {
    let ca = authority();
    let foreign = identity::uri(ClusterId(0xbad), Role::Server, SERVER);
    let nobody = "spiffe://example.org/server";
    let good = server(&ca).await;
    for uri in [foreign.as_str(), nobody] {
        let shown = forged(&ca, uri, ca.certificate());
        let running = start(&ca, shown.clone(), Default::default()).await;
        let node = certificates(&ca, (NodeId(2), Role::Agent), now());
        refused(running.address, client(node, &ca)).await;
        assert_cannot_call(good.address, client(shown, &ca)).await;
    }
}

#[tokio::test]
async fn clients_of_another_authority_or_from_the_future_are_refused() {
    let (ca, other) = (authority(), authority());
    let running = server(&ca).await;
    let stranger = certificates(&other, (NodeId(2), Role::Server), now());
    assert_cannot_call(running.address, client(stranger, &ca)).await;
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let early = certificates(&ca, (NodeId(2), Role::Server), now() + day);
    assert_cannot_call(running.address, client(early, &ca)).await;
    // An expired one must still be signed by the right authority.
    let expired = certificates(&other, (NodeId(2), Role::Server), crate::stub::long_ago());
    assert_cannot_call(running.address, client(expired, &ca)).await;
}

/// In TLS 1.3 a client learns only after its handshake that its certificate was refused.
async fn assert_cannot_call(address: std::net::SocketAddr, tls: Arc<rustls::ClientConfig>) {
    if let Ok(mut client) = connect::cluster(address, tls).await {
        for (path, answer) in call_everything(&mut client).await {
            assert!(answer.is_err(), "{path}");
        }
    }
}

#[tokio::test]
async fn older_versions_of_tls_are_not_spoken() {
    let ca = authority();
    let running = server(&ca).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = ca.certificate();
    let der =
        <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
            pem.as_bytes(),
        );
    roots.add(der.unwrap()).unwrap();
    for (versions, spoken) in
        [(&[&rustls::version::TLS12], false), (&[&rustls::version::TLS13], true)]
    {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(running.address).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("weft-server").unwrap();
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        assert_eq!(handshake.is_ok(), spoken, "{handshake:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let ca = authority();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connect::cluster(address, tls::joining(ca.digest()).unwrap()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
