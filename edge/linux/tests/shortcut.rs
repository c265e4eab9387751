//! The shortcut's objects: put, seen again, changed and deleted, by both hooks.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;
mod ground;

use std::io::Write as _;

use common::*;
use ground::*;
use weft_ebpf::{abi, layout};
use weft_kernel::{
    Attach, FaultKind, KernelState, Key, LocalEndpoint, Netns, Object, Scope, ShortcutKey,
    ShortcutObject, Step,
};
use weft_linux::{Hook, Linux, ShortcutOn};

fn put_one(ground: &mut Ground, key: ShortcutKey, value: ShortcutObject) {
    let (key, value) = object(key, value);
    apply(&mut ground.linux, &[Step::Put(key.clone(), value.clone())]);
    ground.shortcut.retain(|(k, _)| *k != key);
    ground.shortcut.push((key, value));
}

#[test]
fn what_was_put_is_seen_and_goes_without_a_trace_by_both_hooks() {
    for hook in HOOKS {
        in_bpffs(move |bpffs| {
            let mut g = Ground::new(bpffs, hook);
            let on = if hook == Hook::Clsact { ShortcutOn::Clsact } else { ShortcutOn::Tcx };
            assert_eq!(g.on, on);
            let again = puts(&g.shortcut);
            apply(&mut g.linux, &again);
            g.check();
            // At once: what is deleted is gone when it is put again.
            let (program, object) = g.shortcut[13].clone();
            let there_again = [Step::Delete(program.clone()), Step::Put(program, object)];
            for _ in 0..5 {
                apply(&mut g.linux, &there_again);
            }
            g.check();
            let mut all: KernelState = g.shortcut.iter().cloned().collect();
            g.base.iter().for_each(|(key, object)| all.insert(key.clone(), object.clone()));
            assert_same(&observe(&mut g.linux), &all);
            assert!(
                g.linux
                    .observe(&Scope::Cheap)
                    .unwrap()
                    .iter()
                    .all(|(key, _)| { !matches!(key, Key::Shortcut(_)) })
            );

            for _ in 0..2 {
                apply(&mut g.linux, &deletes(&g.shortcut));
                assert_same(&g.see(), &KernelState::new());
            }
            let tables = ["endpoints", "granted", "fdb", "members", "neighbours", "vteps", "drops"];
            for table in tables {
                let dump = run("bpftool", &format!("map dump pinned {}", g.table(table)));
                assert!(
                    dump.contains("Found 0 elements") || dump.trim() == "[]",
                    "{table}: {dump}"
                );
            }
            assert!(!run("tc", "qdisc show dev up0").contains("clsact"));
            assert_eq!(std::fs::read_dir(g.dir.join("links")).unwrap().count(), 0);
            assert_eq!(std::fs::read_dir(g.dir.join("clsact")).unwrap().count(), 0);
        });
    }
}

#[test]
fn without_a_start_nothing_can_be_put_and_nothing_is_there() {
    in_bpffs(|_| {
        let mut linux = Linux::open().unwrap();
        let objects = objects();
        for (result, (key, _)) in linux.apply(&puts(&objects)).into_iter().zip(&objects) {
            let fault = result.unwrap_err();
            assert_eq!(fault.message, "the shortcut was not started", "{key}");
        }
        apply(&mut linux, &deletes(&objects));
        assert_same(&linux.observe(&Scope::Shortcut).unwrap(), &KernelState::new());
    });
}

