//! Stand-in until the content branch is merged.

use super::template::{Phase, Rule, Workflow};

/// What the rules come down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guardrails {
    /// NEVER.
    pub forbidden: Vec<String>,
    /// ALWAYS and MUST.
    pub required: Vec<String>,
    /// VALIDATE.
    pub validation: Vec<String>,
    /// Names of the rules.
    pub sources: Vec<String>,
}

/// Reads the rules.
#[must_use]
pub fn parse(rules: &[&Rule]) -> Guardrails {
    let lines = |word: &str| {
        let bodies = rules.iter().flat_map(|rule| rule.body.lines());
        bodies
            .filter_map(|line| line.strip_prefix("- **").map(|line| line.replace("**", "")))
            .filter(|line| line.starts_with(word))
            .collect::<Vec<String>>()
    };
    Guardrails {
        forbidden: lines("NEVER"),
        required: lines("ALWAYS"),
        validation: lines("VALIDATE"),
        sources: rules.iter().map(|rule| rule.name.clone()).collect(),
    }
}

/// The rules that count for a step.
#[must_use]
pub fn active<'a>(
    rules: &'a [Rule],
    _workflow: &Workflow,
    _phase: Option<&Phase>,
    _paths: &[String],
) -> Vec<&'a Rule> {
    rules.iter().filter(|rule| rule.always_apply).collect()
}

/// The gravest of what is forbidden.
#[must_use]
pub fn top_forbidden(all: &Guardrails, count: usize) -> Vec<String> {
    all.forbidden.iter().take(count).cloned().collect()
}
