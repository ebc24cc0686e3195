//! The git command line: short questions, bounded in time, with errors that say what git said.
//!
//! git itself is used, not a library: worktrees, hooks, filters and credentials then behave as the
//! user's own git does (`spec/platform.md` §3).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use super::process::{Cmd, Output, output, output_holding};
use crate::limits;

/// The oldest git that does what is asked of it, major and minor.
pub const MIN_VERSION: (u32, u32) = (2, 39);

/// What kind of trouble git had; callers branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The remote could not be reached; trying again can help.
    Network,
    /// The remote refused the credentials.
    Auth,
    /// A folder, branch or remote is not there.
    Missing,
    /// Another `worktree add` was half-way, or a crash left one so.
    Poisoned,
    /// Something is in the way: a lock file, a branch in use, changes that would be lost.
    Refused,
    /// It took too long, or could not be started.
    Failed,
    /// A signal ended it; trying again can help.
    Killed,
    /// Anything else.
    Other,
}

/// A git command that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("git {operation} in {repo}: {message}")]
pub struct GitError {
    /// What was tried.
    pub operation: String,
    /// In which folder.
    pub repo: String,
    /// git's own last words, or ours where they say more.
    pub message: String,
    /// What kind of trouble.
    pub kind: Kind,
}

impl GitError {
    /// Whether trying again, unchanged, can help: the remote could not be reached, or git was killed.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Network | Kind::Killed)
    }
}

/// Where a run's work is cut from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The branch.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// Whether it was fetched just now; `false` where the repository has no remote.
    pub fetched: bool,
}

/// git in one repository.
#[derive(Clone, Debug)]
pub struct Git {
    program: PathBuf,
    root: PathBuf,
    env: BTreeMap<OsString, OsString>,
}

/// Root of the main checkout that `path` lies in, also where `path` is in a linked worktree.
///
/// # Errors
/// [`GitError`] where it is no git repository, or a bare one.
pub async fn toplevel(path: &Path, env: &BTreeMap<String, String>) -> Result<PathBuf, GitError> {
    let git = Git::new(path, env.clone());
    let not = |message: &str| git.error("rev-parse", message.to_owned(), Kind::Missing);
    if !path.is_dir() {
        return Err(not("there is no such folder"));
    }
    let common = git.line("rev-parse", &["--path-format=absolute", "--git-common-dir"]).await?;
    let common = PathBuf::from(common);
    if git.line("rev-parse", &["--is-bare-repository"]).await? == "true"
        || common.file_name() != Some(OsStr::new(".git"))
    {
        return Err(not(
            "it is a bare repository, or one whose .git lies elsewhere; a checkout is needed",
        ));
    }
    let root = common.parent().ok_or_else(|| not("it has no parent folder"))?;
    std::fs::canonicalize(root).map_err(|e| not(&e.to_string()))
}

/// The common folder of an ordinary main checkout, which needs no git to be told: `.git` is a folder
/// in it, and holds what makes git take a folder for a repository (gitrepository-layout(5)).
fn plain_common_dir(root: &Path) -> Option<PathBuf> {
    let folder = std::fs::canonicalize(root).ok()?.join(".git");
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|m| m.is_dir());
    let whole = is_folder(&folder)
        && folder.join("HEAD").is_file()
        && is_folder(&folder.join("objects"))
        && is_folder(&folder.join("refs"))
        && !folder.join("commondir").exists();
    whole.then_some(folder)
}

impl Git {
    /// git in the checkout `root`, with this whole environment.
    #[must_use]
    pub fn new(root: &Path, env: BTreeMap<String, String>) -> Git {
        let mut env: BTreeMap<OsString, OsString> =
            env.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        for name in
            ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"]
        {
            env.remove(OsStr::new(name));
        }
        for (name, value) in
            [("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0"), ("LC_ALL", "C")]
        {
            env.insert(name.into(), value.into());
        }
        // A daemon in the foreground has a terminal: ssh must fail there instead of asking on it.
        let asks = env.contains_key(OsStr::new("SSH_ASKPASS"));
        if !asks {
            env.insert("SSH_ASKPASS".into(), "/bin/false".into());
            env.insert("SSH_ASKPASS_REQUIRE".into(), "force".into());
        }
        let program = env
            .get(OsStr::new("PATH"))
            .and_then(|path| super::process::find_program("git", path))
            .unwrap_or_else(|| PathBuf::from("git"));
        Git { program, root: root.to_path_buf(), env }
    }

