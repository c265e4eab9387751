//! Bad input: each is refused with the word that was wrong, and nothing is changed by it.
//!
//! ```text
//!          a                      b
//!  ┌───────────────┐      ┌───────────────┐
//!  │ web-1         │      │               │
//!  └───────────────┘      └───────────────┘
//! ```

use weft_tests::{Cluster, difference, dump};

/// Words, the exit status, and what the complaint must name.
type Case = (&'static str, i32, &'static str);

const NETWORKS: [Case; 22] = [
    ("network create", 2, "<NAME>"),
    ("network create bad.name", 2, "NAME"),
    ("network create -x", 2, "-x"),
    ("network create n --subnet 10.8.0.0", 2, "--subnet"),
    ("network create n --subnet 10.8.0.1/24", 2, "10.8.0.0/24"),
    ("network create n --subnet 10.8.0.0/33", 2, "--subnet"),
    ("network create n --subnet 10.8.0.0/31", 1, "--subnet"),
    ("network create n --subnet 10.8.0.0/24 --subnet 10.9.0.0/24", 1, "--subnet"),
    ("network create n --subnet 224.0.0.0/24", 1, "--subnet"),
    ("network create n --subnet 127.0.0.0/24", 1, "--subnet"),
    ("network create n --subnet fe80::/64", 1, "--subnet"),
    ("network create n --subnet 10.3.0.0/16", 1, "web"),
    ("network create n --subnet 10.3.0.128/25", 1, "--subnet"),
    ("network create n --subnet 172.10.0.0/16", 1, "--subnet"),
    ("network create n --mtu 100", 2, "--mtu"),
    ("network create n --mtu much", 2, "--mtu"),
    ("network create n --subnet 10.8.0.0/24 --ipv6", 2, "--ipv6"),
    ("network create n --subnet 10.3.0.0/24 --allow-overlap", 2, "--internal"),
    ("network create n --opt encrypted=yes", 1, "encrypted"),
    ("network create web", 1, "web"),
    ("network rm web", 1, "web-1"),
    ("network rm nope", 1, "nope"),
];

const OTHERS: [Case; 15] = [
    ("network inspect nope", 1, "nope"),
    ("endpoint inspect nope", 1, "nope"),
    ("endpoint ls --network nope", 1, "--network"),
    ("node inspect nope", 1, "nope"),
    ("node rm nope", 1, "nope"),
    ("token create --role king", 2, "--role"),
    ("token create --lifetime 5", 2, "--lifetime"),
    ("token revoke nope", 2, "ID"),
    ("token revoke 00000000000000ff", 1, "00000000000000ff"),
    ("detach nope", 1, "nope"),
    ("detach", 2, "NAME"),
    ("join nowhere --token x", 2, "ADDR:PORT"),
    ("network ls -o yaml", 2, "--output"),
    ("lab exec --name nope a -- true", 1, "nope"),
    ("frobnicate", 2, "frobnicate"),
];

/// In place of NETNS stands a container's namespace.
const ATTACHES: [Case; 19] = [
    ("attach --network nope --name x --netns NETNS", 1, "nope"),
    ("attach --network web --name x", 2, "--netns"),
    ("attach --network web --netns NETNS", 2, "--name"),
    ("attach --name x --netns NETNS", 2, "--network"),
    ("attach --network web --name x --netns NETNS --pid 1", 2, "--pid"),
    ("attach --network web --name x --netns /nowhere", 1, "--netns"),
    ("attach --network web --name x --netns nowhere", 1, "--netns"),
    ("attach --network web --name x --netns /etc/passwd", 1, "--netns"),
    ("attach --network web --name x --netns /proc/self/ns/mnt", 1, "--netns"),
    ("attach --network web --name x --netns HOST", 1, "--netns"),
    ("attach --network web --name x.y --netns NETNS", 2, "--name"),
    ("attach --network web --name x --alias=-y --netns NETNS", 2, "--alias"),
    ("attach --network web --name x --ip 10.3.0 --netns NETNS", 2, "--ip"),
    ("attach --network web --name x --ip 10.4.0.5 --netns NETNS", 1, "--ip"),
    ("attach --network web --name x --ip 10.3.0.0 --netns NETNS", 1, "--ip"),
    ("attach --network web --name x --ip 10.3.0.1 --netns NETNS", 1, "--ip"),
    ("attach --network web --name x --ip 10.3.0.255 --netns NETNS", 1, "--ip"),
    ("attach --network web --name x --ip 10.3.0.2 --netns NETNS", 1, "--ip"),
    ("attach --network web --network nope --name x --netns NETNS", 1, "nope"),
];

#[test]
fn everything_that_cannot_be_is_refused_and_changes_nothing() {
    let cluster = Cluster::up("input", 2);
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let one = cluster.attach("a", "web-1", &["--network", "web", "--ip", "10.3.0.2"]);
    let spare = cluster.lab().container("spare").unwrap();
    let (netns, host) = (spare.netns_file(), cluster.host("a").netns_file());
    cluster.settle();
    let before = (cluster.listings(), dump(&cluster, "a"));
    for (words, status, named) in NETWORKS.iter().chain(&OTHERS).chain(&ATTACHES) {
        let words = words
            .replace("NETNS", &netns.to_string_lossy())
            .replace("HOST", &host.to_string_lossy());
        let ran = cluster.weft("a", &words.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.code, Some(*status), "weft {words}\n{}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "weft {words}\n{}", ran.stderr);
        assert!(ran.stderr.contains(named), "weft {words}\n{}", ran.stderr);
        assert_eq!(cluster.listings(), before.0, "weft {words}");
    }
    let after = dump(&cluster, "a");
    assert_eq!(before.1, after, "{}", difference(&before.1, &after));
    one.ping("10.3.0.1");
}

#[test]
fn the_same_wish_twice_is_the_same_endpoint() {
    let cluster = Cluster::up("twice", 2);
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let before = cluster.listings();
    let again = cluster.attach_to("a", &one.container, "web-1", &["--network", "web"]).ok();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["endpoints"][0]["id"], one.endpoints[0]["id"]);
    assert_eq!(cluster.listings(), before);
    // Under another name it is another wish.
    cluster.attach_to("a", &one.container, "other", &["--network", "web"]).fails(1);
    assert_eq!(cluster.listings(), before);
}

#[test]
fn a_subnet_that_is_full_says_so_and_recovers() {
    let cluster = Cluster::up("full", 2);
    cluster.network("tiny", &["--subnet", "10.3.0.0/29"]);
    let mut attached = Vec::new();
    let complaint = loop {
        let container = cluster.lab().container(&format!("c{}", attached.len())).unwrap();
        let name = format!("c{}", attached.len());
        let ran = cluster.attach_to("a", &container, &name, &["--network", "tiny"]);
        if !ran.is_ok() {
            break ran.fails(1);
        }
        attached.push(container);
        assert!(attached.len() < 7, "a /29 has six addresses, and two are not for containers");
    };
    assert!(attached.len() >= 4, "only {} of the addresses could be had", attached.len());
    assert!(complaint.contains("hint: "), "{complaint}");
    cluster.weft("a", &["detach", "c0"]).ok();
    let container = cluster.lab().container("again").unwrap();
    weft_tests::until(std::time::Duration::from_secs(90), "an address is free again", || {
        cluster.attach_to("a", &container, "again", &["--network", "tiny"]).is_ok()
    });
}
