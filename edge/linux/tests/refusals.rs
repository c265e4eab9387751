//! What the kernel refuses, and what is not ours to touch, with words that help.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;

use std::path::Path;

use common::*;
use weft_kernel::key::FdbTable;
use weft_kernel::object::{Link, Route};
use weft_kernel::{Fault, FaultKind, Key, LinkKind, Netns, NetnsId, Object, Step};
use weft_linux::{Linux, host_netns_id, netns_id};

const VNI: u32 = 0x57_0001;

/// Applies steps one of which must fail; its fault.
fn refused(linux: &mut Linux, steps: &[Step]) -> Fault {
    let mut faults: Vec<Fault> = linux.apply(steps).into_iter().filter_map(Result::err).collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

fn put(key: Key, object: Object) -> Vec<Step> {
    vec![Step::Put(key, object)]
}

fn bridge(name: &str) -> Vec<Step> {
    let link = Link {
        kind: LinkKind::Bridge,
        mac: mac(1),
        mtu: 1450,
        alias: "weft network web".into(),
        port: None,
    };
    put(Key::Link(Netns::Host, name.into()), Object::Link(link))
}

fn vxlan(name: &str, vni: u32, port: u16) -> Vec<Step> {
    let kind = LinkKind::Vxlan { vni, local: "172.30.0.15".parse().unwrap(), port };
    let link = Link { kind, mac: mac(4), mtu: 1450, alias: "weft network web".into(), port: None };
    put(Key::Link(Netns::Host, name.into()), Object::Link(link))
}

#[test]
fn a_link_of_others_with_our_name_stays_as_it_is() {
    in_netns(|| {
        run("ip", "link add wb-570001 type bridge");
        run("ip", "link add eth9 type veth peer name we-x");
        let before = run("ip", "-d link");
        let mut linux = Linux::open().unwrap();
        let fault = refused(&mut linux, &bridge("wb-570001"));
        assert_eq!(fault.kind, FaultKind::Taken);
        assert_eq!(fault.call, "ip link add wb-570001 type bridge");
        assert!(fault.message.contains("not Weft's"), "{fault}");
        assert_eq!(fault.hint, "rename or delete it: `ip link del wb-570001`");
        // Nothing is put on it, nothing deleted.
        let name = || "wb-570001".to_owned();
        let host = Netns::Host;
        for (key, object) in [
            (Key::Up(host, name()), Object::Up),
            (Key::Address(host, name(), "10.3.0.1/16".parse().unwrap()), Object::Address),
            (
                Key::Route(host, "10.3.0.0/16".parse().unwrap(), name()),
                Object::Route(Route { via: None, source: None }),
            ),
            (Key::Neighbour(name(), "10.3.0.9".parse().unwrap()), Object::Neighbour(mac(9))),
            (Key::Fdb(name(), FdbTable::Bridge, mac(9)), Object::Fdb(None)),
        ] {
            let fault = refused(&mut linux, &put(key.clone(), object));
            assert_eq!(fault.kind, FaultKind::Taken, "{fault}");
            apply(&mut linux, &[Step::Delete(key)]);
        }
        apply(&mut linux, &[Step::Delete(Key::Link(host, name()))]);
        apply(&mut linux, &[Step::Delete(Key::Link(host, "we-x".into()))]);
        assert_eq!(run("ip", "-d link"), before);
    });
}

#[test]
fn a_link_that_died_between_making_and_marking_is_taken_up() {
    in_netns(|| {
        run("ip", "link add wb-570001 address 02:57:00:00:00:01 type bridge");
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &bridge("wb-570001"));
        assert!(run("ip", "link show wb-570001").contains("alias weft network web"));
    });
}

#[test]
fn a_vni_that_another_device_carries_is_named_with_it() {
    in_netns(|| {
        run("ip", "link add theirs type vxlan id 5701633 dstport 4789 local 172.30.0.15");
        let mut linux = Linux::open().unwrap();
        let fault = refused(&mut linux, &vxlan("wv-570001", VNI, 4789));
        assert_eq!(fault.kind, FaultKind::Taken);
        assert_eq!(fault.message, "theirs carries VNI 5701633 on UDP port 4789 already");
        assert!(fault.hint.contains("ip link del theirs"), "{}", fault.hint);
        assert_eq!(
            fault.call,
            "ip link add wv-570001 type vxlan id 5701633 local 172.30.0.15 dstport 4789 nolearning"
        );
    });
}

