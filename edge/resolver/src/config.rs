//! What the resolver is told when it starts.

use std::path::PathBuf;
use std::time::Duration;

/// Where the resolver finds its names, where it is told of new ones, and how much it does at once.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory with the table ([`crate::Client`] writes it) and the lock that makes the
    /// resolver the only one of its node.
    pub state: PathBuf,
    /// Its control socket.
    pub control: PathBuf,
    /// The host's `resolv.conf(5)`: the servers that names not ours are asked of. Read again when
    /// it changes.
    pub resolv_conf: PathBuf,
    /// The port it answers at: 53 but in tests.
    pub port: u16,
    /// The port upstream servers answer at: 53 but in tests.
    pub upstream_port: u16,
    /// The version of the program. A resolver of another version is replaced, one of the same is
    /// left alone.
    pub version: String,
    /// How much it does at once.
    pub limits: Limits,
}

impl Config {
    /// The defaults, for a state directory, a control socket and the program's version.
    pub fn new(state: PathBuf, control: PathBuf, version: &str) -> Self {
        Self {
            state,
            control,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            port: 53,
            upstream_port: 53,
            version: version.to_owned(),
            limits: Limits::default(),
        }
    }
}

/// Bounds, so that one container cannot take what all share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Queries a second that one address may ask for long; twice that in a burst. What is above
    /// is dropped.
    pub queries: u32,
    /// Queries of one address that wait for an upstream server; those above fail (SERVFAIL).
    pub forwards_each: usize,
    /// The same for all together.
    pub forwards: usize,
    /// TCP connections of one address; those above are closed.
    pub connections_each: usize,
    /// The same for all together.
    pub connections: usize,
    /// How long a TCP connection may lie idle, or take over one message (RFC 7766 section 6.2.3).
    pub idle: Duration,
    /// How long an upstream server may take before the next is asked.
    pub patience: Duration,
    /// When a query over UDP is sent once more to the same server: datagrams get lost.
    pub resend: Duration,
    /// How long a server that kept silent is asked last.
    pub distrust: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queries: 10_000,
            forwards_each: 128,
            forwards: 1_024,
            connections_each: 32,
            connections: 512,
            idle: Duration::from_secs(5),
            patience: Duration::from_secs(2),
            resend: Duration::from_millis(700),
            distrust: Duration::from_secs(30),
        }
    }
}
