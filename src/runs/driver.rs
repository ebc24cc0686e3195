//! One task per active run: asks the state machine for the next step, does it, stores it, asks
//! again; an attempt that was just stored is launched at once. It holds nothing that the database or
//! the run's folders do not hold too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::account;
use super::attend;
use super::ctx::Ctx;
use super::error::RunsError;
use super::preflight;
use super::profile::WorktreeBy;
use super::project::Project;
use super::run::{self, End, Next};
use super::sql::{self, AttemptRow, Prepared, RunRow};
use super::view::{Failure, FailureClass, RunStatus};
use crate::clock::Millis;
use crate::limits;

/// Whether the driver has more to do.
enum Flow {
    Again,
    Done,
}

/// Drives a run until it rests or the daemon stops.
pub(crate) async fn drive(ctx: Arc<Ctx>, adw_id: String) {
    let notify = ctx.notify_of(&adw_id);
    while !ctx.deps.shutdown.is_cancelled() {
        match step(&ctx, &adw_id).await {
            Ok(Flow::Again) => {}
            Ok(Flow::Done) => break,
            Err(e) => {
                // Nothing is lost by waiting: what was not stored is done again.
                tracing::error!(adw_id, "step failed, will be done again: {e}");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(limits::DRIVER_BACKOFF_MS)) => {}
                    () = ctx.deps.shutdown.cancelled() => {}
                }
            }
        }
    }
    drop(notify);
    ctx.forget_driver(&adw_id);
}

async fn step(ctx: &Arc<Ctx>, adw_id: &str) -> Result<Flow, RunsError> {
    let (row, attempts) =
        tokio::try_join!(sql::run(ctx.db(), adw_id), sql::attempts(ctx.db(), adw_id))?;
    let Some(row) = row else { return Ok(Flow::Done) };
    let Some(project) = ctx.project(&row.project) else {
        return without_project(ctx, &row).await;
    };
    let facts = row.facts(&attempts);
    let now = ctx.now();
    match run::next(&facts, now, &ctx.retry()) {
        Next::Rest => return Ok(Flow::Done),
        // Nobody waits for the next day in silence: what cannot be paid for ends when its turn
        // comes, and says so.
        Next::Prepare => {
            if !account::stop_if_used_up(ctx, &row, None).await? {
                prepare(ctx, &project, &row).await?;
            }
        }
        Next::Begin { phase, attempt } => {
            if !account::stop_if_used_up(ctx, &row, Some(&phase)).await? {
                unlock(ctx, &project, &row, &attempts).await;
                if let Some(open) = begin(ctx, &project, &row, &phase, attempt).await? {
                    attend::attend(ctx, &project, &row, &open, false).await?;
                }
            }
        }
        Next::Attend { phase, attempt, stop } => {
            let found = attempts.iter().find(|a| a.phase == phase && a.attempt == attempt);
            if let Some(open) = found {
                attend::attend(ctx, &project, &row, open, stop).await?;
            }
        }
        Next::WaitUntil(due) => {
            sql::set_retry_at(ctx.db(), adw_id, due).await?;
            ctx.deps.changes.send(changed(adw_id));
            let pause = u64::try_from(due.since_ms(now)).unwrap_or(0).min(limits::SCAN_MS);
            let notify = ctx.notify_of(adw_id);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                () = notify.notified() => {}
                () = ctx.deps.shutdown.cancelled() => {}
            }
        }
        Next::Finish(end) => {
            unlock(ctx, &project, &row, &attempts).await;
            return finish(ctx, &row, &end).await;
        }
    }
    Ok(Flow::Again)
}

/// The project was taken out of the configuration while a run of it was under way: the run is left
/// as it is, to go on when the project is served again; unless it is to stop, which needs only its
/// folder.
async fn without_project(ctx: &Arc<Ctx>, row: &RunRow) -> Result<Flow, RunsError> {
    let adw_id = &row.adw_id;
    let attempts = sql::attempts(ctx.db(), adw_id).await?;
    match run::next(&row.facts(&attempts), ctx.now(), &ctx.retry()) {
        Next::Attend { phase, attempt, stop: true } => {
            let found = attempts.iter().find(|a| a.phase == phase && a.attempt == attempt);
            if let Some(open) = found {
                attend::end_unserved(ctx, row, open).await?;
            }
            Ok(Flow::Again)
        }
        Next::Finish(end) if row.status() == RunStatus::Stopping => finish(ctx, row, &end).await,
        _ => {
            tracing::warn!(adw_id, project = row.project, "its project is not served; it rests");
            Ok(Flow::Done)
        }
    }
}

