//! Every statement of the runs slice. One text for both engines; each status change names the
//! status it moves from, so that of two writers one wins and the other learns it.

use std::collections::BTreeMap;

use super::run::{AttemptFacts, RunFacts};
use super::view::{Failure, ListFilter, RunStatus};
use crate::args;
use crate::clock::Millis;
use crate::db::{Db, DbError, Tx};

crate::row! {
    /// A row of `runs`.
    #[derive(Clone, Debug)]
    #[allow(missing_docs, reason = "the columns are described in RunView")]
    pub struct RunRow {
        pub adw_id: String,
        pub seq: i64,
        pub project: String,
        pub issue_number: String,
        pub host: String,
        pub origin: String,
        pub profile: String,
        pub status: String,
        pub active: bool,
        pub stop_requested: bool,
        pub revision: i64,
        pub priority: i64,
        pub phases: String,
        pub todo: String,
        pub floors: String,
        pub digest: String,
        pub model: Option<String>,
        pub skip_cleanup: bool,
        pub triggered_by: String,
        pub transport: String,
        pub request_id: Option<String>,
        pub user_id: Option<String>,
        pub created_at: i64,
        pub queued_at: i64,
        pub started_at: Option<i64>,
        pub ended_at: Option<i64>,
        pub retry_at: Option<i64>,
        pub issue_title: Option<String>,
        pub issue_class: Option<String>,
        pub branch: Option<String>,
        pub base_branch: Option<String>,
        pub base_commit: Option<String>,
        pub worktree_path: Option<String>,
        pub worktree: Option<String>,
        pub plan_file: Option<String>,
        pub pr_url: Option<String>,
        pub failure: Option<String>,
        pub run_usage: Option<String>,
        pub cost_usd: Option<f64>,
        pub state: Option<String>,
        pub state_at: Option<i64>,
        pub state_problem: Option<String>,
    }
}

impl RunRow {
    /// The status; a word that this program does not know reads as lost.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        RunStatus::parse(&self.status).unwrap_or(RunStatus::Lost)
    }

    /// All phases the run was ever asked for.
    #[must_use]
    pub fn phases(&self) -> Vec<String> {
        serde_json::from_str(&self.phases).unwrap_or_default()
    }

    /// Phases of the present life.
    #[must_use]
    pub fn todo(&self) -> Vec<String> {
        serde_json::from_str(&self.todo).unwrap_or_default()
    }

    /// The failure.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.as_deref().and_then(|f| serde_json::from_str(f).ok())
    }

    /// The facts of the state machine.
    #[must_use]
    pub fn facts(&self, attempts: &[AttemptRow]) -> RunFacts {
        RunFacts {
            status: self.status(),
            todo: self.todo(),
            floors: serde_json::from_str::<BTreeMap<String, i64>>(&self.floors).unwrap_or_default(),
            attempts: attempts.iter().map(AttemptRow::facts).collect(),
            stop_requested: self.stop_requested,
        }
    }
}

crate::row! {
    /// A row of `attempts`.
    #[derive(Clone, Debug)]
    #[allow(missing_docs, reason = "the columns are described in AttemptView")]
    pub struct AttemptRow {
        pub adw_id: String,
        pub phase: String,
        pub attempt: i64,
        pub status: String,
        pub dir: String,
        pub started_at: i64,
        pub ended_at: Option<i64>,
        pub exit_code: Option<i64>,
        pub exit_signal: Option<i64>,
        pub failure: Option<String>,
        pub head_commit: Option<String>,
    }
}

impl AttemptRow {
    /// The status; a word that this program does not know reads as lost.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        RunStatus::parse(&self.status).unwrap_or(RunStatus::Lost)
    }

    /// The failure.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.as_deref().and_then(|f| serde_json::from_str(f).ok())
    }

    fn facts(&self) -> AttemptFacts {
        AttemptFacts {
            phase: self.phase.clone(),
            attempt: self.attempt,
            status: self.status(),
            failure: self.failure(),
            ended_at: self.ended_at.map(Millis),
        }
    }
}

