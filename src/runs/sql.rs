//! Every statement of the runs slice. One text for both engines; each status change names the
//! status it moves from, so that of two writers one wins and the other learns it.

pub use super::sql_keys::{
    delete_project, insert_project, insert_request_key, projects, request_key, run_of_branch,
};
pub use super::sql_rows::{AttemptEnd, AttemptRow, Prepared, Requeue, RunRow, Told};
pub use super::sql_scope::{list, run_within};
use super::view::{Failure, RunStatus};
use crate::args;
use crate::clock::Millis;
use crate::crash::{self, Point};
use crate::db::{Db, DbError, Tx};

/// Stores a new run. A second active run of the issue, or a taken id, is a unique violation.
///
/// # Errors
/// [`DbError`]; `is_unique` tells the case above.
pub async fn insert_run(tx: &mut Tx, r: &RunRow) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO runs (adw_id, seq, project, issue_number, host, origin, profile, status, \
         active, stop_requested, revision, priority, phases, todo, floors, digest, model, \
         skip_cleanup, triggered_by, transport, request_id, user_id, created_at, queued_at, \
         started_at, ended_at, retry_at, issue_title, issue_class, branch, base_branch, \
         base_commit, worktree_path, worktree, plan_file, pr_url, failure, run_usage, \
         cost_usd, state, state_at, state_problem, budget_stop) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, \
         $35, $36, $37, $38, $39, $40, $41, $42, $43)",
        args![
            &r.adw_id,
            r.seq,
            &r.project,
            &r.issue_number,
            &r.host,
            &r.origin,
            &r.profile,
            &r.status,
            r.active,
            r.stop_requested,
            r.revision,
            r.priority,
            &r.phases,
            &r.todo,
            &r.floors,
            &r.digest,
            &r.model,
            r.skip_cleanup,
            &r.triggered_by,
            &r.transport,
            &r.request_id,
            &r.user_id,
            r.created_at,
            r.queued_at,
            r.started_at,
            r.ended_at,
            r.retry_at,
            &r.issue_title,
            &r.issue_class,
            &r.branch,
            &r.base_branch,
            &r.base_commit,
            &r.worktree_path,
            &r.worktree,
            &r.plan_file,
            &r.pr_url,
            &r.failure,
            &r.run_usage,
            r.cost_usd,
            &r.state,
            r.state_at,
            &r.state_problem,
            &r.budget_stop,
        ],
    )
    .await
    .map(drop)
}

/// The run of that id.
///
/// # Errors
/// [`DbError`].
pub async fn run(db: &Db, adw_id: &str) -> Result<Option<RunRow>, DbError> {
    db.optional("SELECT * FROM runs WHERE adw_id = $1", args![adw_id]).await
}

/// The attempts of a run, in the order they were made; within a phase by number, whatever the
/// clock was set to in between.
///
/// # Errors
/// [`DbError`].
pub async fn attempts(db: &Db, adw_id: &str) -> Result<Vec<AttemptRow>, DbError> {
    db.all(
        "SELECT * FROM attempts WHERE adw_id = $1 \
         ORDER BY MAX(started_at) OVER (PARTITION BY phase ORDER BY attempt), phase, attempt",
        args![adw_id],
    )
    .await
}

/// The attempts of the active runs whose numbers lie in a range, each run's in the order of
/// [`attempts`].
///
/// # Errors
/// [`DbError`].
pub async fn attempts_of_active(
    db: &Db,
    seqs: std::ops::RangeInclusive<i64>,
) -> Result<Vec<AttemptRow>, DbError> {
    db.all(
        "SELECT a.* FROM attempts a JOIN runs r ON r.adw_id = a.adw_id \
         WHERE r.active AND r.seq BETWEEN $1 AND $2 \
         ORDER BY MAX(a.started_at) OVER (PARTITION BY a.adw_id, a.phase ORDER BY a.attempt), \
         a.phase, a.attempt",
        args![*seqs.start(), *seqs.end()],
    )
    .await
}

