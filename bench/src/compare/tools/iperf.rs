//! iperf3: streams over TCP, and UDP flows as fast as they go.

use anyhow::Context;
use serde_json::Value;

use super::{Listens, Path, Tool};

const PORT: u16 = 5201;

/// Octets of a UDP payload: fits into one packet on every variant (1,450 less the headers and room
/// for options), so that nothing is fragmented.
const PAYLOAD: &str = "1372";

/// Octets of a write to a TCP stream. With the default of 128 KiB it matters how a write divides into
/// the 64 KiB that the kernel sends at once: that is five packets for two writes where a segment has
/// 1,448 octets, and six where it has 1,398, whatever way they go.
const WRITE: &str = "1M";

/// What flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flows {
    /// TCP streams at once.
    Tcp(u8),
    /// UDP flows at once, nothing held back: what counts is what arrives.
    Udp(u8),
}

/// Gbit/s that arrive, server and client on a core each.
///
/// # Errors
/// When the tool fails.
pub(crate) fn rate(path: &Path, flows: Flows) -> anyhow::Result<f64> {
    let (address, port) = (path.server.address.to_string(), PORT.to_string());
    let serve = ["iperf3", "-s", "-1", "-p", &port];
    let _server = Tool::serve(&path.server, 0, &serve, Listens::Tcp(PORT))?;
    let number = match flows {
        Flows::Tcp(number) | Flows::Udp(number) => number.to_string(),
    };
    let mut words = vec!["iperf3", "-c", &address, "-p", &port, "-P", &number, "-t", "1"];
    words.extend(["-i", "0", "-J"]);
    match flows {
        Flows::Tcp(_) => words.extend(["-l", WRITE]),
        Flows::Udp(_) => words.extend(["-u", "-b", "0", "-l", PAYLOAD]),
    }
    parse(&Tool::run(&path.client, 1, &words)?)
}

fn parse(text: &str) -> anyhow::Result<f64> {
    // A warning may stand before the JSON.
    let json = text.find('{').map_or("", |begin| &text[begin..]);
    let answer: Value = serde_json::from_str(json).context("iperf3 did not print JSON")?;
    if let Some(error) = answer["error"].as_str() {
        anyhow::bail!("iperf3: {error}");
    }
    // What the server counted: for UDP, without what was lost on the way.
    let received = &answer["end"]["sum_received"]["bits_per_second"];
    let rate = received.as_f64().context("iperf3 tells no received rate")?;
    anyhow::ensure!(rate > 0.0, "nothing arrived");
    Ok(rate / 1e9)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// What iperf3 3.12 printed, shortened.
    const TCP: &str = include_str!("../samples/iperf-tcp-8.json");
    const UDP: &str = include_str!("../samples/iperf-udp-8.json");

    #[test]
    fn what_iperf_prints_is_understood() {
        let rounded = |text: &str| format!("{:.4}", parse(text).unwrap());
        assert_eq!(rounded(TCP), "11.2309");
        assert_eq!(rounded(UDP), "0.6360");
        assert_eq!(rounded(&format!("warning: x\n{UDP}")), "0.6360");
    }

    #[test]
    fn failures_are_told() {
        let refused = r#"{"start":{},"end":{},"error":"unable to connect to server: refused"}"#;
        let wrong = |text| format!("{:#}", parse(text).unwrap_err());
        assert_eq!(wrong(refused), "iperf3: unable to connect to server: refused");
        assert!(wrong("").contains("did not print JSON"));
        assert!(wrong("{}").contains("no received rate"));
        let nothing = r#"{"end":{"sum_received":{"bits_per_second":0}}}"#;
        assert_eq!(wrong(nothing), "nothing arrived");
    }
}
