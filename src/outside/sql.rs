//! Every statement on what came from outside and on who was told.

use crate::args;
use crate::clock::Millis;
use crate::db::{Db, DbError};

crate::row! {
    /// A delivery as it is stored.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeliveryRow {
        /// Its id; the first one, where the same body came under several.
        pub delivery: String,
        /// SHA-256 of its body, hexadecimal.
        pub digest: String,
        /// The status that answered it; none while it is handled, or where that was cut.
        pub status: Option<i64>,
        /// The answer, JSON.
        pub answer: Option<String>,
    }

    /// How far a schedule is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ScheduleRow {
        /// Its name.
        pub name: String,
        /// The expression and the zone that this holds for.
        pub spec: String,
        /// Up to here everything was started, or missed for good.
        pub handled_at: Millis,
        /// When it last started something.
        pub fired_at: Option<Millis>,
        /// What came of that.
        pub fired: Option<String>,
    }

    /// The end of a run that somebody may have to be told of.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EndRow {
        /// The run.
        pub adw_id: String,
        /// Its project.
        pub project: String,
        /// How it ended.
        pub status: String,
        /// When.
        pub ended_at: i64,
    }

    /// A notice.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NoticeRow {
        /// Its id; the same over all attempts.
        pub id: String,
        /// Who is told.
        pub hook: String,
        /// The run.
        pub adw_id: String,
        /// When the run ended.
        pub run_ended_at: i64,
        /// How the run ended.
        pub event: String,
        /// `pending`, `delivered`, `dead` or `unwanted`.
        pub state: String,
        /// What is sent.
        pub body: String,
        /// Attempts begun.
        pub attempts: i64,
        /// When the next one is due.
        pub next_at: i64,
        /// When it was taken in.
        pub created_at: i64,
        /// When it was delivered, or given up.
        pub ended_at: Option<i64>,
        /// The status that answered the last attempt.
        pub last_status: Option<i64>,
        /// What was wrong with the last attempt.
        pub last_error: Option<String>,
    }
}

/// Takes a delivery in, and answers what is stored of it now: what this call stored, or what an
/// earlier one did, be it of this id or of this body.
///
/// # Errors
/// [`DbError`].
pub async fn take_delivery(
    db: &Db,
    host: &str,
    delivery: &str,
    event: &str,
    digest: &str,
    now: Millis,
) -> Result<DeliveryRow, DbError> {
    let mut tx = db.begin().await?;
    // Both unique indexes are meant: no conflict target.
    tx.exec(
        "INSERT INTO webhook_deliveries (host, delivery, event, digest, received_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        args![host, delivery, event, digest, now],
    )
    .await?;
    let row = tx
        .one(
            "SELECT delivery, digest, status, answer FROM webhook_deliveries \
             WHERE host = $1 AND (delivery = $2 OR digest = $3) \
             ORDER BY CASE WHEN delivery = $2 THEN 0 ELSE 1 END LIMIT 1",
            args![host, delivery, digest],
        )
        .await?;
    tx.commit().await?;
    Ok(row)
}

/// Stores what answered a delivery; `false` where an answer is stored already.
///
/// # Errors
/// [`DbError`].
pub async fn answer_delivery(
    db: &Db,
    host: &str,
    delivery: &str,
    status: u16,
    answer: &str,
) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE webhook_deliveries SET status = $3, answer = $4 \
             WHERE host = $1 AND delivery = $2 AND status IS NULL",
            args![host, delivery, status, answer],
        )
        .await?;
    Ok(n == 1)
}

/// Forgets deliveries, and notices that are no longer pending, of before a moment.
///
/// # Errors
/// [`DbError`].
pub async fn prune(db: &Db, before: Millis) -> Result<u64, DbError> {
    let deliveries =
        db.exec("DELETE FROM webhook_deliveries WHERE received_at < $1", args![before]).await?;
    let notices = db
        .exec(
            "DELETE FROM hook_notices WHERE created_at < $1 AND state <> 'pending'",
            args![before],
        )
        .await?;
    Ok(deliveries + notices)
}

