//! Pairs whose other end a container runtime takes: made when it asks, kept, and gone with the
//! container. Here `ip` is the runtime.
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
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::*;
use weft_kernel::object::Link;
use weft_kernel::{
    Attach, Fault, FaultKind, KernelState, Key, LinkKind, Netns, NetnsId, Object, Scope,
    ShortcutKey, ShortcutObject, Step,
};
use weft_linux::{Event, Hook, Linux, ShortcutConfig, links_named};

const VNI: u32 = 0x57_0001;
/// The host's end.
const END: &str = "we-000000570001";
/// The other one, as the runtime finds it.
const PEER: &str = "wp-570001";

fn end() -> Key {
    Key::Link(Netns::Host, END.into())
}

/// The host's side of an endpoint that is lent, without its network.
fn side() -> Objects {
    let of_host = endpoint(VNI, 3, NetnsId(0))
        .into_iter()
        .filter(|(key, _)| !matches!(key.netns(), Some(Netns::Container(_))));
    let lent = |(key, object)| match object {
        Object::Link(link) => {
            let alias = "weft lent web-1".to_owned();
            (key, Object::Link(Link { kind: LinkKind::Lent, alias, ..link }))
        }
        other => (key, other),
    };
    of_host.map(lent).collect()
}

fn link() -> Link {
    match side().remove(0) {
        (_, Object::Link(link)) => link,
        other => panic!("{other:?}"),
    }
}

/// Filters, the network, and the host's side.
fn all() -> Objects {
    let mut all = filters();
    all.extend(network(VNI, 3));
    all.extend(side());
    all
}

fn lend(linux: &mut Linux) -> Result<(), Fault> {
    linux.lend(END, PEER, &link(), mac(2))
}

/// Takes the other end into the container, as a runtime does.
fn take(container: &Container) {
    run("ip", &format!("link set {PEER} netns {}", container.path.display()));
    container.cmd("ip", &format!("link set {PEER} name eth7"));
    container.cmd("ip", "addr add 10.3.0.2/16 dev eth7");
    container.cmd("ip", "link set eth7 up");
}

/// Somebody sets the alias of the host's end.
fn set_alias(alias: &str) {
    let args = ["link", "set", END, "alias", alias];
    let output = std::process::Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn refused(linux: &mut Linux, step: Step) -> Fault {
    linux.apply(&[step]).remove(0).unwrap_err()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed().as_secs() < 10, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_there(link: &str) -> bool {
    run("ip", "-o link").contains(link)
}

#[test]
fn a_pair_is_lent_and_the_steps_do_the_rest_whoever_has_the_other_end() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let container = Container::new();
        lend(&mut linux).unwrap();
        let host = run("ip", &format!("-d -o link show {END}"));
        for part in ["mtu 1450", "02:57:00:00:00:70", "addrgenmode none", "alias weft lent web-1"] {
            assert!(host.contains(part), "{part}: {host}");
        }
        let peer = run("ip", &format!("-d -o link show {PEER}"));
        assert!(peer.contains("mtu 1450") && peer.contains("02:57:00:00:00:02"), "{peer}");
        assert!(!peer.contains("alias") && !peer.contains("addrgenmode none"), "{peer}");
        assert!(!host.contains(",UP") && !peer.contains(",UP"), "{host}{peer}");
        let bare = Object::Link(Link { port: None, ..link() });
        assert_same(&observe(&mut linux), &[(end(), bare)].into_iter().collect());

        let want: KernelState = all().into_iter().collect();
        for _ in 0..2 {
            apply(&mut linux, &puts(&all()));
            assert_same(&observe(&mut linux), &want);
        }
        take(&container);
        assert_same(&observe(&mut linux), &want);
        container.cmd("ping", "-c1 -W2 10.3.0.1");
        let cheap = linux.observe(&Scope::Cheap).unwrap();
        assert_eq!(cheap.get(&end()), want.get(&end()));
        // Nothing changes when the container is one that we know for other reasons.
        linux.register_netns(&container.path).unwrap();
        assert_same(&observe(&mut linux), &want);
        let mut fresh = Linux::open().unwrap();
        let known = observe(&mut fresh);
        assert_eq!(known.get(&end()), want.get(&end()), "a daemon that starts anew");
    });
}

