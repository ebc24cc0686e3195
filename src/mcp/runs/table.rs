//! The tools over runs: names, words and arguments.

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::Action;
use crate::mcp::args::{Field, Kind, may, need};
use crate::mcp::bounds::WAIT_MAX_S;
use crate::mcp::schema;
use crate::mcp::tools::{Effect, Family, ToolDef};
use crate::runs::{LogPage, ProjectView, RunPage, RunView, Triggered, UsagePage};

/// Words of `status_filter`: the statuses and `pending`, which means queued or starting, as in
/// the answer to a trigger.
pub const STATUS_WORDS: [&str; 11] = [
    "pending",
    "queued",
    "starting",
    "running",
    "stopping",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
    "skipped",
    "lost",
];

/// The run after a wait.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// The run as it now is.
    #[serde(flatten)]
    pub run: RunView,
    /// Whether it has ended; where false, wait again.
    pub ended: bool,
}

/// The served projects.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Projects {
    /// The projects.
    pub projects: Vec<ProjectView>,
}

/// A project that is now served.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AddedProject {
    /// The project.
    #[serde(flatten)]
    pub project: ProjectView,
    /// Whether it is new; false where it was served already.
    pub added: bool,
}

/// A project that is no longer served.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RemovedProject {
    /// Its name.
    pub name: String,
    /// Always true.
    pub removed: bool,
}

const ISSUE: Field = need(
    "issue_number",
    Kind::Id,
    "Number of the issue, 1 to 10 digits without '#', such as \"42\".",
);
const PROJECT: Field = may(
    "project",
    Kind::Text,
    "Name of the project, as list_adw_projects shows it. May be left out where one is served.",
);
const RUN: Field =
    need("adw_id", Kind::Id, "Id of the run. A string, so that zeros in front stay.");
const NEW_RUN: Field = may(
    "adw_id",
    Kind::Id,
    "Id wanted for the run: 1 to 64 letters, digits, '_' or '-'. Left out, one is made. A string, \
     so that zeros in front stay.",
);
const MODEL: Field = may("model", Kind::Text, "Model for the agents, such as \"sonnet\".");
const KEY: Field = may(
    "idempotency_key",
    Kind::Text,
    "Any text. A call repeated with the same key gets the first answer and starts nothing.",
);

