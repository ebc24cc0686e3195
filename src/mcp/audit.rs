//! The tool that shows what was asked of the daemon.

use rmcp::model::CallToolRequestParams;

use super::args::{Args, Kind, may};
use super::error::{DATABASE_HINT, ToolError, database_failed};
use super::schema;
use super::server::AdwServer;
use super::tools::{Answer, Effect, Family, ToolDef, answer};
use crate::audit::{InvocationFilter, InvocationPage, Status};
use crate::auth::Action;
use crate::limits::AUDIT_PAGE_COUNT;
use crate::telemetry::chain;

const STATUS_WORDS: &[&str] = &["open", "ok", "error", "refused", "interrupted"];

/// The tool.
pub static TOOLS: &[ToolDef] = &[ToolDef {
    name: "list_mcp_invocations",
    title: "List calls",
    about: "The record of calls of tools, newest first: who asked what when, how it ended and how \
            long it took; arguments with secrets masked. Pass next_cursor as cursor for the next \
            page. A call whose end was never written is interrupted.",
    fields: &[
        may("since", Kind::Moment, "Only calls from this moment on."),
        may("tool_name", Kind::Text, "Only calls of this tool."),
        may("user_id", Kind::Text, "Only calls by this caller, such as \"key:ab12\"."),
        may(
            "adw_id",
            Kind::Id,
            "Only calls about this run. A string, so that zeros in front stay.",
        ),
        may("status", Kind::Word(STATUS_WORDS), "Only calls that stand so."),
        may("limit", Kind::Int(1, AUDIT_PAGE_COUNT as i64), "Calls on the page; 50 by default."),
        may("cursor", Kind::Text, "The next_cursor of the page before."),
    ],
    aliases: &[],
    effect: Effect::Reads,
    family: Family::Audit,
    action: Action::ManageKeys,
    answer: schema::answer::<InvocationPage>,
}];

/// One call of it, by who may.
pub async fn call(server: &AdwServer, def: &ToolDef, request: &CallToolRequestParams) -> Answer {
    let given = request.arguments.clone().unwrap_or_default();
    let args = Args::read(def.name, def.fields, &given)?;
    let Some(audit) = server.gate().audit() else {
        return Err(ToolError::new(
            "disabled",
            "this daemon keeps no record of calls",
            "ask the daemon that serves this project",
        ));
    };
    let filter = InvocationFilter {
        since_ms: args.int("since"),
        tool_name: args.text("tool_name"),
        user_id: args.text("user_id"),
        adw_id: args.text("adw_id"),
        status: args.text("status").and_then(|word| Status::parse(&word)),
        limit: args.count("limit"),
        cursor: args.text("cursor"),
    };
    let page = audit.list(&filter).await.map_err(|error| {
        tracing::error!(error = %chain(&error), "the record of calls cannot be read");
        let message = database_failed(&error, "the record of calls cannot be read");
        ToolError::new("database", message, DATABASE_HINT)
    })?;
    answer(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_words_are_the_statuses() {
        assert_eq!(STATUS_WORDS, Status::ALL.map(Status::as_str));
    }
}
