//! What is read about step workflows: canonical addresses in seed 003's shapes, the others in seed
//! 001's. Every read is pure: nothing is minted, cleaned up or counted by looking.

use serde_json::{Map, Value, json};

use super::dialect::Dialect;
use super::lists;
use super::shapes::{contract_value, instead, iso, object, step_003};
use super::uri::{Place, Spelling, StepUri, Which};
use crate::clock::Millis;
use crate::mcp::bounds::CONTENT_TTL_MS;
use crate::mcp::resources::{JSON, MARKDOWN, Reading};
use crate::runs::{Runs, RunsError};
use crate::steps::library::SUPERVISOR;
use crate::steps::{
    ExecutionFilter, ExecutionView, Handed, Rule, StepHandout, StepStatus, StepView, Steps,
    StepsError,
};

/// Why nothing was read.
#[derive(Debug)]
pub enum Unread {
    /// The slice refused or failed.
    Steps(StepsError),
    /// The slice that knows projects failed.
    Runs(RunsError),
    /// There is no such thing; why.
    Missing(String),
}

impl From<StepsError> for Unread {
    fn from(error: StepsError) -> Unread {
        Unread::Steps(error)
    }
}

impl From<RunsError> for Unread {
    fn from(error: RunsError) -> Unread {
        Unread::Runs(error)
    }
}

/// What is said to a reader in place of a token and of how to use it.
const WITHHELD: &str = "This step is out. Its token is shown to callers of the team tier and above, \
                        who may hand it in.";

/// What is at an address; tokens only for a caller who `may_steer`: whoever has one can hand the
/// step in by any road.
///
/// # Errors
/// [`Unread`].
pub async fn read(
    steps: &Steps,
    runs: &Runs,
    uri: &StepUri,
    may_steer: bool,
) -> Result<Reading, Unread> {
    let seed_001 = uri.spelling != Spelling::Canonical;
    Ok(match &uri.place {
        Place::Workflows => content(&lists::workflows(steps, seed_001).await?),
        Place::Workflow(name) => content(&workflow(steps, name).await?),
        Place::Executions(filter) => live(&lists::executions(steps, filter).await?),
        Place::CurrentStep(of) => {
            let id = which(steps, of).await?;
            live(&if seed_001 {
                current_001(steps, &id).await?
            } else {
                current_003(steps, &id, may_steer).await?
            })
        }
        Place::Status(of) => {
            let id = which(steps, of).await?;
            live(&if seed_001 {
                status_001(steps, &id).await?
            } else {
                status_003(&steps.execution(&id).await?)
            })
        }
        Place::History(id) => live(&history(&steps.history(id).await?)),
        Place::Artifacts(filter) => live(&lists::artifacts(steps, filter, seed_001).await?),
        Place::Artifact(id) => {
            let artifact = steps.artifact(id).await?;
            let text = artifact.content.unwrap_or_default();
            // What was stored is never changed.
            Reading { text, mime: artifact.content_type.into(), ttl_ms: CONTENT_TTL_MS }
        }
        Place::Telemetry(filter) => live(&lists::events(steps, filter).await?),
        Place::Persona(agent) => {
            let name = agent.as_deref().unwrap_or(SUPERVISOR);
            markdown(steps.library().agent(name).await?.body, CONTENT_TTL_MS)
        }
        Place::Guardrails(None) => {
            markdown(guardrails(&always(steps.library().rules().await?)), CONTENT_TTL_MS)
        }
        Place::Guardrails(Some(id)) => markdown(guardrails(&steps.guardrails(id).await?), 0),
        Place::Project(id) => live(&project(steps, runs, id).await?),
    })
}

/// What changes while work goes on, or holds a token, is not kept.
fn live(value: &Value) -> Reading {
    Reading { text: value.to_string(), mime: JSON.into(), ttl_ms: 0 }
}

/// What changes only when somebody edits a file, which is told to those who subscribe.
fn content(value: &Value) -> Reading {
    Reading { text: value.to_string(), mime: JSON.into(), ttl_ms: CONTENT_TTL_MS }
}

fn markdown(text: String, ttl_ms: u64) -> Reading {
    Reading { text, mime: MARKDOWN.into(), ttl_ms }
}

async fn which(steps: &Steps, which: &Which) -> Result<String, Unread> {
    match which {
        Which::Id(id) => Ok(id.clone()),
        Which::Active(project) => {
            let of = project.as_ref().map_or_else(String::new, |p| format!(" in project {p:?}"));
            let missing = || Unread::Missing(format!("no execution is open{of}"));
            steps.active(project.as_deref()).await?.ok_or_else(missing)
        }
    }
}

