//! Names of the outside are asked of the host's own servers; names of networks never are.
//!
//! ```text
//!          a                      b               underlay
//!  ┌───────────────┐      ┌───────────────┐   ┌────────────────────┐
//!  │ web-1   vault │      │ web-2         │   │ 192.0.2.1:53 (DNS) │
//!  └───────────────┘      └───────────────┘   └────────────────────┘
//!     web: 10.3.0.0/24        vault: internal
//! ```

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

use weft_tests::{Cluster, Topology};

/// A name server on the underlay: every name has the address 192.0.2.53. Gives what it was asked for.
fn upstream(cluster: &Cluster) -> Arc<Mutex<Vec<String>>> {
    let socket = weft_lab::in_netns(&cluster.lab().underlay(), || UdpSocket::bind("192.0.2.1:53"));
    let socket = socket.unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    // Ends with the process: it has nothing to tidy up.
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, who)) = socket.recv_from(&mut query) {
            let (name, answer) = answer(&query[..length]);
            heard.lock().unwrap().push(name);
            socket.send_to(&answer, who).unwrap();
        }
    });
    asked
}

/// The name that was asked for, and an answer (RFC 1035, section 4.1).
fn answer(query: &[u8]) -> (String, Vec<u8>) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
    let header = [query[0], query[1], 0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
    let record: &[u8] =
        if is_a { &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53] } else { &[] };
    (labels.join("."), [&header, question, record].concat())
}

#[test]
fn names_of_the_outside_are_forwarded_and_names_of_networks_are_not() {
    let resolv_conf = Some("nameserver 192.0.2.1\n".to_owned());
    let cluster = Cluster::with("outside", Topology { resolv_conf, ..Topology::default() });
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    cluster.network("vault", &["--subnet", "10.5.0.0/24", "--internal"]);
    let asked = upstream(&cluster);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    let shut = cluster.attach("a", "shut", &["--network", "vault"]);

    assert_eq!(one.dig("www.example.com", "A"), ["192.0.2.53"]);
    assert!(one.dig("www.example.com", "AAAA").is_empty());
    assert_eq!(two.dig("www.example.org", "A"), ["192.0.2.53"]);
    // From an internal network nothing goes out, not even a question.
    assert!(shut.dig("secret.example.com", "A").is_empty());
    // What is ours is answered here, also when there is no such thing.
    assert_eq!(one.dig("web-2", "A"), [two.v4().to_string()]);
    assert_eq!(one.dig("web-2.web", "A"), [two.v4().to_string()]);
    assert!(one.dig("nobody.web", "A").is_empty());
    assert!(one.dig("web-2", "AAAA").is_empty());
    one.run(&["dig", "+short", "+tries=1", "+time=1", "-x", "10.3.0.77"]);

    let mut heard = asked.lock().unwrap().clone();
    heard.sort();
    heard.dedup();
    assert_eq!(heard, ["www.example.com", "www.example.org"]);
}