/// Stores a new run. A second active run of the issue, or a taken id, is a unique violation.
///
/// # Errors
/// [`DbError`]; `is_unique` tells the case above.
pub async fn insert_run(tx: &mut Tx, r: &RunRow) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO runs (adw_id, seq, project, issue_number, host, origin, profile, \
         status, active, stop_requested, revision, priority, phases, todo, \
         floors, digest, model, skip_cleanup, triggered_by, transport, request_id, \
         user_id, created_at, queued_at, ended_at, issue_title, issue_class, branch, \
         worktree_path, worktree, plan_file, pr_url, state, state_at, state_problem) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35)",
        args![&r.adw_id, r.seq, &r.project, &r.issue_number, &r.host, &r.origin, &r.profile, &r.status, r.active, r.stop_requested, r.revision, r.priority, &r.phases, &r.todo, &r.floors, &r.digest, r.model.clone(), r.skip_cleanup, &r.triggered_by, &r.transport, r.request_id.clone(), r.user_id.clone(), r.created_at, r.queued_at, r.ended_at, r.issue_title.clone(), r.issue_class.clone(), r.branch.clone(), r.worktree_path.clone(), r.worktree.clone(), r.plan_file.clone(), r.pr_url.clone(), r.state.clone(), r.state_at, r.state_problem.clone()],
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

/// The attempts of a run, in the order they were made.
///
/// # Errors
/// [`DbError`].
pub async fn attempts(db: &Db, adw_id: &str) -> Result<Vec<AttemptRow>, DbError> {
    db.all(
        "SELECT * FROM attempts WHERE adw_id = $1 ORDER BY started_at, phase, attempt",
        args![adw_id],
    )
    .await
}

/// Runs of this host that have not ended, the next to leave the queue first.
///
/// # Errors
/// [`DbError`].
pub async fn active_runs(db: &Db, host: &str) -> Result<Vec<RunRow>, DbError> {
    db.all(
        "SELECT * FROM runs WHERE host = $1 AND active ORDER BY priority DESC, queued_at, seq",
        args![host],
    )
    .await
}

/// The active run of an issue, whichever host has it.
///
/// # Errors
/// [`DbError`].
pub async fn active_run_of_issue(db: &Db, project: &str, issue: &str) -> Result<Option<RunRow>, DbError> {
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
pub async fn newest_run_of_issue(db: &Db, project: &str, issue: &str) -> Result<Option<RunRow>, DbError> {
    db.optional(
        "SELECT * FROM runs WHERE project = $1 AND issue_number = $2 ORDER BY seq DESC LIMIT 1",
        args![project, issue],
    )
    .await
}

/// A page of runs, newest first, and how many match in all. `before_seq` is the cursor.
///
/// # Errors
/// [`DbError`].
pub async fn list(db: &Db, f: &ListFilter, before_seq: Option<i64>, limit: i64) -> Result<(Vec<RunRow>, i64), DbError> {
    let prefix = f.adw_id_prefix.as_deref().map(|p| format!("{}%", p.replace('!', "!!").replace('%', "!%").replace('_', "!_")));
    let status = f.status.map(|s| s.as_str().to_owned());
    let rows = db
        .all(
            "SELECT * FROM runs WHERE ($1 IS NULL OR adw_id LIKE $1 ESCAPE '!') AND ($2 IS NULL OR status = $2) \
             AND ($3 IS NULL OR project = $3) AND ($4 IS NULL OR issue_number = $4) \
             AND ($5 IS NULL OR created_at >= $5) AND ($6 IS NULL OR seq < $6) ORDER BY seq DESC LIMIT $7",
            args![prefix.clone(), status.clone(), f.project.clone(), f.issue_number.clone(), f.since_ms, before_seq, limit],
        )
        .await?;
    let (total,): (i64,) = db
        .one(
            "SELECT COUNT(*) FROM runs WHERE ($1 IS NULL OR adw_id LIKE $1 ESCAPE '!') AND ($2 IS NULL OR status = $2) \
             AND ($3 IS NULL OR project = $3) AND ($4 IS NULL OR issue_number = $4) \
             AND ($5 IS NULL OR created_at >= $5)",
            args![prefix, status, f.project.clone(), f.issue_number.clone(), f.since_ms],
        )
        .await?;
    Ok((rows, total))
}

/// How many runs of this host wait in the queue.
///
/// # Errors
/// [`DbError`].
pub async fn waiting(tx: &mut Tx, host: &str) -> Result<i64, DbError> {
    let (n,): (i64,) = tx
        .one("SELECT COUNT(*) FROM runs WHERE host = $1 AND active AND status = 'queued'", args![host])
        .await?;
    Ok(n)
}

/// How many active runs a project has on this host.
///
/// # Errors
/// [`DbError`].
pub async fn active_of_project(db: &Db, host: &str, project: &str) -> Result<i64, DbError> {
    let (n,): (i64,) = db
        .one("SELECT COUNT(*) FROM runs WHERE host = $1 AND project = $2 AND active", args![host, project])
        .await?;
    Ok(n)
}

/// Moves a run from one status to another; `false` where it was not in the first any more.
///
/// # Errors
/// [`DbError`].
pub async fn move_status(db: &Db, adw_id: &str, from: RunStatus, to: RunStatus, now: Millis) -> Result<bool, DbError> {
    debug_assert!(super::run::may_move(from, to), "{from} -> {to}");
    let n = db
        .exec(
            "UPDATE runs SET status = $3, revision = revision + 1, started_at = COALESCE(started_at, $4) \
             WHERE adw_id = $1 AND status = $2",
            args![adw_id, from.as_str(), to.as_str(), now],
        )
        .await?;
    Ok(n == 1)
}

/// Ends a run; `false` where it was not in `from` any more.
///
/// # Errors
/// [`DbError`].
pub async fn finish(db: &Db, adw_id: &str, from: RunStatus, to: RunStatus, failure: Option<&Failure>, now: Millis) -> Result<bool, DbError> {
    debug_assert!(super::run::may_move(from, to), "{from} -> {to}");
    let n = db
        .exec(
            "UPDATE runs SET status = $3, active = FALSE, revision = revision + 1, ended_at = $4, failure = $5, retry_at = NULL \
             WHERE adw_id = $1 AND status = $2",
            args![adw_id, from.as_str(), to.as_str(), now, failure.map(json)],
        )
        .await?;
    Ok(n == 1)
}

/// What preparing a run found out.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The worktree, where the daemon made one.
    pub worktree_path: Option<String>,
    /// The base branch.
    pub base_branch: Option<String>,
    /// The base commit.
    pub base_commit: Option<String>,
}

