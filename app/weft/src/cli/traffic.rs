//! What was sent and received and dropped, and how the shortcut is: for people and for programs.

use serde_json::{Value, json};
use weft_rpc::wire;

use super::output;

/// The shortcut in a few words, or why there is none.
pub(super) fn shortcut(status: &wire::ShortcutStatus) -> String {
    match status.state.as_str() {
        "on" if status.waiting > 0 => {
            format!("on ({}), {} programs are yet to be attached", status.hook, status.waiting)
        }
        "on" => format!("on ({})", status.hook),
        "off" => "off (a setting)".to_owned(),
        _ if status.hint.is_empty() => format!("NOT AVAILABLE: {}", status.reason),
        _ => format!("NOT AVAILABLE: {} (hint: {})", status.reason, status.hint),
    }
}

/// What went by which path, network by network.
pub(super) fn networks(status: &wire::ShortcutStatus) -> String {
    if !status.traffic_error.is_empty() {
        return format!("\nWhat containers sent is not known: {}\n", status.traffic_error);
    }
    let mut text = String::new();
    if !status.networks.is_empty() {
        text.push_str("\nFrames of the containers here (octets):\n");
        let lines = status.networks.iter().map(|network| {
            let counts = network.traffic.clone().unwrap_or_default();
            let mut line = vec![network.network_name.clone()];
            line.extend(PATHS.iter().map(|path| count((path.of)(&counts))));
            line.push(sum(&counts.dropped));
            line
        });
        let mut headings = vec!["NETWORK"];
        headings.extend(PATHS.iter().map(|path| path.heading));
        headings.push("DROPPED");
        text.push_str(&output::table(&headings, lines));
    }
    for network in &status.networks {
        let (name, counts) = (&network.network_name, network.traffic.clone().unwrap_or_default());
        text.push_str(&reasons(&format!("Dropped of {name}'s containers"), &counts.dropped));
        let between = format!("Dropped of {name} on the way from or to other hosts");
        text.push_str(&reasons(&between, &network.underlay_dropped));
    }
    text.push_str(&reasons("Dropped by the host's own filters", &status.underlay_dropped));
    text
}

/// What one endpoint sent and received.
pub(super) fn endpoint(counts: &wire::Traffic) -> String {
    let lines = [("sent", &PATHS[..2]), ("received", &PATHS[2..])].map(|(direction, paths)| {
        let cells = paths.iter().map(|path| count((path.of)(counts)));
        std::iter::once(direction.to_owned()).chain(cells).collect()
    });
    let headings = ["FRAMES (OCTETS)", "BY SHORTCUT", "BY BRIDGE PATH"];
    let table = output::table(&headings, lines);
    format!("\n{table}{}", reasons("Dropped", &counts.dropped))
}

/// One direction on one path.
struct Path {
    heading: &'static str,
    of: fn(&wire::Traffic) -> Option<wire::Count>,
}

const PATHS: [Path; 4] = [
    Path { heading: "SENT BY SHORTCUT", of: |t| t.sent_shortcut },
    Path { heading: "BY BRIDGE PATH", of: |t| t.sent_bridge },
    Path { heading: "RECEIVED BY SHORTCUT", of: |t| t.received_shortcut },
    Path { heading: "BY BRIDGE PATH", of: |t| t.received_bridge },
];

/// Frames, and their octets in brackets.
fn count(count: Option<wire::Count>) -> String {
    let count = count.unwrap_or_default();
    format!("{} ({})", count.packets, octets(count.bytes))
}

/// Octets with a decimal unit, three digits at least.
fn octets(octets: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut whole, mut rest, mut unit) = (octets, 0, 0);
    while whole >= 10_000 && unit + 1 < UNITS.len() {
        (rest, whole, unit) = (whole % 1_000 / 100, whole / 1_000, unit + 1);
    }
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    if whole < 100 && unit != "B" {
        format!("{whole}.{rest} {unit}")
    } else {
        format!("{whole} {unit}")
    }
}

fn sum(dropped: &[wire::Dropped]) -> String {
    let packets = dropped.iter().filter_map(|d| d.count).map(|c| c.packets);
    packets.fold(0, u64::saturating_add).to_string()
}

fn reasons(heading: &str, dropped: &[wire::Dropped]) -> String {
    if dropped.is_empty() {
        return String::new();
    }
    let lines = dropped.iter().map(|d| format!("  {}: {}\n", d.words, count(d.count)));
    format!("\n{heading}:\n{}", lines.collect::<String>())
}

/// The shortcut, for programs.
pub(super) fn shortcut_json(status: &wire::ShortcutStatus) -> Value {
    let networks = status.networks.iter().map(|n| {
        let mut value = endpoint_json(&n.traffic.clone().unwrap_or_default());
        value["id"] = json!(n.network_id);
        value["name"] = json!(n.network_name);
        value["underlay_dropped"] = dropped_json(&n.underlay_dropped);
        value
    });
    json!({
        "state": status.state,
        "hook": status.hook,
        "reason": status.reason,
        "hint": status.hint,
        "waiting": status.waiting,
        "unattached": status.unattached,
        "traffic_error": status.traffic_error,
        "networks": networks.collect::<Value>(),
        "underlay_dropped": dropped_json(&status.underlay_dropped),
    })
}

