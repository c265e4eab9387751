//! nginx: the server that ab asks.

use anyhow::Context;
use tempfile::TempDir;

use super::{Listens, Place, Tool};

/// Where it listens.
pub(crate) const PORT: u16 = 8080;

/// A server, and the directory it lives in.
#[derive(Debug)]
pub(crate) struct Nginx {
    _tool: Tool,
    _directory: TempDir,
}

/// Answers every request with a few octets from memory, and closes.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn serve(place: &Place) -> anyhow::Result<Nginx> {
    let directory = TempDir::with_prefix("weft-bench-").context("cannot make a directory")?;
    let root = directory.path().to_str().context("a path that is no text")?;
    let file = format!("{root}/nginx.conf");
    std::fs::write(&file, configuration(root))?;
    // What it says before it has read the file must not go to the machine's own log.
    let words = ["nginx", "-p", root, "-e", "stderr", "-c", &file];
    let tool = Tool::serve(place, 1, &words, Listens::Tcp(PORT))?;
    Ok(Nginx { _tool: tool, _directory: directory })
}

/// Everything it writes lies under `root`. It removes its pid file when it ends, so that one must
/// be a file of its own: never a device.
fn configuration(root: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {root}/{kind};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {root}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_timeout 0;\n{temporary}\
         \x20 server {{ listen {PORT} backlog=4096; location / {{ return 200 \"hello\\n\"; }} }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside_its_directory() {
        let text = configuration("/x");
        for line in text.lines().filter(|l| l.contains("_path") || l.contains("pid ")) {
            assert!(line.contains(" /x/"), "{line}");
        }
        assert!(text.contains("listen 8080 "), "{text}");
    }
}
