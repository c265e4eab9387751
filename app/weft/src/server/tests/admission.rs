//! Tokens, joining, renewal, removal.

use std::time::{Duration, SystemTime};

use tonic::Code;
use weft_model::{NodeId, Role, Row, TokenId};
use weft_rpc::ca::NodeKey;
use weft_rpc::error::{rejection, told, word};
use weft_rpc::tls::Certificates;
use weft_rpc::token::Secret;
use weft_rpc::{JoinToken, rows, wire};

use super::super::founding;
use super::world::{World, initial, join_request};

fn message(answer: Result<wire::JoinReply, tonic::Status>) -> String {
    let status = answer.unwrap_err();
    rejection(&status).unwrap_or_else(|| panic!("{status:?} is no rejection")).message
}

#[tokio::test]
async fn a_stranger_with_a_token_becomes_a_node_of_its_role() {
    let world = World::new().await;
    for (role, n) in [(Role::Agent, 2), (Role::Operator, 3)] {
        let token = world.token(role).await;
        let key = NodeKey::generate().unwrap();
        let reply = world.join(&token, &key, n).await.unwrap();
        assert_eq!(reply.role, role.as_str());
        assert_eq!(reply.cluster_id, world.cluster().to_string());
        let shown =
            Certificates::new(&reply.certificate, &reply.ca_certificate, &key.to_pem()).unwrap();
        let identity = shown.identity().unwrap();
        assert_eq!(identity.id.to_string(), reply.node_id);
        assert_eq!((identity.role, identity.cluster), (role, world.cluster()));
        let node = world
            .server
            .server
            .replica
            .read(|s| s.nodes.get(&identity.id).cloned())
            .expect("no row");
        assert_eq!(node.key_digest, key.digest().to_string());
        assert_eq!(node.name.as_str(), format!("host-{n}"));
    }
}

#[tokio::test]
async fn the_same_key_again_is_the_same_node() {
    let world = World::new().await;
    let token = world.token(Role::Agent).await;
    let key = NodeKey::generate().unwrap();
    let first = world.join(&token, &key, 2).await.unwrap();
    let generation = world.generation();
    let again = world.join(&token, &key, 2).await.unwrap();
    assert_eq!(again.node_id, first.node_id);
    assert_eq!(world.generation(), generation);
    let other = NodeKey::generate().unwrap();
    assert_eq!(
        message(world.join(&token, &other, 2).await),
        "there is another node called 'host-2'"
    );
}

#[tokio::test]
async fn a_token_that_is_not_good_changes_nothing() {
    let world = World::new().await;
    let key = NodeKey::generate().unwrap();
    let good = world.token(Role::Agent).await;

    let guessed = JoinToken { secret: Secret::generate().unwrap(), ..good.clone() };
    let unknown = JoinToken { id: TokenId(1), ..good.clone() };
    let unknown_to_it = "the cluster does not know this token";
    let before = world.generation();
    assert_eq!(message(world.join(&guessed, &key, 2).await), unknown_to_it);
    assert_eq!(message(world.join(&unknown, &key, 2).await), unknown_to_it);

    let mut altered = join_request(&good, &key, 2);
    altered.secret.pop();
    let refused = world.stranger(&good).await.join(altered).await.unwrap_err();
    assert_eq!(rejection(&refused).unwrap().field, "--token");
    assert_eq!(world.generation(), before);

    let short = world.server.create_token(Role::Agent, 1).await.unwrap().token.parse().unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(message(world.join(&short, &key, 2).await).starts_with("the token ended"));

    let name = good.id.to_string();
    world.admin().await.revoke_token(wire::RemoveRequest { name }).await.unwrap();
    assert_eq!(message(world.join(&good, &key, 2).await), "the token was revoked");
    assert_eq!(world.server.server.replica.read(|s| s.nodes.len()), 1);
}

