//! Worktrees: made, looked through, mended and removed one at a time per repository.
//!
//! git's own `worktree add` fails when two run at once, and one that is killed poisons the whole
//! repository (`spec/platform.md` §3). So everything that changes worktrees or fetches runs under a
//! mutex of this process and a file lock that the Python side takes too, is tried again where
//! somebody else disturbed it, and is mended at start-up. The git process that makes or removes a
//! worktree holds the file lock itself: when this daemon is killed in the middle, the next one waits
//! for that git instead of taking its half-made worktree for a leftover, and ends it where it hangs.

mod exclude;
mod locks;
mod mend;
mod removal;

pub use locks::Span;
pub use removal::Discard;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::git::{Base, Git, GitError, Kind};
use super::marker::is_below;
use super::orphans;
use crate::clock::Clock;
use crate::crash::{self, Point};
use crate::limits;
use crate::lock::{FileLock, LockError};

/// Name of the lock file in the common git folder; the Python side uses the same.
pub const LOCK_NAME: &str = "adwd-worktree.lock";

/// A worktree as `git worktree list` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its folder.
    pub path: PathBuf,
    /// Its branch, unless detached.
    pub branch: Option<String>,
    /// Its folder is gone.
    pub prunable: bool,
    /// It is locked, and why: by somebody's wish, or because its making was cut off.
    pub locked: Option<String>,
}

/// The worktrees of one repository below one folder.
#[derive(Clone, Debug)]
pub struct Worktrees {
    git: Git,
    trees_dir: PathBuf,
    orphan_ms: u64,
}

/// Both locks of a repository; dropping releases them.
struct Held {
    /// The locked file. It is closed, never unlocked: a git that was given it keeps the lock to
    /// its own end.
    file: File,
    common: PathBuf,
    _process: OwnedMutexGuard<()>,
}

/// What is at the place of a worktree.
enum Standing {
    /// Nothing, or an empty folder.
    Free,
    /// A worktree of this repository that can be used.
    Intact,
    /// Something else; a sentence says what.
    InTheWay(String),
}

fn process_mutex(common: &Path) -> Arc<tokio::sync::Mutex<()>> {
    static ALL: LazyLock<Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>> =
        LazyLock::new(Mutex::default);
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(common.to_path_buf()).or_default())
}

/// Takes the file lock. A git that a killed program left behind is waited for, so that its work is
/// not taken for a leftover, but not for ever: nobody bounds its time any more.
fn take_lock(path: &Path, orphan_ms: u64) -> Result<Option<FileLock>, LockError> {
    if let Some(lock) = FileLock::exclusive(path, orphan_ms)? {
        return Ok(Some(lock));
    }
    let ended = orphans::end_orphaned_holders(path);
    if ended > 0 {
        tracing::warn!(lock = %path.display(), ended, "ended a git whose program had died and that did not come to an end");
    }
    FileLock::exclusive(path, limits::GIT_LOCK_WAIT_MS)
}

