//! Two hosts on a cable, and containers on networks between them: real namespaces and links, which go with the test.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use weft_ebpf::abi::{Counters, Endpoint, Fdb, Vtep};

use crate::frames::Mac;
use crate::scene::{GATEWAY_MAC, PORT, VNI};
use crate::world::{World, has_tcx};

/// A network namespace.
pub(crate) struct Net(File);

impl Net {
    pub(crate) fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let net = Self(made.join().unwrap());
        net.ip("link set lo up");
        net
    }

    /// Runs something in it.
    pub(crate) fn within<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let ran = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                run()
            });
            ran.join().unwrap()
        })
    }

    pub(crate) fn run(&self, program: &str, arguments: &str) {
        let done = self.within(|| Command::new(program).args(arguments.split(' ')).output());
        let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn ip(&self, arguments: &str) {
        self.run("ip", arguments);
    }

    pub(crate) fn ifindex(&self, link: &str) -> u32 {
        self.within(|| nix::net::if_::if_nametoindex(link)).unwrap()
    }

    /// As `ip` finds it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Takes the link's help away: it neither sums nor cuts.
    pub(crate) fn without_offloads(&self, link: &str) {
        self.run("ethtool", &format!("-K {link} tx off sg off tso off gso off gro off"));
    }
}

/// How the two sides are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) v6_underlay: bool,
    /// By tcx where there is one, or as older kernels do.
    pub(crate) tcx: bool,
    /// Whether the links of hosts and containers compute sums and cut frames.
    pub(crate) offloads: bool,
    /// Whether there is a bridge path for what the programs let pass.
    pub(crate) bridge: bool,
}

/// As they usually are.
pub(crate) const PLAN: Plan = Plan { v6_underlay: false, tcx: true, offloads: true, bridge: true };

/// One host.
pub(crate) struct Side {
    plan: Plan,
    number: u8,
    pub(crate) host: Net,
    pub(crate) world: World,
}

pub(crate) fn underlay(side: u8, v6: bool) -> IpAddr {
    let text =
        if v6 { format!("2001:db8::{}", side + 1) } else { format!("172.10.0.{}", side + 1) };
    text.parse().unwrap()
}

/// Of the container that a network has on a side.
pub(crate) fn inside(network: u8, side: u8, v6: bool) -> IpAddr {
    let last = side + 1;
    let text =
        if v6 { format!("fd57:{network}::{last}") } else { format!("10.3.{network}.{last}") };
    text.parse().unwrap()
}

fn mac(network: u8, side: u8) -> Mac {
    [2, 0x57, 0, 0, network, 10 + side]
}

fn vni(network: u8) -> u32 {
    VNI + u32::from(network)
}

impl Plan {
    /// Both hosts, without containers.
    pub(crate) fn hosts(self) -> [Side; 2] {
        let hosts = [Net::new(), Net::new()];
        hosts[0].ip(&format!("link add eth0 type veth peer name eth0 netns {}", hosts[1].path()));
        let mut numbers = [0, 1].into_iter();
        hosts.map(|host| self.side(numbers.next().unwrap(), host))
    }

    /// Both hosts, with a container of network 0 on each.
    pub(crate) fn pair(self) -> ([Side; 2], [Net; 2]) {
        let mut sides = self.hosts();
        let containers = sides.each_mut().map(|side| {
            let container = Net::new();
            side.join(0, &container);
            container
        });
        (sides, containers)
    }

    fn side(self, number: u8, host: Net) -> Side {
        for (v6, length) in [(false, "24"), (true, "64 nodad")] {
            host.run("ip", &format!("address add {}/{length} dev eth0", underlay(number, v6)));
        }
        if !self.offloads {
            host.without_offloads("eth0");
        }
        host.ip("link set eth0 up");
        let mut world = World::new();
        world.node(underlay(number, self.v6_underlay), PORT);
        let mut side = Side { plan: self, number, host, world };
        side.vtep(1500);
        let Side { host, world, .. } = &mut side;
        host.within(|| world.attach("from_underlay", "eth0", self.tcx && has_tcx()));
        side
    }
}

