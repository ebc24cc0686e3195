//! What a client reads to learn where tokens come from: the protected resource's metadata (RFC 9728).

use serde_json::{Value, json};

use crate::auth::jwt::SCOPES;
use crate::config::AccessConfig;

/// Where the metadata is, of the host and of the endpoint `/mcp`.
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
/// See [`METADATA_PATH`].
pub const MCP_METADATA_PATH: &str = "/.well-known/oauth-protected-resource/mcp";

/// The scope that a client has to ask for at least.
pub const LEAST_SCOPE: &str = SCOPES[0].0;

/// The metadata; none where no tokens are taken.
#[must_use]
pub fn metadata(config: &AccessConfig) -> Option<Value> {
    let (issuer, audience) = (config.oauth.issuer.as_ref()?, config.oauth.audience.as_ref()?);
    Some(json!({
        "resource": audience,
        "authorization_servers": [issuer],
        "scopes_supported": SCOPES.map(|(scope, _)| scope),
        "bearer_methods_supported": ["header"],
        "resource_name": "adwd",
    }))
}

/// Where clients find it.
#[must_use]
pub fn metadata_url(config: &AccessConfig) -> Option<String> {
    metadata(config)?;
    Some(format!("{}{MCP_METADATA_PATH}", config.public_origin()?))
}
