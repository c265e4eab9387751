//! The programs, loaded, with tables of their own, and frames run through them (`BPF_PROG_TEST_RUN`).

use std::net::IpAddr;
use std::thread;

use aya::maps::lpm_trie::{Key as Prefix, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap};
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, TestRun};
use aya::{Ebpf, EbpfLoader, TestRunOptions};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use weft_ebpf::abi::{self, Counters, Endpoint, Fdb, MacBytes, Node, Vtep};
use weft_ebpf::{OBJECT, layout};
use weft_kernel::DropReason;

/// The interface that frames come from in a test run: the loopback device.
pub(crate) const IFINDEX: u32 = 1;

/// Whether the running kernel is of this version, or a later one.
fn kernel(least: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse().ok());
    (numbers.next().expect("major"), numbers.next().expect("minor")) >= least
}

/// Whether frames of one family can be taken out of another: older kernels leave that to the bridge path.
pub(crate) fn strips_the_other_family() -> bool {
    kernel((6, 3))
}

/// Whether there is tcx; `tc` filters are always.
pub(crate) fn has_tcx() -> bool {
    kernel((6, 6))
}

/// What a program said about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `TC_ACT_UNSPEC`: the bridge path has it.
    Pass,
    /// `TC_ACT_SHOT`
    Drop,
    /// `TC_ACT_REDIRECT`
    Redirect,
}

/// A verdict, and the frame afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) frame: Vec<u8>,
}

