//! The two sets of names in which step workflows are spoken of. Pure.
//!
//! Seed 001 and seed 003 name the same things differently; a caller is answered in the names it
//! asked in (`spec/steps.md` §3.3). What is refused is refused in them too.

use rmcp::model::JsonObject;
use serde_json::{Map, Value, json};

use crate::mcp::error::{ToolError, database_failed};
use crate::steps::{ControlAction, ExecutionState, StepsError, limiter};
use crate::telemetry::chain;

/// A set of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `template_name`, `step_token`, `model_output_so_far`; answers have a `status`.
    Seed001,
    /// `workflow_name`, `token`, `output`; answers have `success`.
    Seed003,
}

/// Arguments that only seed 001 names so.
pub const WORDS_001: [&str; 5] =
    ["template_name", "step_token", "model_output_so_far", "task_id", "request"];
/// Arguments that only seed 003 names so.
pub const WORDS_003: [&str; 3] = ["workflow_name", "token", "output"];

impl Dialect {
    /// The argument that names an execution.
    #[must_use]
    pub fn execution_key(self) -> &'static str {
        match self {
            Dialect::Seed001 => "task_id",
            Dialect::Seed003 => "execution_id",
        }
    }

    /// The dialect of a call; seed 003's where nothing tells, `execution_id` included, which both
    /// know.
    ///
    /// # Errors
    /// The call mixes both.
    pub fn of(arguments: &JsonObject) -> Result<Dialect, Refusal> {
        let given = |words: &[&'static str]| {
            words.iter().copied().find(|word| arguments.get(*word).is_some_and(|v| !v.is_null()))
        };
        match (given(&WORDS_001), given(&WORDS_003)) {
            (Some(one), Some(three)) => Err(Refusal::of(
                "invalid_arguments",
                format!(
                    "{one:?} and {three:?} are of two sets of names; use one of them: {}; or {}",
                    WORDS_003.join(", "),
                    WORDS_001.join(", ")
                ),
            )),
            (Some(_), None) => Ok(Dialect::Seed001),
            (None, _) => Ok(Dialect::Seed003),
        }
    }
}

/// Something that was refused or failed, before it is put into words of a dialect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusal {
    /// Stable word for programs.
    pub code: String,
    /// What is wrong, where, and what would be right.
    pub error: String,
    /// What to do about it, where the error does not say so.
    pub hint: Option<String>,
    /// When a call would be let through.
    pub retry_after_ms: Option<i64>,
    /// The execution it is about, where that is sure.
    pub about: Option<Box<Standing>>,
}

/// Where the execution stands that something was refused for.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its id.
    pub execution_id: String,
    /// Its state, where it was read.
    pub workflow_state: Option<ExecutionState>,
    /// Control actions that it takes, where they matter.
    pub allowed_actions: Vec<ControlAction>,
}

impl Standing {
    /// An execution of which nothing but the id is known.
    #[must_use]
    pub fn of(execution_id: String) -> Box<Standing> {
        Box::new(Standing { execution_id, workflow_state: None, allowed_actions: Vec::new() })
    }
}

impl Refusal {
    /// A refusal about no execution.
    #[must_use]
    pub fn of(code: &str, error: impl Into<String>) -> Refusal {
        Refusal { code: code.to_owned(), error: error.into(), ..Refusal::default() }
    }

    /// The structured answer.
    #[must_use]
    pub fn to_value(&self, dialect: Dialect) -> Value {
        let mut answer = Map::new();
        match dialect {
            Dialect::Seed001 => answer.insert("status".to_owned(), json!("error")),
            Dialect::Seed003 => answer.insert("success".to_owned(), json!(false)),
        };
        answer.insert("code".to_owned(), json!(self.code));
        answer.insert("error".to_owned(), json!(self.error));
        let mut add = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                answer.insert(key.to_owned(), value);
            }
        };
        let known = self.about.as_ref().map(|about| about.execution_id.as_str());
        let hint = self.hint.as_ref().map(|hint| {
            let hint = hint.replace("{execution_key}", dialect.execution_key());
            match known {
                Some(id) => hint.replace("{execution_id}", id),
                None => hint,
            }
        });
        add("hint", hint.map(|hint| json!(hint)));
        add("retry_after_ms", self.retry_after_ms.map(|ms| json!(ms)));
        if let Some(about) = &self.about {
            add("execution_id", Some(json!(about.execution_id)));
            add("workflow_state", about.workflow_state.map(|state| json!(state)));
            let actions = Some(&about.allowed_actions).filter(|actions| !actions.is_empty());
            add("allowed_actions", actions.map(|actions| json!(actions)));
        }
        Value::Object(answer)
    }
}

/// Both spell what is wrong with arguments; the codes of this family are the specification's.
impl From<ToolError> for Refusal {
    fn from(error: ToolError) -> Refusal {
        let code = match error.code.as_str() {
            "invalid_argument" | "unknown_argument" => "invalid_arguments",
            other => other,
        };
        let retry_after_ms = error.retry_after_ms;
        Refusal { hint: error.hint, retry_after_ms, ..Refusal::of(code, error.message) }
    }
}

impl From<StepsError> for Refusal {
    fn from(error: StepsError) -> Refusal {
        let mut refusal = Refusal::of(error.code(), message(&error));
        refusal.hint = hint(&error).map(str::to_owned);
        match error {
            StepsError::StateConflict { execution_id, state, allowed, .. } => {
                refusal.about = Some(Box::new(Standing {
                    execution_id,
                    workflow_state: Some(state),
                    allowed_actions: allowed,
                }));
            }
            StepsError::RateLimited { scope, key, retry_after_ms } => {
                refusal.retry_after_ms = Some(retry_after_ms);
                refusal.about = (scope == "task").then(|| Standing::of(key));
            }
            StepsError::UnknownExecution { execution_id }
            | StepsError::ExecutionExists { execution_id } => {
                refusal.about = Some(Standing::of(execution_id));
            }
            _ => {}
        }
        refusal
    }
}