    /// The checkout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn error(&self, operation: &str, message: String, kind: Kind) -> GitError {
        GitError {
            operation: operation.to_owned(),
            repo: self.root.display().to_string(),
            message,
            kind,
        }
    }

    /// Runs git; only the failure to run it at all is an error.
    pub(super) async fn run(&self, cwd: &Path, args: &[&OsStr]) -> Result<Output, GitError> {
        self.run_within(cwd, args, limits::GIT_COMMAND_MS, None).await
    }

    async fn run_within(
        &self,
        cwd: &Path,
        args: &[&OsStr],
        timeout_ms: u64,
        held: Option<&File>,
    ) -> Result<Output, GitError> {
        let cmd = Cmd {
            program: self.program.clone(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            cwd: Some(cwd.to_path_buf()),
            env: self.env.clone(),
            stdin: vec![],
            timeout_ms,
            max_output_bytes: limits::COMMAND_OUTPUT_BYTES,
        };
        let operation = args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        let out = match held {
            Some(file) => output_holding(&cmd, file).await,
            None => output(&cmd).await,
        }
        .map_err(|e| self.error(&operation, e.to_string(), Kind::Failed))?;
        if out.timed_out {
            let remote = matches!(operation.as_str(), "fetch" | "ls-remote" | "push");
            let kind = if remote { Kind::Network } else { Kind::Failed };
            return Err(self.error(
                &operation,
                format!("no answer within {} s", timeout_ms / 1000),
                kind,
            ));
        }
        Ok(out)
    }

    /// Runs git in `cwd`; a code other than 0 is an error.
    pub(super) async fn ok(&self, cwd: &Path, args: &[&OsStr]) -> Result<Output, GitError> {
        let out = self.run(cwd, args).await?;
        self.checked(args, out)
    }

    /// The same in the main checkout, with time for a large one, and holding a lock to its end.
    pub(super) async fn ok_holding(
        &self,
        args: &[&OsStr],
        held: &File,
    ) -> Result<Output, GitError> {
        let out = self.run_within(&self.root, args, limits::GIT_CHECKOUT_MS, Some(held)).await?;
        self.checked(args, out)
    }

    fn checked(&self, args: &[&OsStr], out: Output) -> Result<Output, GitError> {
        if out.success() {
            return Ok(out);
        }
        let operation =
            args.iter().take(2).map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        if let Some(signal) = out.signal {
            let message = format!(
                "was killed (signal {signal}): by the kernel for want of memory, or by somebody"
            );
            return Err(self.error(&operation, message, Kind::Killed));
        }
        let all = String::from_utf8_lossy(&out.stderr).into_owned();
        let message = cause(&all);
        Err(self.error(
            &operation,
            if message.is_empty() { format!("failed with code {:?}", out.code) } else { message },
            kind_of(&all),
        ))
    }

    async fn line_in(
        &self,
        cwd: &Path,
        operation: &str,
        args: &[&str],
    ) -> Result<String, GitError> {
        let mut all: Vec<&OsStr> = vec![OsStr::new(operation)];
        all.extend(args.iter().map(OsStr::new));
        let out = self.ok(cwd, &all).await?;
        Ok(out.stdout_text().trim_end_matches('\n').to_owned())
    }

    async fn line(&self, operation: &str, args: &[&str]) -> Result<String, GitError> {
        self.line_in(&self.root, operation, args).await
    }

    /// The folder that all worktrees share.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn common_dir(&self) -> Result<PathBuf, GitError> {
        if let Some(plain) = plain_common_dir(&self.root) {
            return Ok(plain);
        }
        Ok(PathBuf::from(
            self.line("rev-parse", &["--path-format=absolute", "--git-common-dir"]).await?,
        ))
    }

    /// URL of a remote as stored, with a password masked; `None` where there is no such remote.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn remote_url(&self, remote: &str) -> Result<Option<String>, GitError> {
        let key = format!("remote.{remote}.url");
        let out = self
            .run(&self.root, &[OsStr::new("config"), OsStr::new("--get"), OsStr::new(&key)])
            .await?;
        let url = out.stdout_text().trim().to_owned();
        Ok((out.success() && !url.is_empty()).then(|| crate::telemetry::redact(&url).into_owned()))
    }

    /// Commit of `HEAD` in a worktree.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn head(&self, worktree: &Path) -> Result<String, GitError> {
        self.line_in(worktree, "rev-parse", &["HEAD"]).await
    }

    /// Whether a worktree has no uncommitted change and no untracked file that is not ignored.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn is_clean(&self, worktree: &Path) -> Result<bool, GitError> {
        Ok(self
            .line_in(worktree, "status", &["--porcelain", "--untracked-files=normal"])
            .await?
            .is_empty())
    }

    /// Whether a file is part of a commit.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn file_in_commit(&self, commit: &str, path: &Path) -> Result<bool, GitError> {
        let name = format!("{commit}:{}", path.display());
        Ok(self
            .run(&self.root, &[OsStr::new("cat-file"), OsStr::new("-e"), OsStr::new(&name)])
            .await?
            .success())
    }

    /// How many commits `branch` has that `base` has not.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn ahead_count(&self, base: &str, branch: &str) -> Result<u64, GitError> {
        let range = format!("{base}..{branch}");
        let text = self.line("rev-list", &["--count", &range, "--"]).await?;
        text.parse().map_err(|_| self.error("rev-list", format!("answered {text:?}"), Kind::Other))
    }

    /// Commit of a branch on the remote, asked there; `None` where it has none.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn remote_branch_commit(
        &self,
        remote: &str,
        branch: &str,
    ) -> Result<Option<String>, GitError> {
        let name = format!("refs/heads/{branch}");
        let text = self.line("ls-remote", &["--heads", remote, &name]).await?;
        Ok(text.lines().find_map(|l| {
            l.split_once('\t').filter(|(_, n)| *n == name).map(|(c, _)| c.to_owned())
        }))
    }

    /// Commit of a local branch; `None` where there is none.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn local_branch_commit(&self, branch: &str) -> Result<Option<String>, GitError> {
        self.commit_of(&format!("refs/heads/{branch}")).await
    }

    async fn commit_of(&self, name: &str) -> Result<Option<String>, GitError> {
        let name = format!("{name}^{{commit}}");
        let out = self
            .run(&self.root, &["rev-parse", "--quiet", "--verify", &name].map(OsStr::new))
            .await?;
        let text = out.stdout_text().trim().to_owned();
        Ok((out.success() && !text.is_empty()).then_some(text))
    }

    /// Local branches that match a pattern such as `*-7-abc`.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn branches(&self, pattern: &str) -> Result<Vec<String>, GitError> {
        let pattern = format!("refs/heads/{pattern}");
        let text = self.line("for-each-ref", &["--format=%(refname:short)", &pattern]).await?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// All local branches; `None` where their names are more than is read of a command's output.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn all_branches(&self) -> Result<Option<Vec<String>>, GitError> {
        let args = ["for-each-ref", "--format=%(refname:short)", "refs/heads"].map(OsStr::new);
        let out = self.ok(&self.root, &args).await?;
        let names = || out.stdout_text().lines().map(str::to_owned).collect();
        Ok((!out.truncated).then(names))
    }

    /// The branch of a checkout; `None` where it is on none.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn branch_of(&self, worktree: &Path) -> Result<Option<String>, GitError> {
        let args = ["symbolic-ref", "--quiet", "--short", "HEAD"].map(OsStr::new);
        let out = self.run(worktree, &args).await?;
        let text = out.stdout_text().trim().to_owned();
        Ok((out.success() && !text.is_empty()).then_some(text))
    }

    /// Checks a branch out.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn switch(&self, worktree: &Path, branch: &str) -> Result<(), GitError> {
        self.line_in(worktree, "switch", &["--quiet", branch]).await.map(drop)
    }

    /// Commits of a worktree's `HEAD` that would be lost with it: those that no remote has; where
    /// the repository has no remote, those on no branch.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn unpushed_count(&self, worktree: &Path) -> Result<u64, GitError> {
        let remotes = self.line("remote", &[]).await?;
        let mut args = vec!["--count", "HEAD", "--not", "--remotes"];
        if remotes.is_empty() {
            args.push("--branches");
        }
        let text = self.line_in(worktree, "rev-list", &args).await?;
        let count: u64 = text
            .parse()
            .map_err(|_| self.error("rev-list", format!("answered {text:?}"), Kind::Other))?;
        if count == 0 || remotes.is_empty() {
            return Ok(count);
        }
        // A push to a URL leaves no trace here: before work is kept for ever, the remote is asked.
        let head = self.head(worktree).await?;
        let branch = self.line_in(worktree, "rev-parse", &["--abbrev-ref", "HEAD"]).await?;
        for remote in remotes.lines().take(limits::GIT_REMOTES_COUNT) {
            if self.remote_branch_commit(remote, &branch).await.ok().flatten().as_ref()
                == Some(&head)
            {
                return Ok(0);
            }
        }
        Ok(count)
    }

    /// Commits of a worktree's `HEAD` that neither a branch of the repository nor a remote has.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn stranded_count(&self, worktree: &Path) -> Result<u64, GitError> {
        let args = ["--count", "HEAD", "--not", "--branches", "--remotes"];
        let text = self.line_in(worktree, "rev-list", &args).await?;
        text.parse().map_err(|_| self.error("rev-list", format!("answered {text:?}"), Kind::Other))
    }

    /// The branch that the remote's `HEAD` names; `None` where the remote is empty.
    async fn remote_default(&self, remote: &str) -> Result<Option<String>, GitError> {
        let text = self.line("ls-remote", &["--symref", remote]).await?;
        let name =
            |l: &str| l.strip_prefix("ref: refs/heads/")?.split('\t').next().map(str::to_owned);
        let named = text.lines().filter(|l| l.ends_with("\tHEAD")).find_map(name);
        if named.is_none() && text.contains("\trefs/heads/") {
            let message = format!("the HEAD of {remote} names no branch; set base_branch");
            return Err(self.error("ls-remote", message, Kind::Missing));
        }
        Ok(named)
    }

    /// The base: fetched from the remote where it is there, the local branch otherwise. Never
    /// guessed into a new branch. Call it under the repository's lock (see `worktree`).
    ///
    /// # Errors
    /// [`GitError`] that names the branch and where it was looked for.
    pub(super) async fn resolve_base(
        &self,
        remote: &str,
        branch: Option<&str>,
    ) -> Result<Base, GitError> {
        if self.remote_url(remote).await?.is_none() {
            return self.local_base(remote, branch).await;
        }
        let branch = match branch {
            Some(branch) => branch.to_owned(),
            None => match self.remote_default(remote).await? {
                Some(branch) => branch,
                None => return self.local_base(remote, None).await,
            },
        };
        let tracking = format!("refs/remotes/{remote}/{branch}");
        let spec = format!("+refs/heads/{branch}:{tracking}");
        // Into a reference of its own: FETCH_HEAD is shared by all worktrees. Without maintenance,
        // which would go on in the background among the worktrees that are made next.
        let options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"];
        let rest = ["--no-recurse-submodules", remote, &spec];
        if let Err(e) = self.line("fetch", &[&options[..], &rest].concat()).await {
            let absent = e.message.contains("couldn't find remote ref");
            return if absent { self.local_base(remote, Some(&branch)).await } else { Err(e) };
        }
        let commit = self
            .commit_of(&tracking)
            .await?
            .ok_or_else(|| self.error("fetch", format!("{tracking} was not made"), Kind::Other))?;
        Ok(Base { branch, commit, fetched: true })
    }

    async fn local_base(&self, remote: &str, branch: Option<&str>) -> Result<Base, GitError> {
        let branch = match branch {
            Some(branch) => branch.to_owned(),
            None => self.line("symbolic-ref", &["--short", "HEAD"]).await?,
        };
        let missing = format!(
            "the base branch {branch:?} exists neither on the remote {remote:?} nor here; \
             set base_branch to one that does"
        );
        let commit = self
            .local_branch_commit(&branch)
            .await?
            .ok_or_else(|| self.error("rev-parse", missing, Kind::Missing))?;
        Ok(Base { branch, commit, fetched: false })
    }
}

