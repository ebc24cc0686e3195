//! What a project must have: a sound repository, a reachable base, its scripts, no strays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Findings, Visit};
use crate::client::Client;
use crate::runs::RunPage;
use crate::runs::profile::ScriptsFrom;
use crate::runs::project::Project;
use crate::{automation, tool};

const GIT_LIMIT_MS: u64 = 30_000;
/// A `worktree add` that is under way is younger than this; what is older was killed.
const INITIALIZING_LIMIT: Duration = Duration::from_secs(120);

/// The repository under examination.
struct Repo<'a> {
    root: &'a Path,
    env: BTreeMap<String, String>,
    git: PathBuf,
}

impl Repo<'_> {
    /// Runs git; an error is its last words.
    async fn git(&self, args: &[&str]) -> Result<String, String> {
        self.git_in(self.root, args).await
    }

    async fn git_in(&self, folder: &Path, args: &[&str]) -> Result<String, String> {
        let done = tool::run(&self.git, args, folder, &self.env, GIT_LIMIT_MS).await?;
        if done.code == Some(0) { Ok(done.stdout) } else { Err(done.stderr) }
    }
}

pub(super) async fn examine(
    visit: &Visit<'_>,
    root: &Path,
    found: &mut Findings,
    tell: &dyn Fn(&str),
) {
    let mut env = visit.child_env();
    env.insert("GIT_OPTIONAL_LOCKS".into(), "0".into());
    env.insert("LC_ALL".into(), "C".into());
    let Some(git) = tool::find("git", &env) else { return };
    let repo = Repo { root, env, git };
    if let Err(error) = repo.git(&["rev-parse", "--git-common-dir"]).await {
        found.fail(
            "repository",
            format!("{}: {error}", root.display()),
            "is it yours? `git config --global --add safe.directory PATH`",
        );
        return;
    }
    found.ok("repository", root.display().to_string());
    let project = match visit.project(root) {
        Ok(project) => project,
        Err(problem) => {
            found.fail(
                "profile",
                problem,
                "`adwd project detect` says what was found; a [[project]] entry can name a profile",
            );
            return;
        }
    };
    found.ok("profile", format!("{}: {}", project.profile.name, project.profile_reason));
    scripts(visit, &project, found);
    killed_adds(visit, &repo, found).await;
    let sound = worktree_list(visit, &repo, found).await;
    tell("asking the remote");
    base(visit, &repo, &project, found).await;
    if let Some(listed) = sound {
        strays(visit, &repo, &project, &listed, found).await;
    }
}

fn scripts(visit: &Visit<'_>, project: &Project, found: &mut Findings) {
    let embedded = project.profile.scripts_from == ScriptsFrom::Embedded;
    if embedded && !automation::is_intact(&project.scripts_root) {
        // Made at each start of the daemon: absent is as good as intact.
        match automation::materialise(&visit.config.paths.state_dir) {
            Ok(_) => {}
            Err(error) => {
                found.fail("scripts", error.to_string(), "see state_dir above");
                return;
            }
        }
    }
    let scripts = project.profile.phases.iter().filter(|phase| {
        !phase.scripts.iter().any(|script| project.scripts_root.join(script).is_file())
    });
    let missing: Vec<String> = scripts
        .map(|phase| phase.name.clone())
        .chain(
            project
                .profile
                .required_files
                .iter()
                .filter(|f| !project.scripts_root.join(f).exists())
                .cloned(),
        )
        .collect();
    let phases = project.profile.sequence.join(", ");
    if missing.is_empty() {
        let whose = if embedded { "adwd's own" } else { "the repository's" };
        found.ok("scripts", format!("{whose}, phases {phases}, prompts present"));
    } else {
        found.fail(
            "scripts",
            format!("missing: {}", missing.join(", ")),
            format!("restore them below {}", project.scripts_root.display()),
        );
    }
}

/// What a killed `git worktree add` leaves: an admin folder that is locked as `initializing`, which
/// `prune` skips and `remove --force` refuses.
async fn killed_adds(visit: &Visit<'_>, repo: &Repo<'_>, found: &mut Findings) {
    let Ok(common) = repo.git(&["rev-parse", "--path-format=absolute", "--git-common-dir"]).await
    else {
        return;
    };
    let folder = Path::new(common.trim()).join("worktrees");
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let lock = entry.path().join("locked");
        let is_initializing =
            std::fs::read_to_string(&lock).is_ok_and(|text| text.trim() == "initializing");
        // std's clock, not ours: it is compared with the file's own time, which the same kernel set.
        let is_old = std::fs::metadata(&lock)
            .and_then(|meta| meta.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > INITIALIZING_LIMIT));
        if !is_initializing || !is_old {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = format!("a killed `git worktree add` left {name} half made");
        if !visit.fix {
            found.fail(
                "worktrees",
                text,
                "`adwd doctor --fix` takes it away (it never held a commit)",
            );
            continue;
        }
        let tree = std::fs::read_to_string(entry.path().join("gitdir")).ok().and_then(|text| {
            Path::new(text.trim()).parent().map(|folder| folder.display().to_string())
        });
        if let Some(tree) = &tree {
            let _ = repo.git(&["worktree", "remove", "-f", "-f", tree]).await;
        }
        let gone = !entry.path().exists() || std::fs::remove_dir_all(entry.path()).is_ok();
        if gone {
            found.fixed("worktrees", text);
        } else {
            found.fail("worktrees", text, format!("remove {} by hand", entry.path().display()));
        }
    }
}

