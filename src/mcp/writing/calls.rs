//! The tools over writing workflows: from checked arguments to the slice and back.

use rmcp::RoleServer;
use rmcp::model::{CallToolRequestParams, JsonObject};
use rmcp::service::RequestContext;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::table::drift_hint;
use crate::mcp::args::{Args, clip};
use crate::mcp::caller::idempotency_key;
use crate::mcp::error::ToolError;
use crate::mcp::server::AdwServer;
use crate::mcp::tools::{Answer, ToolDef, answer};

/// Sends a tool to the method of the same name.
macro_rules! dispatch {
    ($name:expr, $writing:expr, $request:expr; $($tool:ident)+) => {
        match $name {
            $(stringify!($tool) => answer(&$writing.$tool(read($request)?).await?),)+
            other => Err(ToolError::new(
                "internal",
                format!("tool {other} is listed but has no body"),
                "report this as a defect",
            )),
        }
    };
}

/// One call of a tool that exists and that the caller may use.
pub async fn call(
    server: &AdwServer,
    def: &ToolDef,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Answer {
    let given = request.arguments.clone().unwrap_or_default();
    let args = arguments(def, &given)?;
    let mut asked = args.to_json();
    if def.name == "record_production_metric" && !args.has("idempotency_key") {
        // A client that sends the same call once more has the same id for it.
        let key = idempotency_key(None, server.principal(), &context.meta, def.name, &given);
        if let Some(key) = key {
            asked["idempotency_key"] = json!(key);
        }
    }
    dispatch!(
        def.name, server.writing(), asked;
        create_workflow list_active_workflows get_workflow_state advance_to_phase
        complete_current_phase execute_phase retry_failed_phase skip_phase get_phase_history
        record_quality_gate check_gate_status request_approval submit_approval
        get_pending_approvals start_book_iteration complete_book_iteration get_series_progress
        start_revision_pass complete_revision_pass skip_revision_pass get_revision_status
        update_book_record run_qa_checklist get_qa_report mark_ready_to_publish
        record_production_metric get_workflow_metrics get_workflow_velocity
        get_daily_writing_stats get_phase_analytics update_daily_stats
    )
}

/// Checks the arguments; names of another dialect are answered with the right ones.
pub(super) fn arguments(def: &ToolDef, given: &JsonObject) -> Result<Args, ToolError> {
    let known = |name: &str| def.fields.iter().any(|field| field.name == name);
    let drift = given.keys().filter(|name| !known(name)).find_map(|name| {
        let hint = drift_hint(def.name, name)?;
        let message = format!("{} has no argument {:?}", def.name, clip(name));
        Some(ToolError::new("unknown_argument", message, hint))
    });
    drift.map_or_else(|| Args::read(def.name, def.fields, given), Err)
}

/// The request of the slice. The table lets nothing through that it does not take, so an error
/// here is a figure or a text beyond what its own form allows.
fn read<Q: DeserializeOwned>(asked: serde_json::Value) -> Result<Q, ToolError> {
    serde_json::from_value(asked)
        .map_err(|error| ToolError::argument(error.to_string(), "see the tool's input schema"))
}
