//! Lists of workflows, executions, artifacts and events, in the shapes of both seeds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::reads::Unread;
use super::shapes::{iso, object};
use super::uri::{Place, StepUri};
use crate::limits::{STEPS_EXECUTION_ARTIFACTS_COUNT, STEPS_PAGE_COUNT, STEPS_PAGE_DEFAULT_COUNT};
use crate::mcp::bounds::INLINE_CONTENT_BYTES;
use crate::steps::{
    ArtifactFilter, ArtifactView, EventFilter, ExecutionFilter, Phase, Steps, Workflow,
    WorkflowListing,
};

/// All workflows: the valid ones, and in seed 003's shape also those that cannot be started, with
/// what is wrong with them.
///
/// # Errors
/// [`Unread`].
pub async fn workflows(steps: &Steps, seed_001: bool) -> Result<Value, Unread> {
    let listings = steps.library().workflows().await?;
    if seed_001 {
        let startable = listings.iter().filter(|listing| listing.startable);
        let list: Vec<Value> =
            startable.filter_map(|l| l.workflow.as_ref()).map(workflow_001).collect();
        return Ok(json!({ "workflows": list }));
    }
    Ok(Value::Array(listings.iter().map(listing_003).collect()))
}

fn workflow_001(workflow: &Workflow) -> Value {
    json!({
        "name": workflow.name,
        "description": workflow.description,
        "type": workflow.kind,
        "steps_count": workflow.phases.len(),
        "estimated_duration_minutes": workflow.estimated_duration_minutes,
        "tags": workflow.tags,
    })
}

/// A workflow without its text.
#[must_use]
pub fn workflow_003(workflow: &Workflow) -> Map<String, Value> {
    let minutes = workflow.estimated_duration_minutes;
    object([
        ("name", Some(json!(workflow.name))),
        ("description", Some(json!(workflow.description))),
        ("tags", Some(json!(workflow.tags))),
        ("keywords", Some(json!(workflow.keywords))),
        ("complexity", Some(json!(workflow.complexity))),
        ("type", Some(json!(workflow.kind))),
        ("estimated_duration_minutes", minutes.map(|n| json!(n))),
        ("phases", Some(workflow.phases.iter().map(phase).collect())),
    ])
}

/// In the words of the content files.
fn phase(phase: &Phase) -> Value {
    json!({
        "phase": phase.phase,
        "agent": phase.agent,
        "description": phase.description,
        "dependsOn": phase.depends_on,
        "allowParallel": phase.allow_parallel,
        "pathPatterns": phase.path_patterns,
        "tags": phase.tags,
        "allowed_actions": phase.allowed_actions,
        "requires_approval": phase.requires_approval,
    })
}

fn listing_003(listing: &WorkflowListing) -> Value {
    let mut value = match &listing.workflow {
        Some(workflow) => workflow_003(workflow),
        None => object([("name", Some(json!(listing.name))), ("phases", Some(json!([])))]),
    };
    value.insert("valid".to_owned(), json!(listing.valid));
    value.insert("startable".to_owned(), json!(listing.startable));
    if !listing.problems.is_empty() {
        value.insert("problems".to_owned(), json!(listing.problems));
    }
    Value::Object(value)
}

/// Executions, newest first.
///
/// # Errors
/// [`Unread`].
pub async fn executions(steps: &Steps, filter: &ExecutionFilter) -> Result<Value, Unread> {
    let list = steps.executions(filter).await?;
    let line = |execution: crate::steps::ExecutionSummary| {
        json!({
            "execution_id": execution.execution_id,
            "workflow_name": execution.workflow_name,
            "project": execution.project,
            "state": execution.state,
            "created_at": iso(execution.created_at),
            "updated_at": iso(execution.updated_at),
            "steps": {
                "total": execution.steps_total,
                "completed": execution.steps_completed,
            },
        })
    };
    Ok(Value::Array(list.into_iter().map(line).collect()))
}

/// Artifacts: seed 003 lists what there is, seed 001 with the content.
///
/// # Errors
/// [`Unread`].
pub async fn artifacts(
    steps: &Steps,
    filter: &ArtifactFilter,
    seed_001: bool,
) -> Result<Value, Unread> {
    if let Some(id) = &filter.execution_id {
        // An execution that is not there has no artifacts, which is not the same as none yet.
        steps.execution(id).await?;
    }
    if !seed_001 {
        let list = steps.artifacts(filter).await?;
        return Ok(Value::Array(list.iter().map(artifact_003).collect()));
    }
    let list = with_content(steps, filter).await?;
    let lines: Vec<Value> = list
        .iter()
        .map(|artifact| {
            let mut line = artifact_001(artifact);
            line["execution_id"] = json!(artifact.execution_id);
            line["is_final"] = json!(artifact.is_final);
            line["content_size_bytes"] = json!(artifact.size_bytes);
            line
        })
        .collect();
    let usual = match filter.execution_id {
        Some(_) => STEPS_EXECUTION_ARTIFACTS_COUNT,
        None => STEPS_PAGE_DEFAULT_COUNT,
    };
    Ok(json!({
        "artifacts": lines,
        "total": lines.len(),
        "query": {
            "type": filter.artifact_type,
            "execution_id": filter.execution_id,
            "is_final": filter.is_final,
            "limit": filter.limit.unwrap_or(usual),
        },
    }))
}

