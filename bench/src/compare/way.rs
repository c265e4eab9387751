//! Which way packets went: a variant is only what it says when its packets took its way.

use anyhow::Context;
use serde_json::Value;

use super::variants::Shortcut;
use super::weft::Weft;

/// The two containers that are measured: each one's host, and its name.
pub(crate) type Ends = [(&'static str, &'static str); 2];

/// Frames that the measured containers sent and received, as their hosts count them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    shortcut: u64,
    bridge: u64,
}

/// Whether a host's daemon is on the way it was set to; `false`: not yet.
///
/// # Errors
/// When it says that it cannot, with its reason.
pub(crate) fn settled(status: &Value, wanted: Shortcut) -> anyhow::Result<bool> {
    let told = &status["shortcut"];
    let state = told["state"].as_str();
    match wanted {
        // A daemon that knows of no shortcut takes none.
        Shortcut::Off => Ok(state.is_none_or(|state| state == "off")),
        Shortcut::Auto => {
            let reason = told["reason"].as_str().unwrap_or_default();
            anyhow::ensure!(state.is_some(), "this weft has no shortcut");
            anyhow::ensure!(state != Some("unavailable"), "no shortcut: {reason}");
            let unattached = told["unattached"].as_array().is_none_or(|names| !names.is_empty());
            Ok(state == Some("on") && told["waiting"] == 0 && !unattached)
        }
    }
}

/// What the hosts have counted so far; `None`: this weft does not count.
///
/// # Errors
/// When Weft does not answer, or tells why it cannot count.
pub(crate) fn counted(weft: &Weft, ends: Ends) -> anyhow::Result<Option<Counted>> {
    let mut sum = Counted::default();
    for (host, name) in ends {
        let endpoint = weft.json(weft.host(host)?, &["endpoint", "inspect", name])?;
        let Some(counted) = read(&endpoint)? else { return Ok(None) };
        sum.shortcut += counted.shortcut;
        sum.bridge += counted.bridge;
    }
    Ok(Some(sum))
}

fn read(endpoint: &Value) -> anyhow::Result<Option<Counted>> {
    let Some(traffic) = endpoint.get("traffic") else { return Ok(None) };
    let why_not = endpoint["traffic_error"].as_str().unwrap_or_default();
    let by = |way: &str| {
        let packets = |direction: &str| traffic[direction][way]["packets"].as_u64();
        let both = packets("sent").zip(packets("received"));
        both.map(|(sent, received)| sent + received)
            .with_context(|| format!("no counters: {why_not}"))
    };
    Ok(Some(Counted { shortcut: by("shortcut")?, bridge: by("bridge")? }))
}

/// Whether what was counted between `before` and `after` went the way it should: all but the few
/// frames that the shortcut leaves to the bridge path (broadcasts, and what comes at odd moments).
///
/// # Errors
/// When it did not.
pub(crate) fn judge(wanted: Shortcut, before: Counted, after: Counted) -> anyhow::Result<()> {
    let shortcut = after.shortcut.saturating_sub(before.shortcut);
    let bridge = after.bridge.saturating_sub(before.bridge);
    let right = match wanted {
        Shortcut::Auto => shortcut > 0 && bridge <= shortcut / 100 + 10,
        Shortcut::Off => shortcut == 0 && bridge > 0,
    };
    anyhow::ensure!(
        right,
        "packets went the wrong way: {shortcut} by the shortcut, {bridge} by the bridge path"
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variant_is_what_it_says_or_fails() {
        let counted = |shortcut, bridge| Counted { shortcut, bridge };
        for (wanted, after, right) in [
            (Shortcut::Auto, counted(50_000, 300), true),
            (Shortcut::Auto, counted(50_000, 600), false),
            (Shortcut::Auto, counted(0, 0), false),
            (Shortcut::Auto, counted(0, 50_000), false),
            (Shortcut::Off, counted(0, 50_000), true),
            (Shortcut::Off, counted(1, 50_000), false),
            (Shortcut::Off, counted(0, 0), false),
        ] {
            let judged = judge(wanted, Counted::default(), after);
            assert_eq!(judged.is_ok(), right, "{wanted:?} {after:?}");
        }
        // Only what was counted meanwhile.
        judge(Shortcut::Auto, counted(5, 9_000), counted(900, 9_003)).unwrap();
    }

    #[test]
    fn a_daemon_that_cannot_says_why_and_one_that_is_not_ready_is_waited_for() {
        let status = |state: &str, waiting: u32| {
            let told =
                json!({"state": state, "reason": "too old", "waiting": waiting, "unattached": []});
            json!({ "shortcut": told })
        };
        let error = settled(&status("unavailable", 0), Shortcut::Auto).unwrap_err().to_string();
        assert_eq!(error, "no shortcut: too old");
        let error = settled(&json!({}), Shortcut::Auto).unwrap_err().to_string();
        assert_eq!(error, "this weft has no shortcut");
        for (status, wanted, expected) in [
            (status("on", 0), Shortcut::Auto, true),
            (status("on", 1), Shortcut::Auto, false),
            (status("off", 0), Shortcut::Auto, false),
            (status("off", 0), Shortcut::Off, true),
            (status("on", 0), Shortcut::Off, false),
            (json!({}), Shortcut::Off, true),
        ] {
            assert_eq!(settled(&status, wanted).unwrap(), expected, "{status} {wanted:?}");
        }
    }

    #[test]
    fn both_directions_count() {
        let way = |shortcut: u32, bridge: u32| json!({"shortcut": {"packets": shortcut}, "bridge": {"packets": bridge}});
        let endpoint = json!({"traffic": {"sent": way(3, 1), "received": way(4, 2)}});
        assert_eq!(read(&endpoint).unwrap(), Some(Counted { shortcut: 7, bridge: 3 }));
        assert_eq!(read(&json!({})).unwrap(), None);
        let busy = json!({"traffic": null, "traffic_error": "too busy"});
        assert_eq!(read(&busy).unwrap_err().to_string(), "no counters: too busy");
    }
}
