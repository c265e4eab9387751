//! Programs and tables outlive the daemon, are taken over by the next one, and are taken away only
//! as far as they are ours.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::wildcard_imports
)]

mod common;
mod ground;

use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{SchedClassifier, TcAttachType};
use common::*;
use ground::*;
use weft_kernel::{KernelState, Key, ShortcutKey};
use weft_linux::{Hook, Linux, ShortcutConfig, ShortcutOn, remove_shortcut};

/// A program of ours at a device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attached {
    name: String,
    /// Stays while the program is replaced: a link's number, or a filter's handle.
    place: String,
    program: u32,
}

/// What of ours runs at the ingress of the endpoint and of `up0`, by this hook.
fn attached(g: &Ground, on: ShortcutOn) -> Vec<Attached> {
    [END, "up0"].iter().flat_map(|device| at_device(g, on, device)).collect()
}

fn at_device(g: &Ground, on: ShortcutOn, device: &str) -> Vec<Attached> {
    if on == ShortcutOn::Tcx {
        let (_, programs) =
            SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap_or_default();
        let of = |name: &str, program| {
            let pin = g.dir.join("links").join(format!("{}-{name}", g.index(device)));
            let link = PinnedLink::from_pin(pin).map(|link| FdLink::from(link).info().unwrap());
            Attached {
                name: name.to_owned(),
                place: link.map_or_else(|_| "gone".to_owned(), |link| link.id().to_string()),
                program,
            }
        };
        let programs = programs.iter().map(|p| of(p.name_as_str().unwrap(), p.id()));
        return programs.filter(|p| p.name.starts_with("from_")).collect();
    }
    let filters = run("tc", &format!("filter show dev {device} ingress"));
    let ours = filters.lines().filter(|line| line.contains("from_"));
    ours.map(|line| Attached {
        name: number_after(line, "handle ").to_owned(),
        place: number_after(line, "pref ").to_owned(),
        program: number_after(line, " id ").parse().unwrap(),
    })
    .collect()
}

fn number_after<'a>(line: &'a str, word: &str) -> &'a str {
    let at = line.find(word).map(|at| at + word.len()).unwrap_or_else(|| panic!("{word}: {line}"));
    line[at..].trim_start().split(' ').next().unwrap()
}

#[test]
fn a_restart_finds_everything_as_it_was_and_has_nothing_to_do() {
    for hook in HOOKS {
        in_bpffs(move |bpffs| {
            let mut g = Ground::new(bpffs, hook);
            let before = attached(&g, g.on);
            assert_eq!(before.len(), 2, "{before:?}");
            let key = 0_u32.to_ne_bytes();
            let cpus = aya::util::nr_cpus().unwrap();
            // `bpftool` writes it for each CPU.
            let counted = [7_u64, 700, 8, 800].map(u64::to_ne_bytes).concat();
            let put = format!("{} key {} value {}", g.table("counters"), hex(&key), hex(&counted));
            run("bpftool", &format!("map update pinned {put}"));
            for _ in 0..2 {
                g.restart(hook);
                g.check();
                let again = puts(&g.shortcut);
                apply(&mut g.linux, &again);
                g.check();
                assert_eq!(attached(&g, g.on), before, "nothing was put anew");
                let traffic = g.linux.traffic().unwrap();
                let cpus = u64::try_from(cpus).unwrap();
                assert_eq!(traffic.endpoints[END].sent_shortcut.packets, 7 * cpus);
            }
            // A place that is given anew counts from nothing.
            let end = Key::Shortcut(ShortcutKey::Endpoint(END.into()));
            apply(&mut g.linux, &[weft_kernel::Step::Delete(end)]);
            g.mend();
            let traffic = g.linux.traffic().unwrap();
            assert_eq!(traffic.endpoints[END].sent_shortcut.packets, 0);
        });
    }
}

#[test]
fn another_program_in_our_link_is_replaced_in_place() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        let pin = g.dir.join("links").join(format!("{}-from_container", g.index(END)));
        let before = attached(&g, g.on);
        // As a daemon of another version would have left it: some other instruction or constant.
        for (object, constant) in [(other_instructions(), 0), (weft_ebpf::OBJECT.to_vec(), 1_u32)] {
            let mut other = load(&object, constant, &g.dir.join("v1"));
            let program: &mut SchedClassifier =
                other.program_mut("from_container").unwrap().try_into().unwrap();
            program.load().unwrap();
            let link = FdLink::from(PinnedLink::from_pin(&pin).unwrap());
            let link = SchedClassifierLink::try_from(link).unwrap();
            let ours = program.attach_to_link(link).unwrap();
            drop(program.take_link(ours).unwrap());
            g.restart(Hook::Auto);
            g.expect(
                "another program",
                &["differs: shortcut program from_container dev we-000000570001"],
            );
        }
        let after = attached(&g, g.on);
        assert_eq!((&before[0].name, &before[0].place), (&after[0].name, &after[0].place));
        assert_eq!(before[1], after[1]);
    });
}

