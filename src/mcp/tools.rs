//! The catalogue of tools: names, words for models, arguments, answers, annotations.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{Field, Kind, input_schema, may, need};
use super::bounds::WAIT_MAX_S;
use super::schema;
use crate::auth::{Action, Principal};
use crate::runs::{LogPage, ProjectView, RunPage, RunView, Triggered};

/// Words of `status_filter`: the statuses and `pending`, which means queued.
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

/// What a tool does to the world, as its annotations say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads only, our own data only.
    Reads,
    /// Starts work that reaches agents and the forge.
    Starts,
    /// Ends or removes something; twice is as good as once.
    Ends,
    /// Adds to our own settings; twice is as good as once.
    Adds,
}

impl Effect {
    /// All four hints: the protocol's defaults are the pessimistic ones.
    fn annotations(self, title: &str) -> ToolAnnotations {
        let (read_only, destructive, idempotent, open_world) = match self {
            Effect::Reads => (true, false, true, false),
            Effect::Starts => (false, false, false, true),
            Effect::Ends => (false, true, true, false),
            Effect::Adds => (false, false, true, false),
        };
        ToolAnnotations::with_title(title)
            .read_only(read_only)
            .destructive(destructive)
            .idempotent(idempotent)
            .open_world(open_world)
    }
}

/// One tool.
pub struct ToolDef {
    /// Name on the wire.
    pub name: &'static str,
    /// Title for people.
    pub title: &'static str,
    /// What it does and when to use it, for a model.
    pub about: &'static str,
    /// Arguments.
    pub fields: &'static [Field],
    /// What it does to the world.
    pub effect: Effect,
    /// What the caller must be allowed to do.
    pub action: Action,
    answer: fn() -> JsonObject,
}

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
        effect: Effect::Starts,
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
        effect: Effect::Starts,
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
        effect: Effect::Reads,
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
            may("status_filter", Kind::Word(&STATUS_WORDS), "Only runs with this status."),
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
        effect: Effect::Reads,
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
        effect: Effect::Reads,
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
        effect: Effect::Reads,
        action: Action::Read,
        answer: schema::answer::<Waited>,
    },
    ToolDef {
        name: "cancel_adw_workflow",
        title: "Cancel a run",
        about: "Ends a run with its whole process tree, or takes it out of the queue. The \
                worktree and what was committed stay. A run that has ended is answered unchanged.",
        fields: &[RUN],
        effect: Effect::Ends,
        action: Action::Steer,
        answer: schema::answer::<RunView>,
    },
    ToolDef {
        name: "resume_adw_workflow",
        title: "Resume a run",
        about: "Goes on with a run that failed, was cancelled, timed out or got lost, with the \
                same id and worktree, from the failed phase or from_phase.",
        fields: &[RUN, may("from_phase", Kind::Text, "Phase to begin with again.")],
        effect: Effect::Starts,
        action: Action::Steer,
        answer: schema::answer::<RunView>,
    },
    ToolDef {
        name: "list_adw_projects",
        title: "List projects",
        about: "The repositories the daemon serves, with profile, agent, forge and the number \
                of active runs.",
        fields: &[],
        effect: Effect::Reads,
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
        effect: Effect::Adds,
        action: Action::ManageProjects,
        answer: schema::answer::<AddedProject>,
    },
    ToolDef {
        name: "remove_adw_project",
        title: "Stop serving a project",
        about: "Stops serving a project that was added by command; nothing in the repository is \
                touched. Refused while it has active runs.",
        fields: &[need("name", Kind::Text, "Name of the project.")],
        effect: Effect::Ends,
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

/// The tools as the wire shows them, made once.
pub struct Catalogue {
    tools: Vec<(&'static ToolDef, Tool)>,
}

impl Catalogue {
    /// The catalogue; without `triggers` the tools that start runs are left out.
    #[must_use]
    pub fn new(triggers: bool) -> Catalogue {
        let tools = TOOLS
            .iter()
            .filter(|def| triggers || def.effect != Effect::Starts)
            .map(|def| (def, wire(def)))
            .collect();
        Catalogue { tools }
    }

    /// The tools that a principal may use, in a stable order.
    #[must_use]
    pub fn list(&self, principal: &Principal) -> Vec<Tool> {
        self.tools
            .iter()
            .filter(|(def, _)| principal.allows(def.action))
            .map(|(_, tool)| tool.clone())
            .collect()
    }

    /// A tool by name, whether or not the caller may use it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&(&'static ToolDef, Tool)> {
        self.tools.iter().find(|(def, _)| def.name == name)
    }

    /// The names of all tools in the catalogue.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.tools.iter().map(|(def, _)| def.name).collect()
    }
}

fn wire(def: &ToolDef) -> Tool {
    Tool::new(def.name, def.about, input_schema(def.fields))
        .with_title(def.title)
        .with_raw_output_schema(Arc::new((def.answer)()))
        .with_annotations(def.effect.annotations(def.title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::RunStatus;
    use serde_json::Value;

    #[test]
    fn every_tool_is_complete_and_its_schemas_are_plain() {
        let catalogue = Catalogue::new(true);
        let tools = catalogue.list(&Principal::unix(0));
        assert_eq!(tools.len(), TOOLS.len());
        for tool in tools {
            let name = &tool.name;
            assert!(tool.title.is_some() && tool.description.is_some(), "{name}");
            let hints = tool.annotations.as_ref().unwrap();
            for hint in [
                hints.read_only_hint,
                hints.destructive_hint,
                hints.idempotent_hint,
                hints.open_world_hint,
            ] {
                assert!(hint.is_some(), "{name}");
            }
            for schema in [&tool.input_schema, tool.output_schema.as_ref().unwrap()] {
                let schema = Value::Object(schema.as_ref().clone());
                assert_eq!(schema::oddities(&schema), Vec::<String>::new(), "{name}");
            }
            assert_eq!(tool.input_schema["additionalProperties"], false, "{name}");
        }
    }

    #[test]
    fn the_status_words_are_the_statuses_and_pending() {
        let all = RunStatus::ALL.map(RunStatus::as_str);
        assert_eq!(STATUS_WORDS[0], "pending");
        assert_eq!(STATUS_WORDS[1..], all);
        assert!(STATUS_WORDS.iter().all(|word| RunStatus::parse(word).is_some()));
    }

    #[test]
    fn http_sees_no_project_management_and_a_quiet_daemon_no_triggers() {
        let names = |tools: Vec<Tool>| tools.into_iter().map(|t| t.name.to_string()).collect();
        let http: Vec<String> = names(Catalogue::new(true).list(&Principal::loopback()));
        assert_eq!(http.len(), TOOLS.len() - 2);
        assert!(!http.iter().any(|name| name.ends_with("_project")));
        let quiet: Vec<String> = names(Catalogue::new(false).list(&Principal::unix(0)));
        assert!(!quiet.iter().any(|n| n.starts_with("trigger") || n.starts_with("resume")));
        assert!(quiet.iter().any(|n| n == "cancel_adw_workflow"));
    }
}
