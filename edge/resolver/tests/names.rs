//! Names as containers ask for them, on a real kernel. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at surprises")]

mod common;

use common::{Upstream, World, dig, record, short, status};

fn status_is(netns: &str, words: &str, word: &str, answers: u32) {
    assert_eq!(status(netns, words), (word.to_owned(), answers), "{words}");
}

#[test]
fn names_over_udp_and_tcp_v4_and_v6() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16", "fd00:3::2/64"]);
    world.add("web", record("web-2", &["10.3.0.5", "fd00:3::5"]));
    world.add("web", record("four", &["10.3.0.6"]));
    world.start("1");
    world.push();
    for server in ["@10.3.0.1", "@fd00:3::1", "@10.3.0.1 +tcp", "@fd00:3::1 +tcp"] {
        let short = |words: &str| short(&one, &format!("{server} {words}"));
        assert_eq!(short("web-2 A"), ["10.3.0.5"]);
        assert_eq!(short("WEB-2.web. AAAA"), ["fd00:3::5"]);
        assert_eq!(short("-x 10.3.0.5"), ["web-2.web."]);
        assert_eq!(short("localhost"), ["127.0.0.1"]);
        assert_eq!(short("web-2 ANY"), ["10.3.0.5"]);
        let is = |words: &str, word, n| status_is(&one, &format!("{server} {words}"), word, n);
        is("four AAAA", "NOERROR", 0);
        is("web-2 MX", "NOERROR", 0);
        is("nobody.web", "NXDOMAIN", 0);
        is("-x 10.3.0.77", "NXDOMAIN", 0);
        is("web AXFR +noall +comments +header-only", "FORMERR", 0);
        is("version.bind CH TXT", "REFUSED", 0);
        is("web-2 +opcode=5", "NOTIMP", 0);
        is("web-2 +edns=1 +noednsneg", "BADVERS", 0);
    }
}

#[test]
fn a_hundred_addresses_are_cut_and_come_whole_over_tcp() {
    let mut world = World::new();
    let one = world.container("web-1", "web", &["10.3.0.2/16"]);
    for n in 0..100 {
        world.add("web", record("worker", &[&format!("10.3.1.{n}")]));
    }
    world.start("1");
    world.push();
    for (size, words) in [(512, "+noedns"), (512, "+bufsize=512"), (1_232, "+bufsize=65000")] {
        let text = dig(&one, &format!("@10.3.0.1 worker +ignore +notcp {words}"));
        assert!(text.contains("flags: qr aa tc rd ra"), "{text}");
        let length = text.split("rcvd: ").nth(1).unwrap().trim();
        assert!(length.parse::<u32>().unwrap() <= size, "{length} > {size}");
    }
    assert_eq!(short(&one, "@10.3.0.1 worker").len(), 100, "dig asks again over TCP by itself");
    let text = dig(&one, "@10.3.0.1 +tcp +keepopen worker +short web-1 +short worker +short");
    assert_eq!(text.lines().count(), 201, "three queries over one connection");
}

#[test]
fn what_goes_upstream_and_what_does_not() {
    let mut world = World::new();
    let web = world.container("web-1", "web", &["10.3.0.2/16", "fd00:3::2/64"]);
    let vault = world.container("safe", "vault", &["10.3.0.2/16"]);
    let upstream = Upstream::run(&world.host, "127.0.0.1:53");
    world.start("1");
    world.push();
    for server in ["@10.3.0.1", "@fd00:3::1", "@10.3.0.1 +tcp"] {
        assert_eq!(short(&web, &format!("{server} www.example.com")), ["192.0.2.80"]);
    }
    status_is(&web, "@10.3.0.1 secret.web", "NXDOMAIN", 0);
    status_is(&web, "@10.3.0.1 deep.secret.web", "NXDOMAIN", 0);
    status_is(&web, "@10.3.0.1 -x 10.3.0.99", "NXDOMAIN", 0);
    for words in ["www.example.net", "secret.vault", "single", "-x 192.0.2.1", "safe.web"] {
        status_is(&vault, &format!("@10.3.0.1 {words}"), "NXDOMAIN", 0);
        status_is(&vault, &format!("@10.3.0.1 +tcp {words}"), "NXDOMAIN", 0);
    }
    assert_eq!(upstream.asked(), ["www.example.com"]);
    assert_eq!(world.count("forwarded"), 3);
}

#[test]
fn upstream_servers_change_and_vanish() {
    let mut world = World::new();
    let web = world.container("web-1", "web", &["10.3.0.2/16"]);
    let upstream = Upstream::run(&world.host, "127.0.0.2:53");
    let resolv_conf = world.directory.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 10.3.0.1\n").unwrap();
    world.start("1");
    world.push();
    status_is(&web, "@10.3.0.1 example.com", "SERVFAIL", 0);
    assert_eq!(world.count("upstream_silent"), 0, "our own address is not even asked");
    let junk = "nameserver\nfoo\u{0}bar\nnameserver 10.3.0.1\nnameserver 127.0.0.2\n";
    std::fs::write(&resolv_conf, junk).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(short(&web, "@10.3.0.1 example.com"), ["192.0.2.80"]);
    assert_eq!(upstream.asked(), ["example.com"]);
}

#[test]
fn the_same_subnet_on_two_bridges_is_two_places() {
    let mut world = World::new();
    let web = world.container("db", "web", &["10.3.0.2/16"]);
    let vault = world.container("safe", "vault", &["10.3.0.2/16"]);
    world.add("web", record("chest", &["10.3.0.7"]));
    world.add("vault", record("chest", &["10.3.0.8"]));
    world.start("1");
    world.push();
    for tcp in ["+notcp", "+tcp"] {
        assert_eq!(short(&web, &format!("@10.3.0.1 chest {tcp}")), ["10.3.0.7"]);
        assert_eq!(short(&vault, &format!("@10.3.0.1 chest {tcp}")), ["10.3.0.8"]);
        assert_eq!(short(&web, &format!("@10.3.0.1 -x 10.3.0.2 {tcp}")), ["db.web."]);
        assert_eq!(short(&vault, &format!("@10.3.0.1 -x 10.3.0.2 {tcp}")), ["safe.vault."]);
        status_is(&vault, &format!("@10.3.0.1 db {tcp}"), "NXDOMAIN", 0);
    }
}

#[test]
fn strangers_get_nothing() {
    let mut world = World::new();
    world.container("web-1", "web", &["10.3.0.2/16"]);
    let stranger = world.plug("stranger", "web", &["10.3.0.66/16"]);
    world.start("1");
    world.push();
    status_is(&stranger, "@10.3.0.1 web-1", "REFUSED", 0);
    status_is(&stranger, "@10.3.0.1 example.com", "REFUSED", 0);
    status_is(&world.host, "@10.3.0.1 web-1", "REFUSED", 0);
    for netns in [&stranger, &world.host] {
        let closed = "dig +tries=1 +time=1 +tcp @10.3.0.1 web-1; test $? = 9";
        common::sh(&format!("ip netns exec {netns} {closed}"));
    }
    assert!(world.count("connections_refused") >= 2);
}
