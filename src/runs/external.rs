//! Runs that the daemon did not start: their state files are read and listed, nothing of theirs is
//! ever touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::ctx::Ctx;
use super::error::RunsError;
use super::facts;
use super::project::Project;
use super::sql::{self, RunRow};
use super::state_file::AdwState;
use super::view::RunStatus;
use crate::clock::Millis;
use crate::crash::{self, Point};
use crate::ids::{IssueNumber, RunId};
use crate::limits;

/// Size and time of a state file.
type Stamp = (u64, SystemTime);

/// What earlier rounds found, so that a round reads what is new alone. Forgotten with the daemon.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Run folders that need no look.
    settled: BTreeMap<PathBuf, Settled>,
}

/// Why a run folder needs no look.
#[derive(Clone, Debug)]
enum Settled {
    /// The run is the daemon's own.
    Ours,
    /// The run has ended, and neither its state file nor its worktree has changed since.
    Ended(Stamp, Option<PathBuf>),
}

impl Seen {
    fn is_settled(&self, dir: &Path, stamp: Stamp) -> bool {
        match self.settled.get(dir) {
            None => false,
            Some(Settled::Ours) => true,
            Some(Settled::Ended(then, tree)) => {
                *then == stamp && tree.as_ref().is_none_or(|tree| tree.exists())
            }
        }
    }
}

/// Looks through the state folders of all projects; answers at how many runs it had to look, which are
/// those that live, and those that are new.
pub(crate) async fn round(ctx: &Arc<Ctx>, seen: &mut Seen) -> usize {
    let mut looks = 0;
    let before = std::mem::take(&mut seen.settled);
    for project in ctx.projects() {
        // What is not there any more is forgotten.
        let agents = project.agents_dir();
        let there = |(dir, _): &(&PathBuf, &Settled)| dir.starts_with(&agents) && dir.exists();
        let kept = before.iter().filter(there).map(|(dir, how)| (dir.clone(), how.clone()));
        seen.settled.extend(kept);
        if let Err(e) = look(ctx, &project, seen, &mut looks).await {
            tracing::warn!(project = project.name, "foreign runs could not be looked at: {e}");
        }
    }
    looks
}

async fn look(
    ctx: &Arc<Ctx>,
    project: &Project,
    seen: &mut Seen,
    looks: &mut usize,
) -> Result<(), RunsError> {
    let Ok(entries) = std::fs::read_dir(project.agents_dir()) else { return Ok(()) };
    let until = *looks + limits::EXTERNAL_RUNS_COUNT;
    for entry in entries.flatten() {
        let (name, dir) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let Some(stamp) = stamp_of(&dir.join("adw_state.json")) else { continue };
        if seen.is_settled(&dir, stamp)
            || name.parse::<RunId>().is_err()
            || !entry.file_type().is_ok_and(|t| t.is_dir())
        {
            continue;
        }
        if *looks == until {
            break;
        }
        *looks += 1;
        let known = sql::run(ctx.db(), &name).await?;
        if known.as_ref().is_some_and(|r| r.origin != "external" || r.project != project.name) {
            seen.settled.insert(dir, Settled::Ours);
            continue;
        }
        let Some(row) = describe(ctx, project, &name, &dir, known.as_ref()) else {
            continue;
        };
        let settled = row.status().is_terminal().then(|| {
            let present = row.worktree.as_deref() == Some("present");
            let tree = row.worktree_path.as_deref().filter(|_| present).map(PathBuf::from);
            Settled::Ended(stamp, tree)
        });
        let known_usage = known.as_ref().and_then(|k| k.run_usage.clone());
        match known {
            None => {
                let mut tx = ctx.db().begin().await?;
                let row = RunRow { seq: tx.next_counter("runs").await?, ..row };
                match sql::insert_run(&mut tx, &row).await {
                    Ok(()) => {
                        crash::here(Point::ForeignUncommitted);
                        tx.commit().await?;
                        crash::here(Point::ForeignStored);
                    }
                    Err(e) if e.is_unique() => {}
                    Err(e) => return Err(e.into()),
                }
                ctx.run_changed(&name);
            }
            Some(old) if differs(&old, &row) => {
                sql::update_external(ctx.db(), &row).await?;
                ctx.run_changed(&name);
            }
            Some(_) => {}
        }
        if let Some(stored) = sql::run(ctx.db(), &name).await?
            && stored.run_usage.is_some()
            && known_usage != stored.run_usage
        {
            super::account::carry(ctx, &stored).await?;
        }
        // Once it is stored: a failed statement is tried again.
        if let Some(settled) = settled {
            seen.settled.insert(dir, settled);
        }
    }
    Ok(())
}

fn differs(old: &RunRow, new: &RunRow) -> bool {
    (&old.status, &old.state, &old.state_problem, &old.worktree)
        != (&new.status, &new.state, &new.state_problem, &new.worktree)
}

