//! The catalogue of tools: names, words for models, arguments, answers, annotations.

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations,
};
use serde::Serialize;
use serde_json::Value;

use super::args::{Field, input_schema};
use super::error::{ToolError, pretty};
use super::shown::Shown;
use super::{access, audit, runs, steps, writing};
use crate::auth::{Action, Principal};
use crate::config::{ToolNames, Toolset};
use crate::metrics::Outcome;

/// Who answers a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Issue numbers become pull requests.
    Runs,
    /// A model is led through a workflow step by step.
    Steps,
    /// Series of books become published books.
    Writing,
    /// Who may call.
    Access,
    /// What was asked of the daemon.
    Audit,
}

impl Family {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Runs => "runs",
            Family::Steps => "steps",
            Family::Writing => "writing",
            Family::Access => "access",
            Family::Audit => "audit",
        }
    }
}

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
    /// Adds to our own records, or hands work out and takes it in; twice is twice.
    Records,
    /// Writes down what cannot be taken back: a decision, an end.
    Decides,
}

impl Effect {
    /// All four hints: the protocol's defaults are the pessimistic ones.
    fn annotations(self, title: &str) -> ToolAnnotations {
        let (read_only, destructive, idempotent, open_world) = match self {
            Effect::Reads => (true, false, true, false),
            Effect::Starts => (false, false, false, true),
            Effect::Ends => (false, true, true, false),
            Effect::Adds => (false, false, true, false),
            Effect::Records => (false, false, false, false),
            Effect::Decides => (false, true, false, false),
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
    /// Who answers it.
    pub family: Family,
    /// Other names it answers to; listed only where the configuration asks for it.
    pub aliases: &'static [&'static str],
    /// Schema of the answer.
    pub answer: fn() -> JsonObject,
}

/// Every tool, in the order in which they are listed.
pub fn all() -> impl Iterator<Item = &'static ToolDef> {
    let slices = runs::table::TOOLS.iter().chain(steps::table::TOOLS);
    slices.chain(writing::table::tools()).chain(access::table::TOOLS).chain(audit::TOOLS)
}

/// A tool by name or alias.
#[must_use]
pub fn named(name: &str) -> Option<&'static ToolDef> {
    all().find(|def| def.answers_to(name))
}

impl ToolDef {
    /// The set it is shown with: what manages stands apart, whoever answers it.
    #[must_use]
    pub fn toolset(&self) -> Toolset {
        match (self.action, self.family) {
            (Action::ManageProjects | Action::ManageKeys, _)
            | (_, Family::Access | Family::Audit) => Toolset::Admin,
            (_, Family::Runs) => Toolset::Adw,
            (_, Family::Steps) => Toolset::Steps,
            (_, Family::Writing) => Toolset::Writing,
        }
    }

    /// Whether this is its name or an alias.
    #[must_use]
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// The names under which it is listed.
    fn listed_as(&self, names: ToolNames) -> Vec<&'static str> {
        match (names, self.aliases) {
            (ToolNames::Underscore, _) | (_, []) => vec![self.name],
            (ToolNames::Dotted, aliases) => aliases.to_vec(),
            (ToolNames::Both, aliases) => {
                std::iter::once(self.name).chain(aliases.iter().copied()).collect()
            }
        }
    }
}

/// How a call ended, for whoever counts. Refused is what no tool was asked for.
#[must_use]
pub fn outcome(answer: &Result<CallToolResponse, ErrorData>) -> Outcome {
    let result = match answer {
        // Protocol errors are about calls that name no tool, or no arguments.
        Err(_) => return Outcome::Refused,
        Ok(CallToolResponse::Complete(result)) => result,
        Ok(_) => return Outcome::Ok,
    };
    if result.is_error != Some(true) {
        return Outcome::Ok;
    }
    let content = result.structured_content.as_ref();
    let code = content.and_then(|c| c.get("code").or_else(|| c.get("error")?.get("code")));
    match code.and_then(Value::as_str) {
        Some("not_allowed" | "disabled" | "busy" | "rate_limited" | "quota_exceeded") => {
            Outcome::Refused
        }
        _ => Outcome::Error,
    }
}

/// What a tool answers.
pub type Answer = Result<CallToolResponse, ToolError>;

/// An answer with structured content, and the same JSON as text for clients that show only that.
///
/// # Errors
/// [`ToolError`] where it cannot be written as JSON.
pub fn answer(value: &impl Serialize) -> Answer {
    success(value).map(Into::into)
}

/// The result of [`answer`], to be added to.
///
/// # Errors
/// As [`answer`].
pub fn success(value: &impl Serialize) -> Result<CallToolResult, ToolError> {
    let value = to_value(value)?;
    let mut result = CallToolResult::success(vec![ContentBlock::text(pretty(&value))]);
    result.structured_content = Some(value);
    Ok(result)
}

fn to_value(value: &impl Serialize) -> Result<Value, ToolError> {
    serde_json::to_value(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        ToolError::new("internal", "the answer cannot be written as JSON", "see the daemon's log")
    })
}

