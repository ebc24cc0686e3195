//! Every statement of the engine that writes, and what a write reads first. Reads of the handle are
//! in `sql_read`.

use std::sync::LazyLock;

use super::events::Event;
use super::keys::Key;
use super::limiter::Level;
use super::output::{kind, sha256};
pub use super::sql_rows::{ExecutionRow, Gist, NewArtifact, StepRow};
use super::view::StepStatus;
use crate::args;
use crate::clock::Millis;
use crate::db::{Arg, Db, DbError, Tx, batches};
use crate::limits::{STEPS_BATCH_COUNT, STEPS_EVENTS_DELETE_COUNT, STEPS_SWEEP_COUNT};

/// Stores what an execution runs by, unless it is stored.
///
/// # Errors
/// [`DbError`].
pub async fn put_snapshot(tx: &mut Tx, hash: &str, body: &str, now: Millis) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO execution_snapshots (hash, body, created_at) VALUES ($1, $2, $3) \
         ON CONFLICT (hash) DO NOTHING",
        args![hash, body, now],
    )
    .await
    .map(drop)
}

/// The snapshot of that hash.
///
/// # Errors
/// [`DbError`].
pub async fn snapshot_in(tx: &mut Tx, hash: &str) -> Result<String, DbError> {
    tx.one("SELECT body FROM execution_snapshots WHERE hash = $1", args![hash])
        .await
        .map(|(body,): (String,)| body)
}

/// The same, for reads.
///
/// # Errors
/// [`DbError`].
pub async fn snapshot(db: &Db, hash: &str) -> Result<String, DbError> {
    db.one("SELECT body FROM execution_snapshots WHERE hash = $1", args![hash])
        .await
        .map(|(body,): (String,)| body)
}

/// Stores a new execution; `false` where its id is taken.
///
/// # Errors
/// [`DbError`].
pub async fn insert_execution(tx: &mut Tx, r: &ExecutionRow) -> Result<bool, DbError> {
    let n = tx
        .exec(
            "INSERT INTO executions (execution_id, workflow_name, snapshot_hash, project, state, \
             active, max_parallel, pause_on_blockers, version, created_at, updated_at, active_at, \
             stall_level, paused_ms, hints) \
             VALUES ($1, $2, $3, $4, $5, TRUE, $6, $7, $8, $9, $9, $9, 0, 0, $10) \
             ON CONFLICT (execution_id) DO NOTHING",
            args![
                &r.execution_id,
                &r.workflow_name,
                &r.snapshot_hash,
                &r.project,
                r.state.as_str(),
                r.max_parallel,
                r.pause_on_blockers,
                r.version,
                r.created_at,
                &r.hints,
            ],
        )
        .await?;
    Ok(n == 1)
}

/// Takes an execution for a change: nobody else changes it before this transaction ends. None
/// where there is none of that id.
///
/// # Errors
/// [`DbError`].
pub async fn lock_execution(tx: &mut Tx, id: &str) -> Result<Option<ExecutionRow>, DbError> {
    tx.optional(
        "UPDATE executions SET version = version + 1 WHERE execution_id = $1 RETURNING *",
        args![id],
    )
    .await
}

/// Stores an execution that was taken with [`lock_execution`]; `false` where it was not.
///
/// # Errors
/// [`DbError`].
pub async fn save_execution(tx: &mut Tx, r: &ExecutionRow) -> Result<bool, DbError> {
    let n = tx
        .exec(
            "UPDATE executions SET state = $3, active = $4, state_reason = $5, waiting_step = $6, \
             started_at = $7, updated_at = $8, completed_at = $9, active_at = $10, \
             stall_level = $11, paused_at = $12, paused_ms = $13, hints = $14, synthesis = $15 \
             WHERE execution_id = $1 AND version = $2",
            args![
                &r.execution_id,
                r.version,
                r.state.as_str(),
                !r.state.is_terminal(),
                &r.state_reason,
                &r.waiting_step,
                r.started_at,
                r.updated_at,
                r.completed_at,
                r.active_at,
                r.stall_level,
                r.paused_at,
                r.paused_ms,
                &r.hints,
                &r.synthesis,
            ],
        )
        .await?;
    Ok(n == 1)
}