/// All tools, in the order in which they are listed.
pub static TOOLS: &[ToolDef] = &[
    ToolDef {
        name: "trigger_adw_workflow",
        title: "Start a run",
        about: "Turns an issue into a reviewed branch and pull request: plan, build and review \
                run in a git worktree of their own. Answers within seconds with the adw_id while \
                the run goes on; follow it with wait_adw_workflow or get_adw_state. An issue \
                whose run is active gets that run's id and already_running. To a client with the \
                tasks extension the run itself is the task.",
        fields: &[
            ISSUE,
            PROJECT,
            NEW_RUN,
            MODEL,
            may("skip_cleanup", Kind::Flag, "Keep the worktree after success."),
            may(
                "phases",
                Kind::List,
                "Phases to run, in order, such as [\"plan\",\"build\"]; all of them by default.",
            ),
            may("priority", Kind::Int(-100, 100), "Higher leaves the queue earlier; 0 by default."),
            KEY,
        ],
        aliases: &[],
        effect: Effect::Starts,
        family: Family::Runs,
        action: Action::Steer,
        answer: triggered,
    },
    ToolDef {
        name: "trigger_adw_phase",
        title: "Start one phase",
        about: "Runs a single phase of an issue: \"plan\" makes a new run, later phases go on \
                with the issue's newest run or the one named by adw_id. Answers like \
                trigger_adw_workflow.",
        fields: &[
            need("phase", Kind::Text, "Name of the phase: plan, build, review, or the profile's."),
            ISSUE,
            PROJECT,
            may("adw_id", Kind::Id, "The run to go on with, or the id wanted for a new one."),
            MODEL,
            KEY,
        ],
        aliases: &[],
        effect: Effect::Starts,
        family: Family::Runs,
        action: Action::Steer,
        answer: triggered,
    },
    ToolDef {
        name: "get_adw_state",
        title: "Show a run",
        about: "Everything known about a run: status, phases with attempts, branch, worktree, \
                pull request, cost, queue position, failure with its cause, and the scripts' own \
                state file as `state`.",
        fields: &[RUN],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Runs,
        action: Action::Read,
        answer: schema::answer::<RunView>,
    },
    ToolDef {
        name: "list_adw_workflows",
        title: "List runs",
        about: "Runs, newest first, with the total over all pages. Pass next_cursor as cursor \
                for the next page.",
        fields: &[
            may("adw_id_filter", Kind::Id, "Beginning of the id."),
            may(
                "status_filter",
                Kind::Word(&STATUS_WORDS),
                "Only runs with this status; pending is queued or starting.",
            ),
            PROJECT,
            may("issue_number", Kind::Id, "Only runs of this issue."),
            may(
                "since",
                Kind::Moment,
                "Only runs accepted at or after: RFC 3339, or milliseconds since 1970.",
            ),
            may("limit", Kind::Int(1, 100), "Runs on a page; 50 by default."),
            may("cursor", Kind::Text, "next_cursor of the page before."),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Runs,
        action: Action::Read,
        answer: schema::answer::<RunPage>,
    },
    ToolDef {
        name: "get_adw_logs",
        title: "Read a log",
        about: "A page of a phase's log. Pass next as after for what follows, also at the end \
                of a log that still grows. With tail the page is the end of the log.",
        fields: &[
            RUN,
            may("phase", Kind::Text, "The phase; the current or last one by default."),
            may("after", Kind::Text, "next of the page before."),
            may("limit", Kind::Int(1, 1000), "Lines on a page; 200 by default."),
            may("tail", Kind::Flag, "Begin with the last lines instead of the first."),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Runs,
        action: Action::Read,
        answer: schema::answer::<LogPage>,
    },
    ToolDef {
        name: "wait_adw_workflow",
        title: "Wait for a run",
        about: "Waits until the run has ended, at most timeout_s seconds, and answers the run as \
                it then is, with ended. Where ended is false, call it again. Ending the wait \
                never ends the run. A client with the tasks extension that names no timeout_s \
                gets the run as a task.",
        fields: &[
            RUN,
            may(
                "timeout_s",
                Kind::Int(1, WAIT_MAX_S as i64),
                "Longest wait in seconds, at most 50; 45 by default.",
            ),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Runs,
        action: Action::Read,
        answer: schema::answer::<Waited>,
    },
    ToolDef {
        name: "cancel_adw_workflow",
        title: "Cancel a run",
        about: "Ends a run with its whole process tree, or takes it out of the queue. The \
                worktree and what was committed stay. A run that has ended is answered unchanged.",
        fields: &[RUN],
        aliases: &[],
        effect: Effect::Ends,
        family: Family::Runs,
        action: Action::Steer,
        answer: schema::answer::<RunView>,
    },
    ToolDef {
        name: "resume_adw_workflow",
        title: "Resume a run",
        about: "Goes on with a run that failed, was cancelled, timed out or got lost, with the \
                same id and worktree, from the failed phase or from_phase.",
        fields: &[RUN, may("from_phase", Kind::Text, "Phase to begin with again.")],
        aliases: &[],
        effect: Effect::Starts,
        family: Family::Runs,
        action: Action::Steer,
        answer: schema::answer::<RunView>,
    },
    ToolDef {
        name: "get_usage",
        title: "Show what was spent",
        about: "What agents spent, in US dollars and tokens, by their own account: a line for each \
                run, project, user or day, with its budget and what is left of it. Below the admin \
                tier only what the caller itself spent and what the projects it sees did. Days are \
                counted whole.",
        fields: &[
            may(
                "by",
                Kind::Word(&["run", "project", "user", "day"]),
                "Lines for each; project by default.",
            ),
            may("since", Kind::Moment, "From its day on: RFC 3339, or milliseconds since 1970."),
            may("until", Kind::Moment, "Up to its day."),
            may("project", Kind::Text, "Only this project."),
            may("user", Kind::Text, "Only this user, such as \"key:3f9a1c2e\"."),
            may("adw_id", Kind::Id, "Only this run."),
            may("limit", Kind::Int(1, 100), "Lines on a page; 50 by default."),
            may("cursor", Kind::Text, "The next_cursor of an earlier page."),
        ],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Runs,
        action: Action::Read,
        answer: schema::answer::<UsagePage>,
    },
    ToolDef {
        name: "list_adw_projects",
        title: "List projects",
        about: "The repositories the daemon serves, with profile, agent, forge and the number \
                of active runs.",
        fields: &[],
        aliases: &[],
        effect: Effect::Reads,
        family: Family::Runs,
        action: Action::Read,
        answer: schema::answer::<Projects>,
    },
    ToolDef {
        name: "add_adw_project",
        title: "Serve a project",
        about: "Serves one more git repository on this machine. What was added already is \
                answered with added false.",
        fields: &[
            need("path", Kind::Text, "Absolute path of the repository."),
            may("name", Kind::Text, "Name for it; the folder's by default."),
        ],
        aliases: &[],
        effect: Effect::Adds,
        family: Family::Runs,
        action: Action::ManageProjects,
        answer: schema::answer::<AddedProject>,
    },
    ToolDef {
        name: "remove_adw_project",
        title: "Stop serving a project",
        about: "Stops serving a project that was added by command; nothing in the repository is \
                touched. Refused while it has active runs.",
        fields: &[need("name", Kind::Text, "Name of the project.")],
        aliases: &[],
        effect: Effect::Ends,
        family: Family::Runs,
        action: Action::ManageProjects,
        answer: schema::answer::<RemovedProject>,
    },
];

/// A trigger's answer. As the result of a task the same call answers with the whole run, whose
/// `phases` are objects, so both forms are in the schema.
fn triggered() -> JsonObject {
    let mut schema = schema::answer::<Triggered>();
    if let Some(phases) = schema.get_mut("properties").and_then(|p| p.get_mut("phases")) {
        *phases = json!({
            "type": "array",
            "description": "The phases it will run; in the result of a task, each as \
                            get_adw_state shows it.",
            "items": { "anyOf": [{ "type": "string" }, { "type": "object" }] },
        });
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::RunStatus;

    #[test]
    fn the_status_words_are_the_statuses_and_pending() {
        let all = RunStatus::ALL.map(RunStatus::as_str);
        assert_eq!(STATUS_WORDS[0], "pending");
        assert_eq!(STATUS_WORDS[1..], all);
        assert!(STATUS_WORDS.iter().all(|word| RunStatus::parse(word).is_some()));
    }
}
