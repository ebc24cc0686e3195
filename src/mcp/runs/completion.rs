//! Completion of the arguments of the runs' prompts and templates.

use rmcp::model::{CompleteRequestParams, Reference};

use super::prompts;
use super::resources::{LOG_TEMPLATE, RUN_TEMPLATE, STATE_TEMPLATE};
use super::table::STATUS_WORDS;
use crate::mcp::bounds::COMPLETION_COUNT;
use crate::mcp::completion::begin;
use crate::runs::{Runs, RunsError};

/// Values that begin with what was typed; `None` where it is not about runs.
///
/// # Errors
/// [`RunsError`].
pub async fn complete(
    runs: &Runs,
    request: &CompleteRequestParams,
) -> Result<Option<Vec<String>>, RunsError> {
    if !exists(&request.r#ref) {
        return Ok(None);
    }
    let typed = request.argument.value.as_str();
    Ok(Some(match request.argument.name.as_str() {
        // One more than may be told, to know whether there are more.
        "adw_id" => ids(runs, typed).await?,
        "phase" | "from_phase" => begin(runs.phase_names(), typed),
        "status" | "status_filter" => {
            begin(STATUS_WORDS.iter().map(|word| (*word).to_owned()).collect(), typed)
        }
        "project" => {
            let projects = runs.projects().await?;
            begin(projects.into_iter().map(|project| project.name).collect(), typed)
        }
        _ => Vec::new(),
    }))
}

async fn ids(runs: &Runs, typed: &str) -> Result<Vec<String>, RunsError> {
    match runs.complete_ids(typed, COMPLETION_COUNT + 1).await {
        // What cannot begin an id begins none.
        Err(RunsError::Invalid { .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn exists(reference: &Reference) -> bool {
    if let Some(name) = reference.as_prompt_name() {
        prompts::NAMES.contains(&name)
    } else if let Some(uri) = reference.as_resource_uri() {
        [RUN_TEMPLATE, STATE_TEMPLATE, LOG_TEMPLATE].contains(&uri)
    } else {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exists_is_completed() {
        assert!(exists(&Reference::for_prompt("diagnose_run")));
        assert!(exists(&Reference::for_resource(LOG_TEMPLATE)));
        assert!(!exists(&Reference::for_prompt("nope")));
        assert!(!exists(&Reference::for_resource("adw://x/{y}")));
    }
}
