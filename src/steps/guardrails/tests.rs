//! The grammar, the points, and which rules count.

use proptest::prelude::*;

use super::*;
use crate::steps::template::Complexity;

fn rule(name: &str, body: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        description: String::new(),
        globs: vec![],
        always_apply: false,
        tags: vec![],
        body: body.to_owned(),
        hash: String::new(),
    }
}

fn read(body: &str, grammar: Grammar) -> Guardrails {
    parse_with(&[&rule("r", body)], grammar)
}

#[test]
fn keywords_go_to_their_buckets_and_stay_in_the_text() {
    let found = read(
        "# Rules\n- **NEVER** push to main\n* **ALWAYS** run `make test`\n  - **MUST** name the cause\n\
         - **VALIDATE** all input\n- **PROTECT** user data\n- **MUST NOT** log tokens\nNEVER this\n",
        Grammar::Bold,
    );
    assert_eq!(found.forbidden, ["NEVER push to main", "PROTECT user data", "MUST NOT log tokens"]);
    assert_eq!(found.required, ["ALWAYS run `make test`", "MUST name the cause"]);
    assert_eq!(found.validation, ["VALIDATE all input"]);
    assert_eq!(found.sources, ["r"]);
}

#[test]
fn the_lines_that_upstream_misses_are_found() {
    let body =
        "- **VALIDATE & SANITIZE** input\n- **Never**: trust it\n- **Never async for**: CPU work\n";
    let found = read(body, Grammar::Bold);
    assert_eq!(found.validation, ["VALIDATE & SANITIZE input"]);
    assert_eq!(found.forbidden, ["Never: trust it", "Never async for: CPU work"]);
}

#[test]
fn plain_items_count_under_the_plain_grammar_only() {
    let body = "- Never hardcode secrets\n- Nevertheless, be kind\n- Always quote\n";
    assert_eq!(
        read(body, Grammar::Bold),
        Guardrails { sources: vec!["r".into()], ..Default::default() }
    );
    let found = read(body, Grammar::Plain);
    assert_eq!(found.forbidden, ["Never hardcode secrets"]);
    assert_eq!(found.required, ["Always quote"]);
}

#[test]
fn an_item_goes_on_in_indented_lines_and_an_example_in_a_fence_is_none() {
    let body = "- **NEVER** merge\n  without a review\n\n  more\n- **MUST** a\nend\n```\n- **NEVER** in a fence\n```\n- **NEVERMORE** x\n";
    let found = read(body, Grammar::Bold);
    assert_eq!(found.forbidden, ["NEVER merge without a review"]);
    assert_eq!(found.required, ["MUST a"]);
}

#[test]
fn what_two_rules_say_alike_is_said_once() {
    let (a, b) = (rule("a", "- **NEVER** x"), rule("b", "- **NEVER** x\n- **NEVER** y"));
    let found = parse(&[&a, &b]);
    assert_eq!(found.forbidden, ["NEVER x", "NEVER y"]);
    assert_eq!(found.sources, ["a", "b"]);
}

#[test]
fn parts_of_words_score_nothing() {
    for word in ["evaluate", "keyboard", "dropdowns", "commitments", "retrieval", "executor"] {
        assert_eq!(score(&format!("NEVER {word} it")), 0, "{word}");
    }
}

#[test]
fn a_concept_counts_once_and_concepts_add_up() {
    assert_eq!(score("NEVER execute or exec what you executed"), 10);
    assert_eq!(score("never commit api_keys, API keys or a KEY"), 15);
    assert_eq!(score("NEVER push to production"), 10);
    assert_eq!(score("NEVER truncate, destroy or change permissions"), 30);
}

#[test]
fn the_top_is_by_points_and_then_by_text() {
    let body =
        "- **NEVER** b\n- **NEVER** push\n- **NEVER** a\n- **NEVER** log a secret\n- **NEVER** B\n";
    let all = read(body, Grammar::Bold);
    let top = top_forbidden(&all, 4);
    assert_eq!(top, ["NEVER log a secret", "NEVER push", "NEVER B", "NEVER a"]);
    assert_eq!(top_forbidden(&all, 99).len(), 5);
    assert!(top_forbidden(&Guardrails::default(), 5).is_empty());
}

fn workflow(tags: &[&str]) -> Workflow {
    Workflow {
        name: "w".to_owned(),
        description: String::new(),
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        keywords: vec![],
        complexity: Complexity::Moderate,
        kind: String::new(),
        estimated_duration_minutes: None,
        phases: vec![],
        body: String::new(),
        hash: String::new(),
    }
}

fn names(rules: &[&Rule]) -> Vec<String> {
    rules.iter().map(|rule| rule.name.clone()).collect()
}

#[test]
fn a_rule_counts_always_by_its_paths_or_by_its_tags() {
    let rules = [
        Rule { always_apply: true, ..rule("always", "") },
        Rule { globs: vec!["**/*.py".to_owned()], ..rule("python", "") },
        Rule { tags: vec!["security".to_owned()], ..rule("security", "") },
        rule("never", ""),
    ];
    let phase = Phase {
        phase: "p".to_owned(),
        agent: "a".to_owned(),
        description: String::new(),
        depends_on: vec![],
        allow_parallel: true,
        path_patterns: vec![],
        tags: vec!["security".to_owned()],
        allowed_actions: vec![],
        requires_approval: false,
    };
    let none = workflow(&[]);
    assert_eq!(names(&active(&rules, &none, None, &[])), ["always"]);
    let paths = ["./app\\main.py".to_owned()];
    assert_eq!(names(&active(&rules, &none, None, &paths)), ["always", "python"]);
    assert_eq!(names(&active(&rules, &none, Some(&phase), &[])), ["always", "security"]);
    let tagged = workflow(&["security"]);
    assert_eq!(names(&active(&rules, &tagged, None, &paths)), ["always", "python", "security"]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(body in r"([-* \n`~]|\*\*|NEVER|always|MUST NOT|\PC){0,60}") {
        let all = read(&body, Grammar::Plain);
        prop_assert!(top_forbidden(&all, 5).len() <= 5);
        prop_assert!(read(&body, Grammar::Bold).forbidden.len() <= all.forbidden.len());
    }
}
