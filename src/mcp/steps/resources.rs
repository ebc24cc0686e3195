//! Resources of step workflows: which are listed, which templates there are, what a read answers.

use rmcp::ErrorData;
use rmcp::model::{Resource, ResourceTemplate};
use serde_json::json;

use super::dialect;
use super::reads::{self, Unread};
use super::uri::{Place, Spelling, StepUri, Which};
use crate::mcp::bounds::{LISTED_EXECUTIONS_COUNT, LISTED_WORKFLOWS_COUNT};
use crate::mcp::error::{ToolError, resource_not_found};
use crate::mcp::resources::{JSON, MARKDOWN, Reading};
use crate::runs::Runs;
use crate::steps::{ExecutionFilter, ExecutionSummary, Steps, StepsError, Workflow};

/// The templates: address, name, what it is. Mime type by [`mime_of`].
///
/// An optional segment has a template of its own: the official TypeScript client does not match
/// one that is absent.
const TEMPLATES: [(&str, &str, &str); 22] = [
    (
        "midex://workflow/workflow_details/{workflowName}",
        "workflow-details",
        "A workflow with its phases and its text",
    ),
    (
        "midex://workflow/current_step/{executionId}",
        "current-step",
        "What an execution waits for: the agent's persona, what it may and may not do, the token",
    ),
    (
        "midex://workflow/workflow_status/{executionId}",
        "workflow-status",
        "Where an execution stands: state, steps, what workflow_control would take",
    ),
    (
        "midex://workflow/step_history/{executionId}",
        "step-history",
        "What the steps of an execution handed in",
    ),
    (
        "midex://workflow/workflow_artifacts/{executionId}",
        "workflow-artifacts",
        "The artifacts of an execution, without their content",
    ),
    (
        "midex://workflow/workflow_artifacts/{executionId}/{stepName}",
        "step-artifacts",
        "The artifacts of one step, without their content",
    ),
    ("midex://workflow/artifact/{artifactId}", "artifact", "The content of an artifact"),
    (
        "midex://workflow/artifacts/recent{?limit}",
        "recent-artifacts",
        "The newest artifacts of all executions, without their content",
    ),
    (
        "midex://workflow/artifacts/final{?limit}",
        "final-artifacts",
        "The newest artifacts of completed executions, without their content",
    ),
    (
        "midex://workflow/artifacts/type/{type}{?limit}",
        "artifacts-by-type",
        "The newest artifacts of a type, without their content",
    ),
    (
        "midex://workflow/executions{?state,project,workflow,open,limit}",
        "executions",
        "Executions, newest first",
    ),
    (
        "midex://workflow/telemetry{?event_type,limit}",
        "telemetry",
        "Events of all executions, newest first; at most 1000, 100 by default",
    ),
    (
        "midex://workflow/telemetry/{executionId}{?event_type,limit}",
        "execution-telemetry",
        "Events of an execution, newest first; at most 1000, 100 by default",
    ),
    ("midex://persona/{agent}", "agent-persona", "An agent's persona"),
    (
        "midex://guardrails/execution/{executionId}",
        "execution-guardrails",
        "The rules that count for the steps an execution has out",
    ),
    ("midex://project/{projectId}", "project", "A project and the newest open execution in it"),
    ("persona://{agent}", "persona", "An agent's persona"),
    (
        "current-step://{task_id}",
        "task-step",
        "The state of an execution with its artifacts; \"active\" is the newest open one",
    ),
    (
        "workflow-status://{task_id}",
        "task-status",
        "An execution with its steps and their artifacts; \"active\" is the newest open one",
    ),
    (
        "project-context://{project_id}",
        "project-context",
        "A project and the newest open execution in it",
    ),
    (
        "workflow-artifacts://{execution_id}{?final,limit}",
        "task-artifacts",
        "The artifacts of an execution with their content; also recent and final",
    ),
    (
        "workflow-artifacts://type/{type}{?limit}",
        "task-artifacts-by-type",
        "The newest artifacts of a type with their content",
    ),
];

fn mime_of(template: &str) -> Option<&'static str> {
    match template {
        // Whatever it was submitted as.
        text if text.contains("/artifact/") => None,
        text if text.contains("persona") || text.contains("guardrails") => Some(MARKDOWN),
        _ => Some(JSON),
    }
}

/// The templates.
#[must_use]
pub fn templates() -> Vec<ResourceTemplate> {
    let wire = |(uri, name, about): &(&'static str, &'static str, &'static str)| {
        let template = ResourceTemplate::new(*uri, *name)
            .with_title(name.replace('-', " "))
            .with_description(*about);
        match mime_of(uri) {
            Some(mime) => template.with_mime_type(mime),
            None => template,
        }
    };
    TEMPLATES.iter().map(wire).collect()
}

/// Whether it is one of the templates.
#[must_use]
pub fn is_template(uri: &str) -> bool {
    TEMPLATES.iter().any(|(known, ..)| *known == uri)
}

