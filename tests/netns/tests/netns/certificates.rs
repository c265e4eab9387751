//! Certificates end; clusters must not.
//!
//! ```text
//!  a (server, authority) ◀── Renew ── b      certificates live for 6 s
//! ```

use std::time::Duration;

use weft_tests::{Cluster, Topology, until};

#[test]
fn they_are_renewed_and_a_cluster_that_slept_past_their_end_comes_back() {
    let environment = vec![("WEFT_CERTIFICATE_LIFETIME", "6s")];
    let cluster = Cluster::with("renew", Topology { environment, ..Topology::default() });
    let certificate = |host: &str| {
        let identity = cluster.host(host).state_dir().join("identity");
        std::fs::read_to_string(identity.join("certificate.pem")).unwrap()
    };
    let first = (certificate("a"), certificate("b"));
    until(Duration::from_secs(15), "both certificates are renewed", || {
        certificate("a") != first.0 && certificate("b") != first.1
    });
    // The first ones have ended by now, and the work goes on.
    std::thread::sleep(Duration::from_secs(7));
    cluster.network("web", &["--subnet", "10.3.0.0/24"]);
    let one = cluster.attach("a", "web-1", &["--network", "web"]);
    let two = cluster.attach("b", "web-2", &["--network", "web"]);
    two.ping("web-1");

    cluster.stop_daemon("b");
    cluster.stop_daemon("a");
    std::thread::sleep(Duration::from_secs(8));
    cluster.start_daemon("a");
    cluster.start_daemon("b");
    cluster.wait_until_connected();
    one.ping("web-2");
    cluster.network("later", &[]);
}
