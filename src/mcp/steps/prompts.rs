//! Prompts of step workflows: one a workflow, which starts it and says how to go through it.

use rmcp::model::{Prompt, PromptArgument, PromptMessage, Role};

use super::resources::startable;
use crate::mcp::args::{Args, Field, Kind, may, need};
use crate::mcp::bounds::LISTED_WORKFLOWS_COUNT;
use crate::mcp::runs::prompts::NAMES;
use crate::steps::{Steps, StepsError, Workflow};

/// Longest name of a prompt that every client takes.
const NAME_MAX_CHARS: usize = 64;

/// What each of them asks for.
pub const FIELDS: &[Field] = &[
    need("task", Kind::Text, "What is to be done, in your words"),
    may("project", Kind::Text, "Name of the project it belongs to"),
];

/// The workflows that can be started, each with the name of its prompt: letters, digits, `_` and `-`
/// alone, at most 64, none of them twice nor one of the runs'. Deterministic for the same workflows.
#[must_use]
pub fn named(workflows: Vec<Workflow>) -> Vec<(String, Workflow)> {
    let mut named: Vec<(String, Workflow)> = Vec::new();
    for workflow in workflows.into_iter().take(LISTED_WORKFLOWS_COUNT) {
        let legal = legal(&workflow.name);
        let is_taken =
            |name: &str| NAMES.contains(&name) || named.iter().any(|(known, _)| known == name);
        let numbered = (2..).map(|n: usize| {
            let end = format!("-{n}");
            format!("{}{end}", &legal[..legal.len().min(NAME_MAX_CHARS - end.len())])
        });
        let name = std::iter::once(legal.clone()).chain(numbered).find(|name| !is_taken(name));
        named.push((name.unwrap_or_default(), workflow));
    }
    named
}

/// The name in letters that every client takes; ASCII, so that it can be cut anywhere.
fn legal(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let legal: String = name.chars().map(plain).take(NAME_MAX_CHARS).collect();
    if legal.is_empty() { "workflow".to_owned() } else { legal }
}

/// The prompts.
///
/// # Errors
/// [`StepsError`].
pub async fn list(steps: &Steps) -> Result<Vec<Prompt>, StepsError> {
    let arguments = || {
        let one = |field: &Field| {
            PromptArgument::new(field.name)
                .with_description(field.about)
                .with_required(field.required)
        };
        FIELDS.iter().map(one).collect()
    };
    let wire = |(name, workflow): (String, Workflow)| {
        Prompt::new(name, Some(workflow.description), Some(arguments()))
            .with_title(format!("Workflow: {}", workflow.name))
    };
    Ok(named(startable(steps).await?).into_iter().map(wire).collect())
}

/// The workflow that a prompt of this name starts.
///
/// # Errors
/// [`StepsError`].
pub async fn find(steps: &Steps, name: &str) -> Result<Option<Workflow>, StepsError> {
    if NAMES.contains(&name) {
        return Ok(None);
    }
    let named = named(startable(steps).await?);
    Ok(named.into_iter().find(|(known, _)| known == name).map(|(_, workflow)| workflow))
}