/// Where a schedule stands; one that is new, or was changed, begins now.
///
/// # Errors
/// [`DbError`].
pub async fn begin_schedule(
    db: &Db,
    host: &str,
    name: &str,
    spec: &str,
    now: Millis,
) -> Result<ScheduleRow, DbError> {
    let mut tx = db.begin().await?;
    let row = tx
        .one(
            "INSERT INTO schedules (host, name, spec, handled_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (host, name) DO UPDATE SET \
             handled_at = CASE WHEN schedules.spec = excluded.spec THEN schedules.handled_at \
             ELSE excluded.handled_at END, spec = excluded.spec \
             RETURNING name, spec, handled_at, fired_at, fired",
            args![host, name, spec, now],
        )
        .await?;
    tx.commit().await?;
    Ok(row)
}

/// Moves a schedule on from where it stood; `false` where somebody else did. `fired`: the moment
/// for which something was started, and what came of it.
///
/// # Errors
/// [`DbError`].
pub async fn move_schedule(
    db: &Db,
    host: &str,
    name: &str,
    from: Millis,
    to: Millis,
    fired: Option<(Millis, &str)>,
) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE schedules SET handled_at = $4, fired_at = COALESCE($5, fired_at), \
             fired = COALESCE($6, fired) WHERE host = $1 AND name = $2 AND handled_at = $3",
            args![host, name, from, to, fired.map(|(at, _)| at), fired.map(|(_, what)| what)],
        )
        .await?;
    Ok(n == 1)
}

/// Where the schedules of a host stand, by name.
///
/// # Errors
/// [`DbError`].
pub async fn schedules(db: &Db, host: &str) -> Result<Vec<ScheduleRow>, DbError> {
    db.all(
        "SELECT name, spec, handled_at, fired_at, fired FROM schedules WHERE host = $1 \
         ORDER BY name",
        args![host],
    )
    .await
}

/// Since when a hook is there; from now on where it is new.
///
/// # Errors
/// [`DbError`].
pub async fn begin_hook(db: &Db, host: &str, name: &str, now: Millis) -> Result<Millis, DbError> {
    let mut tx = db.begin().await?;
    tx.exec(
        "INSERT INTO hooks (host, name, since_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        args![host, name, now],
    )
    .await?;
    let (since,): (i64,) = tx
        .one("SELECT since_at FROM hooks WHERE host = $1 AND name = $2", args![host, name])
        .await?;
    tx.commit().await?;
    Ok(Millis(since))
}

/// Forgets hooks that are no longer configured, so that one that comes back begins anew. Their
/// pending notices are given up.
///
/// # Errors
/// [`DbError`].
pub async fn end_hook(db: &Db, host: &str, name: &str, now: Millis) -> Result<(), DbError> {
    let mut tx = db.begin().await?;
    tx.exec("DELETE FROM hooks WHERE host = $1 AND name = $2", args![host, name]).await?;
    tx.exec(
        "UPDATE hook_notices SET state = 'dead', ended_at = $3, \
         last_error = 'the hook is no longer configured' \
         WHERE host = $1 AND hook = $2 AND state = 'pending'",
        args![host, name, now],
    )
    .await?;
    tx.commit().await
}

/// Names of the hooks that a host had.
///
/// # Errors
/// [`DbError`].
pub async fn hook_names(db: &Db, host: &str) -> Result<Vec<String>, DbError> {
    let rows: Vec<(String,)> =
        db.all("SELECT name FROM hooks WHERE host = $1 ORDER BY name", args![host]).await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// Ends of this host's runs since a moment that a hook has no notice of, oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn untold(
    db: &Db,
    host: &str,
    hook: &str,
    since: Millis,
    limit: i64,
) -> Result<Vec<EndRow>, DbError> {
    db.all(
        "SELECT r.adw_id, r.project, r.status, r.ended_at FROM runs r \
         WHERE r.host = $1 AND r.ended_at >= $3 AND NOT r.active AND r.origin = 'daemon' \
         AND NOT EXISTS (SELECT 1 FROM hook_notices n WHERE n.host = $1 AND n.hook = $2 \
         AND n.adw_id = r.adw_id AND n.run_ended_at = r.ended_at) \
         ORDER BY r.ended_at, r.seq LIMIT $4",
        args![host, hook, since, limit],
    )
    .await
}

