//! Tests of the normaliser.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn refused(value: &Value) -> String {
    normalise(value).unwrap_err().to_string()
}

#[test]
fn seed_003s_output_is_taken() {
    let output = normalise(&json!({
        "summary": "Architecture design completed",
        "artifacts": ["design_doc_001"],
        "findings": ["f1"],
        "next_step_recommendation": "Begin implementation"
    }))
    .unwrap();
    assert_eq!(output.artifact_refs, ["design_doc_001"]);
    assert_eq!(output.findings, [json!("f1")]);
    assert_eq!(output.next_steps, Some(json!("Begin implementation")));
    assert_eq!(output.warnings.len(), 2, "references and confidence are asked for");
    assert!(output.extra.is_empty());
}

#[test]
fn what_a_persona_tells_its_agent_to_emit_is_taken_whole() {
    // Upstream refused the type and the findings, and dropped the rest (`spec/steps.md` §8, R9).
    let given = json!({
        "summary": "Reviewed",
        "artifacts": [{"type": "markdown", "title": "Review", "content": "# Review\n…",
                       "description": "All of it", "metadata": {"v": 1}, "audience": "team"}],
        "references": ["src/a.rs", {"path": "docs/b.md", "lines": [1, 2]}],
        "confidence": 0.85,
        "decisions": [{"decision": "x", "rationale": "y", "alternatives_rejected": ["z"]}],
        "findings": [{"severity": "high", "category": "security", "description": "d"}],
        "blockers": [],
        "next_steps": ["one", "two"],
        "next_step_recommendation": "three",
        "metadata": {"model": "m"},
        "mood": {"colour": "blue"}
    });
    let output = normalise(&given).unwrap();
    assert_eq!(output.warnings, Vec::<String>::new());
    let artifact = &output.artifacts[0];
    assert_eq!((artifact.artifact_type.as_str(), artifact.title.as_str()), ("markdown", "Review"));
    assert_eq!(artifact.content_type, "text/markdown");
    assert_eq!(artifact.extra, *json!({"audience": "team"}).as_object().unwrap());
    assert_eq!(output.references, ["src/a.rs", "docs/b.md"]);
    assert_eq!(output.confidence, Some(0.85));
    assert_eq!(output.extra["references"][1]["lines"], json!([1, 2]));
    assert_eq!(output.extra["next_step_recommendation"], json!("three"));
    assert_eq!(output.extra["mood"], json!({"colour": "blue"}));
    assert_eq!(output.decisions[0]["alternatives_rejected"], json!(["z"]));
}

#[test]
fn what_is_not_quite_right_is_taken_with_a_warning() {
    let output = normalise(&json!({
        "summary": "s",
        "confidence": "high",
        "references": "src/a.rs",
        "findings": "one thing",
        "artifacts": [{"name": "model.json", "artifact_type": "Data-Model", "content": {"a": [1]}}]
    }))
    .unwrap();
    let artifact = &output.artifacts[0];
    assert_eq!(
        (artifact.artifact_type.as_str(), kind(&artifact.artifact_type)),
        ("data_model", "data")
    );
    assert_eq!(artifact.title, "model.json");
    assert_eq!(artifact.content_type, "application/json");
    assert_eq!(serde_json::from_str::<Value>(&artifact.content).unwrap(), json!({"a": [1]}));
    assert_eq!(artifact.extra["type"], json!("Data-Model"));
    assert_eq!(output.references, ["src/a.rs"]);
    assert_eq!(output.findings, [json!("one thing")]);
    assert_eq!((output.confidence, &output.extra["confidence"]), (None, &json!("high")));
    assert_eq!(output.warnings.len(), 2, "{:?}", output.warnings);
}

#[test]
fn content_is_what_can_be_stored() {
    let given = json!({"type": "file", "title": "t", "content": "a\u{0}b"});
    let output = normalise(&json!({"summary": "s", "artifacts": [given]})).unwrap();
    assert_eq!(output.artifacts[0].content, "a\u{fffd}b");
    assert!(output.warnings[0].contains("NUL"), "{:?}", output.warnings);
}

#[test]
fn refusals_name_the_path() {
    for (given, part) in [
        (json!("done"), "output: got \"done\""),
        (json!({}), "output.summary: got nothing"),
        (json!({"summary": " \n"}), "output.summary"),
        (json!({"summary": 7}), "output.summary: got 7"),
        (json!({"summary": "s", "artifacts": {}}), "output.artifacts: got {}"),
        (json!({"summary": "s", "artifacts": ["a", 7]}), "output.artifacts[1]: got 7"),
        (json!({"summary": "s", "artifacts": ["a", " "]}), "output.artifacts[1]"),
        (
            json!({"summary": "s", "artifacts": ["a", "b", {"type": "adr", "title": "t"}]}),
            "output.artifacts[2].content: got nothing",
        ),
        (
            json!({"summary": "s", "artifacts": [{"type": "adr", "title": "t", "content": " "}]}),
            "output.artifacts[0].content: got \" \"",
        ),
    ] {
        let error = refused(&given);
        assert!(error.starts_with(part), "{error}");
    }
    let long = refused(&json!({"summary": "s", "artifacts": "x".repeat(10_000)}));
    assert!(long.len() < 300, "{long}");
}

