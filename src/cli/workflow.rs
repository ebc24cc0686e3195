//! `adwd workflow`: step workflows from the shell. Steps are done by a model over MCP; a person sees
//! what there is and where it stands, starts, and steers.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::fail::{Fail, exit};
use super::link::{Cx, arguments};
use super::workflow_view as view;
use crate::clock::{Clock as _, SystemClock};
use crate::ids::ExecutionId;
use crate::mcp::steps::uri::{Place, StepUri, Which};
use crate::steps::{ArtifactFilter, ExecutionFilter};

/// `workflow`.
#[derive(Clone, Debug, Subcommand)]
pub enum Workflow {
    /// List the workflows, and what keeps one from being started
    #[command(
        after_help = "Examples:\n  adwd workflow list\n  adwd workflow list --json | jq '.[].name'"
    )]
    List,
    /// Show a workflow: its steps, who does them, what they wait for
    #[command(
        after_help = "Examples:\n  adwd workflow show bug-fix\n  adwd workflow show bug-fix --json | jq .phases"
    )]
    Show {
        /// Its name
        name: String,
        /// Show its text too
        #[arg(long)]
        text: bool,
    },
    /// Start a workflow
    #[command(after_help = "\
Examples:
  adwd workflow start bug-fix --hold        made, not begun: a model begins it with workflow_control
  adwd workflow start bug-fix --json        persona, token and instructions for a program
  adwd workflow start parallel-code-review --max-parallel 5 --project shop")]
    Start(Start),
    /// Show where an execution stands: its steps, what it waits for, its artifacts
    #[command(after_help = "\
Examples:
  adwd workflow status            the newest executions
  adwd workflow status --open
  adwd workflow status exec_3f9a --json | jq .step_list")]
    Status {
        /// The execution [default: a list of the newest]
        id: Option<String>,
        /// Only those that have not ended
        #[arg(long, conflicts_with = "id")]
        open: bool,
        /// At most so many
        #[arg(long, value_name = "N", conflicts_with = "id", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Steer an execution
    #[command(after_help = "\
Examples:
  adwd workflow control exec_3f9a pause --reason \"lunch\"
  adwd workflow control exec_3f9a approve
  adwd workflow control exec_3f9a retry --step implement
  adwd workflow control exec_3f9a abandon --expected-state paused")]
    Control(Control),
}

/// `workflow start`.
#[derive(Clone, Debug, Args)]
pub struct Start {
    /// Name of the workflow
    pub name: String,
    /// Id of the execution [default: made by the daemon]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Make it, and begin it later with `control ID start`
    #[arg(long)]
    pub hold: bool,
    /// Steps that may be out at once
    #[arg(long, value_name = "N")]
    pub max_parallel: Option<u32>,
    /// Pause when a step names blockers
    #[arg(long)]
    pub pause_on_blockers: bool,
}

/// `workflow control`.
#[derive(Clone, Debug, Args)]
pub struct Control {
    /// The execution
    pub id: String,
    /// What to do
    pub action: Action,
    /// Why; diverge needs one
    #[arg(long)]
    pub reason: Option<String>,
    /// Which step, where several are out
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// Only if the execution is in this state
    #[arg(long, value_name = "STATE")]
    pub expected_state: Option<State>,
}

/// What to do with an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Begin one that was held.
    Start,
    /// Hand no more steps out.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Let the step past that waits for a person.
    Approve,
    /// Hand a step out again, as a new attempt.
    Retry,
    /// A new token for a step; the old one is revoked.
    Reissue,
    /// Give it up.
    Abandon,
    /// The work went another way.
    Diverge,
    /// It failed.
    Fail,
}

/// Where an execution may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Made, not begun.
    Idle,
    /// Steps are handed out.
    Running,
    /// Waits for a person.
    Paused,
    /// Every step is done.
    Completed,
    /// It failed.
    Failed,
    /// It was given up.
    Abandoned,
    /// It went another way.
    Diverged,
}

/// The word of an argument, which is the daemon's too.
fn word(value: impl ValueEnum) -> Value {
    value.to_possible_value().map_or(Value::Null, |value| json!(value.get_name()))
}