#[test]
fn a_vxlan_device_with_other_flags_on_our_port_is_named_and_a_plain_one_is_fine() {
    in_netns(|| {
        run("ip", "link add plain type vxlan id 7 dstport 4789 local 172.30.0.15 nolearning");
        run("ip", "link set plain up");
        let mut linux = Linux::open().unwrap();
        let up = |name: &str| put(Key::Up(Netns::Host, name.into()), Object::Up);
        apply(&mut linux, &vxlan("wv-570001", VNI, 4789));
        apply(&mut linux, &up("wv-570001"));

        run("ip", "link add gbp0 type vxlan id 8 dstport 4790 local 172.30.0.15 gbp");
        run("ip", "link set gbp0 up");
        apply(&mut linux, &vxlan("wv-570002", VNI + 1, 4790));
        let fault = refused(&mut linux, &up("wv-570002"));
        assert_eq!(
            (fault.kind, fault.call.as_str()),
            (FaultKind::Taken, "ip link set wv-570002 up")
        );
        assert_eq!(
            fault.message,
            "the VXLAN device gbp0 is up on UDP port 4790 with other flags (gbp; ours: none)"
        );
        assert!(fault.hint.contains("gbp0"), "{}", fault.hint);

        let socket = std::net::UdpSocket::bind("0.0.0.0:4791").unwrap();
        apply(&mut linux, &vxlan("wv-570003", VNI + 2, 4791));
        let fault = refused(&mut linux, &up("wv-570003"));
        assert_eq!(fault.message, "another program uses UDP port 4791");
        assert!(fault.hint.contains("ss -lunp sport = :4791"), "{}", fault.hint);
        drop(socket);
        apply(&mut linux, &up("wv-570003"));
    });
}

#[test]
fn a_container_with_an_interface_of_that_name_keeps_it() {
    in_netns(|| {
        let container = Container::new();
        container.cmd("ip", "link add eth0 type veth peer name other");
        let before = container.cmd("ip", "-d link");
        let mut linux = Linux::open().unwrap();
        let id = linux.register_netns(&container.path).unwrap();
        apply(&mut linux, &puts(&network(VNI, 3)));
        let objects = endpoint(VNI, 3, id);
        let steps = puts(&objects);
        let fault = linux.apply(&steps[..1]).remove(0).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Taken);
        assert_eq!(fault.message, "the container has a link eth0 already");
        let fault = linux.apply(&steps[1..2]).remove(0).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Taken, "{fault}");
        apply(&mut linux, &deletes(&objects));
        assert_eq!(container.cmd("ip", "-d link"), before);
    });
}

#[test]
fn a_route_of_the_host_to_our_subnet_stays() {
    in_netns(|| {
        run("ip", "link add other type bridge");
        run("ip", "link set other up");
        run("ip", "route add 10.3.0.0/16 dev other");
        run("ip", "-6 route add fd00:3::/64 dev other");
        let mut linux = Linux::open().unwrap();
        let steps = puts(&network(VNI, 3));
        let faults: Vec<Fault> = linux.apply(&steps).into_iter().filter_map(Result::err).collect();
        let taken: Vec<_> = faults.iter().map(|f| (f.kind, f.message.as_str())).collect();
        assert_eq!(
            taken,
            [
                (FaultKind::Taken, "the host has a route to 10.3.0.0/16 already"),
                (FaultKind::Taken, "the host has a route to fd00:3::/64 already"),
            ],
            "{faults:?}"
        );
        assert!(run("ip", "route").contains("10.3.0.0/16 dev other"));
        assert!(run("ip", "-6 route").contains("fd00:3::/64 dev other"));
    });
}

#[test]
fn two_networks_with_the_same_subnet_have_a_route_each() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let route = |vni: u32| {
            let objects = network(vni, 3);
            objects.into_iter().filter(|(key, _)| {
                !matches!(key, Key::Flood(..) | Key::Fdb(..) | Key::Sysctl(..) | Key::Neighbour(..))
            })
        };
        let both: Objects = route(VNI).chain(route(VNI + 1)).collect();
        for _ in 0..2 {
            apply(&mut linux, &puts(&both));
            assert_same(&observe(&mut linux), &both.iter().cloned().collect());
        }
        let one: Objects = route(VNI).collect();
        apply(&mut linux, &deletes(&one));
        assert_same(&observe(&mut linux), &route(VNI + 1).collect());
    });
}