/// The registered worktrees; `None` where the repository is poisoned and was not mended.
async fn worktree_list(
    visit: &Visit<'_>,
    repo: &Repo<'_>,
    found: &mut Findings,
) -> Option<Vec<Listed>> {
    let list = &["worktree", "list", "--porcelain"];
    let mut text = repo.git(list).await;
    if let Err(error) = &text {
        let what = format!(
            "git cannot list worktrees ({error}): a killed `worktree add` poisoned the repository"
        );
        if !visit.fix {
            found.fail("worktrees", what, "`adwd doctor --fix`, or `git worktree prune`");
            return None;
        }
        let _ = repo.git(&["worktree", "prune"]).await;
        text = repo.git(list).await;
        match &text {
            Ok(_) => found.fixed("worktrees", what),
            Err(error) => {
                found.fail(
                    "worktrees",
                    format!("{what}; prune did not help: {error}"),
                    "look below .git/worktrees",
                );
                return None;
            }
        }
    }
    let listed = parse_list(&text.unwrap_or_default());
    let prunable = listed.iter().filter(|w| w.prunable).count();
    if prunable == 0 {
        found.ok("worktrees", format!("{} registered", listed.len()));
    } else if visit.fix && repo.git(&["worktree", "prune"]).await.is_ok() {
        found.fixed("worktrees", format!("{prunable} whose folder is gone"));
    } else {
        found.warn(
            "worktrees",
            format!("{prunable} whose folder is gone"),
            "`adwd doctor --fix`, or `git worktree prune`",
        );
    }
    Some(listed)
}

/// One worktree, as git lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Listed {
    path: PathBuf,
    prunable: bool,
    locked: bool,
}

fn parse_list(text: &str) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("worktree ") {
            all.push(Listed { path: path.into(), ..Listed::default() });
        } else if let Some(last) = all.last_mut() {
            last.prunable |= line.starts_with("prunable");
            last.locked |= line.starts_with("locked");
        }
    }
    all
}

async fn base(visit: &Visit<'_>, repo: &Repo<'_>, project: &Project, found: &mut Findings) {
    let remote = project.remote();
    let Ok(url) = repo.git(&["remote", "get-url", &remote]).await else {
        found.fail(
            "remote",
            format!("there is no remote {remote:?}"),
            format!("`git remote add {remote} URL`, or name another in the [[project]] entry"),
        );
        return;
    };
    // A URL may hold a password.
    let url = crate::telemetry::redact(url.trim()).into_owned();
    let base = match project.base_branch() {
        Some(base) => base,
        None => {
            let head = repo
                .git(&["symbolic-ref", "--short", &format!("refs/remotes/{remote}/HEAD")])
                .await;
            let known = head.ok().and_then(|text| {
                text.trim().strip_prefix(&format!("{remote}/")).map(str::to_owned)
            });
            match known {
                Some(base) => base,
                None => remote_head(visit, repo, &remote).await.unwrap_or_else(|| "main".into()),
            }
        }
    };
    if visit.offline {
        let local = repo
            .git(&["rev-parse", "--verify", "--quiet", &format!("refs/remotes/{remote}/{base}")])
            .await;
        let seen = if local.is_ok() { "seen before" } else { "never fetched" };
        found.ok("base", format!("{remote}/{base} {seen} ({url}; not asked: offline)"));
        return;
    }
    match repo.git(&["ls-remote", &remote, &format!("refs/heads/{base}")]).await {
        Ok(text) if !text.trim().is_empty() => {
            found.ok("base", format!("{remote}/{base} is there ({url})"))
        }
        Ok(_) => {
            let reference = format!("refs/heads/{base}");
            let local = repo.git(&["rev-parse", "--verify", "--quiet", &reference]).await;
            if local.is_ok() {
                found.warn(
                    "base",
                    format!("{base} is here but not on {remote} ({url})"),
                    format!("`git push {remote} {base}`"),
                );
            } else {
                found.fail(
                    "base",
                    format!("{base} is neither here nor on {remote} ({url})"),
                    "set base_branch in the [[project]] entry",
                );
            }
        }
        Err(error) => found.fail(
            "remote",
            format!("{remote} ({url}) cannot be reached: {error}"),
            "check the network, the key or the token: `git ls-remote` must work without a prompt",
        ),
    }
}

async fn remote_head(visit: &Visit<'_>, repo: &Repo<'_>, remote: &str) -> Option<String> {
    if visit.offline {
        return None;
    }
    let text = repo.git(&["ls-remote", "--symref", remote, "HEAD"]).await.ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("ref: refs/heads/"))?;
    Some(line.split_whitespace().next()?.to_owned())
}

