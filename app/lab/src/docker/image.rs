//! A small image: busybox and nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Error;

/// Where Debian's `busybox-static` puts it.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// What a container does that is told nothing: it serves its own name at port 80 until it is told to end.
const SERVE: &str = r#"#!/bin/sh
trap 'exit 0' TERM INT
hostname >/www/index.html
httpd -h /www -p 80
sleep 1000000000 &
wait $!
"#;

/// Writes the file system of an image into `directory`, for `docker import`: busybox with all that it can
/// be called (`sh`, `ping`, `nslookup`, `httpd`, `nc`, `wget`…), and a program `serve` that serves the
/// container's host name at TCP port 80. Gives the archive's path.
///
/// # Errors
/// When busybox or `tar` is not there, or the directory cannot be written to.
pub fn image(directory: &Path) -> Result<PathBuf, Error> {
    write(directory).map_err(Error::system(format!("make an image in {}", directory.display())))
}

fn write(directory: &Path) -> io::Result<PathBuf> {
    let (root, archive) = (directory.join("image"), directory.join("image.tar"));
    let bin = root.join("bin");
    for inside in ["bin", "etc", "proc", "sys", "dev", "root", "tmp", "www"] {
        fs::create_dir_all(root.join(inside))?;
    }
    let busybox = BUSYBOX.iter().find(|path| Path::new(path).exists());
    let busybox =
        busybox.ok_or_else(|| io::Error::other("there is no busybox: install busybox-static"))?;
    fs::copy(busybox, bin.join("busybox"))?;
    let names = said(Command::new(busybox).arg("--list"))?;
    for name in names.lines().filter(|n| !["", "busybox"].contains(n)) {
        symlink("busybox", bin.join(name))?;
    }
    fs::write(bin.join("serve"), SERVE)?;
    fs::set_permissions(bin.join("serve"), fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    said(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
    fs::remove_dir_all(&root)?;
    Ok(archive)
}

/// What a command printed.
fn said(command: &mut Command) -> io::Result<String> {
    let Output { status, stdout, stderr } = command.output()?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&stderr).trim())))
}
