//! A network namespace for each test, which ends with it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use weft_kernel::key::{FdbTable, NftFamily};
use weft_kernel::nft::{
    Chain, ChainKind, Equal, Family, Field, Hook, HookPoint, Match, PacketType, Rule, Set,
    Statement, TrackState,
};
use weft_kernel::object::{Link, Port, Route};
use weft_kernel::{KernelState, Key, LinkKind, Netns, NetnsId, Object, Scope, Step, TableName};
use weft_linux::Linux;

/// Runs `test` on a thread in a namespace of its own.
pub fn in_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root (CAP_SYS_ADMIN)");
        run("ip", "link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Another namespace, held open by a thread in it.
pub struct Container {
    pub path: PathBuf,
    jobs: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Container {
    pub fn new() -> Self {
        let (jobs, inbox) = channel::<Box<dyn FnOnce() + Send>>();
        let (say, hear) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root (CAP_SYS_ADMIN)");
            let task = nix::unistd::gettid();
            say.send(format!("/proc/{}/task/{task}/ns/net", std::process::id())).unwrap();
            for job in inbox {
                job();
            }
        });
        let path = hear.recv().unwrap().into();
        Self { path, jobs: Some(jobs), thread: Some(thread) }
    }

    /// Runs something inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (say, hear) = channel();
        let job = Box::new(move || say.send(job()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        hear.recv().expect("the job inside failed")
    }

    /// Runs a command inside.
    pub fn cmd(&self, program: &'static str, args: &str) -> String {
        let args = args.to_owned();
        self.run(move || run(program, &args))
    }

    /// The namespace dies.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
    }
}

/// A path that no other test uses.
pub fn temporary(ending: &str) -> PathBuf {
    std::env::temp_dir().join(format!("wt-linux-{}.{ending}", nix::unistd::gettid()))
}