static INSERT_STEPS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let head = "INSERT INTO execution_steps (execution_id, step_name, ordinal, agent_name, status, \
                attempt, approved)";
    batches(head, 7, "", STEPS_BATCH_COUNT)
});

/// Runs `statements[n - 1]` for each run of at most as many rows as there are statements.
async fn insert_all<T>(
    tx: &mut Tx,
    statements: &[&'static str],
    rows: &[T],
    cells: impl Fn(&T) -> Vec<Arg>,
) -> Result<(), DbError> {
    for chunk in rows.chunks(statements.len()) {
        tx.exec(statements[chunk.len() - 1], chunk.iter().flat_map(&cells).collect()).await?;
    }
    Ok(())
}

/// Stores the steps of a new execution.
///
/// # Errors
/// [`DbError`].
pub async fn insert_steps(tx: &mut Tx, id: &str, steps: &[StepRow]) -> Result<(), DbError> {
    insert_all(tx, &INSERT_STEPS, steps, |s| {
        let ordinal = i64::try_from(s.ordinal).unwrap_or(i64::MAX);
        args![id, &s.step_name, ordinal, &s.agent_name, s.status.as_str(), s.attempt, s.approved]
    })
    .await
}

/// The steps of an execution, in the workflow's order.
///
/// # Errors
/// [`DbError`].
pub async fn steps_in(tx: &mut Tx, id: &str) -> Result<Vec<StepRow>, DbError> {
    tx.all(
        "SELECT step_name, ordinal, agent_name, status, attempt, approved, nonce, kid, issued_at, \
         started_at, completed_at, output_digest, focus \
         FROM execution_steps WHERE execution_id = $1 ORDER BY ordinal",
        args![id],
    )
    .await
}

/// Puts a step out: a first, a further or a renewed token. `false` where it was not in `from`.
///
/// # Errors
/// [`DbError`].
pub async fn issue(
    tx: &mut Tx,
    id: &str,
    step: &StepRow,
    from: StepStatus,
    contract: Option<&str>,
) -> Result<bool, DbError> {
    let n = tx
        .exec(
            "UPDATE execution_steps SET status = 'running', attempt = $4, nonce = $5, kid = $6, \
             issued_at = $7, started_at = $8, contract = COALESCE($9, contract) \
             WHERE execution_id = $1 AND step_name = $2 AND status = $3",
            args![
                id,
                &step.step_name,
                from.as_str(),
                step.attempt,
                &step.nonce,
                &step.kid,
                step.issued_at,
                step.started_at,
                contract,
            ],
        )
        .await?;
    Ok(n == 1)
}

/// Consumes the token of a step: the one place where a submission wins or loses.
///
/// # Errors
/// [`DbError`].
pub async fn consume(tx: &mut Tx, id: &str, step: &StepRow) -> Result<bool, DbError> {
    let n = tx
        .exec(
            "UPDATE execution_steps SET status = 'completed', completed_at = $5, \
             output_digest = $6, focus = $7 \
             WHERE execution_id = $1 AND step_name = $2 AND attempt = $3 AND nonce = $4 \
             AND status = 'running'",
            args![
                id,
                &step.step_name,
                step.attempt,
                &step.nonce,
                step.completed_at,
                &step.output_digest,
                &step.focus,
            ],
        )
        .await?;
    Ok(n == 1)
}

/// Keeps the contract of a step that waits at its gate, for those who read it.
///
/// # Errors
/// [`DbError`].
pub async fn keep_contract(
    tx: &mut Tx,
    id: &str,
    step_name: &str,
    contract: &str,
) -> Result<(), DbError> {
    tx.exec(
        "UPDATE execution_steps SET contract = $3 WHERE execution_id = $1 AND step_name = $2",
        args![id, step_name, contract],
    )
    .await
    .map(drop)
}

/// Lets a step past its gate.
///
/// # Errors
/// [`DbError`].
pub async fn approve(tx: &mut Tx, id: &str, step_name: &str) -> Result<(), DbError> {
    tx.exec(
        "UPDATE execution_steps SET approved = TRUE WHERE execution_id = $1 AND step_name = $2",
        args![id, step_name],
    )
    .await
    .map(drop)
}

/// Closes what is out (to `out`) and what is pending (to `skipped`), and revokes every token.
///
/// # Errors
/// [`DbError`].
pub async fn close_steps(
    tx: &mut Tx,
    id: &str,
    out: StepStatus,
    now: Millis,
) -> Result<(), DbError> {
    tx.exec(
        "UPDATE execution_steps SET status = CASE WHEN status = 'running' THEN $2 ELSE 'skipped' \
         END, nonce = NULL, completed_at = $3 \
         WHERE execution_id = $1 AND status IN ('pending', 'running')",
        args![id, out.as_str(), now],
    )
    .await
    .map(drop)
}

/// What a step submitted.
#[derive(Clone, Debug)]
pub struct NewOutput<'a> {
    /// What the synthesis needs of it.
    pub gist: &'a Gist,
    /// The output without the contents of its artifacts, JSON.
    pub output: &'a str,
    /// What the submitter was answered, JSON.
    pub answer: &'a str,
}

