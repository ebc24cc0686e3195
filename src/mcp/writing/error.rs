//! From what went wrong in the writing slice to what the wire says.

use rmcp::ErrorData;

use crate::mcp::error::{DATABASE_HINT, ToolError, UNSURE, database_failed, resource_not_found};
use crate::telemetry::chain;
use crate::writing::WritingError;

impl From<WritingError> for ToolError {
    fn from(error: WritingError) -> ToolError {
        if !error.is_callers() {
            tracing::error!(error = %chain(&error), "a request failed inside the daemon");
        }
        let (message, hint) = match &error {
            WritingError::Db(why) => (database_failed(why, UNSURE), Some(DATABASE_HINT)),
            WritingError::Stored { .. } | WritingError::Io(_) => {
                (error.to_string(), Some("run `adwd doctor`"))
            }
            other => (other.to_string(), hint(other)),
        };
        ToolError {
            code: error.code().to_owned(),
            message,
            hint: hint.map(str::to_owned),
            retry_after_ms: None,
        }
    }
}

/// What the caller can do about it, in a few words.
fn hint(error: &WritingError) -> Option<&'static str> {
    match error {
        WritingError::UnknownWorkflow { .. } => {
            Some("call list_active_workflows to see the known ids")
        }
        WritingError::UnknownApproval { .. } => {
            Some("call get_pending_approvals to see the open ones")
        }
        WritingError::UnknownBook { .. } => Some("name one of the books it has"),
        WritingError::Unmet { .. } => {
            Some("call get_workflow_state: `unmet` lists what is missing")
        }
        WritingError::GateRequired { .. } => {
            Some("call record_quality_gate with the gate's result, then try again")
        }
        WritingError::WrongState { .. } => Some("call get_workflow_state to see where it stands"),
        WritingError::AlreadyDecided { .. } => {
            Some("call request_approval to ask for another decision")
        }
        WritingError::ApprovalPending { .. } => Some("call submit_approval with that approval_id"),
        WritingError::KeyReused { .. } => Some("use a new idempotency_key for another figure"),
        WritingError::NotReady { .. } => {
            Some("call run_qa_checklist: each blocker says what to do")
        }
        WritingError::Unsure => Some(
            "look first whether it happened (get_workflow_state, get_workflow_metrics); only a \
             metric with an idempotency_key can simply be recorded again",
        ),
        WritingError::Stopping => Some("ask again in a few seconds"),
        WritingError::Invalid { .. }
        | WritingError::Stored { .. }
        | WritingError::Io(_)
        | WritingError::Db(_) => None,
    }
}

/// A failed read of a resource: what is not there is "not found", the rest is as for prompts.
#[must_use]
pub fn resource_error(uri: &str, error: WritingError) -> ErrorData {
    match error {
        WritingError::UnknownWorkflow { .. }
        | WritingError::UnknownBook { .. }
        | WritingError::Invalid { .. } => resource_not_found(uri, &error.to_string()),
        other => ToolError::from(other).into_protocol(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::DbError;

    #[test]
    fn no_error_shows_sql_and_what_the_caller_can_mend_says_how() {
        let inside = WritingError::Db(DbError::NotFound {
            operation: "select * from writing_workflows".to_owned(),
        });
        let told = ToolError::from(inside);
        assert_eq!(told.code, "database");
        assert!(!told.message.contains("select"), "{told:?}");
        let unknown = ToolError::from(WritingError::UnknownWorkflow { workflow_id: 7 });
        assert_eq!(unknown.code, "unknown_workflow");
        assert!(unknown.hint.is_some_and(|hint| hint.contains("list_active_workflows")));
    }

    #[test]
    fn a_missing_workflow_is_a_missing_resource_and_a_stopping_daemon_is_not() {
        let missing = resource_error("u", WritingError::UnknownWorkflow { workflow_id: 7 });
        assert_eq!(missing.code, rmcp::model::ErrorCode::RESOURCE_NOT_FOUND);
        let stopping = resource_error("u", WritingError::Stopping);
        assert_eq!(stopping.code, rmcp::model::ErrorCode::INTERNAL_ERROR);
    }
}