#[test]
fn the_other_end_is_nobodys_to_touch() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        lend(&mut linux).unwrap();
        let before = run("ip", &format!("-d -o link show {PEER}"));
        let peer = || Key::Link(Netns::Host, PEER.into());
        let kind = LinkKind::VethPeer;
        let object = Link { kind, mac: mac(9), mtu: 1300, alias: String::new(), port: None };
        let fault = refused(&mut linux, Step::Put(peer(), Object::Link(object)));
        assert_eq!(fault.kind, FaultKind::Taken, "{fault}");
        let up = Key::Up(Netns::Host, PEER.into());
        assert_eq!(refused(&mut linux, Step::Put(up.clone(), Object::Up)).kind, FaultKind::Taken);
        apply(&mut linux, &[Step::Delete(up), Step::Delete(peer())]);
        assert_eq!(run("ip", &format!("-d -o link show {PEER}")), before);

        let container = Container::new();
        take(&container);
        let id = linux.register_netns(&container.path).unwrap();
        let inside = Key::Link(Netns::Container(id), "eth7".into());
        apply(&mut linux, &[Step::Delete(inside)]);
        assert!(container.cmd("ip", "-o link").contains("eth7"));
    });
}

#[test]
fn a_pair_that_died_with_its_container_is_not_made_anew() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let container = Container::new();
        lend(&mut linux).unwrap();
        apply(&mut linux, &puts(&all()));
        take(&container);
        let (say, hear) = channel();
        let _watcher = linux.watch(move |event| say.send(event).unwrap()).unwrap();
        std::thread::sleep(Duration::from_millis(400));
        container.kill();
        wait_until("the pair outlives the container", || !is_there(END));
        let mut told = BTreeSet::new();
        while let Ok(event) = hear.recv_timeout(Duration::from_millis(400)) {
            told.insert(event);
        }
        let rows = Event::Dirty(Scope::Rows(END.into()));
        assert!(told.contains(&Event::Dirty(Scope::Cheap)) && told.contains(&rows), "{told:?}");
        assert_eq!(observe(&mut linux).get(&end()), None);

        let before = run("ip", "-o link");
        let fault = refused(&mut linux, Step::Put(end(), Object::Link(link())));
        assert_eq!(
            fault,
            Fault {
                call: format!("ip link set {END} mtu 1450 alias 'weft lent web-1'"),
                errno: 19,
                message: "the container's end is gone".into(),
                kind: FaultKind::Again,
                hint: "restart the container".into(),
            }
        );
        assert_eq!(run("ip", "-o link"), before, "nothing was made");
        apply(&mut linux, &[Step::Delete(end())]);
    });
}

#[test]
fn what_nobody_has_taken_yet_is_kept_and_adjusted() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        lend(&mut linux).unwrap();
        apply(&mut linux, &puts(&all()));
        let want: KernelState = all().into_iter().collect();
        let index = ground::index(END);
        let kept = |linux: &mut Linux, what: &str| {
            lend(linux).unwrap();
            assert_eq!(ground::index(END), index, "{what}");
            assert_same(&observe(linux), &want);
            let peer = run("ip", &format!("-d -o link show {PEER}"));
            assert!(peer.contains("mtu 1450") && peer.contains("02:57:00:00:00:02"), "{what}");
        };
        kept(&mut linux, "as it was, on its bridge and up");
        run("ip", &format!("link set {END} mtu 1300 address 02:00:00:00:00:66"));
        run("ip", &format!("link set {PEER} mtu 1300 address 02:00:00:00:00:67"));
        kept(&mut linux, "MTU and MAC of both");
        run("ip", &format!("link set {END} addrgenmode eui64"));
        kept(&mut linux, "link-local address");
        set_alias("weft endpoint x");
        kept(&mut linux, "the alias of another kind");
        set_alias("");
        kept(&mut linux, "no alias: it may have died before it had one");
    });
}

/// A pair as a daemon leaves it that dies before it has marked it.
fn leftover(peer: &str) {
    run("ip", &format!("link add {END} address 02:57:00:00:00:70 type veth peer name {peer}"));
}

