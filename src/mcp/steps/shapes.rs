//! What the tools answer, in either dialect, and the schema that all of it keeps to. Pure.

use rmcp::model::JsonObject;
use serde_json::{Map, Value, json};

use super::dialect::Dialect;
use crate::clock::Millis;
use crate::steps::{
    Contract, Controlled, ExecutionState, Handed, HandedStatus, StepHandout, contract,
};

/// An object from what is there; what is absent is left out.
pub(super) fn object<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Map<String, Value> {
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// ISO 8601 in UTC with milliseconds.
pub(super) fn iso(at: Millis) -> Value {
    json!(at.rfc3339())
}

fn given<T>(list: &[T]) -> Option<&[T]> {
    Some(list).filter(|list| !list.is_empty())
}

/// The answer to start, submission, peek and claim.
#[must_use]
pub fn handed(dialect: Dialect, handed: &Handed) -> Value {
    let mut answer = match dialect {
        Dialect::Seed001 => handed_001(handed),
        Dialect::Seed003 => handed_003(handed),
    };
    answer.extend(object([
        ("parallel_steps", parallel(&handed.parallel)),
        ("selection", handed.selection.as_ref().map(|selection| json!(selection))),
        ("synthesis", handed.synthesis.as_ref().map(|synthesis| json!(synthesis))),
        ("warnings", given(&handed.warnings).map(|warnings| json!(warnings))),
    ]));
    Value::Object(answer)
}

fn handed_001(handed: &Handed) -> Map<String, Value> {
    let status = match handed.status {
        HandedStatus::Ok => "ok",
        HandedStatus::NoOp => "no_op",
        HandedStatus::Closed => "task_closed",
    };
    let mut answer = object([
        ("status", Some(json!(status))),
        ("execution_id", Some(json!(handed.execution_id))),
        ("workflow_state", Some(json!(handed.workflow_state))),
        ("message", Some(json!(handed.message))),
    ]);
    match &handed.step {
        Some(step) => answer.extend(step_001(step, &handed.workflow_name, &handed.execution_id)),
        None => {
            let next = instead(Dialect::Seed001, handed).map(|next| format!("\n\n{next}"));
            let text = format!("{}{}", handed.message, next.unwrap_or_default());
            answer.extend(object([
                ("next_step_contract", handed.gate.as_ref().map(contract_value)),
                ("human_message", Some(json!(text))),
            ]));
        }
    }
    answer
}

fn handed_003(handed: &Handed) -> Map<String, Value> {
    let mut answer = object([
        ("success", Some(json!(true))),
        ("execution_id", Some(json!(handed.execution_id))),
    ]);
    if let Some(step) = &handed.step {
        answer.extend(step_003(step, "new_token"));
    }
    answer.extend(object([
        ("workflow_state", Some(json!(handed.workflow_state))),
        ("message", Some(json!(handed.message))),
        ("contract", handed.gate.as_ref().map(contract_value)),
    ]));
    if let Some(next) = instead(Dialect::Seed003, handed) {
        answer.insert("instructions".to_owned(), json!(next));
    }
    answer
}

/// What to do where no step was handed out, and who is to do it; nothing after the end. A model
/// must learn from this text alone that a gate is not its own to open.
#[must_use]
pub(super) fn instead(dialect: Dialect, handed: &Handed) -> Option<String> {
    if handed.step.is_some() {
        return None;
    }
    let of = format!("{} {:?}", dialect.execution_key(), handed.execution_id);
    let control = |action: &str| format!("call workflow_control with {of} and action {action:?}");
    match (handed.workflow_state, &handed.gate) {
        (ExecutionState::Idle, _) => Some(format!("To begin it, {}.", control("start"))),
        (ExecutionState::Running, _) => Some(format!(
            "If a step that is out is yours and you lost it, read \
             midex://workflow/current_step/{}, or {}, which gives it a new token and revokes the \
             old one. For another ready step later, call workflow_next_step with {of} alone.",
            handed.execution_id,
            control("reissue")
        )),
        (ExecutionState::Paused, Some(gate)) => Some(format!(
            "Stop here: step '{}' is for a person to approve, not for you. Do not begin it. Show \
             that person what was done so far and ask. When they have said yes, {}; the answer \
             hands the step out. If they say no, the action is \"abandon\".",
            gate.step_name,
            control("approve")
        )),
        (ExecutionState::Paused, None) => {
            Some(format!("When a person lets it go on, {}.", control("resume")))
        }
        _ => None,
    }
}

/// A step in seed 001's words: contract, token, and everything else in one text.
fn step_001(step: &StepHandout, workflow: &str, execution: &str) -> Map<String, Value> {
    let mut text = contract::human_message(step, workflow, execution);
    text.push_str(&submitting(Dialect::Seed001, "new_step_token", !step.token.is_empty()));
    object([
        ("next_step_contract", Some(contract_value(&step.contract))),
        ("new_step_token", token(step)),
        ("token_expires_at", token(step).map(|_| iso(step.expires_at))),
        ("human_message", Some(json!(text))),
    ])
}

/// A step in seed 003's words; the token stands under `token_key`.
pub(super) fn step_003(step: &StepHandout, token_key: &str) -> Map<String, Value> {
    let has_token = !step.token.is_empty();
    let task = match step.description.trim() {
        "" => format!("Your step is '{}'.", step.step_name),
        task => format!("Your step is '{}': {task}", step.step_name),
    };
    let instructions = format!(
        "Read the agent_content above carefully: it is who you are in this step.\n{task}\n\
         Keep to contract: allowed_actions, forbidden_actions, required_actions, \
         validation_requirements.\n{}",
        submitting(Dialect::Seed003, token_key, has_token).trim_start()
    );
    object([
        ("step_name", Some(json!(step.step_name))),
        ("agent_name", Some(json!(step.agent_name))),
        ("attempt", (step.attempt > 1).then(|| json!(step.attempt))),
        ("agent_content", Some(json!(step.persona))),
        (token_key, token(step)),
        ("token_expires_at", token(step).map(|_| iso(step.expires_at))),
        ("contract", Some(contract_value(&step.contract))),
        ("instructions", Some(json!(instructions))),
    ])
}

fn token(step: &StepHandout) -> Option<Value> {
    Some(&step.token).filter(|token| !token.is_empty()).map(|token| json!(token))
}

/// How the step is handed in, by the names of the dialect.
fn submitting(dialect: Dialect, token_key: &str, has_token: bool) -> String {
    if !has_token {
        return format!(
            "\nIts token has expired: call workflow_control with this execution's id as {} and \
             action \"reissue\" for a new one.\n",
            dialect.execution_key()
        );
    }
    let (token, output) = match dialect {
        Dialect::Seed001 => ("step_token", "model_output_so_far"),
        Dialect::Seed003 => ("token", "output"),
    };
    format!(
        "\nWhen the step is done, call workflow_next_step with:\n\
         - {token}: the {token_key} that stands beside this text\n\
         - {output}: {{ summary, artifacts: [{{ type, title, content }}], references, confidence, \
         findings, decisions, next_steps, blockers }}; only summary must be there\n"
    )
}

/// What a step may and may not do.
#[must_use]
pub fn contract_value(contract: &Contract) -> Value {
    json!(contract)
}

fn parallel(steps: &[StepHandout]) -> Option<Value> {
    let steps = given(steps)?.iter().map(|step| {
        object([
            ("step_name", Some(json!(step.step_name))),
            ("agent", Some(json!(step.agent_name))),
            ("description", Some(json!(step.description))),
            ("token", token(step)),
        ])
    });
    Some(Value::Array(steps.map(Value::Object).collect()))
}

/// The answer to a control request.
#[must_use]
pub fn controlled(dialect: Dialect, controlled: &Controlled, workflow: &str) -> Value {
    let first = match dialect {
        Dialect::Seed001 => ("status", Some(json!("ok"))),
        Dialect::Seed003 => ("success", Some(json!(true))),
    };
    let mut answer = object([
        first,
        ("execution_id", Some(json!(controlled.execution_id))),
        ("previous_state", Some(json!(controlled.previous_state))),
        ("workflow_state", Some(json!(controlled.workflow_state))),
        ("current_steps", Some(json!(controlled.current_steps))),
        ("allowed_actions", Some(json!(controlled.allowed_actions))),
        ("message", Some(json!(controlled.message))),
    ]);
    if let Some(step) = &controlled.step {
        answer.extend(match dialect {
            Dialect::Seed001 => step_001(step, workflow, &controlled.execution_id),
            Dialect::Seed003 => step_003(step, "new_token"),
        });
    }
    Value::Object(answer)
}

/// The schema of every answer of the family, good and bad, in both dialects: clients check the
/// structured content of error results against it too.
#[must_use]
pub fn answer_schema() -> JsonObject {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let texts = |about: &str| json!({ "type": "array", "items": { "type": "string" }, "description": about });
    let any = |about: &str| json!({ "type": "object", "additionalProperties": true, "description": about });
    let states = ["idle", "running", "paused", "completed", "failed", "abandoned", "diverged"];
    let state = |about: &str| json!({ "type": "string", "enum": states, "description": about });
    let contract =
        any("What the step may and may not do: step_name, allowed_actions, forbidden_actions, \
         required_actions, validation_requirements, required_output_format, human_gate_required.");
    let properties = json!({
        "success": { "type": "boolean", "description": "Whether it was done." },
        "status": {
            "type": "string",
            "enum": ["ok", "no_op", "task_closed", "error"],
            "description": "In answers to template_name, step_token, task_id instead of success.",
        },
        "code": text("Only in errors: stable word for programs."),
        "error": text("Only in errors: what is wrong and what would be right."),
        "hint": text("What to do about it."),
        "retry_after_ms": {
            "type": "integer", "description": "When a call would be let through." },
        "execution_id": text("The execution; claim further steps and control it by this."),
        "workflow_state": state("Where the execution stands."),
        "previous_state": state("Where it stood before a control action."),
        "step_name": text("The step to do now."),
        "agent_name": text("Who does it."),
        "attempt": { "type": "integer", "description": "From the second one on." },
        "agent_content": text("The agent's persona, Markdown."),
        "new_token": text("Submit this step with it as token."),
        "new_step_token": text("Submit this step with it as step_token."),
        "token_expires_at": text("When the token expires, ISO 8601."),
        "contract": contract.clone(),
        "next_step_contract": contract,
        "instructions": text("How to do the step and hand it in."),
        "human_message": text("Persona, task, limits and how to hand it in, as one text."),
        "message": text("What happened and what to do now."),
        "parallel_steps": {
            "type": "array",
            "description": "Further steps that may be done at once, each with a token of its own: \
                            step_name, agent, description, token.",
            "items": { "type": "object", "additionalProperties": true },
        },
        "selection": any("How the step was chosen: chosen, scores, reason, candidates."),
        "synthesis": any("Of a completed execution: outcome_summary, model_output."),
        "warnings": texts("What was taken though it was not quite right."),
        "current_steps": texts("Steps that are out."),
        "allowed_actions": texts("Actions that workflow_control takes now."),
    });
    let schema = json!({
        "type": "object",
        "properties": properties,
        "anyOf": [{ "required": ["success"] }, { "required": ["status"] }],
    });
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

/// The form of an output: what personas say, and open for what else people's agents write.
#[must_use]
pub fn output_schema() -> Value {
    let one_of_each = |text: &str, object: &str| {
        json!({
            "type": "array",
            "items": { "anyOf": [
                { "type": "string", "description": text },
                { "type": "object", "description": object, "additionalProperties": true },
            ] },
        })
    };
    let text_or_list = |about: &str| {
        let list = json!({ "type": "array", "items": {
            "anyOf": [{ "type": "string" }, { "type": "object", "additionalProperties": true }] } });
        json!({ "description": about, "anyOf": [{ "type": "string" }, list] })
    };
    json!({
        "type": "object",
        "properties": {
            "summary": { "type": "string", "description": "What was done; the only one needed." },
            "artifacts": one_of_each(
                "The id of an artifact that exists.",
                "type (design_doc, implementation_plan, code_review, test_plan, markdown, …), \
                 title, content; description and metadata if you like."
            ),
            "references": {
                "type": "array",
                "items": { "type": "string" },
                "description": "Files and documents that were used.",
            },
            "confidence": { "type": "number", "description": "0 to 1." },
            "decisions": one_of_each(
                "A decision.",
                "decision, rationale, alternatives_rejected, trade_offs."
            ),
            "findings": one_of_each(
                "A finding.",
                "severity (critical, high, medium, low), category, description, location, \
                 recommendation."
            ),
            "next_steps": text_or_list("What comes next."),
            "next_step_recommendation": {
                "type": "string", "description": "What should come next." },
            "blockers": text_or_list("What stands in the way."),
            "metadata": {
                "type": "object", "additionalProperties": true, "description": "Whatever else." },
        },
        "required": ["summary"],
        "additionalProperties": true,
    })
}

/// The same for the other name of the argument, in short: a model reads every schema.
#[must_use]
pub fn same_output_schema() -> Value {
    json!({
        "type": "object",
        "properties": { "summary": { "type": "string", "description": "What was done." } },
        "required": ["summary"],
        "additionalProperties": true,
    })
}

#[cfg(test)]
#[path = "shapes_tests.rs"]
mod tests;
