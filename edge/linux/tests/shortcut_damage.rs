//! What others do to the shortcut's programs and tables is seen, and putting it again mends it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;
mod ground;

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::programs::{SchedClassifier, TcAttachType};
use common::*;
use ground::*;
use weft_ebpf::{abi, layout};
use weft_kernel::{Key, Object, Scope, ShortcutKey, ShortcutObject, Step};
use weft_linux::{Event, Hook};

const ENDPOINT: &str = "shortcut endpoint dev we-000000570001";
const FROM_CONTAINER: &str = "shortcut program from_container dev we-000000570001";
const FROM_UNDERLAY: &str = "shortcut program from_underlay dev up0";

fn delete(g: &Ground, table: &str, key: &[u8]) {
    run("bpftool", &format!("map delete pinned {} key {}", g.table(table), hex(key)));
}

fn update(g: &Ground, table: &str, key: &[u8], value: &[u8]) {
    let (table, key, value) = (g.table(table), hex(key), hex(value));
    run("bpftool", &format!("map update pinned {table} key {key} value {value}"));
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn entries_that_others_delete_are_missed() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let end = g.index(END);
        update(&g, "node", &[0; 4], &[0; layout::WEFT_NODE]);
        assert!(g.wrong().contains(&"missing: shortcut node".to_owned()));
        g.mend();
        delete(&g, "endpoints", &end.to_ne_bytes());
        // What is left of it shows as somebody else's.
        g.expect(
            "endpoints",
            &[&format!("missing: {ENDPOINT}"), "extra: shortcut fdb vni 5701633 02:57:00:00:00:02"],
        );
        delete(&g, "fdb", &abi::fdb_key(VNI, mac(2)));
        g.expect("fdb, local", &[&format!("differs: {ENDPOINT}")]);
        delete(&g, "fdb", &abi::fdb_key(VNI, mac(9)));
        g.expect("fdb, remote", &["missing: shortcut fdb vni 5701633 02:57:00:00:00:09"]);
        delete(&g, "granted", &abi::granted_key(end, ip("192.168.0.0"), 16));
        g.expect("granted", &["missing: shortcut granted dev we-000000570001 192.168.0.0/16"]);
        delete(&g, "members", &abi::address_key(VNI, ip("fd77::16")));
        g.expect("members", &["missing: shortcut member vni 5701633 fd77::16"]);
        delete(&g, "neighbours", &abi::address_key(VNI, ip("10.3.0.9")));
        g.expect("neighbours", &["missing: shortcut neigh vni 5701633 10.3.0.9"]);
        delete(&g, "vteps", &abi::mapped(ip("172.30.0.16")));
        g.expect("vteps", &["missing: shortcut vtep 172.30.0.16"]);
    });
}