#[test]
fn a_leftover_without_a_mark_is_taken_up_by_lending_and_by_a_step() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        leftover(PEER);
        let index = ground::index(END);
        assert!(observe(&mut linux).is_empty(), "nobody knows of it");
        lend(&mut linux).unwrap();
        assert_eq!(ground::index(END), index);
        let bare = Object::Link(Link { port: None, ..link() });
        assert_eq!(observe(&mut linux).get(&end()), Some(&bare));
        run("ip", &format!("link del {END}"));

        leftover(PEER);
        apply(&mut linux, &puts(&network(VNI, 3)));
        apply(&mut linux, &[Step::Put(end(), Object::Link(link()))]);
        assert_eq!(observe(&mut linux).get(&end()), Some(&Object::Link(link())));
    });
}

#[test]
fn what_leads_elsewhere_is_made_anew() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let bare: KernelState =
            [(end(), Object::Link(Link { port: None, ..link() }))].into_iter().collect();
        let anew = |linux: &mut Linux, what: &str| {
            let index = ground::index(END);
            lend(linux).unwrap();
            assert_ne!(ground::index(END), index, "{what}");
            assert!(is_there(PEER), "{what}");
            assert_same(&observe(linux), &bare);
            assert_eq!(run("ip", "-o link").lines().count(), 3, "{what}: nothing is left over");
        };
        lend(&mut linux).unwrap();
        run("ip", &format!("link set {PEER} name other"));
        anew(&mut linux, "another name");
        let container = Container::new();
        take(&container);
        anew(&mut linux, "in a container");
        assert!(!container.cmd("ip", "-o link").contains("eth7"));
        run("ip", &format!("link del {END}"));
        leftover("other");
        anew(&mut linux, "a leftover with another name");
        run("ip", &format!("link del {END}"));
        run("ip", &format!("link add {END} type bridge"));
        set_alias("weft network web");
        anew(&mut linux, "a bridge of ours");
    });
}

#[test]
fn links_of_others_are_in_the_way_and_stay() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        run("ip", &format!("link add {END} type veth peer name {PEER}"));
        let before = run("ip", "-d link");
        let fault = lend(&mut linux).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Taken);
        assert_eq!(fault.call, format!("ip link add {END} type veth peer name {PEER}"));
        assert_eq!(fault.hint, format!("rename or delete it: `ip link del {END}`"));
        assert_eq!(run("ip", "-d link"), before);
        run("ip", &format!("link set {END} name other"));
        let before = run("ip", "-d link");
        let fault = lend(&mut linux).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Taken);
        assert_eq!(fault.message, format!("there is a link {PEER} already"));
        assert_eq!(fault.hint, format!("rename or delete it: `ip link del {PEER}`"));
        assert_eq!(run("ip", "-d link"), before);
    });
}

#[test]
fn a_pair_that_cannot_be_leaves_nothing() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let before = run("ip", "-d link");
        let mut wrong = |what: &str, name: &str, peer: &str, link: &Link, mac| {
            let fault = linux.lend(name, peer, link, mac).unwrap_err();
            assert_eq!(run("ip", "-d link"), before, "{what}");
            (fault.errno, fault.kind)
        };
        let again = |errno| (errno, FaultKind::Again);
        let bridge = Link { kind: LinkKind::Bridge, ..link() };
        assert_eq!(wrong("kind", END, PEER, &bridge, mac(2)), again(22));
        let endpoint = Link { alias: "weft endpoint web-1".into(), ..link() };
        assert_eq!(wrong("alias", END, PEER, &endpoint, mac(2)), again(22));
        let huge = Link { mtu: 70_000, ..link() };
        assert_eq!(wrong("MTU", END, PEER, &huge, mac(2)), again(22));
        assert_eq!(wrong("MAC", END, PEER, &link(), [1; 6]), again(99));
        assert_eq!(wrong("one name for both", END, END, &link(), mac(2)), again(17));
        let long = "a-name-of-16-len";
        assert_eq!(wrong("long name", long, PEER, &link(), mac(2)), again(34));
        assert_eq!(wrong("long name of the peer", END, long, &link(), mac(2)), again(34));
        // Longer than `IFALIASZ`: it is made, cannot be marked, and is deleted again.
        let long = Link { alias: format!("weft lent {}", "x".repeat(300)), ..link() };
        assert_eq!(wrong("long alias", END, PEER, &long, mac(2)), again(34));
    });
}

