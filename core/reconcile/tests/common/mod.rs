//! Hosts for the properties: what a plan looks like, a kernel to run it on, and a driver.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod mischief;
pub(crate) mod scenes;
pub(crate) mod shortcut;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use weft_kernel::key::NftFamily;
use weft_kernel::nft::{
    Chain, ChainKind, Equal, Field, Hook, HookPoint, Match, Rule, Set, Statement,
};
use weft_kernel::object::{Link, LinkKind, Port, Route};
use weft_kernel::state::Objects;
use weft_kernel::{
    FakeKernel, Fault, FdbTable, KernelState, Key, Netns, NetnsId, Object, Scope, Section,
    ShortcutKey, Step, TableName,
};
use weft_reconcile::{Config, Do, Machine, Observed};

use shortcut::Shortcut;

/// One network as the host sees it.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    pub(crate) index: u8,
    pub(crate) local: u8,
    pub(crate) mtu: u32,
    pub(crate) gateway: u8,
    pub(crate) v6_length: Option<u8>,
    pub(crate) peers: BTreeSet<u8>,
    pub(crate) remotes: BTreeSet<u8>,
    pub(crate) open: bool,
}

/// One endpoint of this host.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) id: u8,
    pub(crate) net: u8,
    pub(crate) container: u8,
    pub(crate) eth: u8,
    pub(crate) offset: u8,
}

/// What a host takes part in.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) nets: Vec<Net>,
    pub(crate) locals: Vec<Local>,
    pub(crate) set_of_two: bool,
    pub(crate) helper_chain: bool,
    pub(crate) shortcut: Option<Shortcut>,
}

pub(crate) const CONTAINERS: u8 = 3;

pub(crate) fn worlds() -> impl Strategy<Value = World> {
    let net = |index: u8| {
        (
            1..3u8,
            prop_oneof![Just((1450u32, 1u8)), Just((1430, 1)), Just((1450, 0xfd))],
            prop_oneof![Just(None), Just(Some(64u8)), Just(Some(80))],
            proptest::collection::btree_set(10..14u8, 0..4),
            proptest::collection::btree_set(2..12u8, 0..6),
            any::<bool>(),
        )
            .prop_map(move |(local, (mtu, gateway), v6_length, peers, remotes, open)| {
                Net { index, local, mtu, gateway, v6_length, peers, remotes, open }
            })
    };
    let nets =
        (proptest::option::of(net(1)), proptest::option::of(net(2)), proptest::option::of(net(3)));
    let local = (1..7u8, 1..4u8, 0..CONTAINERS, 0..2u8, 2..12u8);
    let locals = proptest::collection::vec(local, 0..5);
    let shortcut = proptest::option::weighted(0.7, (any::<bool>(), any::<bool>()));
    (nets, locals, any::<bool>(), any::<bool>(), shortcut).prop_map(
        |(nets, locals, set_of_two, helper_chain, shortcut)| {
            let nets: Vec<Net> = [nets.0, nets.1, nets.2].into_iter().flatten().collect();
            let shortcut = shortcut.map(|(bridge, routed)| Shortcut { bridge, routed });
            let mut world = World { nets, locals: Vec::new(), set_of_two, helper_chain, shortcut };
            for (id, net, container, eth, offset) in locals {
                let clash = world.locals.iter().any(|l| {
                    l.id == id
                        || (l.container, l.eth) == (container, eth)
                        || (l.net, l.offset) == (net, offset)
                });
                if !clash && world.nets.iter().any(|n| n.index == net) {
                    world.locals.push(Local { id, net, container, eth, offset });
                }
            }
            world
        },
    )
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

fn v6(net: u8, host: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, host.into()))
}

fn prefix(ip: IpAddr, length: u8) -> IpNet {
    IpNet::new_assert(ip, length)
}

fn mac(net: u8, offset: u8) -> [u8; 6] {
    [2, net, 0, 0, 0, offset]
}

pub(crate) fn wb(net: u8) -> String {
    format!("wb-57000{net}")
}

pub(crate) fn wv(net: u8) -> String {
    format!("wv-57000{net}")
}

pub(crate) fn we(id: u8) -> String {
    format!("we-00000000000{id}")
}

pub(crate) fn container(index: u8) -> Netns {
    Netns::Container(NetnsId(100 + u64::from(index)))
}

pub(crate) fn inet() -> TableName {
    TableName { family: NftFamily::Inet, name: "weft".into() }
}

pub(crate) fn netdev() -> TableName {
    TableName { family: NftFamily::Netdev, name: "weft".into() }
}

pub(crate) fn foreign_table() -> TableName {
    TableName { family: NftFamily::Ip, name: "filter".into() }
}

