//! Ctrl-C and SIGTERM: the run ends at the next step, so that everything it made is taken down.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

static TOLD: AtomicBool = AtomicBool::new(false);

/// From now on, the first of these signals is noted; a second one ends the process at once.
///
/// To be called while there is only one thread: threads inherit what is blocked. Programs that
/// are started do not ([`std::process::Command`] starts them with nothing blocked).
///
/// # Errors
/// When the system refuses.
pub(crate) fn watch() -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot hold back signals")?;
    let wait = move || {
        while signals.wait().is_ok() {
            if TOLD.swap(true, Ordering::Relaxed) {
                // Whatever it hangs on: the next lab clears away what is left.
                let _ = kill(Pid::this(), Signal::SIGKILL);
            }
            eprintln!("ending: everything is taken down …");
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// Whether somebody wants the run to end.
pub(crate) fn told() -> bool {
    TOLD.load(Ordering::Relaxed)
}

/// # Errors
/// When somebody wants the run to end.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!told(), "interrupted");
    Ok(())
}
