//! A stream of numbered datagrams that notices every one that gets lost.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::RcvBufForce;

/// Between two datagrams: 1,000 a second.
const PACE: Duration = Duration::from_millis(1);

/// Octets that may wait for the receiver; the kernel counts about 800 for a datagram.
const ROOM: usize = 8_000_000;

/// A stream of numbered datagrams, 1,000 a second, from one namespace to another.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<(BTreeSet<u64>, u64, Duration)>,
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Datagrams sent.
    pub sent: u64,
    /// Of those, how many never arrived.
    pub lost: u64,
    /// Which: first and last of each run. One is sent every millisecond.
    pub lost_runs: Vec<(u64, u64)>,
    /// How many arrived more than once.
    pub duplicates: u64,
    /// The longest time during which none arrived.
    pub longest_gap: Duration,
}

impl Probe {
    /// Begins to send from the namespace at `from` to `target`, an address of the one at `to`.
    ///
    /// # Panics
    /// When the sockets cannot be had.
    #[track_caller]
    pub fn begin(from: &Path, to: &Path, target: IpAddr) -> Self {
        let bound = weft_lab::in_netns(to, move || UdpSocket::bind(SocketAddr::new(target, 0)));
        let receiver = bound.unwrap_or_else(|e| panic!("cannot receive at {target}: {e}"));
        // A receiver that the machine lets wait for a second loses nothing by that.
        let room = nix::sys::socket::setsockopt(&receiver, RcvBufForce, &ROOM);
        room.unwrap_or_else(|e| panic!("no room to receive: {e}"));
        let address = receiver.local_addr();
        let address = address.unwrap_or_else(|e| panic!("no address: {e}"));
        let connected = weft_lab::in_netns(from, move || {
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            Ok(socket)
        });
        let sender = connected.unwrap_or_else(|e| panic!("cannot send to {target}: {e}"));
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_sending, stop_receiving) = (stop.clone(), stop.clone());
        Self {
            stop,
            sender: std::thread::spawn(move || send(&sender, &stop_sending)),
            receiver: std::thread::spawn(move || receive(&receiver, &stop_receiving)),
        }
    }

    /// Ends, and tells what became of the stream.
    ///
    /// # Panics
    /// When a thread panicked.
    pub fn end(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (seen, duplicates, longest_gap) =
            self.receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut lost_runs: Vec<(u64, u64)> = Vec::new();
        for number in (0..sent).filter(|n| !seen.contains(n)) {
            match lost_runs.last_mut() {
                Some(run) if run.1 + 1 == number => run.1 = number,
                _ => lost_runs.push((number, number)),
            }
        }
        let lost = lost_runs.iter().map(|(first, last)| last - first + 1).sum();
        Report { sent, lost, lost_runs, duplicates, longest_gap }
    }
}

impl Report {
    /// Panics unless all arrived, once.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(self.sent > 100, "the stream was too short to tell anything: {self:?}");
        assert_eq!((self.lost, self.duplicates), (0, 0), "{self:?}");
    }
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let begin = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // What the kernel refuses to send is lost, and counted as that by the other side.
        let _ = socket.send(&u64::to_be_bytes(number));
        number += 1;
        let due = begin + PACE * u32::try_from(number).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    number
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> (BTreeSet<u64>, u64, Duration) {
    let (mut seen, mut duplicates, mut longest) = (BTreeSet::new(), 0, Duration::ZERO);
    let mut last = Instant::now();
    let mut buffer = [0; 16];
    let _ = socket.set_read_timeout(Some(Duration::from_millis(200)));
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) => {
                let number = buffer[..8].try_into().map(u64::from_be_bytes).unwrap_or_default();
                duplicates += u64::from(!seen.insert(number));
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            Ok(_) => {}
            // Nothing for a while after the end: all that will arrive has arrived.
            Err(_) if stop.load(Ordering::Relaxed) => return (seen, duplicates, longest),
            Err(_) => longest = longest.max(last.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_loopback_nothing_is_lost() {
        let here = Path::new("/proc/self/ns/net");
        let probe = Probe::begin(here, here, IpAddr::from([127, 0, 0, 1]));
        std::thread::sleep(Duration::from_millis(500));
        let report = probe.end();
        report.assert_nothing_lost();
        assert!(report.sent > 300, "{report:?}");
    }

    #[test]
    fn what_is_lost_is_counted() {
        let here = Path::new("/proc/self/ns/net");
        let probe = Probe::begin(here, here, IpAddr::from([127, 0, 0, 1]));
        std::thread::sleep(Duration::from_millis(300));
        let mut report = probe.end();
        report.lost += 1;
        assert!(std::panic::catch_unwind(|| report.assert_nothing_lost()).is_err());
    }
}