fn artifact_uri(artifact: &ArtifactView) -> String {
    StepUri::of(Place::Artifact(artifact.artifact_id.clone())).to_string()
}

/// `artifact_type` is one of the seed's four; the type as it was submitted stands beside it.
fn artifact_003(artifact: &ArtifactView) -> Value {
    json!({
        "id": artifact.id,
        "artifact_id": artifact.artifact_id,
        "execution_id": artifact.execution_id,
        "step_name": artifact.step_name,
        "agent_name": artifact.agent_name,
        "artifact_type": artifact.kind,
        "type": artifact.artifact_type,
        "name": artifact.title,
        "description": artifact.description,
        "content_type": artifact.content_type,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "is_final": artifact.is_final,
        "metadata": artifact.metadata,
        "created_at": iso(artifact.created_at),
        "uri": artifact_uri(artifact),
    })
}

/// Where the content is too much to be carried along, its address stands instead.
fn artifact_001(artifact: &ArtifactView) -> Value {
    let mut line = json!({
        "id": artifact.id,
        "artifact_id": artifact.artifact_id,
        "type": artifact.artifact_type,
        "title": artifact.title,
        "step_name": artifact.step_name,
        "agent_name": artifact.agent_name,
        "content": artifact.content,
        "created_at": iso(artifact.created_at),
    });
    if artifact.content.is_none() {
        line["content_uri"] = json!(artifact_uri(artifact));
    }
    line
}

/// The artifacts of an execution in seed 001's shape.
///
/// # Errors
/// [`Unread`].
pub async fn artifacts_of(steps: &Steps, execution: &str) -> Result<Vec<Value>, Unread> {
    let list = with_content(steps, &of_execution(execution)).await?;
    Ok(list.iter().map(artifact_001).collect())
}

/// The artifacts of an execution by step, without content.
///
/// # Errors
/// [`Unread`].
pub async fn artifacts_by_step(
    steps: &Steps,
    execution: &str,
) -> Result<BTreeMap<String, Vec<Value>>, Unread> {
    let mut by_step: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for artifact in steps.artifacts(&of_execution(execution)).await? {
        let line = json!({
            "id": artifact.id,
            "artifact_id": artifact.artifact_id,
            "type": artifact.artifact_type,
            "title": artifact.title,
        });
        if let Some(step) = artifact.step_name {
            by_step.entry(step).or_default().push(line);
        }
    }
    Ok(by_step)
}

fn of_execution(id: &str) -> ArtifactFilter {
    ArtifactFilter { execution_id: Some(id.to_owned()), ..ArtifactFilter::default() }
}

/// The artifacts, the newest of them with content as far as it fits into one answer.
async fn with_content(steps: &Steps, filter: &ArtifactFilter) -> Result<Vec<ArtifactView>, Unread> {
    let mut list = steps.artifacts(filter).await?;
    let mut room = INLINE_CONTENT_BYTES;
    let page = usize::try_from(STEPS_PAGE_COUNT).unwrap_or(usize::MAX);
    let fits = list.iter().take(page).take_while(|artifact| {
        let left = room - artifact.size_bytes;
        room = left;
        left >= 0
    });
    let Ok(count @ 1..) = u32::try_from(fits.count()) else { return Ok(list) };
    let full = ArtifactFilter { limit: Some(count), with_content: true, ..filter.clone() };
    let mut contents: BTreeMap<i64, Option<String>> =
        steps.artifacts(&full).await?.into_iter().map(|a| (a.id, a.content)).collect();
    for artifact in &mut list {
        artifact.content = contents.remove(&artifact.id).flatten();
    }
    Ok(list)
}

/// Telemetry, newest first.
///
/// # Errors
/// [`Unread`].
pub async fn events(steps: &Steps, filter: &EventFilter) -> Result<Value, Unread> {
    if let Some(id) = &filter.execution_id {
        steps.execution(id).await?;
    }
    let list = steps.events(filter).await?;
    let line = |event: crate::steps::EventView| {
        json!({
            "id": event.id,
            "event_type": event.event_type,
            "execution_id": event.execution_id,
            "step_name": event.step_name,
            "agent_name": event.agent_name,
            "metadata": event.metadata,
            "created_at": iso(event.created_at),
        })
    };
    Ok(Value::Array(list.into_iter().map(line).collect()))
}
