//! Gathering what a verdict rests on: the state file, the post-conditions, what agents used.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ctx::Ctx;
use super::marker::is_below;
use super::outcome::Checked;
use super::profile::{Post, WorktreeBy};
use super::project::Project;
use super::sql::{RunRow, Told};
use super::state_file::{AdwState, StateProblem};
use crate::clock::Millis;
use crate::limits;

/// Reads a run's state file. `Ok(None)` where there is none yet.
///
/// # Errors
/// A sentence for people: torn, empty, too large, not a plain file, of another run.
pub fn read_state(path: &Path, adw_id: &str) -> Result<Option<AdwState>, String> {
    // The run's own folder; that of all runs may well be a link of the user's.
    if path.parent().is_some_and(Path::is_symlink) {
        return Err("the folder of adw_state.json is a link, which is not followed".into());
    }
    let too_large = |bytes: u64| {
        Err(StateProblem::TooLarge { bytes, max: limits::STATE_FILE_BYTES }.to_string())
    };
    let bytes = match crate::plain::read(path, limits::STATE_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) => match e.kind() {
            ErrorKind::NotFound => return Ok(None),
            ErrorKind::InvalidData => {
                return Err(
                    "adw_state.json is not a plain file; a link out of the tree is not followed"
                        .into(),
                );
            }
            ErrorKind::FileTooLarge => {
                return too_large(std::fs::symlink_metadata(path).map_or(0, |meta| meta.len()));
            }
            _ => return Err(format!("adw_state.json cannot be read: {e}")),
        },
    };
    AdwState::parse(&bytes).and_then(|s| s.of_run(adw_id)).map(Some).map_err(|e| e.to_string())
}

/// What a state tells of a run. A worktree is believed only under the project's tree folder.
#[must_use]
pub fn told_by(state: &AdwState, project: &Project, phases: &[String], now: Millis) -> Told {
    let mut usage = serde_json::Map::new();
    for part in phases.iter().map(String::as_str).chain(["total"]) {
        if let Some(u) = state.usage(part) {
            usage.insert(part.to_owned(), serde_json::to_value(u).unwrap_or_default());
        }
    }
    Told {
        issue_title: state.issue_title().or_else(|| state.prose("title")),
        issue_class: state.text("issue_class"),
        branch: state.text("branch_name"),
        worktree_path: state
            .text("worktree_path")
            .filter(|w| is_below(Path::new(w), &project.trees_dir())),
        plan_file: state.text("plan_file"),
        pr_url: state.pr_url(),
        cost_usd: state.usage("total").map(|u| u.cost_usd),
        usage: (!usage.is_empty()).then(|| serde_json::Value::Object(usage).to_string()),
        state: Some(serde_json::Value::Object(state.raw.clone()).to_string()),
        state_at: Some(now),
        state_problem: Some(String::new()),
    }
}

/// Facts of the run that the checks need, from the row and the freshest state.
struct Subject {
    worktree: Option<PathBuf>,
    branch: Option<String>,
    base: Option<String>,
    plan_file: Option<String>,
    pr_url: Option<String>,
}

/// Checks the post-conditions of a phase. `since` is the start of the attempt.
pub(crate) async fn check(
    ctx: &Ctx,
    project: &Project,
    row: &RunRow,
    phase: &str,
    state: Option<&AdwState>,
    since: Millis,
) -> Vec<Checked> {
    let text = |key: &str| state.and_then(|s| s.text(key));
    let in_place = project.profile.worktree_by == WorktreeBy::Nobody;
    let subject = Subject {
        worktree: if in_place {
            Some(project.root.clone())
        } else {
            row.worktree_path.clone().or_else(|| text("worktree_path")).map(PathBuf::from)
        },
        branch: text("branch_name").or_else(|| row.branch.clone()),
        base: row.base_commit.clone().or_else(|| text("base_commit")),
        plan_file: text("plan_file").or_else(|| row.plan_file.clone()),
        pr_url: state.and_then(AdwState::pr_url).or_else(|| row.pr_url.clone()),
    };
    let Some(phase) = project.profile.phase(phase) else {
        return vec![];
    };
    let mut checks = Vec::with_capacity(phase.post.len());
    for post in &phase.post {
        let problem = match post {
            Post::NewCommit => new_commit(ctx, project, row, &phase.name, &subject).await,
            Post::PrCreated | Post::PrUrl | Post::Review | Post::NoBlocker => {
                check_state(*post, &subject, state, since)
            }
            _ => check_tree(ctx, project, *post, &subject).await,
        };
        checks.push(Checked { post: *post, problem });
    }
    checks
}