/// The active run of an issue, whichever host has it.
///
/// # Errors
/// [`DbError`].
pub async fn active_run_of_issue(
    db: &Db,
    project: &str,
    issue: &str,
) -> Result<Option<RunRow>, DbError> {
    db.optional(
        "SELECT * FROM runs WHERE project = $1 AND issue_number = $2 AND active",
        args![project, issue],
    )
    .await
}

/// The newest run of an issue that the daemon knows.
///
/// # Errors
/// [`DbError`].
pub async fn newest_run_of_issue(
    db: &Db,
    project: &str,
    issue: &str,
) -> Result<Option<RunRow>, DbError> {
    db.optional(
        "SELECT * FROM runs WHERE project = $1 AND issue_number = $2 ORDER BY seq DESC LIMIT 1",
        args![project, issue],
    )
    .await
}

/// How many runs of this host wait in the queue.
///
/// # Errors
/// [`DbError`].
pub async fn waiting(tx: &mut Tx, host: &str) -> Result<i64, DbError> {
    let (n,): (i64,) = tx
        .one(
            "SELECT COUNT(*) FROM runs WHERE host = $1 AND active AND status = 'queued'",
            args![host],
        )
        .await?;
    Ok(n)
}

/// How many active runs a project has on this host.
///
/// # Errors
/// [`DbError`].
pub async fn active_of_project(db: &Db, host: &str, project: &str) -> Result<i64, DbError> {
    let (n,): (i64,) = db
        .one(
            "SELECT COUNT(*) FROM runs WHERE host = $1 AND project = $2 AND active",
            args![host, project],
        )
        .await?;
    Ok(n)
}

/// Moves a run from one status to another; `false` where it was not in the first any more.
///
/// # Errors
/// [`DbError`].
pub async fn move_status(
    db: &Db,
    adw_id: &str,
    from: RunStatus,
    to: RunStatus,
    now: Millis,
) -> Result<bool, DbError> {
    debug_assert!(super::run::may_move(from, to), "{from} -> {to}");
    crash::at(Point::StatusUnmoved, to.as_str());
    let n = db
        .exec(
            "UPDATE runs SET status = $3, revision = revision + 1, \
             started_at = COALESCE(started_at, $4) \
             WHERE adw_id = $1 AND status = $2",
            args![adw_id, from.as_str(), to.as_str(), now],
        )
        .await?;
    crash::at(Point::StatusMoved, to.as_str());
    Ok(n == 1)
}

/// Moves a run that is prepared from `starting` to `running`, with what was found out of its base;
/// `false` where it was not in `starting` any more.
///
/// # Errors
/// [`DbError`].
pub async fn begin_running(
    db: &Db,
    adw_id: &str,
    p: &Prepared,
    now: Millis,
) -> Result<bool, DbError> {
    crash::here(Point::RunningUnstored);
    let n = db
        .exec(
            "UPDATE runs SET status = 'running', revision = revision + 1, \
             started_at = COALESCE(started_at, $4), \
             base_branch = COALESCE($2, base_branch), base_commit = COALESCE($3, base_commit) \
             WHERE adw_id = $1 AND status = 'starting'",
            args![adw_id, &p.base_branch, &p.base_commit, now],
        )
        .await?;
    crash::here(Point::RunningStored);
    Ok(n == 1)
}

/// Ends a run; `false` where it was not in `from` any more.
///
/// # Errors
/// [`DbError`].
pub async fn finish(
    db: &Db,
    adw_id: &str,
    from: RunStatus,
    to: RunStatus,
    failure: Option<&Failure>,
    now: Millis,
) -> Result<bool, DbError> {
    debug_assert!(super::run::may_move(from, to), "{from} -> {to}");
    crash::at(Point::RunUnfinished, to.as_str());
    let n = db
        .exec(
            "UPDATE runs SET status = $3, active = FALSE, revision = revision + 1, \
             ended_at = $4, failure = $5, retry_at = NULL \
             WHERE adw_id = $1 AND status = $2",
            args![adw_id, from.as_str(), to.as_str(), now, failure.map(json)],
        )
        .await?;
    crash::at(Point::RunFinished, to.as_str());
    Ok(n == 1)
}