#[tokio::test]
async fn a_bad_wish_to_join_names_the_field() {
    let world = World::new().await;
    let key = NodeKey::generate().unwrap();
    let token = world.token(Role::Agent).await;
    let before = world.generation();
    let good = join_request(&token, &key, 2);
    let bad = [
        ("--name", wire::JoinRequest { name: "a.b".to_owned(), ..good.clone() }),
        ("--name", wire::JoinRequest { name: String::new(), ..good.clone() }),
        ("--data-address", wire::JoinRequest { data_address: "here".to_owned(), ..good.clone() }),
        (
            "--data-address",
            wire::JoinRequest { data_address: "127.0.0.1".to_owned(), ..good.clone() },
        ),
        ("--token", wire::JoinRequest { token_id: "1".to_owned(), ..good.clone() }),
        ("csr", wire::JoinRequest { csr: String::new(), ..good.clone() }),
        ("csr", wire::JoinRequest { csr: good.csr.replace('A', "B"), ..good.clone() }),
    ];
    for (field, request) in bad {
        let refused = world.stranger(&token).await.join(request).await.unwrap_err();
        assert_eq!(rejection(&refused).unwrap().field, field, "{refused:?}");
    }
    assert_eq!(world.generation(), before);
}

#[tokio::test]
async fn tokens_are_for_operators_and_not_for_servers() {
    let world = World::new().await;
    let request =
        |role: &str, lifetime| wire::CreateTokenRequest { role: role.to_owned(), lifetime };
    let mut agent = world.node(Role::Agent, 2).await;
    let refused = agent.client.create_token(request("agent", 60)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let mut operator = world.node(Role::Operator, 3).await;
    let reply = operator.client.create_token(request("", 0)).await.unwrap().into_inner();
    let Row::Token(row) = rows::read_answer(reply.row.as_ref()).unwrap() else {
        panic!("no token")
    };
    assert_eq!(row.role, Role::Agent);
    let token: JoinToken = reply.token.parse().unwrap();
    assert_eq!((token.id, token.secret.digest()), (row.id, row.secret_digest));
    assert_eq!(token.ca, world.authority().digest());

    for (role, lifetime, field) in
        [("server", 60, "--role"), ("king", 60, "--role"), ("agent", 40 * 24 * 3600, "--lifetime")]
    {
        let refused = operator.client.create_token(request(role, lifetime)).await.unwrap_err();
        assert_eq!(rejection(&refused).unwrap().field, field);
    }
}

#[tokio::test]
async fn renewal_is_for_the_same_key_and_works_after_the_end() {
    let world = World::new().await;
    let mut member = world.node(Role::Agent, 2).await;
    let csr = member.key.signing_request().unwrap();
    let reply = member.client.renew(wire::RenewRequest { csr: csr.clone() }).await.unwrap();
    let reply = reply.into_inner();
    let shown =
        Certificates::new(&reply.certificate, &reply.ca_certificate, &member.key.to_pem()).unwrap();
    assert_eq!(shown.identity().unwrap().id, member.id);

    let other = NodeKey::generate().unwrap().signing_request().unwrap();
    let refused = member.client.renew(wire::RenewRequest { csr: other }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let year_ago = SystemTime::now() - Duration::from_secs(365 * 24 * 3600);
    let hour = Duration::from_secs(3600);
    let mut expired = world.client_as(member.id, Role::Agent, year_ago, hour).await;
    let refused = expired.list(wire::ListRequest { kind: "node".to_owned() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    expired.renew(wire::RenewRequest { csr: csr.clone() }).await.unwrap();

    // A certificate of more than the row says gives no more than the row says.
    let mut grand = world.client_as(member.id, Role::Server, SystemTime::now(), hour).await;
    let reply = grand.renew(wire::RenewRequest { csr }).await.unwrap().into_inner();
    let shown =
        Certificates::new(&reply.certificate, &reply.ca_certificate, &member.key.to_pem()).unwrap();
    assert_eq!(shown.identity().unwrap().role, Role::Agent);
}

#[tokio::test]
async fn a_server_renews_its_own_certificate() {
    let world = World::new().await;
    let request = world.key.signing_request().unwrap();
    let reply = world.server.renew_own(&request).await.unwrap();
    let shown = Certificates::new(&reply.certificate, &reply.ca_certificate, &world.key.to_pem());
    assert_eq!(shown.unwrap().identity().unwrap().id, world.founded.node.id);
    let other = NodeKey::generate().unwrap().signing_request().unwrap();
    world.server.renew_own(&other).await.unwrap_err();
}

#[tokio::test]
async fn a_removed_node_is_cut_off_and_stays_out() {
    let world = World::new().await;
    let mut member = world.node(Role::Agent, 2).await;
    let mut following = member.follow().await;
    following.snapshot().await;
    let name = "host-2".to_owned();
    world.admin().await.remove_node(wire::RemoveRequest { name }).await.unwrap();
    let end = following.end().await.expect("it was not told");
    assert_eq!(told(&end).code, word::REMOVED);

    let list = wire::ListRequest { kind: "node".to_owned() };
    let refused = member.client.list(list).await.unwrap_err();
    assert_eq!(told(&refused).code, word::REMOVED);
    let csr = member.key.signing_request().unwrap();
    let refused = member.client.renew(wire::RenewRequest { csr }).await.unwrap_err();
    assert_eq!(told(&refused).code, word::REMOVED);
    let refused = member.client.follow(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(told(&refused).code, word::REMOVED);
    let token = world.token(Role::Agent).await;
    let refused = world.join(&token, &member.key, 2).await;
    assert_eq!(message(refused), "a node with this key was removed from the cluster");
    // The name is free again, for another key.
    world.node(Role::Agent, 2).await;
}

#[tokio::test]
async fn a_node_that_nobody_knows_is_refused() {
    let world = World::new().await;
    let hour = Duration::from_secs(3600);
    let mut client = world.client_as(NodeId(99), Role::Server, SystemTime::now(), hour).await;
    let refused = client.status(wire::StatusRequest {}).await.unwrap_err();
    assert_eq!(told(&refused).code, word::REMOVED);
}

#[tokio::test]
async fn founding_again_with_the_same_key_gives_the_same_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.redb");
    let key = NodeKey::generate().unwrap();
    let first = founding::initialise(&path, initial(&key)).await.unwrap();
    let again = founding::initialise(&path, initial(&key)).await.unwrap();
    assert_eq!((again.cluster, &again.node), (first.cluster, &first.node));
    assert_eq!(again.ca_certificate, first.ca_certificate);
    let other = NodeKey::generate().unwrap();
    let refused = founding::initialise(&path, initial(&other)).await.unwrap_err();
    assert!(refused.to_string().contains("is in cluster"), "{refused}");
}

#[tokio::test]
async fn pools_are_as_given_or_private_ones() {
    let folder = tempfile::tempdir().unwrap();
    let key = NodeKey::generate().unwrap();
    for (n, wrong) in
        ["10.0.0.0/9", "10.0.0.0/9,", "x,24", "10.0.0.0/9,999"].into_iter().enumerate()
    {
        let mut wish = initial(&key);
        wish.pools = vec![wrong.to_owned()];
        let refused =
            founding::initialise(&folder.path().join(format!("{n}")), wish).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("'{wrong}' is not a pool"));
    }
    let world = World::new().await;
    let pools = world.server.server.replica.read(|s| s.cluster.clone()).unwrap().pools;
    assert_eq!(pools[0].prefix.to_string(), "10.128.0.0/9");
    assert!("fd00::/8".parse::<ipnet::IpNet>().unwrap().contains(&pools[1].prefix));
    assert_eq!((pools[1].prefix.prefix_len(), pools[1].size), (48, 64));
}