/// Records the worktree before anything runs in it.
///
/// # Errors
/// [`DbError`].
pub async fn set_prepared(db: &Db, adw_id: &str, p: &Prepared) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE runs SET worktree_path = COALESCE($2, worktree_path), worktree = CASE WHEN $2 IS NULL THEN worktree ELSE 'present' END, \
             base_branch = COALESCE($3, base_branch), base_commit = COALESCE($4, base_commit), revision = revision + 1 \
             WHERE adw_id = $1",
            args![adw_id, p.worktree_path.clone(), p.base_branch.clone(), p.base_commit.clone()],
        )
        .await?;
    Ok(n == 1)
}

/// Records that the worktree is gone.
///
/// # Errors
/// [`DbError`].
pub async fn worktree_removed(db: &Db, adw_id: &str) -> Result<(), DbError> {
    db.exec(
        "UPDATE runs SET worktree = 'removed', revision = revision + 1 WHERE adw_id = $1 AND worktree = 'present' AND NOT active",
        args![adw_id],
    )
    .await
    .map(drop)
}

/// A run that uses the worktree of this ended one: itself, where it goes on, or another that is
/// active and names the same folder.
///
/// # Errors
/// [`DbError`].
pub async fn worktree_user(db: &Db, adw_id: &str, path: &Option<String>) -> Result<Option<String>, DbError> {
    let user: Option<(String,)> = db
        .optional(
            "SELECT adw_id FROM runs WHERE active AND (adw_id = $1 OR worktree_path = $2) ORDER BY seq LIMIT 1",
            args![adw_id, path.clone()],
        )
        .await?;
    Ok(user.map(|(id,)| id))
}

/// Ended runs of this host whose worktree is still there.
///
/// # Errors
/// [`DbError`].
pub async fn ended_with_worktree(db: &Db, host: &str) -> Result<Vec<RunRow>, DbError> {
    db.all(
        "SELECT * FROM runs WHERE host = $1 AND worktree = 'present' AND origin = 'daemon' AND NOT active ORDER BY seq LIMIT 200",
        args![host],
    )
    .await
}

/// Records a new attempt, if the run is still running; nothing is spawned before this is stored.
///
/// # Errors
/// [`DbError`].
pub async fn begin_attempt(db: &Db, adw_id: &str, phase: &str, attempt: i64, dir: &str, now: Millis) -> Result<bool, DbError> {
    let mut tx = db.begin().await?;
    let n = tx
        .exec(
            "UPDATE runs SET retry_at = NULL, revision = revision + 1 WHERE adw_id = $1 AND status = 'running' AND NOT stop_requested",
            args![adw_id],
        )
        .await?;
    if n == 1 {
        tx.exec(
            "INSERT INTO attempts (adw_id, phase, attempt, status, dir, started_at) VALUES ($1, $2, $3, 'starting', $4, $5)",
            args![adw_id, phase, attempt, dir, now],
        )
        .await?;
    }
    tx.commit().await?;
    Ok(n == 1)
}

