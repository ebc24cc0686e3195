//! Resources: runs under `adw://runs`, as JSON, and their logs as text.

use std::fmt;

use rmcp::ErrorData;
use rmcp::model::{Resource, ResourceTemplate};

use super::calls::tidy;
use crate::ids::{PhaseName, RunId};
use crate::mcp::bounds::{LISTED_RUNS_COUNT, LIVE_TTL_MS, LOG_RESOURCE_LINES};
use crate::mcp::error::{ToolError, resource_error, resource_not_found};
use crate::mcp::resources::{JSON, Reading, TEXT};
use crate::runs::{ListFilter, LogQuery, RunSummary, Runs, RunsError};

const ROOT: &str = "adw://runs";

/// Template of a run.
pub const RUN_TEMPLATE: &str = "adw://runs/{adw_id}";
/// Template of a run's state file.
pub const STATE_TEMPLATE: &str = "adw://runs/{adw_id}/state";
/// Template of a phase's log.
pub const LOG_TEMPLATE: &str = "adw://runs/{adw_id}/log/{phase}";

/// The address of something that can be read. Printing and parsing are each other's inverse.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunUri {
    /// The newest runs.
    Runs,
    /// One run.
    Run(RunId),
    /// The run's `adw_state.json`.
    State(RunId),
    /// The log of one of its phases.
    Log(RunId, PhaseName),
}

impl RunUri {
    /// Reads an address; ids need no escapes, so an address with one is of nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<RunUri> {
        let rest = text.strip_prefix(ROOT)?;
        if rest.is_empty() {
            return Some(RunUri::Runs);
        }
        let mut parts = rest.strip_prefix('/')?.split('/');
        let id = RunId::parse(parts.next()?).ok()?;
        match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => Some(RunUri::Run(id)),
            (Some("state"), None, _) => Some(RunUri::State(id)),
            (Some("log"), Some(phase), None) => {
                Some(RunUri::Log(id, PhaseName::parse(phase).ok()?))
            }
            _ => None,
        }
    }

    /// The run that it is about; none where it is about all.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            RunUri::Runs => None,
            RunUri::Run(id) | RunUri::State(id) | RunUri::Log(id, _) => Some(id),
        }
    }

    /// Whether a change of this run may change what is read here.
    #[must_use]
    pub fn shows(&self, changed: &RunId) -> bool {
        self.run().is_none_or(|id| id == changed)
    }
}

impl fmt::Display for RunUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunUri::Runs => f.write_str(ROOT),
            RunUri::Run(id) => write!(f, "{ROOT}/{id}"),
            RunUri::State(id) => write!(f, "{ROOT}/{id}/state"),
            RunUri::Log(id, phase) => write!(f, "{ROOT}/{id}/log/{phase}"),
        }
    }
}

/// The list of recent runs, and each of them.
pub async fn list(runs: &Runs) -> Result<Vec<Resource>, ErrorData> {
    let mut listed = vec![
        Resource::new(ROOT, "runs")
            .with_title("Recent runs")
            .with_description("The newest runs with status, branch and pull request")
            .with_mime_type(JSON),
    ];
    listed.extend(recent(runs).await.map_err(protocol)?.iter().map(entry));
    Ok(listed)
}

/// The runs that are listed, newest first.
async fn recent(runs: &Runs) -> Result<Vec<RunSummary>, RunsError> {
    let filter = ListFilter { limit: Some(LISTED_RUNS_COUNT), ..ListFilter::default() };
    Ok(runs.list(&filter).await?.workflows)
}

/// Nothing in an entry changes during a run's life, so the list changes only with new runs.
fn entry(run: &RunSummary) -> Resource {
    Resource::new(format!("{ROOT}/{}", run.adw_id), run.adw_id.clone())
        .with_title(format!("Run {}: {}#{}", run.adw_id, run.project, run.issue_number))
        .with_description(format!("Accepted {}", run.created_at))
        .with_mime_type(JSON)
}