fn rule(matches: Vec<Match>, statements: Vec<Statement>) -> Rule {
    Rule { matches, statements, comment: "weft".into() }
}

fn hook(point: HookPoint) -> Option<Hook> {
    Some(Hook { kind: ChainKind::Filter, point, priority: 0 })
}

impl World {
    /// What a plan for this host would want.
    pub(crate) fn want(&self) -> KernelState {
        let mut want = Vec::new();
        if !self.nets.is_empty() {
            self.filters(&mut want);
        }
        for net in &self.nets {
            self.network(net, &mut want);
        }
        for local in &self.locals {
            self.endpoint(local, &mut want);
        }
        if let Some(shortcut) = &self.shortcut {
            self.shortcut_wants(shortcut, &mut want);
        }
        want.into_iter().collect()
    }

    fn filters(&self, want: &mut Vec<(Key, Object)>) {
        want.push((Key::Table(inet()), Object::Table));
        want.push((Key::Table(netdev()), Object::Table));
        let fields =
            if self.set_of_two { vec![Field::SourceV4, Field::Vni] } else { vec![Field::Vni] };
        want.push((Key::Set(inet(), "members4".into()), Object::Set(Set { of: fields.clone() })));
        for net in &self.nets {
            for peer in &net.peers {
                let element = format!("172.10.0.{peer} . {}", net.index);
                want.push((Key::Element(inet(), "members4".into(), element), Object::Element));
            }
        }
        let looked_up = Match::InSet(Equal::IsNot, fields, "members4".into());
        let mut rules = vec![rule(vec![looked_up], vec![Statement::Counter, Statement::Drop])];
        if self.helper_chain {
            rules.push(rule(vec![], vec![Statement::Jump("zz-helper".into())]));
            let helper = Chain { hook: None, rules: vec![] };
            want.push((Key::Chain(inet(), "zz-helper".into()), Object::Chain(helper)));
        }
        let chain = Chain { hook: hook(HookPoint::Prerouting), rules };
        want.push((Key::Chain(inet(), "prerouting".into()), Object::Chain(chain)));
        let accept = rule(vec![Match::InLink(Equal::Is, "wb-*".into())], vec![Statement::Accept]);
        let key =
            Key::ForeignRule(foreign_table(), "FORWARD".into(), "iifname \"wb-*\" accept".into());
        want.push((key, Object::ForeignRule(accept)));
        if self.nets.iter().any(|net| net.open) {
            for (path, value) in [
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/ipv6/conf/eth0/accept_ra", "2"),
            ] {
                want.push((Key::Sysctl(Netns::Host, path.into()), Object::Sysctl(value.into())));
            }
        }
    }

    fn network(&self, net: &Net, want: &mut Vec<(Key, Object)>) {
        let (bridge, vtep, n) = (wb(net.index), wv(net.index), net.index);
        let link = |kind, mac, port| {
            Object::Link(Link { kind, mac, mtu: net.mtu, alias: format!("weft network {n}"), port })
        };
        let port = Port { bridge: bridge.clone(), neigh_suppress: true, locked: false };
        let vxlan = LinkKind::Vxlan {
            vni: 0x57_0000 + u32::from(n),
            local: v4(172, 10, 0, net.local),
            port: 4789,
        };
        want.push((
            Key::Link(Netns::Host, bridge.clone()),
            link(LinkKind::Bridge, mac(n, net.gateway), None),
        ));
        want.push((Key::Link(Netns::Host, vtep.clone()), link(vxlan, mac(n, 0xfe), Some(port))));
        let chain = Chain { hook: hook(HookPoint::Ingress), rules: vec![] };
        want.push((
            Key::DeviceChain(netdev(), vtep.clone(), format!("{vtep}-in")),
            Object::Chain(chain),
        ));
        let disable = format!("net/ipv4/conf/{bridge}/route_localnet");
        want.push((Key::Sysctl(Netns::Host, disable), Object::Sysctl("0".into())));
        let node = v4(10, n, 0, 254);
        let mut addresses = vec![prefix(v4(10, n, 0, 1), 24), prefix(node, 32)];
        addresses.extend(net.v6_length.map(|length| prefix(v6(n, 1), length)));
        for address in addresses {
            want.push((Key::Address(Netns::Host, bridge.clone(), address), Object::Address));
        }
        for name in [&bridge, &vtep] {
            want.push((Key::Up(Netns::Host, name.clone()), Object::Up));
        }
        let route = Route { via: None, source: Some(node) };
        let to = prefix(v4(10, n, 0, 0), 24);
        want.push((Key::Route(Netns::Host, to, bridge.clone()), Object::Route(route)));
        let local: BTreeSet<u8> =
            self.locals.iter().filter(|l| l.net == n).map(|l| l.offset).collect();
        for offset in net.remotes.difference(&local) {
            let remote = v4(172, 10, 0, 10 + offset % 4);
            let device = Key::Fdb(vtep.clone(), FdbTable::Device, mac(n, *offset));
            want.push((device, Object::Fdb(Some(remote))));
            let master = Key::Fdb(vtep.clone(), FdbTable::Bridge, mac(n, *offset));
            want.push((master, Object::Fdb(None)));
            self.neighbours(net, *offset, want);
        }
        for peer in &net.peers {
            want.push((Key::Flood(vtep.clone(), v4(172, 10, 0, *peer)), Object::Flood));
        }
    }

