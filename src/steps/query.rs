//! Reads. Pure: a read never writes, and never makes a token.

use std::collections::HashMap;

use super::ctx::{Ctx, stored};
use super::error::StepsError;
use super::execution;
use super::guardrails;
use super::output;
use super::sql_read::{self, ArtifactRow, EventRow, SummaryRow, WholeRow};
use super::template::{Phase, Rule, Snapshot};
use super::view::{
    ArtifactFilter, ArtifactView, EventFilter, EventView, ExecutionFilter, ExecutionState,
    ExecutionSummary, ExecutionView, Handed, HandedStatus, Output, StepStatus, StepView,
};
use crate::limits::{STEPS_EXECUTION_ARTIFACTS_COUNT, STEPS_PAGE_COUNT, STEPS_PAGE_DEFAULT_COUNT};

fn unknown(execution_id: &str) -> StepsError {
    StepsError::UnknownExecution { execution_id: execution_id.to_owned() }
}

/// Everything about an execution; what its steps submitted only where `outputs` is asked for.
pub(super) async fn execution(
    ctx: &Ctx,
    execution_id: &str,
    outputs: bool,
) -> Result<ExecutionView, StepsError> {
    let rows = sql_read::whole(&ctx.db, execution_id).await?;
    let head = rows.first().cloned().ok_or_else(|| unknown(execution_id))?;
    let snapshot = ctx.snapshot(&head.snapshot_hash).await?;
    let synthesis = match head.state {
        ExecutionState::Completed => sql_read::synthesis(&ctx.db, execution_id).await?,
        _ => None,
    };
    let mut out: Vec<&WholeRow> =
        rows.iter().filter(|row| row.status == StepStatus::Running).collect();
    out.sort_by_key(|row| (row.step_started_at, row.ordinal));
    let current_steps = out.into_iter().map(|row| row.step_name.clone()).collect();
    let mut steps: Vec<StepView> = rows.into_iter().map(|row| step(&snapshot, row)).collect();
    if outputs {
        fill(ctx, execution_id, &mut steps).await?;
    }
    Ok(ExecutionView {
        execution_id: head.execution_id,
        workflow_name: head.workflow_name,
        project: head.project,
        state: head.state,
        state_reason: head.state_reason,
        current_steps,
        max_parallel: head.max_parallel,
        steps,
        created_at: head.created_at,
        started_at: head.started_at,
        updated_at: head.updated_at,
        completed_at: head.completed_at,
        allowed_actions: execution::allowed(head.state, head.waiting_step.is_some()),
        waiting_step: head.waiting_step,
        synthesis: synthesis.map(|text| stored("a synthesis", &text)).transpose()?,
    })
}

fn step(snapshot: &Snapshot, row: WholeRow) -> StepView {
    let phase = snapshot.workflow.phases.get(row.ordinal);
    StepView {
        step_name: row.step_name,
        agent_name: row.agent_name,
        status: row.status,
        attempt: row.attempt,
        started_at: row.step_started_at,
        completed_at: row.step_completed_at,
        output: None,
        artifacts: vec![],
        depends_on: phase.map(|phase| phase.depends_on.clone()).unwrap_or_default(),
    }
}

/// What a step submitted never changes, so it may be read after the steps themselves.
async fn fill(ctx: &Ctx, execution_id: &str, steps: &mut [StepView]) -> Result<(), StepsError> {
    let outputs: HashMap<String, String> =
        sql_read::outputs(&ctx.db, execution_id).await?.into_iter().collect();
    let artifacts = sql_read::artifact_ids(&ctx.db, execution_id).await?;
    for step in steps.iter_mut().filter(|step| step.status == StepStatus::Completed) {
        if let Some(text) = outputs.get(&step.step_name) {
            step.output = Some(stored::<Output>("an output", text)?);
        }
        let own = artifacts.iter().filter(|(name, _)| *name == step.step_name);
        step.artifacts = own.map(|(_, id)| id.clone()).collect();
    }
    Ok(())
}

/// The steps that are out.
pub(super) async fn current(ctx: &Ctx, execution_id: &str) -> Result<Handed, StepsError> {
    let found = sql_read::current(&ctx.db, execution_id).await?;
    let (head, held) = found.ok_or_else(|| unknown(execution_id))?;
    let snapshot = ctx.snapshot(&head.snapshot_hash).await?;
    let now = ctx.now();
    let (mut out, mut gate) = (vec![], None);
    for (step, contract) in held {
        // Another host may have handed it out under a key that is new here.
        if let Some(kid) = &step.kid {
            ctx.keys.find_again(kid).await?;
        }
        let contract = stored("a step's contract", &contract.unwrap_or_default())?;
        match step.status {
            StepStatus::Running => {
                out.push(ctx.handout(execution_id, &snapshot, &step, contract, now));
            }
            _ => gate = Some(contract),
        }
    }
    let mut out = out.into_iter();
    let step = out.next();
    let expired = step.as_ref().is_some_and(|step| step.token.is_empty());
    let status = match (head.state.is_terminal(), &step) {
        (true, _) => HandedStatus::Closed,
        (false, Some(_)) => HandedStatus::Ok,
        (false, None) => HandedStatus::NoOp,
    };
    let reason = head.state_reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let message = match (&step, head.state) {
        (Some(step), ExecutionState::Running) if expired => format!(
            "Step '{}' is out, and its token has expired; workflow_control action \"reissue\" \
             makes a new one.",
            step.step_name
        ),
        (Some(step), ExecutionState::Running) => format!("Step '{}' is out.", step.step_name),
        (_, state) => format!("The execution is {state}{reason}."),
    };
    Ok(Handed {
        status,
        execution_id: execution_id.to_owned(),
        workflow_name: head.workflow_name,
        workflow_state: head.state,
        step,
        parallel: out.collect(),
        gate,
        selection: None,
        synthesis: head.synthesis.map(|text| stored("a synthesis", &text)).transpose()?,
        message,
        warnings: vec![],
    })
}

