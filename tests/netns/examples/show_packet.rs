//! Waits for a VXLAN packet on a link and prints it layer by layer.
//!
//! `show_packet NETNS LINK [PORT]`; ends with 1 when none came within ten seconds.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use weft_tests::packet;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (netns, link, port) = match words.as_slice() {
        [netns, link] => (netns, link, 4789),
        [netns, link, port] => (netns, link, port.parse().unwrap_or(4789)),
        _ => {
            eprintln!("usage: show_packet NETNS LINK [PORT]");
            return ExitCode::from(2);
        }
    };
    match packet::await_vxlan(Path::new(netns), link, port, Duration::from_secs(10)) {
        Ok(Some((frame, vxlan))) => {
            for (depth, line) in packet::layers(&frame, &vxlan).iter().enumerate() {
                println!("{:indent$}{line}", "", indent = depth * 2);
            }
            ExitCode::SUCCESS
        }
        Ok(None) => {
            eprintln!("no VXLAN packet on {link} within ten seconds");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot listen to {link} in {netns}: {error}");
            ExitCode::FAILURE
        }
    }
}