    fn neighbours(&self, net: &Net, offset: u8, want: &mut Vec<(Key, Object)>) {
        let ips =
            [Some(v4(10, net.index, 0, offset)), net.v6_length.map(|_| v6(net.index, offset))];
        for ip in ips.into_iter().flatten() {
            want.push((
                Key::Neighbour(wb(net.index), ip),
                Object::Neighbour(mac(net.index, offset)),
            ));
        }
    }

    fn endpoint(&self, local: &Local, want: &mut Vec<(Key, Object)>) {
        let Some(net) = self.nets.iter().find(|net| net.index == local.net) else { return };
        let (host, ns, eth) =
            (we(local.id), container(local.container), format!("eth{}", local.eth));
        let address = mac(local.net, local.offset);
        let kind = LinkKind::Veth { peer_netns: ns, peer: eth.clone() };
        let port = Port { bridge: wb(local.net), neigh_suppress: true, locked: true };
        let alias = format!("weft endpoint {}", local.id);
        let end =
            Link { kind, mac: [6, 0, 0, 0, 0, local.id], mtu: net.mtu, alias, port: Some(port) };
        want.push((Key::Link(Netns::Host, host.clone()), Object::Link(end)));
        let end = Link {
            kind: LinkKind::VethPeer,
            mac: address,
            mtu: net.mtu,
            alias: String::new(),
            port: None,
        };
        want.push((Key::Link(ns, eth.clone()), Object::Link(end)));
        let chain = Chain {
            hook: hook(HookPoint::Ingress),
            rules: vec![rule(
                vec![Match::EtherSource(Equal::IsNot, address)],
                vec![Statement::Counter, Statement::Drop],
            )],
        };
        want.push((
            Key::DeviceChain(netdev(), host.clone(), format!("{host}-in")),
            Object::Chain(chain),
        ));
        for name in ["accept_ra", "accept_dad"] {
            let path = format!("net/ipv6/conf/{eth}/{name}");
            want.push((Key::Sysctl(ns, path), Object::Sysctl("0".into())));
        }
        want.push((
            Key::Address(ns, eth.clone(), prefix(v4(10, local.net, 0, local.offset), 24)),
            Object::Address,
        ));
        if let Some(length) = net.v6_length {
            let address = prefix(v6(local.net, local.offset), length);
            want.push((Key::Address(ns, eth.clone(), address), Object::Address));
        }
        want.push((Key::Up(Netns::Host, host.clone()), Object::Up));
        want.push((Key::Up(ns, eth.clone()), Object::Up));
        if local.eth == 0 && net.open {
            let via = Some(v4(10, local.net, 0, 1));
            let route = Object::Route(Route { via, source: None });
            want.push((Key::Route(ns, prefix(v4(0, 0, 0, 0), 0), eth), route));
        }
        want.push((Key::Fdb(host, FdbTable::Bridge, address), Object::Fdb(None)));
        self.neighbours(net, local.offset, want);
    }
}

/// A host with what is there before Weft: containers, an uplink, Docker's bridge and chains.
pub(crate) fn bare_kernel() -> FakeKernel {
    let mut kernel = FakeKernel::new();
    for index in 0..CONTAINERS {
        if let Netns::Container(id) = container(index) {
            kernel.add_netns(id);
        }
    }
    for name in ["eth0", "br-lan", "docker0"] {
        kernel.put_foreign(Key::Link(Netns::Host, name.into()), plain_link());
    }
    let chain = Object::Chain(Chain { hook: hook(HookPoint::Forward), rules: vec![] });
    kernel.put_foreign(Key::Chain(foreign_table(), "FORWARD".into()), chain);
    kernel
}

pub(crate) fn plain_link() -> Object {
    let (kind, alias) = (LinkKind::Bridge, String::new());
    Object::Link(Link { kind, mac: [4, 4, 4, 4, 4, 4], mtu: 1500, alias, port: None })
}

