//! Starting an execution.

use serde_json::json;

use super::ctx::{Ctx, json as text};
use super::error::StepsError;
use super::events::Whose;
use super::limiter::{self, Caller};
use super::output::sha256;
use super::sql;
use super::sql_rows::{ExecutionRow, StepRow};
use super::template::{self, Snapshot};
use super::view::{ExecutionState, Handed, Hints, StartRequest, StepStatus};
use super::work::{Advanced, Work};
use crate::clock::Millis;
use crate::ids::ExecutionId;
use crate::limits::{STEPS_HINTS_COUNT, STEPS_PARALLEL_COUNT, STEPS_REASON_CHARS};

/// Starts the workflow of that name.
pub(super) async fn start_named(ctx: &Ctx, request: StartRequest) -> Result<Handed, StepsError> {
    let found = ctx.library.snapshot(&request.workflow_name).await;
    match found {
        Ok(snapshot) => start(ctx, snapshot, request).await,
        Err(error) => {
            ctx.refused(&error, Whose::default());
            Err(error)
        }
    }
}

/// Stores the execution with all its steps and hands out the first one, or holds it.
pub(super) async fn start(
    ctx: &Ctx,
    snapshot: Snapshot,
    request: StartRequest,
) -> Result<Handed, StepsError> {
    let result = try_start(ctx, snapshot, request).await;
    if let Err(error) = &result {
        ctx.refused(error, Whose::default());
    }
    result
}

async fn try_start(
    ctx: &Ctx,
    snapshot: Snapshot,
    request: StartRequest,
) -> Result<Handed, StepsError> {
    check_hints(&request.hints)?;
    check_snapshot(&snapshot)?;
    let row = new_row(ctx, &snapshot, &request)?;
    let steps = new_steps(&snapshot);
    let body = text(&snapshot);
    let hash = sha256(body.as_bytes());
    let row = ExecutionRow { snapshot_hash: hash.clone(), ..row };

    let mut tx = ctx.db.begin().await?;
    sql::put_snapshot(&mut tx, &hash, &body, row.created_at).await?;
    if !sql::insert_execution(&mut tx, &row).await? {
        return Err(StepsError::ExecutionExists { execution_id: row.execution_id });
    }
    sql::insert_steps(&mut tx, &row.execution_id, &steps).await?;
    let snapshot = ctx.remember_snapshot(&hash, snapshot);
    let mut work = Work::new(ctx, tx, row, snapshot);
    work.steps = steps;
    let created = json!({
        "workflow_name": work.row.workflow_name,
        "steps": work.steps.len(),
        "project": work.row.project,
    });
    work.tell("workflow_created", None, created);
    let done = if request.hold {
        let message = format!(
            "Workflow '{}' is held; start it with workflow_control action \"start\".",
            work.row.workflow_name
        );
        Advanced { message, ..Advanced::default() }
    } else {
        begin(&mut work, &request.hints).await?
    };
    let first = done.given.first().map_or(0, |(at, _)| *at);
    let agent = work.steps[first].agent_name.clone();
    let caller = Caller { execution_id: None, agent: &agent };
    let now = work.now;
    limiter::check(&mut work.tx, &ctx.config, caller, now).await?;
    let handed = work.handed(done)?;
    work.finish(true).await?;
    Ok(handed)
}

/// What cannot be led to an end is refused at the start (`spec/steps.md` §6).
fn check_snapshot(snapshot: &Snapshot) -> Result<(), StepsError> {
    let agents = snapshot.agents.keys().cloned().collect();
    let problems = template::validate(&snapshot.workflow, &agents);
    if problems.is_empty() {
        return Ok(());
    }
    let problems: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
    Err(StepsError::InvalidWorkflow {
        name: snapshot.workflow.name.clone(),
        problems: problems.join("; "),
    })
}

