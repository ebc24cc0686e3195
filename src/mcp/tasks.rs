//! Tasks: a run is the task, its id is the task's id.
//!
//! Nothing is kept here. What a client asks about a task is read from the stored run, so tasks
//! outlive connections and restarts, and a run started in the shell can be asked after as well.

use rmcp::RoleServer;
use rmcp::model::{
    ClientCapabilities, DetailedTask, ErrorData, JsonObject, Task, TaskPayload, TaskStatus,
};
use rmcp::service::RequestContext;
use serde_json::Value;

use super::bounds::TASK_POLL_MS;
use super::error::ToolError;
use super::tools_runs::ended_result;
use super::wait::status_line;
use crate::runs::{RunStatus, RunView, RunsError};

/// Whether the request declared the tasks extension.
#[must_use]
pub fn declared(context: &RequestContext<RoleServer>) -> bool {
    context.client_capabilities().as_ref().is_some_and(ClientCapabilities::supports_tasks)
}

/// The task that a run is.
#[must_use]
pub fn task(run: &RunView) -> Task {
    // No time to live: the run stays in the database.
    Task::new(run.adw_id.clone(), status(run.status), run.created_at.clone(), last_change(run))
        .with_status_message(status_line(run))
        .with_poll_interval_ms(TASK_POLL_MS)
}

/// The task with its result, where it has ended.
pub fn detailed(run: RunView) -> DetailedTask {
    let task = task(&run);
    let payload = match status(run.status) {
        TaskStatus::Completed => TaskPayload::Completed { result: result(run) },
        TaskStatus::Cancelled => TaskPayload::Cancelled,
        _ => TaskPayload::Working,
    };
    DetailedTask::new(task, payload)
}

fn result(run: RunView) -> JsonObject {
    match serde_json::to_value(ended_result(run)) {
        Ok(Value::Object(object)) => object,
        _ => JsonObject::new(),
    }
}

/// Every end but a cancel is a result, good or bad.
fn status(status: RunStatus) -> TaskStatus {
    match status {
        RunStatus::Queued | RunStatus::Starting | RunStatus::Running | RunStatus::Stopping => {
            TaskStatus::Working
        }
        RunStatus::Cancelled => TaskStatus::Cancelled,
        RunStatus::Completed
        | RunStatus::Failed
        | RunStatus::TimedOut
        | RunStatus::Skipped
        | RunStatus::Lost => TaskStatus::Completed,
    }
}

/// The latest moment the run's own record knows; all are of one form, so text order is time.
fn last_change(run: &RunView) -> String {
    let attempts = run.phases.iter().flat_map(|phase| &phase.attempts);
    attempts
        .flat_map(|a| [Some(&a.started_at), a.ended_at.as_ref()])
        .chain([Some(&run.created_at), run.started_at.as_ref(), run.ended_at.as_ref()])
        .flatten()
        .max()
        .cloned()
        .unwrap_or_else(|| run.created_at.clone())
}

/// What a question about a task answers where the slice refuses it.
#[must_use]
pub fn task_error(task_id: &str, error: RunsError) -> ErrorData {
    match error {
        RunsError::UnknownRun { .. } | RunsError::Invalid { .. } => ErrorData::invalid_params(
            format!(
                "Unknown task {:?}: a task's id is the adw_id of a run",
                super::args::clip(task_id)
            ),
            None,
        ),
        other => ToolError::from(other).into_protocol(),
    }
}
