//! The socket an engine finds the plugin by.

use std::fs::{self, DirBuilder, File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Where a plugin listens that engines know as `weft`: the name of the file is the name of the
/// driver.
pub const SOCKET: &str = "/run/docker/plugins/weft.sock";

/// Why the plugin's socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on it.
    #[error("another daemon serves Docker on {0}: stop it, or choose another socket")]
    InUse(PathBuf),
    /// Somebody opens a socket in its directory at this moment.
    #[error("another daemon is opening its socket beside {0}: try again")]
    Busy(PathBuf),
    /// A file that is not a socket is in the way.
    #[error("{0} exists and is not a socket: move it away, or choose another socket")]
    NotASocket(PathBuf),
    /// The path names no file in a directory.
    #[error("{0} cannot be a socket: name a file, like {SOCKET}")]
    NoName(PathBuf),
    /// The system says no.
    #[error("cannot listen on {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A socket that is listened on. The file goes when this is dropped, so that an engine looks no
/// further for a driver that is not there.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    /// The file that was made for it: its path, device and inode.
    file: Option<(PathBuf, u64, u64)>,
}

impl Listener {
    /// Where it listens; `None` if the socket was made by somebody else.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, ..)| path.as_path())
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().await.map(|(stream, _)| stream)
    }
}

/// A socket that somebody else made and looks after, as a service manager does.
impl From<UnixListener> for Listener {
    fn from(socket: UnixListener) -> Self {
        Self { socket, file: None }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((path, device, inode)) = &self.file else { return };
        let ours = |found: Metadata| (found.dev(), found.ino()) == (*device, *inode);
        // One that came after us may have put its own there.
        if fs::symlink_metadata(path).is_ok_and(ours)
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "the plugin's socket stays behind");
        }
    }
}

/// Opens the plugin's socket, for root only (mode 0600); its directory is made if it is missing
/// (0755). A socket that nobody answers on is replaced, without a moment in which there is none.
///
/// # Errors
/// [`BindError`]; what was there stays as it was.
pub async fn bind(path: &Path) -> Result<Listener, BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(BindError::NoName(path.to_owned()));
    };
    // Docker's own directory, which everybody may look into.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    let lock = File::open(directory).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(BindError::Busy(path.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    free(path).await?;
    // Made where nobody else may enter and then moved: engines look at every socket of the
    // directory, and this one has its mode from the start.
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let hidden = directory.join(hidden);
    let made = make(&hidden, path).map_err(failed);
    if let Err(error) = fs::remove_dir(&hidden) {
        tracing::warn!(path = %hidden.display(), %error, "an empty directory stays behind");
    }
    made
}

/// Sees to it that nobody answers at `path`.
async fn free(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody is there, and has no time: its queue is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

fn make(hidden: &Path, path: &Path) -> io::Result<Listener> {
    let fresh = hidden.join("sock");
    match DirBuilder::new().mode(0o700).create(hidden) {
        // Left behind by one that was killed; the lock is ours.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if let Err(error) = fs::remove_file(&fresh)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        other => other?,
    }
    let socket = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    let made = fs::symlink_metadata(&fresh)?;
    fs::rename(&fresh, path)?;
    Ok(Listener { socket, file: Some((path.to_owned(), made.dev(), made.ino())) })
}
