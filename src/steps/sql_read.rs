//! Every statement of the engine that the handle's reads are made of. None of them reads what it
//! does not show: contents and outputs are read where they were asked for.

use super::sql_rows::StepRow;
use super::view::{ArtifactFilter, EventFilter, ExecutionFilter, ExecutionState, StepStatus};
use crate::args;
use crate::clock::Millis;
use crate::db::{Db, DbError};

crate::row! {
    /// An execution beside one of its steps; without a step where none is meant.
    #[derive(Clone, Debug)]
    struct Beside {
        workflow_name: String,
        snapshot_hash: String,
        state: ExecutionState,
        state_reason: Option<String>,
        waiting_step: Option<String>,
        synthesis: Option<String>,
        step_name: Option<String>,
        ordinal: Option<usize>,
        agent_name: Option<String>,
        status: Option<StepStatus>,
        attempt: Option<u32>,
        approved: Option<bool>,
        nonce: Option<String>,
        kid: Option<String>,
        issued_at: Option<Millis>,
        started_at: Option<Millis>,
        completed_at: Option<Millis>,
        output_digest: Option<String>,
        contract: Option<String>,
    }

    /// One step of an execution, beside the execution.
    #[derive(Clone, Debug)]
    pub struct WholeRow {
        /// Id.
        pub execution_id: String,
        /// Workflow.
        pub workflow_name: String,
        /// Hash of its snapshot.
        pub snapshot_hash: String,
        /// Project.
        pub project: Option<String>,
        /// Where it stands.
        pub state: ExecutionState,
        /// Why.
        pub state_reason: Option<String>,
        /// The step that waits for approval.
        pub waiting_step: Option<String>,
        /// Steps that may be out at once.
        pub max_parallel: u32,
        /// Made.
        pub created_at: Millis,
        /// Started.
        pub started_at: Option<Millis>,
        /// Last changed.
        pub updated_at: Millis,
        /// Ended.
        pub completed_at: Option<Millis>,
        /// The step.
        pub step_name: String,
        /// Its place.
        pub ordinal: usize,
        /// Its agent.
        pub agent_name: String,
        /// Where it stands.
        pub status: StepStatus,
        /// Its attempt.
        pub attempt: u32,
        /// First handed out.
        pub step_started_at: Option<Millis>,
        /// Taken in or given up.
        pub step_completed_at: Option<Millis>,
    }

    /// One line of a list of executions.
    #[derive(Clone, Debug)]
    pub struct SummaryRow {
        /// Id.
        pub execution_id: String,
        /// Workflow.
        pub workflow_name: String,
        /// Project.
        pub project: Option<String>,
        /// Where it stands.
        pub state: ExecutionState,
        /// Made.
        pub created_at: Millis,
        /// Last changed.
        pub updated_at: Millis,
        /// Steps.
        pub steps_total: u32,
        /// Those completed.
        pub steps_completed: u32,
    }

    /// A row of `execution_artifacts`, with its content where it was asked for.
    #[derive(Clone, Debug)]
    pub struct ArtifactRow {
        /// Number.
        pub id: i64,
        /// UUID.
        pub artifact_id: String,
        /// Execution.
        pub execution_id: String,
        /// Step.
        pub step_name: Option<String>,
        /// Agent.
        pub agent_name: Option<String>,
        /// Type.
        pub artifact_type: String,
        /// Kind.
        pub kind: String,
        /// Title.
        pub title: String,
        /// What it is.
        pub description: Option<String>,
        /// Mime type.
        pub content_type: String,
        /// Size.
        pub size_bytes: i64,
        /// SHA-256 of the content.
        pub sha256: String,
        /// Whether it is final.
        pub is_final: bool,
        /// JSON.
        pub metadata: Option<String>,
        /// Stored.
        pub created_at: Millis,
        /// The content.
        pub content: Option<String>,
    }

    /// A row of `step_events`.
    #[derive(Clone, Debug)]
    pub struct EventRow {
        /// Number.
        pub id: i64,
        /// Type.
        pub event_type: String,
        /// Execution.
        pub execution_id: Option<String>,
        /// Step.
        pub step_name: Option<String>,
        /// Agent.
        pub agent_name: Option<String>,
        /// JSON.
        pub metadata: String,
        /// When.
        pub created_at: Millis,
    }
}