/// The prompt, filled in: how to go through the workflow with the tools.
#[must_use]
pub fn fill(workflow: &Workflow, args: &Args) -> Vec<PromptMessage> {
    let task = args.needed("task");
    let project = args.text("project");
    let project = project.map_or_else(String::new, |name| format!(", \"project\": {name:?}"));
    let steps = workflow.phases.iter().enumerate().map(|(at, phase)| {
        let gate = if phase.requires_approval { ", after my approval" } else { "" };
        let about = Some(phase.description.trim()).filter(|text| !text.is_empty());
        let about = about.map_or_else(String::new, |text| format!(": {text}"));
        format!("  {}. {} (as {}{gate}){about}\n", at + 1, phase.phase, phase.agent)
    });
    let text = format!(
        "Do this by the step workflow {name:?}:\n\n{task}\n\n\
         The workflow has {count} steps; the server hands them out one by one, in an order that \
         fits what they depend on:\n{steps}\n\
         How to go through it:\n\
         1. Call workflow_start with {{\"workflow_name\": {name:?}{project}}}. Keep the \
         execution_id.\n\
         2. Read agent_content, instructions and contract of the answer. Work as that agent, on \
         the task above, within contract: do the step really, with the tools you have, before you \
         hand it in. Nobody else does it.\n\
         3. Call workflow_next_step with {{\"token\": the new_token you were given, \"output\": \
         {{\"summary\": …, \"artifacts\": [{{\"type\": …, \"title\": …, \"content\": …}}], \
         \"references\": […], \"confidence\": 0 to 1}}}}. Put what the step made into artifacts \
         with their whole content. The answer is the next step: go on with 2.\n\
         4. workflow_state \"paused\" means that a person has to decide: show me what the message \
         says and wait for my word. When I approve, call workflow_control with {{\"execution_id\": \
         …, \"action\": \"approve\"}} (or \"resume\", as the message says); never approve by \
         yourself.\n\
         5. workflow_state \"completed\" is the end: tell me the synthesis and what the artifacts \
         are.\n\n\
         An answer with success false says in error and hint what to do; the token stays good \
         unless it says otherwise. If you lose your place, call workflow_next_step with the token \
         alone, or read midex://workflow/current_step/EXECUTION_ID.\n",
        name = workflow.name,
        count = workflow.phases.len(),
        steps = steps.collect::<String>(),
    );
    vec![PromptMessage::new_text(Role::User, text)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workflow(name: &str) -> Workflow {
        serde_json::from_value(serde_json::json!({
            "name": name, "description": "d", "tags": [], "keywords": [],
            "complexity": "simple", "kind": "sequential", "estimated_duration_minutes": null,
            "phases": [{
                "phase": "design", "agent": "architect", "description": "Decide",
                "depends_on": [], "allow_parallel": true, "path_patterns": [], "tags": [],
                "allowed_actions": [], "requires_approval": true }],
            "body": "", "hash": "",
        }))
        .unwrap()
    }

    fn names(of: &[&str]) -> Vec<String> {
        named(of.iter().map(|name| workflow(name)).collect()).into_iter().map(|n| n.0).collect()
    }

    #[test]
    fn names_are_made_legal_and_never_meet() {
        assert_eq!(names(&["bug-fix", "a b", "a-b", "a.b"]), ["bug-fix", "a-b", "a-b-2", "a-b-3"]);
        assert_eq!(names(&["run_issue"]), ["run_issue-2"]);
        let long = "x".repeat(100);
        let made = names(&[&long, &format!("{long}y")]);
        assert_eq!(made[0], "x".repeat(64));
        assert_eq!(made[1], format!("{}-2", "x".repeat(62)));
    }

    #[test]
    fn the_text_names_the_task_the_steps_and_the_tools() {
        let given = serde_json::json!({ "task": "Mend the \"login\"", "project": "shop" });
        let args = Args::read("p", FIELDS, given.as_object().unwrap()).unwrap();
        let message = serde_json::to_value(&fill(&workflow("bug-fix"), &args)[0]).unwrap();
        let text = message["content"]["text"].as_str().unwrap();
        for part in [
            "Mend the \"login\"",
            "{\"workflow_name\": \"bug-fix\", \"project\": \"shop\"}",
            "1. design (as architect, after my approval): Decide",
            "workflow_next_step",
            "workflow_control",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_legal_whatever_the_workflows_are_called(
            given in proptest::collection::vec("\\PC{0,90}", 0..12)
        ) {
            let made = named(given.iter().map(|name| workflow(name)).collect());
            let mut seen = std::collections::BTreeSet::new();
            for (name, _) in &made {
                prop_assert!((1..=64).contains(&name.len()));
                let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                prop_assert!(name.bytes().all(legal), "{}", name);
                prop_assert!(seen.insert(name.clone()), "{} twice", name);
                prop_assert!(!NAMES.contains(&name.as_str()));
            }
            prop_assert_eq!(made.len(), given.len());
        }
    }
}
