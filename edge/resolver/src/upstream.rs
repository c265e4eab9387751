//! The servers that names not ours are asked of: those of the host's `resolv.conf(5)`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::net::if_::if_nametoindex;

/// How many servers are used, as in the C library (`MAXNS`).
const MOST: usize = 3;
/// How much of the file is read; more is not a list of servers.
const FILE: usize = 64 << 10;
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The servers, in the order to ask them.
#[derive(Debug)]
pub(crate) struct Upstreams {
    path: PathBuf,
    port: u16,
    distrust: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
    servers: Vec<SocketAddr>,
    /// Servers that kept silent, and until when they are asked last.
    silent: BTreeMap<SocketAddr, Instant>,
}

impl Upstreams {
    pub(crate) fn new(path: PathBuf, port: u16, distrust: Duration) -> Self {
        Self { path, port, distrust, state: Mutex::default() }
    }

    /// The servers, those that answered lately first. When the file cannot be read, those that
    /// were known stay.
    pub(crate) fn servers(&self, now: Instant) -> Vec<SocketAddr> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK) {
            state.looked = Some(now);
            self.look(&mut state);
        }
        state.silent.retain(|_, until| *until > now);
        let mut servers = state.servers.clone();
        servers.sort_by_key(|server| state.silent.contains_key(server));
        servers
    }

    /// Remembers that a server kept silent, or that it answered.
    pub(crate) fn heard(&self, server: SocketAddr, answered: bool, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            state.silent.remove(&server);
        } else {
            state.silent.insert(server, now + self.distrust);
        }
    }

    fn look(&self, state: &mut State) {
        let stamp =
            std::fs::metadata(&self.path).and_then(|meta| Ok((meta.modified()?, meta.len()))).ok();
        if stamp.is_none() || stamp == state.stamp {
            return;
        }
        if let Ok(bytes) = std::fs::read(&self.path) {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(FILE)]);
            state.servers = parse(&text, self.port);
            state.stamp = stamp;
            tracing::info!(servers = ?state.servers, path = %self.path.display(), "upstream servers");
        }
    }
}

/// The servers that a `resolv.conf` names. Everything else in it is passed over, and so is what
/// cannot be a server's address.
fn parse(text: &str, port: u16) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(server) = words.next().and_then(|word| server(word, port)) else { continue };
        if servers.len() < MOST && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

fn server(word: &str, port: u16) -> Option<SocketAddr> {
    if let Some((address, link)) = word.split_once('%') {
        let scope = link.parse().ok().or_else(|| if_nametoindex(link).ok())?;
        return Some(SocketAddrV6::new(address.parse().ok()?, port, 0, scope).into());
    }
    let address: IpAddr = word.parse().ok()?;
    let usable = !address.is_unspecified() && !address.is_multicast();
    usable.then_some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        parse(text, 53).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn junk_is_passed_over() {
        assert_eq!(
            list(
                "# comment\n; nameserver 9.9.9.9\nnameserver 192.0.2.1 # trailing\n\
                 nameserver\nnameserver not-an-address\nnameserver 300.1.1.1\n\
                 nameserver 0.0.0.0\nnameserver ff02::fb\nnameserver\t2001:db8::53\r\n\
                 Nameserver 192.0.2.9\nsearch example.com\noptions ndots:5\n\u{fffd}\u{0}\n\
                 nameserver 192.0.2.1\n nameserver fe80::1%lo\nnameserver fe80::1%nolink\n\
                 nameserver 192.0.2.4\n"
            ),
            ["192.0.2.1:53", "[2001:db8::53]:53", "[fe80::1%1]:53"]
        );
        assert_eq!(list(""), Vec::<String>::new());
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_vanished_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let upstreams = Upstreams::new(path.clone(), 53, Duration::from_secs(30));
        let start = Instant::now();
        assert!(upstreams.servers(start).is_empty());
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let known = |after: u64| upstreams.servers(start + Duration::from_secs(after));
        assert!(known(0).is_empty(), "looked at once a second only");
        assert_eq!(known(1), ["192.0.2.1:53".parse().unwrap()]);
        std::fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        assert_eq!(known(2).len(), 2);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(known(3).len(), 2);
    }

    #[test]
    fn a_silent_server_is_asked_last_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        let upstreams = Upstreams::new(path, 53, Duration::from_secs(30));
        let start = Instant::now();
        let (one, two) = ("192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        upstreams.heard(one, false, start);
        assert_eq!(upstreams.servers(start), [two, one]);
        assert_eq!(upstreams.servers(start + Duration::from_secs(31)), [one, two]);
        upstreams.heard(one, false, start);
        upstreams.heard(one, true, start);
        assert_eq!(upstreams.servers(start), [one, two]);
    }
}
