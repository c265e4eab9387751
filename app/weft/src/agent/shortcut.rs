//! Whether this host has the shortcut, and if not, why.
//!
//! Programs and tables are pinned in a directory of this node and outlive the daemon. What is there
//! but not looked after any more would go stale and lead packets astray, so wherever the shortcut is
//! not used, it is taken away: the bridge path carries everything.

use std::path::{Path, PathBuf};

use weft_kernel::Fault;
use weft_linux::{Hook, Linux, ShortcutConfig, ShortcutOn};
use weft_model::NodeId;

/// How the shortcut is to be.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Where it is to hook in; `None`: nowhere.
    pub(crate) hook: Option<Hook>,
    /// Where nodes' directories of pins lie.
    pub(crate) bpf_dir: PathBuf,
    /// What does not survive a reboot, as pins do not, lies here.
    pub(crate) run_dir: PathBuf,
}

/// How it is.
#[derive(Debug, Clone)]
pub(crate) enum Shortcut {
    /// On, hooked in here.
    On(ShortcutOn),
    /// Not wished for.
    Off,
    /// Not to be had: why.
    Unavailable(Fault),
}

impl Shortcut {
    /// Starts it for `node`. It is no error when the kernel cannot: the bridge path stands. Only
    /// to be called where the thread may block.
    pub(crate) fn start(linux: &mut Linux, node: NodeId, wish: &Wish) -> Self {
        let dir = wish.bpf_dir.join(node.to_string());
        remove_left(wish, Some(&dir));
        let Some(hook) = wish.hook else {
            remove(&dir);
            return Self::Off;
        };
        // Written down first: whoever finds the note must look whether there is something.
        if let Err(error) = std::fs::write(note(wish), dir.as_os_str().as_encoded_bytes()) {
            tracing::warn!(%error, "where the shortcut is pinned could not be noted");
        }
        match linux.start_shortcut(&ShortcutConfig { dir: dir.clone(), hook }) {
            Ok(on) => {
                tracing::info!(hook = %on, "the shortcut is on");
                Self::On(on)
            }
            Err(fault) => {
                tracing::warn!(%fault, hint = %fault.hint, "no shortcut: packets go the bridge path");
                remove(&dir);
                Self::Unavailable(fault)
            }
        }
    }

    /// Whether it is on.
    pub(crate) const fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}

/// Takes away what an earlier run pinned elsewhere than in `dir`: as another node, which this
/// host then has left, or under another `--bpf-dir`.
pub(crate) fn remove_left(wish: &Wish, dir: Option<&Path>) {
    let Ok(left) = std::fs::read_to_string(note(wish)) else { return };
    if dir == Some(Path::new(&left)) {
        return;
    }
    if remove(Path::new(&left)) {
        // If it stays, the same is done again.
        let _ = std::fs::remove_file(note(wish));
    }
}

/// Where it is noted that there are pins, and where.
fn note(wish: &Wish) -> PathBuf {
    wish.run_dir.join("shortcut")
}

fn remove(dir: &Path) -> bool {
    let removed = weft_linux::remove_shortcut(dir);
    if let Err(fault) = &removed {
        tracing::warn!(%fault, dir = %dir.display(), "what is left of the shortcut could not be removed");
    }
    removed.is_ok()
}