/// The tools as the wire shows them, made once.
pub struct Catalogue {
    tools: Vec<(&'static ToolDef, Tool)>,
    triggers: bool,
}

impl Catalogue {
    /// The catalogue; without `triggers` the tools that start runs are listed for nobody. Step
    /// workflows start nothing on this machine, so they stay.
    #[must_use]
    pub fn new(triggers: bool, names: ToolNames) -> Catalogue {
        let each = |def: &'static ToolDef| {
            def.listed_as(names).into_iter().map(move |name| (def, wire(def, name)))
        };
        Catalogue { tools: all().flat_map(each).collect(), triggers }
    }

    /// Whether a tool is switched off.
    #[must_use]
    pub fn is_off(&self, def: &ToolDef) -> bool {
        !self.triggers && def.effect == Effect::Starts
    }

    /// The tools that a principal may use and is shown, in a stable order.
    #[must_use]
    pub fn list(&self, principal: &Principal, shown: &Shown) -> Vec<Tool> {
        self.listed(principal, shown).cloned().collect()
    }

    fn listed(&self, principal: &Principal, shown: &Shown) -> impl Iterator<Item = &Tool> {
        let is_listed = |def: &ToolDef| {
            principal.allows(def.action) && shown.lists(def.toolset()) && !self.is_off(def)
        };
        self.tools.iter().filter(move |(def, _)| is_listed(def)).map(|(_, tool)| tool)
    }

    /// A tool by name or alias, whether or not the caller may use it or is shown it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&(&'static ToolDef, Tool)> {
        let listed = self.tools.iter().find(|(_, tool)| tool.name == name);
        listed.or_else(|| self.tools.iter().find(|(def, _)| def.answers_to(name)))
    }

    /// The names of the tools that a principal is shown.
    #[must_use]
    pub fn names(&self, principal: &Principal, shown: &Shown) -> Vec<&str> {
        self.listed(principal, shown).map(|tool| tool.name.as_ref()).collect()
    }
}

fn wire(def: &ToolDef, name: &'static str) -> Tool {
    Tool::new(name, def.about, input_schema(def.fields))
        .with_title(def.title)
        .with_raw_output_schema(Arc::new((def.answer)()))
        .with_annotations(def.effect.annotations(def.title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Toolsets;
    use crate::mcp::schema;
    use crate::mcp::shown::Hello;

    /// Everything that a principal may use.
    fn list(catalogue: &Catalogue, principal: &Principal) -> Vec<Tool> {
        let every = Toolsets::of(Toolset::ALL.map(Toolset::as_str)).unwrap();
        catalogue.list(principal, &Shown::of(principal, Hello::default(), &every))
    }

    #[test]
    fn every_tool_is_complete_and_its_schemas_are_plain() {
        let catalogue = Catalogue::new(true, ToolNames::Underscore);
        let tools = list(&catalogue, &Principal::unix(0));
        assert_eq!(tools.len(), all().count());
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
            let object = |schema: &Arc<JsonObject>| Value::Object(schema.as_ref().clone());
            let asked = schema::oddities(&object(&tool.input_schema));
            let told = schema::answer_oddities(&object(tool.output_schema.as_ref().unwrap()));
            assert_eq!((asked, told), (Vec::new(), Vec::new()), "{name}");
            assert_eq!(tool.input_schema["additionalProperties"], false, "{name}");
        }
    }

    #[test]
    fn http_sees_no_project_management_and_a_quiet_daemon_no_triggers() {
        let names = |tools: Vec<Tool>| tools.into_iter().map(|t| t.name.to_string()).collect();
        let everything = Catalogue::new(true, ToolNames::Underscore);
        let http: Vec<String> = names(list(&everything, &Principal::loopback(true)));
        assert_eq!(http.len(), all().filter(|def| def.toolset() != Toolset::Admin).count());
        assert!(!http.iter().any(|name| name.ends_with("_project")));
        let quiet = Catalogue::new(false, ToolNames::Underscore);
        let quiet: Vec<String> = names(list(&quiet, &Principal::unix(0)));
        assert!(!quiet.iter().any(|n| n.starts_with("trigger") || n.starts_with("resume")));
        assert!(quiet.iter().any(|n| n == "cancel_adw_workflow"));
        assert!(quiet.iter().any(|n| n == "workflow_start"), "it starts no run");
    }

    #[test]
    fn names_with_dots_are_listed_only_where_they_are_asked_for() {
        let listed = |names| -> Vec<String> {
            let catalogue = Catalogue::new(true, names);
            for name in ["workflow_start", "workflow.start"] {
                assert_eq!(catalogue.find(name).unwrap().0.name, "workflow_start");
            }
            let tools = list(&catalogue, &Principal::unix(0));
            tools.into_iter().map(|tool| tool.name.to_string()).collect()
        };
        let plain = |name: &String| {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            (1..=64).contains(&name.len()) && name.bytes().all(legal)
        };
        assert!(listed(ToolNames::Underscore).iter().all(plain));
        let dotted = listed(ToolNames::Dotted);
        assert!(dotted.contains(&"workflow.control".to_owned()));
        assert!(!dotted.contains(&"workflow_control".to_owned()));
        assert!(dotted.contains(&"get_adw_state".to_owned()), "a tool without an alias stays");
        assert_eq!(listed(ToolNames::Both).len(), all().count() + 3);
    }
}