#[test]
fn bad_steps_are_refused_and_change_nothing() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        run("ip", "link add we-decoy type bridge");
        let refused = |g: &mut Ground, key, object| {
            let step = Step::Put(Key::Shortcut(key), Object::Shortcut(object));
            let fault = g.linux.apply(&[step]).remove(0).unwrap_err();
            g.check();
            (fault.message, fault.kind)
        };
        let other = ShortcutObject::Granted;
        let again = FaultKind::Again;
        assert_eq!(
            refused(&mut g, ShortcutKey::Node, other.clone()),
            ("the object is of another kind than its key".into(), again)
        );
        assert_eq!(
            refused(&mut g, ShortcutKey::Endpoint(END.into()), other),
            ("the object is of another kind than its key".into(), again)
        );
        let endpoint = || ShortcutObject::Endpoint(local(false));
        assert_eq!(
            refused(&mut g, ShortcutKey::Endpoint("we-none".into()), endpoint()),
            ("there is no link we-none".into(), again)
        );
        let (message, kind) = refused(&mut g, ShortcutKey::Endpoint("we-decoy".into()), endpoint());
        assert!(message.starts_with("there is a link we-decoy that is not Weft's"), "{message}");
        assert_eq!(kind, FaultKind::Taken);
        let program = |link: &str, attach| ShortcutKey::Program(link.into(), attach);
        let (_, kind) =
            refused(&mut g, program("we-decoy", Attach::FromContainer), ShortcutObject::Program);
        assert_eq!(kind, FaultKind::Taken);
        assert_eq!(
            refused(&mut g, program("up9", Attach::FromUnderlay), ShortcutObject::Program),
            ("there is no link up9".into(), again)
        );
        let v6 = ShortcutKey::Vtep("fd77::16".parse().unwrap());
        assert_eq!(
            refused(&mut g, v6, path("up0", None, 1500)),
            ("fd77::16 is not of the family of this node's 172.30.0.15".into(), again)
        );
        let vtep = ShortcutKey::Vtep("172.30.0.99".parse().unwrap());
        assert_eq!(
            refused(&mut g, vtep.clone(), path("up9", None, 1500)),
            ("there is no link up9".into(), again)
        );
        apply(&mut g.linux, &[Step::Delete(Key::Shortcut(ShortcutKey::Node))]);
        g.shortcut.retain(|(key, _)| *key != Key::Shortcut(ShortcutKey::Node));
        let step = Step::Put(Key::Shortcut(vtep), Object::Shortcut(path("up0", None, 1500)));
        let fault = g.linux.apply(&[step]).remove(0).unwrap_err();
        assert_eq!(fault.message, "this node's own address comes first");
    });
}

#[test]
fn a_change_replaces_what_was_there() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let ip = |text: &str| text.parse().unwrap();
        let end = || ShortcutKey::Endpoint(END.into());
        // Another MAC, then another network: the old entry leads nowhere any more.
        let moved = LocalEndpoint { mac: mac(5), v4: None, more: false, ..local(true) };
        put_one(&mut g, end(), ShortcutObject::Endpoint(moved.clone()));
        g.check();
        put_one(&mut g, end(), ShortcutObject::Endpoint(LocalEndpoint { vni: VNI + 9, ..moved }));
        g.check();
        put_one(&mut g, end(), ShortcutObject::Endpoint(local(true)));
        g.check();

        let vtep = ShortcutKey::Vtep(ip("172.30.0.16"));
        put_one(&mut g, vtep, path("up1", Some("172.30.0.3"), 1300));
        let member = ShortcutKey::Member(VNI, ip("172.30.0.16"));
        put_one(&mut g, member, ShortcutObject::Member(mac(77)));
        let fdb = ShortcutKey::Fdb(VNI, mac(9));
        put_one(&mut g, fdb, ShortcutObject::Fdb(ip("172.31.0.17")));
        let neighbour = ShortcutKey::Neighbour(VNI, ip("10.3.0.9"));
        put_one(&mut g, neighbour, ShortcutObject::Neighbour(mac(78)));
        g.check();

        // The headers of all VTEPs carry the node's address and port.
        let node = ShortcutObject::Node { data_address: ip("172.30.0.55"), port: 4790 };
        put_one(&mut g, ShortcutKey::Node, node);
        g.check();
        let key = hex(&abi::mapped(ip("172.30.0.16")));
        let dump = run("bpftool", &format!("-j map lookup pinned {} key {key}", g.table("vteps")));
        assert!(dump.contains(r#""0xac","0x1e","0x00","0x37""#), "{dump}");

        // To a node of the other family its VTEPs are unreachable: shown, and put right by others.
        let six = ShortcutObject::Node { data_address: ip("fd77::15"), port: 4789 };
        put_one(&mut g, ShortcutKey::Node, six);
        assert_eq!(
            g.wrong(),
            [
                "differs: shortcut vtep 172.30.0.16",
                "differs: shortcut vtep 172.31.0.17",
                "differs: shortcut vtep 172.31.0.18"
            ]
        );
        g.shortcut.retain(|(key, _)| !matches!(key, Key::Shortcut(ShortcutKey::Vtep(_))));
        let vtep = ShortcutKey::Vtep(ip("fd77::16"));
        g.shortcut.push(object(vtep, path("up0", Some("fe80::1"), 1500)));
        g.mend();
    });
}