#[test]
fn a_namespace_that_died_is_gone_for_puts_and_done_for_deletes() {
    in_netns(|| {
        let container = Container::new();
        let mut linux = Linux::open().unwrap();
        let id = linux.register_netns(&container.path).unwrap();
        let mut objects = network(VNI, 3);
        let host: weft_kernel::KernelState = objects.iter().cloned().collect();
        objects.extend(filters());
        objects.extend(endpoint(VNI, 3, id));
        apply(&mut linux, &puts(&objects));
        container.kill();
        // Its veth goes some time after it.
        let begun = std::time::Instant::now();
        while run("ip", "-o link").contains("we-0000") {
            assert!(begun.elapsed().as_secs() < 10, "the namespace is kept alive");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let inside =
            |(key, _): &&(Key, Object)| key.section() == weft_kernel::Section::Container(id);
        let inside: Objects = objects.iter().filter(inside).cloned().collect();
        assert!(inside.len() > 5);
        for result in linux.apply(&puts(&inside)) {
            let fault = result.unwrap_err();
            assert_eq!(fault.kind, FaultKind::NetnsGone, "{fault}");
        }
        let veth: Objects = endpoint(VNI, 3, id).into_iter().take(1).collect();
        assert_eq!(refused(&mut linux, &puts(&veth)).kind, FaultKind::NetnsGone);
        apply(&mut linux, &deletes(&inside));
        let have = observe(&mut linux);
        assert!(have.iter().all(|(key, _)| key.section() != weft_kernel::Section::Container(id)));
        assert!(
            host.iter()
                .filter(
                    |(k, _)| !matches!(k, Key::Neighbour(_, ip) if ip.to_string() == "10.3.0.2")
                )
                .all(|(key, object)| have.get(key) == Some(object))
        );
        linux.forget_netns(id);
        assert_eq!(refused(&mut linux, &puts(&inside[..1])).kind, FaultKind::NetnsGone);
    });
}

#[test]
fn a_path_that_leads_elsewhere_by_now_is_not_followed() {
    in_netns(|| {
        let (one, two) = (Container::new(), Container::new());
        let link = temporary("netns");
        std::os::unix::fs::symlink(&one.path, &link).unwrap();
        let mut linux = Linux::open().unwrap();
        let id = linux.register_netns(&link).unwrap();
        assert_eq!(id, netns_id(&one.path).unwrap());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&two.path, &link).unwrap();
        let key = Key::Sysctl(Netns::Container(id), "net/ipv4/ip_forward".into());
        let fault = refused(&mut linux, &put(key.clone(), Object::Sysctl("1".into())));
        std::fs::remove_file(&link).unwrap();
        assert_eq!(fault.kind, FaultKind::NetnsGone);
        assert!(fault.message.contains("another network namespace"), "{fault}");
        two.run(|| {
            let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            assert_eq!(text.trim(), "0");
        });
        let fault = refused(&mut linux, &put(key, Object::Sysctl("1".into())));
        assert_eq!(fault.kind, FaultKind::NetnsGone);
    });
}

#[test]
fn paths_that_are_no_namespaces_are_refused() {
    in_netns(|| {
        let fault = netns_id(Path::new("/run/netns/wt-linux-nothing")).unwrap_err();
        assert_eq!(fault.kind, FaultKind::NetnsGone);
        assert_eq!(fault.call, "nsenter --net=/run/netns/wt-linux-nothing");
        let fault = netns_id(Path::new("/etc/hostname")).unwrap_err();
        assert_eq!((fault.kind, fault.errno), (FaultKind::Again, libc_einval()));
        assert!(fault.message.contains("is not a network namespace"), "{fault}");
        assert!(netns_id(Path::new("/proc/self/ns/mnt")).is_err());
        let here = netns_id(Path::new("/proc/thread-self/ns/net")).unwrap();
        assert_eq!(here, host_netns_id().unwrap());
        assert_ne!(here, NetnsId(0));
    });
}

const fn libc_einval() -> i32 {
    22
}

