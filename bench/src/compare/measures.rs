//! What is measured of each variant.

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::tools::iperf::Flows;
use super::tools::sockperf::{PingPong, RoundTrips, Waiting};
use super::tools::{Path, ab, iperf, redis};
use super::variants::Group;

/// Something to measure: one run of one tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Measure {
    /// 64 octets there and back over UDP.
    Udp,
    /// 64 octets there and back over TCP.
    Tcp,
    /// 32 clients at once, each as with udp.
    #[value(name = "udp-32")]
    Udp32,
    /// Connect, request, answer, close.
    Http,
    /// GET over 50 connections.
    Redis,
    /// One TCP stream.
    #[value(name = "stream-1")]
    Stream1,
    /// Eight TCP streams.
    #[value(name = "stream-8")]
    Stream8,
    /// One UDP flow.
    #[value(name = "flows-1")]
    Flows1,
    /// Eight UDP flows.
    #[value(name = "flows-8")]
    Flows8,
    /// Thirty-two UDP flows.
    #[value(name = "flows-32")]
    Flows32,
}

/// What a measure yields: one figure, with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    UdpP50,
    UdpP99,
    TcpP50,
    TcpP99,
    #[serde(rename = "udp-32")]
    Udp32,
    Http,
    Redis,
    #[serde(rename = "stream-1")]
    Stream1,
    #[serde(rename = "stream-8")]
    Stream8,
    #[serde(rename = "flows-1")]
    Flows1,
    #[serde(rename = "flows-8")]
    Flows8,
    #[serde(rename = "flows-32")]
    Flows32,
}

/// Measures that are taken of one variant before the next one's turn. They are few, so that all
/// variants of a block see the same machine; and a daemon need not be set anew for each.
pub(crate) const BLOCKS: [&[Measure]; 2] = [
    // Those that are started beforehand come last.
    &[Measure::Http, Measure::Redis, Measure::Udp, Measure::Tcp, Measure::Udp32],
    &[Measure::Stream1, Measure::Stream8, Measure::Flows1, Measure::Flows8, Measure::Flows32],
];

impl Measure {
    /// Whether it is taken of the variants of a group: within a host, and for what is known, round
    /// trips tell everything.
    pub(crate) const fn is_of(self, group: Group) -> bool {
        match group {
            Group::Hosts => true,
            Group::Local | Group::Known => matches!(self, Self::Udp | Self::Tcp),
        }
    }

    /// What is to be started beforehand; `None`: nothing.
    pub(crate) const fn beforehand(self) -> Option<PingPong> {
        match self {
            Self::Udp => Some(PingPong { port: 11_111, tcp: false, clients: 1 }),
            Self::Tcp => Some(PingPong { port: 11_112, tcp: true, clients: 1 }),
            Self::Udp32 => Some(PingPong { port: 11_113, tcp: false, clients: 32 }),
            _ => None,
        }
    }

    /// Takes it once. What was started beforehand goes on; when nothing was, it is started now.
    ///
    /// # Errors
    /// When a tool fails.
    pub(crate) fn take(
        self,
        path: &Path,
        waiting: Option<Waiting>,
    ) -> anyhow::Result<Vec<(Figure, f64)>> {
        let one = |trips: Vec<RoundTrips>, p50, p99| {
            let trip = trips.first().context("no client")?;
            anyhow::Ok(vec![(p50, trip.p50), (p99, trip.p99)])
        };
        let flows = |flows, figure| anyhow::Ok(vec![(figure, iperf::rate(path, flows)?)]);
        match self {
            Self::Udp => one(self.trips(path, waiting)?, Figure::UdpP50, Figure::UdpP99),
            Self::Tcp => one(self.trips(path, waiting)?, Figure::TcpP50, Figure::TcpP99),
            Self::Udp32 => {
                let rate: f64 = self.trips(path, waiting)?.iter().map(|t| t.rate).sum();
                Ok(vec![(Figure::Udp32, rate / 1e3)])
            }
            Self::Http => Ok(vec![(Figure::Http, ab::rate(path)? / 1e3)]),
            Self::Redis => Ok(vec![(Figure::Redis, redis::rate(path)? / 1e3)]),
            Self::Stream1 => flows(Flows::Tcp(1), Figure::Stream1),
            Self::Stream8 => flows(Flows::Tcp(8), Figure::Stream8),
            Self::Flows1 => flows(Flows::Udp(1), Figure::Flows1),
            Self::Flows8 => flows(Flows::Udp(8), Figure::Flows8),
            Self::Flows32 => flows(Flows::Udp(32), Figure::Flows32),
        }
    }

    fn trips(self, path: &Path, waiting: Option<Waiting>) -> anyhow::Result<Vec<RoundTrips>> {
        match (waiting, self.beforehand()) {
            (Some(waiting), _) => waiting.go(),
            (None, Some(ping_pong)) => ping_pong.start(path)?.go(),
            (None, None) => anyhow::bail!("{self:?} is no round trip"),
        }
    }
}

impl Figure {
    /// All of them, in the order of tables.
    pub(crate) const ALL: [Self; 12] = [
        Self::UdpP50,
        Self::UdpP99,
        Self::TcpP50,
        Self::TcpP99,
        Self::Udp32,
        Self::Http,
        Self::Redis,
        Self::Stream1,
        Self::Stream8,
        Self::Flows1,
        Self::Flows8,
        Self::Flows32,
    ];

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::UdpP50 => "UDP round trip, 64 B, p50",
            Self::UdpP99 => "UDP round trip, 64 B, p99",
            Self::TcpP50 => "TCP round trip, 64 B, p50",
            Self::TcpP99 => "TCP round trip, 64 B, p99",
            Self::Udp32 => "UDP round trips, 32 clients at once",
            Self::Http => "HTTP: connect, request, close",
            Self::Redis => "redis GET, 50 clients",
            Self::Stream1 => "TCP stream",
            Self::Stream8 => "TCP, 8 streams",
            Self::Flows1 => "UDP flow",
            Self::Flows8 => "UDP, 8 flows",
            Self::Flows32 => "UDP, 32 flows",
        }
    }

    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::UdpP50 | Self::UdpP99 | Self::TcpP50 | Self::TcpP99 => "µs",
            Self::Udp32 | Self::Http | Self::Redis => "k/s",
            _ => "Gbit/s",
        }
    }

    /// Whether less is better: times, not rates.
    pub(crate) const fn is_time(self) -> bool {
        matches!(self, Self::UdpP50 | Self::UdpP99 | Self::TcpP50 | Self::TcpP99)
    }

    /// With as many digits as mean something.
    pub(crate) fn show(self, value: f64) -> String {
        let digits = if value < 10.0 { 2 } else { 1 };
        format!("{value:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_is_in_one_block_and_those_that_wait_come_last() {
        let mut all: Vec<Measure> = BLOCKS.iter().flat_map(|block| block.iter().copied()).collect();
        all.sort();
        assert_eq!(all, Measure::value_variants());
        for block in BLOCKS {
            assert!(block.is_sorted_by_key(|m| m.beforehand().is_some()), "{block:?}");
        }
    }

    #[test]
    fn figures_have_digits_that_mean_something() {
        assert_eq!(Figure::UdpP50.show(23.44), "23.4");
        assert_eq!(Figure::Http.show(8.126), "8.13");
    }
}