#[test]
fn entries_that_others_change_differ() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let (end, up0) = (g.index(END), g.index("up0"));
        // The octets of each value that others may have made something else of.
        let node = abi::Node { address: ip("172.30.0.99"), port: 4789 }.encode();
        update(&g, "node", &[0; 4], &node);
        assert!(g.wrong().contains(&"differs: shortcut node".to_owned()));
        g.mend();
        update(&g, "node", &[0; 4], &[0xff; layout::WEFT_NODE]);
        assert!(g.wrong().contains(&"differs: shortcut node".to_owned()));
        g.mend();
        let endpoint =
            |slot, mac| abi::Endpoint { vni: VNI, slot, mac, more: true, v4: None, v6: None };
        let whole = abi::Endpoint {
            v4: Some("10.3.0.2".parse().unwrap()),
            v6: Some("fd00:3::2".parse().unwrap()),
            ..endpoint(0, mac(2))
        };
        let mut link_local = whole.encode();
        link_local[layout::WEFT_ENDPOINT_LINK_LOCAL.start] ^= 1;
        for value in [
            link_local,
            endpoint(0, mac(2)).encode(),
            endpoint(0, mac(99)).encode(),
            endpoint(9, mac(2)).encode(),
            endpoint(u32::MAX, mac(2)).encode(),
            [0xff; layout::WEFT_ENDPOINT],
        ] {
            update(&g, "endpoints", &end.to_ne_bytes(), &value);
            let wrong = g.wrong();
            assert!(wrong.contains(&format!("differs: {ENDPOINT}")), "{wrong:?}");
            g.mend();
        }
        let key = abi::fdb_key(VNI, mac(2));
        update(&g, "fdb", &key, &abi::Fdb::Local { ifindex: up0, slot: 0 }.encode());
        g.expect(
            "fdb to another link",
            &[&format!("differs: {ENDPOINT}"), "extra: shortcut fdb vni 5701633 02:57:00:00:00:02"],
        );
        update(&g, "fdb", &key, &abi::Fdb::Local { ifindex: 99_999, slot: 0 }.encode());
        g.expect("fdb to no link", &[&format!("differs: {ENDPOINT}")]);
        update(&g, "fdb", &key, &abi::Fdb::Remote(ip("172.30.0.66")).encode());
        g.expect(
            "fdb to another host",
            &[&format!("differs: {ENDPOINT}"), "extra: shortcut fdb vni 5701633 02:57:00:00:00:02"],
        );
        let mut mixed = abi::Fdb::Remote(ip("172.30.0.16")).encode();
        mixed[layout::WEFT_FDB_SLOT.start] = 1;
        update(&g, "fdb", &abi::fdb_key(VNI, mac(9)), &mixed);
        g.expect("fdb, odd", &["differs: shortcut fdb vni 5701633 02:57:00:00:00:09"]);
        for value in [abi::mac_value(mac(66)), [2, 87, 0, 0, 0, 3, 1, 0]] {
            update(&g, "members", &abi::address_key(VNI, ip("172.30.0.16")), &value);
            g.expect("members", &["differs: shortcut member vni 5701633 172.30.0.16"]);
        }
        for value in [abi::mac_value(mac(66)), [2, 87, 0, 0, 0, 9, 0, 1]] {
            update(&g, "neighbours", &abi::address_key(VNI, ip("10.3.0.9")), &value);
            g.expect("neighbours", &["differs: shortcut neigh vni 5701633 10.3.0.9"]);
        }
        let vtep = abi::Vtep {
            ifindex: up0,
            mtu: 1500,
            next_hop: ip("172.30.0.16"),
            source: ip("172.30.0.15"),
            destination: ip("172.30.0.16"),
            port: 4789,
        };
        let mut odd = vtep.encode();
        odd[layout::WEFT_VTEP_HEADER.start] = 0x46;
        for value in [
            abi::Vtep { mtu: 900, ..vtep }.encode(),
            abi::Vtep { next_hop: ip("172.30.0.3"), ..vtep }.encode(),
            abi::Vtep { source: ip("172.30.0.3"), ..vtep }.encode(),
            abi::Vtep { destination: ip("172.30.0.3"), ..vtep }.encode(),
            abi::Vtep { port: 5, ..vtep }.encode(),
            abi::Vtep { ifindex: end, ..vtep }.encode(),
            odd,
            [0; layout::WEFT_VTEP],
        ] {
            update(&g, "vteps", &abi::mapped(ip("172.30.0.16")), &value);
            g.expect("vteps", &["differs: shortcut vtep 172.30.0.16"]);
        }
    });
}

#[test]
fn entries_that_others_add_are_shown_and_those_of_no_link_are_swept() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let up0 = g.index("up0");
        let local = |ifindex, slot| abi::Fdb::Local { ifindex, slot }.encode();
        update(&g, "fdb", &abi::fdb_key(9, mac(1)), &local(up0, 3));
        update(&g, "members", &abi::address_key(9, ip("172.30.0.66")), &abi::mac_value(mac(1)));
        update(&g, "neighbours", &abi::address_key(9, ip("10.9.0.1")), &abi::mac_value(mac(1)));
        update(&g, "granted", &abi::granted_key(up0, ip("10.9.0.0"), 24), &[4, 0, 0, 0]);
        let endpoint =
            abi::Endpoint { vni: 9, slot: 3, mac: mac(8), more: false, v4: None, v6: None };
        update(&g, "endpoints", &up0.to_ne_bytes(), &endpoint.encode());
        // Of no link: nobody could name it.
        let gone = 99_999_u32;
        update(&g, "endpoints", &gone.to_ne_bytes(), &endpoint.encode());
        update(&g, "fdb", &abi::fdb_key(9, mac(8)), &local(gone, 3));
        update(&g, "granted", &abi::granted_key(gone, ip("10.9.0.0"), 24), &[1, 0, 0, 0]);
        let drop = abi::Drop { vni: 9, ifindex: gone, reason: 1 };
        update(&g, "drops", &drop.encode(), &[1; layout::WEFT_COUNT]);
        let vtep = abi::Vtep {
            ifindex: gone,
            mtu: 1500,
            next_hop: ip("172.30.0.66"),
            source: ip("172.30.0.15"),
            destination: ip("172.30.0.66"),
            port: 4789,
        };
        update(&g, "vteps", &abi::mapped(ip("172.30.0.66")), &vtep.encode());
        // Keys that no program looks for.
        update(&g, "fdb", &[1, 0, 0, 0, 2, 2, 2, 2, 2, 2, 7, 7], &local(up0, 3));
        update(
            &g,
            "granted",
            &[16, 0, 0, 0, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0],
        );
        g.expect(
            "additions",
            &[
                "extra: shortcut endpoint dev up0",
                "extra: shortcut fdb vni 9 02:57:00:00:00:01",
                "extra: shortcut granted dev up0 10.9.0.0/24",
                "extra: shortcut member vni 9 172.30.0.66",
                "extra: shortcut neigh vni 9 10.9.0.1",
            ],
        );
        let dump = |table| run("bpftool", &format!("-j map dump pinned {}", g.table(table)));
        let count = |table| dump(table).matches(r#""key":["#).count();
        assert_eq!((count("endpoints"), count("fdb"), count("granted")), (1, 3, 2));
        assert_eq!(count("vteps"), 3);
        let drops = dump("drops");
        assert!(!drops.contains(r#""0x9f","0x86","0x01","0x00""#), "{drops}");
    });
}