/// Takes a notice in; `false` where there is one of this hook and this end.
///
/// # Errors
/// [`DbError`].
pub async fn insert_notice(db: &Db, host: &str, n: &NoticeRow) -> Result<bool, DbError> {
    let count = db
        .exec(
            "INSERT INTO hook_notices (id, host, hook, adw_id, run_ended_at, event, state, body, \
             attempts, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT DO NOTHING",
            args![
                &n.id,
                host,
                &n.hook,
                &n.adw_id,
                n.run_ended_at,
                &n.event,
                &n.state,
                &n.body,
                n.attempts,
                n.next_at,
                n.created_at
            ],
        )
        .await?;
    Ok(count == 1)
}

/// Notices of a hook that are due, the longest due first.
///
/// # Errors
/// [`DbError`].
pub async fn due_notices(
    db: &Db,
    host: &str,
    hook: &str,
    now: Millis,
    limit: i64,
) -> Result<Vec<NoticeRow>, DbError> {
    db.all(
        "SELECT * FROM hook_notices WHERE host = $1 AND hook = $2 AND state = 'pending' \
         AND next_at <= $3 ORDER BY next_at, created_at, id LIMIT $4",
        args![host, hook, now, limit],
    )
    .await
}

/// Begins an attempt: it counts, and the next one is due later, before anything is sent. `false`
/// where somebody else began it.
///
/// # Errors
/// [`DbError`].
pub async fn begin_attempt(
    db: &Db,
    id: &str,
    attempts: i64,
    next_at: Millis,
) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE hook_notices SET attempts = attempts + 1, next_at = $3 \
             WHERE id = $1 AND attempts = $2 AND state = 'pending'",
            args![id, attempts, next_at],
        )
        .await?;
    Ok(n == 1)
}

/// Ends an attempt of a pending notice: `state` is `delivered`, `dead`, or `pending` for another.
///
/// # Errors
/// [`DbError`].
pub async fn end_attempt(
    db: &Db,
    id: &str,
    state: &str,
    next_at: Millis,
    now: Millis,
    told: (Option<u16>, Option<&str>),
) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE hook_notices SET state = $2, next_at = $3, last_status = $4, last_error = $5, \
             ended_at = CASE WHEN $2 = 'pending' THEN ended_at ELSE $6 END \
             WHERE id = $1 AND state = 'pending'",
            args![id, state, next_at, told.0, told.1, now],
        )
        .await?;
    Ok(n == 1)
}

/// Notices of a host in one state, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn notices(
    db: &Db,
    host: &str,
    state: &str,
    limit: i64,
) -> Result<Vec<NoticeRow>, DbError> {
    db.all(
        "SELECT * FROM hook_notices WHERE host = $1 AND state = $2 \
         ORDER BY created_at DESC, id LIMIT $3",
        args![host, state, limit],
    )
    .await
}

/// A notice.
///
/// # Errors
/// [`DbError`].
pub async fn notice(db: &Db, host: &str, id: &str) -> Result<Option<NoticeRow>, DbError> {
    db.optional("SELECT * FROM hook_notices WHERE host = $1 AND id = $2", args![host, id]).await
}

/// How many notices of each hook are in which state: hook, state, count.
///
/// # Errors
/// [`DbError`].
pub async fn notice_counts(db: &Db, host: &str) -> Result<Vec<(String, String, i64)>, DbError> {
    db.all(
        "SELECT hook, state, COUNT(*) FROM hook_notices WHERE host = $1 \
         GROUP BY hook, state ORDER BY hook, state",
        args![host],
    )
    .await
}

/// Gives a dead notice all its attempts again, the first one now; `false` where it is not dead.
///
/// # Errors
/// [`DbError`].
pub async fn retry_notice(db: &Db, host: &str, id: &str, now: Millis) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE hook_notices SET state = 'pending', attempts = 0, next_at = $3, \
             ended_at = NULL WHERE host = $1 AND id = $2 AND state = 'dead'",
            args![host, id, now],
        )
        .await?;
    Ok(n == 1)
}

/// Forgets a schedule.
///
/// # Errors
/// [`DbError`].
pub async fn end_schedule(db: &Db, host: &str, name: &str) -> Result<(), DbError> {
    db.exec("DELETE FROM schedules WHERE host = $1 AND name = $2", args![host, name])
        .await
        .map(drop)
}