/// The programs as they might have been: they let frames pass in other words (`TC_ACT_OK` for
/// `TC_ACT_UNSPEC`).
fn other_instructions() -> Vec<u8> {
    let unspecified = [0xb4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let mut object = weft_ebpf::OBJECT.to_vec();
    let places: Vec<usize> =
        (0..object.len() - 8).step_by(8).filter(|at| object[*at..*at + 8] == unspecified).collect();
    assert!(!places.is_empty(), "no such instruction");
    places.iter().for_each(|at| object[at + 4..at + 8].fill(0));
    object
}

fn load(object: &[u8], constant: u32, tables: &Path) -> Ebpf {
    aya::EbpfLoader::new()
        .btf(None)
        .override_global("room_lost", &constant, true)
        .default_map_pin_directory(tables)
        .load(object)
        .unwrap()
}

#[test]
fn tables_of_another_version_serve_until_the_programs_are_replaced() {
    for hook in HOOKS {
        in_bpffs(move |bpffs| {
            let mut g = Ground::new(bpffs, hook);
            let before = attached(&g, g.on);
            // The programs at the devices look into these tables, not into those at another path.
            std::fs::rename(g.dir.join("v1"), g.dir.join("v0")).unwrap();
            g.restart(hook);
            let programs = [
                "differs: shortcut program from_container dev we-000000570001",
                "differs: shortcut program from_underlay dev up0",
            ];
            let wrong = g.wrong();
            assert!(programs.iter().all(|line| wrong.iter().any(|w| w == line)), "{wrong:?}");
            assert_eq!(wrong.iter().filter(|w| w.starts_with("missing")).count(), 13, "{wrong:?}");
            assert!(g.dir.join("v0").exists(), "still in use");
            assert_eq!(attached(&g, g.on), before);
            g.mend();
            assert!(!g.dir.join("v0").exists(), "nothing looks into them");
            let after = attached(&g, g.on);
            assert_eq!(after.len(), 2, "{after:?}");
            for (before, after) in before.iter().zip(&after) {
                assert_eq!((&before.name, &before.place), (&after.name, &after.place));
                assert_ne!(before.program, after.program);
            }
        });
    }
}

#[test]
fn the_hook_can_be_changed_there_and_back() {
    in_bpffs(|bpffs| {
        let mut g = Ground::new(bpffs, Hook::Auto);
        for (hook, on, was) in [
            (Hook::Clsact, ShortcutOn::Clsact, ShortcutOn::Tcx),
            (Hook::Auto, ShortcutOn::Tcx, ShortcutOn::Clsact),
        ] {
            g.restart(hook);
            assert_eq!(g.on, on);
            g.expect(
                "another hook",
                &[
                    "differs: shortcut program from_container dev we-000000570001",
                    "differs: shortcut program from_underlay dev up0",
                ],
            );
            assert_eq!(attached(&g, on).len(), 2);
            wait_for(|| attached(&g, was).is_empty());
        }
        assert!(!run("tc", "qdisc show dev up0").contains("clsact"));
        // Programs that nobody wants any more go as well, whoever put them there.
        for (hook, was) in [(Hook::Clsact, ShortcutOn::Tcx), (Hook::Auto, ShortcutOn::Clsact)] {
            g.restart(hook);
            apply(&mut g.linux, &deletes(&g.shortcut));
            wait_for(|| attached(&g, was).is_empty());
            assert_same(&g.see(), &KernelState::new());
            g.mend();
        }
    });
}

/// What the kernel does a moment later.
fn wait_for(done: impl Fn() -> bool) {
    let done = (0..100).any(|_| {
        let is = done();
        std::thread::sleep(std::time::Duration::from_millis(if is { 0 } else { 20 }));
        is
    });
    assert!(done, "it did not happen");
}

#[test]
fn removal_takes_what_is_ours_and_nothing_else() {
    for hook in HOOKS {
        in_bpffs(move |bpffs| {
            // Of others: programs by both hooks, before ours, a qdisc, and pins beside ours.
            uplink_of_others(bpffs);
            run("ip", "link add up0 type veth peer name up1");
            run("tc", "qdisc add dev up0 clsact");
            run("ip", "link del up0");
            let mut g = Ground::new(bpffs, hook);
            std::fs::create_dir(bpffs.join("weft/8")).unwrap();
            let others = attached_of_others();
            remove_shortcut(&g.dir).unwrap();
            wait_for(|| attached(&g, g.on).is_empty());
            assert!(!g.dir.exists());
            assert!(bpffs.join("weft/8").exists());
            assert_eq!(attached_of_others(), others);
            assert!(!run("tc", "qdisc show dev up0").contains("clsact"));
            remove_shortcut(&g.dir).unwrap();
            // A daemon that starts again begins from nothing.
            g.restart(hook);
            assert_same(&g.see(), &KernelState::new());
            g.mend();
            // Something in our directory that we did not put there stays, and the directory with it.
            std::fs::create_dir(g.dir.join("mine")).unwrap();
            remove_shortcut(&g.dir).unwrap();
            assert!(g.dir.join("mine").exists());
        });
    }
}

/// A bridge with a program of somebody else's by tcx, one by clsact.
fn uplink_of_others(bpffs: &Path) {
    run("ip", "link add other0 type bridge");
    run("tc", "qdisc add dev other0 clsact");
    let tables = bpffs.join("others");
    std::fs::create_dir(&tables).unwrap();
    let mut ebpf = load(weft_ebpf::OBJECT, 0, &tables);
    let program: &mut SchedClassifier =
        ebpf.program_mut("from_underlay").unwrap().try_into().unwrap();
    program.load().unwrap();
    let id = program.attach("other0", TcAttachType::Ingress).unwrap();
    let link = FdLink::try_from(program.take_link(id).unwrap()).unwrap();
    drop(link.pin(bpffs.join("others-link")).unwrap());
    run(
        "tc",
        "filter add dev other0 ingress pref 7 protocol ip u32 match ip dst 10.0.0.1/32 flowid 1:1",
    );
}

fn attached_of_others() -> String {
    let (_, programs) = SchedClassifier::query_tcx("other0", TcAttachType::Ingress).unwrap();
    assert_eq!(programs.len(), 1);
    format!("{} {}", run("tc", "filter show dev other0 ingress"), programs[0].id())
}

#[test]
fn a_qdisc_that_was_there_before_stays() {
    in_bpffs(|bpffs| {
        let mut g = Ground::bare(bpffs, Hook::Clsact);
        run("tc", "qdisc add dev up0 clsact");
        run(
            "tc",
            "filter add dev up0 ingress pref 7 protocol ip u32 match ip dst 10.0.0.1/32 flowid 1:1",
        );
        let before = run("tc", "filter show dev up0 ingress");
        apply(&mut g.linux, &puts(&g.shortcut));
        g.check();
        assert!(attached(&g, g.on).len() == 2);
        apply(&mut g.linux, &deletes(&g.shortcut));
        assert_eq!(run("tc", "filter show dev up0 ingress"), before);
        run("tc", "filter del dev up0 ingress pref 7");
        apply(&mut g.linux, &puts(&g.shortcut));
        apply(&mut g.linux, &deletes(&g.shortcut));
        assert!(run("tc", "qdisc show dev up0").contains("clsact"), "empty, and not ours");
        // One of ours stays as well while somebody has a filter in it.
        apply(&mut g.linux, &puts(&g.shortcut));
        run(
            "tc",
            &format!(
                "filter add dev {END} egress pref 7 protocol ip u32 match ip dst 10.0.0.1/32 flowid 1:1"
            ),
        );
        apply(&mut g.linux, &deletes(&g.shortcut));
        assert!(run("tc", &format!("filter show dev {END} egress")).contains("u32"));
        assert_same(&g.see(), &KernelState::new());
    });
}

#[test]
fn where_it_cannot_be_pinned_is_told() {
    in_bpffs(|bpffs| {
        uplink();
        let mut linux = Linux::open().unwrap();
        let plain = temporary("plain");
        let config = ShortcutConfig { dir: plain.join("7"), hook: Hook::Auto };
        let fault = linux.start_shortcut(&config).unwrap_err();
        assert_eq!(fault.message, format!("{} is not on a BPF file system", config.dir.display()));
        assert_eq!(
            fault.hint,
            "name a directory below /sys/fs/bpf, or mount one there: `mount -t bpf bpf DIRECTORY`"
        );
        assert!(!plain.exists(), "nothing was made");
        remove_shortcut(&config.dir).unwrap();

        // Something else under the name of a table, and something that is no table.
        let tables = bpffs.join("weft/7/v1");
        std::fs::create_dir_all(&tables).unwrap();
        let table = tables.join("fdb");
        run(
            "bpftool",
            &format!("map create {} type hash key 8 value 24 entries 7 name x", table.display()),
        );
        let config = ShortcutConfig { dir: bpffs.join("weft/7"), hook: Hook::Auto };
        let fault = linux.start_shortcut(&config).unwrap_err();
        assert_eq!(
            fault.message,
            format!(
                "the table {} is not Weft's: map type 1, 8 octets of key and 24 of value instead of type 1, 12 and 24",
                table.display()
            )
        );
        assert_eq!(
            fault.hint,
            format!(
                "something else made it: remove what is pinned there, `rm -r {}`, and restart the daemon",
                tables.display()
            )
        );
        assert!(!tables.join("node").exists(), "nothing was pinned beside it");
        std::fs::remove_dir_all(&tables).unwrap();
        linux.start_shortcut(&config).unwrap();
    });
}

#[test]
fn without_rights_the_refusal_says_which_are_needed() {
    in_bpffs(|bpffs| {
        let mut linux = Linux::open().unwrap();
        let config = ShortcutConfig { dir: bpffs.join("weft/7"), hook: Hook::Auto };
        // Of this thread only; it gets them back to clean up.
        let all = capabilities(0, None);
        let fault = linux.start_shortcut(&config).unwrap_err();
        capabilities(all, Some(all));
        assert!(matches!(fault.errno, 1 | 13), "{fault:?}");
        assert!(fault.hint.starts_with("run the daemon as root, or give it CAP_"), "{fault:?}");
    });
}

/// Sets the calling thread's effective capabilities (capset(2)); gives those it may have.
fn capabilities(effective: u64, permitted: Option<u64>) -> u64 {
    #[repr(C)]
    struct Header {
        version: u32,
        thread: i32,
    }
    let mut header = Header { version: 0x2008_0522, thread: 0 };
    // Effective, permitted and inheritable; the lower halves, then the upper ones.
    let mut sets = [0_u32; 6];
    // SAFETY: header and sets are as long as this version of the call says.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    assert_eq!(got, 0);
    let may = permitted.unwrap_or(u64::from(sets[1]) | u64::from(sets[4]) << 32);
    let half = |all: u64, upper: bool| {
        u32::try_from(all >> if upper { 32 } else { 0 } & 0xffff_ffff).unwrap()
    };
    sets[0] = half(effective, false);
    sets[3] = half(effective, true);
    // SAFETY: as above.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) };
    assert_eq!(set, 0);
    may
}

/// The shared file system is init's: here, of a world with an init of its own.
#[test]
fn the_shared_file_system_is_mounted_once_where_init_sees_it() {
    const INSIDE: &str = "WEFT_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_none() {
        let test = std::env::current_exe().unwrap();
        let name = "the_shared_file_system_is_mounted_once_where_init_sees_it";
        let line = format!(
            "--mount --net --pid --fork --mount-proc --propagation private env {INSIDE}=1 {} --exact {name} --nocapture",
            test.display()
        );
        run("unshare", &line);
        return;
    }
    run("ip", "link set lo up");
    // This process is init; what follows happens as `ip netns exec` would have it.
    let mounts = || std::fs::read_to_string("/proc/1/mounts").unwrap();
    let count = |text: &str| text.lines().filter(|l| l.contains(" /sys/fs/bpf bpf ")).count();
    let _ = nix::mount::umount("/sys/fs/bpf");
    assert_eq!(count(&mounts()), 0, "{}", mounts());
    let dir = std::path::PathBuf::from("/sys/fs/bpf/weft/7");
    remove_shortcut(&dir).unwrap();
    assert_eq!(count(&mounts()), 0, "removal mounts nothing");
    let together = std::sync::Arc::new(std::sync::Barrier::new(4));
    let daemons: Vec<_> = (0..4)
        .map(|number| {
            let dir = dir.with_file_name(number.to_string());
            let together = std::sync::Arc::clone(&together);
            std::thread::spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                run("mount", "-t sysfs sysfs /sys");
                let config = ShortcutConfig { dir, hook: Hook::Auto };
                let mut linux = Linux::open().unwrap();
                together.wait();
                linux.start_shortcut(&config).unwrap();
            })
        })
        .collect();
    daemons.into_iter().for_each(|daemon| daemon.join().unwrap());
    assert_eq!(count(&mounts()), 1, "{}", mounts());
    for number in 0..4 {
        assert!(dir.with_file_name(number.to_string()).join("v1/fdb").exists());
    }
    // One that shares init's world goes by the plain path.
    Linux::open().unwrap().start_shortcut(&ShortcutConfig { dir, hook: Hook::Auto }).unwrap();
    assert_eq!(count(&mounts()), 1, "{}", mounts());
    remove_shortcut(Path::new("/sys/fs/bpf/weft/7")).unwrap();
    assert!(!Path::new("/sys/fs/bpf/weft/7").exists());
}
