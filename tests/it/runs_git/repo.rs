//! A repository with a bare remote, driven by one of the installed gits.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use adwd::runs::git::Git;
use adwd::runs::worktree::Worktrees;

/// Each git on this machine, as the search path that finds it first.
pub fn search_paths() -> Vec<String> {
    let rest = "/usr/bin:/bin";
    let own = std::env::var("PATH").unwrap_or_default();
    let mut all = vec![];
    if Path::new("/usr/bin/git").exists() {
        all.push(rest.to_owned());
    }
    let first = std::env::split_paths(&own).find(|d| d.join("git").is_file());
    if let Some(dir) = first.filter(|d| d != Path::new("/usr/bin")) {
        all.push(format!("{}:{rest}", dir.display()));
    }
    assert!(!all.is_empty(), "git is needed");
    all
}

pub struct Repo {
    folder: tempfile::TempDir,
    pub env: BTreeMap<String, String>,
}

impl Repo {
    /// One commit of some files on `main`, pushed to `origin`.
    pub fn new(search_path: &str, files: usize) -> Repo {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_string_lossy().into_owned();
        let pairs = [
            ("PATH", search_path),
            ("HOME", &home),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ];
        let env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let repo = Repo { folder, env };
        std::fs::create_dir(repo.root()).unwrap();
        repo.git(&["init", "-q", "-b", "main"]);
        for i in 0..files {
            let dir = repo.root().join(format!("d{}", i % 20));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(format!("f{i}")), "x".repeat(2000)).unwrap();
        }
        std::fs::write(repo.root().join(".gitignore"), "/trees/\n*.log\n").unwrap();
        repo.git(&["add", "."]);
        repo.git(&["commit", "-q", "-m", "c"]);
        repo.git(&["init", "-q", "--bare", "-b", "main", &repo.remote().to_string_lossy()]);
        repo.git(&["remote", "add", "origin", &repo.remote().to_string_lossy()]);
        repo.git(&["push", "-q", "origin", "main"]);
        repo
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub fn remote(&self) -> PathBuf {
        self.folder.path().join("remote.git")
    }

    pub fn tree(&self, name: &str) -> PathBuf {
        self.root().join("trees").join(name)
    }

    pub fn admin(&self, name: &str) -> PathBuf {
        self.root().join(".git/worktrees").join(name)
    }

    pub fn handle(&self) -> Git {
        Git::new(&self.root(), self.env.clone())
    }

    pub fn worktrees(&self) -> Worktrees {
        Worktrees::new(self.handle(), self.root().join("trees"))
    }

    pub fn command(&self, cwd: &Path, args: &[&str]) -> Command {
        let path = &self.env["PATH"];
        let git = adwd::runs::process::find_program("git", path.as_ref()).unwrap();
        let mut command = Command::new(git);
        command.args(args).current_dir(cwd).env_clear().envs(&self.env);
        command
    }

    /// Runs git in a folder; it must succeed. Its output, trimmed.
    pub fn git_in(&self, cwd: &Path, args: &[&str]) -> String {
        let out = self.command(cwd, args).output().unwrap();
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    pub fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.root(), args)
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// A commit of one new file in a worktree.
    pub fn commit(&self, tree: &Path, file: &str) {
        std::fs::write(tree.join(file), file).unwrap();
        self.git_in(tree, &["add", file]);
        self.git_in(tree, &["commit", "-q", "-m", file]);
    }
}
