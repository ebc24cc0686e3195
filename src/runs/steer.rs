//! Cancel and resume: what changes the course of a stored run.

use std::sync::Arc;

use super::account::{self, Payer};
use super::ctx::Ctx;
use super::error::RunsError;
use super::sql::{self, Requeue, RunRow};
use super::view::{Caller, Failure, FailureClass, RunStatus, RunView};
use super::{query, run, trigger};
use crate::auth::Scope;
use crate::crash::{self, Point};

async fn own_run(ctx: &Ctx, scope: &Scope, adw_id: &str) -> Result<RunRow, RunsError> {
    let row = query::row_of(ctx, scope, adw_id).await?;
    if row.origin != "daemon" {
        return Err(RunsError::WrongState {
            adw_id: adw_id.to_owned(),
            message: format!("run {adw_id} was not started by this daemon; it only watches it"),
        });
    }
    if row.host != ctx.deps.host {
        return Err(RunsError::WrongState {
            adw_id: adw_id.to_owned(),
            message: format!("run {adw_id} belongs to the daemon on {}; ask there", row.host),
        });
    }
    Ok(row)
}

/// Asks for the end of a run.
pub(super) async fn cancel(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    caller: &Caller,
    adw_id: &str,
) -> Result<RunView, RunsError> {
    let row = own_run(ctx, scope, adw_id).await?;
    if row.active {
        let failure = Failure {
            class: FailureClass::Cancelled,
            message: format!("cancelled by {} before it began", caller.user_id),
            retryable: false,
            phase: None,
            log_tail: vec![],
        };
        if sql::request_stop(ctx.db(), adw_id, &failure, ctx.now()).await? {
            let class = failure.class.as_str();
            ctx.deps.metrics.run_ended(RunStatus::Cancelled.as_str(), Some(class));
        }
        tracing::info!(adw_id, user = caller.user_id, "stop asked for");
        if let Some(project) = ctx.project(&row.project) {
            trigger::note(ctx, caller, &project, &row.issue_number, adw_id, "cancel_adw_workflow");
        }
        ctx.run_changed(adw_id);
        ctx.deps.changes.send(crate::changes::Changed::Queue);
        ctx.wake.notify_one();
    }
    query::get(ctx, scope, adw_id).await
}

/// Goes on with an ended run.
pub(super) async fn resume(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    caller: &Caller,
    adw_id: &str,
    from_phase: Option<&str>,
) -> Result<RunView, RunsError> {
    let row = own_run(ctx, scope, adw_id).await?;
    let wrong = |message: String| RunsError::WrongState { adw_id: adw_id.to_owned(), message };
    if row.active {
        return Err(wrong(format!(
            "run {adw_id} is {}; only an ended run can be resumed",
            row.status
        )));
    }
    let project = ctx.project_for_work(scope, Some(&row.project))?;
    let mut asked = row.phases();
    if let Some(phase) = from_phase {
        let phase = trigger::known_phase(&project, phase)?;
        if !asked.contains(&phase) {
            asked.push(phase);
            asked = project.profile.in_order(&asked);
        }
    }
    let attempts = sql::attempts(ctx.db(), adw_id).await?;
    let plan = run::plan_resume(&asked, &row.facts(&attempts), from_phase).ok_or_else(|| {
        wrong(format!("every phase of run {adw_id} is completed; name the phase to do again with from_phase ({})", asked.join(", ")))
    })?;
    if let Some(phase) = plan.todo.first().and_then(|p| project.profile.phase(p))
        && phase.once
        && row.worktree_path.is_some()
    {
        return Err(wrong(format!(
            "phase {} of profile {} cannot be run twice with one id: it dies of the worktree and the branch of its first try; trigger issue {} anew",
            phase.name, project.profile.name, row.issue_number
        )));
    }
    let requeued = Requeue {
        phases: serde_json::json!(asked).to_string(),
        todo: serde_json::json!(plan.todo).to_string(),
        floors: serde_json::json!(plan.floors).to_string(),
        model: None,
    };
    requeue(ctx, &row, &requeued, None).await?;
    tracing::info!(
        adw_id,
        user = caller.user_id,
        from = plan.todo.first().map_or("", String::as_str),
        "run resumed"
    );
    trigger::note(ctx, caller, &project, &row.issue_number, adw_id, "resume_adw_workflow");
    query::get(ctx, scope, adw_id).await
}

/// Stores the new life of an ended run, with the request key that asked for it.
pub(super) async fn requeue(
    ctx: &Arc<Ctx>,
    row: &RunRow,
    plan: &Requeue,
    key: Option<(String, &'static str, String)>,
) -> Result<(), RunsError> {
    account::refuse_if_used_up(ctx, Payer::of(row)).await?;
    let taken = |e: crate::db::DbError| {
        if e.is_unique() {
            return RunsError::Conflict {
                adw_id: row.adw_id.clone(),
                message: format!(
                    "issue {} of {} has another active run; wait for it or cancel it first",
                    row.issue_number, row.project
                ),
            };
        }
        RunsError::Db(e)
    };
    let mut tx = ctx.db().begin().await?;
    trigger::room_in_queue(ctx, &mut tx).await?;
    let moved =
        sql::requeue(&mut tx, &row.adw_id, row.status(), plan, ctx.now()).await.map_err(taken)?;
    if !moved {
        return Err(RunsError::WrongState {
            adw_id: row.adw_id.clone(),
            message: format!(
                "run {} was changed by somebody else in the same moment; look at it again",
                row.adw_id
            ),
        });
    }
    if let Some((key, tool, digest)) = key {
        sql::insert_request_key(&mut tx, &key, tool, &digest, &row.adw_id, ctx.now())
            .await
            .map_err(taken)?;
    }
    crash::here(Point::ResumeUncommitted);
    tx.commit().await?;
    crash::here(Point::ResumeStored);
    ctx.run_changed(&row.adw_id);
    ctx.deps.changes.send(crate::changes::Changed::Queue);
    ctx.wake.notify_one();
    Ok(())
}