/// What a caller is told. What broke inside the daemon goes to its log, whole.
#[must_use]
pub fn message(error: &StepsError) -> String {
    match error {
        StepsError::Db(why) => {
            tracing::error!(error = %chain(error), "a request of step workflows failed");
            database_failed(why, "nothing was changed")
        }
        StepsError::Io { .. } => {
            tracing::error!(error = %chain(error), "a request of step workflows failed");
            error.to_string()
        }
        other => other.to_string(),
    }
}

fn hint(error: &StepsError) -> Option<&'static str> {
    match error {
        StepsError::UnknownWorkflow { .. } => {
            Some("read midex://workflow/available_workflows to see them all")
        }
        StepsError::InvalidWorkflow { .. } => Some("run `adwd content check` on its folder"),
        StepsError::UnknownExecution { .. } => {
            Some("read midex://workflow/executions to see them all")
        }
        StepsError::TokenMalformed { .. } | StepsError::TokenSignature => Some(
            "pass the token exactly as it was given; if it is lost, read \
             midex://workflow/current_step/{execution_id}, or call workflow_control with \
             {execution_key} and action \"reissue\" for a new one",
        ),
        StepsError::TokenConsumed { .. } | StepsError::TokenRevoked { .. } => Some(
            "read midex://workflow/current_step/{execution_id} for the step that is out now and \
             its token, or call workflow_control with {execution_key} and action \"reissue\"",
        ),
        StepsError::StateConflict { .. } => {
            Some("read midex://workflow/workflow_status/{execution_id} to see where it stands")
        }
        StepsError::RateLimited { scope: limiter::CONNECTION, .. } => Some(
            "the tokens were not this daemon's; read midex://workflow/current_step/{execution_id} \
             for the right one instead of trying others",
        ),
        StepsError::RateLimited { .. } => Some("wait that long; the token is as good as before"),
        StepsError::TooLarge { .. } => {
            Some("make it smaller and submit again with the same token, which is as good as before")
        }
        StepsError::Db(_) => Some("ask again; if it stays, run `adwd doctor`"),
        StepsError::Io { .. } => Some("run `adwd doctor`"),
        StepsError::Invalid { .. }
        | StepsError::UnknownAgent { .. }
        | StepsError::ExecutionExists { .. }
        | StepsError::UnknownArtifact { .. }
        | StepsError::TokenExpired { .. }
        | StepsError::StepNotReady { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Result<Dialect, Refusal> {
        Dialect::of(value.as_object().unwrap())
    }

    #[test]
    fn a_call_is_in_the_dialect_of_its_names() {
        for (arguments, expected) in [
            (json!({ "template_name": "bug-fix" }), Dialect::Seed001),
            (json!({ "template_name": "bug-fix", "execution_id": "e" }), Dialect::Seed001),
            (json!({ "step_token": "t", "output": null }), Dialect::Seed001),
            (json!({ "task_id": "e" }), Dialect::Seed001),
            (json!({ "workflow_name": "bug-fix" }), Dialect::Seed003),
            (json!({ "token": "t", "output": {}, "intent_tags": [] }), Dialect::Seed003),
            (json!({ "execution_id": "e" }), Dialect::Seed003),
            (json!({}), Dialect::Seed003),
        ] {
            assert_eq!(of(arguments.clone()).unwrap(), expected, "{arguments}");
        }
    }

    #[test]
    fn a_mixture_is_refused_with_both_sets_of_names() {
        for one in WORDS_001 {
            for three in WORDS_003 {
                let refusal = of(json!({ one: "x", three: "y" })).unwrap_err();
                assert_eq!(refusal.code, "invalid_arguments");
                for word in [one, three, "step_token", "workflow_name"] {
                    assert!(refusal.error.contains(word), "{}", refusal.error);
                }
            }
        }
    }

    #[test]
    fn each_dialect_has_an_envelope_of_its_own() {
        let limited = StepsError::RateLimited {
            scope: "task",
            key: "abc123".to_owned(),
            retry_after_ms: 1_500,
        };
        let refusal = Refusal::from(limited);
        let one = refusal.to_value(Dialect::Seed001);
        assert_eq!((&one["status"], &one["retry_after_ms"]), (&json!("error"), &json!(1_500)));
        assert!(one["error"].as_str().unwrap().starts_with("Rate limit exceeded for task:abc123"));
        let three = refusal.to_value(Dialect::Seed003);
        assert_eq!((&three["success"], &three["code"]), (&json!(false), &json!("rate_limited")));
        assert_eq!(three["execution_id"], "abc123");

        let conflict = Refusal::from(StepsError::StateConflict {
            execution_id: "e".to_owned(),
            state: ExecutionState::Paused,
            message: "resume it".to_owned(),
            allowed: vec![ControlAction::Resume, ControlAction::Abandon],
        })
        .to_value(Dialect::Seed003);
        assert_eq!(conflict["workflow_state"], "paused");
        assert_eq!(conflict["allowed_actions"], json!(["resume", "abandon"]));
        let hint = conflict["hint"].as_str().unwrap();
        assert!(hint.starts_with("read midex://workflow/workflow_status/e to"), "{hint}");
    }

    #[test]
    fn what_the_arguments_lack_has_this_familys_code() {
        let error = ToolError::argument("m", "h");
        assert_eq!(Refusal::from(error).code, "invalid_arguments");
    }
}