/// The line of git's words that names the cause. The last one seldom does: after a failed fetch it
/// is "and the repository exists.", after a refused push a hint.
fn cause(stderr: &str) -> String {
    const ADVICE: [&str; 3] = [
        "hint:",
        "Please make sure you have the correct access rights",
        "and the repository exists.",
    ];
    const SUMMARY: &str = "fatal: Could not read from remote repository.";
    let lines = || {
        let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.filter(|line| !ADVICE.iter().any(|advice| line.starts_with(advice)))
    };
    let telling = |line: &&str| *line != SUMMARY;
    let fault = |line: &&str| line.starts_with("fatal:") || line.starts_with("error:");
    let found = lines().filter(telling).find(fault).or_else(|| lines().rfind(telling));
    found.or_else(|| lines().next_back()).unwrap_or_default().to_owned()
}

/// What kind of trouble git's words tell of.
fn kind_of(stderr: &str) -> Kind {
    let low = stderr.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| low.contains(w));
    if has(&[
        "commondir",
        "invalid gitdir",
        "missing but already registered",
        "bad object worktrees/",
    ]) {
        Kind::Poisoned
    } else if has(&[
        "permission denied (",
        "authentication failed",
        "could not read username",
        "could not read password",
    ]) {
        Kind::Auth
    } else if has(&[
        "could not resolve host",
        "connection",
        "timed out",
        "unable to access",
        "early eof",
        "hung up",
        "network is unreachable",
    ]) {
        Kind::Network
    } else if has(&[
        "does not appear to be a git repository",
        "not a git repository",
        "does not exist",
        "not a working tree",
        "unknown revision",
    ]) {
        Kind::Missing
    } else if has(&[
        "already exists",
        "is already used by",
        "already checked out",
        "contains modified or untracked",
        ".lock",
        "locked",
    ]) {
        Kind::Refused
    } else {
        Kind::Other
    }
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
