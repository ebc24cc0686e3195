//! Whether an SQLite database is still the file that was opened.
//!
//! A file that is removed or replaced under an open connection goes on taking writes that nobody
//! will ever read again, and answers that rest on them would be lost with the process. So every
//! statement looks first: one `stat`, a microsecond beside the tenth of a millisecond of a commit.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::DbError;

/// The file as it was opened.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// Device and inode: what a name stands for.
    identity: (u64, u64),
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

impl File {
    /// The file that is there now.
    pub(super) fn opened(path: &Path) -> io::Result<File> {
        Ok(File { path: path.to_path_buf(), identity: identity(path)? })
    }

    /// Whether its name still leads to it. Put back, it is good again.
    ///
    /// # Errors
    /// [`DbError::Unavailable`].
    pub(super) fn check(&self, operation: impl FnOnce() -> String) -> Result<(), DbError> {
        let problem = match identity(&self.path) {
            Ok(now) if now == self.identity => return Ok(()),
            Ok(_) => io::Error::other(format!("{} is another file", self.path.display())),
            Err(e) => e,
        };
        Err(DbError::Unavailable {
            operation: operation(),
            hint: "its file was removed or replaced while the daemon ran: put it back, or start \
                   the daemon anew with what is there",
            source: sqlx::Error::Io(problem),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_went_or_is_another_is_told_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("db"), dir.path().join("aside"));
        std::fs::write(&path, "one").unwrap();
        let file = File::opened(&path).unwrap();
        let check = || file.check(|| "insert into runs".to_owned());
        std::fs::write(&path, "written").unwrap();
        check().unwrap();
        std::fs::rename(&path, &aside).unwrap();
        let error = check().unwrap_err();
        assert!(error.is_transient() && error.why().unwrap().contains("put it back"), "{error}");
        std::fs::write(&path, "two").unwrap();
        check().unwrap_err();
        std::fs::rename(&aside, &path).unwrap();
        check().unwrap();
    }
}
