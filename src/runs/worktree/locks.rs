//! Lock files that a killed git left of one run.
//!
//! git takes `index.lock`, `HEAD.lock` and `refs/…/BRANCH.lock` by making them, and a git that is
//! killed takes them away no more than any later one does: every further commit of that worktree
//! would die of them. They are removed where nobody can be at work with them: before an attempt
//! begins nothing of the run lives, and somebody else's git in the worktree would be seen there.
//!
//! What all worktrees share is locked too (`packed-refs` by every commit and switch, for the refs that
//! these delete). Such a lock was left by the run where it was made while an attempt lived that did not
//! end well, and where no git that may have made it is at work in the repository any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::procfs;
use crate::clock::Millis;
use crate::limits;

/// What git makes, for the time of one change, in the folder that all worktrees share.
const SHARED: [&str; 3] = ["config.lock", "packed-refs.lock", "packed-refs.new"];

/// From when to when an attempt lived.
pub type Span = (Millis, Millis);

/// Removes what is left of the worktree `tree` and of the branches whose name holds `adw_id`, in the
/// repository `common`; answers what was removed.
pub(super) fn remove_left(common: &Path, tree: &Path, adw_id: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten() {
        let admin = entry.path();
        if tree_of(&admin).as_deref() == Some(tree) {
            gather(&admin, 0, &|_| true, &mut found);
        }
    }
    for refs in ["refs/heads", "refs/remotes"] {
        let depth = limits::GIT_REF_DEPTH_COUNT;
        gather(&common.join(refs), depth, &|name| name.contains(adw_id), &mut found);
    }
    if found.is_empty() || procfs::working_in(tree).is_some() {
        return Ok(vec![]);
    }
    for lock in &found {
        fs::remove_file(lock)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", lock.display())))?;
    }
    Ok(found)
}

/// Removes what of [`SHARED`] was left in one of these spans; answers what was removed, and how long to
/// wait for what is too young: who can be seen nowhere (a library in an editor) keeps its lock for a
/// moment.
pub(super) fn remove_shared(
    common: &Path,
    spans: &[Span],
    now: Millis,
) -> io::Result<(Vec<PathBuf>, Option<Duration>)> {
    let (mut removed, mut wait) = (vec![], None);
    for lock in SHARED.map(|name| common.join(name)) {
        let lived = |at: &Millis| spans.iter().any(|(from, to)| (*from..=*to).contains(at));
        let Some(made_at) = made_at(&lock).filter(lived) else { continue };
        let age = Duration::from_millis(u64::try_from(now.since_ms(made_at)).unwrap_or(0));
        let young = Duration::from_millis(limits::GIT_SHARED_LOCK_MS);
        if age < young {
            wait = wait.max(Some(young.saturating_sub(age)));
        } else if procfs::at_work("git", &folders(common), age).is_none() {
            fs::remove_file(&lock)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", lock.display())))?;
            removed.push(lock);
        }
    }
    Ok((removed, wait))
}

fn made_at(lock: &Path) -> Option<Millis> {
    let modified = lock.symlink_metadata().ok().filter(fs::Metadata::is_file)?.modified().ok()?;
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Millis(i64::try_from(since.as_millis()).ok()?))
}

/// Where somebody works who works with a repository.
fn folders(common: &Path) -> Vec<PathBuf> {
    let checkout = common.parent().filter(|_| common.ends_with(".git"));
    let mut found: Vec<PathBuf> =
        checkout.into_iter().chain([common]).map(Path::to_path_buf).collect();
    for entry in fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten() {
        found.extend(tree_of(&entry.path()));
    }
    found
}

/// The worktree of a record. The record is asked, not the worktree: what is in there was written by
/// agents.
fn tree_of(admin: &Path) -> Option<PathBuf> {
    let gitdir = fs::read_to_string(admin.join("gitdir")).ok()?;
    Path::new(gitdir.trim()).parent().map(Path::to_path_buf)
}

fn gather(folder: &Path, depth: usize, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() && depth > 0 {
            gather(&entry.path(), depth - 1, wanted, found);
        } else if kind.is_file() && name.ends_with(".lock") && wanted(&name) {
            found.push(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn locks_of_the_worktree_and_of_its_branch_go_and_all_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (common, tree) = (root.join("git"), root.join("trees/7-abc"));
        let write = |name: &str, text: &str| {
            let path = common.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::create_dir_all(&tree).unwrap();
        write("worktrees/own/gitdir", &format!("{}\n", tree.join(".git").display()));
        write("worktrees/other/gitdir", &format!("{}\n", root.join("trees/8-x/.git").display()));
        let ours = [
            "refs/heads/feat/feature-7-abc.lock",
            "refs/remotes/origin/feat-7-abc.lock",
            "worktrees/own/HEAD.lock",
            "worktrees/own/index.lock",
        ];
        let theirs = [
            "config.lock",
            "index.lock",
            "refs/heads/feat/feature-7-abc",
            "refs/heads/main.lock",
            "worktrees/other/index.lock",
            "worktrees/own/index",
            "worktrees/own/locked",
        ];
        ours.iter().chain(&theirs).for_each(|name| write(name, ""));
        let mut removed = remove_left(&common, &tree, "abc").unwrap();
        removed.sort();
        assert_eq!(removed, ours.map(|name| common.join(name)));
        assert!(ours.iter().all(|name| !common.join(name).exists()));
        assert!(theirs.iter().all(|name| common.join(name).exists()));
        assert_eq!(remove_left(&common, &tree, "abc").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_all_share_goes_where_an_attempt_left_it_and_nobody_may_have_it() {
        let root = tempfile::tempdir().unwrap();
        let common = root.path().join(".git");
        fs::create_dir_all(&common).unwrap();
        for name in SHARED.iter().chain(&["index.lock", "HEAD.lock"]) {
            fs::write(common.join(name), "").unwrap();
        }
        let now = SystemClock.now();
        let later = now.plus_ms(1_100);
        let before = (now.plus_ms(-60_000), now.plus_ms(-30_000));
        let lived = (now.plus_ms(-60_000), now);
        let none = (vec![], None);
        assert_eq!(remove_shared(&common, &[before], later).unwrap(), none, "made afterwards");
        let (removed, wait) = remove_shared(&common, &[lived], now).unwrap();
        assert!(removed.is_empty() && wait.is_some(), "they are too young");
        let older = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0.unsigned_abs() - 800);
        let last = fs::OpenOptions::new().append(true).open(common.join(SHARED[2])).unwrap();
        last.set_modified(older).unwrap();
        let (_, wait) = remove_shared(&common, &[lived], now).unwrap();
        assert!(wait > Some(Duration::from_millis(500)), "the youngest is waited for: {wait:?}");
        let (removed, wait) = remove_shared(&common, &[before, lived], later).unwrap();
        assert_eq!((removed, wait), (SHARED.map(|name| common.join(name)).to_vec(), None));
        assert!(common.join("index.lock").exists() && common.join("HEAD.lock").exists());
    }

    #[test]
    fn while_somebody_works_in_the_worktree_its_locks_stay() {
        let root = tempfile::tempdir().unwrap();
        let (common, tree) = (root.path().join("git"), std::env::current_dir().unwrap());
        fs::create_dir_all(common.join("refs/heads")).unwrap();
        let lock = common.join("refs/heads/x-1-abc.lock");
        fs::write(&lock, "").unwrap();
        let tree = tree.canonicalize().unwrap();
        assert_eq!(remove_left(&common, &tree, "abc").unwrap(), Vec::<PathBuf>::new());
        assert!(lock.exists());
    }
}