/// Whether the worktree has moved on from where the earlier phases ended: a plan's own commit must
/// not stand for the work.
async fn new_commit(
    ctx: &Ctx,
    project: &Project,
    row: &RunRow,
    phase: &str,
    subject: &Subject,
) -> Option<String> {
    let Some(worktree) = subject.worktree.as_deref() else {
        return Some("no worktree is recorded".into());
    };
    if let Some(problem) = not_usable(worktree) {
        return Some(problem);
    }
    let head = match ctx.git(project).head(worktree).await {
        Ok(head) => head,
        Err(e) => return Some(e.to_string()),
    };
    let attempts = match super::sql::attempts(ctx.db(), &row.adw_id).await {
        Ok(attempts) => attempts,
        Err(e) => return Some(e.to_string()),
    };
    let before: Vec<String> =
        project.profile.phase_names().into_iter().take_while(|n| n != phase).collect();
    let known = attempts
        .iter()
        .filter(|a| before.contains(&a.phase))
        .filter_map(|a| a.head_commit.as_ref());
    let same = known.chain(subject.base.as_ref()).any(|commit| *commit == head);
    same.then(|| format!("nothing was committed: the worktree is still at {head}"))
}

fn check_state(
    post: Post,
    subject: &Subject,
    state: Option<&AdwState>,
    since: Millis,
) -> Option<String> {
    let review = state.and_then(AdwState::last_review);
    match post {
        Post::PrCreated => match state.and_then(|s| s.flag("pr_created")) {
            Some(true) => None,
            _ => Some("no pull request is recorded (pr_created is not true)".into()),
        },
        Post::PrUrl => {
            subject.pr_url.is_none().then(|| "no URL of a pull request is recorded".into())
        }
        Post::Review => match review {
            None => Some("last_review is missing or does not parse".into()),
            Some(r) => match r.reviewed_at.as_deref().and_then(Millis::parse_rfc3339) {
                Some(at) if at < since => Some("last_review is of an earlier attempt".into()),
                _ => None,
            },
        },
        Post::NoBlocker => review
            .filter(|r| r.blockers > 0)
            .map(|r| format!("the review has {} blocker(s): {}", r.blockers, r.summary)),
        _ => None,
    }
}

async fn check_tree(ctx: &Ctx, project: &Project, post: Post, subject: &Subject) -> Option<String> {
    let Some(worktree) = subject.worktree.as_deref() else {
        return Some("no worktree is recorded".into());
    };
    let problem = not_usable(worktree);
    if post == Post::Worktree || problem.is_some() {
        return problem;
    }
    match check_git(ctx, project, post, subject, worktree).await {
        Ok(problem) => problem,
        Err(e) => Some(e.to_string()),
    }
}

/// What is wrong with the place of a worktree. Without a `.git` of its own git would answer for the
/// checkout round it.
fn not_usable(worktree: &Path) -> Option<String> {
    if !worktree.is_dir() {
        return Some(format!("the worktree {} is not there", worktree.display()));
    }
    (!worktree.join(".git").exists())
        .then(|| format!("the worktree {} has no .git any more", worktree.display()))
}

/// The commit that a worktree is at, as far as it can be told.
pub(crate) async fn head(ctx: &Ctx, project: &Project, worktree: &Path) -> Option<String> {
    if not_usable(worktree).is_some() {
        return None;
    }
    ctx.git(project).head(worktree).await.ok()
}

