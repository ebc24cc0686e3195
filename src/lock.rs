//! Advisory file locks: the kernel holds liveness, so that a crash can never leave a lie behind.
//!
//! The locks are `flock(2)` locks. They belong to the *open file description*: a child that
//! inherits the descriptor keeps the lock alive after the parent is gone, and a second open of the
//! same path in the same process conflicts like a stranger's. Everything here blocks for at most
//! the named time; from async code call it in `spawn_blocking`, except the `try_` functions and
//! probes, which return at once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs2::FileExt;
use thiserror::Error;

use crate::limits::{INSTANCE_PID_WAIT_MS, LOCK_POLL_MS};

/// Name of the instance lock's file in the state folder.
const INSTANCE_LOCK_FILE: &str = "adwd.lock";

/// A lock file that could not be opened or locked (other than because somebody holds it).
#[derive(Debug, Error)]
#[error("cannot {operation} the lock file {}", path.display())]
pub struct LockError {
    /// What was tried: `open`, `lock`, `write`.
    pub operation: &'static str,
    /// The lock file; empty when the lock was made from a file that was already open.
    pub path: PathBuf,
    /// The operating system's reason.
    #[source]
    pub source: io::Error,
}

/// A held lock. Dropping it releases it, also for children that inherited the descriptor; to leave
/// the lock to them, use [`FileLock::into_inherited`].
#[derive(Debug)]
pub struct FileLock {
    /// `None` only between `into_inherited` and the drop that follows it.
    file: Option<File>,
    exclusive: bool,
}

impl FileLock {
    /// Takes the exclusive lock on `path`, making the file (mode 0600) if need be.
    /// `None` when somebody else holds it, exclusively or shared.
    ///
    /// An [`is_locked`] probe holds a shared lock for an instant: who must not be turned away by
    /// one uses [`FileLock::exclusive`] with a short wait.
    pub fn try_exclusive(path: &Path) -> Result<Option<FileLock>, LockError> {
        FileLock::try_lock(open(path)?, path, true)
    }

    /// Like [`FileLock::try_exclusive`], but waits up to `timeout_ms`. Blocks the thread.
    pub fn exclusive(path: &Path, timeout_ms: u64) -> Result<Option<FileLock>, LockError> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            // Opened anew each time: the file may have been removed and made again meanwhile.
            if let Some(lock) = FileLock::try_exclusive(path)? {
                return Ok(Some(lock));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(left.min(Duration::from_millis(LOCK_POLL_MS)));
        }
    }

    /// Takes a shared lock on `path`, making the file (mode 0600) if need be.
    /// `None` when somebody else holds it exclusively.
    pub fn try_shared(path: &Path) -> Result<Option<FileLock>, LockError> {
        FileLock::try_lock(open(path)?, path, false)
    }

    /// Takes the exclusive lock on a file that is already open, such as a log that the children
    /// will inherit. `None` when somebody else holds it.
    pub fn from_file(file: File) -> Result<Option<FileLock>, LockError> {
        FileLock::try_lock(file, Path::new(""), true)
    }

    /// The locked file, for instance to hand a duplicate of its descriptor to a child.
    ///
    /// Panics never: the file is there for as long as the lock is.
    pub fn file(&self) -> &File {
        match &self.file {
            Some(file) => file,
            None => unreachable!("the file is taken only by into_inherited, which consumes self"),
        }
    }

    /// Gives the file out without unlocking it: the lock now lasts until the last duplicate of the
    /// descriptor, here or in a child, is closed.
    pub fn into_inherited(mut self) -> File {
        match self.file.take() {
            Some(file) => file,
            None => unreachable!("the file is taken only here, and self is consumed"),
        }
    }

    /// True for an exclusive lock, false for a shared one.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    fn try_lock(file: File, path: &Path, exclusive: bool) -> Result<Option<FileLock>, LockError> {
        // Named through the trait: std's own `File::try_lock*` would shadow the methods.
        let locked = if exclusive {
            FileExt::try_lock_exclusive(&file)
        } else {
            FileExt::try_lock_shared(&file)
        };
        match locked {
            Ok(()) => Ok(Some(FileLock { file: Some(file), exclusive })),
            Err(error) if is_contended(&error) => Ok(None),
            Err(source) => Err(LockError { operation: "lock", path: path.to_path_buf(), source }),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Explicitly, not only by closing: a child forked a moment ago by another thread holds
            // a duplicate until its exec, and would keep the lock for that long.
            let _ = FileExt::unlock(file);
        }
    }
}

fn is_contended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == fs2::lock_contended_error().raw_os_error()
}

fn open(path: &Path) -> Result<File, LockError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| LockError { operation: "open", path: path.to_path_buf(), source })
}

