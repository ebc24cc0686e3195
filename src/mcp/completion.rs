//! Completion of the arguments of prompts and templates.

use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompleteResult, CompletionInfo, Reference};

use super::bounds::COMPLETION_COUNT;
use super::error::ToolError;
use super::prompts;
use super::resources::{LOG_TEMPLATE, RUN_TEMPLATE, STATE_TEMPLATE};
use super::tools::STATUS_WORDS;
use crate::runs::{Runs, RunsError};

/// Values that begin with what was typed.
pub async fn complete(
    runs: &Runs,
    request: &CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    // What does not exist has nothing to complete; an empty list is the answer every client takes.
    if !exists(&request.r#ref) {
        return told(Vec::new());
    }
    let typed = request.argument.value.as_str();
    let values = match request.argument.name.as_str() {
        // One more than may be told, to know whether there are more.
        "adw_id" => ids(runs, typed).await.map_err(|e| ToolError::from(e).into_protocol())?,
        "phase" | "from_phase" => begin(runs.phase_names(), typed),
        "status" | "status_filter" => {
            begin(STATUS_WORDS.iter().map(|word| (*word).to_owned()).collect(), typed)
        }
        "project" => {
            let projects = runs.projects().await.map_err(|e| ToolError::from(e).into_protocol())?;
            begin(projects.into_iter().map(|project| project.name).collect(), typed)
        }
        _ => Vec::new(),
    };
    told(values)
}

async fn ids(runs: &Runs, typed: &str) -> Result<Vec<String>, RunsError> {
    match runs.complete_ids(typed, COMPLETION_COUNT + 1).await {
        // What cannot begin an id begins none.
        Err(RunsError::Invalid { .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn begin(mut values: Vec<String>, typed: &str) -> Vec<String> {
    values.retain(|value| value.starts_with(typed));
    values
}

fn told(mut values: Vec<String>) -> Result<CompleteResult, ErrorData> {
    let more = values.len() > COMPLETION_COUNT;
    values.truncate(COMPLETION_COUNT);
    let total = if more { None } else { u32::try_from(values.len()).ok() };
    let info = CompletionInfo::with_pagination(values, total, more)
        .map_err(|error| ErrorData::internal_error(error, None))?;
    Ok(CompleteResult::new(info))
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
    fn at_most_a_hundred_values_are_told() {
        let many = (0..=COMPLETION_COUNT).map(|n| n.to_string()).collect();
        let result = told(many).unwrap().completion;
        assert_eq!((result.values.len(), result.has_more), (COMPLETION_COUNT, Some(true)));
        let few = told(vec!["a".to_owned()]).unwrap().completion;
        assert_eq!((few.total, few.has_more), (Some(1), Some(false)));
    }

    #[test]
    fn only_what_exists_is_completed() {
        assert!(exists(&Reference::for_prompt("diagnose_run")));
        assert!(exists(&Reference::for_resource(LOG_TEMPLATE)));
        assert!(!exists(&Reference::for_prompt("nope")));
        assert!(!exists(&Reference::for_resource("adw://x/{y}")));
    }
}