/// What one endpoint sent and received, for programs.
pub(super) fn endpoint_json(counts: &wire::Traffic) -> Value {
    json!({
        "sent": {
            "shortcut": count_json(counts.sent_shortcut),
            "bridge": count_json(counts.sent_bridge),
        },
        "received": {
            "shortcut": count_json(counts.received_shortcut),
            "bridge": count_json(counts.received_bridge),
        },
        "dropped": dropped_json(&counts.dropped),
    })
}

fn count_json(count: Option<wire::Count>) -> Value {
    let count = count.unwrap_or_default();
    json!({ "packets": count.packets, "bytes": count.bytes })
}

fn dropped_json(dropped: &[wire::Dropped]) -> Value {
    let one = |d: &wire::Dropped| {
        let mut value = count_json(d.count);
        value["reason"] = json!(d.reason);
        value["message"] = json!(d.words);
        value
    };
    dropped.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(packets: u64, bytes: u64) -> Option<wire::Count> {
        Some(wire::Count { packets, bytes })
    }

    fn traffic() -> wire::Traffic {
        wire::Traffic {
            sent_shortcut: some(3, 294),
            sent_bridge: some(1, 42),
            received_shortcut: some(12_000, 18_120_000),
            received_bridge: None,
            dropped: vec![wire::Dropped {
                reason: "not_its_mac".into(),
                words: "not its MAC".into(),
                count: some(2, 120),
            }],
        }
    }

    fn status() -> wire::ShortcutStatus {
        wire::ShortcutStatus {
            state: "on".into(),
            hook: "tcx".into(),
            networks: vec![wire::NetworkTraffic {
                network_id: "0000000000000007".into(),
                network_name: "web".into(),
                traffic: Some(traffic()),
                underlay_dropped: vec![wire::Dropped {
                    reason: "not_a_member".into(),
                    words: "not from a member".into(),
                    count: some(4, 400),
                }],
            }],
            ..Default::default()
        }
    }

    #[test]
    fn an_endpoint_s_frames_are_told_by_path() {
        assert_eq!(
            endpoint(&traffic()),
            "\nFRAMES (OCTETS)  BY SHORTCUT      BY BRIDGE PATH\n\
             sent             3 (294 B)        1 (42 B)\n\
             received         12000 (18.1 MB)  0 (0 B)\n\
             \nDropped:\n  not its MAC: 2 (120 B)\n"
        );
        let value = endpoint_json(&traffic());
        assert_eq!(
            value["received"]["shortcut"],
            json!({ "packets": 12_000, "bytes": 18_120_000 })
        );
        assert_eq!(
            value["dropped"],
            json!([{ "reason": "not_its_mac", "message": "not its MAC", "packets": 2, "bytes": 120 }])
        );
    }

    #[test]
    fn networks_are_told_with_what_was_dropped_of_them() {
        let text = networks(&status());
        for part in [
            "NETWORK  SENT BY SHORTCUT  BY BRIDGE PATH  RECEIVED BY SHORTCUT  BY BRIDGE PATH  DROPPED\n\
             web      3 (294 B)         1 (42 B)        12000 (18.1 MB)       0 (0 B)         2\n",
            "Dropped of web's containers:\n  not its MAC: 2 (120 B)\n",
            "Dropped of web on the way from or to other hosts:\n  not from a member: 4 (400 B)\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let value = shortcut_json(&status());
        assert_eq!(value["networks"][0]["name"], "web");
        assert_eq!(value["networks"][0]["sent"]["bridge"]["packets"], 1);
        assert_eq!(value["networks"][0]["underlay_dropped"][0]["reason"], "not_a_member");
        let busy = wire::ShortcutStatus { traffic_error: "too busy".into(), ..status() };
        assert_eq!(networks(&busy), "\nWhat containers sent is not known: too busy\n");
    }

    #[test]
    fn the_shortcut_is_on_off_or_not_available_for_a_reason() {
        let mut of = status();
        assert_eq!(shortcut(&of), "on (tcx)");
        of.waiting = 3;
        assert_eq!(shortcut(&of), "on (tcx), 3 programs are yet to be attached");
        of.state = "off".into();
        assert_eq!(shortcut(&of), "off (a setting)");
        of.state = "unavailable".into();
        of.reason = "bpf(BPF_PROG_LOAD): Operation not permitted".into();
        assert_eq!(shortcut(&of), "NOT AVAILABLE: bpf(BPF_PROG_LOAD): Operation not permitted");
        of.hint = "give it CAP_BPF".into();
        assert!(shortcut(&of).ends_with(" (hint: give it CAP_BPF)"));
    }

    #[test]
    fn octets_have_units_and_lose_little() {
        for (number, text) in [
            (0, "0 B"),
            (9_999, "9999 B"),
            (10_000, "10.0 kB"),
            (99_960, "99.9 kB"),
            (123_456, "123 kB"),
            (18_120_000, "18.1 MB"),
            (u64::MAX, "18446 PB"),
        ] {
            assert_eq!(octets(number), text);
        }
    }
}
