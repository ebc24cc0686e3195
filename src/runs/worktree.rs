//! Worktrees: made, looked through, mended and removed one at a time per repository.
//!
//! git's own `worktree add` fails when two run at once, and one that is killed poisons the whole
//! repository (`spec/platform.md` §3). So everything that changes worktrees or fetches runs under a
//! mutex of this process and a file lock that the Python side takes too, is tried again where
//! somebody else disturbed it, and is mended at start-up.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::git::{Base, Git, GitError, Kind};
use super::marker::is_below;
use crate::limits;
use crate::lock::FileLock;

/// Name of the lock file in the common git folder; the Python side uses the same.
pub const LOCK_NAME: &str = "adwd-worktree.lock";
const EXCLUDE_BEGIN: &str = "# adwd begin";
const EXCLUDE_END: &str = "# adwd end";

/// A worktree as `git worktree list` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its folder.
    pub path: PathBuf,
    /// Its branch, unless detached.
    pub branch: Option<String>,
    /// Its folder is gone.
    pub prunable: bool,
    /// It is locked, perhaps because its making was cut off.
    pub locked: bool,
}

/// The worktrees of one repository below one folder.
#[derive(Clone, Debug)]
pub struct Worktrees {
    git: Git,
    trees_dir: PathBuf,
}

/// Both locks of a repository; dropping releases them.
struct Held {
    _file: FileLock,
    _process: OwnedMutexGuard<()>,
}

fn process_mutex(common: &Path) -> Arc<tokio::sync::Mutex<()>> {
    static ALL: LazyLock<Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>> =
        LazyLock::new(Mutex::default);
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(common.to_path_buf()).or_default())
}

impl Worktrees {
    /// Worktrees of the repository of `git`, below `trees_dir`.
    #[must_use]
    pub fn new(git: Git, trees_dir: PathBuf) -> Worktrees {
        Worktrees { git, trees_dir }
    }

    async fn lock(&self) -> Result<Held, GitError> {
        let common = self.git.common_dir().await?;
        let process = process_mutex(&common).lock_owned().await;
        let path = common.join(LOCK_NAME);
        let wait = tokio::task::spawn_blocking(move || {
            FileLock::exclusive(&path, limits::GIT_LOCK_WAIT_MS)
        });
        let problem = |message: String| self.git.error("lock", message, Kind::Refused);
        match wait.await {
            Ok(Ok(Some(file))) => Ok(Held { _file: file, _process: process }),
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
                Err(e) if e.kind == Kind::Network => {}
                Err(e) if e.kind == Kind::Poisoned => self.mend().await?,
                done => return done,
            }
            drop(held);
            tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
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
        self.only_ours("worktree add", path)?;
        let _held = self.lock().await?;
        std::fs::create_dir_all(&self.trees_dir).map_err(|e| {
            self.git.error(
                "worktree add",
                format!("{}: {e}", self.trees_dir.display()),
                Kind::Failed,
            )
        })?;
        for attempt in 1.. {
            if self.intact(path).await? {
                return Ok(());
            }
            let mut args: Vec<&OsStr> = ["worktree", "add", "--quiet"].map(OsStr::new).to_vec();
            args.extend(options.iter().map(OsStr::new));
            args.extend([path.as_os_str(), OsStr::new(at)]);
            match self.git.ok(self.git.root(), &args).await {
                Ok(_) => return Ok(()),
                Err(e) if attempt >= limits::GIT_ADD_TRIES_COUNT => return Err(e),
                Err(_) => {
                    self.clear_remains(path).await?;
                    // A git whose daemon was killed may still be writing there.
                    let pause_ms = limits::GIT_ADD_PAUSE_MS * u64::from(attempt);
                    tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
                }
            }
        }
        unreachable!("the loop returns at its last try")
    }

    /// Whether a usable worktree of this repository is there.
    async fn intact(&self, path: &Path) -> Result<bool, GitError> {
        if !path.join(".git").exists() {
            return Ok(false);
        }
        let listed = match self.list().await {
            Err(e) if e.kind == Kind::Poisoned => {
                self.mend().await?;
                self.list().await?
            }
            other => other?,
        };
        let here = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let known =
            listed.iter().any(|l| !l.locked && !l.prunable && (l.path == here || l.path == path));
        Ok(known
            && self.git.head(path).await.is_ok()
            && path.join(".git").exists()
            && self.checked_out(path).await?)
    }

    /// Whether the checkout of a worktree got to its end: a cut-off one has tracked files missing
    /// and nothing of anybody's in it.
    async fn checked_out(&self, path: &Path) -> Result<bool, GitError> {
        let args = ["rev-parse", "--path-format=absolute", "--git-path", "index"].map(OsStr::new);
        let out = self.git.ok(path, &args).await?;
        let index = PathBuf::from(out.stdout_text().trim_end_matches('\n').to_owned());
        Ok(index.exists() && !index.with_extension("lock").exists())
    }