/// Records that an attempt's processes are there.
///
/// # Errors
/// [`DbError`].
pub async fn attempt_running(db: &Db, a: &AttemptRow) -> Result<(), DbError> {
    db.exec(
        "UPDATE attempts SET status = 'running' WHERE adw_id = $1 AND phase = $2 AND attempt = $3 AND status = 'starting'",
        args![&a.adw_id, &a.phase, a.attempt],
    )
    .await
    .map(drop)
}

/// The end of an attempt, as it is stored.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// A terminal status.
    pub status: RunStatus,
    /// Exit code.
    pub exit_code: Option<i64>,
    /// Signal.
    pub exit_signal: Option<i64>,
    /// Failure.
    pub failure: Option<Failure>,
    /// Commit of the branch.
    pub head_commit: Option<String>,
}

/// Ends an attempt once; `false` where it had ended already.
///
/// # Errors
/// [`DbError`].
pub async fn end_attempt(db: &Db, a: &AttemptRow, end: &AttemptEnd, now: Millis) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE attempts SET status = $4, ended_at = $5, exit_code = $6, exit_signal = $7, failure = $8, head_commit = $9 \
             WHERE adw_id = $1 AND phase = $2 AND attempt = $3 AND ended_at IS NULL",
            args![
                &a.adw_id, &a.phase, a.attempt, end.status.as_str(), now, end.exit_code, end.exit_signal,
                end.failure.as_ref().map(json), end.head_commit.clone()
            ],
        )
        .await?;
    Ok(n == 1)
}

/// Facts of a run that its state file, markers or layout tell. Absent ones leave what is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Title of the issue.
    pub issue_title: Option<String>,
    /// Class of the issue.
    pub issue_class: Option<String>,
    /// Branch.
    pub branch: Option<String>,
    /// Worktree.
    pub worktree_path: Option<String>,
    /// Plan file.
    pub plan_file: Option<String>,
    /// Pull request.
    pub pr_url: Option<String>,
    /// Usage, as JSON: per phase and `total`.
    pub usage: Option<String>,
    /// Cost in total, US dollars.
    pub cost_usd: Option<f64>,
    /// The state file's object.
    pub state: Option<String>,
    /// When it was read.
    pub state_at: Option<Millis>,
    /// What is wrong with the file now; `Some("")` clears.
    pub state_problem: Option<String>,
}

/// Stores what was told.
///
/// # Errors
/// [`DbError`].
pub async fn tell(db: &Db, adw_id: &str, t: &Told) -> Result<(), DbError> {
    db.exec(
        "UPDATE runs SET issue_title = COALESCE($2, issue_title), issue_class = COALESCE($3, issue_class), \
         branch = COALESCE($4, branch), worktree_path = COALESCE(worktree_path, $5), \
         worktree = CASE WHEN worktree IS NULL AND $5 IS NOT NULL THEN 'present' ELSE worktree END, \
         plan_file = COALESCE($6, plan_file), pr_url = COALESCE($7, pr_url), run_usage = COALESCE($8, run_usage), \
         cost_usd = COALESCE($9, cost_usd), state = COALESCE($10, state), state_at = COALESCE($11, state_at), \
         state_problem = NULLIF(COALESCE($12, state_problem), ''), revision = revision + 1 WHERE adw_id = $1",
        args![
            adw_id, t.issue_title.clone(), t.issue_class.clone(), t.branch.clone(), t.worktree_path.clone(),
            t.plan_file.clone(), t.pr_url.clone(), t.usage.clone(), t.cost_usd, t.state.clone(),
            t.state_at.map(|m| m.0), t.state_problem.clone()
        ],
    )
    .await
    .map(drop)
}

/// Records when the next automatic attempt is due.
///
/// # Errors
/// [`DbError`].
pub async fn set_retry_at(db: &Db, adw_id: &str, at: Millis) -> Result<(), DbError> {
    db.exec(
        "UPDATE runs SET retry_at = $2, revision = revision + 1 WHERE adw_id = $1 AND (retry_at IS NULL OR retry_at <> $2)",
        args![adw_id, at],
    )
    .await
    .map(drop)
}

/// Asks for the end of a run. A queued one ends at once.
///
/// # Errors
/// [`DbError`].
pub async fn request_stop(db: &Db, adw_id: &str, failure: &Failure, now: Millis) -> Result<(), DbError> {
    let mut tx = db.begin().await?;
    tx.exec(
        "UPDATE runs SET status = 'cancelled', active = FALSE, stop_requested = TRUE, ended_at = $2, failure = $3, \
         revision = revision + 1 WHERE adw_id = $1 AND status = 'queued'",
        args![adw_id, now, json(failure)],
    )
    .await?;
    tx.exec(
        "UPDATE runs SET status = 'stopping', stop_requested = TRUE, revision = revision + 1 \
         WHERE adw_id = $1 AND status IN ('starting', 'running')",
        args![adw_id],
    )
    .await?;
    tx.commit().await
}