#[test]
fn an_endpoint_that_moves_is_found_where_it_is_in_any_order_of_steps() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let (end, here) =
            object(ShortcutKey::Endpoint(END.into()), ShortcutObject::Endpoint(local(true)));
        let (there, remote) = object(
            ShortcutKey::Fdb(VNI, mac(2)),
            ShortcutObject::Fdb("172.30.0.16".parse().unwrap()),
        );
        let put = |at: &(Key, Object)| Step::Put(at.0.clone(), at.1.clone());
        let (end, there) = ((end, here), (there, remote));
        g.shortcut.retain(|(key, _)| *key != end.0);
        g.shortcut.push(there.clone());
        apply(&mut g.linux, &[put(&there), Step::Delete(end.0.clone())]);
        g.check();
        apply(&mut g.linux, &[put(&end), Step::Delete(there.0.clone())]);
        g.shortcut.retain(|(key, _)| *key != there.0);
        g.shortcut.push(end.clone());
        g.check();
        apply(&mut g.linux, &[Step::Delete(end.0.clone()), put(&there)]);
        g.shortcut.retain(|(key, _)| *key != end.0);
        g.shortcut.push(there.clone());
        g.check();
        apply(&mut g.linux, &[Step::Delete(there.0.clone()), put(&end)]);
        g.shortcut.retain(|(key, _)| *key != there.0);
        g.shortcut.push(end);
        g.check();
    });
}

#[test]
fn what_is_about_a_link_goes_with_it() {
    for hook in HOOKS {
        in_bpffs(move |bpffs| {
            let mut g = Ground::new(bpffs, hook);
            apply(&mut g.linux, &[Step::Delete(Key::Link(Netns::Host, END.into()))]);
            // Nothing was left to be swept by an observation.
            for (table, left) in [("endpoints", 0), ("granted", 0), ("fdb", 2)] {
                let dump = run("bpftool", &format!("-j map dump pinned {}", g.table(table)));
                assert_eq!(dump.matches(r#""key":["#).count(), left, "{table}: {dump}");
            }
            let pins = std::fs::read_dir(g.dir.join("links")).unwrap().count();
            assert_eq!(pins, usize::from(hook == Hook::Auto), "that of up0");
            g.shortcut.retain(|(key, _)| match key {
                Key::Shortcut(key) => key.sits_on() != Some(END),
                _ => true,
            });
            g.check();
        });
    }
}

#[test]
fn a_full_table_says_that_the_bridge_path_carries_the_rest() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let vtep = |number: u32| {
            let [_, _, a, b] = number.to_be_bytes();
            ShortcutKey::Vtep([10, 200, a, b].into())
        };
        let put = |key| Step::Put(Key::Shortcut(key), Object::Shortcut(path("up0", None, 1500)));
        // Three are there already.
        let room = layout::WEFT_MAX_VTEPS - 3;
        let steps: Vec<Step> = (0..room).map(|number| put(vtep(number))).collect();
        apply(&mut g.linux, &steps);
        let fault = g.linux.apply(&[put(vtep(room))]).remove(0).unwrap_err();
        assert_eq!(fault.message, "the shortcut's table vteps is full: it holds 4096 entries");
        assert_eq!(
            fault.hint,
            "nothing is lost: what finds no place in it goes on by the bridge path"
        );
        let deletes: Vec<Step> = (0..room).map(|n| Step::Delete(Key::Shortcut(vtep(n)))).collect();
        apply(&mut g.linux, &deletes);
        g.check();

        // Others' prefixes: as many as the table holds, less the two that are there.
        let granted = |number: u32| {
            let [_, _, a, b] = number.to_be_bytes();
            let net = ipnet::IpNet::new([10, 0, a, b].into(), 32).unwrap();
            (Key::Shortcut(ShortcutKey::Granted(END.into(), net)), ShortcutObject::Granted)
        };
        let put = |number| {
            let (key, object) = granted(number);
            Step::Put(key, Object::Shortcut(object))
        };
        let steps: Vec<Step> = (0..layout::WEFT_MAX_GRANTED - 2).map(put).collect();
        apply(&mut g.linux, &steps);
        let fault = g.linux.apply(&[put(layout::WEFT_MAX_GRANTED)]).remove(0).unwrap_err();
        assert_eq!(fault.message, "the shortcut's table granted is full: it holds 16384 entries");
    });
}