    /// Takes away what a failed or killed `add` left, so that the next one can work.
    async fn clear_remains(&self, path: &Path) -> Result<(), GitError> {
        self.mend().await?;
        let listed = self.list().await?;
        if listed.iter().any(|l| l.path == path) {
            let args = ["worktree", "remove", "--force", "--force"].map(OsStr::new);
            let mut args = args.to_vec();
            args.push(path.as_os_str());
            let _ = self.git.run(self.git.root(), &args).await?;
        }
        if path.exists() && !path.join(".git").exists() {
            // A checkout that was cut off before git wrote its `.git`: nothing of anybody's is in it.
            let _ = std::fs::remove_dir_all(path);
        }
        Ok(())
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

    /// All worktrees of the repository, the main checkout first.
    ///
    /// # Errors
    /// [`GitError`]; [`Kind::Poisoned`] where a killed `add` left the repository so.
    pub async fn list(&self) -> Result<Vec<Listed>, GitError> {
        let args = ["worktree", "list", "--porcelain", "-z"].map(OsStr::new);
        let out = self.git.ok(self.git.root(), &args).await?;
        Ok(parse_list(&out.stdout_text()))
    }

    /// Whether a folder is a worktree of this repository, below the tree folder.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn contains(&self, path: &Path) -> Result<bool, GitError> {
        if !is_below(path, &self.trees_dir) || !path.is_dir() {
            return Ok(false);
        }
        let here = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        Ok(self.list().await?.iter().any(|l| l.path == here || l.path == path))
    }

    /// Worktrees below the tree folder, and folders there that git does not know, which are none
    /// of `known`.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn strays(&self, known: &[PathBuf]) -> Result<Vec<PathBuf>, GitError> {
        let mut strays: Vec<PathBuf> = self
            .list()
            .await?
            .into_iter()
            .map(|l| l.path)
            .filter(|p| p.starts_with(&self.trees_dir))
            .collect();
        if let Ok(entries) = std::fs::read_dir(&self.trees_dir) {
            strays.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()));
        }
        strays.sort();
        strays.dedup();
        strays.retain(|p| !known.contains(p));
        Ok(strays)
    }

    /// Removes a worktree. Without `force` it is refused where something would be lost: changes
    /// that are not committed, commits that no remote has.
    ///
    /// # Errors
    /// [`GitError`]; [`Kind::Refused`] names what would be lost.
    pub async fn remove(&self, path: &Path, force: bool) -> Result<(), GitError> {
        self.remove_unless(path, force, async || Ok(())).await
    }

    /// Like [`Worktrees::remove`], but asks once more under the lock whether it may still be done:
    /// a run that goes on takes the same lock before it uses its worktree.
    ///
    /// # Errors
    /// [`GitError`], or the objection.
    pub async fn remove_unless(
        &self,
        path: &Path,
        force: bool,
        objection: impl AsyncFnOnce() -> Result<(), String>,
    ) -> Result<(), GitError> {
        self.only_ours("worktree remove", path)?;
        let _held = self.lock().await?;
        objection().await.map_err(|why| self.git.error("worktree remove", why, Kind::Refused))?;
        if path.exists() && !force {
            self.nothing_to_lose(path).await?;
        }
        let mut args = ["worktree", "remove", "--force", "--force"].map(OsStr::new).to_vec();
        args.push(path.as_os_str());
        let removed = self.git.ok(self.git.root(), &args).await;
        if let (Err(e), true) = (&removed, path.exists()) {
            let unknown =
                matches!(e.kind, Kind::Missing) || e.message.contains("not a working tree");
            if !(unknown && force) {
                return removed.map(drop);
            }
            std::fs::remove_dir_all(path).map_err(|e| {
                self.git.error("worktree remove", format!("{}: {e}", path.display()), Kind::Failed)
            })?;
        }
        self.mend().await
    }

    async fn nothing_to_lose(&self, path: &Path) -> Result<(), GitError> {
        let refuse =
            |message: String| Err(self.git.error("worktree remove", message, Kind::Refused));
        let args = ["status", "--porcelain", "--untracked-files=normal"].map(OsStr::new);
        let out = self.git.ok(path, &args).await?;
        let status = out.stdout_text().to_owned();
        // `uv run` leaves a lock file in a repository that has none; it is nobody's work.
        let lost: Vec<&str> =
            status.lines().filter(|l| !matches!(*l, "?? uv.lock" | "?? .venv/")).collect();
        if let Some(first) = lost.first() {
            return refuse(format!(
                "{} has {} uncommitted change(s), such as {}",
                path.display(),
                lost.len(),
                first.get(3..).unwrap_or_default().trim()
            ));
        }
        let unpushed = self.git.unpushed_count(path).await?;
        if unpushed > 0 {
            return refuse(format!(
                "{} has {unpushed} commit(s) that no remote has",
                path.display()
            ));
        }
        Ok(())
    }

    /// Mends what a crash left: half-made worktrees, and records of our folders that are gone. A
    /// worktree of somebody else that is away, on a disk that is not mounted say, is left alone.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn repair(&self) -> Result<(), GitError> {
        let _held = self.lock().await?;
        self.mend().await
    }

    /// The mending itself; the caller holds the lock, so no `add` of ours is half-way.
    async fn mend(&self) -> Result<(), GitError> {
        let admin = self.git.common_dir().await?.join("worktrees");
        let real_trees = std::fs::canonicalize(&self.trees_dir);
        let below = |tree: &Path| {
            tree.starts_with(&self.trees_dir)
                || real_trees.as_ref().is_ok_and(|trees| tree.starts_with(trees))
        };
        for entry in std::fs::read_dir(&admin).into_iter().flatten().flatten() {
            let dir = entry.path();
            let text = |name: &str| {
                std::fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_owned()
            };
            let tree =
                PathBuf::from(text("gitdir")).parent().map(Path::to_path_buf).unwrap_or_default();
            // A record that names no folder yet may be somebody else's `add`, running right now.
            let old =
                entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            let abandoned =
                old.is_some_and(|age| age.as_millis() > u128::from(limits::GIT_HALF_MADE_MS));
            let ours = below(&tree) || (tree.as_os_str().is_empty() && abandoned);
            let half_made = text("commondir").is_empty()
                || text("locked") == "initializing"
                || text("gitdir").is_empty();
            let gone = !tree.exists() && !dir.join("locked").exists();
            if ours && (half_made || gone) {
                tracing::warn!(admin = %dir.display(), "removing a worktree whose making was cut off, or whose folder is gone");
                if below(&tree) {
                    let _ = std::fs::remove_dir_all(&tree);
                }
                std::fs::remove_dir_all(&dir).map_err(|e| {
                    self.git.error(
                        "worktree prune",
                        format!("{}: {e}", dir.display()),
                        Kind::Failed,
                    )
                })?;
            }
        }
        // git's own measure of what is stale: what is half-made at once, what is away after months.
        let prune = ["worktree", "prune", "--expire=3.months.ago"].map(OsStr::new);
        self.git.ok(self.git.root(), &prune).await.map(drop)
    }

    /// Keeps a block of patterns in `.git/info/exclude`, so that folders of ours are ignored
    /// without an edit of the project's files. Other lines stay as they are.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn ensure_exclude(&self, patterns: &[String]) -> Result<(), GitError> {
        let _held = self.lock().await?;
        let file = self.git.common_dir().await?.join("info/exclude");
        let failed = |e: std::io::Error| {
            self.git.error("exclude", format!("{}: {e}", file.display()), Kind::Failed)
        };
        let old = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(failed(e)),
        };
        let new = with_block(&old, patterns);
        if new == old {
            return Ok(());
        }
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let temp = file.with_extension("adwd-tmp");
        std::fs::write(&temp, new).and_then(|()| std::fs::rename(&temp, &file)).map_err(failed)
    }
}

