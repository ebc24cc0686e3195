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

use super::calls::ended_result;
use super::wait::status_line;
use crate::mcp::bounds::TASK_POLL_MS;
use crate::mcp::error::ToolError;
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
                crate::mcp::args::clip(task_id)
            ),
            None,
        ),
        other => ToolError::from(other).into_protocol(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::{Failure, FailureClass};
    use serde_json::json;

    fn run(status: &str) -> RunView {
        serde_json::from_value(json!({
            "adw_id": "abc", "project": "p", "issue_number": "1", "status": status,
            "origin": "daemon", "triggered_by": "mcp", "host": "h", "current_phase": "build",
            "phases": [
                { "phase": "plan", "status": "completed", "attempts": [] },
                { "phase": "build", "status": "running", "attempts": [
                    { "attempt": 1, "status": "failed", "dir": "d",
                      "started_at": "2026-11-21T09:01:00.000Z",
                      "ended_at": "2026-11-21T09:02:00.000Z" },
                    { "attempt": 2, "status": "running", "dir": "d",
                      "started_at": "2026-11-21T09:03:00.000Z" }] }],
            "priority": 0, "skip_cleanup": false,
            "created_at": "2026-11-21T09:00:00.000Z", "revision": 1,
        }))
        .unwrap()
    }

    #[test]
    fn every_status_is_a_status_of_a_task() {
        let expected = [
            ("queued", TaskStatus::Working),
            ("starting", TaskStatus::Working),
            ("running", TaskStatus::Working),
            ("stopping", TaskStatus::Working),
            ("completed", TaskStatus::Completed),
            ("failed", TaskStatus::Completed),
            ("cancelled", TaskStatus::Cancelled),
            ("timed_out", TaskStatus::Completed),
            ("skipped", TaskStatus::Completed),
            ("lost", TaskStatus::Completed),
        ];
        assert_eq!(expected.len(), RunStatus::ALL.len());
        for (word, status) in expected {
            assert_eq!(detailed(run(word)).status(), status, "{word}");
        }
    }

    #[test]
    fn a_task_tells_where_its_run_stands_and_since_when() {
        let task = task(&run("running"));
        assert_eq!(task.task_id, "abc");
        assert_eq!(task.status_message.as_deref(), Some("build: running, attempt 2"));
        assert_eq!(task.last_updated_at, "2026-11-21T09:03:00.000Z");
        let wire = serde_json::to_value(&task).unwrap();
        assert_eq!(wire["ttlMs"], Value::Null);
        assert_eq!(wire["pollIntervalMs"], TASK_POLL_MS);
    }

    #[test]
    fn a_failed_run_is_a_completed_task_with_an_error_result() {
        let mut failed = run("failed");
        failed.failure = Some(Failure {
            class: FailureClass::Git,
            message: "the remote refused the push".to_owned(),
            retryable: true,
            phase: Some("build".to_owned()),
            log_tail: Vec::new(),
        });
        let TaskPayload::Completed { result } = detailed(failed).payload else { panic!() };
        assert_eq!(result["isError"], true);
        let content = &result["structuredContent"];
        assert_eq!(content["error"]["code"], "run_failed");
        assert!(content["error"]["message"].as_str().unwrap().contains("refused the push"));
        assert!(content["error"]["hint"].as_str().unwrap().contains("resume_adw_workflow"));
        // Under the schemas of both tools that make tasks.
        assert!(content["already_running"].is_boolean() && content["ended"].is_boolean());

        let TaskPayload::Completed { result } = detailed(run("skipped")).payload else { panic!() };
        assert_eq!(result["isError"], false);
        assert!(result["structuredContent"].get("error").is_none());
    }

    #[test]
    fn a_task_that_is_none_is_a_wrong_parameter() {
        let error = task_error("x", RunsError::UnknownRun { adw_id: "x".to_owned() });
        assert_eq!(error.code, rmcp::model::ErrorCode::INVALID_PARAMS);
        let error = task_error("x", RunsError::Stopping);
        assert_eq!(error.code, rmcp::model::ErrorCode::INTERNAL_ERROR);
    }
}