/// What was unpinned goes a moment later.
fn gone(device: &str) {
    let there = || {
        let (_, programs) =
            SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap_or_default();
        !programs.is_empty()
    };
    let moment = std::time::Duration::from_millis(20);
    assert!((0..100).any(|_| !there() || {
        std::thread::sleep(moment);
        false
    }));
}

#[test]
fn programs_that_others_take_away_are_put_again() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let pin = g.dir.join("links").join(format!("{}-from_container", g.index(END)));
        let missing = format!("missing: {FROM_CONTAINER}");
        run("bpftool", &format!("link detach pinned {}", pin.display()));
        g.expect("detached", &[&missing]);
        std::fs::remove_file(&pin).unwrap();
        gone(END);
        g.expect("unpinned", &[&missing]);
        std::fs::remove_file(&pin).unwrap();
        gone(END);
        run(
            "bpftool",
            &format!("map create {} type hash key 4 value 4 entries 7 name x", pin.display()),
        );
        g.expect("something else is pinned there", &[&missing]);
        std::fs::remove_dir_all(g.dir.join("links")).unwrap();
        gone(END);
        gone("up0");
        g.expect("all unpinned", &[&missing, &format!("missing: {FROM_UNDERLAY}")]);
    });
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Clsact);
        run("tc", &format!("filter del dev {END} ingress"));
        g.expect("filter deleted", &[&format!("missing: {FROM_CONTAINER}")]);
        run("tc", "qdisc del dev up0 clsact");
        g.expect("qdisc deleted", &[&format!("missing: {FROM_UNDERLAY}")]);
        // Another program in our place: `tc` names it after its path.
        let pinned = bpffs.join("other");
        let filters = run("tc", &format!("filter show dev {END} ingress"));
        let id = filters.split(" id ").nth(1).unwrap().split(' ').next().unwrap();
        run("bpftool", &format!("prog pin id {id} {}", pinned.display()));
        let other = format!("bpf direct-action object-pinned {}", pinned.display());
        run("tc", &format!("filter replace dev up0 ingress pref 49239 handle 0x58 {other}"));
        g.expect("another program", &[&format!("missing: {FROM_UNDERLAY}")]);
        let filters = run("tc", "filter show dev up0 ingress");
        assert_eq!(filters.matches("handle").count(), 1, "{filters}");
    });
}

#[test]
fn a_filter_of_another_kind_in_our_place_is_taken_for_what_it_is() {
    in_bpffs(|bpffs| {
        let mut g = Ground::bare(bpffs, Hook::Clsact);
        run("tc", "qdisc add dev up0 clsact");
        run(
            "tc",
            "filter add dev up0 ingress pref 49239 protocol all u32 match u32 0 0 flowid 1:1",
        );
        let (key, object) = g.shortcut.last().unwrap().clone();
        let fault = g.linux.apply(&[Step::Put(key, object)]).remove(0).unwrap_err();
        assert_eq!(fault.kind, weft_kernel::FaultKind::Taken);
        assert_eq!(
            fault.message,
            "a filter of another kind has preference 49239 at the link's ingress"
        );
        assert!(run("tc", "filter show dev up0 ingress").contains("u32"));
    });
}