/// The text with our block holding exactly these patterns.
fn with_block(old: &str, patterns: &[String]) -> String {
    let mut kept = vec![];
    let mut inside = false;
    for line in old.lines() {
        match line {
            EXCLUDE_BEGIN => inside = true,
            EXCLUDE_END if inside => inside = false,
            _ if !inside => kept.push(line),
            _ => {}
        }
    }
    kept.push(EXCLUDE_BEGIN);
    kept.extend(patterns.iter().map(String::as_str));
    kept.push(EXCLUDE_END);
    kept.join("\n") + "\n"
}

fn parse_list(text: &str) -> Vec<Listed> {
    let mut all: Vec<Listed> = vec![];
    for field in text.split('\0') {
        let (key, value) = field.split_once(' ').unwrap_or((field, ""));
        if key == "worktree" {
            all.push(Listed {
                path: PathBuf::from(value),
                branch: None,
                prunable: false,
                locked: false,
            });
            continue;
        }
        let Some(last) = all.last_mut() else { continue };
        match key {
            "branch" => last.branch = Some(value.trim_start_matches("refs/heads/").to_owned()),
            "prunable" => last.prunable = true,
            "locked" => last.locked = true,
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exclude_block_is_kept_and_nothing_else_is_touched() {
        let patterns = ["/logs/".to_owned()];
        let one = with_block("*.swp\n", &patterns);
        assert_eq!(one, "*.swp\n# adwd begin\n/logs/\n# adwd end\n");
        assert_eq!(with_block(&one, &patterns), one);
        assert_eq!(
            with_block(&format!("{one}x\n"), &["/a/".to_owned()]),
            "*.swp\nx\n# adwd begin\n/a/\n# adwd end\n"
        );
    }

    #[test]
    fn the_porcelain_list_is_read() {
        let text = "worktree /r\0HEAD a\0branch refs/heads/main\0\0worktree /r/t x\0HEAD b\0detached\0locked initializing\0\0";
        let all = parse_list(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].branch.as_deref(), Some("main"));
        assert!(all[1].locked && all[1].path == Path::new("/r/t x"));
    }
}