/// What a resume stores.
#[derive(Clone, Debug)]
pub struct Requeue {
    /// All phases ever asked for.
    pub phases: String,
    /// Phases of the new life.
    pub todo: String,
    /// Floors of the new life.
    pub floors: String,
    /// Model, where a new one is asked for.
    pub model: Option<String>,
}

/// Queues an ended run again; `false` where it is not in `from` any more. Another active run of
/// the issue is a unique violation.
///
/// # Errors
/// [`DbError`].
pub async fn requeue(tx: &mut Tx, adw_id: &str, from: RunStatus, q: &Requeue, now: Millis) -> Result<bool, DbError> {
    let n = tx
        .exec(
            "UPDATE runs SET status = 'queued', active = TRUE, stop_requested = FALSE, phases = $3, todo = $4, floors = $5, \
             model = COALESCE($6, model), queued_at = $7, ended_at = NULL, failure = NULL, retry_at = NULL, revision = revision + 1 \
             WHERE adw_id = $1 AND status = $2 AND origin = 'daemon'",
            args![adw_id, from.as_str(), &q.phases, &q.todo, &q.floors, q.model.clone(), now],
        )
        .await?;
    Ok(n == 1)
}

/// A stored request key: tool, digest of its arguments, run.
///
/// # Errors
/// [`DbError`].
pub async fn request_key(db: &Db, key: &str) -> Result<Option<(String, String, String)>, DbError> {
    db.optional("SELECT tool, digest, adw_id FROM request_keys WHERE request_key = $1", args![key]).await
}

/// Stores a request key together with the run it made.
///
/// # Errors
/// [`DbError`]; a key that is there already is a unique violation.
pub async fn insert_request_key(tx: &mut Tx, key: &str, tool: &str, digest: &str, adw_id: &str, now: Millis) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO request_keys (request_key, tool, digest, adw_id, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![key, tool, digest, adw_id, now],
    )
    .await
    .map(drop)
}

/// Projects added by command on this host: name and path.
///
/// # Errors
/// [`DbError`].
pub async fn projects(db: &Db, host: &str) -> Result<Vec<(String, String)>, DbError> {
    db.all("SELECT name, path FROM projects WHERE host = $1 ORDER BY added_at, name", args![host]).await
}

/// Stores a project.
///
/// # Errors
/// [`DbError`]; a name or path that is there already is a unique violation.
pub async fn insert_project(db: &Db, name: &str, host: &str, path: &str, now: Millis) -> Result<(), DbError> {
    db.exec(
        "INSERT INTO projects (name, host, path, added_at) VALUES ($1, $2, $3, $4)",
        args![name, host, path, now],
    )
    .await
    .map(drop)
}

/// Forgets a project; `false` where there was none.
///
/// # Errors
/// [`DbError`].
pub async fn delete_project(db: &Db, name: &str, host: &str) -> Result<bool, DbError> {
    Ok(db.exec("DELETE FROM projects WHERE name = $1 AND host = $2", args![name, host]).await? == 1)
}

/// Stores what a foreign run's state file says now; a run that the daemon started is never touched.
///
/// # Errors
/// [`DbError`].
pub async fn update_external(db: &Db, r: &RunRow) -> Result<bool, DbError> {
    let n = db
        .exec(
            "UPDATE runs SET status = $2, revision = revision + 1, issue_number = $3, issue_title = $4, issue_class = $5, branch = $6, \
             worktree_path = $7, plan_file = $8, pr_url = $9, state = $10, state_at = $11, state_problem = $12, ended_at = $13, \
             triggered_by = $14, phases = $15, todo = $15 WHERE adw_id = $1 AND origin = 'external'",
            args![
                &r.adw_id, &r.status, &r.issue_number, r.issue_title.clone(), r.issue_class.clone(), r.branch.clone(),
                r.worktree_path.clone(), r.plan_file.clone(), r.pr_url.clone(), r.state.clone(), r.state_at,
                r.state_problem.clone(), r.ended_at, &r.triggered_by, &r.phases
            ],
        )
        .await?;
    Ok(n == 1)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // These are plain structs of strings and numbers: there is nothing in them that can fail.
    serde_json::to_string(value).unwrap_or_default()
}