/// The templates.
#[must_use]
pub fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(RUN_TEMPLATE, "run")
            .with_title("A run")
            .with_description("Everything known about a run, as get_adw_state answers it")
            .with_mime_type(JSON),
        ResourceTemplate::new(STATE_TEMPLATE, "run-state")
            .with_title("A run's state file")
            .with_description("The last good adw_state.json that the scripts wrote")
            .with_mime_type(JSON),
        ResourceTemplate::new(LOG_TEMPLATE, "run-log")
            .with_title("A phase's log")
            .with_description("The end of the log of the phase's last attempt")
            .with_mime_type(TEXT),
    ]
}

/// What is at an address.
pub async fn read(runs: &Runs, uri: &str, address: &RunUri) -> Result<Reading, ErrorData> {
    let failed = |error| resource_error(uri, error);
    Ok(match address {
        RunUri::Runs => {
            let filter = ListFilter { limit: Some(LISTED_RUNS_COUNT), ..ListFilter::default() };
            Reading::live(&runs.list(&filter).await.map_err(failed)?)
        }
        RunUri::Run(id) => Reading::live(&tidy(runs.get(id.as_str()).await.map_err(failed)?)),
        RunUri::State(id) => {
            let run = runs.get(id.as_str()).await.map_err(failed)?;
            let Some(state) = run.state else {
                return Err(resource_not_found(uri, &format!("run {id} has written no state yet")));
            };
            Reading::live(&state)
        }
        RunUri::Log(id, phase) => {
            let text = log(runs, id, phase).await.map_err(failed)?;
            Reading { text, mime: TEXT.into(), ttl_ms: LIVE_TTL_MS }
        }
    })
}

async fn log(runs: &Runs, id: &RunId, phase: &PhaseName) -> Result<String, RunsError> {
    let query = LogQuery {
        phase: Some(phase.to_string()),
        limit: Some(LOG_RESOURCE_LINES),
        tail: true,
        ..LogQuery::default()
    };
    let mut text = runs.logs(id.as_str(), &query).await?.lines.join("\n");
    text.push('\n');
    Ok(text)
}

fn protocol(error: RunsError) -> ErrorData {
    ToolError::from(error).into_protocol()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_our_addresses_are_addresses() {
        assert_eq!(RunUri::parse("adw://runs"), Some(RunUri::Runs));
        for bad in [
            "",
            "adw://",
            "adw://runs/",
            "adw://runs//state",
            "adw://runs/a/",
            "adw://runs/a/b",
            "adw://runs/a/log",
            "adw://runs/a/log/",
            "adw://runs/a/log/plan/x",
            "adw://runs/a/state/x",
            "adw://runs/../x",
            "adw://runs/%61",
            "adw://runsx",
            "ADW://runs",
            "file:///etc/passwd",
            "adw://runs/a/log/../../x",
        ] {
            assert_eq!(RunUri::parse(bad), None, "{bad}");
        }
    }

    fn any_uri() -> impl Strategy<Value = RunUri> {
        let id = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}".prop_map(|s| RunId::parse(&s).unwrap());
        let phase = "[a-z][a-z0-9_]{0,31}".prop_map(|s| PhaseName::parse(&s).unwrap());
        (0..4, id, phase).prop_map(|(kind, id, phase)| match kind {
            0 => RunUri::Runs,
            1 => RunUri::Run(id),
            2 => RunUri::State(id),
            _ => RunUri::Log(id, phase),
        })
    }

    proptest! {
        #[test]
        fn print_then_parse_is_identity(uri in any_uri()) {
            prop_assert_eq!(RunUri::parse(&uri.to_string()), Some(uri));
        }

        #[test]
        fn what_parses_prints_as_it_was(text in "adw://runs(/[a-z0-9./%-]{0,12}){0,4}") {
            if let Some(uri) = RunUri::parse(&text) {
                prop_assert_eq!(uri.to_string(), text);
            }
        }
    }
}
