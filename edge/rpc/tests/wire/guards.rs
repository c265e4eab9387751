//! Who may call what, end to end.

use tonic::Code;
use weft_model::{NodeId, Role};
use weft_rpc::access::may_call;
use weft_rpc::error::{told, word};
use weft_rpc::identity::Kind;
use weft_rpc::{connect, tls, wire};

use crate::stub::{
    CLUSTER, REMOVED, SERVER, authority, call_everything, certificates, client, long_ago, now,
    server,
};

#[tokio::test]
async fn every_identity_gets_exactly_what_the_table_says() {
    let ca = authority();
    let running = server(&ca).await;
    let node = NodeId(2);
    let shown = |role, at| client(certificates(&ca, (node, role), at), &ca);
    let who = [
        (Kind::Stranger, tls::joining(ca.digest()).unwrap()),
        (Kind::Expired, shown(Role::Server, long_ago())),
        (Kind::Agent, shown(Role::Agent, now())),
        (Kind::Operator, shown(Role::Operator, now())),
        (Kind::Server, shown(Role::Server, now())),
    ];
    for (kind, tls) in who {
        let mut client = connect::cluster(running.address, tls).await.unwrap();
        let answers = call_everything(&mut client).await;
        assert_eq!(answers.len(), 16);
        for (path, answer) in answers {
            assert_eq!(answer.is_ok(), may_call(path, kind), "{path} by {kind}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_expired_certificate_is_good_for_renewal_only() {
    let ca = authority();
    let running = server(&ca).await;
    let tls = client(certificates(&ca, (NodeId(2), Role::Agent), long_ago()), &ca);
    let mut client = connect::cluster(running.address, tls).await.unwrap();
    client.renew(wire::RenewRequest::default()).await.unwrap();
    let refused = client.list(wire::ListRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(told(&refused).message, "the certificate of this node has expired");
}

#[tokio::test]
async fn a_removed_node_gets_nothing() {
    let ca = authority();
    let running = server(&ca).await;
    for at in [now(), long_ago()] {
        let tls = client(certificates(&ca, (REMOVED, Role::Server), at), &ca);
        let mut client = connect::cluster(running.address, tls).await.unwrap();
        for (path, answer) in call_everything(&mut client).await {
            assert_eq!(told(&answer.unwrap_err()).code, word::REMOVED, "{path}");
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_the_next_connection_on() {
    let ca = authority();
    let running = server(&ca).await;
    let key = weft_rpc::ca::NodeKey::generate().unwrap();
    let request = key.signing_request().unwrap();
    let request = weft_rpc::ca::SigningRequest::from_pem(&request).unwrap();
    let subject = weft_rpc::ca::Subject { cluster: CLUSTER, node: NodeId(2), role: Role::Agent };
    let sign = |at| ca.sign(&request, subject, at, weft_rpc::ca::LIFETIME).unwrap();
    let shown = tls::Certificates::new(&sign(long_ago()), ca.certificate(), &key.to_pem()).unwrap();
    let tls = client(shown.clone(), &ca);

    let mut before = connect::cluster(running.address, tls.clone()).await.unwrap();
    assert!(before.status(wire::StatusRequest {}).await.is_err());
    shown.replace(&sign(now()), ca.certificate(), &key.to_pem()).unwrap();
    let mut after = connect::cluster(running.address, tls).await.unwrap();
    after.status(wire::StatusRequest {}).await.unwrap();
    assert_eq!(shown.identity().unwrap().id, NodeId(2));

    let other = weft_rpc::ca::NodeKey::generate().unwrap();
    let wrong = shown.replace(&sign(now()), ca.certificate(), &other.to_pem());
    assert!(matches!(wrong, Err(tls::TlsError::Mismatch)), "{wrong:?}");
    after.status(wire::StatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_renewed_server_certificate_is_shown_without_a_restart() {
    let ca = authority();
    let expired = certificates(&ca, (SERVER, Role::Server), long_ago());
    let running = crate::stub::start(&ca, expired.clone(), Default::default()).await;
    let tls = client(certificates(&ca, (NodeId(2), Role::Agent), now()), &ca);
    let refused = connect::cluster(running.address, tls.clone()).await.unwrap_err();
    let shown = refused.to_string();
    assert!(shown.ends_with("its certificate has expired: check the clocks of both hosts"));

    let key = weft_rpc::ca::NodeKey::generate().unwrap();
    let request = key.signing_request().unwrap();
    let request = weft_rpc::ca::SigningRequest::from_pem(&request).unwrap();
    let subject = weft_rpc::ca::Subject { cluster: CLUSTER, node: SERVER, role: Role::Server };
    let fresh = ca.sign(&request, subject, now(), weft_rpc::ca::LIFETIME).unwrap();
    expired.replace(&fresh, ca.certificate(), &key.to_pem()).unwrap();
    let mut client = connect::cluster(running.address, tls).await.unwrap();
    client.status(wire::StatusRequest {}).await.unwrap();
}
