//! The table on disk: written by the agent, read by the resolver.
//!
//! `names.json` holds a whole table and the name of a log; each line of the log is a change to it.
//! A new table replaces the file in one step, so that a reader finds either the old one with its
//! log or the new one. A line counts once its end is written. Nothing is synced to disk: after a
//! power cut there is no container left that could ask, and the agent writes a new table.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_dns::{Misfit, NameIndex, NameTable, Patch};

const TABLE: &str = "names.json";
/// A log shorter than this is not worth a new table.
const LOG: u64 = 64 << 10;
/// A change of more records than this is written as a new table: tables are indexed while queries
/// go on, changes are not.
const PATCH: usize = 2_000;

/// Why the names could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be opened, read or written.
    #[error("{path}: {error}: check the directory's owner and the space left on its disk")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged ({error}): the agent writes it anew at its next start")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where and how.
        error: serde_json::Error,
    },
    /// A change in the log is none to this table.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

#[derive(Deserialize)]
struct Stored {
    log: String,
    table: NameTable,
}

#[derive(Serialize)]
struct Storing<'a> {
    log: &'a str,
    table: &'a NameTable,
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::File { path, error }
}

fn damaged(path: &Path) -> impl FnOnce(serde_json::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Damaged { path, error }
}

fn log_path(directory: &Path, log: &str) -> PathBuf {
    directory.join(format!("names-{log}.log"))
}

/// Reads tables and what is added to their logs.
#[derive(Debug)]
pub(crate) struct Reader {
    directory: PathBuf,
    /// Which file was read: its inode, change time and length.
    table: Option<(u64, i64, i64, u64)>,
    log: Option<(PathBuf, u64)>,
}

/// What is new since the last look.
#[derive(Debug)]
pub(crate) enum News {
    /// Another table.
    Table(Box<NameIndex>),
    /// Changes to the one at hand.
    Patches(Vec<Patch>),
}

impl Reader {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, table: None, log: None }
    }

    /// Reads what is new.
    ///
    /// # Errors
    /// If a file cannot be read or makes no sense. The next call reads a whole table again.
    pub(crate) fn news(&mut self) -> Result<News, StoreError> {
        let news = self.read();
        if news.is_err() {
            self.table = None;
        }
        news
    }

    fn read(&mut self) -> Result<News, StoreError> {
        let path = self.directory.join(TABLE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(News::Patches(Vec::new()));
            }
            Err(error) => return Err(file_error(&path)(error)),
        };
        let meta = file.metadata().map_err(file_error(&path))?;
        let stamp = (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.len());
        if self.table == Some(stamp) {
            return Ok(News::Patches(self.log_news()?));
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        file.read_to_end(&mut bytes).map_err(file_error(&path))?;
        let stored: Stored = serde_json::from_slice(&bytes).map_err(damaged(&path))?;
        drop(bytes);
        let mut index = NameIndex::new(&stored.table);
        self.log = Some((log_path(&self.directory, &stored.log), 0));
        for patch in self.log_news()? {
            index.apply(patch)?;
        }
        self.table = Some(stamp);
        Ok(News::Table(Box::new(index)))
    }

    /// The changes whose lines are complete.
    fn log_news(&mut self) -> Result<Vec<Patch>, StoreError> {
        let Some((path, offset)) = &mut self.log else { return Ok(Vec::new()) };
        let mut file = match File::open(&*path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file_error(path)(error)),
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(*offset)).map_err(file_error(path))?;
        file.read_to_end(&mut bytes).map_err(file_error(path))?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = bytes[..complete].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let patches: Result<Vec<Patch>, _> = lines.map(serde_json::from_slice).collect();
        *offset += complete as u64;
        patches.map_err(damaged(path))
    }
}

/// Writes tables, as changes where that is less.
#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    /// What the files hold now; none until something was written.
    written: Option<Written>,
}

#[derive(Debug)]
struct Written {
    table: NameTable,
    size: u64,
    log: File,
    logged: u64,
}

impl Writer {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, written: None }
    }

    /// Forgets what was written, so that the next table is written whole.
    pub(crate) fn forget(&mut self) {
        self.written = None;
    }

    /// Writes what differs from the last table, or all of it.
    ///
    /// # Errors
    /// If a file cannot be written. The next table is then written whole.
    pub(crate) fn write(&mut self, table: &NameTable) -> Result<(), StoreError> {
        let mut last = self.written.take();
        if let Some(written) = &mut last
            && written.logged < written.size.max(LOG)
        {
            let patch = Patch::between(&written.table, table);
            if patch.records() <= PATCH {
                let log = self.directory.join(TABLE);
                let mut line = serde_json::to_vec(&patch).map_err(damaged(&log))?;
                line.push(b'\n');
                written.log.write_all(&line).map_err(file_error(&log))?;
                written.logged += line.len() as u64;
                written.table = table.clone();
                self.written = last;
                return Ok(());
            }
        }
        self.written = Some(self.write_whole(table)?);
        Ok(())
    }

    fn write_whole(&self, table: &NameTable) -> Result<Written, StoreError> {
        std::fs::create_dir_all(&self.directory).map_err(file_error(&self.directory))?;
        let name = format!("{:016x}", rand::random::<u64>());
        let log_path = log_path(&self.directory, &name);
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let log = options.open(&log_path).map_err(file_error(&log_path))?;
        let path = self.directory.join(TABLE);
        let new = self.directory.join("names.json.new");
        let bytes = serde_json::to_vec(&Storing { log: &name, table }).map_err(damaged(&path))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).map_err(file_error(&new))?;
        file.write_all(&bytes).map_err(file_error(&new))?;
        std::fs::rename(&new, &path).map_err(file_error(&path))?;
        self.sweep(&log_path);
        Ok(Written { table: table.clone(), size: bytes.len() as u64, log, logged: 0 })
    }

    /// Removes the logs of earlier tables. One that stays costs its space only.
    fn sweep(&self, keep: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != keep) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("names-") && name.ends_with(".log") {
                let removed = std::fs::remove_file(&path);
                tracing::debug!(path = %path.display(), ?removed, "old log");
            }
        }
    }
}

#[cfg(test)]
mod tests;