async fn workflow(steps: &Steps, name: &str) -> Result<Value, Unread> {
    let workflow = steps.library().workflow(name).await?;
    let mut value = lists::workflow_003(&workflow);
    value.insert("content".to_owned(), json!(workflow.body));
    Ok(Value::Object(value))
}

/// The step that was handed out first, and the number of all.
fn current(execution: &ExecutionView) -> Option<&StepView> {
    let name = execution.current_steps.first()?;
    execution.steps.iter().find(|step| step.step_name == *name)
}

fn count(execution: &ExecutionView, status: StepStatus) -> usize {
    execution.steps.iter().filter(|step| step.status == status).count()
}

/// `2/5`: the second of five is being done; after the end, how many were completed.
fn progress_003(execution: &ExecutionView) -> String {
    let total = execution.steps.len();
    let done = count(execution, StepStatus::Completed);
    let doing = usize::from(!execution.current_steps.is_empty());
    format!("{}/{total}", (done + doing).min(total))
}

/// Whole percents of the steps that are completed.
fn progress_001(execution: &ExecutionView) -> usize {
    count(execution, StepStatus::Completed) * 100 / execution.steps.len().max(1)
}

/// A step that is out, in seed 003's words.
fn out(step: &StepHandout, may_steer: bool) -> Map<String, Value> {
    const TOKEN: &str = "continuation_token";
    let mut value = step_003(step, TOKEN);
    if !may_steer {
        value.remove(TOKEN);
        value.remove("token_expires_at");
        value.insert("instructions".to_owned(), json!(WITHHELD));
    }
    value
}

async fn current_003(steps: &Steps, id: &str, may_steer: bool) -> Result<Value, Unread> {
    let handed: Handed = steps.current(id).await?;
    let execution = steps.execution(id).await?;
    let mut value = object([
        ("execution_id", Some(json!(handed.execution_id))),
        ("workflow_name", Some(json!(handed.workflow_name))),
        ("workflow_state", Some(json!(handed.workflow_state))),
        ("current_step", Some(json!(handed.step.as_ref().map(|step| &step.step_name)))),
    ]);
    if let Some(step) = &handed.step {
        value.insert("step_status".to_owned(), json!(StepStatus::Running));
        value.extend(out(step, may_steer));
        value.remove("step_name");
    }
    value.extend(object([
        ("progress", Some(json!(progress_003(&execution)))),
        ("current_steps", Some(json!(execution.current_steps))),
        ("contract", handed.gate.as_ref().map(contract_value)),
        ("instructions", instead(Dialect::Seed003, &handed).map(|next| json!(next))),
        ("state_reason", execution.state_reason.as_ref().map(|why| json!(why))),
        ("allowed_actions", Some(json!(execution.allowed_actions))),
        ("message", Some(json!(handed.message))),
    ]));
    if !handed.parallel.is_empty() {
        let others = handed.parallel.iter().map(|step| out(step, may_steer));
        value.insert("parallel_steps".to_owned(), others.map(Value::Object).collect());
    }
    Ok(Value::Object(value))
}

async fn current_001(steps: &Steps, id: &str) -> Result<Value, Unread> {
    let execution = steps.execution(id).await?;
    let artifacts = lists::artifacts_of(steps, id).await?;
    Ok(json!({
        "execution_id": execution.execution_id,
        "status": execution.state,
        "progress": progress_001(&execution),
        "current_step": current(&execution).map(|step| &step.step_name),
        "artifacts": artifacts,
    }))
}

/// Seed 003's summary, and the steps one by one for who wants to show them.
fn status_003(execution: &ExecutionView) -> Value {
    let counts = [
        ("completed", StepStatus::Completed),
        ("failed", StepStatus::Failed),
        ("running", StepStatus::Running),
        ("pending", StepStatus::Pending),
        ("skipped", StepStatus::Skipped),
    ];
    let mut numbers = Map::new();
    numbers.insert("total".to_owned(), json!(execution.steps.len()));
    for (word, status) in counts {
        numbers.insert(word.to_owned(), json!(count(execution, status)));
    }
    let list: Vec<Value> = execution.steps.iter().map(step_line).collect();
    json!({
        "execution_id": execution.execution_id,
        "workflow_name": execution.workflow_name,
        "project": execution.project,
        "state": execution.state,
        "state_reason": execution.state_reason,
        "current_step": current(execution).map(|step| &step.step_name),
        "current_steps": execution.current_steps,
        "waiting_step": execution.waiting_step,
        "max_parallel": execution.max_parallel,
        "created_at": iso(execution.created_at),
        "started_at": execution.started_at.map(iso),
        "updated_at": iso(execution.updated_at),
        "completed_at": execution.completed_at.map(iso),
        "duration_ms": span(execution.started_at, execution.completed_at),
        "steps": numbers,
        "step_list": list,
        "allowed_actions": execution.allowed_actions,
        "synthesis": execution.synthesis,
    })
}

