//! Every statement about keys, their pepper, and addresses that showed bad credentials.

use crate::args;
use crate::clock::Millis;
use crate::db::{Db, DbError};
use crate::limits::{
    ACCESS_ADDRESSES_COUNT, ACCESS_FAILURE_WINDOW_MS, ACCESS_FAILURES_COUNT, ACCESS_FORGIVE_MS,
    ACCESS_KEEP_MS, ACCESS_KEYS_COUNT, ACCESS_TOUCH_MS,
};

use super::throttle::block_ms;

crate::row! {
    /// A key as it is stored.
    #[derive(Clone, Debug, PartialEq)]
    pub struct KeyRow {
        /// Its id.
        pub id: String,
        /// What people call it.
        pub name: String,
        /// Its tier's word.
        pub tier: String,
        /// A JSON list of projects; none: all.
        pub projects: Option<String>,
        /// What it may ask in an hour, in tenths of a call; none: what its tier may.
        pub hourly_tenths: Option<i64>,
        /// What it may spend in a day, in US dollars.
        pub day_budget_usd: Option<f64>,
        /// The keyed hash of its secret.
        pub secret_hash: String,
        /// That of the secret before.
        pub old_hash: Option<String>,
        /// Until when the secret before is good.
        pub old_until: Option<Millis>,
        /// When it was made.
        pub created_at: Millis,
        /// By whom.
        pub created_by: String,
        /// When it ends.
        pub expires_at: Option<Millis>,
        /// When it got another secret.
        pub rotated_at: Option<Millis>,
        /// When it was revoked.
        pub revoked_at: Option<Millis>,
        /// By whom.
        pub revoked_by: Option<String>,
        /// When it was last used, to the minute.
        pub last_used_at: Option<Millis>,
    }
}

macro_rules! key_columns {
    () => {
        "id, name, tier, projects, hourly_tenths, day_budget_usd, secret_hash, old_hash, \
         old_until, created_at, created_by, expires_at, rotated_at, revoked_at, revoked_by, \
         last_used_at"
    };
}

/// Stores a new key; `false` where its id is taken.
///
/// # Errors
/// [`DbError`].
pub async fn insert_key(db: &Db, row: &KeyRow) -> Result<bool, DbError> {
    let stored = db
        .exec(
            "INSERT INTO access_keys (id, name, tier, projects, hourly_tenths, day_budget_usd, \
             secret_hash, created_at, created_by, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING",
            args![
                &row.id,
                &row.name,
                &row.tier,
                &row.projects,
                row.hourly_tenths,
                row.day_budget_usd,
                &row.secret_hash,
                row.created_at,
                &row.created_by,
                row.expires_at
            ],
        )
        .await?;
    Ok(stored == 1)
}

/// A key by its id.
///
/// # Errors
/// [`DbError`].
pub async fn key(db: &Db, id: &str) -> Result<Option<KeyRow>, DbError> {
    db.optional(concat!("SELECT ", key_columns!(), " FROM access_keys WHERE id = $1"), args![id])
        .await
}

/// All keys, newest first, at most [`ACCESS_KEYS_COUNT`].
///
/// # Errors
/// [`DbError`].
pub async fn keys(db: &Db) -> Result<Vec<KeyRow>, DbError> {
    db.all(
        concat!(
            "SELECT ",
            key_columns!(),
            " FROM access_keys ORDER BY created_at DESC, id LIMIT $1"
        ),
        args![ACCESS_KEYS_COUNT],
    )
    .await
}

/// How many keys are good at that moment.
///
/// # Errors
/// [`DbError`].
pub async fn count_good(db: &Db, now: Millis) -> Result<i64, DbError> {
    db.one(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM access_keys \
         WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)",
        args![now],
    )
    .await
    .map(|(count,): (i64,)| count)
}

/// Revokes a key; `false` where there is none, or none that is not revoked.
///
/// # Errors
/// [`DbError`].
pub async fn revoke(db: &Db, id: &str, by: &str, now: Millis) -> Result<bool, DbError> {
    let done = db
        .exec(
            "UPDATE access_keys SET revoked_at = $3, revoked_by = $2, old_hash = NULL, \
             old_until = NULL WHERE id = $1 AND revoked_at IS NULL",
            args![id, by, now],
        )
        .await?;
    Ok(done == 1)
}

/// Gives a key another secret; the present one is good until `old_until`, where there is such.
/// `false` where the key is no longer as `row` says.
///
/// # Errors
/// [`DbError`].
pub async fn rotate(
    db: &Db,
    row: &KeyRow,
    hash: &str,
    old_until: Option<Millis>,
    now: Millis,
) -> Result<bool, DbError> {
    let old_hash = old_until.map(|_| row.secret_hash.as_str());
    let done = db
        .exec(
            "UPDATE access_keys SET secret_hash = $2, old_hash = $3, old_until = $4, \
             rotated_at = $5 WHERE id = $1 AND secret_hash = $6 AND revoked_at IS NULL",
            args![&row.id, hash, old_hash, old_until, now, &row.secret_hash],
        )
        .await?;
    Ok(done == 1)
}