#[test]
fn a_link_that_was_replaced_is_not_taken_for_the_old_one() {
    for hook in HOOKS {
        in_bpffs(move |bpffs| {
            let mut g = Ground::new(bpffs, hook);
            let old = g.index("up0");
            run("ip", "link del up0");
            uplink();
            assert_ne!(g.index("up0"), old);
            g.expect(
                "NIC",
                &[
                    "missing: shortcut vtep 172.30.0.16",
                    "missing: shortcut vtep 172.31.0.17",
                    "missing: shortcut vtep 172.31.0.18",
                    &format!("missing: {FROM_UNDERLAY}"),
                ],
            );
            // The name alone: everything goes by the number, so it shows under the new name.
            run("ip", "link set up0 down");
            run("ip", "link set up0 name nic0");
            assert_eq!(
                g.wrong(),
                [
                    "differs: shortcut vtep 172.30.0.16",
                    "differs: shortcut vtep 172.31.0.17",
                    "differs: shortcut vtep 172.31.0.18",
                    "extra: shortcut program from_underlay dev nic0",
                    &format!("missing: {FROM_UNDERLAY}"),
                ]
            );
            run("ip", "link set nic0 name up0");
            g.check();

            let old = g.index(END);
            run("ip", &format!("link del {END}"));
            let base = puts(&g.base);
            apply(&mut g.linux, &base);
            assert_ne!(g.index(END), old);
            let granted = |net| format!("missing: shortcut granted dev {END} {net}");
            g.expect(
                "veth",
                &[
                    &format!("missing: {ENDPOINT}"),
                    &format!("missing: {FROM_CONTAINER}"),
                    &granted("192.168.0.0/16"),
                    &granted("fd99::/48"),
                ],
            );
            let pins = std::fs::read_dir(g.dir.join("links")).unwrap().count();
            let marks = std::fs::read_dir(g.dir.join("clsact")).unwrap().count();
            assert_eq!((pins, marks), if hook == Hook::Auto { (2, 0) } else { (0, 2) });
        });
    }
}

#[test]
fn the_same_place_is_never_counted_into_twice() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        run("ip", "link add other0 type bridge");
        let other = g.index("other0");
        // Somebody's entry claims the place that ours has, and comes first after a restart or not.
        let value = abi::Endpoint { vni: 9, slot: 0, mac: mac(8), more: false, v4: None, v6: None };
        update(&g, "endpoints", &other.to_ne_bytes(), &value.encode());
        update(
            &g,
            "fdb",
            &abi::fdb_key(9, mac(8)),
            &abi::Fdb::Local { ifindex: other, slot: 0 }.encode(),
        );
        g.restart(Hook::Auto);
        let wrong = g.wrong();
        assert!(wrong.contains(&"extra: shortcut endpoint dev other0".to_owned()), "{wrong:?}");
        let key = |link: &str| Key::Shortcut(ShortcutKey::Endpoint(link.into()));
        let have = g.see();
        let whole = [END, "other0"].into_iter().filter(|link| {
            matches!(have.get(&key(link)), Some(Object::Shortcut(ShortcutObject::Endpoint(_))))
        });
        assert_eq!(whole.count(), 1, "one of them has it");
        let steps: Vec<Step> = puts(&g.shortcut);
        apply(&mut g.linux, &steps);
        assert!(!g.wrong().contains(&format!("differs: {ENDPOINT}")));
        g.mend();
    });
}

#[test]
fn a_link_that_goes_or_is_renamed_is_told_if_the_shortcut_knows_it() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        run("ip", "link add other0 type bridge");
        let (say, hear) = std::sync::mpsc::channel();
        let _watcher = g.linux.watch(move |event| say.send(event).unwrap()).unwrap();
        let heard = || {
            let quiet = std::time::Duration::from_millis(400);
            std::iter::from_fn(|| hear.recv_timeout(quiet).ok()).collect::<BTreeSet<Event>>()
        };
        heard();
        let told = Event::Dirty(Scope::Shortcut);
        for (change, about_it) in [
            ("link add other1 type bridge", false),
            ("link set other0 mtu 1300", false),
            ("link del other0", false),
            ("link set up0 mtu 1300", false),
            ("link set up0 down", false),
            ("link set up0 name nic0", true),
            ("link del nic0", true),
        ] {
            run("ip", change);
            let heard = heard();
            assert_eq!(heard.contains(&told), about_it, "{change}: {heard:?}");
            assert!(heard.contains(&Event::HostChanged), "{change}: {heard:?}");
        }
        let end = Step::Delete(Key::Link(weft_kernel::Netns::Host, END.into()));
        apply(&mut g.linux, &[end]);
        assert_eq!(heard(), BTreeSet::new(), "our own doing");
        let base = puts(&g.base);
        apply(&mut g.linux, &base);
        uplink();
        g.mend();
        heard();
        run("ip", &format!("link del {END}"));
        let heard = heard();
        assert!(heard.contains(&told), "{heard:?}");
    });
}
