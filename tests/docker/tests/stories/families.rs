//! Networks with IPv4 and IPv6, and internal ones.

use weft_docker_tests::{Engines, IMAGE};

const V4: &str = "10.6.0.0/24";
const V6: &str = "fd00:6::/64";

/// The IPv6 address that Docker shows for a container on `dual`.
#[track_caller]
fn v6(story: &Engines, host: &str, name: &str) -> String {
    story.inspect(host, name, "{{.NetworkSettings.Networks.dual.GlobalIPv6Address}}")
}

/// Has `docker network create` refused on `b`, and gives the complaint.
#[track_caller]
fn refused(story: &Engines, flags: &[&str]) -> String {
    let complaint = story.network("b", "half", flags).fails();
    let listed = story.docker("b", &["network", "ls", "--format", "{{.Name}}"]).ok();
    assert!(!listed.contains("half"), "{listed}");
    complaint
}

#[test]
fn both_families_reach_the_other_host_and_answer_by_name() {
    let story = Engines::up("dual", 2);
    let flags = ["--ipv6", "--subnet", V4, "--subnet", V6];
    for host in ["a", "b"] {
        story.network(host, "dual", &flags).ok();
    }
    story.run("a", "api", &["--network", "dual", "--network-alias", "shop"]);
    story.run("b", "front", &["--network", "dual", "--ip6", "fd00:6::77"]);
    story.endpoint("front");
    assert_eq!(v6(&story, "b", "front"), "fd00:6::77");
    let both = |host: &str, name: &str| [story.address(host, name, "dual"), v6(&story, host, name)];
    let (api, front) = (both("a", "api"), both("b", "front"));
    for (host, name, other, addresses) in
        [("a", "api", "front", &front), ("b", "front", "api", &api), ("b", "front", "shop", &api)]
    {
        assert_eq!(story.nslookup(host, name, other), addresses, "{other} from {host}");
        for family in ["-4", "-6"] {
            let words = ["ping", family, "-c1", "-W2", other];
            assert!(story.exec(host, name, &words).is_ok(), "{other} from {host} by {family}");
        }
        for address in addresses {
            assert!(story.pings(host, name, address), "{address} from {host}");
        }
    }
    let job = story.cluster().attach("a", "job", &["--network", "dual"]);
    assert_eq!(job.dig("front", "AAAA"), ["fd00:6::77"]);
    assert_eq!(job.dig("front", "A"), std::slice::from_ref(&front[0]));
    for address in [job.v4(), job.v6()] {
        assert!(story.pings("b", "front", &address.to_string()), "{address}");
    }
    // Taken is taken, on the other host too; and an address outside is none.
    for (wish, word) in [("fd00:6::77", "fd00:6::77"), ("fd00:7::1", "fd00:7::1")] {
        let words = ["run", "--rm", "--network", "dual", "--ip6", wish, IMAGE, "true"];
        let complaint = story.docker("a", &words).fails();
        assert!(complaint.contains(word), "{complaint}");
    }
}

#[test]
fn a_network_with_ipv6_is_not_created_without() {
    let story = Engines::up("half", 2);
    story.cluster().network("half", &["--subnet", V4, "--subnet", V6]);
    for flags in [
        &["--subnet", V4][..],
        &["--ipv6", "--subnet", "10.7.0.0/24", "--subnet", V6],
        &["--ipv6", "--subnet", V4, "--subnet", "fd00:7::/64"],
    ] {
        let complaint = refused(&story, flags);
        let said = format!("network 'half' has {V4} and {V6}; give exactly that to be on it");
        assert!(complaint.contains(&said), "{complaint}");
    }
    let complaint = refused(&story, &["--ipv6"]);
    assert!(complaint.contains("--ipv6: say which IPv6 subnet, with --subnet"), "{complaint}");
    // With the name alone Docker does not say which network it is until it is made: so the first container
    // hears of it.
    story.network("b", "half", &[]).ok();
    let complaint = story.docker("b", &["run", "--rm", "--network", "half", IMAGE, "true"]).fails();
    let said = format!("create it with --ipv6 --subnet {V4} --subnet {V6}");
    assert!(complaint.contains(&said), "{complaint}");
    story.docker("b", &["network", "rm", "half"]).ok();
    story.network("b", "half", &["--ipv6", "--subnet", V4, "--subnet", V6]).ok();
    story.docker("b", &["run", "--rm", "--network", "half", IMAGE, "true"]).ok();
}

#[test]
fn names_answer_on_an_internal_network_and_nothing_gets_out() {
    let setup = weft_docker_tests::Setup { upstream: true, ..Default::default() };
    let story = Engines::with("vault", setup);
    for host in ["a", "b"] {
        story.network(host, "vault", &["--subnet", "10.5.0.0/24", "--internal"]).ok();
        story.run(host, &format!("vault-{host}"), &["--network", "vault"]);
    }
    story.endpoint("vault-b");
    let other = story.address("b", "vault-b", "vault");
    assert_eq!(story.nslookup("a", "vault-a", "vault-b"), [other]);
    assert!(story.pings("a", "vault-a", "vault-b"));
    assert!(story.nslookup("a", "vault-a", "www.example.com").is_empty());
    for outside in ["192.0.2.1", "172.10.0.16"] {
        assert!(!story.pings("a", "vault-a", outside), "{outside} is reached");
    }
}
