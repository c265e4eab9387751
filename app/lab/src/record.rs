//! What a lab writes down, so that others can find it and clear it away.
//!
//! `/run/weft-lab/NAME/lab.json` appears, whole, before anything else of the lab does; a file
//! `netns/X` in there appears before namespace X. So whatever exists of a lab is written down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::{Error, process};

/// Where labs are written down.
pub(crate) const ROOT: &str = "/run/weft-lab";

/// Where their hosts' daemons pin BPF objects, as far as a file system for those is mounted.
pub(crate) const PINS: &str = "/sys/fs/bpf/weft-lab";

/// Who a lab belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Nobody: it stays until it is taken down by name.
    Nobody,
    /// The process that made it: when that is gone, anybody may clear the lab away.
    ThisProcess,
    /// A process, as written down.
    Process {
        /// Its identifier.
        pid: u32,
        /// When it started, in clock ticks since boot: tells it from a later process with the same
        /// identifier (proc_pid_stat(5), field 22).
        started: u64,
    },
}

impl Owner {
    fn settled(self) -> Self {
        match self {
            Self::ThisProcess => {
                let pid = std::process::id();
                Self::Process { pid, started: started(pid).unwrap_or_default() }
            }
            other => other,
        }
    }

    fn is_gone(self) -> bool {
        match self {
            Self::Process { pid, started: then } => started(pid) != Some(then),
            Self::Nobody | Self::ThisProcess => false,
        }
    }
}

/// When a process started; `None` when there is no such process.
fn started(pid: u32) -> Option<u64> {
    process::field(pid, 22)?.parse().ok()
}

/// Whether `name` can name a lab.
///
/// # Errors
/// [`Error::Name`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let starts_well = name.bytes().next().is_some_and(fits);
    if starts_well && name.len() <= 40 && name.bytes().all(|b| fits(b) || b == b'-') {
        Ok(())
    } else {
        Err(Error::Name(name.to_owned()))
    }
}

/// A lab, as written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) owner: Owner,
    /// Octets of the largest packet on the underlay.
    pub(crate) mtu: u32,
    pub(crate) hosts: Vec<Host>,
}

impl Record {
    /// Where the lab of this name is written down.
    pub(crate) fn directory(name: &str) -> PathBuf {
        Path::new(ROOT).join(name)
    }

    /// Where its hosts' daemons pin BPF objects.
    pub(crate) fn pins(&self) -> PathBuf {
        Path::new(PINS).join(&self.name)
    }

    /// Writes it down, all at once; refuses when the name is taken.
    pub(crate) fn create(mut self) -> Result<Self, Error> {
        self.owner = self.owner.settled();
        let fail = |action: &str| Error::system(format!("{action} under {ROOT}"));
        let unfinished = Path::new(ROOT).join(format!(".{}.{}", self.name, std::process::id()));
        fs::create_dir_all(unfinished.join("netns")).map_err(fail("make a directory"))?;
        let text = serde_json::to_string_pretty(&self).map_err(io::Error::from);
        text.and_then(|text| fs::write(unfinished.join("lab.json"), text))
            .map_err(fail("write down a lab"))?;
        let created = fs::rename(&unfinished, Self::directory(&self.name));
        if let Err(error) = created {
            let _ = fs::remove_dir_all(&unfinished);
            return Err(match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                    Error::Exists(self.name)
                }
                _ => fail("write down a lab")(error),
            });
        }
        Ok(self)
    }

    /// Reads it back.
    pub(crate) fn open(name: &str) -> Result<Self, Error> {
        check_name(name)?;
        let file = Self::directory(name).join("lab.json");
        match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(io::Error::from)
                .map_err(Error::system(format!("read {}", file.display()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(name.to_owned())),
            Err(e) => Err(Error::system(format!("read {}", file.display()))(e)),
        }
    }

    /// All labs of this machine.
    pub(crate) fn all() -> Result<Vec<Self>, Error> {
        let entries = match fs::read_dir(ROOT) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::system(format!("read {ROOT}"))(e)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        // One may be taken down by another process while this one looks.
        Ok(names.iter().filter_map(|name| Self::open(name).ok()).collect())
    }

    /// The labs whose owners are gone.
    pub(crate) fn orphans() -> Result<Vec<Self>, Error> {
        Ok(Self::all()?.into_iter().filter(|r| r.owner.is_gone()).collect())
    }

    /// Notes that a namespace of this name is, or is about to be, the lab's.
    pub(crate) fn note(&self, netns: &str) -> Result<(), Error> {
        fs::write(Self::directory(&self.name).join("netns").join(netns), "")
            .map_err(Error::system(format!("write down namespace {netns}")))
    }

    /// Notes that it is no more.
    pub(crate) fn forget(&self, netns: &str) {
        let _ = fs::remove_file(Self::directory(&self.name).join("netns").join(netns));
    }

    /// The lab's namespaces.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        let entries = fs::read_dir(Self::directory(&self.name).join("netns"));
        let names =
            entries.into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.collect()
    }

    /// Nothing of the lab is left.
    pub(crate) fn erase(&self) -> Result<(), Error> {
        match fs::remove_dir_all(Self::directory(&self.name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(format!("remove the directory of lab '{}'", self.name))(e))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_file_names() {
        for fine in ["lab", "t2", "0", "a-b"] {
            check_name(fine).unwrap();
        }
        let long = "x".repeat(41);
        for wrong in ["", "-a", "A", "a/b", "a.b", "..", "a b", long.as_str()] {
            assert!(matches!(check_name(wrong), Err(Error::Name(_))), "{wrong}");
        }
    }

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let owner = Owner::ThisProcess.settled();
        assert!(!owner.is_gone());
        let Owner::Process { pid, started } = owner else { panic!("{owner:?}") };
        assert!(Owner::Process { pid, started: started + 1 }.is_gone());
        assert!(!Owner::Nobody.is_gone());
    }
}
