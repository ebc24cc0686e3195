//! Old records go: those beyond their age, and the oldest where there are too many.
//!
//! Whoever shows no key reads without a limit, and each read is a row. So their rows have a share of
//! their own: otherwise any program on this machine could push everybody else's out.

use std::time::Duration;

use super::{AuditDeps, sql};
use crate::db::DbError;
use crate::limits::{
    AUDIT_ANONYMOUS_PERCENT, AUDIT_DELETE_COUNT, AUDIT_DELETE_PAUSE_MS, AUDIT_FIRST_SWEEP_MS,
    AUDIT_SWEEP_MS, QUOTA_KEEP_MS,
};
use crate::quota;

/// Sweeps now and then, for as long as it is polled.
pub(super) async fn forever(deps: &AuditDeps) {
    let mut pause_ms = AUDIT_FIRST_SWEEP_MS;
    loop {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = AUDIT_SWEEP_MS;
        if let Err(error) = once(deps).await {
            tracing::warn!(%error, "old records of calls could not be deleted; tried again later");
        }
    }
}

/// Deletes what is too old or too many, in small steps with pauses between, in which calls go first.
/// Answers how many rows of the record went.
pub(super) async fn once(deps: &AuditDeps) -> Result<u64, DbError> {
    let now = deps.clock.now();
    quota::forget(&deps.db, now.plus_ms(-QUOTA_KEEP_MS)).await?;
    let mut gone = of_nobody(deps).await?;
    let age = i64::try_from(deps.keep_ms).unwrap_or(i64::MAX);
    let too_old = (age > 0).then(|| sql::id_at(now.plus_ms(-age)));
    let too_many = sql::surplus(&deps.db, deps.keep_count).await?;
    // Ids are times: whatever is through the later of the two goes.
    let Some(through) = too_old.into_iter().chain(too_many).max() else { return Ok(gone) };
    loop {
        let deleted = sql::delete(&deps.db, &through).await?;
        gone += deleted;
        if deleted < u64::from(AUDIT_DELETE_COUNT) {
            return Ok(gone);
        }
        tokio::time::sleep(Duration::from_millis(AUDIT_DELETE_PAUSE_MS)).await;
    }
}

/// Deletes the oldest reads of callers without a key beyond their share. Step by step from the oldest
/// on, so that no step looks again at what an earlier one left to others.
async fn of_nobody(deps: &AuditDeps) -> Result<u64, DbError> {
    let keep = deps.keep_count.saturating_mul(AUDIT_ANONYMOUS_PERCENT) / 100;
    let Some(through) = sql::anonymous_surplus(&deps.db, keep).await? else { return Ok(0) };
    let (mut gone, mut after) = (0, String::new());
    loop {
        let next = sql::anonymous_step(&deps.db, &after, &through).await?;
        let is_last = next.is_none();
        let until = next.unwrap_or_else(|| through.clone());
        gone += sql::delete_anonymous(&deps.db, &after, &until).await?;
        if is_last {
            return Ok(gone);
        }
        after = until;
        tokio::time::sleep(Duration::from_millis(AUDIT_DELETE_PAUSE_MS)).await;
    }
}
