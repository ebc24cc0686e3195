//! The tools over step workflows: from arguments in either dialect to the slice and back.

use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use serde_json::Value;

use super::dialect::{Dialect, Refusal, Standing};
use super::shapes;
use crate::mcp::args::Args;
use crate::mcp::error::{ToolError, pretty};
use crate::mcp::tools::ToolDef;
use crate::steps::{
    ControlAction, ControlRequest, ExecutionState, Hints, Output, StartRequest, Steps, output,
};

type Done = Result<Value, Refusal>;

/// One call of a tool that exists and that the caller may use.
pub async fn call(steps: &Steps, def: &ToolDef, arguments: Option<&JsonObject>) -> CallToolResult {
    let empty = JsonObject::new();
    let given = arguments.unwrap_or(&empty);
    let dialect = match Dialect::of(given) {
        Ok(dialect) => dialect,
        Err(refusal) => return refused(Dialect::Seed003, def, &refusal),
    };
    let done = match Args::read(def.name, def.fields, given) {
        Ok(args) => Call { steps, dialect, args }.of(def.name).await,
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(value) => told(CallToolResult::success, value),
        Err(refusal) => refused(dialect, def, &refusal),
    }
}

/// What the server itself refuses, in the words of this family.
#[must_use]
pub fn refusal(def: &ToolDef, arguments: Option<&JsonObject>, error: ToolError) -> CallToolResult {
    let dialect = arguments.map_or(Ok(Dialect::Seed003), Dialect::of).unwrap_or(Dialect::Seed003);
    refused(dialect, def, &error.into())
}

fn refused(dialect: Dialect, def: &ToolDef, refusal: &Refusal) -> CallToolResult {
    tracing::debug!(tool = def.name, code = %refusal.code, "a tool refused");
    told(CallToolResult::error, refusal.to_value(dialect))
}

/// Structured, and the same JSON as text for clients that show only that.
fn told(as_result: fn(Vec<ContentBlock>) -> CallToolResult, value: Value) -> CallToolResult {
    let mut result = as_result(vec![ContentBlock::text(pretty(&value))]);
    result.structured_content = Some(value);
    result
}

struct Call<'a> {
    steps: &'a Steps,
    dialect: Dialect,
    args: Args,
}

