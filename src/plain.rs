//! Opening files that somebody else may have put in the place of what is expected.
//!
//! Phases and agents know the folders that the daemon reads. A pipe at the place of a log would keep
//! the reader waiting for ever, `/dev/zero` behind a link would never end, and a link would show what
//! lies elsewhere. So what is opened here is a plain file at that very place, or an error of the kind
//! [`ErrorKind::InvalidData`] that says what is there instead.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

fn not_plain(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{} is {what}, not a plain file", path.display()))
}

/// Opens a plain file for reading, without waiting and without following a link at its place.
///
/// # Errors
/// The file system's; [`ErrorKind::InvalidData`] where something else is there.
pub fn open(path: &Path) -> Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Err(e) if e.raw_os_error() == Some(Errno::ELOOP as i32) => {
            return Err(not_plain(path, "a link"));
        }
        // A socket cannot be opened, nor a device without a driver.
        Err(e) if e.raw_os_error() == Some(Errno::ENXIO as i32) => {
            return Err(not_plain(path, "a socket or a device"));
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(not_plain(path, "a folder, a pipe or a device"))
}

/// Reads a whole plain file of at most `max` bytes.
///
/// # Errors
/// As [`open`]; [`ErrorKind::FileTooLarge`] where it is larger.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let message = format!("{} is larger than {max} bytes", path.display());
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_plain_file_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert_eq!(read(&path, 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(&dir.path().join("g"), 3).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// None of these may keep the reader waiting: the test would not end.
    #[test]
    fn whatever_else_is_there_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", at("endless")).unwrap();
        std::fs::write(at("f"), "").unwrap();
        symlink(at("f"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["pipe", "endless", "link", "folder", "socket"] {
            let error = open(&at(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{name}: {error}");
            assert!(error.to_string().ends_with("not a plain file"), "{error}");
        }
        assert_eq!(open(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