/// Stores what a step submitted.
///
/// # Errors
/// [`DbError`].
pub async fn insert_output(tx: &mut Tx, id: &str, new: &NewOutput<'_>) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO execution_outputs (execution_id, step_name, summary, confidence, blockers, \
         output, answer) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            id,
            &new.gist.step_name,
            &new.gist.summary,
            new.gist.confidence,
            &new.gist.blockers,
            new.output,
            new.answer,
        ],
    )
    .await
    .map(drop)
}

/// What the submitter of a step was answered.
///
/// # Errors
/// [`DbError`].
pub async fn answer(tx: &mut Tx, id: &str, step_name: &str) -> Result<String, DbError> {
    tx.one(
        "SELECT answer FROM execution_outputs WHERE execution_id = $1 AND step_name = $2",
        args![id, step_name],
    )
    .await
    .map(|(answer,): (String,)| answer)
}

/// What the synthesis needs of the outputs so far.
///
/// # Errors
/// [`DbError`].
pub async fn gists(tx: &mut Tx, id: &str) -> Result<Vec<Gist>, DbError> {
    tx.all(
        "SELECT step_name, summary, confidence, blockers FROM execution_outputs \
         WHERE execution_id = $1 ORDER BY step_name",
        args![id],
    )
    .await
}

/// A step's contract, JSON.
///
/// # Errors
/// [`DbError`].
pub async fn contract(tx: &mut Tx, id: &str, step_name: &str) -> Result<Option<String>, DbError> {
    tx.one(
        "SELECT contract FROM execution_steps WHERE execution_id = $1 AND step_name = $2",
        args![id, step_name],
    )
    .await
    .map(|(contract,): (Option<String>,)| contract)
}

static INSERT_ARTIFACTS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let head = "INSERT INTO execution_artifacts (id, artifact_id, execution_id, step_name, \
                agent_name, artifact_type, kind, title, description, content_type, size_bytes, \
                sha256, is_final, metadata, created_at)";
    batches(head, 15, "", STEPS_BATCH_COUNT)
});

static INSERT_CONTENTS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    batches("INSERT INTO artifact_contents (artifact_id, content)", 2, "", STEPS_BATCH_COUNT)
});

