//! What a step is told: its contract, and the text that carries it (`spec/steps.md` §3.3). Pure.

use super::guardrails::{self, Guardrails};
use super::template::Phase;
use super::view::{Contract, StepHandout};
use crate::limits::STEPS_FORBIDDEN_COUNT;

/// The form of an output, in seed 001's words.
pub const OUTPUT_FORMAT: &str = "summary, artifacts[], references[], confidence";

/// What any step may do where its workflow says nothing.
const DEFAULT_ACTIONS: [&str; 3] = [
    "Read whatever the task needs",
    "Propose changes and decisions",
    "Produce artifacts that carry the result",
];

/// The contract of a step under these rules.
#[must_use]
pub fn contract(phase: &Phase, rules: &Guardrails) -> Contract {
    let allowed_actions = if phase.allowed_actions.is_empty() {
        let task = Some(phase.description.trim()).filter(|text| !text.is_empty());
        task.into_iter().chain(DEFAULT_ACTIONS).map(str::to_owned).collect()
    } else {
        phase.allowed_actions.clone()
    };
    Contract {
        step_name: phase.phase.clone(),
        allowed_actions,
        forbidden_actions: guardrails::top_forbidden(rules, STEPS_FORBIDDEN_COUNT),
        required_actions: rules.required.clone(),
        validation_requirements: rules.validation.clone(),
        required_output_format: OUTPUT_FORMAT.to_owned(),
        human_gate_required: phase.requires_approval,
    }
}

/// The step as one text for the model, in the sections of `spec/steps.md` §3.3.
#[must_use]
pub fn human_message(handout: &StepHandout, workflow: &str, execution_id: &str) -> String {
    let contract = &handout.contract;
    let mut text = format!(
        "# {} AGENT\n\n{}\n\n## Your Current Task\n\n**Workflow**: {workflow}\n**Step**: {}\n",
        handout.agent_name.to_uppercase(),
        handout.persona.trim(),
        handout.step_name,
    );
    if !handout.description.trim().is_empty() {
        text.push_str(&format!("**Description**: {}\n", handout.description.trim()));
    }
    text.push_str(&format!("**Execution**: {execution_id}\n"));
    if handout.attempt > 1 {
        text.push_str(&format!("**Attempt**: {}\n", handout.attempt));
    }
    section(&mut text, "What You CAN Do", &contract.allowed_actions);
    let mut forbidden = contract.forbidden_actions.clone();
    if forbidden.is_empty() {
        forbidden.push("Nothing beyond your task is asked for".to_owned());
    }
    section(&mut text, "What You CANNOT Do", &forbidden);
    let required = [
        "summary (string): what was done",
        "artifacts (array): each with type, title, content",
        "references (array): files and documents that were used",
        "confidence (number from 0 to 1)",
        "Optional: decisions, findings, next_steps, blockers, metadata",
    ];
    section(&mut text, "Required Output", &required.map(str::to_owned));
    for (title, items) in [
        ("You must", &contract.required_actions),
        ("Check before you submit", &contract.validation_requirements),
    ] {
        if !items.is_empty() {
            text.push_str(&format!("\n{title}:\n"));
            list(&mut text, items);
        }
    }
    text.push_str(
        "\n## Submitting\n\nCall `workflow_next_step` with the token that came with this step and \
         your output. The token is good for one submission; the answer brings the next step.\n",
    );
    text
}

fn section(text: &mut String, title: &str, items: &[String]) {
    text.push_str(&format!("\n## {title}\n\n"));
    list(text, items);
}

fn list(text: &mut String, items: &[String]) {
    for item in items {
        text.push_str(&format!("- {item}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;

    fn phase() -> Phase {
        Phase {
            phase: "design".to_owned(),
            agent: "architect".to_owned(),
            description: "Decide how it is built".to_owned(),
            depends_on: vec![],
            allow_parallel: true,
            path_patterns: vec![],
            tags: vec![],
            allowed_actions: vec![],
            requires_approval: true,
        }
    }

    #[test]
    fn a_step_without_actions_of_its_own_gets_its_task_and_the_common_ones() {
        let made = contract(&phase(), &Guardrails::default());
        assert_eq!(made.allowed_actions.len(), 4);
        assert_eq!(made.allowed_actions[0], "Decide how it is built");
        assert!(made.human_gate_required);
        assert_eq!(made.required_output_format, OUTPUT_FORMAT);
        let own = Phase { allowed_actions: vec!["Draw".to_owned()], ..phase() };
        assert_eq!(contract(&own, &Guardrails::default()).allowed_actions, ["Draw"]);
    }

    #[test]
    fn at_most_five_things_are_forbidden_by_name() {
        let rules = Guardrails {
            forbidden: (0..9).map(|n| format!("NEVER do {n}")).collect(),
            required: vec!["ALWAYS test".to_owned()],
            ..Guardrails::default()
        };
        let made = contract(&phase(), &rules);
        assert_eq!(made.forbidden_actions.len(), 5);
        assert_eq!(made.required_actions, ["ALWAYS test"]);
    }

    #[test]
    fn the_text_has_its_sections_in_order() {
        let rules = Guardrails {
            forbidden: vec!["NEVER push to main".to_owned()],
            required: vec!["ALWAYS test".to_owned()],
            validation: vec!["VALIDATE input".to_owned()],
            ..Guardrails::default()
        };
        let handout = StepHandout {
            step_name: "design".to_owned(),
            agent_name: "architect".to_owned(),
            description: "Decide how it is built".to_owned(),
            persona: "\nYou are an architect.\n".to_owned(),
            contract: contract(&phase(), &rules),
            attempt: 2,
            token: "v1.a.b.c".to_owned(),
            issued_at: Millis(0),
            expires_at: Millis(1),
        };
        let text = human_message(&handout, "feature-development", "exec_1");
        let parts = [
            "# ARCHITECT AGENT\n\nYou are an architect.\n",
            "## Your Current Task",
            "**Workflow**: feature-development",
            "**Step**: design",
            "**Description**: Decide how it is built",
            "**Execution**: exec_1",
            "**Attempt**: 2",
            "## What You CAN Do\n\n- Decide",
            "## What You CANNOT Do\n\n- NEVER push to main",
            "## Required Output",
            "- ALWAYS test",
            "- VALIDATE input",
            "## Submitting",
        ];
        let places = parts.map(|part| text.find(part).unwrap_or_else(|| panic!("{part}: {text}")));
        assert!(places.is_sorted(), "{text}");
        assert!(!text.contains("v1.a.b.c"), "the token stands beside the text, not in it");
    }
}
