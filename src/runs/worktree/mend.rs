//! What a killed `git worktree add` or a power cut leaves in `worktrees/` of the common folder,
//! and what is done about it.
//!
//! | left | git then | done here |
//! |---|---|---|
//! | `locked` says `initializing`, ours | refuses to prune or remove it | record and half-made folder removed |
//! | the same, in nobody's known folder, old | the same | record removed |
//! | `commondir` empty, `HEAD` there | fails nearly everything in the repository | `commondir` written again |
//! | `commondir` empty, no `HEAD` | the same | record removed |
//! | folder gone, ours, not locked | keeps its branch "in use" | record removed |
//!
//! A whole `git worktree prune` would be shorter, but it also forgets worktrees of the user that
//! lie on a disk that is not mounted just now.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::marker::is_below;
use crate::crash::{self, Point};
use crate::limits;

/// What git writes into `locked` while an `add` is on its way.
pub(super) const INITIALIZING: &str = "initializing";

/// A record of one worktree.
struct Admin {
    dir: PathBuf,
    /// The folder of the worktree; empty where it was not written down.
    tree: PathBuf,
    locked: Option<String>,
    commondir: Option<String>,
    age: Duration,
}

impl Admin {
    fn read(entry: &fs::DirEntry) -> Admin {
        let dir = entry.path();
        let text = |name: &str| fs::read(dir.join(name)).ok();
        let text =
            |name: &str| text(name).map(|t| String::from_utf8_lossy(t.trim_ascii()).into_owned());
        let tree = text("gitdir").and_then(|g| Path::new(&g).parent().map(Path::to_path_buf));
        let made = entry.metadata().and_then(|m| m.modified()).ok();
        // A time ahead of the clock is from before the clock was set back.
        let age = made.map(|t| t.elapsed().unwrap_or_else(|ahead| ahead.duration()));
        Admin {
            tree: tree.unwrap_or_default(),
            locked: text("locked"),
            commondir: text("commondir"),
            age: age.unwrap_or_default(),
            dir,
        }
    }

    fn is_older_than(&self, ms: u64) -> bool {
        self.age > Duration::from_millis(ms)
    }

    fn mend(&self, trees_dir: &Path) -> io::Result<()> {
        let ours = is_below(&self.tree, trees_dir);
        // A record that names no folder yet may be somebody else's `add`, running right now.
        let nobodys =
            self.tree.as_os_str().is_empty() && self.is_older_than(limits::GIT_HALF_MADE_MS);
        let initializing = self.locked.as_deref() == Some(INITIALIZING);
        if initializing && (ours || nobodys) {
            tracing::warn!(admin = %self.dir.display(), "removing a worktree whose making was cut off");
            if ours {
                remove_tree(&self.tree)?;
            }
            crash::here(Point::HalfMadeTreeGone);
            return remove_tree(&self.dir);
        }
        if self.commondir.as_deref() == Some("")
            && (ours || self.is_older_than(limits::GIT_POISON_MS))
        {
            let head = fs::metadata(self.dir.join("HEAD")).is_ok_and(|m| m.len() > 0);
            tracing::warn!(admin = %self.dir.display(), head, "mending a worktree's record that a crash left without commondir");
            if head {
                // The worktree may hold work; its record always says the same here.
                fs::write(self.dir.join("commondir"), "../..\n")?;
                crash::here(Point::CommondirMended);
                return Ok(());
            }
            return remove_tree(&self.dir);
        }
        if ours && self.locked.is_none() && !self.tree.join(".git").exists() {
            return remove_tree(&self.dir);
        }
        Ok(())
    }
}

/// Mends every record below `common` that concerns `trees_dir`, and those that would make git fail
/// in the whole repository. The caller holds the lock, so no `add` of ours is on its way.
pub(super) fn mend(common: &Path, trees_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten() {
        let admin = Admin::read(&entry);
        admin
            .mend(trees_dir)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", admin.dir.display())))?;
    }
    Ok(())
}

/// Removes a folder with everything in it. Folders without write permission (a module cache has
/// such) are made writable; one that somebody still writes into is tried again.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    for attempt in 1.. {
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if attempt >= limits::REMOVE_TRIES_COUNT => return Err(e),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => make_writable(path),
            Err(_) => std::thread::sleep(Duration::from_millis(limits::REMOVE_PAUSE_MS)),
            Ok(()) => return Ok(()),
        }
    }
    Ok(())
}

fn make_writable(root: &Path) {
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let _ = fs::set_permissions(&folder, PermissionsExt::from_mode(0o700));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders
            .extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A common folder with one record, and the folder of trees.
    fn admin(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (common, trees) = (root.path().join("git"), root.path().join("trees"));
        fs::create_dir_all(common.join("worktrees/x")).unwrap();
        fs::create_dir_all(trees.join("x")).unwrap();
        fs::write(trees.join("x/work"), "").unwrap();
        for (name, text) in files {
            let text = text.replace("TREES", &trees.to_string_lossy());
            fs::write(common.join("worktrees/x").join(name), text).unwrap();
        }
        mend(&common, &trees).unwrap();
        (root, common.join("worktrees/x"), trees.join("x/work"))
    }

    #[test]
    fn a_half_made_worktree_of_ours_goes_with_its_folder() {
        let (_root, record, work) =
            admin(&[("gitdir", "TREES/x/.git\n"), ("locked", "initializing")]);
        assert!(!record.exists() && !work.exists());
    }

    #[test]
    fn a_worktree_that_lost_its_commondir_keeps_its_work() {
        let files =
            [("gitdir", "TREES/x/.git\n"), ("commondir", ""), ("HEAD", "ref: refs/heads/x\n")];
        let (_root, record, work) = admin(&files);
        assert_eq!(fs::read_to_string(record.join("commondir")).unwrap(), "../..\n");
        assert!(work.exists());
    }

    #[test]
    fn what_is_a_strangers_or_new_stays() {
        for files in [
            &[("gitdir", "/elsewhere/x/.git\n"), ("locked", "initializing")][..],
            &[("gitdir", "/elsewhere/x/.git\n"), ("commondir", "../..\n")],
            &[("gitdir", "TREES/../x/.git\n"), ("locked", "initializing")],
            &[("locked", "initializing")],
            &[("gitdir", "TREES/x/.git\n"), ("locked", "mine, do not touch")],
            &[("gitdir", "TREES/.git\n"), ("locked", "initializing")],
        ] {
            let (_root, record, work) = admin(files);
            assert!(record.exists() && work.exists(), "{files:?}");
        }
    }

    #[test]
    fn the_record_of_a_folder_that_is_gone_goes() {
        let (_root, record, _) =
            admin(&[("gitdir", "TREES/gone/.git\n"), ("commondir", "../..\n")]);
        assert!(!record.exists());
    }

    #[test]
    fn folders_without_write_permission_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("f"), "").unwrap();
        fs::set_permissions(&inner, PermissionsExt::from_mode(0o500)).unwrap();
        remove_tree(&root.path().join("a")).unwrap();
        assert!(!inner.exists());
        remove_tree(&root.path().join("a")).unwrap();
    }
}