fn changed(adw_id: &str) -> crate::changes::Changed {
    match adw_id.parse() {
        Ok(id) => crate::changes::Changed::Run(id),
        Err(_) => crate::changes::Changed::Queue,
    }
}

async fn finish(ctx: &Arc<Ctx>, row: &RunRow, end: &End) -> Result<Flow, RunsError> {
    let done = sql::finish(
        ctx.db(),
        &row.adw_id,
        row.status(),
        end.status,
        end.failure.as_ref(),
        ctx.now(),
    )
    .await?;
    if !done {
        // Somebody else moved it (a stop was asked for): look again.
        return Ok(Flow::Again);
    }
    let class = end.failure.as_ref().map(|f| f.class.as_str());
    ctx.deps.metrics.run_ended(end.status.as_str(), class);
    match &end.failure {
        Some(f) => {
            tracing::warn!(adw_id = row.adw_id, status = %end.status, class = f.class.as_str(), "run ended: {}", f.message)
        }
        None => tracing::info!(adw_id = row.adw_id, status = %end.status, "run ended"),
    }
    ctx.tell_changed(&row.adw_id);
    ctx.deps.changes.send(crate::changes::Changed::Queue);
    // Its place is free: the next run need not wait for the removal of a worktree.
    ctx.wake.notify_one();
    if row.worktree.is_some() {
        super::janitor::clean_run(ctx, &row.adw_id).await;
    }
    Ok(Flow::Done)
}

/// Preflight, environment, worktree; all of it can be done twice.
async fn prepare(ctx: &Arc<Ctx>, project: &Project, row: &RunRow) -> Result<(), RunsError> {
    let ready = tokio::select! {
        ready = prepared(ctx, project, row) => ready?,
        // A fetch or a sync can take minutes; what is left half-way is mended by the next one.
        () = stop_comes(ctx, &row.adw_id) => return Ok(()),
        () = ctx.deps.shutdown.cancelled() => return Ok(()),
    };
    let (starting, now) = (RunStatus::Starting, ctx.now());
    match ready {
        Ok(facts) => {
            sql::begin_running(ctx.db(), &row.adw_id, &facts, now).await?;
        }
        Err(failure) => {
            tracing::warn!(
                adw_id = row.adw_id,
                class = failure.class.as_str(),
                "could not start: {}",
                failure.message
            );
            let failed = RunStatus::Failed;
            sql::finish(ctx.db(), &row.adw_id, starting, failed, Some(&failure), now).await?;
            ctx.wake.notify_one();
        }
    }
    ctx.tell_changed(&row.adw_id);
    Ok(())
}

/// Returns once the run is no longer to be started.
async fn stop_comes(ctx: &Ctx, adw_id: &str) {
    let notify = ctx.notify_of(adw_id);
    loop {
        tokio::select! {
            () = notify.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(limits::SCAN_MS)) => {}
        }
        if let Ok(Some(row)) = sql::run(ctx.db(), adw_id).await
            && row.status() != RunStatus::Starting
        {
            return;
        }
    }
}

fn git_failure(e: &super::git::GitError) -> Failure {
    Failure {
        class: FailureClass::Git,
        message: format!("worktree: {e}"),
        retryable: e.is_passing(),
        phase: None,
        log_tail: vec![],
    }
}