pub(crate) struct World(Ebpf);

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&0)
    }

    /// Where room, once made, cannot be written to.
    pub(crate) fn with_room_lost() -> Self {
        Self::with(&1)
    }

    /// The tables are pinned by name, and a test wants none but its own: so each is loaded by a
    /// thread that sees a file system of pins of its own, which goes with it.
    fn with(room_lost: &u32) -> Self {
        let room_lost = *room_lost;
        let loaded = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).expect("the tests of BPF programs need root");
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).expect("bpffs");
            let mut ebpf = EbpfLoader::new()
                .override_global("room_lost", &room_lost, true)
                .default_map_pin_directory("/sys/fs/bpf")
                .load(OBJECT)
                .expect("the object is one");
            for name in ["from_container", "from_underlay"] {
                let program: &mut SchedClassifier =
                    ebpf.program_mut(name).expect(name).try_into().expect("a classifier");
                program.load().expect("the kernel's verifier agrees");
            }
            ebpf
        });
        Self(loaded.join().expect("loaded"))
    }

    fn hash<const K: usize, const V: usize>(
        &mut self,
        name: &str,
    ) -> HashMap<&mut MapData, [u8; K], [u8; V]> {
        self.0.map_mut(name).expect(name).try_into().expect("a hash table with such entries")
    }

    pub(crate) fn node(&mut self, address: IpAddr, port: u16) {
        let mut node: Array<&mut MapData, [u8; layout::WEFT_NODE]> =
            self.0.map_mut("node").expect("node").try_into().expect("an array");
        node.set(0, Node { address, port }.encode(), 0).expect("set");
    }

    /// An endpoint at the loopback device.
    pub(crate) fn endpoint(&mut self, endpoint: Endpoint) {
        self.endpoint_at(IFINDEX, endpoint);
    }

    pub(crate) fn endpoint_at(&mut self, ifindex: u32, endpoint: Endpoint) {
        self.hash("endpoints").insert(ifindex.to_ne_bytes(), endpoint.encode(), 0).expect("set");
    }

    /// Attaches a program to a link of the calling thread's namespace: by tcx, or as older kernels do.
    pub(crate) fn attach(&mut self, name: &str, link: &str, tcx: bool) {
        let program: &mut SchedClassifier =
            self.0.program_mut(name).expect(name).try_into().expect("a classifier");
        let options = if tcx {
            TcAttachOptions::TcxOrder(LinkOrder::default())
        } else {
            qdisc_add_clsact(link).expect("clsact");
            TcAttachOptions::Netlink(NlOptions::default())
        };
        program.attach_with_options(link, TcAttachType::Ingress, options).expect(link);
    }

    pub(crate) fn granted(&mut self, address: IpAddr, prefix_length: u8) {
        self.granted_at(IFINDEX, address, prefix_length);
    }

    pub(crate) fn granted_at(&mut self, ifindex: u32, address: IpAddr, prefix_length: u8) {
        let octets = abi::granted_key(ifindex, address, prefix_length);
        let length = u32::from_ne_bytes(
            octets[layout::WEFT_GRANTED_KEY_PREFIX_LENGTH].try_into().expect("4"),
        );
        let data: [u8; 20] = octets[4..].try_into().expect("20");
        let mut granted: LpmTrie<&mut MapData, [u8; 20], u32> =
            self.0.map_mut("granted").expect("granted").try_into().expect("a trie");
        let value = u32::from_ne_bytes(abi::granted_value(address));
        granted.insert(&Prefix::new(length, data), value, 0).expect("set");
    }

    pub(crate) fn fdb(&mut self, vni: u32, mac: MacBytes, to: Fdb) {
        self.hash("fdb").insert(abi::fdb_key(vni, mac), to.encode(), 0).expect("set");
    }

    pub(crate) fn member(&mut self, vni: u32, address: IpAddr, gateway: MacBytes) {
        let value = abi::mac_value(gateway);
        self.hash("members").insert(abi::address_key(vni, address), value, 0).expect("set");
    }

    pub(crate) fn neighbour(&mut self, vni: u32, address: IpAddr, mac: MacBytes) {
        let value = abi::mac_value(mac);
        self.hash("neighbours").insert(abi::address_key(vni, address), value, 0).expect("set");
    }

    pub(crate) fn vtep(&mut self, vtep: &Vtep) {
        let key = abi::mapped(vtep.destination);
        self.hash("vteps").insert(key, vtep.encode(), 0).expect("set");
    }

    /// What was counted at a slot, on all CPUs.
    pub(crate) fn counters(&self, slot: u32) -> Counters {
        let counters: PerCpuArray<&MapData, [u8; layout::WEFT_COUNTERS]> =
            self.0.map("counters").expect("counters").try_into().expect("an array");
        let mut sum = Counters::default();
        for one in counters.get(&slot, 0).expect("a slot").iter().map(Counters::decode) {
            sum.sent_packets += one.sent_packets;
            sum.sent_bytes += one.sent_bytes;
            sum.received_packets += one.received_packets;
            sum.received_bytes += one.received_bytes;
        }
        sum
    }

    /// Everything that was dropped: VNI, interface, reason, frames, octets.
    pub(crate) fn drops(&self) -> Vec<(abi::Drop, DropReason, u64, u64)> {
        let drops: PerCpuHashMap<&MapData, [u8; layout::WEFT_DROP_KEY], [u8; layout::WEFT_COUNT]> =
            self.0.map("drops").expect("drops").try_into().expect("a hash table");
        let all: Result<Vec<_>, MapError> = drops.iter().collect();
        all.expect("readable")
            .iter()
            .map(|(key, counts)| {
                let key = abi::Drop::decode(key);
                let reason = DropReason::of_code(key.reason).expect("a reason");
                let sum = |of: fn((u64, u64)) -> u64| {
                    counts.iter().map(|octets| of(abi::count_of(octets))).sum::<u64>()
                };
                (key, reason, sum(|count| count.0), sum(|count| count.1))
            })
            .collect()
    }

    /// What the container sends.
    pub(crate) fn container_sends(&self, frame: &[u8]) -> Outcome {
        self.run("from_container", frame)
    }

    /// What the underlay brings.
    pub(crate) fn underlay_brings(&self, frame: &[u8]) -> Outcome {
        self.run("from_underlay", frame)
    }

    fn run(&self, name: &str, frame: &[u8]) -> Outcome {
        let program: &SchedClassifier =
            self.0.program(name).expect(name).try_into().expect("a classifier");
        let mut after = vec![0; frame.len() + 256];
        let done = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                repeat: 1,
                ..TestRunOptions::new()
            })
            .expect("the kernel runs it");
        after.truncate(done.data_size_out as usize);
        let verdict = match done.return_value.cast_signed() {
            -1 => Verdict::Pass,
            2 => Verdict::Drop,
            7 => Verdict::Redirect,
            other => panic!("verdict {other}"),
        };
        Outcome { verdict, frame: after }
    }
}