/// What the files of a foreign run say; `None` where there is no state file at all.
fn describe(
    ctx: &Ctx,
    project: &Project,
    adw_id: &str,
    dir: &Path,
    known: Option<&RunRow>,
) -> Option<RunRow> {
    let file = dir.join("adw_state.json");
    let (state, problem) = match facts::read_state(&file, adw_id) {
        Ok(None) => return None,
        Ok(Some(state)) => (Some(state), None),
        Err(problem) => (
            known.and_then(|k| k.state.as_deref()).and_then(|s| AdwState::parse(s.as_bytes()).ok()),
            Some(problem),
        ),
    };
    let changed = modified(&file).unwrap_or_else(|| ctx.now());
    let alive = crate::lock::is_locked(&dir.join("run.lock")).unwrap_or(false);
    let silence = i64::try_from(ctx.config().phases.build.silence_ms).unwrap_or(i64::MAX);
    // Only this project's scripts hold a lock; of others, recent writing is the only sign of life.
    let writes = !project.profile.stdout.markers && ctx.now().since_ms(changed) < silence;
    let status = state.as_ref().map_or(RunStatus::Lost, |s| status_of(s, alive || writes));
    let told = state
        .as_ref()
        .map(|s| facts::told_by(s, project, &project.profile.phase_names(), changed))
        .unwrap_or_default();
    let text = |key: &str| state.as_ref().and_then(|s| s.text(key));
    let issue = text("issue_number")
        .and_then(|n| n.parse::<IssueNumber>().ok())
        .map_or_else(|| "0".to_owned(), |n| n.to_string());
    let created = known.map_or(changed, |k| Millis(k.created_at));
    let phases = serde_json::to_string(&project.profile.sequence).unwrap_or_default();
    Some(RunRow {
        project: project.name.clone(),
        issue_number: issue,
        host: ctx.deps.host.clone(),
        origin: "external".into(),
        profile: project.profile.name.clone(),
        status: status.as_str().into(),
        active: false,
        todo: phases.clone(),
        phases,
        model: text("model"),
        skip_cleanup: true,
        triggered_by: text("triggered_by").unwrap_or_else(|| "manual".into()),
        transport: "none".into(),
        request_id: text("mcp_request_id"),
        user_id: text("mcp_user_id"),
        started_at: Some(created.0),
        ended_at: status.is_terminal().then_some(changed.0),
        issue_title: told.issue_title,
        issue_class: told.issue_class,
        branch: told.branch,
        base_branch: text("base_branch"),
        base_commit: text("base_commit"),
        worktree: told.worktree_path.as_deref().map(worktree_word),
        worktree_path: told.worktree_path,
        plan_file: told.plan_file,
        pr_url: told.pr_url,
        run_usage: told.usage,
        cost_usd: told.cost_usd,
        state: told.state,
        state_at: Some(changed.0),
        state_problem: problem,
        ..RunRow::blank(adw_id, created)
    })
}

fn stamp_of(file: &Path) -> Option<Stamp> {
    let meta = std::fs::symlink_metadata(file).ok()?;
    Some((meta.len(), meta.modified().ok()?))
}

fn worktree_word(path: &str) -> String {
    if Path::new(path).exists() { "present".into() } else { "removed".into() }
}

fn modified(path: &Path) -> Option<Millis> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Millis)
}

/// The status of a foreign run: from `phase_status` where the layout has one, else from what it
/// got done. A run that is in the middle and has no living process is lost, not in progress.
fn status_of(state: &AdwState, alive: bool) -> RunStatus {
    if alive {
        return RunStatus::Running;
    }
    let phases = state.phase_status();
    let any = |word: &str| phases.values().any(|s| s == word);
    if any("failed") {
        RunStatus::Failed
    } else if any("skipped") {
        RunStatus::Skipped
    } else if done(state, &phases) {
        RunStatus::Completed
    } else {
        RunStatus::Lost
    }
}

/// Whether a foreign run got to its end: by its phases, or by what it made where it tells none.
fn done(state: &AdwState, phases: &BTreeMap<String, String>) -> bool {
    if phases.is_empty() {
        return state.flag("pr_created") == Some(true)
            || state.last_review().is_some_and(|r| r.success);
    }
    phases.values().all(|s| s == "completed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_run_without_a_living_process_is_never_in_progress() {
        let of = |text: &str, alive| status_of(&AdwState::parse(text.as_bytes()).unwrap(), alive);
        assert_eq!(
            of(r#"{"phase_status":{"plan":"completed","build":"in_progress"}}"#, false),
            RunStatus::Lost
        );
        assert_eq!(
            of(r#"{"phase_status":{"plan":"completed","build":"in_progress"}}"#, true),
            RunStatus::Running
        );
        assert_eq!(
            of(r#"{"phase_status":{"plan":"completed","build":"failed"}}"#, false),
            RunStatus::Failed
        );
        assert_eq!(
            of(
                r#"{"phase_status":{"plan":"completed","build":"completed","review":"completed"}}"#,
                false
            ),
            RunStatus::Completed
        );
        assert_eq!(of(r#"{"phase_status":{"plan":"skipped"}}"#, false), RunStatus::Skipped);
        assert_eq!(of(r#"{"pr_created":true}"#, false), RunStatus::Completed);
        assert_eq!(of(r#"{"adw_id":"x"}"#, false), RunStatus::Lost);
    }
}
