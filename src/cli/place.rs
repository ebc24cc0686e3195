//! Which repository a command means: the named project, the named path, or the current folder's.

use std::path::{Path, PathBuf};

/// A repository's main root above `start`, without asking git (which may be poisoned or absent).
///
/// Inside a linked worktree it is the root of the repository that the worktree belongs to: an
/// agent that calls `adwd` from its worktree means the project, not the worktree.
#[must_use]
pub fn repository_root(start: &Path) -> Option<PathBuf> {
    let start = start.canonicalize().ok()?;
    for folder in start.ancestors() {
        let mark = folder.join(".git");
        if mark.is_dir() {
            return Some(folder.to_path_buf());
        }
        if mark.is_file() {
            return Some(main_root(&mark).unwrap_or_else(|| folder.to_path_buf()));
        }
        // Meant, though it cannot be served: better refused than taken for no repository at all,
        // which would mean the one project that is served.
        if is_bare(folder) {
            return Some(folder.to_path_buf());
        }
    }
    None
}

fn is_bare(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name != ".git")
        && folder.join("HEAD").is_file()
        && folder.join("objects").is_dir()
        && folder.join("refs").is_dir()
}

/// The root behind a worktree's `.git` file; a submodule's points elsewhere and answers `None`.
fn main_root(mark: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(mark).ok()?;
    let admin = Path::new(text.strip_prefix("gitdir:")?.trim());
    let admin = mark.parent()?.join(admin);
    // …/shop/.git/worktrees/name
    let worktrees = admin.parent()?;
    let git = worktrees.parent()?;
    if worktrees.file_name()? != "worktrees" || git.file_name()? != ".git" {
        return None;
    }
    git.parent()?.canonicalize().ok()
}

/// What `--project` and the current folder say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// A project by name.
    Name(String),
    /// A repository by its root.
    Root(PathBuf),
    /// A path that was named and is in no repository.
    NoRepository(PathBuf),
    /// Nothing: neither a flag nor a repository around.
    Nothing,
}

/// Reads `--project` (a served name wins over a folder of that name) and the current folder.
#[must_use]
pub fn meant(flag: Option<&str>, here: &Path, served: &[String]) -> Meant {
    let Some(flag) = flag else {
        return repository_root(here).map_or(Meant::Nothing, Meant::Root);
    };
    if served.iter().any(|name| name == flag) {
        return Meant::Name(flag.to_owned());
    }
    let path = here.join(flag);
    if !path.is_dir() {
        // A project's name holds no slash.
        let name = !flag.contains('/');
        return if name { Meant::Name(flag.to_owned()) } else { Meant::NoRepository(path) };
    }
    repository_root(&path).map_or(Meant::NoRepository(path), Meant::Root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worktree_stands_for_its_repository_and_a_submodule_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let shop = root.join("shop");
        std::fs::create_dir_all(shop.join(".git/worktrees/w")).unwrap();
        std::fs::create_dir_all(shop.join("src/deep")).unwrap();
        let tree = root.join("trees/w/sub");
        std::fs::create_dir_all(&tree).unwrap();
        let mark = format!("gitdir: {}\n", shop.join(".git/worktrees/w").display());
        std::fs::write(root.join("trees/w/.git"), mark).unwrap();
        let module = shop.join("vendor/lib");
        std::fs::create_dir_all(&module).unwrap();
        std::fs::write(module.join(".git"), "gitdir: ../../.git/modules/lib\n").unwrap();
        assert_eq!(repository_root(&shop.join("src/deep")), Some(shop.clone()));
        assert_eq!(repository_root(&tree), Some(shop.clone()));
        assert_eq!(repository_root(&module), Some(module));
        assert_eq!(meant(None, &root, &[]), Meant::Nothing);
    }

    #[test]
    fn a_bare_repository_is_meant_and_not_the_only_project() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in
            ["bare.git/objects", "bare.git/refs/heads", "shop/.git/objects", "shop/.git/refs"]
        {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for head in ["bare.git/HEAD", "shop/.git/HEAD"] {
            std::fs::write(root.join(head), "ref: refs/heads/main\n").unwrap();
        }
        let bare = Meant::Root(root.join("bare.git"));
        assert_eq!(meant(None, &root.join("bare.git/refs"), &["shop".to_owned()]), bare);
        let shop = Meant::Root(root.join("shop"));
        assert_eq!(meant(None, &root.join("shop/.git"), &[]), shop);
    }

    #[test]
    fn a_served_name_wins_over_a_folder_and_an_unknown_word_is_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("shop/.git")).unwrap();
        std::fs::create_dir_all(root.join("empty")).unwrap();
        let served = ["shop".to_owned()];
        assert_eq!(meant(Some("shop"), &root, &served), Meant::Name("shop".into()));
        assert_eq!(meant(Some("shop"), &root, &[]), Meant::Root(root.join("shop")));
        assert_eq!(meant(Some("other"), &root, &served), Meant::Name("other".into()));
        let nowhere = Meant::NoRepository(root.join("no/such"));
        assert_eq!(meant(Some("no/such"), &root, &served), nowhere);
        assert_eq!(meant(Some("empty"), &root, &served), Meant::NoRepository(root.join("empty")));
    }
}
