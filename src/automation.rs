//! The Python side and the content of step workflows, carried inside the binary and laid out on
//! disk when the daemon starts.
//!
//! A project without scripts of its own is run with these. Each content has a folder of its own,
//! named by its hash: an upgraded daemon never changes a script under a phase that runs, and two
//! daemons of one version share one copy. The copy is read-only for the daemon; what it holds is
//! compared with what was embedded, so an edited or torn one is replaced.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Copies of earlier versions that stay: a phase started by the version before may still run.
const KEPT_COPIES_COUNT: usize = 4;
/// Touched at each start, so that the copies can be put in order of their last use.
const STAMP: &str = ".used";

/// One embedded file.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// Path below `automation/`, with `/`.
    pub path: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! embedded {
    ($($path:literal,)*) => {
        /// Every file of `automation/` that a phase or a step needs, sorted by path; a test compares the
        /// list with the tree, so none is forgotten.
        pub const FILES: &[Embedded] = &[$(Embedded {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/automation/", $path)),
        },)*];
    };
}

mod files;
pub use files::FILES;

/// The copy could not be laid out.
#[derive(Debug, Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct AutomationError {
    /// What was tried.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's word.
    pub source: std::io::Error,
}

/// The hash that names this version's copy: 16 hexadecimal digits.
#[must_use]
pub fn hash() -> String {
    let mut hasher = Sha256::new();
    for file in FILES {
        // Lengths first, so that no two contents can run together to the same bytes.
        hasher.update((file.path.len() as u64).to_be_bytes());
        hasher.update(file.path);
        hasher.update((file.text.len() as u64).to_be_bytes());
        hasher.update(file.text);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Where [`materialise`] puts this version's copy.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("automation").join(hash())
}

/// The built-in content folder of a laid-out copy: agents, rules and workflows.
#[must_use]
pub fn content_folder(copy: &Path) -> PathBuf {
    copy.join("content")
}

/// Lays out this version's copy below `state_dir` and answers its folder; an intact one is used
/// as it is. Made beside and renamed, so a kill in the middle leaves nothing that looks whole.
/// Blocks for as long as writing some dozens of small files takes.
pub fn materialise(state_dir: &Path) -> Result<PathBuf, AutomationError> {
    let root = state_dir.join("automation");
    let target = folder(state_dir);
    std::fs::create_dir_all(&root).map_err(failed("make", &root))?;
    if !is_intact(&target) {
        let pid = nix::unistd::getpid();
        let temporary = root.join(format!(".new-{pid}"));
        let damaged = root.join(format!(".old-{pid}"));
        let _ = std::fs::remove_dir_all(&temporary);
        write_all(&temporary)?;
        // A folder cannot be renamed onto a full one: the damaged copy is first moved away.
        let had_one = std::fs::rename(&target, &damaged).is_ok();
        let renamed = std::fs::rename(&temporary, &target);
        if had_one {
            let _ = std::fs::remove_dir_all(&damaged);
        }
        if let Err(source) = renamed {
            let _ = std::fs::remove_dir_all(&temporary);
            // Somebody of the same version was faster.
            if !is_intact(&target) {
                return Err(AutomationError { operation: "put in place", path: target, source });
            }
        }
    }
    let _ = std::fs::write(target.join(STAMP), b"");
    prune(&root);
    Ok(target)
}

/// Whether every embedded file is there with its content; files beside them do not matter.
#[must_use]
pub fn is_intact(folder: &Path) -> bool {
    FILES.iter().all(|file| {
        std::fs::read(folder.join(file.path)).is_ok_and(|bytes| bytes == file.text.as_bytes())
    })
}

fn write_all(folder: &Path) -> Result<(), AutomationError> {
    use std::os::unix::fs::PermissionsExt;
    for file in FILES {
        let path = folder.join(file.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
        }
        std::fs::write(&path, file.text).map_err(failed("write", &path))?;
        let mode = if file.text.starts_with("#!") { 0o755 } else { 0o644 };
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).map_err(failed("set the mode of", &path))?;
    }
    Ok(())
}

/// Removes all but the copies used last, and what a killed [`materialise`] left behind.
fn prune(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    let mut copies = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".new-") || name.starts_with(".old-") {
            // Only ours are touched while we run: the instance lock is held by the caller.
            let _ = std::fs::remove_dir_all(entry.path());
        } else if let Ok(used) =
            std::fs::metadata(entry.path().join(STAMP)).and_then(|m| m.modified())
        {
            copies.push((used, entry.path()));
        }
    }
    copies.sort();
    copies.reverse();
    for (_, path) in copies.into_iter().skip(KEPT_COPIES_COUNT) {
        let _ = std::fs::remove_dir_all(path);
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> AutomationError {
    let path = path.to_path_buf();
    move |source| AutomationError { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of `automation/` is not embedded: tests, run-time folders and tools' caches.
    fn is_left_out(path: &str) -> bool {
        let folders = ["adws/adw_tests", "agents", "trees", "pulls", "issues"];
        folders.iter().any(|f| path == *f || path.starts_with(&format!("{f}/")))
            || path.split('/').any(|part| {
                part.starts_with('.')
                    || part == "__pycache__"
                    || part.ends_with(".pyc")
                    || part.ends_with(".egg-info")
            })
    }

    fn walk(root: &Path, below: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(below).unwrap().flatten() {
            let path = entry.path();
            let relative = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if is_left_out(&relative) {
                continue;
            }
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(relative);
            }
        }
    }

    #[test]
    fn the_list_names_every_file_of_the_tree_and_is_sorted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("automation");
        let mut tree = Vec::new();
        walk(&root, &root, &mut tree);
        tree.sort();
        let listed: Vec<String> = FILES.iter().map(|f| f.path.to_owned()).collect();
        let lines: String = tree.iter().map(|p| format!("    \"{p}\",\n")).collect();
        assert_eq!(
            listed, tree,
            "the list in src/automation/files.rs must be:\nembedded! {{\n{lines}}}\n"
        );
    }

    #[test]
    fn a_copy_is_made_once_and_a_damaged_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let made = materialise(dir.path()).unwrap();
        assert_eq!(made, folder(dir.path()));
        assert!(is_intact(&made));
        let beside = made.join("beside");
        std::fs::write(&beside, "").unwrap();
        assert_eq!(materialise(dir.path()).unwrap(), made);
        assert!(beside.exists(), "an intact copy is used as it is");
        std::fs::write(made.join(FILES[0].path), "torn").unwrap();
        materialise(dir.path()).unwrap();
        assert!(is_intact(&made) && !beside.exists());
        assert_eq!(std::fs::read_dir(dir.path().join("automation")).unwrap().count(), 1);
    }

    #[test]
    fn old_copies_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("automation");
        for n in 0..6 {
            let copy = root.join(format!("{n:016x}"));
            std::fs::create_dir_all(&copy).unwrap();
            std::fs::write(copy.join(STAMP), "").unwrap();
        }
        std::fs::create_dir_all(root.join(".new-1")).unwrap();
        materialise(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), KEPT_COPIES_COUNT);
        assert!(is_intact(&folder(dir.path())));
    }
}