/// Stores artifacts with their contents, numbered in their order.
///
/// # Errors
/// [`DbError`].
pub async fn insert_artifacts(
    tx: &mut Tx,
    artifacts: &[NewArtifact],
    now: Millis,
) -> Result<(), DbError> {
    let count = u32::try_from(artifacts.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Ok(());
    }
    let first = tx.next_counters("execution_artifacts", count).await?;
    let numbered: Vec<(i64, &NewArtifact)> = (first..).zip(artifacts).collect();
    insert_all(tx, &INSERT_ARTIFACTS, &numbered, |(id, a)| {
        args![
            *id,
            &a.artifact_id,
            &a.execution_id,
            &a.step_name,
            &a.agent_name,
            &a.artifact_type,
            kind(&a.artifact_type),
            &a.title,
            &a.description,
            &a.content_type,
            i64::try_from(a.content.len()).unwrap_or(i64::MAX),
            sha256(a.content.as_bytes()),
            a.is_final,
            &a.metadata,
            now,
        ]
    })
    .await?;
    insert_all(tx, &INSERT_CONTENTS, artifacts, |a| args![&a.artifact_id, &a.content]).await
}

/// How many artifacts an execution has.
///
/// # Errors
/// [`DbError`].
pub async fn count_artifacts(tx: &mut Tx, id: &str) -> Result<i64, DbError> {
    tx.one(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM execution_artifacts WHERE execution_id = $1",
        args![id],
    )
    .await
    .map(|(count,): (i64,)| count)
}

/// Marks every artifact of a completed execution as final.
///
/// # Errors
/// [`DbError`].
pub async fn finalise(tx: &mut Tx, id: &str) -> Result<(), DbError> {
    tx.exec("UPDATE execution_artifacts SET is_final = TRUE WHERE execution_id = $1", args![id])
        .await
        .map(drop)
}

static INSERT_EVENTS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let head = "INSERT INTO step_events (id, event_type, execution_id, step_name, agent_name, \
                metadata, created_at)";
    batches(head, 7, "", STEPS_BATCH_COUNT)
});

/// Stores events, numbered in their order. Last in its transaction: see [`Tx::next_counters`].
///
/// # Errors
/// [`DbError`].
pub async fn insert_events(tx: &mut Tx, events: &[Event], now: Millis) -> Result<(), DbError> {
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Ok(());
    }
    let first = tx.next_counters("step_events", count).await?;
    let numbered: Vec<(i64, &Event)> = (first..).zip(events).collect();
    insert_all(tx, &INSERT_EVENTS, &numbered, |(id, e)| {
        let metadata = e.metadata.to_string();
        args![*id, e.event_type, &e.execution_id, &e.step_name, &e.agent_name, metadata, now]
    })
    .await
}

static LOCK_BUCKETS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let tail = "ON CONFLICT (scope, scope_key) DO UPDATE SET tokens = rate_buckets.tokens \
                RETURNING scope, tokens, last_refill";
    batches("INSERT INTO rate_buckets (scope, scope_key, tokens, last_refill)", 4, tail, 2)
});

static SET_BUCKETS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let tail = "ON CONFLICT (scope, scope_key) DO UPDATE SET tokens = excluded.tokens, \
                last_refill = excluded.last_refill";
    batches("INSERT INTO rate_buckets (scope, scope_key, tokens, last_refill)", 4, tail, 2)
});

/// One bucket: its scope, its key, and what it holds.
pub type Bucket<'a> = (&'static str, &'a str, Level);

fn bucket_cells((scope, key, level): &Bucket<'_>) -> Vec<Arg> {
    args![*scope, *key, level.tokens, level.last_refill]
}

