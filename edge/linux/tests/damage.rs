//! What others delete or change is seen, and putting it again mends it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use common::*;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{Equal, Match, Statement};
use weft_kernel::{KernelState, Key, Object, Scope, TableName};
use weft_linux::Linux;

const VNI: u32 = 0x57_0001;

struct Ground {
    linux: Linux,
    container: Container,
    objects: Objects,
    want: KernelState,
}

impl Ground {
    fn new() -> Self {
        let mut linux = Linux::open().unwrap();
        let container = Container::new();
        let id = linux.register_netns(&container.path).unwrap();
        nft(
            "add table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
        );
        let mut objects = filters();
        objects.extend(network(VNI, 3));
        objects.extend(vtep_chains(VNI));
        objects.extend(endpoint(VNI, 3, id));
        let accept =
            rule(vec![Match::InLink(Equal::Is, "wb-*".into())], vec![Statement::Accept], "weft");
        let foreign = TableName { family: NftFamily::Ip, name: "filter".into() };
        objects.push((
            Key::ForeignRule(foreign, "FORWARD".into(), accept.to_string()),
            Object::ForeignRule(accept),
        ));
        apply(&mut linux, &puts(&objects));
        let want = objects.iter().cloned().collect();
        let mut ground = Self { linux, container, objects, want };
        assert_same(&observe(&mut ground.linux), &ground.want);
        ground
    }

    /// The damage must be seen at just these keys, and be gone after another put.
    fn expect(&mut self, what: &str, at: &[&str]) {
        let have = observe(&mut self.linux);
        let mut wrong: Vec<String> = self
            .want
            .iter()
            .filter(|(key, object)| have.get(key) != Some(object))
            .map(|(key, _)| key.to_string())
            .collect();
        let extra: Vec<Key> = have
            .iter()
            .filter(|(key, _)| self.want.get(key).is_none())
            .map(|(key, _)| key.clone())
            .collect();
        wrong.extend(extra.iter().map(|key| format!("extra {key}")));
        wrong.sort();
        let mut at: Vec<&str> = at.to_vec();
        at.sort_unstable();
        assert_eq!(wrong, at, "{what}");
        let deletes: Vec<_> = extra.into_iter().rev().map(weft_kernel::Step::Delete).collect();
        apply(&mut self.linux, &deletes);
        apply(&mut self.linux, &puts(&self.objects));
        let have = observe(&mut self.linux);
        assert!(have == self.want, "{what} was not mended");
    }
}

#[test]
fn damage_to_links_is_seen_and_mended() {
    in_netns(|| {
        let mut g = Ground::new();
        run("ip", "link set wb-570001 type bridge mcast_snooping 1");
        g.expect("mcast_snooping", &["link wb-570001"]);
        run("ip", "link set wb-570001 mtu 1300");
        g.expect("bridge mtu", &["link wb-570001"]);
        run("ip", "link set wv-570001 mtu 1300");
        g.expect("vtep mtu", &["link wv-570001"]);
        run("bridge", "link set dev we-000000570001 locked off");
        g.expect("locked", &["link we-000000570001"]);
        run("bridge", "link set dev wv-570001 neigh_suppress off");
        g.expect("neigh_suppress", &["link wv-570001"]);
        run("bridge", "link set dev wv-570001 learning on");
        g.expect("port learning", &["link wv-570001"]);
        run("ip", "link set wv-570001 type vxlan learning");
        g.expect("vxlan learning", &["link wv-570001"]);
        run("ip", "link set wv-570001 type vxlan ttl 5");
        g.expect("vxlan ttl", &["link wv-570001"]);
        run("ip", "link set wv-570001 type vxlan df unset");
        g.expect("vxlan df", &["link wv-570001"]);
        run("ip", "link set we-000000570001 addrgenmode eui64");
        g.expect("addrgenmode", &["link we-000000570001"]);
        run("ip", "link set we-000000570001 nomaster");
        g.expect(
            "nomaster",
            &["link we-000000570001", "fdb 02:57:00:00:00:02 dev we-000000570001 master"],
        );
        run("ip", "link set wv-570001 address 02:00:00:00:00:99");
        g.expect("vtep mac", &["link wv-570001"]);
        run("ip", "link set we-000000570001 down");
        g.expect("host end down", &["link we-000000570001 up"]);
    });
}

