//! The sweeper: stalls, abandonment, time limits, retention, keys (`spec/steps.md` §6).
//!
//! Rounds go by a monotonic timer, ages by the time of day that is stored. What it has told of a
//! stall is in the execution's row (`stall_level`), so a restart tells nothing twice: the first
//! event comes at the stall time, the next at twice, four times… that; activity begins anew.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::ctx::{Ctx, signed};
use super::error::StepsError;
use super::events::Event;
use super::execution;
use super::view::ExecutionState;
use super::work::Work;
use super::{sql, sql_read};
use crate::changes::Changed;
use crate::clock::Millis;
use crate::limits::{
    STEPS_BUCKET_KEEP_MS, STEPS_EVENTS_DELETE_COUNT, STEPS_EVENTS_KEEP_COUNT, STEPS_NOTES_COUNT,
    STEPS_SWEEP_COUNT, STEPS_SWEEP_MS,
};

/// What a round of the sweeper did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Executions found stalled, or longer stalled.
    pub stalled: u32,
    /// Executions given up.
    pub abandoned: u32,
    /// Executions that passed their time limit.
    pub timed_out: u32,
    /// Telemetry events deleted.
    pub events_deleted: u64,
    /// Whether a new signing key was made.
    pub key_rotated: bool,
}

/// Sweeps every minute, and stores the events of refused calls as they come; until the shutdown.
pub(super) async fn run(ctx: Arc<Ctx>, mut notes: mpsc::Receiver<Event>) {
    let round = Duration::from_millis(STEPS_SWEEP_MS);
    let mut rounds = interval_at(Instant::now() + round, round);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = ctx.changes.subscribe();
    let mut noted = Vec::with_capacity(STEPS_NOTES_COUNT);
    loop {
        tokio::select! {
            () = ctx.shutdown.cancelled() => break,
            _ = rounds.tick() => {
                if let Err(error) = sweep(&ctx).await {
                    tracing::warn!(%error, "step workflows were not swept; trying again in a minute");
                }
            }
            changed = changes.next() => match changed {
                Some(Changed::Content) => noted.extend(synced(&ctx).await),
                Some(_) => {}
                None => break,
            },
            _ = notes.recv_many(&mut noted, STEPS_NOTES_COUNT) => {}
        }
        store(&ctx, &mut noted).await;
    }
    // What was refused in the last moment is told as well.
    notes.close();
    while notes.recv_many(&mut noted, STEPS_NOTES_COUNT).await > 0 {}
    store(&ctx, &mut noted).await;
}

/// The event that content was read again, with what there is now.
async fn synced(ctx: &Ctx) -> Option<Event> {
    let workflows = ctx.library.workflows().await.ok()?;
    let valid = workflows.iter().filter(|listing| listing.valid).count();
    let metadata = json!({ "workflows": workflows.len(), "valid": valid });
    Some(Event {
        event_type: "content_synced",
        execution_id: None,
        step_name: None,
        agent_name: None,
        metadata,
    })
}

async fn store(ctx: &Ctx, noted: &mut Vec<Event>) {
    if noted.is_empty() {
        return;
    }
    let stored = async {
        let mut tx = ctx.db.begin().await?;
        sql::insert_events(&mut tx, noted, ctx.now()).await?;
        tx.commit().await
    }
    .await;
    if let Err(error) = stored {
        tracing::warn!(%error, count = noted.len(), "events of refused calls were not stored");
    }
    noted.clear();
}

/// One round. What fails for one execution keeps nobody from the next; the first failure is
/// answered at the end.
pub(super) async fn sweep(ctx: &Ctx) -> Result<Swept, StepsError> {
    let mut swept = Swept::default();
    let mut failed = None;
    let now = ctx.now();
    let mut keep = |result: Result<(), StepsError>| {
        if let Err(error) = result {
            failed.get_or_insert(error);
        }
    };
    keep(idle(ctx, now, &mut swept).await);
    keep(long(ctx, now, &mut swept).await);
    keep(retain(ctx, now).await.map(|gone| swept.events_deleted = gone));
    let forgotten = sql::delete_buckets(&ctx.db, now.plus_ms(-STEPS_BUCKET_KEEP_MS)).await;
    keep(forgotten.map(drop).map_err(StepsError::from));
    keep(ctx.keys.rotate(&*ctx.rng, now).await.map(|made| swept.key_rotated = made));
    failed.map_or(Ok(swept), Err)
}

/// Stalls and abandonment.
async fn idle(ctx: &Ctx, now: Millis, swept: &mut Swept) -> Result<(), StepsError> {
    let (stall, abandon) = (signed(ctx.config.stall_after_ms), signed(ctx.config.abandon_after_ms));
    let Some(first) = [stall, abandon].into_iter().filter(|ms| *ms > 0).min() else {
        return Ok(());
    };
    let before = now.plus_ms(1 - first);
    let (mut after, mut result) = (String::new(), Ok(()));
    loop {
        let page = sql::idle_since(&ctx.db, before, &after).await?;
        for (id, active_at, level) in &page {
            let age = now.since_ms(Millis(*active_at));
            // Most of the stalled were told of: only what is due is taken for a change.
            if (abandon > 0 && age >= abandon) || stall_level(age, stall) > *level {
                result = result.and(look(ctx, id, swept).await);
            }
        }
        match page.last() {
            Some((id, ..)) if is_full(&page) => after.clone_from(id),
            _ => return result,
        }
    }
}

