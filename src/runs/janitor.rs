//! Worktrees of ended runs: removed after success, kept after failure for a time, and never
//! removed while a process lives in them or a commit of theirs is nowhere else.

use std::path::Path;
use std::sync::Arc;

use super::ctx::Ctx;
use super::error::RunsError;
use super::profile::WorktreeBy;
use super::project::Project;
use super::records::{self, Probe};
use super::sql::{self, RunRow};
use super::view::RunStatus;
use super::worktree::Discard;

const DAY_MS: i64 = 86_400_000;

/// Looks at every ended run whose worktree is still there; answers whether there is any.
pub(crate) async fn round(ctx: &Arc<Ctx>) -> bool {
    let mut after = 0;
    loop {
        let rows = match sql::ended_with_worktree(ctx.db(), &ctx.deps.host, after).await {
            Ok(rows) => rows,
            Err(e) => {
                tracing::error!("worktrees of ended runs could not be looked at: {e}");
                return true;
            }
        };
        let Some(last) = rows.last() else { return after > 0 };
        after = last.seq;
        for row in &rows {
            if let Err(e) = clean(ctx, row).await {
                tracing::warn!(adw_id = row.adw_id, "worktree stays for now: {e}");
            }
        }
    }
}

/// Looks at one run that has just ended.
pub(crate) async fn clean_run(ctx: &Arc<Ctx>, adw_id: &str) {
    ctx.put_on(adw_id);
    ctx.sweep.notify_one();
    match sql::run(ctx.db(), adw_id).await {
        Ok(Some(row)) if !row.active && row.worktree.as_deref() == Some("present") => {
            if let Err(e) = clean(ctx, &row).await {
                tracing::warn!(adw_id, "worktree stays for now: {e}");
            }
        }
        Ok(_) => {}
        Err(e) => tracing::error!(adw_id, "worktree could not be looked at: {e}"),
    }
}

/// How long after its end a run's worktree is due, in milliseconds; `None` for never.
fn keep_ms(ctx: &Ctx, project: &Project, row: &RunRow) -> Option<i64> {
    let settings = &ctx.config().worktrees;
    match row.status() {
        RunStatus::Completed | RunStatus::Skipped if row.skip_cleanup || settings.keep_success => {
            None
        }
        RunStatus::Completed | RunStatus::Skipped => Some(0),
        _ => Some(project.config.keep_failed_days.map_or_else(
            || i64::try_from(settings.keep_failed_ms).unwrap_or(i64::MAX),
            |days| i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_MS),
        )),
    }
}

async fn clean(ctx: &Arc<Ctx>, row: &RunRow) -> Result<(), RunsError> {
    let Some(project) = ctx.project(&row.project) else { return Ok(()) };
    let (Some(path), Some(ended)) = (row.worktree_path.as_deref(), row.ended_at) else {
        return Ok(());
    };
    if project.profile.worktree_by == WorktreeBy::Nobody {
        return Ok(());
    }
    let path = Path::new(path);
    if !path.exists() {
        return gone(ctx, row).await;
    }
    if ctx.is_put_off(&row.adw_id) {
        return Ok(());
    }
    match keep_ms(ctx, &project, row) {
        Some(keep) if ended.saturating_add(keep) <= ctx.now().0 => {}
        _ => return Ok(()),
    }
    for attempt in sql::attempts(ctx.db(), &row.adw_id).await? {
        if matches!(records::probe(Path::new(&attempt.dir)), Ok(Probe::Live { .. })) {
            tracing::warn!(
                adw_id = row.adw_id,
                "a process of this ended run still lives; its worktree stays"
            );
            return Ok(());
        }
    }
    let still_due =
        async || match sql::worktree_user(ctx.db(), &row.adw_id, &row.worktree_path).await {
            Ok(None) => Ok(()),
            Ok(Some(user)) => Err(format!("run {user} uses it")),
            Err(e) => Err(e.to_string()),
        };
    match ctx.worktrees(&project).remove_unless(path, Discard::Nothing, still_due).await {
        Ok(()) => gone(ctx, row).await,
        Err(e) => {
            tracing::warn!(adw_id = row.adw_id, path = %path.display(), "worktree stays: {e}");
            ctx.put_off(&row.adw_id);
            Ok(())
        }
    }
}

async fn gone(ctx: &Arc<Ctx>, row: &RunRow) -> Result<(), RunsError> {
    sql::worktree_removed(ctx.db(), &row.adw_id).await?;
    ctx.run_changed(&row.adw_id);
    Ok(())
}