/// A kernel and the machine that looks after it.
pub(crate) struct Host {
    pub(crate) kernel: FakeKernel,
    pub(crate) machine: Machine,
    pub(crate) now: u64,
    /// Every step that was taken, whether it changed anything, and what came of it.
    pub(crate) log: Vec<(Step, bool, Result<(), Fault>)>,
    pub(crate) polls: u64,
    /// Events tell of every step that was taken, as if nobody knew of it.
    pub(crate) nosy: bool,
}

impl Host {
    pub(crate) fn new(kernel: FakeKernel) -> Self {
        Self::with(kernel, Config::default())
    }

    pub(crate) fn with(kernel: FakeKernel, config: Config) -> Self {
        let machine = Machine::new(config);
        Self { kernel, machine, now: 0, log: Vec::new(), polls: 0, nosy: false }
    }

    /// Does the next thing; `false` when there is nothing before `until`.
    pub(crate) fn turn(&mut self, until: u64) -> bool {
        self.polls += 1;
        match self.machine.poll(self.now) {
            Do::Observe(scope) => {
                let state = self.kernel.observe_scope(&scope);
                self.machine.on_observed(Observed { scope, state });
            }
            Do::Apply(steps) => {
                assert!(!steps.is_empty(), "an empty batch");
                let results = steps.iter().map(|step| self.take(step)).collect();
                self.now += 1;
                let scopes: Vec<Scope> =
                    steps.iter().filter(|_| self.nosy).map(|step| Scope::of(step.key())).collect();
                self.machine.on_applied(steps, results, self.now);
                scopes.into_iter().for_each(|scope| self.machine.on_dirty(scope));
            }
            Do::Sleep(Some(at)) if at <= until => {
                assert!(at > self.now, "a sleep that is over already: {at} at {}", self.now);
                self.now = at;
            }
            Do::Sleep(_) => {
                self.now = until;
                return false;
            }
        }
        true
    }

    pub(crate) fn take(&mut self, step: &Step) -> Result<(), Fault> {
        let idle = self.kernel.holds(step);
        let result = self.kernel.apply(std::slice::from_ref(step)).remove(0);
        self.log.push((step.clone(), idle, result.clone()));
        result
    }

    /// Runs for `span` milliseconds.
    pub(crate) fn run(&mut self, span: u64) {
        let until = self.now + span;
        let polls = self.polls;
        while self.turn(until) {
            assert!(self.polls - polls < 20_000, "it never comes to rest");
        }
    }

    /// Of which sections that are as wanted the machine holds two copies all the same.
    pub(crate) fn held_twice(&self) -> Vec<Section> {
        let want = self.machine.want();
        let twice = |(section, known): &(&Section, &Arc<Objects>)| {
            let wanted = want.and_then(|want| want.section(section));
            wanted.is_some_and(|wanted| wanted == *known && !Arc::ptr_eq(wanted, known))
        };
        self.machine.have().sections().filter(twice).map(|(name, _)| name.clone()).collect()
    }

    /// Where it is not as wanted, but for steps that can wait.
    pub(crate) fn pressing_differences(&self, want: &KernelState) -> Vec<Key> {
        self.differences(want).into_iter().filter(|key| !is_program(key)).collect()
    }

    pub(crate) fn failures(&self) -> Vec<&(Step, bool, Result<(), Fault>)> {
        self.log.iter().filter(|(_, _, result)| result.is_err()).collect()
    }

    /// Where the kernel is not as wanted; sysctls that nobody wants do not matter.
    pub(crate) fn differences(&self, want: &KernelState) -> Vec<Key> {
        let have = self.kernel.observe();
        let missing = want.iter().filter(|(key, object)| have.get(key) != Some(object));
        let extra = have
            .iter()
            .filter(|(key, _)| want.get(key).is_none() && !matches!(key, Key::Sysctl(..)));
        missing.chain(extra).map(|(key, _)| key.clone()).collect()
    }
}

/// A program of the shortcut: what can wait.
pub(crate) fn is_program(key: &Key) -> bool {
    matches!(key, Key::Shortcut(ShortcutKey::Program(..)))
}

/// A kernel that holds `want` already, without a machine having been there.
pub(crate) fn laid(mut kernel: FakeKernel, want: &KernelState) -> FakeKernel {
    let mut machine = Host::new(kernel);
    machine.machine.on_plan(want.clone(), 1);
    machine.run(1_000);
    kernel = machine.kernel;
    assert_eq!(kernel.observe(), *want, "the start could not be laid");
    kernel
}