/// Worktrees below the project's tree folder that no run of the daemon owns.
async fn strays(
    visit: &Visit<'_>,
    repo: &Repo<'_>,
    project: &Project,
    listed: &[Listed],
    found: &mut Findings,
) {
    let trees = project.trees_dir();
    let trees = trees.canonicalize().unwrap_or(trees);
    let mut folders = BTreeSet::new();
    for entry in std::fs::read_dir(&trees).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            folders.insert(entry.path());
        }
    }
    if folders.is_empty() {
        found.ok("strays", "no worktrees left behind");
        return;
    }
    let Some(owned) = owned_trees(visit).await else {
        found.warn(
            "strays",
            format!(
                "{} worktrees below {}; no daemon runs to say whose they are",
                folders.len(),
                trees.display()
            ),
            "`adwd serve`, then look again",
        );
        return;
    };
    let strays: Vec<&PathBuf> = folders.iter().filter(|folder| !owned.contains(*folder)).collect();
    if strays.is_empty() {
        found.ok("strays", format!("{} worktrees, each of a run", folders.len()));
    }
    for stray in strays {
        let known = listed.iter().find(|w| &w.path == stray);
        one_stray(visit, repo, stray, known, found).await;
    }
}

async fn one_stray(
    visit: &Visit<'_>,
    repo: &Repo<'_>,
    stray: &Path,
    known: Option<&Listed>,
    found: &mut Findings,
) {
    let path = stray.display().to_string();
    let Some(known) = known else {
        let empty = std::fs::read_dir(stray).is_ok_and(|mut entries| entries.next().is_none());
        if empty && visit.fix && std::fs::remove_dir(stray).is_ok() {
            found.fixed("strays", format!("{path}: an empty folder"));
        } else {
            found.warn(
                "strays",
                format!("{path}: no worktree of this repository"),
                "look into it, then remove it by hand",
            );
        }
        return;
    };
    let work = work_in(repo, stray, known).await;
    match work {
        Some(work) => found.warn(
            "strays",
            format!("{path}: of no known run, and {work}"),
            format!("save what you need, then `git worktree remove --force {path}`"),
        ),
        None if visit.fix => match repo.git(&["worktree", "remove", &path]).await {
            Ok(_) => found.fixed("strays", format!("{path}: of no known run, clean and pushed")),
            Err(error) => found.warn(
                "strays",
                format!("{path}: {error}"),
                format!("`git worktree remove {path}`"),
            ),
        },
        None => found.warn(
            "strays",
            format!("{path}: of no known run, clean and pushed"),
            "`adwd doctor --fix` removes it",
        ),
    }
}

/// What would be lost with a worktree, in words; `None` where nothing would.
async fn work_in(repo: &Repo<'_>, tree: &Path, known: &Listed) -> Option<&'static str> {
    if known.locked {
        return Some("locked: something may be at work in it");
    }
    match repo.git_in(tree, &["status", "--porcelain"]).await {
        Ok(text) if text.trim().is_empty() => {}
        Ok(_) => return Some("it holds changes that are not committed"),
        Err(_) => return Some("git cannot say what it holds"),
    }
    match repo.git_in(tree, &["rev-list", "--count", "HEAD", "--not", "--remotes"]).await {
        Ok(count) if count.trim() == "0" => None,
        Ok(_) => Some("it holds commits that are not pushed"),
        Err(_) => Some("git cannot say what it holds"),
    }
}

/// The worktrees of all runs that the daemon knows; `None` where no daemon answers.
async fn owned_trees(visit: &Visit<'_>) -> Option<BTreeSet<PathBuf>> {
    let client = Client::connect(&visit.socket).await.ok()?;
    let mut owned = BTreeSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut asked = Map::new();
        asked.insert("limit".into(), json!(100));
        if let Some(cursor) = &cursor {
            asked.insert("cursor".into(), json!(cursor));
        }
        let page: RunPage = client.call("list_adw_workflows", asked).await.ok()?;
        for run in page.workflows {
            let mut about = Map::new();
            about.insert("adw_id".into(), json!(run.adw_id));
            let state: Value = client.call_value("get_adw_state", about).await.ok()?;
            if let Some(path) = state.get("worktree_path").and_then(Value::as_str) {
                owned.insert(Path::new(path).canonicalize().unwrap_or_else(|_| path.into()));
            }
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Some(owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_list_is_read_with_its_marks() {
        let text = "worktree /r\nHEAD abc\nbranch refs/heads/main\n\nworktree /r/t/one\nHEAD abc\nlocked adw 1\n\nworktree /r/t/two\nprunable gitdir file points to non-existent location\n";
        let listed = parse_list(text);
        assert_eq!(listed.len(), 3);
        assert!(listed[1].locked && !listed[1].prunable);
        assert!(listed[2].prunable && listed[2].path == Path::new("/r/t/two"));
    }
}