#[test]
fn one_bad_row_among_many_is_told_and_the_others_are_written() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &puts(&network(VNI, 3)));
        let row = |mac: [u8; 6], ip: &str| {
            let key = Key::Fdb("wv-570001".into(), FdbTable::Device, mac);
            Step::Put(key, Object::Fdb(Some(ip.parse().unwrap())))
        };
        let mut steps: Vec<Step> = (0..2_000_u16)
            .map(|i| {
                let [high, low] = i.to_be_bytes();
                row([2, 0, 0, 1, high, low], "172.30.0.16")
            })
            .collect();
        // A VTEP of the other family cannot be reached from this device.
        let key = Key::Fdb("wv-nosuch".into(), FdbTable::Device, mac(1));
        steps[700] = Step::Put(key, Object::Fdb(Some("172.30.0.16".parse().unwrap())));
        steps[1_499] = row(mac(1), "fd00::1");
        let results = linux.apply(&steps);
        let bad: Vec<usize> =
            (0..results.len()).filter(|number| results[*number].is_err()).collect();
        assert_eq!(bad, [700, 1_499]);
        let fault = results[700].clone().unwrap_err();
        assert_eq!(fault.message, "there is no link wv-nosuch");
        let fault = results[1_499].clone().unwrap_err();
        assert!(
            fault
                .call
                .starts_with("bridge fdb replace 02:57:00:00:00:01 dev wv-570001 self dst fd00::1"),
            "{fault}"
        );
        let have = observe(&mut linux);
        let written = steps.iter().filter(|step| have.get(step.key()).is_some()).count();
        assert_eq!(written, 1_998);
    });
}

#[test]
fn one_bad_filter_among_many_is_told_and_the_others_are_written() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let mut objects = filters();
        let bad = [
            // A set that does not exist.
            (
                Key::Chain(inet(), "bad-lookup".into()),
                filter(
                    weft_kernel::nft::HookPoint::Forward,
                    0,
                    vec![drop_rule(
                        vec![weft_kernel::nft::Match::InSet(
                            weft_kernel::nft::Equal::Is,
                            vec![weft_kernel::nft::Field::SourceV4],
                            "nowhere".into(),
                        )],
                        "",
                    )],
                ),
            ),
            (Key::Element(inet(), "vnis".into(), "x".into()), Object::Element),
            (
                Key::Chain(inet(), "too-long".into()),
                filter(
                    weft_kernel::nft::HookPoint::Forward,
                    0,
                    vec![drop_rule(vec![], &"long ".repeat(60))],
                ),
            ),
        ];
        objects.extend(bad.clone());
        let steps = puts(&objects);
        let results = linux.apply(&steps);
        for (step, result) in steps.iter().zip(&results) {
            let is_bad = bad.iter().any(|(key, _)| key == step.key());
            assert_eq!(result.is_err(), is_bad, "{} {result:?}", step.key());
        }
        let want = filters().into_iter().collect();
        assert_same(&observe(&mut linux), &want);
        // Into a chain that nobody has.
        let key = Key::ForeignRule(
            weft_kernel::TableName {
                family: weft_kernel::key::NftFamily::Ip,
                name: "filter".into(),
            },
            "FORWARD".into(),
            "accept".into(),
        );
        let accept = rule(vec![], vec![weft_kernel::nft::Statement::Accept], "weft");
        let fault = refused(&mut linux, &put(key.clone(), Object::ForeignRule(accept)));
        assert_eq!(fault.call, "nft insert rule ip filter FORWARD accept");
        apply(&mut linux, &[Step::Delete(key)]);
    });
}

#[test]
fn key_and_object_that_do_not_fit_are_refused() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &puts(&network(VNI, 3)));
        for key in [
            bridge_key(VNI),
            Key::Table(inet()),
            Key::Sysctl(Netns::Host, "net/ipv4/ip_forward".into()),
            Key::Neighbour("wb-570001".into(), "10.3.0.9".parse().unwrap()),
            Key::Fdb("wv-570001".into(), FdbTable::Device, mac(9)),
        ] {
            let fault = refused(&mut linux, &put(key, Object::Flood));
            assert_eq!(fault.errno, libc_einval(), "{fault}");
        }
    });
}

#[test]
fn a_bridge_that_is_full_says_so() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        apply(&mut linux, &bridge("wb-570001"));
        let file = temporary("batch");
        let pairs: String = (0..512)
            .map(|n| format!("link add p{n} type veth peer name q{n}\nlink set p{n} master wb-570001\nlink set q{n} master wb-570001\n"))
            .collect();
        std::fs::write(&file, pairs.trim_end_matches("link set q511 master wb-570001\n")).unwrap();
        run("ip", &format!("-batch {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        let mut steps = vxlan("wv-570001", VNI, 4789);
        if let Step::Put(_, Object::Link(link)) = &mut steps[0] {
            link.port = Some(weft_kernel::object::Port {
                bridge: "wb-570001".into(),
                neigh_suppress: true,
                locked: false,
            });
        }
        let fault = refused(&mut linux, &steps);
        assert!(fault.hint.contains("at most 1023 ports"), "{fault:?}");
    });
}
