//! The control socket: one command per line, one line back.
//!
//! | line | reply |
//! |---|---|
//! | `version` | `ok VERSION` |
//! | `reload` | `ok GENERATION`, once the names on disk are the ones answered with |
//! | `stats` | `ok {…}`, see [`crate::Stats`] |
//! | `stop` | `ok`; then the sockets close and the process ends |
//! | anything else | `error WHY` |

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// A command, and where its reply goes.
pub(crate) type Order = (Command, oneshot::Sender<String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Version,
    Reload,
    Stats,
    Stop,
}

/// The longest line that is read.
const LINE: u64 = 256;

/// Opens the socket; only its owner may use it. The caller holds the lock, so that a socket that is
/// there already belongs to nobody.
pub(crate) fn open(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes connections for ever.
pub(crate) async fn serve(listener: UnixListener, orders: mpsc::Sender<Order>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let orders = orders.clone();
                // However the connection ended, it is over.
                tokio::spawn(async move { _ = converse(stream, orders).await });
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: UnixStream, orders: mpsc::Sender<Order>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        (&mut reader).take(LINE).read_line(&mut line).await?;
        if !line.ends_with('\n') {
            return Ok(());
        }
        let command = match line.trim() {
            "version" => Ok(Command::Version),
            "reload" => Ok(Command::Reload),
            "stats" => Ok(Command::Stats),
            "stop" => Ok(Command::Stop),
            other => Err(format!("error unknown command '{}'", other.escape_debug())),
        };
        let reply = match command {
            Ok(command) => {
                let (sender, receiver) = oneshot::channel();
                let sent = orders.send((command, sender)).await;
                sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
                receiver.await.map_err(|_| io::ErrorKind::BrokenPipe)?
            }
            Err(error) => error,
        };
        writer.write_all(format!("{reply}\n").as_bytes()).await?;
    }
}
