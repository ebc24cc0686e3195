//! Completion of the arguments of prompts and templates, of every family.

use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompleteResult, CompletionInfo};

use super::bounds::COMPLETION_COUNT;
use super::error::ToolError;
use super::runs::completion as runs;
use super::server::AdwServer;
use super::steps::completion as steps;
use super::steps::resources::protocol;
use super::writing::completion as writing;
use crate::config::Toolset;

/// Values that begin with what was typed. What does not exist has nothing to complete; an empty
/// list is the answer every client takes.
pub async fn complete(
    server: &AdwServer,
    request: &CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    let wrong = ToolError::into_protocol;
    let runs = runs::complete(server.runs(), request).await;
    if let Some(values) = runs.map_err(|error| wrong(error.into()))? {
        return told(values);
    }
    if server.shown().exists(Toolset::Writing) {
        let writing = writing::complete(server.writing(), request).await;
        if let Some(values) = writing.map_err(|error| wrong(error.into()))? {
            return told(values);
        }
    }
    if !server.shown().exists(Toolset::Steps) {
        return told(Vec::new());
    }
    let values = steps::complete(server.steps(), server.runs(), request).await;
    told(values.map_err(|error| protocol(&error))?.unwrap_or_default())
}

/// The values that begin so.
#[must_use]
pub fn begin(mut values: Vec<String>, typed: &str) -> Vec<String> {
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
}
