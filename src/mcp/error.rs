//! The one table from what went wrong to what the wire says.
//!
//! What a caller can mend is a tool result with `isError`, because models read those and clients
//! hide protocol errors. What the caller cannot mend says so without naming SQL or secrets; the
//! whole story goes to the daemon's log.

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::clip;
use super::bounds::URI_MAX_BYTES;
use crate::db::DbError;
use crate::runs::RunsError;
use crate::telemetry::chain;

/// A refusal or failure as tools tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolError {
    /// Stable word for programs.
    pub code: String,
    /// What is wrong, where.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// After how many ms the same call would be let through, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<i64>,
}

impl ToolError {
    /// An error with something to do about it.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>, hint: impl Into<String>) -> ToolError {
        ToolError {
            code: code.to_owned(),
            message: message.into(),
            hint: Some(hint.into()),
            retry_after_ms: None,
        }
    }

    /// An argument that is not of its form.
    #[must_use]
    pub fn argument(message: impl Into<String>, hint: impl Into<String>) -> ToolError {
        ToolError::new("invalid_argument", message, hint)
    }

    /// The error as the structured content of a result.
    #[must_use]
    pub fn to_value(&self) -> Value {
        json!({ "error": self })
    }

    /// The error as a tool result: structured, with the same JSON as text.
    #[must_use]
    pub fn into_result(self) -> CallToolResult {
        let value = self.to_value();
        let mut result = CallToolResult::error(vec![ContentBlock::text(pretty(&value))]);
        result.structured_content = Some(value);
        result
    }

    /// The error where only a protocol error fits: prompts, resources, tasks.
    #[must_use]
    pub fn into_protocol(self) -> ErrorData {
        let data = Some(json!({ "code": self.code, "hint": self.hint }));
        match self.code.as_str() {
            "database" | "io" | "stopping" => ErrorData::internal_error(self.message, data),
            _ => ErrorData::invalid_params(self.message, data),
        }
    }
}

impl From<RunsError> for ToolError {
    fn from(error: RunsError) -> ToolError {
        if !error.is_callers() {
            tracing::error!(error = %chain(&error), "a request failed inside the daemon");
        }
        let (message, hint) = match &error {
            RunsError::Db(why) => (database_failed(why, UNSURE), Some(DATABASE_HINT)),
            RunsError::Io { .. } => (error.to_string(), Some("run `adwd doctor`")),
            RunsError::Budget { remedy, .. } => (error.to_string(), Some(remedy.as_str())),
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

/// What is to be thought of a call of which the database failed.
pub const UNSURE: &str = "what was asked may not have happened";
/// What to do then.
pub const DATABASE_HINT: &str =
    "ask again; if it stays, read the daemon's log or run `adwd doctor`";

/// That the database failed, why where that is known, and what became of the call.
#[must_use]
pub fn database_failed(error: &DbError, outcome: &str) -> String {
    match error.why() {
        Some(why) => format!("the daemon's database failed ({why}); {outcome}"),
        None => format!("the daemon's database failed; {outcome}"),
    }
}

/// What the caller can do about it, where the message does not already say so.
fn hint(error: &RunsError) -> Option<&'static str> {
    match error {
        RunsError::UnknownRun { .. } => Some("call list_adw_workflows to see the known ids"),
        RunsError::UnknownProject { .. } | RunsError::ProjectNeeded { .. } => {
            Some("call list_adw_projects to see the names")
        }
        RunsError::NoProject => Some("run `adwd project add PATH` in a shell"),
        RunsError::UnknownPhase { .. } => Some("name one of the phases it has"),
        RunsError::Conflict { .. } => {
            Some("call get_adw_state with that id, or cancel_adw_workflow to make room")
        }
        RunsError::QueueFull { .. } => Some("call list_adw_workflows with status_filter queued"),
        RunsError::WrongState { .. } => Some("call get_adw_state to see where it stands"),
        RunsError::Stopping => Some("ask again in a few seconds"),
        RunsError::TimedOut { .. } => Some("ask again"),
        RunsError::Invalid { .. }
        | RunsError::BadProject { .. }
        | RunsError::Budget { .. }
        | RunsError::Io { .. }
        | RunsError::Db(_) => None,
    }
}

/// A failed read of a resource: what is not there is "not found" (rmcp writes the code of the
/// peer's revision), the rest is as for prompts.
#[must_use]
pub fn resource_error(uri: &str, error: RunsError) -> ErrorData {
    match error {
        RunsError::UnknownRun { .. }
        | RunsError::UnknownPhase { .. }
        | RunsError::WrongState { .. }
        | RunsError::Invalid { .. } => resource_not_found(uri, &error.to_string()),
        other => ToolError::from(other).into_protocol(),
    }
}

/// Nothing is at this address.
#[must_use]
pub fn resource_not_found(uri: &str, why: &str) -> ErrorData {
    // An address that is none because of its length is not sent back.
    let uri = if uri.len() > URI_MAX_BYTES { clip(uri) } else { uri.to_owned() };
    ErrorData::resource_not_found(format!("Resource not found: {why}"), Some(json!({ "uri": uri })))
}

/// JSON as people and models read it.
#[must_use]
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_twice_in_the_same_words() {
        let error = RunsError::UnknownRun { adw_id: "x".to_owned() };
        let result = ToolError::from(error).into_result();
        assert_eq!(result.is_error, Some(true));
        let structured = result.structured_content.unwrap();
        assert_eq!(structured["error"]["code"], "unknown_run");
        assert!(structured["error"]["hint"].as_str().unwrap().contains("list_adw_workflows"));
        let text = result.content[0].as_text().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text.text).unwrap(), structured);
    }

    #[test]
    fn what_the_caller_can_mend_says_how() {
        let errors = [
            RunsError::UnknownRun { adw_id: String::new() },
            RunsError::UnknownProject { name: String::new(), known: String::new() },
            RunsError::NoProject,
            RunsError::Stopping,
            RunsError::QueueFull { waiting: 1, max: 1 },
            RunsError::Conflict { adw_id: String::new(), message: String::new() },
        ];
        for error in errors {
            assert!(ToolError::from(error).hint.is_some());
        }
    }

    #[test]
    fn a_missing_resource_is_not_found_and_a_stopping_daemon_is_not() {
        let missing = resource_error("adw://runs/x", RunsError::UnknownRun { adw_id: "x".into() });
        assert_eq!(missing.code, rmcp::model::ErrorCode::RESOURCE_NOT_FOUND);
        let stopping = resource_error("adw://runs", RunsError::Stopping);
        assert_eq!(stopping.code, rmcp::model::ErrorCode::INTERNAL_ERROR);
    }
}