#[test]
fn an_alias_that_somebody_changed_is_set_back_or_told() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let container = Container::new();
        lend(&mut linux).unwrap();
        apply(&mut linux, &puts(&all()));
        take(&container);
        let index = ground::index(END);
        let want: KernelState = all().into_iter().collect();
        let put = || Step::Put(end(), Object::Link(link()));
        for alias in ["weft lent web-2", "", "weft endpoint web-1"] {
            set_alias(alias);
            assert_ne!(observe(&mut linux).get(&end()), want.get(&end()), "'{alias}' is seen");
            apply(&mut linux, &[put()]);
            assert_same(&observe(&mut linux), &want);
        }
        // That one may be somebody's who wants it so.
        set_alias("uplink");
        assert_eq!(observe(&mut linux).get(&end()), None);
        let fault = refused(&mut linux, put());
        assert_eq!(fault.kind, FaultKind::Taken);
        assert_eq!(fault.message, format!("the alias of {END} is not Weft's any more"));
        assert_eq!(
            fault.hint,
            format!(
                "if nobody else needs it, set it back: `ip link set {END} alias 'weft lent web-1'`"
            )
        );
        apply(&mut linux, &[Step::Delete(end())]);
        assert_eq!(lend(&mut linux).unwrap_err().kind, FaultKind::Taken);
        assert_eq!(ground::index(END), index, "the container keeps it all the while");
        set_alias("weft lent web-1");
        assert_same(&observe(&mut linux), &want);
    });
}

#[test]
fn links_are_found_by_their_names() {
    in_netns(|| {
        let mut linux = Linux::open().unwrap();
        let set = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        assert_eq!(links_named(&set(&[END, "lo"])).unwrap(), set(&["lo"]));
        lend(&mut linux).unwrap();
        assert_eq!(links_named(&set(&[END, "we-x"])).unwrap(), set(&[END]));
        assert_eq!(links_named(&BTreeSet::new()).unwrap(), BTreeSet::new());
    });
}

#[test]
fn a_lent_end_has_the_shortcut_as_others_do() {
    ground::in_bpffs(|bpffs| {
        ground::uplink();
        let mut linux = Linux::open().unwrap();
        let container = Container::new();
        lend(&mut linux).unwrap();
        apply(&mut linux, &puts(&all()));
        take(&container);
        let dir = bpffs.join("weft").join("7");
        let table = dir.join("v1").join("endpoints").display().to_string();
        let entries = || run("bpftool", &format!("-j map dump pinned {table}"));
        linux.start_shortcut(&ShortcutConfig { dir, hook: Hook::Auto }).unwrap();
        let objects = ground::objects();
        let want: KernelState = objects.iter().cloned().collect();
        apply(&mut linux, &puts(&objects));
        assert_same(&linux.observe(&Scope::Shortcut).unwrap(), &want);
        assert!(linux.traffic().unwrap().endpoints.contains_key(END));

        // What is made anew has none of it, and nothing leads to what was there before.
        assert_ne!(entries().trim(), "[]");
        lend(&mut linux).unwrap();
        assert_eq!(entries().trim(), "[]");
        let have = linux.observe(&Scope::Shortcut).unwrap();
        let at_end = |key: &Key| key.sits_on() == Some((Netns::Host, END));
        assert!(!have.iter().any(|(key, _)| at_end(key)), "{have:?}");
        let program = Key::Shortcut(ShortcutKey::Program(END.into(), Attach::FromContainer));
        apply(&mut linux, &puts(&all()));
        apply(&mut linux, &puts(&objects));
        let have = linux.observe(&Scope::Shortcut).unwrap();
        assert_same(&have, &want);
        assert_eq!(have.get(&program), Some(&Object::Shortcut(ShortcutObject::Program)));
        apply(&mut linux, &[Step::Delete(end())]);
        let have = linux.observe(&Scope::Shortcut).unwrap();
        assert!(!have.iter().any(|(key, _)| at_end(key)), "{have:?}");
        assert!(!is_there(PEER));
    });
}
