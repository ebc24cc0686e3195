//! What a project must have: a sound repository, a reachable base, its scripts, no strays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Findings, Visit};
use crate::client::Client;
use crate::runs::RunPage;
use crate::runs::git::Git;
use crate::runs::profile::ScriptsFrom;
use crate::runs::project::Project;
use crate::runs::worktree::{Discard, Listed, Worktrees};
use crate::{automation, limits, tool};

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
        let done = tool::run(&self.git, args, self.root, &self.env, GIT_LIMIT_MS).await?;
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
    let trees_dir = project.trees_dir();
    let trees = Worktrees::new(Git::new(root, visit.child_env()), trees_dir.clone());
    let trees_dir = trees_dir.canonicalize().unwrap_or(trees_dir);
    let sound = worktree_list(visit, &repo, &trees, &trees_dir, found).await;
    tell("asking the remote");
    base(visit, &repo, &project, found).await;
    if let Some(listed) = sound {
        strays(visit, &trees, &project, &listed, found).await;
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

/// What crashes left in the repository's list of worktrees. Mended is what is ours, and what makes
/// git fail everywhere; a worktree of the user's is never forgotten: its disk may only be away.
async fn worktree_list(
    visit: &Visit<'_>,
    repo: &Repo<'_>,
    trees: &Worktrees,
    trees_dir: &Path,
    found: &mut Findings,
) -> Option<Vec<Listed>> {
    let before = leftovers(repo, trees, trees_dir).await;
    let mut problem = None;
    if visit.fix {
        // The same mending as the daemon's, under the same lock: what git is at work on stays.
        let limit = Duration::from_millis(limits::GIT_REPAIR_MS);
        problem = match tokio::time::timeout(limit, trees.mended()).await {
            Ok(done) => done.err().map(|error| error.to_string()),
            Err(_) => Some(format!("git or a daemon is at work here for {} s", limit.as_secs())),
        };
    }
    let after = if visit.fix { leftovers(repo, trees, trees_dir).await } else { before.clone() };
    for left in before.iter().filter(|left| !after.contains(left)) {
        found.fixed("worktrees", left.text.clone());
    }
    for left in &after {
        let why = problem.as_ref().map(|p| format!("; {p}")).unwrap_or_default();
        let text = format!("{}{why}", left.text);
        if left.ours || left.poison {
            found.fail("worktrees", text, "`adwd doctor --fix`; else look below .git/worktrees");
        } else {
            found.warn("worktrees", text, left.remedy.clone());
        }
    }
    let listed = trees.list().await.ok()?;
    let away = listed.iter().filter(|w| w.prunable && !w.path.starts_with(trees_dir)).count();
    let note = match away {
        0 => String::new(),
        n => format!(
            ", {n} of yours whose folder is away (left alone; `git worktree prune` forgets them)"
        ),
    };
    if after.is_empty() {
        found.ok("worktrees", format!("{} registered{note}", listed.len()));
    }
    Some(listed)
}

/// Something that a crash left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Left {
    text: String,
    remedy: String,
    ours: bool,
    poison: bool,
}

async fn leftovers(repo: &Repo<'_>, trees: &Worktrees, trees_dir: &Path) -> Vec<Left> {
    let mut all = half_made(repo, trees_dir).await;
    match trees.list().await {
        Err(error) => all.push(Left {
            text: format!(
                "git cannot list worktrees: a crash spoiled the repository ({})",
                error.message
            ),
            remedy: String::new(),
            ours: false,
            poison: true,
        }),
        Ok(listed) => {
            let gone = listed
                .iter()
                .filter(|w| w.prunable && w.locked.is_none() && w.path.starts_with(trees_dir));
            all.extend(gone.map(|w| Left {
                text: format!("the folder of {} is gone", w.path.display()),
                remedy: String::new(),
                ours: true,
                poison: false,
            }));
        }
    }
    all
}

/// What a killed `git worktree add` leaves: an admin folder that is locked as `initializing`, which
/// `prune` skips and `remove --force` refuses. One that is young, or not ours, may be at work.
async fn half_made(repo: &Repo<'_>, trees_dir: &Path) -> Vec<Left> {
    let Ok(common) = repo.git(&["rev-parse", "--path-format=absolute", "--git-common-dir"]).await
    else {
        return vec![];
    };
    let mut all = vec![];
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
        let tree = std::fs::read_to_string(entry.path().join("gitdir")).ok();
        let tree = tree.as_deref().and_then(|text| Path::new(text.trim()).parent());
        let ours = tree.is_some_and(|tree| tree.starts_with(trees_dir));
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = tree.map_or_else(|| name.clone(), |tree| tree.display().to_string());
        all.push(Left {
            text: format!("a killed `git worktree add` left {name} half made"),
            remedy: format!(
                "not ours; if no git is at work in it: `git worktree remove -f -f {path}`"
            ),
            ours,
            poison: false,
        });
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
    trees: &Worktrees,
    project: &Project,
    listed: &[Listed],
    found: &mut Findings,
) {
    let trees_dir = project.trees_dir();
    let trees_dir = trees_dir.canonicalize().unwrap_or(trees_dir);
    let mut folders = BTreeSet::new();
    for entry in std::fs::read_dir(&trees_dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            folders.insert(entry.path());
        }
    }
    if folders.is_empty() {
        found.ok("strays", "no worktrees left behind");
        return;
    }
    let Some(owned) = owned_trees(visit, project).await else {
        found.warn(
            "strays",
            format!(
                "{} worktrees below {}; no daemon runs to say whose they are",
                folders.len(),
                trees_dir.display()
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
        if listed.iter().any(|w| &w.path == stray) {
            one_stray(visit, trees, project, stray, found).await;
        } else {
            no_worktree(visit, stray, found);
        }
    }
}

/// A folder among the worktrees that git does not know.
fn no_worktree(visit: &Visit<'_>, stray: &Path, found: &mut Findings) {
    let path = stray.display().to_string();
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
}

async fn one_stray(
    visit: &Visit<'_>,
    trees: &Worktrees,
    project: &Project,
    stray: &Path,
    found: &mut Findings,
) {
    let path = stray.display().to_string();
    let kept = if visit.fix {
        // Asked again under the lock: a run by hand may have made it its own meanwhile.
        let still_nobodys = async || match owned_trees(visit, project).await {
            Some(owned) if !owned.contains(stray) => Ok(()),
            _ => Err("a run uses it now".to_owned()),
        };
        let removed = trees.remove_unless(stray, Discard::Nothing, still_nobodys).await;
        removed.err().map(|error| error.message)
    } else {
        trees.objection_to_removing(stray, Discard::Nothing).await
    };
    match kept {
        Some(why) => found.warn(
            "strays",
            format!("{path}: of no known run, and kept: {why}"),
            format!("save what you need, then `git worktree remove --force {path}`"),
        ),
        None if visit.fix => {
            found.fixed("strays", format!("{path}: of no known run, clean and pushed"))
        }
        None => found.warn(
            "strays",
            format!("{path}: of no known run, clean and pushed"),
            "`adwd doctor --fix` removes it",
        ),
    }
}

/// The worktrees of all runs that the daemon knows or that a state file names (a run by hand is
/// known to the daemon a little later); `None` where no daemon answers.
async fn owned_trees(visit: &Visit<'_>, project: &Project) -> Option<BTreeSet<PathBuf>> {
    let client = Client::connect(&visit.socket).await.ok()?;
    let canonical = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let mut owned: BTreeSet<PathBuf> =
        project.worktrees_of_states().into_iter().map(canonical).collect();
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
                owned.insert(canonical(path.into()));
            }
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Some(owned),
        }
    }
}