#[test]
fn damage_to_what_is_on_links_is_seen_and_mended() {
    in_netns(|| {
        let mut g = Ground::new();
        run("ip", "addr del 10.3.255.254/32 dev wb-570001");
        g.expect(
            "node address",
            // An IPv4 route goes with its source.
            &["addr 10.3.255.254/32 dev wb-570001", "route 10.3.0.0/16 dev wb-570001"],
        );
        run("ip", "-6 addr del fe80::1/64 dev wb-570001");
        g.expect("link-local", &["addr fe80::1/64 dev wb-570001"]);
        run("ip", "route del 10.3.0.0/16 dev wb-570001");
        g.expect("route", &["route 10.3.0.0/16 dev wb-570001"]);
        run("ip", "-6 route change fd00:3::/64 dev wb-570001 proto 87 src fd00:3::1");
        g.expect("route source", &["route fd00:3::/64 dev wb-570001"]);
        run("ip", "neigh del 10.3.0.9 dev wb-570001");
        g.expect("neighbour gone", &["neigh 10.3.0.9 dev wb-570001"]);
        run("ip", "neigh change 10.3.0.9 lladdr 02:00:00:00:00:66 dev wb-570001 nud permanent");
        g.expect("neighbour changed", &["neigh 10.3.0.9 dev wb-570001"]);
        run("bridge", "fdb del 02:57:00:00:00:09 dev wv-570001 self");
        g.expect("vtep row", &["fdb 02:57:00:00:00:09 dev wv-570001"]);
        run("bridge", "fdb replace 02:57:00:00:00:09 dev wv-570001 self dst 172.30.0.99");
        g.expect("vtep row moved", &["fdb 02:57:00:00:00:09 dev wv-570001"]);
        run("bridge", "fdb replace 02:57:00:00:00:09 dev we-000000570001 master static");
        g.expect(
            "bridge row moved",
            &[
                "fdb 02:57:00:00:00:09 dev wv-570001 master",
                "extra fdb 02:57:00:00:00:09 dev we-000000570001 master",
            ],
        );
        run("bridge", "fdb del 02:57:00:00:00:08 dev wb-570001 self");
        g.expect("the bridge's own row", &["fdb 02:57:00:00:00:08 dev wb-570001 master"]);
        run("bridge", "fdb append 00:00:00:00:00:00 dev wv-570001 dst 172.30.0.66");
        g.expect("flood row more", &["extra fdb 00:00:00:00:00:00 dev wv-570001 dst 172.30.0.66"]);
        run("bridge", "fdb del 00:00:00:00:00:00 dev wv-570001 dst 172.30.0.16");
        g.expect("flood row less", &["fdb 00:00:00:00:00:00 dev wv-570001 dst 172.30.0.16"]);
        run("sysctl", "-qw net.ipv4.conf.wb-570001.arp_announce=0");
        g.expect("sysctl", &["sysctl net.ipv4.conf.wb-570001.arp_announce"]);
    });
}

#[test]
fn damage_inside_a_container_is_seen_and_mended() {
    in_netns(|| {
        let mut g = Ground::new();
        let ns = g.linux.register_netns(&g.container.path).unwrap().0;
        let inside = |key: &str| format!("{key} netns {ns}");
        g.container.cmd("ip", "addr del 10.3.0.2/16 dev eth0");
        g.expect(
            "address",
            &[&inside("addr 10.3.0.2/16 dev eth0"), &inside("route default dev eth0")],
        );
        g.container.cmd("ip", "link set eth0 mtu 1300");
        g.expect("mtu", &[&inside("link eth0")]);
        g.container.cmd("ip", "link set eth0 mtu 1200");
        g.expect(
            "an mtu too small for IPv6, which goes with all it had",
            &[
                &inside("addr fd00:3::2/64 dev eth0"),
                &inside("addr fe80::57/64 dev eth0"),
                &inside("link eth0"),
                &inside("route default dev eth0"),
                &inside("sysctl net.ipv6.conf.eth0.accept_dad"),
                &inside("sysctl net.ipv6.conf.eth0.accept_ra"),
            ],
        );
        g.container.cmd("ip", "-6 route del default");
        g.expect("route", &[&inside("route default dev eth0")]);
        g.container.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1").unwrap());
        g.expect("sysctl", &[&inside("sysctl net.ipv6.conf.eth0.accept_ra")]);
        // What a container adds for itself is its own.
        g.container.cmd("ip", "addr add 192.168.1.1/24 dev eth0");
        g.container.cmd("ip", "route add 192.168.2.0/24 via 192.168.1.2");
        g.expect("its own", &[]);
    });
}

