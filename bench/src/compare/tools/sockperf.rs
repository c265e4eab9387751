//! sockperf: round trips of small messages over UDP and TCP.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Listens, Path, Tool, number_after};

/// Octets of a message.
const SIZE: &str = "64";

/// For how long a client idles before it begins; there is no flag for less.
const IDLE: Duration = Duration::from_millis(2300);

/// When all clients have begun to idle, and none has ended idling.
const HELD: (Duration, Duration) = (Duration::from_millis(700), Duration::from_millis(1900));

/// What one client says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RoundTrips {
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    /// Round trips per second.
    pub(crate) rate: f64,
}

/// What is to be measured: messages go there and back, one after the other for each client, all ends
/// on one core. So the time is what the processor spends on the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PingPong {
    pub(crate) port: u16,
    pub(crate) tcp: bool,
    pub(crate) clients: u8,
}

/// A server and clients that stand still just before they begin: what else is measured meanwhile
/// does not notice them, and the seconds they idle are not waited for.
#[derive(Debug)]
pub(crate) struct Waiting {
    clients: Vec<Tool>,
    _server: Tool,
    begun: Instant,
}

impl PingPong {
    /// Starts everything, up to where the clients idle.
    ///
    /// # Errors
    /// When something cannot be started.
    pub(crate) fn start(self, path: &Path) -> anyhow::Result<Waiting> {
        let (address, port) = (path.server.address.to_string(), self.port.to_string());
        let mut ends = vec!["-i", &address, "-p", &port];
        if self.tcp {
            ends.push("--tcp");
        }
        let listens = if self.tcp { Listens::Tcp(self.port) } else { Listens::Udp(self.port) };
        let serve = [&["sockperf", "server"], ends.as_slice()].concat();
        let server = Tool::serve(&path.server, 1, &serve, listens)?;
        let more = ["-m", SIZE, "-t", "1", "--full-rtt"];
        let client = [&["sockperf", "ping-pong"], ends.as_slice(), &more].concat();
        let begun = Instant::now();
        let clients: anyhow::Result<Vec<Tool>> =
            (0..self.clients).map(|_| Tool::start(&path.client, 1, &client)).collect();
        Ok(Waiting { clients: clients?, _server: server, begun })
    }
}

impl Waiting {
    /// Lets the clients stand still while they idle.
    ///
    /// # Errors
    /// When the machine is so slow that one may have begun already.
    pub(crate) fn hold(&self) -> anyhow::Result<()> {
        std::thread::sleep(HELD.0.saturating_sub(self.begun.elapsed()));
        for client in &self.clients {
            client.signal(Signal::SIGSTOP)?;
        }
        let took = self.begun.elapsed();
        anyhow::ensure!(took < HELD.1, "the clients needed {took:?} to start");
        Ok(())
    }

    /// Lets all clients begin at once; gives what each says.
    ///
    /// # Errors
    /// When a client fails, or messages get lost.
    pub(crate) fn go(self) -> anyhow::Result<Vec<RoundTrips>> {
        // Their time to idle runs on while they stand still.
        std::thread::sleep(IDLE.saturating_sub(self.begun.elapsed()));
        for client in &self.clients {
            client.signal(Signal::SIGCONT)?;
        }
        self.clients.into_iter().map(|client| parse(&client.finish()?)).collect()
    }
}

fn parse(text: &str) -> anyhow::Result<RoundTrips> {
    let valid = text.lines().find(|line| line.contains("[Valid Duration]")).unwrap_or_default();
    let received = number_after(valid, "ReceivedMessages=")?;
    let dropped = number_after(text, "dropped messages =")?;
    anyhow::ensure!(received > 0.0, "not one message came back");
    anyhow::ensure!(dropped == 0.0, "{dropped} messages were lost");
    Ok(RoundTrips {
        p50: number_after(text, "percentile 50.000 =")?,
        p99: number_after(text, "percentile 99.000 =")?,
        rate: received / number_after(valid, "RunTime=")?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// What sockperf 3.7 printed.
    const TEXT: &str = include_str!("../samples/sockperf.txt");

    #[test]
    fn what_sockperf_prints_is_understood() {
        let rate = 15_725.0 / 0.550;
        assert_eq!(parse(TEXT).unwrap(), RoundTrips { p50: 34.110, p99: 83.012, rate });
    }

    #[test]
    fn losses_and_silence_are_no_measurement() {
        let lost = TEXT.replace("dropped messages = 0", "dropped messages = 3");
        assert_eq!(parse(&lost).unwrap_err().to_string(), "3 messages were lost");
        let silent = TEXT.replace("ReceivedMessages=15725", "ReceivedMessages=0");
        assert_eq!(parse(&silent).unwrap_err().to_string(), "not one message came back");
        assert!(parse("sockperf: No messages were received from the server.").is_err());
    }
}
