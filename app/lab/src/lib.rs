//! Virtual hosts on one machine: network namespaces on a virtual underlay cable.
//!
//! ```text
//!    namespace NAME-a              NAME-underlay               NAME-b
//!  ┌────────────────────┐   ┌──────────────────────┐   ┌────────────────────┐
//!  │ eth0 172.10.0.15/24├───┤ a   [br0: .1]      b ├───┤ eth0 172.10.0.16/24│
//!  └────────────────────┘   │ outside 192.0.2.1    │   └────────────────────┘
//!                           └──────────────────────┘
//! ```
//!
//! The underlay is never connected to a network card of the machine. Beside the bridge it plays the
//! world outside: it is the hosts' default gateway (172.10.0.1, fd00:10::1) and answers at 192.0.2.1
//! and 2001:db8::1. Each host has directories and a socket of its own, under `/run/weft-lab/NAME/HOST`,
//! and what its daemon pins (BPF) lies under `/sys/fs/bpf/weft-lab/NAME/HOST`.
//!
//! A lab goes when its [`Lab`] is dropped. If its process is killed first, the next lab that comes up
//! on the machine clears it away: who owns it is written in its directory.

pub mod docker;
mod error;
mod host;
mod lab;
mod namespace;
mod netlink;
mod process;
mod record;

pub use error::Error;
pub use host::Host;
pub use lab::{Container, Lab, LabConfig};
pub use namespace::{in_netns, named as netns_file};
pub use process::{Process, enter};
pub use record::{Owner, check_name};

/// Where the underlay answers as the world outside (documentation range, RFC 5737).
pub const OUTSIDE_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);

/// The same in IPv6 (documentation range, RFC 3849).
pub const OUTSIDE_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