async fn check_git(
    ctx: &Ctx,
    project: &Project,
    post: Post,
    subject: &Subject,
    worktree: &Path,
) -> Result<Option<String>, super::git::GitError> {
    let git = ctx.git(project);
    Ok(match (post, subject.plan_file.as_deref(), subject.branch.as_deref()) {
        (Post::PlanFile | Post::PlanCommitted, None, _) => Some("no plan file is recorded".into()),
        (Post::PlanFile, Some(plan), _) => (!is_file_inside(worktree, plan))
            .then(|| format!("the plan file {plan} is not in the worktree")),
        (Post::PlanCommitted, Some(plan), _) => {
            let head = git.head(worktree).await?;
            let relative = Path::new(plan).strip_prefix(worktree).unwrap_or(Path::new(plan));
            (!git.file_in_commit(&head, relative).await?)
                .then(|| format!("the plan file {plan} is not committed"))
        }
        (Post::Clean, ..) => {
            (!git.is_clean(worktree).await?).then(|| "the worktree has uncommitted changes".into())
        }
        (Post::AheadOfBase | Post::Pushed, _, None) => Some("no branch is recorded".into()),
        (Post::AheadOfBase, _, Some(branch)) => {
            let base = match &subject.base {
                Some(commit) => commit.clone(),
                None => project.base_branch().unwrap_or_else(|| "HEAD".into()),
            };
            (git.ahead_count(&base, branch).await? == 0)
                .then(|| format!("branch {branch} has no commit that {base} has not"))
        }
        (Post::Pushed, _, Some(branch)) => {
            let head = git.head(worktree).await?;
            match git.remote_branch_commit(&project.remote(), branch).await? {
                None => Some(format!("the remote {} has no branch {branch}", project.remote())),
                Some(there) if there != head => Some(format!(
                    "branch {branch} is at {head} here and at {there} on {}",
                    project.remote()
                )),
                Some(_) => None,
            }
        }
        _ => None,
    })
}

/// Whether `name` is a file in `folder`, also after all links and `..` are followed.
fn is_file_inside(folder: &Path, name: &str) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    match (real(folder), real(&folder.join(name))) {
        (Some(folder), Some(file)) => is_below(&file, &folder) && file.is_file(),
        _ => false,
    }
}

/// Folders in which the agents of a run leave their streams.
pub(crate) fn stream_roots(ctx: &Ctx, project: &Project, adw_id: &str) -> Vec<PathBuf> {
    let mut roots = vec![project.run_state_dir(adw_id)];
    // Layouts of the world log under a project name of their own.
    if let Ok(entries) = std::fs::read_dir(project.log_root()) {
        for entry in entries.flatten().take(limits::LOG_PROJECTS_COUNT) {
            let dir = entry.path().join(ctx.environment()).join(adw_id);
            if dir.is_dir() {
                roots.push(dir);
            }
        }
    }
    roots
}

/// Calls `each` for every plain file below `root`, at most so deep and so many.
pub fn walk(
    root: &Path,
    depth: usize,
    left: &mut usize,
    each: &mut dyn FnMut(&Path, &std::fs::Metadata),
) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth > 0 {
            walk(&entry.path(), depth - 1, left, each);
        } else if meta.is_file() {
            each(&entry.path(), &meta);
        }
    }
}

/// A number that changes whenever something in a run grows: its log, its state, an agent's stream.
pub(crate) fn activity(ctx: &Ctx, project: &Project, adw_id: &str, attempt_dir: &Path) -> u64 {
    let mut sum = std::fs::metadata(attempt_dir.join("execution.log")).map_or(0, |m| m.len());
    let mut left = limits::ACTIVITY_FILES_COUNT;
    for root in stream_roots(ctx, project, adw_id) {
        walk(&root, 4, &mut left, &mut |_, meta| {
            let changed =
                meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            sum = sum
                .wrapping_mul(31)
                .wrapping_add(meta.len())
                .wrapping_add(changed.map_or(0, |d| u64::from(d.subsec_nanos()) ^ d.as_secs()));
        });
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_tree_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside.json");
        std::fs::write(&outside, "{}").unwrap();
        let link = dir.path().join("adw_state.json");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        assert!(read_state(&link, "a").unwrap_err().contains("plain file"));
        assert_eq!(read_state(&dir.path().join("none"), "a"), Ok(None));
    }

    #[test]
    fn a_plan_outside_its_worktree_is_no_plan() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("plan.md"), "").unwrap();
        std::fs::write(dir.path().join("outside.md"), "").unwrap();
        std::os::unix::fs::symlink("../outside.md", tree.join("link.md")).unwrap();
        assert!(is_file_inside(&tree, "plan.md"));
        assert!(is_file_inside(&tree, &tree.join("plan.md").to_string_lossy()));
        for bad in ["../outside.md", "link.md", "/etc/passwd", "", "nowhere.md"] {
            assert!(!is_file_inside(&tree, bad), "{bad:?}");
        }
    }
}
