//! Removing worktrees: never what somebody could miss.

use std::ffi::OsStr;
use std::path::Path;

use super::super::git::{GitError, Kind};
use super::super::procfs;
use super::{Held, Listed, Worktrees, canonical, mend};
use crate::crash::{self, Point};

const OPERATION: &str = "worktree remove";

/// What may be lost with a worktree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Nothing, and every commit must be on a remote: what may go unasked.
    Nothing,
    /// Nothing; but a commit that a branch of the repository keeps is not lost with the folder.
    Folder,
    /// The same, and changes that are not committed; nothing that a process is at work on.
    Changes,
    /// Everything.
    Everything,
}

impl Worktrees {
    /// Removes a worktree. Without `force` it is refused where something would be lost: changes
    /// that are not committed, commits that no remote has, a lock of somebody's, a process that
    /// works in it.
    ///
    /// # Errors
    /// [`GitError`]; [`Kind::Refused`] names what would be lost.
    pub async fn remove(&self, path: &Path, force: bool) -> Result<(), GitError> {
        let discard = if force { Discard::Everything } else { Discard::Nothing };
        self.remove_unless(path, discard, async || Ok(())).await
    }

    /// Like [`Worktrees::remove`], but asks once more under the lock whether it may still be done:
    /// a run that goes on takes the same lock before it uses its worktree.
    ///
    /// # Errors
    /// [`GitError`], or the objection.
    pub async fn remove_unless(
        &self,
        path: &Path,
        discard: Discard,
        objection: impl AsyncFnOnce() -> Result<(), String>,
    ) -> Result<(), GitError> {
        self.only_ours(OPERATION, path)?;
        let held = self.lock().await?;
        objection().await.map_err(|why| self.git.error(OPERATION, why, Kind::Refused))?;
        self.mend(&held).await?;
        let found = self.record_of(&held, path).await?;
        self.may_go(path, found.as_ref(), discard).await?;
        let mut removed = Ok(());
        if found.is_some() {
            let mut args = ["worktree", "remove", "--force", "--force"].map(OsStr::new).to_vec();
            args.push(path.as_os_str());
            removed = self.git.ok_holding(&args, &held.file).await.map(drop);
        }
        if path.exists() {
            // git gives up at the first folder that it may not write to, or that is not empty.
            let tree = path.to_path_buf();
            self.blocking(OPERATION, move || mend::remove_tree(&tree)).await?;
            removed = Ok(());
        }
        crash::here(Point::WorktreeGone);
        self.mend(&held).await?;
        removed
    }

    /// Why a worktree would not be removed now, in words; `None` where it would be. Changes
    /// nothing and takes no lock, so it is a forecast.
    pub async fn objection_to_removing(&self, path: &Path, discard: Discard) -> Option<String> {
        let objection = async {
            self.only_ours(OPERATION, path)?;
            let here = canonical(path);
            let found = self.list().await?.into_iter().find(|l| l.path == here || l.path == path);
            self.may_go(path, found.as_ref(), discard).await
        };
        objection.await.err().map(|e| e.message)
    }

    async fn record_of(&self, held: &Held, path: &Path) -> Result<Option<Listed>, GitError> {
        let here = canonical(path);
        let listed = self.list_mended(held).await?;
        Ok(listed.into_iter().find(|l| l.path == here || l.path == path))
    }

    /// Refuses where something would be lost that may not be.
    async fn may_go(
        &self,
        path: &Path,
        found: Option<&Listed>,
        discard: Discard,
    ) -> Result<(), GitError> {
        if discard == Discard::Everything {
            return Ok(());
        }
        let refuse = |message| Err(self.git.error(OPERATION, message, Kind::Refused));
        if let Some(reason) = found.and_then(|f| f.locked.as_ref()) {
            return refuse(format!("{} is locked ({reason})", path.display()));
        }
        if !path.exists() {
            return Ok(());
        }
        // Without this, git would answer for the checkout round the folder.
        if found.is_none() {
            return refuse(format!(
                "{} is no worktree of this repository; look into it and remove it by hand",
                path.display()
            ));
        }
        if let Some(pid) = procfs::working_in(&canonical(path)) {
            return refuse(format!("process {pid} works in {}", path.display()));
        }
        if discard != Discard::Changes {
            self.no_changes(path).await?;
        }
        self.no_lost_commits(path, discard).await
    }

    async fn no_changes(&self, path: &Path) -> Result<(), GitError> {
        let args = ["status", "--porcelain", "--untracked-files=normal"].map(OsStr::new);
        let out = self.git.ok(path, &args).await?;
        let status = out.stdout_text();
        let lost: Vec<&str> = status.lines().filter(|l| !is_nobodys(l)).collect();
        let Some(first) = lost.first() else { return Ok(()) };
        let message = format!(
            "{} has {} uncommitted change(s), such as {}",
            path.display(),
            lost.len(),
            first.get(3..).unwrap_or(first).trim()
        );
        Err(self.git.error(OPERATION, message, Kind::Refused))
    }

    async fn no_lost_commits(&self, path: &Path, discard: Discard) -> Result<(), GitError> {
        let refuse = |message| Err(self.git.error(OPERATION, message, Kind::Refused));
        let (lost, where_not) = match discard {
            Discard::Nothing => (self.git.unpushed_count(path).await?, "on no remote"),
            _ => (self.git.stranded_count(path).await?, "nowhere else"),
        };
        if lost > 0 {
            return refuse(format!(
                "{} has {lost} commit(s) that exist {where_not}",
                path.display()
            ));
        }
        // The repositories of a worktree's submodules lie in its own record and go with it.
        if path.join(".gitmodules").is_file() {
            let each = "git rev-list --max-count=1 HEAD --not --remotes";
            let args = ["submodule", "--quiet", "foreach", "--recursive", each].map(OsStr::new);
            let out = self.git.ok(path, &args).await?;
            if !out.stdout_text().trim().is_empty() {
                return refuse(format!(
                    "a submodule of {} has commits that exist nowhere else",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

/// Untracked leftovers of tools that are nobody's work: `uv run` leaves a lock file in a
/// repository that has none, Python its caches.
fn is_nobodys(status_line: &str) -> bool {
    let Some(path) = status_line.strip_prefix("?? ") else { return false };
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
    matches!(name, "uv.lock" | ".venv" | "__pycache__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leftovers_of_tools_are_nobodys() {
        for line in ["?? uv.lock", "?? automation/uv.lock", "?? .venv/", "?? a/__pycache__/"] {
            assert!(is_nobodys(line), "{line}");
        }
        for line in [" M uv.lock", "?? new.rs", "A  uv.lock", "?? a/", ""] {
            assert!(!is_nobodys(line), "{line}");
        }
    }
}