fn step_line(step: &StepView) -> Value {
    json!({
        "step_name": step.step_name,
        "agent_name": step.agent_name,
        "status": step.status,
        "attempt": step.attempt,
        "depends_on": step.depends_on,
        "started_at": step.started_at.map(iso),
        "completed_at": step.completed_at.map(iso),
        "duration_ms": span(step.started_at, step.completed_at),
    })
}

fn span(from: Option<Millis>, to: Option<Millis>) -> Option<i64> {
    Some(to?.since_ms(from?))
}

async fn status_001(steps: &Steps, id: &str) -> Result<Value, Unread> {
    let execution = steps.execution(id).await?;
    let artifacts = lists::artifacts_by_step(steps, id).await?;
    let list: Vec<Value> = execution
        .steps
        .iter()
        .map(|step| {
            json!({
                "step_name": step.step_name,
                "status": step.status,
                "agent_name": step.agent_name,
                "started_at": step.started_at.map(iso),
                "completed_at": step.completed_at.map(iso),
                "artifacts": artifacts.get(&step.step_name).map_or(&[][..], Vec::as_slice),
            })
        })
        .collect();
    Ok(json!({
        "execution_id": execution.execution_id,
        "status": execution.state,
        "current_step": current(&execution).map(|step| &step.step_name),
        "progress": progress_001(&execution),
        "steps": list,
    }))
}

/// The steps that have begun or ended. Artifacts stand as ids, as in the seed; their content is at
/// their own addresses, and everything else of the output is whole.
fn history(execution: &ExecutionView) -> Value {
    let begun = execution.steps.iter().filter(|step| step.status != StepStatus::Pending);
    let lines = begun.map(|step| {
        let mut line = step_line(step);
        let output = step.output.as_ref().map(|output| {
            let mut value = json!(output);
            let references = output.artifact_refs.iter();
            value["artifacts"] = step.artifacts.iter().chain(references).cloned().collect();
            if let Value::Object(object) = &mut value {
                object.remove("artifact_refs");
                object.retain(|_, field| !field.is_null());
            }
            value
        });
        line["output"] = json!(output);
        line
    });
    Value::Array(lines.collect())
}

/// Rules that count always; all of them where none does (`spec/steps.md` §2.1).
fn always(rules: Vec<Rule>) -> Vec<Rule> {
    match rules.iter().any(|rule| rule.always_apply) {
        true => rules.into_iter().filter(|rule| rule.always_apply).collect(),
        false => rules,
    }
}

fn guardrails(rules: &[Rule]) -> String {
    let mut text = "# Active Guardrails\n".to_owned();
    if rules.is_empty() {
        text.push_str("\nNo rules.\n");
    }
    for rule in rules {
        text.push_str(&format!("\n## Rule: {}\n\n{}\n", rule.name, rule.body.trim()));
    }
    text
}

/// A project is known by the runs that are made in it, or by executions that name it.
async fn project(steps: &Steps, runs: &Runs, id: &str) -> Result<Value, Unread> {
    let known = runs.projects().await?.into_iter().find(|project| project.name == id);
    let filter = ExecutionFilter {
        project: Some(id.to_owned()),
        limit: Some(1),
        ..ExecutionFilter::default()
    };
    if known.is_none() && steps.executions(&filter).await?.is_empty() {
        return Err(Unread::Missing(format!(
            "no project is named {id:?}: neither served nor named by an execution"
        )));
    }
    let task = match steps.active(Some(id)).await? {
        Some(execution) => {
            let execution = steps.execution(&execution).await?;
            json!({
                "task_id": execution.execution_id,
                "workflow": execution.workflow_name,
                "status": execution.state,
                "current_step": current(&execution).map(|step| &step.step_name),
                "progress": progress_001(&execution),
                "last_activity": iso(execution.updated_at),
            })
        }
        None => Value::Null,
    };
    Ok(json!({
        "project": {
            "id": id,
            "name": id,
            "path": known.map(|project| project.path),
            "tech_stack": [],
            "architecture_pattern": null,
        },
        "active_task": task,
    }))
}
