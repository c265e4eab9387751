//! Weft on real kernels: virtual hosts, real daemons, real packets.
//!
//! A [`Cluster`] is a lab with a daemon on every host, joined; [`Probe`] counts what gets lost on the
//! way, [`Capture`] shows what is on a cable, [`frame`] puts onto it what nobody should.
//! Everything panics when it cannot do its work: this is for tests, and needs root.

pub mod cluster;
mod dump;
pub mod frame;
mod link;
pub mod packet;
pub mod probe;

pub use cluster::{Attached, Cluster, Ran, Topology, until, weft_binary, within};
pub use dump::{difference, dump};
pub use link::Capture;
pub use packet::Vxlan;
pub use probe::{Probe, Report};