/// Records the worktree before anything runs in it.
///
/// # Errors
/// [`DbError`].
pub async fn set_prepared(db: &Db, adw_id: &str, p: &Prepared) -> Result<bool, DbError> {
    crash::here(Point::PreparedUnstored);
    let n = db
        .exec(
            "UPDATE runs SET worktree_path = COALESCE($2, worktree_path), \
             worktree = CASE WHEN $2 IS NULL THEN worktree ELSE 'present' END, \
             base_branch = COALESCE($3, base_branch), base_commit = COALESCE($4, base_commit), \
             revision = revision + 1 \
             WHERE adw_id = $1",
            args![adw_id, &p.worktree_path, &p.base_branch, &p.base_commit],
        )
        .await?;
    crash::here(Point::PreparedStored);
    Ok(n == 1)
}

/// Records that the worktree is gone.
///
/// # Errors
/// [`DbError`].
pub async fn worktree_removed(db: &Db, adw_id: &str) -> Result<(), DbError> {
    crash::here(Point::RemovalUnstored);
    db.exec(
        "UPDATE runs SET worktree = 'removed', revision = revision + 1 \
         WHERE adw_id = $1 AND worktree = 'present' AND NOT active",
        args![adw_id],
    )
    .await?;
    crash::here(Point::RemovalStored);
    Ok(())
}

/// A run that uses the worktree of this ended one: itself, where it goes on, or another that is
/// active and names the same folder.
///
/// # Errors
/// [`DbError`].
pub async fn worktree_user(
    db: &Db,
    adw_id: &str,
    path: &Option<String>,
) -> Result<Option<String>, DbError> {
    let user: Option<(String,)> = db
        .optional(
            "SELECT adw_id FROM runs WHERE active AND (adw_id = $1 OR worktree_path = $2) ORDER BY seq LIMIT 1",
            args![adw_id, path.clone()],
        )
        .await?;
    Ok(user.map(|(id,)| id))
}

/// Ended runs of this host whose worktree is still there, oldest first: a page of those after
/// `after_seq`. Some of them stay for ever, so a caller that wants all goes on to the last page.
///
/// # Errors
/// [`DbError`].
pub async fn ended_with_worktree(
    db: &Db,
    host: &str,
    after_seq: i64,
) -> Result<Vec<RunRow>, DbError> {
    db.all(
        "SELECT * FROM runs \
         WHERE host = $1 AND seq > $2 AND worktree = 'present' AND origin = 'daemon' \
         AND NOT active ORDER BY seq LIMIT 200",
        args![host, after_seq],
    )
    .await
}

/// Records a new attempt, if the run is still running; nothing is spawned before this is stored.
///
/// # Errors
/// [`DbError`].
pub async fn begin_attempt(
    db: &Db,
    adw_id: &str,
    phase: &str,
    attempt: i64,
    dir: &str,
    now: Millis,
) -> Result<bool, DbError> {
    let mut tx = db.begin().await?;
    let n = tx
        .exec(
            "UPDATE runs SET retry_at = NULL, revision = revision + 1 \
             WHERE adw_id = $1 AND status = 'running' AND NOT stop_requested",
            args![adw_id],
        )
        .await?;
    if n == 1 {
        tx.exec(
            "INSERT INTO attempts (adw_id, phase, attempt, status, dir, started_at) \
             VALUES ($1, $2, $3, 'starting', $4, $5)",
            args![adw_id, phase, attempt, dir, now],
        )
        .await?;
    }
    crash::here(Point::AttemptUnbegun);
    tx.commit().await?;
    crash::here(Point::AttemptBegun);
    Ok(n == 1)
}

