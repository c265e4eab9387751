//! A host with the shortcut, in a network and a mount namespace of its own, which end with the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use weft_kernel::{
    Attach, KernelState, Key, LocalEndpoint, NetnsId, Object, Scope, ShortcutKey, ShortcutObject,
    Step, UnderlayPath,
};
use weft_linux::{Hook, Linux, ShortcutConfig, ShortcutOn};

use crate::common::{
    Container, Objects, apply, assert_same, endpoint, in_netns, mac, network, puts, run,
};

pub const VNI: u32 = 0x57_0001;
/// The host's end of the endpoint's veth.
pub const END: &str = "we-000000570001";
pub const HOOKS: [Hook; 2] = [Hook::Auto, Hook::Clsact];

/// Runs `test` with a BPF file system of its own: in a mount namespace that ends with it, however
/// it ends, over a directory that is there anyway.
pub fn in_bpffs(test: impl FnOnce(&Path) + Send + 'static) {
    in_netns(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root (CAP_SYS_ADMIN)");
        let (none, at) = (None::<&str>, Path::new("/mnt"));
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), none).unwrap();
        test(at);
    });
}

/// A host on the underlay by `up0`, with a network and one endpoint on it.
pub struct Ground {
    pub linux: Linux,
    pub container: Container,
    pub dir: PathBuf,
    pub hook: Hook,
    pub on: ShortcutOn,
    /// Links and what is on them.
    pub base: Objects,
    /// Objects of the shortcut.
    pub shortcut: Objects,
}

impl Ground {
    /// Everything that there is, applied.
    pub fn new(bpffs: &Path, hook: Hook) -> Self {
        let mut ground = Self::bare(bpffs, hook);
        apply(&mut ground.linux, &puts(&ground.shortcut));
        ground.check();
        ground
    }

    /// The links only; the shortcut is started.
    pub fn bare(bpffs: &Path, hook: Hook) -> Self {
        uplink();
        let mut linux = Linux::open().unwrap();
        let container = Container::new();
        let id = linux.register_netns(&container.path).unwrap();
        let base = base(id);
        apply(&mut linux, &puts(&base));
        let dir = bpffs.join("weft").join("7");
        let on = linux.start_shortcut(&ShortcutConfig { dir: dir.clone(), hook }).unwrap();
        Self { linux, container, dir, hook, on, base, shortcut: objects() }
    }

    /// A daemon that starts anew: nothing but what the kernel holds is known.
    pub fn restart(&mut self, hook: Hook) {
        self.linux = Linux::open().unwrap();
        self.linux.register_netns(&self.container.path).unwrap();
        self.hook = hook;
        self.on =
            self.linux.start_shortcut(&ShortcutConfig { dir: self.dir.clone(), hook }).unwrap();
    }

    pub fn see(&mut self) -> KernelState {
        self.linux.observe(&Scope::Shortcut).unwrap()
    }

    /// All is as wanted.
    pub fn check(&mut self) {
        let want: KernelState = self.shortcut.iter().cloned().collect();
        let have = self.see();
        assert_same(&have, &want);
    }

    /// What is not as wanted: keys, `extra` before those that should not be there.
    pub fn wrong(&mut self) -> Vec<String> {
        let want: KernelState = self.shortcut.iter().cloned().collect();
        let have = self.see();
        let mut wrong: Vec<String> = Vec::new();
        for (key, object) in want.iter().filter(|(key, object)| have.get(key) != Some(*object)) {
            let how = if have.get(key).is_some() { "differs" } else { "missing" };
            let _ = object;
            wrong.push(format!("{how}: {key}"));
        }
        let extra = have.iter().filter(|(key, _)| want.get(key).is_none());
        wrong.extend(extra.map(|(key, _)| format!("extra: {key}")));
        wrong.sort();
        wrong
    }