/// Asks whether somebody holds an exclusive lock on `path`, without making the file.
///
/// An absent file is not locked; what is no plain file is an error ([`crate::plain`]). The probe
/// takes a shared lock and gives it back at once. It returns at once; a caller in the same process
/// that holds the lock through another open counts as somebody.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match crate::plain::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match FileExt::try_lock_shared(&file) {
        Ok(()) => {
            FileExt::unlock(&file)?;
            Ok(false)
        }
        Err(error) if is_contended(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Why the state folder could not be claimed.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// Another daemon runs on this state folder.
    #[error(
        "another adwd{} already runs on this state folder (it holds {}); stop it first, or give \
         this one a state folder of its own with --state-dir",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        path.display()
    )]
    Held {
        /// Its process id, when it could be read.
        pid: Option<u32>,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be used.
    #[error(transparent)]
    Io(#[from] LockError),
}

/// The claim of one daemon on its state folder; released when dropped or when the process dies.
#[derive(Debug)]
pub struct InstanceLock {
    lock: FileLock,
    path: PathBuf,
}

impl InstanceLock {
    /// Claims `state_dir` (which must exist) and records `pid` for whoever comes second.
    pub fn acquire(state_dir: &Path, pid: u32) -> Result<InstanceLock, InstanceError> {
        let path = state_dir.join(INSTANCE_LOCK_FILE);
        // The wait outlasts a probe of `holder`, never a living daemon.
        let Some(lock) = FileLock::exclusive(&path, INSTANCE_PID_WAIT_MS)? else {
            return Err(InstanceError::Held { pid: read_pid(&path), path });
        };
        let mut file = lock.file();
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(format!("{pid}\n").as_bytes()))
            .map_err(|source| LockError { operation: "write", path: path.clone(), source })?;
        Ok(InstanceLock { lock, path })
    }

    /// The pid of the daemon that runs on `state_dir`; `None` when none does.
    pub fn holder(state_dir: &Path) -> Option<u32> {
        let path = state_dir.join(INSTANCE_LOCK_FILE);
        let deadline = Instant::now() + Duration::from_millis(INSTANCE_PID_WAIT_MS);
        while is_locked(&path).unwrap_or(false) {
            // Taken, but perhaps so lately that the pid is not written yet.
            if let Some(pid) = read_pid(&path) {
                return Some(pid);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(LOCK_POLL_MS));
        }
        None
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // An empty file after a clean stop, so that nobody reads a stale pid. The file itself
        // stays: removing a lock file lets two processes lock two files of the same name.
        let _ = self.lock.file().set_len(0);
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    // The line end is part of the proof that the number is whole.
    text.strip_suffix('\n')?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusive_excludes_shared_and_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        assert!(!is_locked(&path).unwrap());
        assert!(!path.exists());
        let lock = FileLock::try_exclusive(&path).unwrap().unwrap();
        assert!(is_locked(&path).unwrap());
        assert!(lock.is_exclusive());
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        assert!(FileLock::try_shared(&path).unwrap().is_none());
        drop(lock);
        assert!(!is_locked(&path).unwrap());
        let one = FileLock::try_shared(&path).unwrap().unwrap();
        let two = FileLock::try_shared(&path).unwrap().unwrap();
        assert!(!is_locked(&path).unwrap());
        assert!(FileLock::exclusive(&path, 1).unwrap().is_none());
        drop((one, two));
        assert!(FileLock::exclusive(&path, 0).unwrap().is_some());
    }

    #[test]
    fn an_inherited_lock_lives_as_long_as_any_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let file = File::create(&path).unwrap();
        let lock = FileLock::from_file(file).unwrap().unwrap();
        let child = lock.file().try_clone().unwrap();
        drop(lock.into_inherited());
        assert!(is_locked(&path).unwrap());
        drop(child);
        assert!(!is_locked(&path).unwrap());
    }

    #[test]
    fn waiting_gets_the_lock_when_it_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let lock = FileLock::try_exclusive(&path).unwrap().unwrap();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || FileLock::exclusive(&path, 10_000).unwrap().is_some()
        });
        std::thread::sleep(Duration::from_millis(50));
        drop(lock);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn a_second_instance_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(InstanceLock::holder(dir.path()), None);
        let first = InstanceLock::acquire(dir.path(), 4242).unwrap();
        assert_eq!(InstanceLock::holder(dir.path()), Some(4242));
        let error = InstanceLock::acquire(dir.path(), 1).unwrap_err();
        assert!(matches!(error, InstanceError::Held { pid: Some(4242), .. }), "{error}");
        assert!(error.to_string().contains("pid 4242"), "{error}");
        drop(first);
        assert_eq!(InstanceLock::holder(dir.path()), None);
        assert!(InstanceLock::acquire(dir.path(), 2).is_ok());
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let error = FileLock::try_exclusive(Path::new("/nonexistent/x")).unwrap_err();
        assert_eq!(error.to_string(), "cannot open the lock file /nonexistent/x");
    }
}
