//! Waits for one container's packet to another on a link of the underlay, and prints it layer by layer.
//!
//! `show_packet NETNS LINK FROM TO`, FROM and TO being the containers' addresses; ends with 1 when
//! none came within ten seconds.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use weft_tests::packet;

/// IANA's port for VXLAN (RFC 7348, section 8).
const PORT: u16 = 4789;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [netns, link, from, to] = words.as_slice() else {
        eprintln!("usage: show_packet NETNS LINK FROM TO");
        return ExitCode::from(2);
    };
    let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else {
        eprintln!("FROM and TO are addresses of containers");
        return ExitCode::from(2);
    };
    let wanted = |vxlan: &packet::Vxlan| vxlan.inner_addresses() == Some((from, to));
    let limit = Duration::from_secs(10);
    match packet::await_vxlan(Path::new(netns), link, PORT, limit, wanted) {
        Ok(Some((frame, vxlan))) => {
            for (depth, line) in packet::layers(&frame, &vxlan).iter().enumerate() {
                println!("{:indent$}{line}", "", indent = depth * 2);
            }
            ExitCode::SUCCESS
        }
        Ok(None) => {
            eprintln!("no such packet on {link} within ten seconds");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot listen to {link} in {netns}: {error}");
            ExitCode::FAILURE
        }
    }
}
