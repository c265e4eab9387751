//! Weft on real kernels: virtual hosts, real daemons, real packets.
//!
//! A [`Cluster`] is a lab with a daemon on every host, joined; [`Probe`] counts what gets lost on the
//! way, [`stream`] looks at every octet of a flow, [`Traffic`] tells which path it took, [`Capture`] shows what is on
//! a cable, [`frame`] puts onto it what nobody should, [`bpf`] damages what programs are pinned.
//! Everything panics when it cannot do its work: this is for tests, and needs root.

pub mod bpf;
pub mod cluster;
mod dump;
pub mod frame;
mod link;
pub mod packet;
pub mod probe;
mod ran;
pub mod stream;
mod traffic;

pub use cluster::{Attached, Cluster, Topology, until, weft_binary, within};
pub use dump::{difference, dump};
pub use link::Capture;
pub use packet::Vxlan;
pub use probe::{Probe, Report};
pub use ran::{Ran, run};
pub use traffic::Traffic;
