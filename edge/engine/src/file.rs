//! Opening a redb file: who may read it, who holds it, and whether it can be trusted.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, StorageError};

/// Why a file of the state engine or of the agent cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another process, or this one, has it open.
    #[error("'{}' is in use: is another weft daemon running on it?", .0.display())]
    InUse(PathBuf),
    /// What lies there is no store, or a damaged one.
    #[error("'{}' is damaged or not a store of weft ({detail}): restore it from a backup, or move it away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer version wrote it.
    #[error("'{}' was written by a newer version of weft (format {format}): install that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The system said no.
    #[error("cannot open '{}': {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Something else failed in the store.
    #[error("cannot open '{}': {cause}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The format of the tables in the files; a file with a greater number is not touched.
pub(crate) const FORMAT: u64 = 1;

/// Opens or creates the file, readable by its owner only: the state holds the authority's key.
///
/// All pages are checked at every start, because a plain open of a file that was damaged from
/// outside may panic later, and a commit on top of it would spread the damage.
pub(crate) fn open(path: &Path, cache: usize) -> Result<Database, FileError> {
    let io = |cause| FileError::Io { path: path.to_owned(), cause };
    if !path.try_exists().map_err(io)? {
        create(path)?;
    }
    redb::Builder::new()
        .set_cache_size(cache)
        .set_check_integrity_on_open(true)
        .create(path)
        .map_err(|error| explain(path, error))
}

/// Makes an empty file appear whole under its name: whoever dies while making one must not leave
/// behind what the next start would take for a damaged file.
fn create(path: &Path) -> Result<(), FileError> {
    let io = |cause| FileError::Io { path: path.to_owned(), cause };
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    match std::fs::remove_file(draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(draft).map_err(io)?;
    drop(redb::Builder::new().create(draft).map_err(|error| explain(path, error))?);
    file.sync_all().map_err(io)?;
    // A link, because renaming would replace the file of a process that was faster.
    match std::fs::hard_link(draft, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io(error)),
        _ => {}
    }
    std::fs::remove_file(draft).map_err(io)?;
    // The file's name is an entry of its directory, which has to reach the disk as well.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new("."))).map_err(io)?;
    directory.sync_all().map_err(io)
}

fn explain(path: &Path, error: DatabaseError) -> FileError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            FileError::InUse(path)
        }
        DatabaseError::Storage(StorageError::Corrupted(detail)) => {
            FileError::Damaged { path, detail }
        }
        // redb says InvalidData where a file does not begin as one of its own.
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() == ErrorKind::InvalidData =>
        {
            FileError::Damaged { path, detail: source.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(cause)) => FileError::Io { path, cause },
        DatabaseError::UpgradeRequired(version) => {
            FileError::Damaged { path, detail: format!("file format {version} is too old") }
        }
        other => FileError::Other { path, cause: Box::new(other) },
    }
}
