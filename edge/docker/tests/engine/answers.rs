//! Networks and containers as they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use weft_docker::engine::{ContainerInfo, ContainerNetwork, EndpointInfo, NetworkInfo};

use crate::fake::{API2, Fake, IDLE, NETWORKS, OPEN, Reply, STARTING, WEB};

const WEB_ID: &str = "667bf0b79a034947fc722189138c58e93f2305c12a636572a09f2ed598c71735";
const OPEN_ID: &str = "46862981a415bf87d01641a6b700f3346417ab7c5ec6c32f3588869aed74827c";
const SLOW_ID: &str = "ee90919e388cdc7a3c25d0a898aee17e6b0ae55900e404895b7575deb6ebd6b1";
const SLOW_ENDPOINT: &str = "a86d394899163aeb7ee48e165908595a4054f5698486a59e2f8cc33931f553ab";
const API2_ID: &str = "c0c8480c25a9235f7924228e407844a7102e722896b220907001621009a5d5fa";

fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn web(container_id: Option<&str>) -> NetworkInfo {
    NetworkInfo {
        id: WEB_ID.to_owned(),
        name: "web".to_owned(),
        driver: "weft".to_owned(),
        ipam_driver: "weft".to_owned(),
        internal: false,
        ipv6: false,
        labels: map("l", "1"),
        options: map("k", "v"),
        pools: vec!["10.3.0.0/24".parse().unwrap()],
        endpoints: vec![EndpointInfo {
            endpoint_id: SLOW_ENDPOINT.to_owned(),
            container_id: container_id.map(str::to_owned),
            name: "slowone".to_owned(),
            v4: Some("10.3.0.12/24".parse().unwrap()),
            v6: None,
        }],
    }
}

fn open() -> NetworkInfo {
    NetworkInfo {
        id: OPEN_ID.to_owned(),
        name: "open".to_owned(),
        driver: "weft".to_owned(),
        ipam_driver: "weft".to_owned(),
        pools: vec!["0.0.0.0/0".parse().unwrap()],
        ..NetworkInfo::default()
    }
}

fn inspected(target: &str) -> Reply {
    match target {
        _ if target.starts_with("/networks?") => Reply::ok(NETWORKS),
        _ if target.contains(WEB_ID) => Reply::ok(WEB),
        _ if target.contains(OPEN_ID) => Reply::ok(OPEN),
        _ => Reply::error("404 Not Found", &format!("network {} not found", &target[10..])),
    }
}

#[tokio::test]
async fn the_networks_of_a_driver_come_whole() {
    let fake = Fake::new(inspected);
    let networks = fake.engine.networks_of("weft").await.unwrap();
    assert_eq!(networks, [open(), web(Some(SLOW_ID))]);
    let asked = fake.asked();
    let filters = "%7B%22driver%22%3A%5B%22weft%22%5D%7D";
    assert_eq!(asked[0], format!("/networks?filters={filters}"));
    assert_eq!(asked[1..], [format!("/networks/{OPEN_ID}"), format!("/networks/{WEB_ID}")]);
}

#[tokio::test]
async fn a_network_of_another_driver_or_one_that_goes_is_left_out() {
    let fake = Fake::new(|target| {
        if target.starts_with("/networks?") {
            Reply::ok(&NETWORKS.replacen(
                r#""Driver":"weft","EnableIPv6""#,
                r#""Driver":"weft2","EnableIPv6""#,
                1,
            ))
        } else {
            inspected(target)
        }
    });
    assert_eq!(fake.engine.networks_of("weft").await.unwrap(), [open()]);
    assert_eq!(fake.asked().len(), 2);

    let fake = Fake::new(|target| {
        if target.contains(WEB_ID) { inspected("/networks/gone") } else { inspected(target) }
    });
    // Its 404 is about another network: no evidence that this one is gone.
    fake.engine.networks_of("weft").await.unwrap_err();
    let fake = Fake::new(|target| match target {
        _ if target.contains(WEB_ID) => {
            Reply::error("404 Not Found", &format!("network {WEB_ID} not found"))
        }
        _ => inspected(target),
    });
    assert_eq!(fake.engine.networks_of("weft").await.unwrap(), [open()]);

    let fake = Fake::always(Reply::ok("[]\n"));
    assert_eq!(fake.engine.networks_of("weft").await.unwrap(), []);
}

