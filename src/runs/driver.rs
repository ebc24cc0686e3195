//! One task per active run: asks the state machine for the next step, does it, stores it, asks
//! again. It holds nothing that the database or the run's folders do not hold too.

use std::sync::Arc;
use std::time::Duration;

use super::attend;
use super::ctx::Ctx;
use super::error::RunsError;
use super::preflight;
use super::profile::WorktreeBy;
use super::project::Project;
use super::run::{self, End, Next};
use super::sql::{self, Prepared, RunRow};
use super::view::{Failure, FailureClass, RunStatus};
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
    let Some(row) = sql::run(ctx.db(), adw_id).await? else {
        return Ok(Flow::Done);
    };
    let Some(project) = ctx.project(&row.project) else {
        // The project was taken out of the configuration while a run of it was under way: the run
        // is left as it is, to go on when the project is served again.
        tracing::warn!(adw_id, project = row.project, "its project is not served; the run rests");
        return Ok(Flow::Done);
    };
    let attempts = sql::attempts(ctx.db(), adw_id).await?;
    let facts = row.facts(&attempts);
    let now = ctx.now();
    match run::next(&facts, now, &ctx.retry()) {
        Next::Rest => return Ok(Flow::Done),
        Next::Prepare => prepare(ctx, &project, &row).await?,
        Next::Begin { phase, attempt } => begin(ctx, &project, &row, &phase, attempt).await?,
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
        Next::Finish(end) => return finish(ctx, &row, &end).await,
    }
    Ok(Flow::Again)
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
    match &end.failure {
        Some(f) => {
            tracing::warn!(adw_id = row.adw_id, status = %end.status, class = f.class.as_str(), "run ended: {}", f.message)
        }
        None => tracing::info!(adw_id = row.adw_id, status = %end.status, "run ended"),
    }
    ctx.run_changed(&row.adw_id);
    ctx.deps.changes.send(crate::changes::Changed::Queue);
    super::janitor::clean_run(ctx, &row.adw_id).await;
    ctx.wake.notify_one();
    Ok(Flow::Done)
}

/// Preflight, environment, worktree; all of it can be done twice.
async fn prepare(ctx: &Arc<Ctx>, project: &Project, row: &RunRow) -> Result<(), RunsError> {
    let ready = tokio::select! {
        ready = prepared(ctx, project, row) => ready,
        () = ctx.deps.shutdown.cancelled() => return Ok(()),
    };
    match ready {
        Ok(facts) => {
            sql::set_prepared(ctx.db(), &row.adw_id, &facts).await?;
            sql::move_status(
                ctx.db(),
                &row.adw_id,
                RunStatus::Starting,
                RunStatus::Running,
                ctx.now(),
            )
            .await?;
        }
        Err(failure) => {
            tracing::warn!(
                adw_id = row.adw_id,
                class = failure.class.as_str(),
                "could not start: {}",
                failure.message
            );
            sql::finish(
                ctx.db(),
                &row.adw_id,
                RunStatus::Starting,
                RunStatus::Failed,
                Some(&failure),
                ctx.now(),
            )
            .await?;
            ctx.wake.notify_one();
        }
    }
    ctx.run_changed(&row.adw_id);
    Ok(())
}

async fn prepared(ctx: &Arc<Ctx>, project: &Project, row: &RunRow) -> Result<Prepared, Failure> {
    let base = preflight::preflight(ctx, project, row).await?;
    let trees = ctx.worktrees(project);
    let git_failure = |e: &super::git::GitError| Failure {
        class: FailureClass::Git,
        message: format!("worktree: {e}"),
        retryable: e.is_network(),
        phase: None,
        log_tail: vec![],
    };
    let patterns = project.exclude_patterns();
    if !patterns.is_empty() {
        trees.ensure_exclude(&patterns).await.map_err(|e| git_failure(&e))?;
    }
    let mut facts = Prepared {
        worktree_path: None,
        base_branch: Some(base.branch.clone()),
        base_commit: row.base_commit.clone().or_else(|| Some(base.commit.clone())),
    };
    if project.profile.worktree_by == WorktreeBy::Daemon {
        let path = project.worktree_path(&row.issue_number, &row.adw_id);
        // A resumed run whose folder is gone goes on at its branch; a new one starts at the base.
        let branch = match row.branch.as_deref() {
            Some(b) => ctx
                .git(project)
                .local_branch_commit(b)
                .await
                .map_err(|e| git_failure(&e))?
                .map(|_| b),
            None => None,
        };
        match branch {
            Some(branch) => trees.add_branch(&path, branch).await,
            None => {
                trees
                    .add_detached(&path, facts.base_commit.as_deref().unwrap_or(&base.commit))
                    .await
            }
        }
        .map_err(|e| git_failure(&e))?;
        facts.worktree_path = Some(path.to_string_lossy().into_owned());
    }
    Ok(facts)
}

/// Stores a new attempt; its processes come with the next step.
async fn begin(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    phase: &str,
    attempt: i64,
) -> Result<(), RunsError> {
    let dir =
        project.run_log_dir(&ctx.environment(), &row.adw_id).join(phase).join(attempt.to_string());
    let stored = sql::begin_attempt(
        ctx.db(),
        &row.adw_id,
        phase,
        attempt,
        &dir.to_string_lossy(),
        ctx.now(),
    )
    .await?;
    if stored {
        tracing::info!(adw_id = row.adw_id, phase, attempt, "phase begins");
        ctx.run_changed(&row.adw_id);
    }
    Ok(())
}
