//! Every answer in both dialects, and that all of them keep to the schema.

use super::*;
use crate::mcp::schema::oddities;
use crate::mcp::steps::dialect::Refusal;
use crate::steps::{ControlAction, ExecutionState, Selection, StepsError, Synthesis};

fn step(name: &str, token: &str) -> StepHandout {
    StepHandout {
        step_name: name.to_owned(),
        agent_name: "architect".to_owned(),
        description: "Decide how it is built".to_owned(),
        persona: "# Architect\n\nYou are an architect.\n".to_owned(),
        contract: Contract {
            step_name: name.to_owned(),
            allowed_actions: vec!["Draw".to_owned()],
            forbidden_actions: vec!["NEVER push to main".to_owned()],
            required_actions: vec![],
            validation_requirements: vec![],
            required_output_format: "summary, artifacts[], references[], confidence".to_owned(),
            human_gate_required: false,
        },
        attempt: 1,
        token: token.to_owned(),
        issued_at: Millis(0),
        expires_at: Millis(86_400_000),
    }
}

fn running() -> Handed {
    Handed {
        status: HandedStatus::Ok,
        execution_id: "exec_001".to_owned(),
        workflow_name: "feature-development".to_owned(),
        workflow_state: ExecutionState::Running,
        step: Some(step("design", "v1.a.b.c")),
        parallel: vec![],
        gate: None,
        selection: None,
        synthesis: None,
        message: "Step 'design' ready.".to_owned(),
        warnings: vec![],
    }
}

fn full() -> Handed {
    Handed {
        parallel: vec![step("research", "v1.d.e.f")],
        selection: Some(Selection {
            chosen: "design".to_owned(),
            scores: Map::new(),
            reason: "name".to_owned(),
            candidates: vec!["design".to_owned(), "research".to_owned()],
            tie_broken_by: Some("name".to_owned()),
            requested_not_ready: vec![],
        }),
        warnings: vec!["output.confidence is missing".to_owned()],
        ..running()
    }
}

fn paused() -> Handed {
    Handed {
        status: HandedStatus::NoOp,
        workflow_state: ExecutionState::Paused,
        step: None,
        gate: Some(Contract { human_gate_required: true, ..step("release", "").contract }),
        message: "Waits for approval of 'release'".to_owned(),
        ..running()
    }
}

fn closed() -> Handed {
    Handed {
        status: HandedStatus::Closed,
        workflow_state: ExecutionState::Completed,
        step: None,
        synthesis: Some(Synthesis {
            outcome_summary: "done".to_owned(),
            model_output: json!({ "steps_completed": 5 }),
        }),
        message: "Workflow completed successfully".to_owned(),
        ..running()
    }
}

fn control() -> Controlled {
    Controlled {
        execution_id: "exec_001".to_owned(),
        previous_state: ExecutionState::Running,
        workflow_state: ExecutionState::Running,
        current_steps: vec!["design".to_owned()],
        step: Some(step("design", "v1.g.h.i")),
        allowed_actions: vec![ControlAction::Pause],
        message: "a new token".to_owned(),
    }
}