    /// What a reconciler would do about it.
    pub fn mend(&mut self) {
        let want: KernelState = self.shortcut.iter().cloned().collect();
        let have = self.see();
        let extra = have.iter().filter(|(key, _)| want.get(key).is_none());
        let mut steps: Vec<Step> = extra.map(|(key, _)| Step::Delete(key.clone())).collect();
        let bad: Objects = want
            .iter()
            .filter(|(key, object)| have.get(key) != Some(*object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        steps.extend(puts(&bad));
        apply(&mut self.linux, &steps);
        self.check();
    }

    /// The damage must be seen at just these keys, and be mended.
    pub fn expect(&mut self, what: &str, at: &[&str]) {
        let mut at: Vec<&str> = at.to_vec();
        at.sort_unstable();
        assert_eq!(self.wrong(), at, "{what}");
        self.mend();
    }

    pub fn index(&self, link: &str) -> u32 {
        index(link)
    }

    /// The path of a table.
    pub fn table(&self, name: &str) -> String {
        self.dir.join("v1").join(name).display().to_string()
    }
}

pub fn uplink() {
    run("ip", "link add up0 type veth peer name up1");
    run("ip", "addr add 172.30.0.15/24 dev up0");
    run("ip", "link set up0 up");
    run("ip", "link set up1 up");
}

pub fn base(id: NetnsId) -> Objects {
    let mut base = network(VNI, 3);
    base.extend(endpoint(VNI, 3, id).into_iter().filter(|(key, _)| {
        // Filters are others' business here.
        !matches!(key, Key::DeviceChain(..))
    }));
    base
}

pub fn index(link: &str) -> u32 {
    let text = run("cat", &format!("/proc/self/net/dev_snmp6/{link}"));
    text.lines().find_map(|l| l.strip_prefix("ifIndex")).unwrap().trim().parse().unwrap()
}

pub fn object(key: ShortcutKey, object: ShortcutObject) -> (Key, Object) {
    (Key::Shortcut(key), Object::Shortcut(object))
}

pub fn path(link: &str, next_hop: Option<&str>, mtu: u32) -> ShortcutObject {
    let next_hop = next_hop.map(|hop| hop.parse().unwrap());
    ShortcutObject::Vtep(UnderlayPath { link: link.into(), next_hop, mtu })
}

pub fn local(more: bool) -> LocalEndpoint {
    LocalEndpoint {
        vni: VNI,
        mac: mac(2),
        v4: Some("10.3.0.2".parse().unwrap()),
        v6: Some("fd00:3::2".parse().unwrap()),
        more,
    }
}

/// Every kind of object of the shortcut.
pub fn objects() -> Objects {
    let end = || END.to_owned();
    let ip = |text: &str| text.parse().unwrap();
    let node = ShortcutObject::Node { data_address: ip("172.30.0.15"), port: 4789 };
    vec![
        object(ShortcutKey::Node, node),
        object(ShortcutKey::Vtep(ip("172.30.0.16")), path("up0", None, 1500)),
        object(ShortcutKey::Vtep(ip("172.31.0.17")), path("up0", Some("172.30.0.1"), 1400)),
        object(ShortcutKey::Vtep(ip("172.31.0.18")), path("up0", Some("fe80::1"), 9000)),
        object(ShortcutKey::Member(VNI, ip("172.30.0.16")), ShortcutObject::Member(mac(3))),
        object(ShortcutKey::Member(VNI, ip("fd77::16")), ShortcutObject::Member(mac(3))),
        object(ShortcutKey::Neighbour(VNI, ip("10.3.0.9")), ShortcutObject::Neighbour(mac(9))),
        object(ShortcutKey::Neighbour(VNI, ip("fd00:3::9")), ShortcutObject::Neighbour(mac(9))),
        object(ShortcutKey::Fdb(VNI, mac(9)), ShortcutObject::Fdb(ip("172.30.0.16"))),
        object(ShortcutKey::Fdb(VNI + 1, mac(2)), ShortcutObject::Fdb(ip("fd77::16"))),
        object(
            ShortcutKey::Granted(end(), "192.168.0.0/16".parse().unwrap()),
            ShortcutObject::Granted,
        ),
        object(ShortcutKey::Granted(end(), "fd99::/48".parse().unwrap()), ShortcutObject::Granted),
        object(ShortcutKey::Endpoint(end()), ShortcutObject::Endpoint(local(true))),
        object(ShortcutKey::Program(end(), Attach::FromContainer), ShortcutObject::Program),
        object(ShortcutKey::Program("up0".into(), Attach::FromUnderlay), ShortcutObject::Program),
    ]
}

/// Octets as `bpftool` takes them.
pub fn hex(octets: &[u8]) -> String {
    let words: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("hex {}", words.join(" "))
}