/// Writes down that a key was used, unless that was done within [`ACCESS_TOUCH_MS`].
///
/// # Errors
/// [`DbError`].
pub async fn touch(db: &Db, id: &str, now: Millis) -> Result<bool, DbError> {
    let done = db
        .exec(
            "UPDATE access_keys SET last_used_at = $2 \
             WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)",
            args![id, now, now.plus_ms(-ACCESS_TOUCH_MS)],
        )
        .await?;
    Ok(done == 1)
}

/// Forgets keys that have not been good for [`ACCESS_KEEP_MS`].
///
/// # Errors
/// [`DbError`].
pub async fn forget_keys(db: &Db, now: Millis) -> Result<u64, DbError> {
    db.exec(
        "DELETE FROM access_keys WHERE revoked_at < $1 OR expires_at < $1",
        args![now.plus_ms(-ACCESS_KEEP_MS)],
    )
    .await
}

/// The pepper of the daemons that share this database.
///
/// # Errors
/// [`DbError`].
pub async fn pepper(db: &Db) -> Result<Option<String>, DbError> {
    let found: Option<(String,)> =
        db.optional("SELECT pepper FROM access_pepper WHERE one = 1", args![]).await?;
    Ok(found.map(|(pepper,)| pepper))
}

/// Stores it, unless another daemon was first.
///
/// # Errors
/// [`DbError`].
pub async fn insert_pepper(db: &Db, pepper: &str, now: Millis) -> Result<(), DbError> {
    db.exec(
        "INSERT INTO access_pepper (one, pepper, created_at) VALUES (1, $1, $2) \
         ON CONFLICT (one) DO NOTHING",
        args![pepper, now],
    )
    .await
    .map(drop)
}

/// Until when an address is shut out; none where it is not.
///
/// # Errors
/// [`DbError`].
pub async fn blocked_until(db: &Db, address: &str, now: Millis) -> Result<Option<Millis>, DbError> {
    let found: Option<(i64,)> = db
        .optional(
            "SELECT blocked_until FROM access_failures WHERE address = $1 AND blocked_until > $2",
            args![address, now],
        )
        .await?;
    Ok(found.map(|(until,)| Millis(until)))
}

/// Counts a bad credential of an address that is not shut out; answers until when it is shut out
/// from now on, where this one was too many.
///
/// # Errors
/// [`DbError`].
pub async fn failed(db: &Db, address: &str, now: Millis) -> Result<Option<Millis>, DbError> {
    let mut tx = db.begin().await?;
    // The row is this transaction's from here on.
    let (failures, blocks, until): (i64, i64, i64) = tx
        .one(
            "INSERT INTO access_failures \
             (address, failures, window_at, blocks, blocked_until, seen_at) \
             VALUES ($1, 1, $2, 0, 0, $2) ON CONFLICT (address) DO UPDATE SET \
             failures = CASE WHEN access_failures.window_at > $3 \
             THEN access_failures.failures + 1 ELSE 1 END, \
             window_at = CASE WHEN access_failures.window_at > $3 \
             THEN access_failures.window_at ELSE $2 END, \
             blocks = CASE WHEN access_failures.seen_at > $4 \
             THEN access_failures.blocks ELSE 0 END, \
             seen_at = $2 RETURNING failures, blocks, blocked_until",
            args![
                address,
                now,
                now.plus_ms(-ACCESS_FAILURE_WINDOW_MS),
                now.plus_ms(-ACCESS_FORGIVE_MS)
            ],
        )
        .await?;
    // Others of the same moment may have shut it out already.
    let mut until = Some(Millis(until)).filter(|until| *until > now);
    if until.is_none() && failures >= ACCESS_FAILURES_COUNT {
        let end = now.plus_ms(block_ms(blocks));
        tx.exec(
            "UPDATE access_failures SET failures = 0, blocks = $2, blocked_until = $3, \
             seen_at = $3 WHERE address = $1",
            args![address, blocks + 1, end],
        )
        .await?;
        until = Some(end);
    }
    tx.commit().await?;
    Ok(until)
}

/// Forgets addresses that showed nothing bad for [`ACCESS_FORGIVE_MS`], and the oldest ones beyond
/// [`ACCESS_ADDRESSES_COUNT`].
///
/// # Errors
/// [`DbError`].
pub async fn forget_addresses(db: &Db, now: Millis) -> Result<u64, DbError> {
    let forgiven = db
        .exec(
            "DELETE FROM access_failures WHERE seen_at < $1",
            args![now.plus_ms(-ACCESS_FORGIVE_MS)],
        )
        .await?;
    let beyond = db
        .exec(
            "DELETE FROM access_failures WHERE address IN (SELECT address FROM access_failures \
             ORDER BY seen_at DESC, address LIMIT 1000000000 OFFSET $1)",
            args![ACCESS_ADDRESSES_COUNT],
        )
        .await?;
    Ok(forgiven + beyond)
}