/// What is listed: the fixed ones, each workflow, and what the newest open executions wait for.
///
/// # Errors
/// The slice's.
pub async fn list(steps: &Steps) -> Result<Vec<Resource>, StepsError> {
    let mut listed = vec![
        entry(StepUri::of(Place::Workflows), "available-workflows", JSON)
            .with_title("Step workflows")
            .with_description("The step workflows that workflow_start starts"),
        entry(StepUri::of(Place::Executions(ExecutionFilter::default())), "executions", JSON)
            .with_title("Executions of step workflows")
            .with_description("The newest executions and where they stand"),
        entry(StepUri::of(Place::Telemetry(Default::default())), "telemetry", JSON)
            .with_title("Telemetry of step workflows")
            .with_description("The newest events of all executions"),
        entry(seed(Place::Guardrails(None)), "guardrails", MARKDOWN)
            .with_title("Active guardrails")
            .with_description("The rules that count for every step"),
        entry(seed(Place::Persona(None)), "persona", MARKDOWN)
            .with_title("The supervisor's persona")
            .with_description("The agent that speaks for a workflow as a whole"),
    ];
    let workflows = startable(steps).await?;
    listed.extend(workflows.iter().take(LISTED_WORKFLOWS_COUNT).map(workflow_entry));
    let filter = ExecutionFilter {
        open_only: true,
        limit: Some(LISTED_EXECUTIONS_COUNT),
        ..ExecutionFilter::default()
    };
    listed.extend(steps.executions(&filter).await?.iter().flat_map(execution_entries));
    Ok(listed)
}

fn seed(place: Place) -> StepUri {
    StepUri { spelling: Spelling::Seed, place }
}

fn entry(uri: StepUri, name: &str, mime: &str) -> Resource {
    Resource::new(uri.to_string(), name).with_mime_type(mime)
}

fn workflow_entry(workflow: &Workflow) -> Resource {
    let name = format!("workflow-{}", workflow.name);
    entry(StepUri::of(Place::Workflow(workflow.name.clone())), &name, JSON)
        .with_title(format!("Workflow {}", workflow.name))
        .with_description(workflow.description.clone())
}

/// Nothing in an entry changes while its execution is open, so that the list changes only with
/// executions that begin or end.
fn execution_entries(execution: &ExecutionSummary) -> [Resource; 2] {
    let id = &execution.execution_id;
    let of = format!("{} of {}", execution.workflow_name, execution.created_at.rfc3339());
    [
        entry(
            StepUri::of(Place::CurrentStep(Which::Id(id.clone()))),
            &format!("current-step-{id}"),
            JSON,
        )
        .with_title(format!("Current step of {id}"))
        .with_description(of.clone()),
        entry(
            StepUri::of(Place::Status(Which::Id(id.clone()))),
            &format!("workflow-status-{id}"),
            JSON,
        )
        .with_title(format!("Status of {id}"))
        .with_description(of),
    ]
}

/// The workflows that can be started, by name.
///
/// # Errors
/// The slice's.
pub async fn startable(steps: &Steps) -> Result<Vec<Workflow>, StepsError> {
    let listings = steps.library().workflows().await?;
    let startable = listings.into_iter().filter(|listing| listing.startable);
    Ok(startable.filter_map(|listing| listing.workflow).collect())
}

/// What is at an address; tokens only for a caller who `may_steer`.
///
/// # Errors
/// What is not there is "not found" with its address and a word for programs.
pub async fn read(
    steps: &Steps,
    runs: &Runs,
    uri: &str,
    address: &StepUri,
    may_steer: bool,
) -> Result<Reading, ErrorData> {
    reads::read(steps, runs, address, may_steer).await.map_err(|unread| match unread {
        Unread::Missing(why) => resource_not_found(uri, &why),
        Unread::Runs(error) => ToolError::from(error).into_protocol(),
        Unread::Steps(error) => unread_error(uri, &error),
    })
}

fn unread_error(uri: &str, error: &StepsError) -> ErrorData {
    let message = dialect::message(error);
    if matches!(error, StepsError::Db(_) | StepsError::Io { .. }) {
        return protocol(error);
    }
    let data = json!({ "uri": uri, "code": error.code() });
    ErrorData::resource_not_found(format!("Resource not found: {message}"), Some(data))
}

/// The error where only a protocol error fits.
#[must_use]
pub fn protocol(error: &StepsError) -> ErrorData {
    let (message, data) = (dialect::message(error), Some(json!({ "code": error.code() })));
    match error {
        StepsError::Db(_) | StepsError::Io { .. } => ErrorData::internal_error(message, data),
        _ => ErrorData::invalid_params(message, data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template with its variables filled in, as RFC 6570 does it for these forms.
    fn expand(template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (variable, behind) = after.split_once('}').unwrap();
            text.push_str(before);
            if let Some(names) = variable.strip_prefix('?') {
                let value = |name: &str| match name {
                    "limit" => "10",
                    "open" | "final" => "true",
                    "state" => "running",
                    _ => "x",
                };
                let pairs: Vec<String> =
                    names.split(',').map(|name| format!("{name}={}", value(name))).collect();
                text.push_str(&format!("?{}", pairs.join("&")));
            } else {
                text.push_str("some1");
            }
            rest = behind;
        }
        text + rest
    }

    #[test]
    fn every_template_expands_to_an_address_and_has_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (template, name, about) in TEMPLATES {
            let text = expand(template);
            let parsed = StepUri::parse(&text);
            assert!(matches!(parsed, Some(Ok(_))), "{template}: {text}: {parsed:?}");
            assert!(names.insert(name), "{name}");
            assert!(!about.is_empty());
            let scheme = template.split("://").next().unwrap();
            assert!(!scheme.contains('_'), "{template}");
            let bare = template.split("{?").next().unwrap();
            let parsed = StepUri::parse(&expand(bare));
            assert!(matches!(parsed, Some(Ok(_))), "{bare}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_its_address_and_code() {
        let error = StepsError::UnknownExecution { execution_id: "e".to_owned() };
        let told = unread_error("current_step://e", &error);
        assert_eq!(told.code, rmcp::model::ErrorCode::RESOURCE_NOT_FOUND);
        let data = told.data.unwrap();
        assert_eq!(
            (&data["uri"], &data["code"]),
            (&json!("current_step://e"), &json!("unknown_execution"),)
        );
    }
}
