//! Statements of those who watch the daemon: how much there is, not what.

use crate::args;
use crate::clock::Millis;
use crate::db::{Db, DbError};

/// Runs of this host that have not ended: status, how many, and when the first of them was queued.
///
/// # Errors
/// [`DbError`].
pub async fn active(db: &Db, host: &str) -> Result<Vec<(String, i64, i64)>, DbError> {
    db.all(
        "SELECT status, COUNT(*), MIN(queued_at) FROM runs WHERE host = $1 AND active \
         GROUP BY status ORDER BY status",
        args![host],
    )
    .await
}

/// Attempts of this host that have not ended, by phase.
///
/// # Errors
/// [`DbError`].
pub async fn attempts(db: &Db, host: &str) -> Result<Vec<(String, i64)>, DbError> {
    db.all(
        "SELECT a.phase, COUNT(*) FROM runs r JOIN attempts a ON a.adw_id = r.adw_id \
         WHERE r.host = $1 AND r.active AND a.ended_at IS NULL GROUP BY a.phase ORDER BY a.phase",
        args![host],
    )
    .await
}

/// How long something that was queued then has waited, in seconds.
pub fn waited_s(queued_at: i64, now: Millis) -> f64 {
    let ms = u32::try_from(now.since_ms(Millis(queued_at)).max(0)).unwrap_or(u32::MAX);
    f64::from(ms) / 1_000.0
}