#[test]
fn sizes_are_bounded_and_said() {
    let artifact =
        |bytes: usize| json!({"type": "adr", "title": "t", "content": "x".repeat(bytes)});
    let of = |items: Vec<Value>| json!({"summary": "s", "artifacts": items});
    assert!(normalise(&of(vec![artifact(1 << 20)])).is_ok());
    let error = normalise(&of(vec![artifact(1), artifact((1 << 20) + 1)])).unwrap_err();
    assert_eq!(error.code(), "artifact_too_large");
    assert!(error.to_string().starts_with("output.artifacts[1].content has 1048577"), "{error}");
    assert!(normalise(&of(vec![artifact(1); 100])).is_ok());
    let error = normalise(&of(vec![artifact(1); 101])).unwrap_err();
    assert!(error.to_string().contains("at most 100"), "{error}");
    let error = normalise(&of(vec![artifact(1_000_000); 5])).unwrap_err();
    assert_eq!(error.code(), "artifact_too_large");
    assert!(normalise(&of(vec![artifact(1_000_000); 4])).is_ok());
    assert!(normalise(&json!({"summary": "x".repeat(5 << 20)})).is_err());
}

#[test]
fn the_digest_does_not_see_the_order_of_keys_but_everything_else() {
    let a = normalise(&json!({"summary": "s", "metadata": {"a": 1, "b": [2]}})).unwrap();
    let b = normalise(&json!({"metadata": {"b": [2], "a": 1}, "summary": "s"})).unwrap();
    let c = normalise(&json!({"summary": "s", "metadata": {"a": 1, "b": [3]}})).unwrap();
    assert_eq!(digest(&a), digest(&b));
    assert_ne!(digest(&a), digest(&c));
    let listed =
        |list: Value| digest(&normalise(&json!({"summary": "s", "findings": list})).unwrap());
    assert_ne!(listed(json!(["ab"])), listed(json!(["a", "b"])));
    assert_ne!(listed(json!(["1"])), listed(json!([1])));
}

#[test]
fn an_output_comes_back_as_it_was_stored() {
    let quoted = normalise(&json!({"summary": "s", "confidence": " 0.8 "})).unwrap();
    assert_eq!((quoted.confidence, quoted.extra.len()), (Some(0.8), 0));
    let output = normalise(&json!({"summary": "s", "confidence": 1, "x": null})).unwrap();
    let text = serde_json::to_string(&output).unwrap();
    assert_eq!(serde_json::from_str::<Output>(&text).unwrap(), output);
}

/// Every text, number and truth value in a value.
fn leaves(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => fields.values().for_each(|value| leaves(value, found)),
        Value::Array(items) => items.iter().for_each(|value| leaves(value, found)),
        Value::Null => {}
        leaf => found.push(leaf.clone()),
    }
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((keys(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Keys that mean something somewhere, and others.
fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "summary",
            "artifacts",
            "references",
            "confidence",
            "decisions",
            "findings",
            "next_steps",
            "next_step_recommendation",
            "blockers",
            "metadata",
            "type",
            "artifact_type",
            "title",
            "name",
            "content",
            "description",
            "content_type",
            "mime_type",
            "extra",
            "warnings",
            "artifact_refs",
            "path",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,5}",
    ]
}

proptest! {
    /// Whatever is submitted is refused by name, or every leaf of it can be found again.
    #[test]
    fn nothing_that_is_taken_is_lost(
        fields in proptest::collection::vec((keys(), json_values()), 0..10),
        artifacts in proptest::collection::vec(
            proptest::collection::vec((keys(), json_values()), 0..6), 0..3),
        summary in "[a-z]{1,8}",
    ) {
        let mut given: Map<String, Value> = fields.into_iter().collect();
        given.insert("summary".to_owned(), summary.into());
        let artifacts = artifacts.into_iter().map(|fields| {
            let mut fields: Map<String, Value> = fields.into_iter().collect();
            if !matches!(fields.get("content"), Some(Value::Object(_) | Value::Array(_))) {
                fields.insert("content".to_owned(), "text".into());
            }
            Value::Object(fields)
        });
        given.insert("artifacts".to_owned(), artifacts.collect());
        let output = normalise(&Value::Object(given.clone())).unwrap();
        let mut kept = vec![];
        leaves(&serde_json::to_value(&output).unwrap(), &mut kept);
        // Content that is no text was written down as JSON.
        for artifact in &output.artifacts {
            if let Ok(value) = serde_json::from_str::<Value>(&artifact.content) {
                leaves(&value, &mut kept);
            }
        }
        let mut wanted = vec![];
        leaves(&Value::Object(given), &mut wanted);
        for leaf in wanted {
            // A confidence of 1 or "1" is stored as 1.0.
            let number = leaf.as_f64().or_else(|| leaf.as_str()?.trim().parse().ok());
            let same = |kept: &Value| *kept == leaf
                || (kept.is_number() && number.is_some() && kept.as_f64() == number);
            prop_assert!(kept.iter().any(same), "{leaf} is lost: {output:?}");
        }
    }

    #[test]
    fn anything_is_answered(value in json_values()) {
        if let Err(error) = normalise(&value) {
            prop_assert!(error.to_string().starts_with("output"), "{}", error);
        }
    }
}