#[tokio::test]
async fn a_network_by_identifier_or_name() {
    let fake = Fake::new(inspected);
    assert_eq!(fake.engine.network(WEB_ID).await.unwrap(), Some(web(Some(SLOW_ID))));
    assert_eq!(fake.engine.network("gone").await.unwrap(), None);
    assert_eq!(fake.asked(), [format!("/networks/{WEB_ID}"), "/networks/gone".to_owned()]);
}

#[tokio::test]
async fn a_container_that_is_being_started_is_an_endpoint_without_one() {
    let fake = Fake::always(Reply::ok(STARTING));
    assert_eq!(fake.engine.network(WEB_ID).await.unwrap(), Some(web(None)));
}

#[tokio::test]
async fn what_is_no_identifier_is_not_asked_for() {
    let fake = Fake::always(Reply::ok(WEB));
    for odd in ["", ".", "..", "../info", "a/b", "a?b", "a#b", "a%2fb", "a b", "\r\n"] {
        assert_eq!(fake.engine.network(odd).await.unwrap(), None, "{odd}");
        assert_eq!(fake.engine.container(odd).await.unwrap(), None, "{odd}");
    }
    assert_eq!(fake.asked(), [""; 0]);
}

fn place(network: &str, ids: [&str; 2], alias: &str, v4: &str) -> ContainerNetwork {
    ContainerNetwork {
        network: network.to_owned(),
        network_id: Some(ids[0].to_owned()),
        endpoint_id: Some(ids[1].to_owned()),
        aliases: vec![alias.to_owned(), "apihost".to_owned()],
        v4: Some(v4.parse().unwrap()),
        v6: None,
    }
}

#[tokio::test]
async fn a_container_that_runs() {
    let fake = Fake::always(Reply::ok(API2));
    let container = fake.engine.container(API2_ID).await.unwrap().unwrap();
    let back = [
        "b9c2b43be0f3ce3488407cb8b704d47c2f02e7bb89ef181c7c20def0e30c0433",
        "fc7b4687e43bca238cad6f4d524c407261af76ae68740079f8e1408322460287",
    ];
    let web = [
        "9b4f4054c7fce39e00d9074c193b70bb785a90eb8fe4f3d67c20c2744d68eb2d",
        "86ac136dbe3e68fd4d5e334d0fe0f00bd6c0adcce358a74a3f74dffa41670749",
    ];
    let told = ContainerInfo {
        id: API2_ID.to_owned(),
        name: "api2".to_owned(),
        hostname: "apihost".to_owned(),
        labels: map("x", "y"),
        running: true,
        pid: Some(18_510),
        networks: vec![
            place("back", back, "second", "10.4.0.99/24"),
            place("web", web, "al", "10.3.0.16/24"),
        ],
        sandbox_key: Some(PathBuf::from("/var/run/docker/netns/5ce14f73632a")),
    };
    assert_eq!(container, told);
    assert_eq!(fake.asked(), [format!("/containers/{API2_ID}/json")]);
}

#[tokio::test]
async fn a_container_that_never_ran() {
    let fake = Fake::always(Reply::ok(IDLE));
    let container = fake.engine.container("idle").await.unwrap().unwrap();
    let told = ContainerInfo {
        id: "6a76758ccd12c89d008e29677395c0178eb03a9a6cbf4ee05e1bc00259823ded".to_owned(),
        name: "idle".to_owned(),
        hostname: "6a76758ccd12".to_owned(),
        networks: vec![ContainerNetwork { network: "web".to_owned(), ..Default::default() }],
        ..ContainerInfo::default()
    };
    assert_eq!(container, told);
}

#[tokio::test]
async fn a_container_with_ipv6_and_none_of_its_other_fields() {
    let fake = Fake::always(Reply::ok(
        r#"{"Id":"c1","Name":"six","NetworkSettings":{"Networks":{"six":{"GlobalIPv6Address":
           "fd00:3::5","GlobalIPv6PrefixLen":64,"IPAddress":"no","IPPrefixLen":24}}}}"#,
    ));
    let container = fake.engine.container("six").await.unwrap().unwrap();
    assert_eq!(container.networks[0].v6, Some("fd00:3::5/64".parse().unwrap()));
    assert_eq!(container.networks[0].v4, None);
    let fake = Fake::always(Reply::error("404 Not Found", "No such container: six"));
    assert_eq!(fake.engine.container("six").await.unwrap(), None);
}