/// The path as git writes it, where it can be told.
fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Whether nothing is at a place and no record names it, told from the files alone
/// (gitrepository-layout(5)); `false` also where that cannot be told.
fn is_free(common: &Path, path: &Path) -> bool {
    let absent = |e: std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    if !path.symlink_metadata().is_err_and(absent) {
        return false;
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let here = canonical(parent).join(name);
    let records = match std::fs::read_dir(common.join("worktrees")) {
        Ok(records) => records,
        Err(e) => return absent(e),
    };
    for record in records {
        let Ok(record) = record else { return false };
        let Ok(text) = std::fs::read(record.path().join("gitdir")) else { return false };
        let text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
        let tree = Path::new(&text).parent();
        // A relative one is git's to resolve.
        if tree.is_none_or(|tree| !tree.is_absolute() || tree == path || tree == here) {
            return false;
        }
    }
    true
}

impl Worktrees {
    /// Worktrees of the repository of `git`, below `trees_dir`.
    #[must_use]
    pub fn new(git: Git, trees_dir: PathBuf) -> Worktrees {
        Worktrees { git, trees_dir, orphan_ms: limits::GIT_ORPHAN_MS }
    }

    /// With another patience for a git whose program was killed.
    #[must_use]
    pub fn with_patience(self, orphan_ms: u64) -> Worktrees {
        Worktrees { orphan_ms, ..self }
    }

    async fn lock(&self) -> Result<Held, GitError> {
        let common = self.git.common_dir().await?;
        let process = process_mutex(&common).lock_owned().await;
        let path = common.join(LOCK_NAME);
        let orphan_ms = self.orphan_ms;
        let wait = tokio::task::spawn_blocking(move || take_lock(&path, orphan_ms));
        let problem = |message: String| self.git.error("lock", message, Kind::Refused);
        match wait.await {
            Ok(Ok(Some(lock))) => {
                Ok(Held { file: lock.into_inherited(), common, _process: process })
            }
            Ok(Ok(None)) => Err(problem(format!(
                "another program holds {} for more than {} s",
                common.join(LOCK_NAME).display(),
                limits::GIT_LOCK_WAIT_MS / 1000
            ))),
            Ok(Err(e)) => Err(problem(e.to_string())),
            Err(e) => Err(problem(e.to_string())),
        }
    }

    /// Fetches the base a run is cut from; the network is tried three times.
    ///
    /// # Errors
    /// [`GitError`] that names the branch and where it was looked for.
    pub async fn resolve_base(&self, remote: &str, branch: Option<&str>) -> Result<Base, GitError> {
        let mut pause_ms = 500;
        for _ in 0..2 {
            let held = self.lock().await?;
            match self.git.resolve_base(remote, branch).await {
                Err(e) if matches!(e.kind, Kind::Network | Kind::Killed) => {}
                Err(e) if e.kind == Kind::Poisoned => self.mend(&held).await?,
                done => return done,
            }
            drop(held);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms *= 3;
        }
        let _held = self.lock().await?;
        self.git.resolve_base(remote, branch).await
    }

    /// Makes a worktree at a commit, on no branch. One that is there and intact is kept as it is.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn add_detached(&self, path: &Path, commit: &str) -> Result<(), GitError> {
        self.add(path, &["--detach"], commit).await
    }

    /// Makes a worktree on an existing branch. One that is there and intact is kept as it is.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn add_branch(&self, path: &Path, branch: &str) -> Result<(), GitError> {
        self.add(path, &[], branch).await
    }

    async fn add(&self, path: &Path, options: &[&str], at: &str) -> Result<(), GitError> {
        const OPERATION: &str = "worktree add";
        self.only_ours(OPERATION, path)?;
        let held = self.lock().await?;
        std::fs::create_dir_all(&self.trees_dir).map_err(|e| {
            self.git.error(OPERATION, format!("{}: {e}", self.trees_dir.display()), Kind::Failed)
        })?;
        let mut args: Vec<&OsStr> = ["worktree", "add", "--quiet"].map(OsStr::new).to_vec();
        args.extend(options.iter().map(OsStr::new));
        args.extend([path.as_os_str(), OsStr::new(at)]);
        let mut attempt = 1;
        loop {
            match self.standing(&held, path).await? {
                Standing::Intact => return Ok(()),
                Standing::InTheWay(what) => {
                    return Err(self.git.error(OPERATION, what, Kind::Refused));
                }
                Standing::Free => {}
            }
            let Err(e) = self.git.ok_holding(&args, &held.file).await else { return Ok(()) };
            let e = self.with_room(e);
            self.mend(&held).await?;
            // What another git disturbed can be tried again; a wrong commit stays wrong.
            let passing = matches!(e.kind, Kind::Poisoned | Kind::Killed)
                || e.message.contains("could not lock");
            if !passing || attempt >= limits::GIT_ADD_TRIES_COUNT {
                return Err(e);
            }
            tokio::time::sleep(Duration::from_millis(limits::GIT_ADD_PAUSE_MS << attempt)).await;
            attempt += 1;
        }
    }

    /// git says that it could not write, but not why: where it is for want of room, that is said.
    fn with_room(&self, mut error: GitError) -> GitError {
        let free = nix::sys::statvfs::statvfs(&self.trees_dir)
            .map(|fs| fs.blocks_available().saturating_mul(fs.fragment_size()));
        if let Ok(free) = free
            && error.message.contains("unable to write")
        {
            let place = self.trees_dir.display();
            error.message =
                format!("{} ({} KiB are free under {place})", error.message, free >> 10);
        }
        error
    }

    /// What is at a place. Half-made worktrees are taken away first; nothing that could be
    /// anybody's work ever is.
    async fn standing(&self, held: &Held, path: &Path) -> Result<Standing, GitError> {
        self.mend(held).await?;
        if is_free(&held.common, path) {
            return Ok(Standing::Free);
        }
        let here = canonical(path);
        let listed = self.list_mended(held).await?;
        let Some(found) = listed.iter().find(|l| l.path == here || l.path == path) else {
            let free = match std::fs::read_dir(path) {
                Ok(mut entries) => entries.next().is_none(),
                Err(e) => e.kind() == std::io::ErrorKind::NotFound,
            };
            return Ok(if free {
                Standing::Free
            } else {
                Standing::InTheWay(format!(
                    "{} is there and git knows no worktree of it; move it away",
                    path.display()
                ))
            });
        };
        let usable = path.join(".git").is_file() && self.git.head(path).await.is_ok();
        Ok(if usable {
            Standing::Intact
        } else if let Some(reason) = &found.locked {
            Standing::InTheWay(format!(
                "the worktree {} is gone but locked ({reason}); `git worktree unlock` it",
                path.display()
            ))
        } else {
            Standing::InTheWay(format!(
                "the worktree {} cannot be used; save what you need of it, then \
                 `git worktree remove --force` it",
                path.display()
            ))
        })
    }

    /// Also where a link below the tree folder leads elsewhere: git would follow it.
    fn only_ours(&self, operation: &str, path: &Path) -> Result<(), GitError> {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let inside = match (real(path), real(&self.trees_dir)) {
            (Some(path), Some(trees)) => is_below(&path, &trees),
            _ => !path.is_symlink(),
        };
        if inside && is_below(path, &self.trees_dir) {
            return Ok(());
        }
        let message = format!("{} is not below {}", path.display(), self.trees_dir.display());
        Err(self.git.error(operation, message, Kind::Refused))
    }

    /// Mends, and lists all worktrees of the repository, the main checkout first.
    ///
    /// # Errors
    /// [`GitError`]; [`Kind::Poisoned`] where somebody else's record still spoils the repository.
    pub async fn mended(&self) -> Result<Vec<Listed>, GitError> {
        let held = self.lock().await?;
        self.mend(&held).await?;
        self.list_mended(&held).await
    }

    /// All worktrees of the repository, the main checkout first.
    ///
    /// # Errors
    /// [`GitError`]; [`Kind::Poisoned`] where a killed `add` left the repository so.
    pub async fn list(&self) -> Result<Vec<Listed>, GitError> {
        let args = ["worktree", "list", "--porcelain", "-z"].map(OsStr::new);
        let out = self.git.ok(self.git.root(), &args).await?;
        Ok(parse_list(&out.stdout_text()))
    }

    /// The list, waiting a little where somebody else's `add` is on its way, and mending where it
    /// is not any more.
    async fn list_mended(&self, held: &Held) -> Result<Vec<Listed>, GitError> {
        for attempt in 1..limits::GIT_ADD_TRIES_COUNT {
            match self.list().await {
                Err(e) if e.kind == Kind::Poisoned => {}
                done => return done,
            }
            tokio::time::sleep(Duration::from_millis(limits::GIT_ADD_PAUSE_MS << attempt)).await;
            self.mend(held).await?;
        }
        self.list().await
    }

    /// Whether a folder is a worktree of this repository, below the tree folder.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn contains(&self, path: &Path) -> Result<bool, GitError> {
        if !is_below(path, &self.trees_dir) || !path.is_dir() {
            return Ok(false);
        }
        let here = canonical(path);
        Ok(self.list().await?.iter().any(|l| l.path == here || l.path == path))
    }

    /// Worktrees below the tree folder, and folders there that git does not know, which are none
    /// of `known`.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn strays(&self, known: &[PathBuf]) -> Result<Vec<PathBuf>, GitError> {
        let root = canonical(&self.trees_dir);
        let known: Vec<PathBuf> = known.iter().map(|p| canonical(p)).collect();
        let listed = self.list().await?.into_iter().map(|l| l.path);
        let mut strays: Vec<PathBuf> = listed.filter(|p| p.starts_with(&root)).collect();
        let entries = std::fs::read_dir(&root).into_iter().flatten().flatten();
        strays.extend(entries.map(|e| e.path()).filter(|p| p.is_dir()));
        strays.sort();
        strays.dedup();
        strays.retain(|p| !known.contains(p));
        Ok(strays)
    }

    /// Mends what a crash left: half-made worktrees, and records of folders that are gone.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn repair(&self) -> Result<(), GitError> {
        let held = self.lock().await?;
        self.mend(&held).await
    }

    /// Removes the lock files that a killed git left of a run's worktree and of its branch. For when
    /// nothing of the run lives. `spans` are those of its attempts that did not end well: in them a
    /// lock was made that is shared with others.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn unlock_left(
        &self,
        path: &Path,
        adw_id: &str,
        spans: &[Span],
        clock: &dyn Clock,
    ) -> Result<(), GitError> {
        self.only_ours("unlock", path)?;
        let common = self.git.common_dir().await?;
        let (shared, tree, adw_id) = (common.clone(), canonical(path), adw_id.to_owned());
        let mut removed =
            self.blocking("unlock", move || locks::remove_left(&common, &tree, &adw_id)).await?;
        // Twice at most: the second time nothing is too young any more.
        for _ in 0..2 {
            let (shared, spans) = (shared.clone(), spans.to_vec());
            let now = clock.now();
            let left = move || locks::remove_shared(&shared, &spans, now);
            let (more, wait) = self.blocking("unlock", left).await?;
            removed.extend(more);
            let Some(wait) = wait else { break };
            tokio::time::sleep(wait).await;
        }
        if !removed.is_empty() {
            tracing::warn!(?removed, "removed lock files that a killed git left");
        }
        Ok(())
    }

    /// The mending itself; having the lock proves that no `add` of ours is on its way.
    async fn mend(&self, held: &Held) -> Result<(), GitError> {
        let common = held.common.clone();
        let trees_dir = canonical(&self.trees_dir);
        self.blocking("worktree repair", move || mend::mend(&common, &trees_dir)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        operation: &str,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, GitError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(std::io::Error::other)
            .flatten()
            .map_err(|e| self.git.error(operation, e.to_string(), Kind::Failed))
    }

    /// Keeps a block of patterns in `.git/info/exclude`, so that folders of ours are ignored
    /// without an edit of the project's files. Other lines stay as they are.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn ensure_exclude(&self, patterns: &[String]) -> Result<(), GitError> {
        let held = self.lock().await?;
        let file = held.common.join("info/exclude");
        let failed = |e: std::io::Error| {
            self.git.error("exclude", format!("{}: {e}", file.display()), Kind::Failed)
        };
        let old = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => vec![],
            Err(e) => return Err(failed(e)),
        };
        let new = exclude::with_block(&old, patterns);
        if new == old {
            return Ok(());
        }
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let temp = file.with_extension("adwd-tmp");
        std::fs::write(&temp, new).map_err(failed)?;
        crash::here(Point::ExcludeWritten);
        std::fs::rename(&temp, &file).map_err(failed)?;
        crash::here(Point::ExcludeRenamed);
        Ok(())
    }
}

fn parse_list(text: &str) -> Vec<Listed> {
    let mut all: Vec<Listed> = vec![];
    for field in text.split('\0') {
        let (key, value) = field.split_once(' ').unwrap_or((field, ""));
        if key == "worktree" {
            all.push(Listed { path: PathBuf::from(value), ..Listed::default() });
            continue;
        }
        let Some(last) = all.last_mut() else { continue };
        match key {
            "branch" => last.branch = Some(value.trim_start_matches("refs/heads/").to_owned()),
            "prunable" => last.prunable = true,
            "locked" => last.locked = Some(value.to_owned()),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_porcelain_list_is_read() {
        let text = "worktree /r\0HEAD a\0branch refs/heads/main\0\0worktree /r/t x\0HEAD b\0detached\0locked initializing\0\0";
        let all = parse_list(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].branch.as_deref(), Some("main"));
        assert_eq!(all[1].locked.as_deref(), Some(mend::INITIALIZING));
        assert_eq!(all[1].path, Path::new("/r/t x"));
    }
}
