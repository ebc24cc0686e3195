//! What the world's files look like, and what is said of those that are not in order.

use proptest::prelude::*;

use super::*;

fn read(kind: Kind, text: &str) -> Parsed {
    parse(kind, "f.md", text.as_bytes())
}

fn workflow_of(text: &str) -> Workflow {
    match read(Kind::Workflow, text) {
        Parsed { item: Some(Item::Workflow(workflow)), .. } => workflow,
        other => panic!("{:#?}", other.problems),
    }
}

/// Line, whether it is fatal, and the message.
fn said(kind: Kind, text: &str) -> Vec<(Option<u32>, bool, String)> {
    read(kind, text).problems.into_iter().map(|p| (p.line, p.fatal, p.message)).collect()
}

const PHASES: &str = "phases:\n  - phase: one\n    agent: a\n";

#[test]
fn an_agent_is_read_with_its_body_as_it_stands() {
    let text = "---\nname: architect\ndescription: Designs – carefully\ntags: [a, b]\nversion: 1.0\n---\n\n# You\nbody";
    let Parsed { item: Some(Item::Agent(agent)), problems, hash, .. } = read(Kind::Agent, text)
    else {
        panic!("it is in order")
    };
    assert_eq!(problems, []);
    assert_eq!(agent.body, "\n# You\nbody", "one leading newline stays, none is added at the end");
    assert_eq!(agent.version.as_deref(), Some("1.0"));
    assert_eq!(agent.tags, ["a", "b"]);
    assert_eq!(agent.description, "Designs – carefully");
    assert_eq!(hash, super::hash(text.as_bytes()));
    assert_eq!(agent.hash, hash);
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_no_trouble_and_the_hash_is_of_the_raw_bytes() {
    let plain = "---\nname: a\ndescription: d\n---\nbody\n";
    let odd = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
    let (plain, odd) = (read(Kind::Agent, plain), read(Kind::Agent, &odd));
    let body = |parsed: &Parsed| match &parsed.item {
        Some(Item::Agent(agent)) => agent.body.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(body(&plain), body(&odd));
    assert_ne!(plain.hash, odd.hash);
}

#[test]
fn a_rule_takes_true_in_capitals_and_lists_in_both_forms() {
    for globs in ["globs: [\"**\"]", "globs:\n  - \"**\"", "globs: [ '**' ]"] {
        let text = format!("---\nname: base\ndescription: d\n{globs}\nalwaysApply: True\n---\nx");
        let Some(Item::Rule(rule)) = read(Kind::Rule, &text).item else { panic!("{text}") };
        assert!(rule.always_apply);
        assert_eq!(rule.globs, ["**"]);
    }
    let text = "---\nname: base\ndescription: d\nglobs: []\ntags:\n---\nx";
    let Some(Item::Rule(rule)) = read(Kind::Rule, text).item else { panic!("no rule") };
    assert!(!rule.always_apply && rule.globs.is_empty() && rule.tags.is_empty());
}

#[test]
fn complexity_has_three_spellings_and_the_first_wins() {
    for key in ["complexity", "complexityHint", "complexity_hint"] {
        let text = format!("---\nname: w\ndescription: d\n{key}: high\n{PHASES}---\n");
        assert_eq!(workflow_of(&text).complexity, Complexity::High, "{key}");
        assert_eq!(said(Kind::Workflow, &text), [], "{key}");
    }
    let both = format!(
        "---\nname: w\ndescription: d\ncomplexityHint: simple\ncomplexity: High\n{PHASES}---\n"
    );
    assert_eq!(workflow_of(&both).complexity, Complexity::High);
    assert!(said(Kind::Workflow, &both)[0].2.contains("which is used"));
    let none = format!("---\nname: w\ndescription: d\n{PHASES}---\n");
    assert_eq!(workflow_of(&none).complexity, Complexity::Moderate);
}

#[test]
fn phases_are_read_in_both_spellings_with_their_defaults() {
    let camel = "---\nname: w\ndescription: d\nestimatedDurationMinutes: 90\ntype: hybrid\nphases:\n  - phase: a\n    agent: x\n  - phase: b\n    agent: y\n    description: later\n    dependsOn: [a]\n    allowParallel: false\n    pathPatterns: ['src/**']\n    tags: [t]\n    allowedActions: [Read]\n    requiresApproval: true\n---\n";
    let snake = camel
        .replace("dependsOn", "depends_on")
        .replace("allowParallel", "allow_parallel")
        .replace("pathPatterns", "path_patterns")
        .replace("allowedActions", "allowed_actions")
        .replace("requiresApproval", "requires_approval")
        .replace("estimatedDurationMinutes", "estimated_duration_minutes");
    let (one, other) = (workflow_of(camel), workflow_of(&snake));
    assert_eq!(one.phases, other.phases);
    assert_eq!(one.estimated_duration_minutes, Some(90));
    assert_eq!(other.estimated_duration_minutes, Some(90));
    let (a, b) = (&one.phases[0], &one.phases[1]);
    assert!(a.allow_parallel && !a.requires_approval && a.depends_on.is_empty());
    assert!(!b.allow_parallel && b.requires_approval);
    assert_eq!((b.depends_on[0].as_str(), b.allowed_actions[0].as_str()), ("a", "Read"));
    assert_eq!((b.path_patterns[0].as_str(), b.tags[0].as_str()), ("src/**", "t"));
    assert_eq!(said(Kind::Workflow, camel), []);
    let lines: Vec<u32> =
        read(Kind::Workflow, camel).phases.iter().map(|(_, line)| *line).collect();
    assert_eq!(lines, [7, 9]);
}

#[test]
fn a_workflow_without_a_type_gets_it_from_its_phases() {
    let of = |needs: &[&str]| {
        let phase = |(at, needs): (usize, &&str)| {
            format!("  - phase: p{at}\n    agent: a\n    dependsOn: [{needs}]\n")
        };
        let phases: String = needs.iter().enumerate().map(phase).collect();
        workflow_of(&format!("---\nname: w\ndescription: d\nphases:\n{phases}---\n")).kind
    };
    assert_eq!(of(&["", "p0", "p1"]), "sequential");
    assert_eq!(of(&["", "", ""]), "parallel");
    assert_eq!(of(&["", "", "p0, p1"]), "hybrid");
}

#[test]
fn each_problem_names_its_line_and_what_would_be_right() {
    let long = "x".repeat(101);
    let cases: Vec<(Kind, String, u32, &str)> = vec![
        (Kind::Agent, "# no front matter\n".into(), 1, "must begin with a line ---"),
        (Kind::Agent, String::new(), 1, "must begin with a line ---"),
        (Kind::Agent, "---\nname: a\n".into(), 1, "does not end"),
        (Kind::Agent, "---\ndescription: d\n---\nx".into(), 1, "name is missing"),
        (Kind::Agent, "---\ndescription: d\nname:\n---\nx".into(), 3, "name is missing"),
        (Kind::Agent, format!("---\nname: {long}\n---\nx"), 2, "101 characters; at most 100"),
        (Kind::Agent, "---\nname: \"a\\nb\"\n---\nx".into(), 2, "one line"),
        (Kind::Agent, "---\nname: [a]\n---\nx".into(), 2, "got a list; expected text"),
        (Kind::Agent, "---\nname: a\ntags: x\n---\nx".into(), 3, "expected a list, as in [a, b]"),
        (Kind::Agent, "---\nname: a\nname: b\n---\nx".into(), 3, "there twice"),
        (Kind::Agent, "---\n- a\n---\nx".into(), 2, "expected keys and values"),
        (Kind::Rule, "---\nname: a\nalwaysApply: yes\n---\nx".into(), 3, "expected true or false"),
        (Kind::Rule, "---\nname: a\nglobs:\n  - x\n  - {a: b}\n---\nx".into(), 5, "entry 2: got a table"),
        (Kind::Workflow, "---\nname: a\n---\n".into(), 1, "no phases"),
        (Kind::Workflow, "---\nname: a\nphases: 3\n---\n".into(), 3, "expected a list"),
        (Kind::Workflow, "---\nname: a\nphases:\n  - plan\n---\n".into(), 4, "expected a table, as in - phase"),
        (Kind::Workflow, format!("---\nname: a\ncomplexity: hard\n{PHASES}---\n"), 3, "expected simple, moderate or high"),
        (Kind::Workflow, format!("---\nname: a\nestimated_duration_minutes: 1h\n{PHASES}---\n"), 3, "whole number from 1"),
        (Kind::Workflow, "---\nname: a\nphases:\n  - phase: p\n    description: d\n---\n".into(), 4, "phase \"p\": agent is missing"),
        (Kind::Workflow, "---\nname: a\nphases:\n  - phase: p\n    agent: x\n  - phase: q\n    agent: x\n    dependsOn: [r]\n---\n".into(), 6, "\"r\", which is no phase"),
    ];
    for (kind, text, line, words) in cases {
        let parsed = read(kind, &text);
        assert_eq!(parsed.item, None, "{text}");
        let found = parsed
            .problems
            .iter()
            .any(|p| p.fatal && p.line == Some(line) && p.message.contains(words));
        assert!(found, "{text}\nwanted {line}: {words}\ngot {:#?}", parsed.problems);
    }
}

#[test]
fn bounds_are_kept() {
    let list = |n: usize, chars: usize| {
        let items: Vec<String> = (0..n).map(|i| format!("{i:0chars$}")).collect();
        items.join(", ")
    };
    for (kind, key, count, chars) in [
        (Kind::Agent, "tags", 20, 50),
        (Kind::Rule, "globs", 50, 200),
        (Kind::Workflow, "keywords", 50, 100),
    ] {
        let text = |count: usize, chars: usize| {
            let rest = if kind == Kind::Workflow { PHASES } else { "" };
            format!("---\nname: n\ndescription: d\n{key}: [{}]\n{rest}---\nx", list(count, chars))
        };
        assert_eq!(said(kind, &text(count, chars)), [], "{key}");
        assert!(read(kind, &text(count + 1, chars)).item.is_none(), "{key}");
        assert!(read(kind, &text(count, chars + 1)).item.is_none(), "{key}");
    }
    let described = |n: usize| format!("---\nname: n\ndescription: {}\n---\nx", "é".repeat(n));
    assert!(read(Kind::Agent, &described(500)).item.is_some(), "characters, not bytes");
    assert!(read(Kind::Agent, &described(501)).item.is_none());
}

#[test]
fn everything_wrong_is_told_at_once_and_an_unknown_key_is_only_a_remark() {
    let text = "---\nname: w\ncomplexity: hard\ncolour: red\nphases:\n  - phase: p\n    agent: a\n    dependson: [q]\n    allowParallel: maybe\n---\n";
    let all = said(Kind::Workflow, text);
    let lines: Vec<(Option<u32>, bool)> =
        all.iter().map(|(line, fatal, _)| (*line, *fatal)).collect();
    assert!(lines.contains(&(Some(3), true)) && lines.contains(&(Some(9), true)), "{all:#?}");
    assert!(lines.contains(&(Some(4), false)) && lines.contains(&(Some(8), false)), "{all:#?}");
    let unknown = all.iter().find(|(line, ..)| *line == Some(8)).unwrap();
    assert!(unknown.2.contains("dependson") && unknown.2.contains("depends_on"), "{unknown:?}");
}

#[test]
fn what_is_no_text_is_refused() {
    let bytes = b"---\nname: a\ndescription: \xff\n---\nx";
    let parsed = parse(Kind::Agent, "f.md", bytes);
    assert_eq!((parsed.problems[0].line, parsed.problems[0].fatal), (Some(3), true));
    assert!(parse(Kind::Agent, "f.md", b"---\nname: a\n---\n\0").item.is_none());
    assert!(parse(Kind::Agent, "f.md", b"---\nname: \"a\\0\"\n---\nx").item.is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in Kind::ALL {
            let _ = parse(kind, "f.md", &bytes);
        }
    }

    #[test]
    fn no_front_matter_makes_it_panic_and_what_is_unusable_says_why(front in r#"(name: |phases:|  - phase: |    agent: |dependsOn: |tags: |globs: |true|[a-c]|\n|\n  |[-\[\]{}:,&*!|>'"%#?~@`]|\t|\PC){0,40}"#) {
        for kind in Kind::ALL {
            let parsed = read(kind, &format!("---\n{front}\n---\nx"));
            let fatal = parsed.problems.iter().any(|p| p.fatal);
            prop_assert_eq!(parsed.item.is_none(), fatal);
            prop_assert!(parsed.problems.iter().all(|p| p.line.is_some_and(|line| line > 0)));
        }
    }
}
