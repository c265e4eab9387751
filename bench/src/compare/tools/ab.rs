//! ab (ApacheBench): a connection for every request.

use super::{Path, Tool, nginx, number_after};

/// Requests under way at once.
const CONCURRENT: &str = "8";

/// Requests per second: connect, ask, be answered, close. Server and client share one core.
///
/// # Errors
/// When the tool or a request fails.
pub(crate) fn rate(path: &Path) -> anyhow::Result<f64> {
    let _server = nginx::serve(&path.server)?;
    let url = format!("http://{}:{}/", path.server.address, nginx::PORT);
    // For one second; the number of requests must only be enough for it.
    let words = ["ab", "-q", "-t", "1", "-n", "1000000", "-c", CONCURRENT, &url];
    parse(&Tool::run(&path.client, 1, &words)?)
}

fn parse(text: &str) -> anyhow::Result<f64> {
    let failed = number_after(text, "Failed requests:")?;
    anyhow::ensure!(failed == 0.0, "{failed} requests failed");
    let rate = number_after(text, "Requests per second:")?;
    anyhow::ensure!(rate > 0.0, "no request was answered");
    Ok(rate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// What ab 2.3 printed.
    const TEXT: &str = include_str!("../samples/ab.txt");

    #[test]
    fn what_ab_prints_is_understood() {
        assert_eq!(parse(TEXT).unwrap(), 5937.76);
    }

    #[test]
    fn failed_requests_are_no_measurement() {
        let failed = TEXT.replace("Failed requests:        0", "Failed requests:        2");
        assert_eq!(parse(&failed).unwrap_err().to_string(), "2 requests failed");
        assert!(parse("apr_socket_connect(): Connection refused (111)").is_err());
    }
}
