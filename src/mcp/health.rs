//! How the daemon is, for those who cannot or will not ask over HTTP: the resource `adw://health`.

use std::pin::Pin;
use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::Resource;
use serde_json::Value;

use super::bounds::LIVE_TTL_MS;
use super::error::{ToolError, pretty};
use super::resources::{JSON, Reading};
use super::server::AdwServer;
use crate::auth::Scope;

/// Address of the report.
pub const HEALTH_URI: &str = "adw://health";

/// Asks how the daemon is; the answer is the JSON that `/mcp/health` has too.
pub type Health = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

/// For a layer without a daemon around it, as in tests.
#[must_use]
pub fn no_health() -> Health {
    Arc::new(|| Box::pin(async { Value::Null }))
}

/// The entry of the list, for those who may read it.
#[must_use]
pub fn list(server: &AdwServer) -> Option<Resource> {
    let entry = || {
        Resource::new(HEALTH_URI, "health")
            .with_title("How the daemon is")
            .with_description(
                "uv, Python, git, agents, forges, database, disk, queue, supervisor: ok, degraded or failed, why, and what to do",
            )
            .with_mime_type(JSON)
    };
    (server.principal().scope == Scope::All).then(entry)
}

/// The report.
///
/// # Errors
/// Who is bound to projects may not read it: it is about all of them.
pub async fn read(server: &AdwServer) -> Result<Reading, ErrorData> {
    if server.principal().scope != Scope::All {
        let message =
            format!("{HEALTH_URI} is about the whole daemon; this key is bound to projects");
        let hint = "ask whoever runs the daemon, or use a key that is bound to none";
        return Err(ToolError::new("not_allowed", message, hint).into_protocol());
    }
    let text = pretty(&server.health().await);
    Ok(Reading { text, mime: JSON.into(), ttl_ms: LIVE_TTL_MS })
}
