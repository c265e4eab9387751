//! Sysctls through `/proc/sys` (sysctl(8)). What lies below `net` is that of the calling thread's
//! network namespace.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::fault::Trouble;

/// Sets a sysctl; one that has the value already is left alone.
pub(crate) fn write(path: &str, value: &str) -> Result<(), Trouble> {
    if read(path)?.as_deref() == Some(value) {
        return Ok(());
    }
    std::fs::write(file(path)?, value).map_err(|error| explain(error, path))
}

/// The value of a sysctl, without the newline; `None` when there is none of that name.
pub(crate) fn read(path: &str) -> Result<Option<String>, Trouble> {
    match std::fs::read_to_string(file(path)?) {
        Ok(text) => Ok(Some(text.trim_end_matches('\n').to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(error, path)),
    }
}

fn explain(error: std::io::Error, path: &str) -> Trouble {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Trouble::new(Errno::ENOENT, format!("there is no sysctl {path}"))
        }
        _ => error.into(),
    }
}

fn file(path: &str) -> Result<PathBuf, Trouble> {
    let climbs = path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if climbs {
        return Err(Trouble::new(Errno::EINVAL, format!("{path:?} is not a sysctl")));
    }
    Ok(PathBuf::from("/proc/sys").join(path))
}

#[cfg(test)]
mod tests {
    use super::{file, read};

    #[test]
    fn a_path_cannot_climb_out_of_proc_sys() {
        for path in ["../../etc/passwd", "net/../../x", "/etc/passwd", "net//ipv4", ""] {
            assert!(file(path).is_err(), "{path}");
        }
        assert!(matches!(read("net/ipv4/no_such_thing"), Ok(None)));
    }
}
