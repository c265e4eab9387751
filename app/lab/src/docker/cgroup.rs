//! Control groups of containers: they stay when their processes have ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Error, Host};

const ROOT: &str = "/sys/fs/cgroup";

/// What the control group above those of a host's containers is called.
pub(super) fn name(host: &Host) -> String {
    format!("weft-lab-{}", host.netns)
}

/// Removes what control groups there are of a host's containers, whose processes have ended.
///
/// # Errors
/// When some are still in use after a few seconds.
pub(crate) fn remove(host: &Host) -> Result<(), Error> {
    let name = name(host);
    // A group is empty a moment after its last process is gone.
    let deadline = Instant::now() + Duration::from_secs(10);
    while remove_in_all_hierarchies(&name) > 0 {
        if Instant::now() >= deadline {
            let what = format!("remove control group {name}");
            return Err(Error::system(what)(io::ErrorKind::ResourceBusy.into()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Gives how many are still there.
fn remove_in_all_hierarchies(name: &str) -> usize {
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|e| e.path());
    let tops = hierarchies.chain([Path::new(ROOT).to_owned()]).map(|path| path.join(name));
    let left = |top: &PathBuf| {
        let children = fs::read_dir(top).into_iter().flatten().flatten();
        for child in children.filter(|c| c.file_type().is_ok_and(|t| t.is_dir())) {
            // What is not empty stays, and is tried again.
            let _ = fs::remove_dir(child.path());
        }
        let _ = fs::remove_dir(top);
        top.exists()
    };
    tops.filter(left).count()
}