/// Records that an attempt's processes are there.
///
/// # Errors
/// [`DbError`].
pub async fn attempt_running(db: &Db, a: &AttemptRow) -> Result<(), DbError> {
    let mut tx = db.begin().await?;
    let n = tx
        .exec(
            "UPDATE attempts SET status = 'running' \
             WHERE adw_id = $1 AND phase = $2 AND attempt = $3 AND status = 'starting'",
            args![&a.adw_id, &a.phase, a.attempt],
        )
        .await?;
    if n == 1 {
        count_change(&mut tx, &a.adw_id).await?;
    }
    crash::here(Point::AttemptNotRunning);
    tx.commit().await?;
    crash::here(Point::AttemptRunning);
    Ok(())
}

/// A change of an attempt is a change of its run.
async fn count_change(tx: &mut Tx, adw_id: &str) -> Result<(), DbError> {
    tx.exec("UPDATE runs SET revision = revision + 1 WHERE adw_id = $1", args![adw_id])
        .await
        .map(drop)
}

/// Ends an attempt once; `false` where it had ended already.
///
/// # Errors
/// [`DbError`].
pub async fn end_attempt(
    db: &Db,
    a: &AttemptRow,
    end: &AttemptEnd,
    now: Millis,
) -> Result<bool, DbError> {
    let mut tx = db.begin().await?;
    let n = tx
        .exec(
            "UPDATE attempts SET status = $4, ended_at = $5, exit_code = $6, exit_signal = $7, \
             failure = $8, head_commit = $9 \
             WHERE adw_id = $1 AND phase = $2 AND attempt = $3 AND ended_at IS NULL",
            args![
                &a.adw_id,
                &a.phase,
                a.attempt,
                end.status.as_str(),
                now,
                end.exit_code,
                end.exit_signal,
                end.failure.as_ref().map(json),
                &end.head_commit,
            ],
        )
        .await?;
    if n == 1 {
        count_change(&mut tx, &a.adw_id).await?;
    }
    crash::here(Point::AttemptUnended);
    tx.commit().await?;
    crash::here(Point::AttemptEnded);
    Ok(n == 1)
}

/// Stores what was told.
///
/// # Errors
/// [`DbError`].
pub async fn tell(db: &Db, adw_id: &str, t: &Told) -> Result<(), DbError> {
    crash::here(Point::TellUnstored);
    db.exec(
        "UPDATE runs SET issue_title = COALESCE($2, issue_title), \
         issue_class = COALESCE($3, issue_class), branch = COALESCE($4, branch), \
         worktree_path = COALESCE(worktree_path, $5), worktree = \
         CASE WHEN worktree IS NULL AND $5 IS NOT NULL THEN 'present' ELSE worktree END, \
         plan_file = COALESCE($6, plan_file), pr_url = COALESCE($7, pr_url), \
         run_usage = COALESCE($8, run_usage), cost_usd = COALESCE($9, cost_usd), \
         state = COALESCE($10, state), state_at = COALESCE($11, state_at), \
         state_problem = NULLIF(COALESCE($12, state_problem), ''), revision = revision + 1 \
         WHERE adw_id = $1",
        args![
            adw_id,
            &t.issue_title,
            &t.issue_class,
            &t.branch,
            &t.worktree_path,
            &t.plan_file,
            &t.pr_url,
            &t.usage,
            t.cost_usd,
            &t.state,
            t.state_at,
            &t.state_problem,
        ],
    )
    .await?;
    crash::here(Point::TellStored);
    Ok(())
}

/// Records when the next automatic attempt is due.
///
/// # Errors
/// [`DbError`].
pub async fn set_retry_at(db: &Db, adw_id: &str, at: Millis) -> Result<(), DbError> {
    crash::here(Point::RetryUnstored);
    db.exec(
        "UPDATE runs SET retry_at = $2, revision = revision + 1 \
         WHERE adw_id = $1 AND (retry_at IS NULL OR retry_at <> $2)",
        args![adw_id, at],
    )
    .await?;
    crash::here(Point::RetryStored);
    Ok(())
}