/// Does it.
pub async fn command(cx: &Cx, given: Workflow) -> Result<u8, Fail> {
    match given {
        Workflow::List => list(cx).await?,
        Workflow::Show { name, text } => show(cx, name, text).await?,
        Workflow::Start(given) => start(cx, given).await?,
        Workflow::Status { id: Some(id), .. } => status(cx, &id).await?,
        Workflow::Status { open, limit, .. } => executions(cx, open, limit).await?,
        Workflow::Control(given) => control(cx, given).await?,
    }
    Ok(exit::OK)
}

fn address(place: Place) -> String {
    StepUri::of(place).to_string()
}

async fn list(cx: &Cx) -> Result<(), Fail> {
    let client = cx.connect_or_start().await?;
    let workflows = client.read(&address(Place::Workflows)).await?;
    tell(cx, &workflows, |workflows| view::workflows(&cx.out, workflows));
    Ok(())
}

async fn show(cx: &Cx, name: String, text: bool) -> Result<(), Fail> {
    let client = cx.connect_or_start().await?;
    let workflow = client.read(&address(Place::Workflow(name))).await?;
    tell(cx, &workflow, |workflow| view::workflow(&cx.out, workflow, text));
    Ok(())
}

async fn start(cx: &Cx, given: Start) -> Result<(), Fail> {
    let client = cx.connect_or_start().await?;
    let project = cx.named_project(&client).await?;
    let asked = arguments(vec![
        ("workflow_name", Some(json!(given.name))),
        ("execution_id", given.id.map(|id| json!(id))),
        ("hold", given.hold.then(|| json!(true))),
        ("max_parallel", given.max_parallel.map(|n| json!(n))),
        ("pause_on_blockers", given.pause_on_blockers.then(|| json!(true))),
        ("project", project.map(|name| json!(name))),
    ]);
    let started = client.call_value("workflow_start", asked).await?;
    tell(cx, &started, |started| view::started(&cx.out, started));
    Ok(())
}

async fn executions(cx: &Cx, open_only: bool, limit: u32) -> Result<(), Fail> {
    let client = cx.connect().await?;
    let project = cx.named_project(&client).await?;
    let limit = Some(limit);
    let filter = ExecutionFilter { open_only, limit, project, ..ExecutionFilter::default() };
    let page = client.read(&address(Place::Executions(filter))).await?;
    tell(cx, &page, |page| view::executions(&cx.out, page, SystemClock.now()));
    Ok(())
}

/// The status with the list of artifacts under `artifacts`.
async fn status(cx: &Cx, id: &str) -> Result<(), Fail> {
    if ExecutionId::parse(id).is_err() {
        let text = format!("Execution '{id}' not found");
        return Err(Fail::new(exit::NOT_FOUND, "unknown_execution", text)
            .hint("call `adwd workflow status` to see them all"));
    }
    let client = cx.connect().await?;
    let mut status = client.read(&address(Place::Status(Which::Id(id.to_owned())))).await?;
    let artifacts = Place::Artifacts(ArtifactFilter {
        execution_id: Some(id.to_owned()),
        ..ArtifactFilter::default()
    });
    status["artifacts"] = client.read(&address(artifacts)).await?;
    tell(cx, &status, |status| view::status(&cx.out, status, SystemClock.now()));
    Ok(())
}

async fn control(cx: &Cx, given: Control) -> Result<(), Fail> {
    let client = cx.connect().await?;
    let asked: Map<String, Value> = arguments(vec![
        ("execution_id", Some(json!(given.id))),
        ("action", Some(word(given.action))),
        ("reason", given.reason.map(|reason| json!(reason))),
        ("step_name", given.step.map(|step| json!(step))),
        ("expected_state", given.expected_state.map(word)),
    ]);
    let controlled = client.call_value("workflow_control", asked).await?;
    tell(cx, &controlled, |controlled| view::controlled(&cx.out, controlled));
    Ok(())
}

fn tell(cx: &Cx, value: &Value, in_words: impl Fn(&Value)) {
    if cx.out.is_json() {
        cx.out.json(value);
    } else {
        in_words(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::{ControlAction, ExecutionState};

    #[test]
    fn the_words_are_the_daemons() {
        for action in Action::value_variants() {
            serde_json::from_value::<ControlAction>(word(*action)).unwrap();
        }
        for state in State::value_variants() {
            serde_json::from_value::<ExecutionState>(word(*state)).unwrap();
        }
    }
}