/// Takes at most two buckets for a change, made as given where they are not there; answers what
/// each holds, in the order asked.
///
/// # Errors
/// [`DbError`].
pub async fn lock_buckets(tx: &mut Tx, asked: &[Bucket<'_>]) -> Result<Vec<Level>, DbError> {
    let cells = asked.iter().flat_map(bucket_cells).collect();
    let found: Vec<(String, f64, i64)> = tx.all(LOCK_BUCKETS[asked.len() - 1], cells).await?;
    let level = |(scope, ..): &Bucket<'_>| {
        let row = found.iter().find(|(found, ..)| found == scope);
        row.map(|(_, tokens, at)| Level { tokens: *tokens, last_refill: Millis(*at) })
    };
    Ok(asked.iter().filter_map(level).collect())
}

/// Stores at most two buckets.
///
/// # Errors
/// [`DbError`].
pub async fn set_buckets(tx: &mut Tx, levels: &[Bucket<'_>]) -> Result<(), DbError> {
    insert_all(tx, &SET_BUCKETS, levels, bucket_cells).await
}

/// Forgets buckets that were not touched since.
///
/// # Errors
/// [`DbError`].
pub async fn delete_buckets(db: &Db, before: Millis) -> Result<u64, DbError> {
    db.exec("DELETE FROM rate_buckets WHERE last_refill < $1", args![before]).await
}

/// Deletes the oldest events: those made before `before`, and those with an id up to `through`; at
/// most `STEPS_EVENTS_DELETE_COUNT`. Answers how many.
///
/// # Errors
/// [`DbError`].
pub async fn delete_events(db: &Db, before: Millis, through: i64) -> Result<u64, DbError> {
    db.exec(
        "DELETE FROM step_events WHERE id IN (SELECT id FROM step_events ORDER BY id LIMIT $3) \
         AND (created_at < $1 OR id <= $2)",
        args![before, through, STEPS_EVENTS_DELETE_COUNT],
    )
    .await
}

/// Running and paused executions that were not active since: a page of those after an id.
///
/// # Errors
/// [`DbError`].
pub async fn idle_since(
    db: &Db,
    before: Millis,
    after: &str,
) -> Result<Vec<(String, i64, i64)>, DbError> {
    db.all(
        "SELECT execution_id, active_at, stall_level FROM executions \
         WHERE active AND state <> 'idle' AND active_at < $1 AND execution_id > $2 \
         ORDER BY execution_id LIMIT $3",
        args![before, after, STEPS_SWEEP_COUNT],
    )
    .await
}

/// Running executions that were started before: a page of those after an id.
///
/// # Errors
/// [`DbError`].
pub async fn running_since(db: &Db, before: Millis, after: &str) -> Result<Vec<String>, DbError> {
    let rows: Vec<(String,)> = db
        .all(
            "SELECT execution_id FROM executions WHERE active AND state = 'running' \
             AND started_at + paused_ms < $1 AND execution_id > $2 ORDER BY execution_id LIMIT $3",
            args![before, after, STEPS_SWEEP_COUNT],
        )
        .await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// The signing keys, oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn keys(db: &Db) -> Result<Vec<Key>, DbError> {
    let rows: Vec<(i64, String, String, i64)> = db
        .all(
            "SELECT generation, kid, secret, created_at FROM token_keys ORDER BY generation",
            args![],
        )
        .await?;
    let key =
        |(generation, kid, secret, at)| Key { generation, kid, secret, created_at: Millis(at) };
    Ok(rows.into_iter().map(key).collect())
}

/// Stores a key, unless another host has made one of that generation.
///
/// # Errors
/// [`DbError`].
pub async fn insert_key(db: &Db, key: &Key) -> Result<(), DbError> {
    db.exec(
        "INSERT INTO token_keys (generation, kid, secret, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (generation) DO NOTHING",
        args![key.generation, &key.kid, &key.secret, key.created_at],
    )
    .await
    .map(drop)
}

/// Forgets the keys before a generation.
///
/// # Errors
/// [`DbError`].
pub async fn delete_keys(db: &Db, before: i64) -> Result<(), DbError> {
    db.exec("DELETE FROM token_keys WHERE generation < $1", args![before]).await.map(drop)
}
