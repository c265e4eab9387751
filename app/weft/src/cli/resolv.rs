//! `/etc/netns/NAME/resolv.conf`: where iproute2's `ip netns exec NAME` looks for the names of a
//! named namespace (`ip-netns(8)`).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::problem::Problem;

/// Where named namespaces are.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// What every file of ours begins with.
const MARK: &str = "# Written by Weft";

/// The path of a namespace that was given as a path or as a name.
pub(super) fn netns_path(given: &Path) -> Result<PathBuf, Problem> {
    let path = match given.to_str() {
        Some(name) if !name.contains('/') => Path::new(NAMED[0]).join(name),
        _ => std::path::absolute(given)?,
    };
    match std::fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Problem::new(format!("{}: {error}", path.display()))
            .at("--netns")
            .hint("give the path of a network namespace, or its name under /run/netns")),
    }
}

/// The file for a namespace, if it is a named one.
pub(super) fn file_for(netns: &Path) -> Option<PathBuf> {
    let name = NAMED.iter().find_map(|dir| netns.strip_prefix(dir).ok())?;
    (name.components().count() == 1).then(|| Path::new("/etc/netns").join(name).join("resolv.conf"))
}

/// Writes the file, unless somebody else wrote one. False: somebody else's is there.
pub(super) fn write(file: &Path, content: &str) -> Result<bool, Problem> {
    if !is_ours_or_absent(file)? {
        return Ok(false);
    }
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let ours = if content.starts_with(MARK) { String::new() } else { format!("{MARK}.\n") };
    std::fs::write(file, ours + content)?;
    Ok(true)
}

/// Removes the file if it is ours, and its directory if nothing else is in there.
pub(super) fn remove(file: &Path) -> Result<(), Problem> {
    if !is_ours_or_absent(file)? {
        return Ok(());
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    if let Some(directory) = file.parent() {
        match std::fs::remove_dir(directory) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) =>
            {
                return Err(error.into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_ours_or_absent(file: &Path) -> Result<bool, Problem> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.starts_with(MARK)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Problem::new(format!("{}: {error}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_namespaces_have_a_file() {
        let file = file_for(Path::new("/run/netns/web-1")).unwrap();
        assert_eq!(file, Path::new("/etc/netns/web-1/resolv.conf"));
        assert_eq!(file_for(Path::new("/var/run/netns/web-1")), Some(file));
        assert_eq!(file_for(Path::new("/proc/17/ns/net")), None);
        assert_eq!(file_for(Path::new("/run/netns")), None);
        assert_eq!(file_for(Path::new("/run/netns/a/b")), None);
    }

    #[test]
    fn somebody_elses_file_stays_as_it_is() {
        let directory = std::env::temp_dir().join(format!("weft-resolv-{}", std::process::id()));
        let file = directory.join("resolv.conf");
        assert!(write(&file, "nameserver 10.3.0.1\n").unwrap());
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "# Written by Weft.\nnameserver 10.3.0.1\n"
        );
        remove(&file).unwrap();
        assert!(!directory.exists());

        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(&file, "nameserver 9.9.9.9\n").unwrap();
        assert!(!write(&file, "nameserver 10.3.0.1\n").unwrap());
        remove(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "nameserver 9.9.9.9\n");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