/// What a read of the current step needs of the execution.
#[derive(Clone, Debug)]
pub struct Head {
    /// Workflow.
    pub workflow_name: String,
    /// Hash of its snapshot.
    pub snapshot_hash: String,
    /// Where it stands.
    pub state: ExecutionState,
    /// Why.
    pub state_reason: Option<String>,
    /// The step that waits for approval.
    pub waiting_step: Option<String>,
    /// JSON.
    pub synthesis: Option<String>,
}

/// A step and its contract, JSON.
pub type Held = (StepRow, Option<String>);

impl Beside {
    fn parts(self) -> (Head, Option<Held>) {
        let step = match (self.step_name, self.status) {
            (Some(step_name), Some(status)) => Some(StepRow {
                step_name,
                ordinal: self.ordinal.unwrap_or_default(),
                agent_name: self.agent_name.unwrap_or_default(),
                status,
                attempt: self.attempt.unwrap_or_default(),
                approved: self.approved.unwrap_or_default(),
                nonce: self.nonce,
                kid: self.kid,
                issued_at: self.issued_at,
                started_at: self.started_at,
                completed_at: self.completed_at,
                output_digest: self.output_digest,
                focus: None,
            }),
            _ => None,
        };
        let head = Head {
            workflow_name: self.workflow_name,
            snapshot_hash: self.snapshot_hash,
            state: self.state,
            state_reason: self.state_reason,
            waiting_step: self.waiting_step,
            synthesis: self.synthesis,
        };
        (head, step.map(|step| (step, self.contract)))
    }
}

macro_rules! beside {
    ($which:literal) => {
        concat!(
            "SELECT e.workflow_name, e.snapshot_hash, e.state, e.state_reason, e.waiting_step, \
             e.synthesis, s.step_name, s.ordinal, s.agent_name, s.status, s.attempt, s.approved, \
             s.nonce, s.kid, s.issued_at, s.started_at, s.completed_at, s.output_digest, \
             s.contract FROM executions e LEFT JOIN execution_steps s \
             ON s.execution_id = e.execution_id AND ",
            $which,
            " WHERE e.execution_id = $1 ORDER BY s.started_at, s.ordinal"
        )
    };
}

/// An execution and one of its steps, if it has it.
///
/// # Errors
/// [`DbError`].
pub async fn execution_step(
    db: &Db,
    id: &str,
    step_name: &str,
) -> Result<Option<(Head, Option<Held>)>, DbError> {
    let row: Option<Beside> =
        db.optional(beside!("s.step_name = $2"), args![id, step_name]).await?;
    Ok(row.map(Beside::parts))
}

/// An execution, the steps that are out, in the order in which they were handed out, and the one
/// that waits for approval.
///
/// # Errors
/// [`DbError`].
pub async fn current(db: &Db, id: &str) -> Result<Option<(Head, Vec<Held>)>, DbError> {
    let rows: Vec<Beside> = db
        .all(beside!("(s.status = 'running' OR s.step_name = e.waiting_step)"), args![id])
        .await?;
    let mut parts = rows.into_iter().map(Beside::parts);
    let Some((head, first)) = parts.next() else { return Ok(None) };
    let held = first.into_iter().chain(parts.filter_map(|(_, held)| held)).collect();
    Ok(Some((head, held)))
}