/// `idle` → `running`, and the first step.
pub(super) async fn begin(work: &mut Work<'_>, hints: &Hints) -> Result<Advanced, StepsError> {
    work.go(ExecutionState::Running, None);
    let started = json!({ "workflow_name": work.row.workflow_name });
    work.tell("workflow_started", None, started);
    work.row.hints = None;
    let mut done = work.advance(hints, usize::MAX).await?;
    done.message = format!("Workflow '{}' started. {}", work.row.workflow_name, done.message);
    Ok(done)
}

fn new_row(
    ctx: &Ctx,
    snapshot: &Snapshot,
    request: &StartRequest,
) -> Result<ExecutionRow, StepsError> {
    let execution_id = match &request.execution_id {
        Some(given) => id("execution_id", given)?,
        None => ExecutionId::generate(&*ctx.rng).to_string(),
    };
    let project = request.project.as_deref().map(|given| id("project", given)).transpose()?;
    let max_parallel = request.max_parallel.unwrap_or(ctx.config.max_parallel);
    if !(1..=STEPS_PARALLEL_COUNT).contains(&max_parallel) {
        return Err(StepsError::Invalid {
            field: "max_parallel".to_owned(),
            given: max_parallel.to_string(),
            expected: format!("a number from 1 to {STEPS_PARALLEL_COUNT}"),
        });
    }
    let now = ctx.now();
    Ok(ExecutionRow {
        execution_id,
        workflow_name: snapshot.workflow.name.clone(),
        snapshot_hash: String::new(),
        project,
        state: ExecutionState::Idle,
        state_reason: None,
        waiting_step: None,
        max_parallel,
        pause_on_blockers: request.pause_on_blockers,
        version: 1,
        created_at: now,
        started_at: None,
        updated_at: now,
        completed_at: None,
        active_at: now,
        stall_level: 0,
        paused_at: None,
        paused_ms: 0,
        hints: request.hold.then(|| text(&request.hints)),
        synthesis: None,
    })
}

fn id(field: &str, given: &str) -> Result<String, StepsError> {
    let parsed = ExecutionId::parse(given).map_err(|error| StepsError::Invalid {
        field: field.to_owned(),
        given: error.given,
        expected: error.expected.to_owned(),
    })?;
    Ok(parsed.to_string())
}

/// All steps are there from the start, so that totals and progress are right.
fn new_steps(snapshot: &Snapshot) -> Vec<StepRow> {
    let step = |(ordinal, phase): (usize, &template::Phase)| StepRow {
        step_name: phase.phase.clone(),
        ordinal,
        agent_name: phase.agent.clone(),
        status: StepStatus::Pending,
        attempt: 0,
        approved: false,
        nonce: None,
        kid: None,
        issued_at: None::<Millis>,
        started_at: None,
        completed_at: None,
        output_digest: None,
        focus: None,
    };
    snapshot.workflow.phases.iter().enumerate().map(step).collect()
}

/// Refuses hints that are beyond their bounds.
pub(super) fn check_hints(hints: &Hints) -> Result<(), StepsError> {
    for (field, list) in
        [("intent_tags", &hints.intent_tags), ("referenced_paths", &hints.referenced_paths)]
    {
        if list.len() > STEPS_HINTS_COUNT {
            return Err(StepsError::Invalid {
                field: field.to_owned(),
                given: format!("{} entries", list.len()),
                expected: format!("at most {STEPS_HINTS_COUNT}"),
            });
        }
    }
    check_reason("rationale", hints.rationale.as_deref())
}

/// Refuses a reason that is too long to be one.
pub(super) fn check_reason(field: &str, reason: Option<&str>) -> Result<(), StepsError> {
    match reason.map(|text| text.chars().count()) {
        Some(chars) if chars > STEPS_REASON_CHARS => Err(StepsError::Invalid {
            field: field.to_owned(),
            given: format!("{chars} characters"),
            expected: format!("at most {STEPS_REASON_CHARS}"),
        }),
        _ => Ok(()),
    }
}