/// The inner error is the run's failure, the outer one a reason to try again.
async fn prepared(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
) -> Result<Result<Prepared, Failure>, RunsError> {
    let base = match preflight::preflight(ctx, project, row).await {
        Ok(base) => base,
        Err(failure) => return Ok(Err(failure)),
    };
    let commit = row.base_commit.clone().unwrap_or(base.commit);
    let path = (project.profile.worktree_by == WorktreeBy::Daemon)
        .then(|| project.worktree_path(&row.issue_number, &row.adw_id));
    let facts = Prepared {
        worktree_path: path.as_ref().map(|p| p.to_string_lossy().into_owned()),
        base_branch: Some(base.branch),
        base_commit: Some(commit.clone()),
    };
    if path.is_some() {
        // Before the folder is made: what is made in the middle of a stop is known and taken away.
        sql::set_prepared(ctx.db(), &row.adw_id, &facts).await?;
    }
    let made = make_worktree(ctx, project, row, path.as_deref(), &commit).await;
    Ok(made.map(|()| facts).map_err(|e| git_failure(&e)))
}

async fn make_worktree(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    path: Option<&Path>,
    commit: &str,
) -> Result<(), super::git::GitError> {
    let trees = ctx.worktrees(project);
    let patterns = project.exclude_patterns();
    if !patterns.is_empty() {
        trees.ensure_exclude(&patterns).await?;
    }
    let Some(path) = path else { return Ok(()) };
    // A resumed run whose folder is gone goes on at its branch; a new one starts at the base.
    if let Some(branch) = row.branch.as_deref()
        && ctx.git(project).local_branch_commit(branch).await?.is_some()
    {
        return trees.add_branch(path, branch).await;
    }
    trees.add_detached(path, commit).await
}

/// The first number from `attempt` on whose folder is not there. Nothing of an attempt is made
/// before it is stored, so a folder that is there is somebody else's: a run by hand with the same
/// id, or a life that an earlier database knew. Its `exit.json` must not be taken for ours.
fn free_folder(folder: &Path, attempt: i64) -> (i64, PathBuf) {
    let mut number = attempt;
    loop {
        let dir = folder.join(number.to_string());
        if dir.symlink_metadata().is_err() {
            return (number, dir);
        }
        number += 1;
    }
}

/// Removes what a killed git of an attempt that did not end well would have the next one die of, or
/// anybody else in the repository. Where that cannot be done, the attempt says so itself.
async fn unlock(ctx: &Arc<Ctx>, project: &Project, row: &RunRow, attempts: &[AttemptRow]) {
    let tree = row.worktree_path.as_deref().map(Path::new);
    let ended = attempts.iter().filter(|a| a.status() != RunStatus::Completed);
    let spans: Vec<_> =
        ended.filter_map(|a| Some((Millis(a.started_at), Millis(a.ended_at?)))).collect();
    let Some(tree) = tree.filter(|_| project.profile.worktree_by != WorktreeBy::Nobody) else {
        return;
    };
    if spans.is_empty() {
        return;
    }
    let clock = ctx.deps.clock.as_ref();
    if let Err(e) = ctx.worktrees(project).unlock_left(tree, &row.adw_id, &spans, clock).await {
        tracing::warn!(adw_id = row.adw_id, "lock files that a killed git left stay: {e}");
    }
}

/// Stores a new attempt; `None` where the run is not to go on any more. Its processes come after.
async fn begin(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    phase: &str,
    attempt: i64,
) -> Result<Option<AttemptRow>, RunsError> {
    let folder = project.run_log_dir(&ctx.environment(), &row.adw_id).join(phase);
    let (attempt, dir) = free_folder(&folder, attempt);
    let open = AttemptRow {
        adw_id: row.adw_id.clone(),
        phase: phase.to_owned(),
        attempt,
        status: RunStatus::Starting.as_str().to_owned(),
        dir: dir.to_string_lossy().into_owned(),
        started_at: ctx.now().0,
        ended_at: None,
        exit_code: None,
        exit_signal: None,
        failure: None,
        head_commit: None,
    };
    let (id, begun_at) = (&row.adw_id, Millis(open.started_at));
    if !sql::begin_attempt(ctx.db(), id, phase, attempt, &open.dir, begun_at).await? {
        return Ok(None);
    }
    tracing::info!(adw_id = row.adw_id, phase, attempt, "phase begins");
    ctx.tell_changed(&row.adw_id);
    Ok(Some(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_there_is_never_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(free_folder(dir.path(), 1), (1, dir.path().join("1")));
        std::fs::create_dir_all(dir.path().join("2")).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("3")).unwrap();
        assert_eq!(free_folder(dir.path(), 2), (4, dir.path().join("4")));
    }
}
