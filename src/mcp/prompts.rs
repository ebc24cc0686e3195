//! Prompts of every family: slash commands in clients. They read; what changes something is left to
//! tools, where the client asks its user.

use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, GetPromptRequestParams, GetPromptResult, ListPromptsResult, Prompt, PromptArgument,
};

use super::args::{Args, Field, clip, nearest};
use super::bounds::LIVE_TTL_MS;
use super::error::ToolError;
use super::runs::prompts as runs;
use super::server::AdwServer;
use super::steps::prompts as steps;
use super::steps::resources::protocol;
use super::writing::prompts as writing;
use crate::config::Toolset;

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

/// The prompts that are fixed, with their sets, in the order in which they are listed.
fn fixed() -> impl Iterator<Item = (Toolset, &'static PromptDef)> {
    let runs = runs::PROMPTS.iter().map(|def| (Toolset::Adw, def));
    runs.chain(writing::PROMPTS.iter().map(|def| (Toolset::Writing, def)))
}

/// The prompts that are shown: fixed ones, and one for each workflow that can be started.
pub async fn listed(server: &AdwServer) -> Result<Vec<Prompt>, ErrorData> {
    let shown = fixed().filter(|(set, _)| server.shown().lists(*set));
    let mut listed: Vec<Prompt> = shown.map(|(_, def)| def.wire()).collect();
    if server.shown().lists(Toolset::Steps) {
        let workflows = steps::list(server.steps()).await;
        listed.extend(workflows.map_err(|error| protocol(&error))?);
    }
    Ok(listed)
}

/// The list of prompts.
pub async fn list(server: &AdwServer) -> Result<ListPromptsResult, ErrorData> {
    Ok(ListPromptsResult::with_all_items(listed(server).await?)
        .with_ttl_ms(LIVE_TTL_MS)
        .with_cache_scope(CacheScope::Private))
}

/// One prompt, filled in.
pub async fn get(
    server: &AdwServer,
    request: &GetPromptRequestParams,
) -> Result<GetPromptResult, ErrorData> {
    let given = request.arguments.clone().unwrap_or_default();
    let read = |name: &str, fields: &[Field]| {
        Args::read(name, fields, &given).map_err(ToolError::into_protocol)
    };
    let answers = |set: Toolset| server.shown().answers(set);
    let named = fixed().find(|(set, def)| def.name == request.name && answers(*set));
    if let Some((_, def)) = named {
        let args = read(def.name, def.fields)?;
        let messages = if writing::NAMES.contains(&def.name) {
            writing::fill(server.writing(), def.name, &args).await.map_err(ToolError::from)
        } else {
            let filled = runs::fill(server.runs(), server.clock(), def.name, &args).await;
            filled.map_err(ToolError::from)
        };
        let messages = messages.map_err(ToolError::into_protocol)?;
        return Ok(GetPromptResult::new(messages).with_description(def.about));
    }
    let found = match answers(Toolset::Steps) {
        true => steps::find(server.steps(), &request.name).await,
        false => Ok(None),
    };
    let Some(workflow) = found.map_err(|error| protocol(&error))? else {
        return Err(unknown(server, &request.name).await?);
    };
    let messages = steps::fill(&workflow, &read(&request.name, steps::FIELDS)?);
    Ok(GetPromptResult::new(messages).with_description(workflow.description))
}

async fn unknown(server: &AdwServer, name: &str) -> Result<ErrorData, ErrorData> {
    let listed = listed(server).await?;
    let names: Vec<&str> = listed.iter().map(|prompt| prompt.name.as_str()).collect();
    let near =
        nearest(name, &names).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    Ok(ErrorData::invalid_params(format!("Unknown prompt {:?}{near}", clip(name)), None))
}
