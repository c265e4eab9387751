//! redis-benchmark: small requests over fifty connections that stay.

use anyhow::Context;

use super::{Listens, Path, Tool};

const PORT: u16 = 6379;
const CLIENTS: &str = "50";
const REQUESTS: &str = "30000";

/// GET requests per second. Server and clients share one core.
///
/// # Errors
/// When the tool fails.
pub(crate) fn rate(path: &Path) -> anyhow::Result<f64> {
    let (address, port) = (path.server.address.to_string(), PORT.to_string());
    let mut serve = vec!["redis-server", "--port", &port, "--bind", &address];
    // In memory only, and for everybody who reaches it.
    serve.extend(["--protected-mode", "no", "--save", "", "--appendonly", "no"]);
    let _server = Tool::serve(&path.server, 1, &serve, Listens::Tcp(PORT))?;
    let mut words = vec!["redis-benchmark", "-h", &address, "-p", &port, "-t", "get", "--csv"];
    words.extend(["-c", CLIENTS, "-n", REQUESTS]);
    parse(&Tool::run(&path.client, 1, &words)?)
}

fn parse(text: &str) -> anyhow::Result<f64> {
    let line = text.lines().find(|line| line.starts_with("\"GET\""));
    let line = line.context("redis-benchmark tells nothing of GET")?;
    let rate = line.split(',').nth(1).map(|field| field.trim_matches('"'));
    let rate: f64 = rate.and_then(|r| r.parse().ok()).context("GET has no rate")?;
    anyhow::ensure!(rate > 0.0, "no request was answered");
    Ok(rate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// What redis-benchmark 7.0 printed.
    const TEXT: &str = include_str!("../samples/redis.csv");

    #[test]
    fn what_redis_benchmark_prints_is_understood() {
        assert_eq!(parse(TEXT).unwrap(), 52_083.33);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "\"GET\"", "\"GET\",\"x\"", "\"GET\",\"0.00\"", "\"SET\",\"5.0\""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