impl Side {
    fn underlay(&self) -> (IpAddr, IpAddr) {
        let v6 = self.plan.v6_underlay;
        (underlay(self.number, v6), underlay(1 - self.number, v6))
    }

    /// The way to the other host, of this MTU.
    pub(crate) fn vtep(&mut self, mtu: u32) {
        let (source, destination) = self.underlay();
        let ifindex = self.host.ifindex("eth0");
        let next_hop = destination;
        self.world.vtep(&Vtep { ifindex, mtu, next_hop, source, destination, port: PORT });
    }

    /// A container takes part in a network, by a link `eth0`, `eth1`… of its own.
    pub(crate) fn join(&mut self, network: u8, container: &Net) {
        let mtu = if self.plan.v6_underlay { 1430 } else { 1450 };
        let [a, b, c, d, e, f] = mac(network, self.number);
        self.host.ip(&format!(
            "link add we-{network} mtu {mtu} type veth peer name eth{network} address \
             {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} mtu {mtu} netns {}",
            container.path()
        ));
        for (v6, length) in [(false, "24"), (true, "64 nodad")] {
            let address = inside(network, self.number, v6);
            container.ip(&format!("address add {address}/{length} dev eth{network}"));
        }
        if !self.plan.offloads {
            container.without_offloads(&format!("eth{network}"));
        }
        container.ip(&format!("link set eth{network} up"));
        self.host.ip(&format!("link set we-{network} up"));
        if self.plan.bridge {
            self.bridge_path(network);
        }
        self.tell(network, false);
        let Self { host, world, plan, .. } = self;
        host.within(|| {
            world.attach("from_container", &format!("we-{network}"), plan.tcx && has_tcx())
        });
    }

    /// The endpoint may send from anywhere, as a router does.
    pub(crate) fn grant_all(&mut self, network: u8) {
        let ifindex = self.host.ifindex(&format!("we-{network}"));
        for any in ["0.0.0.0", "::"] {
            self.world.granted_at(ifindex, any.parse().unwrap(), 0);
        }
        self.tell(network, true);
    }

    fn bridge_path(&self, network: u8) {
        let (here, there) = self.underlay();
        let vni = vni(network);
        self.host.ip(&format!(
            "link add wv-{network} type vxlan id {vni} dstport {PORT} local {here} nolearning \
             udp6zerocsumtx udp6zerocsumrx"
        ));
        let everything = format!("fdb append 00:00:00:00:00:00 dev wv-{network} dst {there}");
        self.host.run("bridge", &everything);
        self.host.ip(&format!("link add wb-{network} type bridge"));
        for link in ["wv", "we"] {
            self.host.ip(&format!("link set {link}-{network} master wb-{network}"));
        }
        for link in ["wv", "wb"] {
            self.host.ip(&format!("link set {link}-{network} up"));
        }
    }

    /// What the programs know of a network: one container here, one there.
    fn tell(&mut self, network: u8, more: bool) {
        let (_, there) = self.underlay();
        let (number, vni, slot) = (self.number, vni(network), u32::from(network));
        let ifindex = self.host.ifindex(&format!("we-{network}"));
        let own = [false, true].map(|v6| inside(network, number, v6));
        let [IpAddr::V4(v4), IpAddr::V6(v6)] = own else { panic!("two families") };
        let (mac, others) = (mac(network, number), mac(network, 1 - number));
        let endpoint = Endpoint { vni, slot, mac, more, v4: Some(v4), v6: Some(v6) };
        self.world.endpoint_at(ifindex, endpoint);
        self.world.fdb(vni, mac, Fdb::Local { ifindex, slot });
        self.world.fdb(vni, others, Fdb::Remote(there));
        self.world.member(vni, there, GATEWAY_MAC);
        for v6 in [false, true] {
            self.world.neighbour(vni, inside(network, 1 - number, v6), others);
        }
    }

    /// Of the container that a network has here.
    pub(crate) fn counters(&self, network: u8) -> Counters {
        self.world.counters(network.into())
    }
}