/// Asks for the end of a run. A queued one ends at once: then the answer is `true`.
///
/// # Errors
/// [`DbError`].
pub async fn request_stop(
    db: &Db,
    adw_id: &str,
    failure: &Failure,
    now: Millis,
) -> Result<bool, DbError> {
    let mut tx = db.begin().await?;
    let ended = tx
        .exec(
            "UPDATE runs SET status = 'cancelled', active = FALSE, stop_requested = TRUE, \
             ended_at = $2, failure = $3, revision = revision + 1 \
             WHERE adw_id = $1 AND active AND status = 'queued'",
            args![adw_id, now, json(failure)],
        )
        .await?;
    tx.exec(
        "UPDATE runs SET status = 'stopping', stop_requested = TRUE, revision = revision + 1 \
         WHERE adw_id = $1 AND active AND status IN ('starting', 'running')",
        args![adw_id],
    )
    .await?;
    crash::here(Point::StopUncommitted);
    tx.commit().await?;
    crash::here(Point::StopStored);
    Ok(ended == 1)
}

/// Queues an ended run again; `false` where it is not in `from` any more. Another active run of
/// the issue is a unique violation. A worktree that is gone may be made again, by the scripts too.
///
/// # Errors
/// [`DbError`].
pub async fn requeue(
    tx: &mut Tx,
    adw_id: &str,
    from: RunStatus,
    q: &Requeue,
    now: Millis,
) -> Result<bool, DbError> {
    super::sql_lives::keep_life(tx, adw_id, from.as_str(), now).await?;
    let n = tx
        .exec(
            "UPDATE runs SET status = 'queued', active = TRUE, stop_requested = FALSE, \
             phases = $3, todo = $4, floors = $5, model = COALESCE($6, model), queued_at = $7, \
             ended_at = NULL, failure = NULL, retry_at = NULL, budget_stop = NULL, \
             revision = revision + 1, \
             worktree = CASE WHEN worktree = 'removed' THEN NULL ELSE worktree END \
             WHERE adw_id = $1 AND status = $2 AND origin = 'daemon'",
            args![adw_id, from.as_str(), &q.phases, &q.todo, &q.floors, &q.model, now],
        )
        .await?;
    Ok(n == 1)
}

/// Stores what a foreign run's state file says now; a run that the daemon started is never touched.
///
/// # Errors
/// [`DbError`].
pub async fn update_external(db: &Db, r: &RunRow) -> Result<bool, DbError> {
    crash::here(Point::ForeignUnchanged);
    let n = db
        .exec(
            "UPDATE runs SET status = $2, revision = revision + 1, issue_number = $3, \
             model = $4, issue_title = $5, issue_class = $6, branch = $7, base_branch = $8, \
             base_commit = $9, worktree_path = $10, worktree = $11, plan_file = $12, \
             pr_url = $13, run_usage = $14, cost_usd = $15, state = $16, state_at = $17, \
             state_problem = $18, ended_at = $19, triggered_by = $20, phases = $21, todo = $21 \
             WHERE adw_id = $1 AND origin = 'external'",
            args![
                &r.adw_id,
                &r.status,
                &r.issue_number,
                &r.model,
                &r.issue_title,
                &r.issue_class,
                &r.branch,
                &r.base_branch,
                &r.base_commit,
                &r.worktree_path,
                &r.worktree,
                &r.plan_file,
                &r.pr_url,
                &r.run_usage,
                r.cost_usd,
                &r.state,
                r.state_at,
                &r.state_problem,
                r.ended_at,
                &r.triggered_by,
                &r.phases,
            ],
        )
        .await?;
    crash::here(Point::ForeignChanged);
    Ok(n == 1)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // These are plain structs of strings and numbers: there is nothing in them that can fail.
    serde_json::to_string(value).unwrap_or_default()
}
