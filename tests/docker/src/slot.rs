//! How many stories run at once.

use std::fs::File;
use std::time::Duration;

/// Engines take a lot of a machine while they start: more at once would only make all of them late.
const AT_ONCE: usize = 2;

/// Where the places are, for all tests of the machine.
const DIRECTORY: &str = "/run/lock";

/// One of the places that there are on the machine. Free again when it is dropped, or its process is gone.
#[derive(Debug)]
pub(crate) struct Slot {
    _locked: File,
}

impl Slot {
    /// Waits for one.
    pub(crate) fn take() -> Self {
        loop {
            if let Some(locked) = (0..AT_ONCE).find_map(locked) {
                return Self { _locked: locked };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The file of a place, unless somebody has it.
fn locked(place: usize) -> Option<File> {
    let path = format!("{DIRECTORY}/weft-docker-tests.{place}");
    let made = std::fs::create_dir_all(DIRECTORY).and_then(|()| File::create(&path));
    let file = made.unwrap_or_else(|e| panic!("cannot make {path}: {e} (these tests run as root)"));
    file.try_lock().is_ok().then_some(file)
}