/// An execution with all its steps, in the workflow's order: a row for each.
///
/// # Errors
/// [`DbError`].
pub async fn whole(db: &Db, id: &str) -> Result<Vec<WholeRow>, DbError> {
    db.all(
        "SELECT e.execution_id, e.workflow_name, e.snapshot_hash, e.project, e.state, \
         e.state_reason, e.waiting_step, e.max_parallel, e.created_at, e.started_at, e.updated_at, \
         e.completed_at, s.step_name, s.ordinal, s.agent_name, s.status, s.attempt, \
         s.started_at AS step_started_at, s.completed_at AS step_completed_at \
         FROM executions e JOIN execution_steps s ON s.execution_id = e.execution_id \
         WHERE e.execution_id = $1 ORDER BY s.ordinal",
        args![id],
    )
    .await
}

/// The synthesis of an execution, JSON; it never changes once it is there.
///
/// # Errors
/// [`DbError`].
pub async fn synthesis(db: &Db, id: &str) -> Result<Option<String>, DbError> {
    db.one("SELECT synthesis FROM executions WHERE execution_id = $1", args![id])
        .await
        .map(|(synthesis,): (Option<String>,)| synthesis)
}

/// What the steps submitted, JSON, by step.
///
/// # Errors
/// [`DbError`].
pub async fn outputs(db: &Db, id: &str) -> Result<Vec<(String, String)>, DbError> {
    db.all(
        "SELECT step_name, output FROM execution_outputs WHERE execution_id = $1 \
         ORDER BY step_name",
        args![id],
    )
    .await
}

/// The steps' artifacts by id, in the order in which they were stored.
///
/// # Errors
/// [`DbError`].
pub async fn artifact_ids(db: &Db, id: &str) -> Result<Vec<(String, String)>, DbError> {
    db.all(
        "SELECT step_name, artifact_id FROM execution_artifacts \
         WHERE execution_id = $1 AND step_name IS NOT NULL ORDER BY id",
        args![id],
    )
    .await
}

macro_rules! executions {
    ($which:literal) => {
        concat!(
            "SELECT e.execution_id, e.workflow_name, e.project, e.state, e.created_at, \
             e.updated_at, CAST((SELECT COUNT(*) FROM execution_steps s \
             WHERE s.execution_id = e.execution_id) AS BIGINT) AS steps_total, \
             CAST((SELECT COUNT(*) FROM execution_steps s WHERE s.execution_id = e.execution_id \
             AND s.status = 'completed') AS BIGINT) AS steps_completed FROM executions e WHERE ",
            $which,
            " AND ($1 IS NULL OR e.state = $1) AND ($2 IS NULL OR e.project = $2) \
             AND ($3 IS NULL OR e.workflow_name = $3) \
             ORDER BY e.created_at DESC, e.execution_id DESC LIMIT $4"
        )
    };
}

/// Executions, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn executions(
    db: &Db,
    f: &ExecutionFilter,
    limit: u32,
) -> Result<Vec<SummaryRow>, DbError> {
    // Apart, so that each goes along an index of its own.
    let sql = match (&f.project, f.open_only) {
        (_, true) => executions!("e.active"),
        (Some(_), false) => executions!("e.project = $2"),
        (None, false) => executions!("TRUE"),
    };
    let state = f.state.map(ExecutionState::as_str);
    db.all(sql, args![state, &f.project, &f.workflow, limit]).await
}

/// The newest execution that has not ended.
///
/// # Errors
/// [`DbError`].
pub async fn active(db: &Db, project: Option<&str>) -> Result<Option<String>, DbError> {
    let found: Option<(String,)> = db
        .optional(
            "SELECT execution_id FROM executions WHERE active AND ($1 IS NULL OR project = $1) \
             ORDER BY created_at DESC, execution_id DESC LIMIT 1",
            args![project],
        )
        .await?;
    Ok(found.map(|(id,)| id))
}

