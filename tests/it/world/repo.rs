//! A git repository of a world, with a bare remote, issues and a check script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::World;

/// The check command of every repository (`sh check`): no note may say "bad"; and it stays at the
/// gate named by `$HOME/gate-check` where a test has put one there.
const CHECK: &str = r#"
set -eu
if [ -e "$HOME/gate-check" ]; then
    : >"$HOME/at-check"
    while [ -e "$HOME/gate-check" ]; do sleep 0.05; done
fi
if grep -rq bad notes 2>/dev/null; then echo "a bad note"; exit 1; fi
echo "the notes are good"
"#;

/// A repository.
pub struct Repo {
    pub name: String,
    pub root: PathBuf,
    /// Its bare remote, `origin`.
    pub remote: PathBuf,
    env: Vec<(String, String)>,
}

impl World {
    /// Makes a repository `{root}/{name}` with one commit on `main`, pushed to its bare remote, and
    /// the issues 1 to 3, each of which asks for `notes/N.txt`.
    pub fn repo(&self, name: &str) -> Repo {
        let repo = Repo {
            name: name.to_owned(),
            root: self.path(name),
            remote: self.path(&format!("{name}.git")),
            env: self.env().into_iter().collect(),
        };
        fs::create_dir_all(repo.root.join("issues")).unwrap();
        git_at(&self.root, &repo.env, &["init", "-q", "--bare", &format!("{name}.git")]);
        repo.git(&["init", "-q"]);
        repo.write("README.md", "# A repository\n");
        repo.write("check", CHECK.trim_start());
        for n in 1..=3 {
            repo.issue(n);
        }
        repo.git(&["add", "--all"]);
        repo.git(&["commit", "-q", "-m", "first"]);
        repo.git(&["remote", "add", "origin", &repo.remote.display().to_string()]);
        repo.git(&["push", "-q", "-u", "origin", "main"]);
        repo.git(&["remote", "set-head", "origin", "main"]);
        repo
    }
}

impl Repo {
    /// Writes a file of the main checkout.
    pub fn write(&self, relative: &str, text: &str) {
        let path = self.root.join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes an issue that carries a diff, which adds `notes/N.txt` with the line `note N`.
    pub fn issue(&self, n: u32) {
        self.issue_adding(n, &format!("notes/{n}.txt"), &format!("note {n}"));
    }

    /// Writes an issue that carries a diff, which adds a file of one line.
    pub fn issue_adding(&self, n: u32, file: &str, line: &str) {
        let diff = format!(
            "diff --git a/{file} b/{file}\nnew file mode 100644\n--- /dev/null\n+++ b/{file}\n\
             @@ -0,0 +1 @@\n+{line}\n"
        );
        self.issue_text(
            n,
            &format!("Add {file}"),
            "feature",
            &format!("The change:\n\n```diff\n{diff}```\n"),
        );
    }

    /// Writes an issue.
    pub fn issue_text(&self, n: u32, title: &str, labels: &str, body: &str) {
        let text = format!("---\ntitle: {title}\nlabels: [{labels}]\n---\n{body}");
        self.write(&format!("issues/{n}.md"), &text);
    }

    /// Runs git in the main checkout; its trimmed output.
    pub fn git(&self, args: &[&str]) -> String {
        git_at(&self.root, &self.env, args)
    }

    /// Runs git in the bare remote.
    pub fn remote_git(&self, args: &[&str]) -> String {
        git_at(&self.remote, &self.env, args)
    }

    /// The branches of the remote but `main`.
    pub fn remote_branches(&self) -> Vec<String> {
        let all = self.remote_git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
        all.lines().filter(|name| *name != "main").map(str::to_owned).collect()
    }

    /// The branches of the main checkout but `main`.
    pub fn local_branches(&self) -> Vec<String> {
        let all = self.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
        all.lines().filter(|name| *name != "main").map(str::to_owned).collect()
    }

    /// The files that a branch of the remote changes against `main`.
    pub fn changed_on(&self, branch: &str) -> Vec<String> {
        let names = self.remote_git(&["diff", "--name-only", &format!("main...{branch}")]);
        names.lines().map(str::to_owned).collect()
    }

    /// A file as a branch of the remote has it.
    pub fn file_on(&self, branch: &str, file: &str) -> String {
        self.remote_git(&["show", &format!("{branch}:{file}")])
    }

    /// The worktrees that git knows beside the main checkout.
    pub fn worktrees(&self) -> Vec<String> {
        let listing = self.git(&["worktree", "list", "--porcelain"]);
        let paths = listing.lines().filter_map(|line| line.strip_prefix("worktree "));
        paths.skip(1).map(str::to_owned).collect()
    }

    /// The pull requests of the local forge, by path, as text.
    pub fn pulls(&self) -> Vec<(PathBuf, String)> {
        let folder = self.root.join("automation/pulls");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
    }
}

/// Runs git; what it said is in the panic where it fails.
pub fn git_at(folder: &Path, env: &[(String, String)], args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(folder)
        .env_clear()
        .envs(env.iter().cloned())
        .stdin(Stdio::null())
        .output()
        .expect("git starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?} in {}: {said}", folder.display());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