impl Call<'_> {
    async fn of(&self, tool: &str) -> Done {
        match tool {
            "workflow_start" => self.start().await,
            "workflow_next_step" => self.next_step().await,
            "workflow_control" => self.control().await,
            other => Err(Refusal::of("internal", format!("tool {other} has no body"))),
        }
    }

    async fn start(&self) -> Done {
        let Some(workflow_name) = self.workflow() else {
            return Err(missing("workflow_start needs \"workflow_name\" (or \"template_name\")"));
        };
        self.create(workflow_name, self.execution()?).await
    }

    async fn create(&self, workflow_name: String, execution_id: Option<String>) -> Done {
        let request = StartRequest {
            workflow_name,
            execution_id,
            hold: self.args.flag("hold"),
            max_parallel: self.args.count("max_parallel"),
            project: self.args.text("project"),
            pause_on_blockers: self.args.flag("pause_on_blockers"),
            hints: self.hints(),
        };
        self.handed(self.steps.start(request).await?)
    }

    /// Four calls in one, told apart by what is there.
    async fn next_step(&self) -> Done {
        let token = self.either("token", "step_token");
        let (workflow, execution) = (self.workflow(), self.execution()?);
        let output = match self.dialect {
            Dialect::Seed001 => self.args.json("model_output_so_far"),
            Dialect::Seed003 => self.args.json("output"),
        };
        match (token, output, workflow, execution) {
            (Some(_), _, Some(_), _) => Err(missing(
                "a token goes on with a workflow and a workflow's name starts one; leave one out",
            )),
            (Some(token), output, None, execution) => {
                self.is_of(&token, execution.as_deref())?;
                match output {
                    Some(output) => self.submit(&token, output).await,
                    None => self.peek(&token).await,
                }
            }
            (None, Some(_), ..) => Err(missing(&format!(
                "an output goes with the token of its step: add {:?}",
                match self.dialect {
                    Dialect::Seed001 => "step_token",
                    Dialect::Seed003 => "token",
                }
            ))),
            (None, None, Some(workflow), execution) => self.create(workflow, execution).await,
            (None, None, None, Some(execution)) => {
                self.handed(self.steps.claim(&execution, self.hints()).await?)
            }
            (None, None, None, None) => Err(missing(
                "nothing to do: give token and output to hand a step in, token alone to see it \
                 again, execution_id alone for another ready step, or workflow_name to start",
            )),
        }
    }

    /// A token says itself whose it is; a second word about it must not say otherwise.
    fn is_of(&self, token: &str, execution: Option<&str>) -> Result<(), Refusal> {
        let (Some(wanted), Some(own)) = (execution, said_execution(token)) else { return Ok(()) };
        if own == wanted {
            return Ok(());
        }
        Err(missing(&format!(
            "the token is of execution {own:?}, not of {wanted:?}; leave the execution out"
        )))
    }

    async fn submit(&self, token: &str, output: &Value) -> Done {
        let output: Output = output::normalise(output).map_err(|e| self.named(e.into()))?;
        match self.steps.submit(token, output, self.hints()).await {
            Ok(handed) => self.handed(handed),
            Err(error) => Err(self.located(token, error.into()).await),
        }
    }

    async fn peek(&self, token: &str) -> Done {
        match self.steps.peek(token).await {
            Ok(handed) => self.handed(handed),
            Err(error) => Err(self.located(token, error.into()).await),
        }
    }

    /// Problems of an output are told by the name it came under.
    fn named(&self, mut refusal: Refusal) -> Refusal {
        if self.dialect == Dialect::Seed001
            && let Some(rest) = refusal.error.strip_prefix("output")
        {
            refusal.error = format!("model_output_so_far{rest}");
        }
        refusal
    }

    /// Adds which execution a refused token is of and where that stands, so that the caller knows
    /// how to go on. A token whose signature was not right has no say.
    async fn located(&self, token: &str, mut refusal: Refusal) -> Refusal {
        if matches!(refusal.code.as_str(), "token_malformed" | "token_signature" | "internal") {
            return refusal;
        }
        refusal.about = refusal.about.or_else(|| said_execution(token).map(Standing::of));
        if let Some(about) = refusal.about.as_mut().filter(|about| about.workflow_state.is_none())
            && let Ok(execution) = self.steps.execution(&about.execution_id).await
        {
            about.workflow_state = Some(execution.state);
        }
        // Where nothing is out any more the way to another token leads nowhere.
        if refusal
            .about
            .as_ref()
            .and_then(|about| about.workflow_state)
            .is_some_and(|state| state.is_terminal())
        {
            refusal.hint = Some(OVER.to_owned());
        }
        refusal
    }

    async fn control(&self) -> Done {
        let Some(execution_id) = self.execution()? else {
            return Err(missing("workflow_control needs \"execution_id\" (or \"task_id\")"));
        };
        let request = ControlRequest {
            execution_id: execution_id.clone(),
            action: self.word::<ControlAction>("action").ok_or_else(|| missing("no action"))?,
            reason: self.args.text("reason"),
            expected_state: self.word::<ExecutionState>("expected_state"),
            step_name: self.args.text("step_name"),
        };
        let controlled = self.steps.control(request).await?;
        // The text of a handed-out step names its workflow, which a control answer does not.
        let workflow = match (&controlled.step, self.dialect) {
            (Some(_), Dialect::Seed001) => self.steps.execution(&execution_id).await?.workflow_name,
            _ => String::new(),
        };
        Ok(shapes::controlled(self.dialect, &controlled, &workflow))
    }

    fn handed(&self, handed: crate::steps::Handed) -> Done {
        Ok(shapes::handed(self.dialect, &handed))
    }

    /// The words are checked against the table by now.
    fn word<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.args.text(name).and_then(|word| serde_json::from_value(Value::String(word)).ok())
    }

    fn either(&self, one: &str, other: &str) -> Option<String> {
        let text = self.args.text(one).or_else(|| self.args.text(other));
        text.filter(|text| !text.is_empty())
    }

    fn workflow(&self) -> Option<String> {
        self.either("workflow_name", "template_name")
    }

    fn execution(&self) -> Result<Option<String>, Refusal> {
        match (self.args.text("execution_id"), self.args.text("task_id")) {
            (Some(one), Some(other)) if one != other => {
                Err(missing("execution_id and task_id mean the same and differ; leave one out"))
            }
            _ => Ok(self.either("execution_id", "task_id")),
        }
    }

    fn hints(&self) -> Hints {
        Hints {
            requested_step_name: self.either("requested_step_name", "requested_step_name"),
            intent_tags: self.args.list("intent_tags").unwrap_or_default(),
            referenced_paths: self.args.list("referenced_paths").unwrap_or_default(),
            rationale: self.args.text("rationale"),
        }
    }
}

/// What to do when the execution has ended.
const OVER: &str = "the execution has ended and takes no more steps; its outcome is in \
                    midex://workflow/workflow_status/{execution_id}";

/// Arguments that do not make a call.
fn missing(error: &str) -> Refusal {
    Refusal::of("invalid_arguments", error)
}

/// The execution that a token names. Not believed: good for a word to the caller, no more.
fn said_execution(token: &str) -> Option<String> {
    crate::steps::token::parse(token).ok()?.said_execution()
}
