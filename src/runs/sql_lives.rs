//! Statements about the lives of runs, one for each time that they were queued, and which of them
//! were told to a collector of traces.

use super::sql_rows::RunRow;
use crate::args;
use crate::clock::Millis;
use crate::db::{Db, DbError, Tx};

crate::row! {
    /// A row of `run_lives`: a life that was followed by another one.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are those of RunRow at the end of that life")]
    pub struct LifeRow {
        pub adw_id: String,
        pub queued_at: i64,
        pub ended_at: i64,
        pub status: String,
        pub todo: String,
        pub floors: String,
        pub failure: Option<String>,
        pub run_usage: Option<String>,
    }
}

/// Keeps what a requeue is about to overwrite; in its transaction.
///
/// # Errors
/// [`DbError`].
pub async fn keep_life(tx: &mut Tx, adw_id: &str, from: &str, now: Millis) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO run_lives (adw_id, queued_at, ended_at, status, todo, floors, failure, \
         run_usage) \
         SELECT adw_id, queued_at, COALESCE(ended_at, $3), status, todo, floors, failure, run_usage \
         FROM runs WHERE adw_id = $1 AND status = $2 AND origin = 'daemon' AND NOT active \
         ON CONFLICT (adw_id, queued_at) DO NOTHING",
        args![adw_id, from, now],
    )
    .await
    .map(drop)
}

/// Earlier lives of a run, the first one first.
///
/// # Errors
/// [`DbError`].
pub async fn lives(db: &Db, adw_id: &str) -> Result<Vec<LifeRow>, DbError> {
    db.all("SELECT * FROM run_lives WHERE adw_id = $1 ORDER BY queued_at", args![adw_id]).await
}

/// Runs of this host that have ended since then, and whose present life no collector was told of;
/// the first to end first.
///
/// # Errors
/// [`DbError`].
pub async fn untraced_runs(
    db: &Db,
    host: &str,
    since: Millis,
    limit: i64,
) -> Result<Vec<RunRow>, DbError> {
    db.all(
        "SELECT r.* FROM runs r WHERE r.host = $1 AND r.ended_at >= $2 AND NOT r.active \
         AND r.origin = 'daemon' AND NOT EXISTS (SELECT 1 FROM run_traces t \
         WHERE t.adw_id = r.adw_id AND t.queued_at = r.queued_at) \
         ORDER BY r.ended_at, r.seq LIMIT $3",
        args![host, since, limit],
    )
    .await
}

/// The same for earlier lives: id and when that life was queued.
///
/// # Errors
/// [`DbError`].
pub async fn untraced_lives(
    db: &Db,
    host: &str,
    since: Millis,
    limit: i64,
) -> Result<Vec<(String, i64)>, DbError> {
    db.all(
        "SELECT l.adw_id, l.queued_at FROM run_lives l JOIN runs r ON r.adw_id = l.adw_id \
         WHERE r.host = $1 AND l.ended_at >= $2 AND NOT EXISTS (SELECT 1 FROM run_traces t \
         WHERE t.adw_id = l.adw_id AND t.queued_at = l.queued_at) \
         ORDER BY l.ended_at, l.adw_id LIMIT $3",
        args![host, since, limit],
    )
    .await
}

/// Marks a life as told, once; `false` where it was marked already.
///
/// # Errors
/// [`DbError`].
pub async fn mark_traced(
    db: &Db,
    adw_id: &str,
    queued_at: i64,
    outcome: &str,
    now: Millis,
) -> Result<bool, DbError> {
    let n = db
        .exec(
            "INSERT INTO run_traces (adw_id, queued_at, outcome, told_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (adw_id, queued_at) DO NOTHING",
            args![adw_id, queued_at, outcome, now],
        )
        .await?;
    Ok(n == 1)
}

/// Forgets marks of lives that are too old to be asked for again.
///
/// # Errors
/// [`DbError`].
pub async fn forget_traced(db: &Db, before: Millis) -> Result<u64, DbError> {
    db.exec("DELETE FROM run_traces WHERE told_at < $1", args![before]).await
}
