//! Keeps floods out of a socket's queue, which all askers of a bridge share: what one of them
//! fills it with, others lose. Dropping after reading is too late, so the kernel is told to drop
//! before queueing, by source address, for a moment.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long a source is shut out the first time. Each time it goes on right after, twice as long.
const TERM: Duration = Duration::from_millis(200);
/// The longest that it becomes.
const LONGEST: Duration = Duration::from_millis(3_200);
/// How many can be shut out, or remembered, at once; a filter's length has an end.
const MOST: usize = 64;

/// The sources shut out of one socket.
#[derive(Debug, Default)]
pub(crate) struct Penalties(BTreeMap<IpAddr, Penalty>);

#[derive(Debug, Clone, Copy)]
struct Penalty {
    term: Duration,
    end: Instant,
    /// Whether it is over, and only remembered for as long again.
    over: bool,
}

impl Penalties {
    /// Shuts a source out, beginning now.
    ///
    /// # Errors
    /// If the kernel does not take the filter: then nothing changed.
    pub(crate) fn shut_out(
        &mut self,
        socket: &impl AsFd,
        source: IpAddr,
        now: Instant,
    ) -> io::Result<()> {
        let before = self.0.get(&source).copied();
        if before.map_or(self.0.len() >= MOST, |penalty| !penalty.over) {
            return Ok(());
        }
        let term = before.map_or(TERM, |penalty| (2 * penalty.term).min(LONGEST));
        let mut penalties = self.0.clone();
        penalties.insert(source, Penalty { term, end: now + term, over: false });
        self.set(socket, penalties)
    }

    /// Lets those in again whose term is over.
    ///
    /// # Errors
    /// If the kernel does not take the filter: then nothing changed.
    pub(crate) fn let_in(&mut self, socket: &impl AsFd, now: Instant) -> io::Result<()> {
        let mut penalties = self.0.clone();
        penalties.retain(|_, penalty| !penalty.over || penalty.end > now);
        for penalty in penalties.values_mut().filter(|penalty| penalty.end <= now) {
            *penalty = Penalty { term: penalty.term, end: now + penalty.term, over: true };
        }
        self.set(socket, penalties)
    }

    /// When there is something to do next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().map(|penalty| penalty.end).min()
    }

    fn set(&mut self, socket: &impl AsFd, penalties: BTreeMap<IpAddr, Penalty>) -> io::Result<()> {
        let out = penalties.iter().filter(|(_, penalty)| !penalty.over);
        filter(socket, out.map(|(source, _)| source))?;
        self.0 = penalties;
        Ok(())
    }
}

/// Has the kernel drop what comes from these sources; from nobody, if there are none.
fn filter<'a>(socket: &impl AsFd, sources: impl Iterator<Item = &'a IpAddr>) -> io::Result<()> {
    let mut code = program(sources);
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    // SAFETY: the descriptor is open; the kernel copies the program, whose length and instructions
    // are valid and outlive the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A program of the classic packet filter (`Documentation/networking/filter.rst`): compares the IP
/// header's source address, word by word.
fn program<'a>(sources: impl Iterator<Item = &'a IpAddr>) -> Vec<libc::sock_filter> {
    let mut code = Vec::new();
    for source in sources {
        let (offset, octets): (u32, Vec<u8>) = match source {
            IpAddr::V4(address) => (12, address.octets().to_vec()),
            IpAddr::V6(address) => (8, address.octets().to_vec()),
        };
        let words = octets.as_chunks::<4>().0;
        for (n, word) in words.iter().enumerate() {
            let field = (libc::SKF_NET_OFF as u32).wrapping_add(offset + 4 * n as u32);
            code.push(op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, field));
            let left = 2 * (words.len() - n) - 1;
            let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
            code.push(op(equal, left as u8, u32::from_be_bytes(*word)));
        }
        code.push(op(libc::BPF_RET | libc::BPF_K, 0, 0));
    }
    code.push(op(libc::BPF_RET | libc::BPF_K, 0, u32::MAX));
    code
}

/// One instruction; `other` is how many to skip when a comparison fails.
fn op(code: u32, other: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: other, k }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// Who of these loopback addresses gets through to the socket.
    fn heard(socket: &UdpSocket, from: &[&str]) -> Vec<String> {
        let to = socket.local_addr().unwrap();
        for source in from {
            let sender = UdpSocket::bind((*source, 0)).unwrap();
            sender.send_to(source.as_bytes(), to).unwrap();
        }
        let mut buffer = [0; 100];
        let mut heard = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        heard
    }

    fn open(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[test]
    fn only_those_shut_out_are_not_heard_and_only_for_their_term() {
        let socket = open("127.0.53.30");
        let (bad, worse, good) = ("127.0.53.31", "127.0.53.32", "127.0.53.33");
        let all = [bad, good, worse];
        let mut penalties = Penalties::default();
        let start = Instant::now();
        assert_eq!(heard(&socket, &all), all);
        penalties.shut_out(&socket, bad.parse().unwrap(), start).unwrap();
        assert_eq!(heard(&socket, &all), [good, worse]);
        let later = start + TERM / 2;
        penalties.shut_out(&socket, worse.parse().unwrap(), later).unwrap();
        assert_eq!(heard(&socket, &all), [good]);
        assert_eq!(penalties.next(), Some(start + TERM));
        penalties.let_in(&socket, start + TERM).unwrap();
        assert_eq!(heard(&socket, &all), [bad, good]);
        penalties.let_in(&socket, later + TERM).unwrap();
        assert_eq!(heard(&socket, &all), all);
    }

    #[test]
    fn who_goes_on_is_shut_out_longer_and_who_stops_is_forgotten() {
        let socket = open("127.0.53.34");
        let bad: IpAddr = "127.0.53.35".parse().unwrap();
        let mut penalties = Penalties::default();
        let mut now = Instant::now();
        for term in [200, 400, 800, 1_600, 3_200, 3_200] {
            penalties.shut_out(&socket, bad, now).unwrap();
            penalties.shut_out(&socket, bad, now).unwrap();
            assert_eq!(penalties.next(), Some(now + Duration::from_millis(term)));
            now += Duration::from_millis(term);
            assert!(heard(&socket, &["127.0.53.35"]).is_empty());
            penalties.let_in(&socket, now).unwrap();
            assert_eq!(heard(&socket, &["127.0.53.35"]).len(), 1);
        }
        penalties.let_in(&socket, now + LONGEST).unwrap();
        assert_eq!(penalties.next(), None);
    }

    #[test]
    fn all_words_of_an_ipv6_address_count() {
        let socket = open("::1");
        let mut penalties = Penalties::default();
        let now = Instant::now();
        for other in ["::2", "::1:0:1", "0:0:1::1", "1::1"] {
            penalties.shut_out(&socket, other.parse().unwrap(), now).unwrap();
        }
        assert_eq!(heard(&socket, &["::1"]), ["::1"]);
        penalties.shut_out(&socket, "::1".parse().unwrap(), now).unwrap();
        assert!(heard(&socket, &["::1"]).is_empty());
    }

    #[test]
    fn as_many_as_can_be_and_no_more() {
        for address in ["127.0.0.1", "::1"] {
            let socket = open(address);
            let mut penalties = Penalties::default();
            for n in 0..2 * MOST as u16 {
                let source = match address {
                    "::1" => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]),
                    _ => IpAddr::from([10, 3, 0, n as u8]),
                };
                penalties.shut_out(&socket, source, Instant::now()).unwrap();
            }
            assert_eq!(penalties.0.len(), MOST);
            assert_eq!(heard(&socket, &[address]), [address]);
        }
    }
}