#[test]
fn of_many_rows_only_those_beyond_the_last_place_are_refused() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let put = |number: u32| {
            let [_, a, b, c] = number.to_be_bytes();
            let key = ShortcutKey::Fdb(7, [2, 0, 0, a, b, c]);
            let object = ShortcutObject::Fdb("172.30.0.16".parse().unwrap());
            Step::Put(Key::Shortcut(key), Object::Shortcut(object))
        };
        // Three are there already, and one of the wanted comes twice.
        let room = layout::WEFT_MAX_FDB - 3;
        let mut steps: Vec<Step> = (0..room + 5).map(put).collect();
        steps.push(put(9));
        let results = g.linux.apply(&steps);
        assert_eq!(results.len(), steps.len());
        for (number, result) in (0..).zip(&results) {
            let fits = number < room || number == room + 5;
            assert_eq!(result.is_ok(), fits, "{number}: {result:?}");
        }
        let fault = results[room as usize].clone().unwrap_err();
        assert_eq!(fault.message, "the shortcut's table fdb is full: it holds 131072 entries");
        assert_eq!(g.see().len(), g.shortcut.len() + room as usize);
        let deletes: Vec<Step> =
            steps.iter().map(|step| Step::Delete(step.key().clone())).collect();
        apply(&mut g.linux, &deletes);
        g.check();
    });
}

/// As many endpoints as there is room for, at a device that is there: only the places count.
#[test]
fn the_4097th_endpoint_goes_the_bridge_path() {
    in_bpffs(|bpffs| {
        let mut g = Ground::bare(bpffs, Hook::Auto);
        let lines: Vec<String> = (0..layout::WEFT_MAX_ENDPOINTS)
            .map(|slot| {
                let mac = [2, 9, 0, 0, slot.to_be_bytes()[2], slot.to_be_bytes()[3]];
                let value = abi::Endpoint { vni: 5, slot, mac, more: false, v4: None, v6: None };
                let key = (slot + 1_000_000).to_ne_bytes();
                format!(
                    "map update pinned {} key {} value {}",
                    g.table("endpoints"),
                    hex(&key),
                    hex(&value.encode())
                )
            })
            .collect();
        let mut bpftool = std::process::Command::new("bpftool")
            .args(["batch", "file", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        bpftool.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
        assert!(bpftool.wait().unwrap().success());
        g.restart(Hook::Auto);
        let (key, object) =
            object(ShortcutKey::Endpoint(END.into()), ShortcutObject::Endpoint(local(false)));
        let put = Step::Put(key.clone(), object);
        let fault = g.linux.apply(std::slice::from_ref(&put)).remove(0).unwrap_err();
        assert_eq!(fault.message, "the shortcut's table endpoints is full: it holds 4096 entries");
        assert!(fault.hint.contains("bridge path"), "{}", fault.hint);
        // None of their devices is there, so an observation makes room.
        assert_same(&g.see(), &KernelState::new());
        apply(&mut g.linux, &[put]);
        assert_eq!(g.see().len(), 1);
    });
}
