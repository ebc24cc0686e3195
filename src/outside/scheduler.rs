//! Schedules: looked at by the clock, started under a key for each moment, then moved on.
//!
//! Killed between the start and the move, the next daemon starts the same moment under the same key,
//! which answers the run that is there.

use std::sync::Arc;
use std::time::Duration;

use super::due::{Due, due};
use super::{Ctx, OutsideError, Told, begins, is_passing, sql, told};
use crate::auth::Tier;
use crate::clock::Millis;
use crate::config::ScheduleConfig;
use crate::db::DbError;
use crate::limits::SCHEDULE_LOOK_MS;
use crate::runs::{Caller, RunsError, TriggerRequest};

fn spec(schedule: &ScheduleConfig) -> String {
    format!("{} {}", schedule.cron.text(), schedule.cron.zone_name())
}

fn enabled(ctx: &Ctx) -> impl Iterator<Item = &ScheduleConfig> {
    ctx.deps.config.schedules.iter().filter(|schedule| schedule.enabled)
}

/// Stores where new and changed schedules begin, and forgets those that are gone or switched off: one
/// that comes back begins anew.
pub(super) async fn begin(ctx: &Ctx) -> Result<(), OutsideError> {
    let (db, host) = (&ctx.deps.db, &ctx.deps.host);
    for row in sql::schedules(db, host).await? {
        if !enabled(ctx).any(|schedule| schedule.name == row.name) {
            sql::end_schedule(db, host, &row.name).await?;
        }
    }
    for schedule in enabled(ctx) {
        let now = ctx.deps.clock.now();
        sql::begin_schedule(db, host, &schedule.name, &spec(schedule), now).await?;
        let next = schedule.cron.next(now).map(|at| schedule.cron.local(at)).unwrap_or_default();
        tracing::info!(schedule = schedule.name, %next, "schedule");
    }
    Ok(())
}

/// Keeps the schedules until the daemon stops.
pub(super) async fn keep(ctx: Arc<Ctx>) {
    if enabled(&ctx).next().is_none() {
        return;
    }
    loop {
        if let Err(error) = look(&ctx).await {
            tracing::warn!(%error, "the schedules cannot be looked at");
        }
        let now = ctx.deps.clock.now();
        let next = enabled(&ctx).filter_map(|schedule| schedule.cron.next(now)).min();
        let until = next.map_or(i64::MAX, |next| next.since_ms(now).max(1));
        let pause = u64::try_from(until).unwrap_or_default().min(SCHEDULE_LOOK_MS);
        tokio::select! {
            () = ctx.deps.shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

/// One look at all of them.
async fn look(ctx: &Ctx) -> Result<(), DbError> {
    let (db, host) = (&ctx.deps.db, &ctx.deps.host);
    let rows = sql::schedules(db, host).await?;
    for schedule in enabled(ctx) {
        let Some(row) = rows.iter().find(|row| row.name == schedule.name) else { continue };
        let (name, from) = (&schedule.name, row.handled_at);
        match due(&schedule.cron, schedule.catch_up, from, ctx.deps.clock.now()) {
            Due::Wait => {}
            Due::Missed(at) => {
                let when = schedule.cron.local(at);
                tracing::warn!(schedule = name, %when, "missed: catch_up = \"once\" would make it good");
                sql::move_schedule(db, host, name, from, at, None).await?;
            }
            Due::Rewind(now) => {
                let until = from.rfc3339();
                tracing::warn!(schedule = name, %until, "was handled up to the future: the clock had been wrong");
                sql::move_schedule(db, host, name, from, now, None).await?;
            }
            Due::Fire(at) => {
                if let Some(outcome) = fire(ctx, schedule, at).await {
                    sql::move_schedule(db, host, name, from, at, Some((at, &outcome))).await?;
                }
            }
        }
    }
    Ok(())
}

/// Starts what a schedule names, for one moment; answers what came of it, or nothing where that has
/// to be tried again.
async fn fire(ctx: &Ctx, schedule: &ScheduleConfig, at: Millis) -> Option<String> {
    let moment = at.rfc3339();
    let caller = Caller {
        user_id: format!("schedule:{}", schedule.name),
        triggered_by: "cron".to_owned(),
        tier: Tier::Team.as_str().to_owned(),
        transport: "clock".to_owned(),
        request_id: Some(moment.clone()),
    };
    let mut outcomes = vec![];
    for issue in &schedule.issues {
        let request = TriggerRequest {
            issue_number: issue.clone(),
            project: schedule.project.clone(),
            adw_id: None,
            model: schedule.model.clone(),
            skip_cleanup: false,
            phases: schedule.phases.clone(),
            priority: None,
            idempotency_key: Some(format!("cron:{}:{moment}:{issue}", schedule.name)),
        };
        let mut record = Told {
            user_id: &caller.user_id,
            triggered_by: "cron",
            action: "run",
            project: schedule.project.as_deref().unwrap_or_default(),
            issue,
            adw_id: None,
            refused: None,
            request_id: &moment,
        };
        let open = match begins(ctx, &record).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(schedule = schedule.name, issue, %error, "tried again");
                return None;
            }
        };
        match ctx.deps.runs.enqueue(&caller, request).await {
            Ok(run) => {
                let joined = if run.already_running { " (ran already)" } else { "" };
                outcomes.push(format!("#{issue}: run {}{joined}", run.adw_id));
                record.adw_id = Some(&run.adw_id);
                record.project = &run.project;
                told(&record, open).await;
            }
            Err(error) if is_passing(&error) => {
                tracing::warn!(schedule = schedule.name, issue, %error, "tried again");
                let why = error.to_string();
                record.refused = Some(&why);
                told(&record, open).await;
                return None;
            }
            Err(error) => {
                let why = error.to_string();
                outcomes.push(format!("#{issue}: {}", error.code()));
                record.adw_id = active_run(&error);
                record.refused = Some(&why);
                told(&record, open).await;
            }
        }
    }
    Some(outcomes.join(", "))
}

/// The run that was in the way.
fn active_run(error: &RunsError) -> Option<&str> {
    match error {
        RunsError::Conflict { adw_id, .. } => Some(adw_id),
        _ => None,
    }
}
