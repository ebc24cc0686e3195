//! Agents, rules and workflows: front matter, its YAML, and what rules forbid.

use adwd::limits::CONTENT_PROBLEMS_COUNT;
use adwd::steps::front_matter::{Item, parse};
use adwd::steps::guardrails::{Grammar, parse_with, top_forbidden};
use adwd::steps::{Kind, Rule};

use super::choice;

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    let kind = Kind::ALL[usize::from(choice) % Kind::ALL.len()];
    let parsed = parse(kind, "x.md", bytes);
    assert!(parsed.problems.len() <= CONTENT_PROBLEMS_COUNT);
    let lines = 1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for problem in &parsed.problems {
        let line = problem.line.unwrap_or(1) as usize;
        assert!((1..=lines + 1).contains(&line), "{problem:?} of {lines} lines");
        assert!(!problem.message.is_empty());
    }
    assert_eq!(parsed.item.is_some(), parsed.problems.iter().all(|p| !p.fatal));
    match parsed.item {
        Some(Item::Rule(rule)) => rules(&rule),
        Some(Item::Workflow(workflow)) => {
            let names: Vec<&str> = workflow.phases.iter().map(|p| p.phase.as_str()).collect();
            for phase in &workflow.phases {
                assert!(phase.depends_on.iter().all(|need| names.contains(&need.as_str())));
            }
        }
        _ => {}
    }
}

fn rules(rule: &Rule) {
    for grammar in [Grammar::Bold, Grammar::Plain] {
        let found = parse_with(&[rule, rule], grammar);
        assert_eq!(parse_with(&[rule], grammar).forbidden, found.forbidden);
        assert!(top_forbidden(&found, 5).len() <= 5);
    }
}
