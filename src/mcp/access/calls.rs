//! The tools over keys: from checked arguments to the handle and back.

use rmcp::model::CallToolRequestParams;

use super::table::MadeKey;
use crate::auth::{AccessError, NewKey};
use crate::mcp::args::Args;
use crate::mcp::error::{ToolError, UNSURE, database_failed};
use crate::mcp::server::AdwServer;
use crate::mcp::tools::{Answer, ToolDef, answer};
use crate::telemetry::chain;

/// One call of a tool that exists and that the caller may use.
pub async fn call(server: &AdwServer, def: &ToolDef, request: &CallToolRequestParams) -> Answer {
    let given = request.arguments.clone().unwrap_or_default();
    let args = Args::read(def.name, def.fields, &given)?;
    let (access, by) = (server.access(), server.principal());
    match def.name {
        "create_access_key" => create(server, &args).await,
        "list_access_keys" => answer(&access.list(by).await?),
        "revoke_access_key" => answer(&access.revoke(by, &args.needed("id")).await?),
        "rotate_access_key" => {
            let grace = args.text("grace");
            answer(&access.rotate(by, &args.needed("id"), grace.as_deref()).await?)
        }
        other => Err(ToolError::new(
            "internal",
            format!("tool {other} is listed but has no body"),
            "report this as a defect",
        )),
    }
}

async fn create(server: &AdwServer, args: &Args) -> Answer {
    let asked = NewKey {
        tier: args.needed("tier"),
        name: args.needed("name"),
        projects: args.list("projects").unwrap_or_default(),
        expires: args.text("expires"),
        hourly: args.int("hourly"),
        day_budget_usd: args.number("day_budget_usd").and_then(|number| number.as_f64()),
    };
    let key = server.access().create(server.principal(), &asked).await?;
    // A daemon that shares the database may serve them, so it is told and not refused.
    let served = server.runs().projects().await?;
    let bound = key.facts.projects.clone().unwrap_or_default().into_iter();
    let not_served = bound.filter(|name| served.iter().all(|p| p.name != *name)).collect();
    answer(&MadeKey { key, not_served })
}

impl From<AccessError> for ToolError {
    fn from(error: AccessError) -> ToolError {
        let code = error.code();
        let (message, hint) = match &error {
            AccessError::Db(why) => {
                tracing::error!(error = %chain(&error), "a request failed inside the daemon");
                (
                    database_failed(why, UNSURE),
                    Some("call list_access_keys to see; if it stays, run `adwd doctor`"),
                )
            }
            AccessError::NotAllowed { hint, .. } => (error.to_string(), Some(*hint)),
            AccessError::UnknownKey { .. } => {
                (error.to_string(), Some("call list_access_keys to see the ids"))
            }
            AccessError::Conflict { .. } => (error.to_string(), Some("look again, then ask again")),
            AccessError::Ended { .. } => (error.to_string(), Some("call create_access_key")),
            other => (other.to_string(), None),
        };
        ToolError {
            code: code.to_owned(),
            message,
            hint: hint.map(str::to_owned),
            retry_after_ms: None,
        }
    }
}
