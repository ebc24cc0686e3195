//! Completion of the arguments of step workflows' templates and prompts.

use rmcp::model::{CompleteRequestParams, Reference};

use super::prompts;
use super::resources::is_template;
use super::table::STATES;
use crate::ids::ExecutionId;
use crate::mcp::bounds::COMPLETED_COUNT;
use crate::mcp::completion::begin;
use crate::runs::Runs;
use crate::steps::{ArtifactFilter, EVENT_TYPES, ExecutionFilter, Steps, StepsError};

/// The types of artifacts that seed 001 names, and the synthesis' own.
const ARTIFACT_TYPES: [&str; 13] = [
    "adr",
    "api_contract",
    "code_review",
    "data_model",
    "design_doc",
    "diagram",
    "implementation_plan",
    "json",
    "markdown",
    "performance_analysis",
    "security_analysis",
    "test_plan",
    "yaml",
];

/// Values that begin with what was typed; `None` where it is not about step workflows.
///
/// # Errors
/// [`StepsError`].
pub async fn complete(
    steps: &Steps,
    runs: &Runs,
    request: &CompleteRequestParams,
) -> Result<Option<Vec<String>>, StepsError> {
    if !is_ours(steps, &request.r#ref).await? {
        return Ok(None);
    }
    let typed = request.argument.value.as_str();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let values: Vec<String> = match request.argument.name.as_str() {
        "workflowName" | "workflow" => {
            let listings = steps.library().workflows().await?;
            listings.into_iter().map(|listing| listing.name).collect()
        }
        "executionId" | "execution_id" | "task_id" => executions(steps).await?,
        "stepName" => step_names(steps, context(request, "executionId")).await?,
        "agent" => steps.library().agents().await?.into_iter().map(|agent| agent.name).collect(),
        "projectId" | "project_id" | "project" => projects(steps, runs).await?,
        "event_type" => words(&EVENT_TYPES),
        "type" => artifact_types(steps).await?,
        "artifactId" => {
            let newest = newest_artifacts();
            steps.artifacts(&newest).await?.into_iter().map(|a| a.artifact_id).collect()
        }
        "state" => words(&STATES),
        "open" | "final" => words(&["true", "false"]),
        _ => Vec::new(),
    };
    Ok(Some(begin(values, typed)))
}

async fn is_ours(steps: &Steps, reference: &Reference) -> Result<bool, StepsError> {
    if let Some(uri) = reference.as_resource_uri() {
        return Ok(is_template(uri));
    }
    match reference.as_prompt_name() {
        Some(name) => Ok(prompts::find(steps, name).await?.is_some()),
        None => Ok(false),
    }
}

fn context<'a>(request: &'a CompleteRequestParams, name: &str) -> Option<&'a str> {
    request.context.as_ref()?.arguments.as_ref()?.get(name).map(String::as_str)
}

/// Newest first: whoever asks means what goes on now.
async fn executions(steps: &Steps) -> Result<Vec<String>, StepsError> {
    let filter = ExecutionFilter { limit: Some(COMPLETED_COUNT), ..ExecutionFilter::default() };
    Ok(steps.executions(&filter).await?.into_iter().map(|e| e.execution_id).collect())
}

/// Of the execution that was chosen before; else of all workflows.
async fn step_names(steps: &Steps, execution: Option<&str>) -> Result<Vec<String>, StepsError> {
    if let Some(id) = execution.filter(|id| ExecutionId::parse(id).is_ok()) {
        return match steps.execution(id).await {
            Ok(execution) => Ok(execution.steps.into_iter().map(|step| step.step_name).collect()),
            Err(StepsError::UnknownExecution { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
    }
    let listings = steps.library().workflows().await?;
    let phases = listings.into_iter().filter_map(|l| l.workflow).flat_map(|w| w.phases);
    Ok(sorted(phases.map(|phase| phase.phase).collect()))
}

/// Those that are served, and those that executions name.
async fn projects(steps: &Steps, runs: &Runs) -> Result<Vec<String>, StepsError> {
    let mut names: Vec<String> = match runs.projects().await {
        Ok(projects) => projects.into_iter().map(|project| project.name).collect(),
        Err(error) => {
            tracing::warn!(%error, "the projects cannot be listed");
            Vec::new()
        }
    };
    let filter = ExecutionFilter { limit: Some(COMPLETED_COUNT), ..ExecutionFilter::default() };
    names.extend(steps.executions(&filter).await?.into_iter().filter_map(|e| e.project));
    Ok(sorted(names))
}

async fn artifact_types(steps: &Steps) -> Result<Vec<String>, StepsError> {
    let used = steps.artifacts(&newest_artifacts()).await?;
    let known = ARTIFACT_TYPES.iter().map(|word| (*word).to_owned());
    Ok(sorted(used.into_iter().map(|a| a.artifact_type).chain(known).collect()))
}

fn newest_artifacts() -> ArtifactFilter {
    ArtifactFilter { limit: Some(COMPLETED_COUNT), ..ArtifactFilter::default() }
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values.dedup();
    values
}
