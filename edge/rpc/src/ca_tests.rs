use super::*;
use crate::identity::NodeIdentity;
use x509_parser::extensions::GeneralName;

const SUBJECT: Subject = Subject { cluster: ClusterId(7), node: NodeId(2), role: Role::Agent };

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_certificate_says_who_and_until_when() {
    let ca = CertificateAuthority::create(ClusterId(7)).unwrap();
    let key = NodeKey::generate().unwrap();
    let request = SigningRequest::from_pem(&key.signing_request().unwrap()).unwrap();
    assert_eq!(request.digest(), key.digest());
    for role in [Role::Agent, Role::Operator, Role::Server] {
        let subject = Subject { role, ..SUBJECT };
        let pem = ca.sign(&request, subject, at(1_800_000_000), LIFETIME).unwrap();
        let identity = NodeIdentity::of_certificate(&der(&pem)).unwrap();
        let not_after = 1_800_000_000 + 86_400;
        assert_eq!(
            identity,
            NodeIdentity { cluster: ClusterId(7), id: NodeId(2), role, not_after }
        );
        let der = der(&pem);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.validity().not_before.timestamp(), 1_800_000_000 - 3600);
        assert!(!parsed.is_ca());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth == (role == Role::Server));
    }
}

#[test]
fn the_authority_reads_back_from_its_row() {
    let ca = CertificateAuthority::create(ClusterId(7)).unwrap();
    let again = CertificateAuthority::load(&ca.row()).unwrap();
    assert_eq!(again.digest(), ca.digest());
    assert_eq!(again.row(), ca.row());
    assert_eq!(certificate_digest(ca.certificate()).unwrap(), ca.digest());

    let other = CertificateAuthority::create(ClusterId(7)).unwrap();
    let mixed = Authority { private_key: other.row().private_key, ..ca.row() };
    assert!(matches!(CertificateAuthority::load(&mixed), Err(CaError::Stored(_))));
    let empty = Authority { certificate: String::new(), ..ca.row() };
    assert!(matches!(CertificateAuthority::load(&empty), Err(CaError::Stored(_))));
    assert!(!format!("{ca:?} {:?}", ca.row()).contains("PRIVATE"));
}

#[test]
fn a_key_reads_back_and_is_not_shown() {
    let key = NodeKey::generate().unwrap();
    let again = NodeKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.digest(), key.digest());
    assert_eq!(format!("{key:?}"), format!("NodeKey({})", key.digest()));
    assert!(NodeKey::from_pem("nonsense").is_err());
}

/// A request that asks to be an authority, a server, another node and 1975 to 4096.
#[test]
fn what_a_request_asks_for_is_ignored() {
    let ca = CertificateAuthority::create(ClusterId(7)).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut wish = CertificateParams::new(vec!["weft-server".to_owned()]).unwrap();
    let uri = identity::uri(ClusterId(7), Role::Server, NodeId(1));
    wish.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    wish.distinguished_name.push(DnType::CommonName, "server 0000000000000001");
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The library writes no basic constraints into a request, so they come as a raw extension:
    // SEQUENCE { BOOLEAN TRUE }.
    let constraints = vec![0x30, 0x03, 0x01, 0x01, 0xff];
    let mut authority = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], constraints);
    authority.set_criticality(true);
    wish.custom_extensions = vec![authority];
    let pem = wish.serialize_request(&key).unwrap().pem().unwrap();

    let request = SigningRequest::from_pem(&pem).unwrap();
    let signed = ca.sign(&request, SUBJECT, at(1_800_000_000), LIFETIME).unwrap();
    let der = der(&signed);
    let identity = NodeIdentity::of_certificate(&der).unwrap();
    assert_eq!((identity.id, identity.role), (NodeId(2), Role::Agent));
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert!(!parsed.is_ca());
    assert!(!parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert!(!parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert_eq!(parsed.subject().to_string(), "CN=agent 0000000000000002");
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert!(matches!(names.as_slice(), [GeneralName::URI(_)]), "{names:?}");
}

#[test]
fn bad_requests_are_named_for_what_they_are() {
    let key = NodeKey::generate().unwrap();
    let good = key.signing_request().unwrap();
    assert!(SigningRequest::from_pem(&good).is_ok());

    assert!(matches!(SigningRequest::from_pem(""), Err(CaError::Request)));
    assert!(matches!(SigningRequest::from_pem(&good[..80]), Err(CaError::Request)));
    let long = good + &" ".repeat(MAX_REQUEST);
    assert!(matches!(SigningRequest::from_pem(&long), Err(CaError::Request)));

    // The last octets of a request are its signature's.
    let mut der = CertificateParams::default().serialize_request(&key.0).unwrap().der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let forged = pem_of("CERTIFICATE REQUEST", &der);
    assert!(matches!(SigningRequest::from_pem(&forged), Err(CaError::Signature)));
    der.push(0);
    let longer = pem_of("CERTIFICATE REQUEST", &der);
    assert!(matches!(SigningRequest::from_pem(&longer), Err(CaError::Request)));

    let odd = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let odd = CertificateParams::default().serialize_request(&odd).unwrap().pem().unwrap();
    assert!(matches!(SigningRequest::from_pem(&odd), Err(CaError::KeyKind)));
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ed = CertificateParams::default().serialize_request(&ed).unwrap().pem().unwrap();
    assert!(SigningRequest::from_pem(&ed).is_ok());
}

fn pem_of(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