/// A command that must succeed; its output.
pub fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// An argument with spaces: one string for `nft`.
pub fn nft(command: &str) -> String {
    let (flags, command) = match command.strip_prefix("-a ") {
        Some(rest) => (vec!["-a"], rest),
        None => (vec![], command),
    };
    let output = Command::new("nft").args(flags).arg(command).output().unwrap();
    assert!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn mac(last: u8) -> [u8; 6] {
    [0x02, 0x57, 0, 0, 0, last]
}

pub fn inet() -> TableName {
    TableName { family: NftFamily::Inet, name: "weft".into() }
}

pub fn netdev() -> TableName {
    TableName { family: NftFamily::Netdev, name: "weft".into() }
}

pub fn rule(matches: Vec<Match>, statements: Vec<Statement>, comment: &str) -> Rule {
    Rule { matches, statements, comment: comment.into() }
}

pub fn drop_rule(matches: Vec<Match>, comment: &str) -> Rule {
    rule(matches, vec![Statement::Counter, Statement::Drop], comment)
}

pub fn filter(point: HookPoint, priority: i32, rules: Vec<Rule>) -> Object {
    let hook = Hook { kind: ChainKind::Filter, point, priority };
    Object::Chain(Chain { hook: Some(hook), rules })
}

/// Objects in the order of their keys.
pub type Objects = Vec<(Key, Object)>;

pub fn bridge_key(vni: u32) -> Key {
    Key::Link(Netns::Host, format!("wb-{vni:06x}"))
}

/// Bridge and VTEP of a network, with addresses, routes and the rows of a remote endpoint.
pub fn network(vni: u32, octet: u8) -> Objects {
    let (bridge, vtep) = (format!("wb-{vni:06x}"), format!("wv-{vni:06x}"));
    let host = Netns::Host;
    let gateway = mac(octet);
    let remote: std::net::IpAddr = "172.30.0.16".parse().unwrap();
    let link = |kind, mac, port| {
        Object::Link(Link { kind, mac, mtu: 1450, alias: "weft network web".into(), port })
    };
    let kind = LinkKind::Vxlan { vni, local: "172.30.0.15".parse().unwrap(), port: 4789 };
    let port = Port { bridge: bridge.clone(), neigh_suppress: true, locked: false };
    let v4 = |text: &str| format!("10.{octet}.{text}").parse().unwrap();
    let v6 = |text: &str| format!("fd00:{octet:x}::{text}").parse().unwrap();
    let source = |text: &str| Some(text.split('/').next().unwrap().parse().unwrap());
    let node_v4 = format!("10.{octet}.255.254/32");
    let node_v6 = format!("fd00:{octet:x}::ff/128");
    vec![
        (Key::Link(host, bridge.clone()), link(LinkKind::Bridge, gateway, None)),
        (Key::Link(host, vtep.clone()), link(kind, mac(octet + 1), Some(port))),
        (
            Key::Sysctl(host, format!("net/ipv4/conf/{bridge}/arp_announce")),
            Object::Sysctl("2".into()),
        ),
        (Key::Address(host, bridge.clone(), v4("0.1/16")), Object::Address),
        (Key::Address(host, bridge.clone(), node_v4.parse().unwrap()), Object::Address),
        (Key::Address(host, bridge.clone(), v6("1/64")), Object::Address),
        (Key::Address(host, bridge.clone(), node_v6.parse().unwrap()), Object::Address),
        (Key::Address(host, bridge.clone(), "fe80::1/64".parse().unwrap()), Object::Address),
        (Key::Up(host, bridge.clone()), Object::Up),
        (Key::Up(host, vtep.clone()), Object::Up),
        (
            Key::Route(host, v4("0.0/16"), bridge.clone()),
            Object::Route(Route { via: None, source: source(&node_v4) }),
        ),
        (
            Key::Route(host, v6("/64"), bridge.clone()),
            Object::Route(Route { via: None, source: source(&node_v6) }),
        ),
        (
            Key::Neighbour(bridge.clone(), format!("10.{octet}.0.9").parse().unwrap()),
            Object::Neighbour(mac(9)),
        ),
        (
            Key::Neighbour(bridge.clone(), format!("fd00:{octet:x}::9").parse().unwrap()),
            Object::Neighbour(mac(9)),
        ),
        (Key::Fdb(bridge, FdbTable::Bridge, mac(8)), Object::Fdb(None)),
        (Key::Fdb(vtep.clone(), FdbTable::Device, mac(9)), Object::Fdb(Some(remote))),
        (Key::Fdb(vtep.clone(), FdbTable::Bridge, mac(9)), Object::Fdb(None)),
        (Key::Flood(vtep.clone(), remote), Object::Flood),
        (Key::Flood(vtep, "172.30.0.17".parse().unwrap()), Object::Flood),
    ]
}

/// A container with one endpoint in the network of [`network`].
pub fn endpoint(vni: u32, octet: u8, id: NetnsId) -> Objects {
    let (bridge, end) = (format!("wb-{vni:06x}"), format!("we-0000{vni:08x}"));
    let (host, inside) = (Netns::Host, Netns::Container(id));
    let eth0 = || "eth0".to_owned();
    let port = Port { bridge: bridge.clone(), neigh_suppress: false, locked: true };
    let kind = LinkKind::Veth { peer_netns: inside, peer: eth0() };
    let alias = "weft endpoint web-1".to_owned();
    let own: ipnet::IpNet = format!("10.{octet}.0.2/16").parse().unwrap();
    let own6: ipnet::IpNet = format!("fd00:{octet:x}::2/64").parse().unwrap();
    let sysctl = |name: &str| Key::Sysctl(inside, format!("net/ipv6/conf/eth0/{name}"));
    let guard = vec![
        drop_rule(vec![Match::EtherSource(Equal::IsNot, mac(2))], "not its MAC"),
        drop_rule(vec![Match::Source(Equal::IsNot, own.addr().into())], "not its address"),
        drop_rule(vec![Match::ArpSenderIp(Equal::IsNot, own.addr())], "ARP: not its address"),
    ];
    vec![
        (
            Key::Link(host, end.clone()),
            Object::Link(Link { kind, mac: mac(0x70), mtu: 1450, alias, port: Some(port) }),
        ),
        (
            Key::Link(inside, eth0()),
            Object::Link(Link {
                kind: LinkKind::VethPeer,
                mac: mac(2),
                mtu: 1450,
                alias: String::new(),
                port: None,
            }),
        ),
        (
            Key::DeviceChain(netdev(), end.clone(), format!("{end}-in")),
            filter(HookPoint::Ingress, 0, guard),
        ),
        (sysctl("accept_dad"), Object::Sysctl("0".into())),
        (sysctl("accept_ra"), Object::Sysctl("0".into())),
        (Key::Address(inside, eth0(), own), Object::Address),
        (Key::Address(inside, eth0(), own6), Object::Address),
        (Key::Address(inside, eth0(), "fe80::57/64".parse().unwrap()), Object::Address),
        (Key::Up(host, end.clone()), Object::Up),
        (Key::Up(inside, eth0()), Object::Up),
        (
            Key::Route(inside, "0.0.0.0/0".parse().unwrap(), eth0()),
            Object::Route(Route {
                via: Some(format!("10.{octet}.0.1").parse().unwrap()),
                source: None,
            }),
        ),
        (
            Key::Route(inside, "::/0".parse().unwrap(), eth0()),
            Object::Route(Route {
                via: Some(format!("fd00:{octet:x}::1").parse().unwrap()),
                source: None,
            }),
        ),
        (Key::Neighbour(bridge, own.addr()), Object::Neighbour(mac(2))),
        (Key::Fdb(end, FdbTable::Bridge, mac(2)), Object::Fdb(None)),
    ]
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

fn bridges() -> String {
    "wb-*".to_owned()
}

fn sets() -> Objects {
    let (vni, v4, v6) = (Field::Vni, Field::SourceV4, Field::SourceV6);
    let set = |name: &str, of: &[Field]| {
        (Key::Set(inet(), name.into()), Object::Set(Set { of: of.to_vec() }))
    };
    let element =
        |set: &str, text: &str| (Key::Element(inet(), set.into(), text.into()), Object::Element);
    vec![
        set("members4", &[v4, vni]),
        set("members6", &[v6, vni]),
        set("vnis", &[vni]),
        element("members4", "172.30.0.16 . 5701633"),
        element("members6", "fd77::16 . 5701633"),
        element("vnis", "5701633"),
        element("vnis", "5701634"),
    ]
}

fn prerouting() -> Object {
    let stranger = |family, field, members: &str| {
        drop_rule(
            vec![
                Match::UdpPort(4789),
                Match::Family(family),
                Match::InSet(Equal::Is, vec![Field::Vni], "vnis".into()),
                Match::InSet(Equal::IsNot, vec![field, Field::Vni], members.into()),
            ],
            "not a member",
        )
    };
    let rules = vec![
        stranger(Family::V4, Field::SourceV4, "members4"),
        stranger(Family::V6, Field::SourceV6, "members6"),
        rule(
            vec![
                Match::InLink(Equal::Is, "wb-570001".into()),
                Match::Destination(Equal::Is, net("10.3.0.0/16")),
                Match::Destination(Equal::IsNot, net("10.3.0.1/32")),
            ],
            vec![Statement::Notrack, Statement::Accept],
            "web",
        ),
    ];
    filter(HookPoint::Prerouting, -300, rules)
}

fn forward() -> Object {
    let rules = vec![
        rule(
            vec![Match::InLink(Equal::Is, bridges()), Match::OutLink(Equal::Is, bridges())],
            vec![Statement::Jump("between".into())],
            "",
        ),
        drop_rule(
            vec![Match::InLink(Equal::Is, bridges()), Match::UdpPort(4789)],
            "VXLAN from a container",
        ),
        rule(
            vec![
                Match::OutLink(Equal::Is, bridges()),
                Match::Tracked(vec![TrackState::Established, TrackState::Related]),
            ],
            vec![Statement::Accept],
            "",
        ),
        drop_rule(
            vec![Match::Source(Equal::Is, net("fd00:3::/60")), Match::TcpPort(7373)],
            "odd prefix",
        ),
        drop_rule(
            vec![Match::Protocol(Equal::IsNot, 6), Match::OutLink(Equal::IsNot, "lo".into())],
            "",
        ),
    ];
    filter(HookPoint::Forward, 0, rules)
}

fn postrouting() -> Object {
    let hook = Hook { kind: ChainKind::Nat, point: HookPoint::Postrouting, priority: 100 };
    let leaving = || {
        vec![
            Match::Source(Equal::Is, net("10.3.0.0/16")),
            Match::OutLink(Equal::IsNot, "wb-570001".into()),
        ]
    };
    let mut udp = leaving();
    udp.push(Match::Protocol(Equal::Is, 17));
    let rules = vec![
        rule(udp, vec![Statement::Masquerade(Some((32_768, 65_535)))], "web"),
        rule(leaving(), vec![Statement::Masquerade(None)], "web"),
    ];
    Object::Chain(Chain { hook: Some(hook), rules })
}

/// Filters of the host, with every match and statement that there is.
pub fn filters() -> Objects {
    let between = Chain { hook: None, rules: vec![rule(vec![], vec![Statement::Return], "")] };
    let chain = |name: &str, chain| (Key::Chain(inet(), name.into()), chain);
    let mut all = vec![(Key::Table(inet()), Object::Table), (Key::Table(netdev()), Object::Table)];
    all.extend(sets());
    all.extend([
        chain("between", Object::Chain(between)),
        chain("forward", forward()),
        chain("postrouting", postrouting()),
        chain("prerouting", prerouting()),
    ]);
    all
}

/// Chains of a VTEP, with the rest of what frames are matched by.
pub fn vtep_chains(vni: u32) -> Objects {
    let vtep = format!("wv-{vni:06x}");
    let key =
        |direction: &str| Key::DeviceChain(netdev(), vtep.clone(), format!("{vtep}-{direction}"));
    let coming = vec![
        drop_rule(vec![Match::EtherSource(Equal::Is, mac(3))], "another host's gateway"),
        rule(
            vec![Match::EtherDestination(Equal::Is, mac(8))],
            vec![Statement::SetPacketTypeHost],
            "for this host",
        ),
        drop_rule(vec![Match::ArpSenderMac(Equal::Is, mac(3))], ""),
        drop_rule(vec![Match::Icmp6Type(134)], "ND: not a router"),
        drop_rule(
            vec![Match::Icmp6Type(136), Match::NdTarget(Equal::IsNot, "fd00::2".parse().unwrap())],
            "",
        ),
        drop_rule(
            vec![Match::EtherType(Equal::IsNot, 0x0806), Match::PacketType(PacketType::Host)],
            "",
        ),
        rule(
            vec![Match::PacketType(PacketType::Multicast)],
            vec![
                Statement::LimitOver { rate: 1_000, burst: 1_000 },
                Statement::Counter,
                Statement::Drop,
            ],
            "too many",
        ),
    ];
    let going = vec![rule(
        vec![Match::EtherSource(Equal::Is, mac(3))],
        vec![Statement::SetEtherSource(mac(8))],
        "from this host",
    )];
    vec![
        (key("in"), filter(HookPoint::Ingress, 0, coming)),
        (key("out"), filter(HookPoint::Egress, 0, going)),
    ]
}

/// Steps that put everything, in order.
pub fn puts(objects: &[(Key, Object)]) -> Vec<Step> {
    let mut sorted = objects.to_vec();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    sorted.into_iter().map(|(key, object)| Step::Put(key, object)).collect()
}

/// Steps that delete everything, in the opposite order.
pub fn deletes(objects: &[(Key, Object)]) -> Vec<Step> {
    let mut keys: Vec<Key> = objects.iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    keys.into_iter().rev().map(Step::Delete).collect()
}

/// Applies steps that must all succeed.
pub fn apply(linux: &mut Linux, steps: &[Step]) {
    let results = linux.apply(steps);
    assert_eq!(results.len(), steps.len());
    let faults: Vec<String> = results
        .into_iter()
        .filter_map(Result::err)
        .map(|f| format!("{f} [{}] {}", f.errno, f.hint))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What is there must be what is wanted, said key by key.
pub fn assert_same(have: &KernelState, want: &KernelState) {
    let mut wrong = Vec::new();
    for (key, object) in want.iter() {
        match have.get(key) {
            None => wrong.push(format!("missing: {key}")),
            Some(other) if other != object => {
                wrong.push(format!("differs: {key}\n  want {object:?}\n  have {other:?}"));
            }
            Some(_) => {}
        }
    }
    wrong.extend(
        have.iter()
            .filter(|(key, _)| want.get(key).is_none())
            .map(|(k, o)| format!("extra: {k} {o:?}")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub fn observe(linux: &mut Linux) -> KernelState {
    linux.observe(&Scope::All).unwrap()
}
