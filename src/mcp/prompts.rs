//! Prompts of every family: slash commands in clients. They read; what changes something is left to
//! tools, where the client asks its user.

use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, GetPromptRequestParams, GetPromptResult, ListPromptsResult, Prompt, PromptArgument,
};

use super::args::{Args, Field, clip, nearest};
use super::bounds::STATIC_TTL_MS;
use super::error::ToolError;
use super::runs::prompts as runs;
use super::server::AdwServer;
use super::writing::prompts as writing;

/// One prompt.
pub struct PromptDef {
    /// Name on the wire.
    pub name: &'static str,
    /// Title for people.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Arguments.
    pub fields: &'static [Field],
}

impl PromptDef {
    fn wire(&self) -> Prompt {
        let arguments = self.fields.iter().map(|field| {
            PromptArgument::new(field.name)
                .with_description(field.about)
                .with_required(field.required)
        });
        Prompt::new(self.name, Some(self.about), Some(arguments.collect())).with_title(self.title)
    }
}

/// Every prompt, in the order in which they are listed.
fn all() -> impl Iterator<Item = &'static PromptDef> {
    runs::PROMPTS.iter().chain(&writing::PROMPTS)
}

/// The list of prompts.
#[must_use]
pub fn list() -> ListPromptsResult {
    ListPromptsResult::with_all_items(all().map(PromptDef::wire).collect())
        .with_ttl_ms(STATIC_TTL_MS)
        .with_cache_scope(CacheScope::Private)
}

/// One prompt, filled in.
pub async fn get(
    server: &AdwServer,
    request: &GetPromptRequestParams,
) -> Result<GetPromptResult, ErrorData> {
    let Some(def) = all().find(|def| def.name == request.name) else {
        let names: Vec<&str> = all().map(|def| def.name).collect();
        let near = nearest(&request.name, &names)
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        let message = format!("Unknown prompt {:?}{near}", clip(&request.name));
        return Err(ErrorData::invalid_params(message, None));
    };
    let given = request.arguments.clone().unwrap_or_default();
    let args = Args::read(def.name, def.fields, &given).map_err(ToolError::into_protocol)?;
    let messages = if writing::NAMES.contains(&def.name) {
        writing::fill(server.writing(), def.name, &args).await.map_err(ToolError::from)
    } else {
        runs::fill(server.runs(), server.clock(), def.name, &args).await.map_err(ToolError::from)
    };
    let messages = messages.map_err(ToolError::into_protocol)?;
    Ok(GetPromptResult::new(messages).with_description(def.about))
}