/// Time limits.
async fn long(ctx: &Ctx, now: Millis, swept: &mut Swept) -> Result<(), StepsError> {
    let limit = signed(ctx.config.time_limit_ms);
    if limit == 0 {
        return Ok(());
    }
    let (mut after, mut result) = (String::new(), Ok(()));
    loop {
        let page = sql::running_since(&ctx.db, now.plus_ms(-limit), &after).await?;
        for id in &page {
            result = result.and(time_limit(ctx, id, limit, swept).await);
        }
        match page.last() {
            Some(id) if is_full(&page) => after.clone_from(id),
            _ => return result,
        }
    }
}

fn is_full<T>(page: &[T]) -> bool {
    u32::try_from(page.len()).is_ok_and(|rows| rows >= STEPS_SWEEP_COUNT)
}

/// How many stall events an age calls for: one at `stall`, one more at each doubling.
fn stall_level(age: i64, stall: i64) -> i64 {
    if stall <= 0 || age < stall {
        return 0;
    }
    i64::from((age / stall).ilog2()) + 1
}

/// Looks at one execution again, now that nobody else can change it.
async fn look(ctx: &Ctx, id: &str, swept: &mut Swept) -> Result<(), StepsError> {
    let mut work = Work::take(ctx, id).await?;
    let age = work.now.since_ms(work.row.active_at);
    let abandon = signed(ctx.config.abandon_after_ms);
    if !matches!(work.row.state, ExecutionState::Running | ExecutionState::Paused) {
        return Ok(work.tx.rollback().await?);
    }
    if abandon > 0 && age >= abandon {
        work.read_steps().await?;
        let reason = format!("nothing was done for {} minutes", age / 60_000);
        work.close(ExecutionState::Abandoned, Some(reason)).await?;
        work.finish(false).await?;
        swept.abandoned += 1;
        return Ok(());
    }
    let level = stall_level(age, signed(ctx.config.stall_after_ms));
    // A paused execution waits for a person; that is no stall.
    if work.row.state == ExecutionState::Paused || level <= work.row.stall_level {
        return Ok(work.tx.rollback().await?);
    }
    work.read_steps().await?;
    work.row.stall_level = level;
    let out = work.out();
    let minutes = age / 60_000;
    let message = format!("No activity for {minutes} minutes; steps out: {}", work.names(&out));
    let step = out.first().copied();
    work.tell("stall_detected", step, json!({ "elapsed_minutes": minutes, "message": message }));
    work.finish(false).await?;
    swept.stalled += 1;
    Ok(())
}

/// Fails an execution that has run longer than its kind may.
async fn time_limit(ctx: &Ctx, id: &str, limit: i64, swept: &mut Swept) -> Result<(), StepsError> {
    let mut work = Work::take(ctx, id).await?;
    let limit = limit * execution::time_factor(work.snapshot.workflow.complexity);
    let started = work.row.started_at.unwrap_or(work.now);
    let ran = work.now.since_ms(started) - work.row.paused_ms;
    if work.row.state != ExecutionState::Running || ran < limit {
        return Ok(work.tx.rollback().await?);
    }
    work.read_steps().await?;
    let reason = format!("it ran {} minutes, longer than its {}", ran / 60_000, limit / 60_000);
    work.close(ExecutionState::Failed, Some(reason)).await?;
    work.finish(false).await?;
    swept.timed_out += 1;
    Ok(())
}

/// Deletes events that are too old or too many, a part at a time.
async fn retain(ctx: &Ctx, now: Millis) -> Result<u64, StepsError> {
    let through = sql_read::newest_event(&ctx.db).await? - STEPS_EVENTS_KEEP_COUNT;
    let keep = signed(ctx.config.telemetry_keep_ms);
    let before = if keep > 0 { now.plus_ms(-keep) } else { Millis(i64::MIN) };
    let mut deleted = 0;
    loop {
        let gone = sql::delete_events(&ctx.db, before, through).await?;
        deleted += gone;
        if gone < u64::from(STEPS_EVENTS_DELETE_COUNT) || ctx.shutdown.is_cancelled() {
            return Ok(deleted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_at_its_time_and_at_each_doubling() {
        let at = |minutes: i64| stall_level(minutes * 60_000, 30 * 60_000);
        assert_eq!([0, 29, 30, 59, 60, 119, 120, 240].map(at), [0, 0, 1, 1, 2, 2, 3, 4]);
        // A run that was left for a day: six events, where upstream wrote 1,410.
        assert_eq!(at(24 * 60), 6);
        assert_eq!(stall_level(1 << 40, 0), 0, "switched off");
    }
}