#[test]
fn damage_to_filters_is_seen_and_mended() {
    in_netns(|| {
        let mut g = Ground::new();
        let forward = "chain inet weft forward";
        nft("add rule inet weft forward drop");
        g.expect("rule more", &[forward]);
        nft("insert rule inet weft forward tcp dport 22 accept comment \"web\"");
        g.expect("rule at the head", &[forward]);
        nft("flush chain inet weft forward");
        g.expect("rules gone", &[forward]);
        let handle = handle_of("inet weft forward", "jump between");
        nft(&format!("replace rule inet weft forward handle {handle} accept"));
        g.expect("rule replaced", &[forward]);
        let handle = handle_of("inet weft forward", "jump between");
        nft(&format!("delete rule inet weft forward handle {handle}"));
        nft("add rule inet weft forward iifname \"wb-*\" oifname \"wb-*\" jump between");
        g.expect("rules in another order", &[forward]);
        nft("add chain inet weft forward { policy drop; }");
        g.expect("policy", &[forward]);
        nft("delete element inet weft vnis { 0x570001 }");
        g.expect("element less", &["element inet weft vnis { 5701633 }"]);
        nft("add element inet weft members4 { 9.9.9.9 . 0x570001 }");
        g.expect("element more", &["extra element inet weft members4 { 9.9.9.9 . 5701633 }"]);
        nft("add chain inet weft theirs { type filter hook input priority 5; }");
        g.expect("chain more", &["extra chain inet weft theirs"]);
        let chain = "chain netdev weft we-000000570001-in dev we-000000570001";
        nft("flush chain netdev weft we-000000570001-in");
        g.expect("device chain flushed", &[chain]);
        nft("delete chain netdev weft we-000000570001-in");
        g.expect("device chain gone", &[chain]);
        nft("flush chain ip filter FORWARD");
        g.expect(
            "foreign rule",
            &["rule ip filter FORWARD iifname \"wb-*\" accept comment \"weft\""],
        );
        nft("add table inet weft { flags dormant; }");
        g.expect("put to sleep", &["table inet weft"]);
    });
}

#[test]
fn a_flushed_ruleset_is_seen_whole_and_mended() {
    in_netns(|| {
        let mut g = Ground::new();
        nft("flush ruleset");
        let have = g.linux.observe(&Scope::Cheap).unwrap();
        let left: Vec<String> = have
            .iter()
            .map(|(key, _)| key)
            .filter(|key| {
                matches!(
                    key,
                    Key::Table(_)
                        | Key::Set(..)
                        | Key::Element(..)
                        | Key::Chain(..)
                        | Key::DeviceChain(..)
                        | Key::ForeignRule(..)
                )
            })
            .map(ToString::to_string)
            .collect();
        assert!(left.is_empty(), "{left:?}");
        nft(
            "add table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
        );
        apply(&mut g.linux, &puts(&g.objects));
        assert_same(&observe(&mut g.linux), &g.want);
    });
}

/// As when `nft -f` brings back what `nft list ruleset` printed before.
#[test]
fn a_ruleset_restored_from_text_is_taken_for_strange_and_written_anew() {
    in_netns(|| {
        let mut g = Ground::new();
        let text = nft("list ruleset");
        let file = temporary("nft");
        std::fs::write(&file, format!("flush ruleset\n{text}")).unwrap();
        run("nft", &format!("-f {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        let have = observe(&mut g.linux);
        assert!(have != g.want);
        apply(&mut g.linux, &puts(&g.objects));
        let have = observe(&mut g.linux);
        assert_same(&have, &g.want);
    });
}

fn handle_of(chain: &str, rule: &str) -> String {
    let list = nft(&format!("-a list chain {chain}"));
    let line = list.lines().find(|line| line.contains(rule)).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}
