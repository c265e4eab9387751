//! A name server of the outside.

use std::net::UdpSocket;
use std::path::Path;

/// What the hosts and engines of a story with an upstream have as `/etc/resolv.conf`.
pub(crate) const RESOLV_CONF: &str = "nameserver 192.0.2.1\n";

/// The address of every name in `example.com`.
pub const OUTSIDE: &str = "192.0.2.53";

/// Begins to answer on the underlay: names in `example.com` have [`OUTSIDE`], and there are no others.
#[track_caller]
pub(crate) fn begin(underlay: &Path) {
    let socket = weft_lab::in_netns(underlay, || UdpSocket::bind("192.0.2.1:53"));
    let socket = socket.unwrap_or_else(|e| panic!("no name server on the underlay: {e}"));
    // Ends with the process: it has nothing to tidy up.
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, who)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length]) {
                let _ = socket.send_to(&answer, who);
            }
        }
    });
}

/// The answer to a query (RFC 1035, section 4.1); `None` when that is none.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    while *query.get(at)? != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..end)?).to_ascii_lowercase());
        at = end;
    }
    let question = query.get(12..at + 5)?;
    let is_known = labels.join(".").ends_with("example.com");
    let is_a = question.ends_with(&[0, 1, 0, 1]);
    let (code, count) = (if is_known { 0x80 } else { 0x83 }, u8::from(is_known && is_a));
    let header = [query[0], query[1], 0x81, code, 0, 1, 0, count, 0, 0, 0, 0];
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53];
    let record = if count == 1 { &record[..] } else { &[] };
    Some([&header, question, record].concat())
}
