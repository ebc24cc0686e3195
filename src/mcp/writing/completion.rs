//! Completion of the arguments of the writing workflows' prompts and templates.

use rmcp::model::{CompleteRequestParams, Reference};

use super::prompts;
use super::uri::{
    APPROVALS_TEMPLATE, BOOK_TEMPLATE, GATES_TEMPLATE, METRIC_VIEWS, METRICS_TEMPLATE,
    PHASE_TEMPLATE, PHASES_TEMPLATE, QA_TEMPLATE, REVISION_TEMPLATE, STATE_TEMPLATE,
};
use crate::mcp::bounds::COMPLETION_COUNT;
use crate::mcp::completion::begin;
use crate::writing::phase::PHASES;
use crate::writing::{WorkflowRef, Writing, WritingError};

/// Values that begin with what was typed; `None` where it is not about writing workflows.
///
/// # Errors
/// [`WritingError`].
pub async fn complete(
    writing: &Writing,
    request: &CompleteRequestParams,
) -> Result<Option<Vec<String>>, WritingError> {
    if !exists(&request.r#ref) {
        return Ok(None);
    }
    let typed = request.argument.value.as_str();
    Ok(Some(match request.argument.name.as_str() {
        // One more than may be told, to know whether there are more.
        "workflow_id" => {
            let ids = writing.complete_ids(typed, COMPLETION_COUNT + 1).await?;
            ids.iter().map(ToString::to_string).collect()
        }
        "book_number" => begin(books(writing, request).await?, typed),
        "phase_number" => {
            begin(PHASES.iter().map(|phase| phase.number.to_string()).collect(), typed)
        }
        "view" => begin(METRIC_VIEWS.map(str::to_owned).to_vec(), typed),
        _ => Vec::new(),
    }))
}

/// The books of the workflow that was named before; none where none was.
async fn books(
    writing: &Writing,
    request: &CompleteRequestParams,
) -> Result<Vec<String>, WritingError> {
    let before = request.context.as_ref().and_then(|context| context.arguments.as_ref());
    let named = before.and_then(|before| before.get("workflow_id"));
    let Some(workflow_id) = named.and_then(|id| id.parse().ok()) else { return Ok(Vec::new()) };
    match writing.get_workflow_state(WorkflowRef { workflow_id }).await {
        Ok(state) => Ok((1..=state.total_books).map(|n| n.to_string()).collect()),
        Err(WritingError::UnknownWorkflow { .. }) => Ok(Vec::new()),
        Err(other) => Err(other),
    }
}

fn exists(reference: &Reference) -> bool {
    if let Some(name) = reference.as_prompt_name() {
        prompts::NAMES.contains(&name)
    } else if let Some(uri) = reference.as_resource_uri() {
        [
            STATE_TEMPLATE,
            PHASES_TEMPLATE,
            APPROVALS_TEMPLATE,
            GATES_TEMPLATE,
            METRICS_TEMPLATE,
            BOOK_TEMPLATE,
            REVISION_TEMPLATE,
            QA_TEMPLATE,
            PHASE_TEMPLATE,
        ]
        .contains(&uri)
    } else {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exists_is_completed() {
        assert!(exists(&Reference::for_prompt("writing_status")));
        assert!(exists(&Reference::for_resource(METRICS_TEMPLATE)));
        assert!(!exists(&Reference::for_prompt("diagnose_run")));
        assert!(!exists(&Reference::for_resource("writing://{x}")));
    }
}