macro_rules! artifacts {
    ($content:literal, $join:literal, $which:literal) => {
        concat!(
            "SELECT a.id, a.artifact_id, a.execution_id, a.step_name, a.agent_name, \
             a.artifact_type, a.kind, a.title, a.description, a.content_type, a.size_bytes, \
             a.sha256, a.is_final, a.metadata, a.created_at, ",
            $content,
            " AS content FROM execution_artifacts a ",
            $join,
            " WHERE ",
            $which
        )
    };
    (list $which:literal, $with:expr) => {
        if $with {
            artifacts!(
                "c.content",
                "JOIN artifact_contents c ON c.artifact_id = a.artifact_id",
                $which
            )
        } else {
            artifacts!("CAST(NULL AS TEXT)", "", $which)
        }
    };
}

/// Artifacts, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn artifacts(
    db: &Db,
    f: &ArtifactFilter,
    limit: u32,
) -> Result<Vec<ArtifactRow>, DbError> {
    let with = f.with_content;
    // Apart, so that each goes along an index of its own.
    let sql = match (&f.execution_id, &f.artifact_type, f.is_final) {
        (Some(_), ..) => artifacts!(
            list "a.execution_id = $1 AND ($2 IS NULL OR a.step_name = $2) \
                  AND ($3 IS NULL OR a.artifact_type = $3) AND ($4 IS NULL OR a.is_final = $4) \
                  ORDER BY a.id DESC LIMIT $5", with),
        (None, Some(_), _) => artifacts!(
            list "a.artifact_type = $3 AND ($2 IS NULL OR a.step_name = $2) \
                  AND ($1 IS NULL OR a.execution_id = $1) AND ($4 IS NULL OR a.is_final = $4) \
                  ORDER BY a.id DESC LIMIT $5", with),
        (None, None, Some(true)) => artifacts!(
            list "a.is_final AND ($2 IS NULL OR a.step_name = $2) \
                  AND ($1 IS NULL OR a.execution_id = $1) AND ($3 IS NULL OR a.artifact_type = $3) \
                  AND ($4 IS NULL OR a.is_final = $4) ORDER BY a.id DESC LIMIT $5", with),
        (None, None, _) => artifacts!(
            list "($1 IS NULL OR a.execution_id = $1) AND ($2 IS NULL OR a.step_name = $2) \
                  AND ($3 IS NULL OR a.artifact_type = $3) AND ($4 IS NULL OR a.is_final = $4) \
                  ORDER BY a.id DESC LIMIT $5", with),
    };
    db.all(sql, args![&f.execution_id, &f.step_name, &f.artifact_type, f.is_final, limit]).await
}

/// One artifact with its content.
///
/// # Errors
/// [`DbError`].
pub async fn artifact(db: &Db, artifact_id: &str) -> Result<Option<ArtifactRow>, DbError> {
    db.optional(
        artifacts!(
            "c.content",
            "JOIN artifact_contents c ON c.artifact_id = a.artifact_id",
            "a.artifact_id = $1"
        ),
        args![artifact_id],
    )
    .await
}

macro_rules! events {
    ($which:literal) => {
        concat!(
            "SELECT id, event_type, execution_id, step_name, agent_name, metadata, created_at \
             FROM step_events WHERE ",
            $which,
            " ORDER BY id DESC LIMIT $3"
        )
    };
}

/// Events, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn events(db: &Db, f: &EventFilter, limit: u32) -> Result<Vec<EventRow>, DbError> {
    let sql = match (&f.execution_id, &f.event_type) {
        (Some(_), _) => events!("execution_id = $1 AND ($2 IS NULL OR event_type = $2)"),
        (None, Some(_)) => events!("event_type = $2 AND ($1 IS NULL OR execution_id = $1)"),
        (None, None) => {
            events!("($1 IS NULL OR execution_id = $1) AND ($2 IS NULL OR event_type = $2)")
        }
    };
    db.all(sql, args![&f.execution_id, &f.event_type, limit]).await
}

/// The newest event's number; 0 where there is none.
///
/// # Errors
/// [`DbError`].
pub async fn newest_event(db: &Db) -> Result<i64, DbError> {
    db.one("SELECT COALESCE(MAX(id), CAST(0 AS BIGINT)) FROM step_events", args![])
        .await
        .map(|(id,): (i64,)| id)
}