/// What is wrong with a value under a schema of the kinds that ours has.
fn misfits(value: &Value, schema: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !fits {
        found.push(format!("{path}: {value} is no {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        found.push(format!("{path}: {value} is none of {words:?}"));
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(key) {
            Some(known) => found.extend(misfits(inner, known, &format!("{path}.{key}"))),
            None if schema["properties"].is_object() => {
                found.push(format!("{path}.{key} is not in the schema"));
            }
            None => {}
        }
    }
    for item in value.as_array().into_iter().flatten() {
        found.extend(misfits(item, &schema["items"], &format!("{path}[]")));
    }
    found
}

#[test]
fn every_answer_of_both_dialects_keeps_to_the_schema() {
    let schema = Value::Object(answer_schema());
    assert_eq!(oddities(&schema), Vec::<String>::new());
    let limited =
        StepsError::RateLimited { scope: "task", key: "e".to_owned(), retry_after_ms: 1_500 };
    let conflict = StepsError::StateConflict {
        execution_id: "e".to_owned(),
        state: ExecutionState::Paused,
        message: "m".to_owned(),
        allowed: vec![ControlAction::Resume],
    };
    let refusals = [limited, conflict, StepsError::TokenSignature].map(Refusal::from);
    for (dialect, mark) in [(Dialect::Seed001, "status"), (Dialect::Seed003, "success")] {
        let mut answers: Vec<Value> =
            [running(), full(), paused(), closed()].iter().map(|h| handed(dialect, h)).collect();
        answers.push(controlled(dialect, &control(), "feature-development"));
        answers.extend(refusals.iter().map(|refusal| refusal.to_value(dialect)));
        for answer in answers {
            assert_eq!(misfits(&answer, &schema, ""), Vec::<String>::new(), "{answer:#}");
            assert!(answer.get(mark).is_some(), "{answer:#}");
            let other = if mark == "status" { "success" } else { "status" };
            assert_eq!(answer.get(other), None, "{answer:#}");
        }
    }
}

#[test]
fn seed_001_gets_a_contract_a_token_and_one_text() {
    let answer = handed(Dialect::Seed001, &running());
    assert_eq!(answer["status"], "ok");
    assert_eq!(answer["new_step_token"], "v1.a.b.c");
    let contract = &answer["next_step_contract"];
    assert_eq!(contract["step_name"], "design");
    assert_eq!(contract["forbidden_actions"], json!(["NEVER push to main"]));
    assert_eq!(contract["human_gate_required"], false);
    let text = answer["human_message"].as_str().unwrap();
    for part in ["# ARCHITECT AGENT", "You are an architect.", "step_token", "model_output_so_far"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    for absent in ["agent_content", "new_token", "token"] {
        assert_eq!(answer.get(absent), None, "a persona is told once");
    }
    let end = handed(Dialect::Seed001, &closed());
    assert_eq!(
        (&end["status"], &end["synthesis"]["outcome_summary"]),
        (&json!("task_closed"), &json!("done"),)
    );
}

#[test]
fn seed_003_gets_the_persona_a_token_and_instructions() {
    let answer = handed(Dialect::Seed003, &full());
    assert_eq!(answer["success"], true);
    assert_eq!(
        (&answer["step_name"], &answer["agent_name"]),
        (&json!("design"), &json!("architect"),)
    );
    assert_eq!(answer["agent_content"], "# Architect\n\nYou are an architect.\n");
    assert_eq!(answer["new_token"], "v1.a.b.c");
    assert_eq!(answer["token_expires_at"], "1970-01-02T00:00:00.000Z");
    let text = answer["instructions"].as_str().unwrap();
    for part in ["workflow_next_step", "- token: the new_token", "- output:", "Decide how"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(answer["parallel_steps"][0]["token"], "v1.d.e.f");
    let end = handed(Dialect::Seed003, &closed());
    assert_eq!(end["workflow_state"], "completed");
    assert_eq!(end.get("new_token"), None);
}

#[test]
fn what_waits_for_a_person_is_told_with_its_contract_and_no_token() {
    let one = handed(Dialect::Seed001, &paused());
    assert_eq!(one["status"], "no_op");
    assert_eq!(one["next_step_contract"]["human_gate_required"], true);
    assert_eq!(one.get("new_step_token"), None);
    let three = handed(Dialect::Seed003, &paused());
    assert_eq!(three["workflow_state"], "paused");
    assert_eq!(three["contract"]["step_name"], "release");
    assert_eq!(three.get("new_token"), None);
    // From the text alone: who, what not to do, and the very call, in the caller's names.
    for (text, call) in [
        (&one["human_message"], "task_id \"exec_001\" and action \"approve\""),
        (&three["instructions"], "execution_id \"exec_001\" and action \"approve\""),
    ] {
        let text = text.as_str().unwrap();
        for part in ["a person to approve, not for you", "Do not begin it", "'release'", call] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn where_no_step_is_out_the_next_call_is_told_in_the_names_of_the_dialect() {
    let without = |workflow_state| Handed { workflow_state, gate: None, ..paused() };
    for (state, call) in [
        (ExecutionState::Idle, "workflow_control with {id} and action \"start\""),
        (ExecutionState::Running, "workflow_next_step with {id} alone"),
        (ExecutionState::Paused, "workflow_control with {id} and action \"resume\""),
    ] {
        for (dialect, key, id) in [
            (Dialect::Seed001, "human_message", "task_id \"exec_001\""),
            (Dialect::Seed003, "instructions", "execution_id \"exec_001\""),
        ] {
            let answer = handed(dialect, &without(state));
            let text = answer[key].as_str().unwrap();
            assert!(text.contains(&call.replace("{id}", id)), "{text}");
        }
    }
    let end = handed(Dialect::Seed003, &closed());
    assert_eq!(end.get("instructions"), None, "{end}");
}

#[test]
fn an_expired_token_is_not_shown_and_the_way_to_a_new_one_is() {
    let handed_out = Handed { step: Some(step("design", "")), ..running() };
    for dialect in [Dialect::Seed001, Dialect::Seed003] {
        let answer = handed(dialect, &handed_out);
        let text = answer.to_string();
        assert!(text.contains("reissue"), "{text}");
        assert_eq!((answer.get("new_token"), answer.get("new_step_token")), (None, None));
    }
}

#[test]
fn the_form_of_an_output_is_open_and_plain() {
    for schema in [output_schema(), same_output_schema()] {
        assert_eq!(oddities(&schema), Vec::<String>::new());
        assert_eq!(schema["additionalProperties"], true);
        assert_eq!(schema["required"], json!(["summary"]));
    }
}