/// The rules that count for the steps that are out; for the workflow as a whole where none is.
pub(super) async fn guardrails(ctx: &Ctx, execution_id: &str) -> Result<Vec<Rule>, StepsError> {
    let rows = sql_read::whole(&ctx.db, execution_id).await?;
    let head = rows.first().ok_or_else(|| unknown(execution_id))?;
    let snapshot = ctx.snapshot(&head.snapshot_hash).await?;
    let mut paths = Vec::new();
    for (_, text) in sql_read::outputs(&ctx.db, execution_id).await? {
        paths.extend(output::focus(&stored::<Output>("an output", &text)?));
    }
    let out = rows.iter().filter(|row| row.status == StepStatus::Running);
    let mut phases: Vec<Option<&Phase>> =
        out.map(|row| snapshot.workflow.phases.get(row.ordinal)).collect();
    if phases.is_empty() {
        phases.push(None);
    }
    let counts = |rule: &&Rule| {
        let one = std::slice::from_ref(*rule);
        let of = |phase: &Option<&Phase>| {
            !guardrails::active(one, &snapshot.workflow, *phase, &paths).is_empty()
        };
        phases.iter().any(of)
    };
    Ok(snapshot.rules.iter().filter(counts).cloned().collect())
}

fn page(limit: Option<u32>) -> Result<u32, StepsError> {
    match limit.unwrap_or(STEPS_PAGE_DEFAULT_COUNT) {
        limit @ 1..=STEPS_PAGE_COUNT => Ok(limit),
        given => Err(StepsError::Invalid {
            field: "limit".to_owned(),
            given: given.to_string(),
            expected: format!("a number from 1 to {STEPS_PAGE_COUNT}"),
        }),
    }
}

/// Executions, newest first.
pub(super) async fn executions(
    ctx: &Ctx,
    filter: &ExecutionFilter,
) -> Result<Vec<ExecutionSummary>, StepsError> {
    let rows = sql_read::executions(&ctx.db, filter, page(filter.limit)?).await?;
    let summary = |row: SummaryRow| ExecutionSummary {
        execution_id: row.execution_id,
        workflow_name: row.workflow_name,
        project: row.project,
        state: row.state,
        created_at: row.created_at,
        updated_at: row.updated_at,
        steps_total: row.steps_total,
        steps_completed: row.steps_completed,
    };
    Ok(rows.into_iter().map(summary).collect())
}

/// The newest execution that has not ended.
pub(super) async fn active(ctx: &Ctx, project: Option<&str>) -> Result<Option<String>, StepsError> {
    Ok(sql_read::active(&ctx.db, project).await?)
}

/// Artifacts, newest first. Those of one execution are a whole: without a limit all of them.
pub(super) async fn artifacts(
    ctx: &Ctx,
    filter: &ArtifactFilter,
) -> Result<Vec<ArtifactView>, StepsError> {
    let limit = match (filter.limit, &filter.execution_id) {
        (None, Some(_)) => STEPS_EXECUTION_ARTIFACTS_COUNT,
        (given, _) => page(given)?,
    };
    let rows = sql_read::artifacts(&ctx.db, filter, limit).await?;
    rows.into_iter().map(artifact_view).collect()
}

/// One artifact with its content.
pub(super) async fn artifact(ctx: &Ctx, artifact_id: &str) -> Result<ArtifactView, StepsError> {
    let row = sql_read::artifact(&ctx.db, artifact_id).await?;
    let unknown = || StepsError::UnknownArtifact { artifact_id: artifact_id.to_owned() };
    artifact_view(row.ok_or_else(unknown)?)
}

fn artifact_view(row: ArtifactRow) -> Result<ArtifactView, StepsError> {
    let metadata = row.metadata.map(|text| stored("an artifact's metadata", &text)).transpose()?;
    Ok(ArtifactView {
        id: row.id,
        artifact_id: row.artifact_id,
        execution_id: row.execution_id,
        step_name: row.step_name,
        agent_name: row.agent_name,
        artifact_type: row.artifact_type,
        kind: row.kind,
        title: row.title,
        description: row.description,
        content_type: row.content_type,
        size_bytes: row.size_bytes,
        sha256: row.sha256,
        is_final: row.is_final,
        metadata,
        created_at: row.created_at,
        content: row.content,
    })
}

/// Events, newest first.
pub(super) async fn events(ctx: &Ctx, filter: &EventFilter) -> Result<Vec<EventView>, StepsError> {
    let rows = sql_read::events(&ctx.db, filter, page(filter.limit)?).await?;
    let view = |row: EventRow| -> Result<EventView, StepsError> {
        Ok(EventView {
            id: row.id,
            event_type: row.event_type,
            execution_id: row.execution_id,
            step_name: row.step_name,
            agent_name: row.agent_name,
            metadata: stored("an event's metadata", &row.metadata)?,
            created_at: row.created_at,
        })
    };
    rows.into_iter().map(view).collect()
}
