//! The tools of step workflows: both dialects, every way in, every refusal.

use std::collections::BTreeSet;
use std::time::Duration;

use adwd::config::{Rate, StepsConfig, ToolNames};
use serde_json::{Value, json};

use crate::mcp_support::*;
use crate::steps_mcp::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_shipped_workflow_is_gone_through_in_both_dialects_on_every_way() {
    let world = world().await;
    let names = shipped_workflows();
    assert!(names.contains("bug-fix") && names.len() >= 7, "{names:?}");
    for way in WAYS {
        let client = world.client(way).await;
        for name in &names {
            let details = format!("midex://workflow/workflow_details/{name}");
            let phases = read(&client, &details).await["phases"].clone();
            for dialect in DIALECTS {
                let started = start(&client, dialect, name).await;
                let (order, last) = walk(&client, dialect, started).await;
                assert_eq!(last["workflow_state"], "completed", "{name}: {last}");
                check_order(&order, &phases, name);
                let closed = match dialect {
                    Dialect::Seed001 => last["status"] == "task_closed",
                    Dialect::Seed003 => last["success"] == true && last.get("new_token").is_none(),
                };
                assert!(closed, "{last}");
                let summary = last["synthesis"]["outcome_summary"].as_str().unwrap();
                assert!(summary.starts_with("did "), "{summary}");
                let count = &last["synthesis"]["model_output"]["steps_completed"];
                assert_eq!(count, &json!(order.len()));
            }
        }
    }
}

/// Every step once, after all that it depends on.
fn check_order(order: &[String], phases: &Value, name: &str) {
    let phases = phases.as_array().unwrap();
    let unique: BTreeSet<&String> = order.iter().collect();
    assert_eq!((unique.len(), order.len()), (phases.len(), phases.len()), "{name}: {order:?}");
    let place = |step: &str| order.iter().position(|done| done == step).unwrap();
    for phase in phases {
        let own = place(phase["phase"].as_str().unwrap());
        for needed in phase["dependsOn"].as_array().unwrap() {
            assert!(place(needed.as_str().unwrap()) < own, "{name}: {order:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_brings_persona_limits_and_token_in_the_words_of_its_dialect() {
    let world = world().await;
    for way in WAYS {
        let client = world.client(way).await;
        let three = start(&client, Dialect::Seed003, "tiny").await;
        assert_eq!(three["success"], true);
        assert_eq!(
            (&three["step_name"], &three["agent_name"]),
            (&json!("first"), &json!("worker"))
        );
        assert!(three["agent_content"].as_str().unwrap().contains("You work."), "{three}");
        assert!(three["instructions"].as_str().unwrap().contains("workflow_next_step"));
        let forbidden = three["contract"]["forbidden_actions"].as_array().unwrap();
        assert!(!forbidden.is_empty(), "{three}");
        let one = start(&client, Dialect::Seed001, "tiny").await;
        assert_eq!(one["status"], "ok");
        assert_eq!(one["next_step_contract"]["human_gate_required"], false);
        let text = one["human_message"].as_str().unwrap();
        for part in ["# WORKER AGENT", "You work.", "## What You CANNOT Do", "step_token"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!((one.get("agent_content"), three.get("human_message")), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn next_step_creates_goes_on_shows_again_and_claims() {
    let world = world().await;
    for (way, dialect) in WAYS.into_iter().zip(DIALECTS.into_iter().cycle()) {
        let client = world.client(way).await;
        let next = async |arguments| done(&client, "workflow_next_step", arguments).await;
        let mut create = json!({ dialect.workflow(): "wide", "max_parallel": 2 });
        if dialect == Dialect::Seed001 {
            create["request"] = json!("continue");
        }
        let created = next(create).await;
        let id = created["execution_id"].as_str().unwrap();
        let (step, token) = dialect.step(&created).unwrap();
        assert_eq!(step, "a");
        let others = created["parallel_steps"].as_array().unwrap();
        assert_eq!(others.len(), 1, "{created}");

        // The token alone shows the step again and changes nothing.
        let seen = next(json!({ dialect.token(): token })).await;
        assert_eq!(dialect.step(&seen), Some((step.clone(), token.clone())));
        if dialect == Dialect::Seed001 {
            assert_eq!(seen["status"], "no_op");
        }

        // Two are out; a third has to wait, and is there when one is done.
        let waiting = next(json!({ dialect.execution(): id })).await;
        assert_eq!(dialect.step(&waiting), None);
        assert!(waiting["message"].as_str().unwrap().contains('a'), "{waiting}");
        let second = others[0]["token"].as_str().unwrap();
        let after = next(dialect.submission(second, output("b"))).await;
        let third = match dialect.step(&after) {
            Some(third) => third,
            None => dialect.step(&next(json!({ dialect.execution(): id })).await).unwrap(),
        };
        assert_eq!(third.0, "c");

        // A submission repeated word for word is answered as the first time.
        let first = next(dialect.submission(&token, output("a"))).await;
        assert_eq!(next(dialect.submission(&token, output("a"))).await, first);
        let last = next(dialect.submission(&third.1, output("c"))).await;
        assert_eq!(last["workflow_state"], "completed", "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_both_dialects_or_in_neither_mode_is_refused_with_what_would_be_right() {
    let world = world().await;
    let client = world.client((Road::Unix, Era::Modern)).await;
    let started = start(&client, Dialect::Seed003, "tiny").await;
    let (token, id) = (&started["new_token"], &started["execution_id"]);
    for (arguments, parts) in [
        (
            json!({ "token": token, "model_output_so_far": {} }),
            &["model_output_so_far", "output"][..],
        ),
        (json!({ "token": token, "workflow_name": "tiny" }), &["leave one out"]),
        (json!({ "output": { "summary": "s" } }), &["token"]),
        (json!({ "model_output_so_far": { "summary": "s" } }), &["step_token"]),
        (json!({}), &["workflow_name", "execution_id"]),
        (json!({ "request": "stop", "step_token": token }), &["continue"]),
        (json!({ "token": token, "output": "done" }), &["an object"]),
        (json!({ "token": token, "output": {} }), &["output.summary"]),
        (
            json!({ "step_token": token, "model_output_so_far": {} }),
            &["model_output_so_far.summary"],
        ),
        (json!({ "token": token, "execution_id": "another" }), &["another", "leave"]),
        (json!({ "tokn": token }), &["tokn"]),
    ] {
        let told = refusal(&client, "workflow_next_step", arguments.clone()).await;
        assert_eq!(told["code"], "invalid_arguments", "{arguments}: {told}");
        for part in parts {
            assert!(told["error"].as_str().unwrap().contains(part), "{part}: {told}");
        }
    }
    let told = refusal(&client, "workflow_next_step", json!({ "tokn": token })).await;
    assert!(told["hint"].as_str().unwrap().contains("did you mean \"token\""), "{told}");
    let told = refusal(&client, "workflow_start", json!({})).await;
    assert!(told["error"].as_str().unwrap().contains("workflow_name"), "{told}");
    let told = refusal(&client, "workflow_control", json!({ "action": "pause" })).await;
    assert!(told["error"].as_str().unwrap().contains("execution_id"), "{told}");
    // The right execution beside a token is no contradiction, and nothing above cost the token.
    let arguments = json!({ "token": token, "execution_id": id, "output": output("first") });
    assert_eq!(done(&client, "workflow_next_step", arguments).await["step_name"], "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_code_in_the_envelope_of_its_dialect() {
    let world = world().await;
    for way in [(Road::Http, Era::Modern), (Road::Unix, Era::Legacy)] {
        let client = world.client(way).await;
        for dialect in DIALECTS {
            let code = async |tool: &str, arguments: Value, expected: &str| {
                let told = refusal(&client, tool, arguments).await;
                assert_eq!(told["code"], expected, "{told}");
                let own = match dialect {
                    Dialect::Seed001 => "status",
                    Dialect::Seed003 => "success",
                };
                assert!(told.get(own).is_some(), "{dialect:?}: {told}");
                told
            };
            let word = dialect.workflow();
            let told = code("workflow_start", json!({ word: "nope" }), "unknown_workflow").await;
            assert!(told["error"].as_str().unwrap().contains("tiny"), "{told}");
            code("workflow_start", json!({ word: "broken" }), "invalid_workflow").await;
            let started = start(&client, dialect, "tiny").await;
            let id = started["execution_id"].as_str().unwrap();
            let again = json!({ word: "tiny", dialect.execution(): id });
            code("workflow_start", again, "execution_exists").await;
            let nobody = json!({ dialect.execution(): "nobody" });
            code("workflow_next_step", nobody.clone(), "unknown_execution").await;

            let (_, token) = dialect.step(&started).unwrap();
            let submit = |token: &str, step: &str| dialect.submission(token, output(step));
            let told = code("workflow_next_step", submit("x", "first"), "token_malformed").await;
            let way = format!("with {} and action", dialect.execution());
            assert!(told["hint"].as_str().unwrap().contains(&way), "{told}");
            let mut forged = token.clone().into_bytes();
            let last = forged.len() - 2;
            forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            code("workflow_next_step", submit(&forged, "first"), "token_signature").await;
            let hints = json!({ dialect.token(): token, dialect.output(): output("first"),
                "requested_step_name": "third" });
            let told = code("workflow_next_step", hints, "invalid_arguments").await;
            assert!(told["error"].as_str().unwrap().contains("second"), "{told}");

            done(&client, "workflow_next_step", submit(&token, "first")).await;
            let told = code("workflow_next_step", submit(&token, "other"), "token_consumed").await;
            assert_eq!(
                (&told["execution_id"], &told["workflow_state"]),
                (&json!(id), &json!("running"),)
            );
            let resume = json!({ dialect.execution(): id, "action": "resume" });
            let told = code("workflow_control", resume, "state_conflict").await;
            assert!(
                told["allowed_actions"].as_array().unwrap().contains(&json!("pause")),
                "{told}"
            );
            let reissue = json!({ dialect.execution(): id, "action": "reissue" });
            let fresh = done(&client, "workflow_control", reissue.clone()).await;
            let (_, fresh) = dialect.step(&fresh).unwrap();
            done(&client, "workflow_control", reissue).await;
            code("workflow_next_step", submit(&fresh, "second"), "token_revoked").await;
            let abandon = json!({ dialect.execution(): id, "action": "abandon" });
            done(&client, "workflow_control", abandon).await;
            let told = code("workflow_next_step", submit(&fresh, "second"), "token_revoked").await;
            assert!(told["hint"].as_str().unwrap().contains("has ended"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_dotted_names_are_answered_and_listed_only_on_request() {
    let plain = |name: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (1..=64).contains(&name.len()) && name.bytes().all(legal)
    };
    for (names, dotted, underscored) in [
        (ToolNames::Underscore, false, true),
        (ToolNames::Dotted, true, false),
        (ToolNames::Both, true, true),
    ] {
        let world = world_with(Options { tool_names: names, ..Options::default() }).await;
        for way in WAYS {
            let client = world.client(way).await;
            let tools = client.list_all_tools().await.unwrap();
            let has = |name: &str| tools.iter().any(|tool| tool.name == name);
            assert_eq!(
                (has("workflow.next_step"), has("workflow_next_step")),
                (dotted, underscored)
            );
            if names == ToolNames::Underscore {
                assert!(tools.iter().all(|tool| plain(&tool.name)));
            }
            let started = done(&client, "workflow.start", json!({ "workflow_name": "tiny" })).await;
            let submission = json!({ "token": started["new_token"], "output": { "summary": "s" } });
            let next = done(&client, "workflow.next_step", submission).await;
            assert_eq!(next["step_name"], "second");
            let pause = json!({ "execution_id": started["execution_id"], "action": "pause" });
            let paused = done(&client, "workflow.control", pause).await;
            assert_eq!(paused["workflow_state"], "paused");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_waited_for_at_a_gate_at_a_blocker_and_at_a_held_start() {
    let world = world().await;
    for (way, dialect) in WAYS.into_iter().zip(DIALECTS.into_iter().cycle()) {
        let client = world.client(way).await;
        let held = json!({ dialect.workflow(): "gated", "hold": true, "pause_on_blockers": true });
        let held = done(&client, "workflow_start", held).await;
        assert_eq!((&held["workflow_state"], dialect.step(&held)), (&json!("idle"), None));
        let id = held["execution_id"].clone();
        let control = async |action: &str| {
            let asked = json!({ dialect.execution(): id, "action": action });
            done(&client, "workflow_control", asked).await
        };
        let begun = control("start").await;
        assert_eq!(
            (&begun["previous_state"], &begun["workflow_state"]),
            (&json!("idle"), &json!("running"),)
        );
        let (step, token) = dialect.step(&begun).unwrap();
        let persona = match dialect {
            Dialect::Seed001 => &begun["human_message"],
            Dialect::Seed003 => &begun["agent_content"],
        };
        assert!(step == "make" && persona.as_str().unwrap().contains("You work."), "{begun}");

        // A pause takes nothing away.
        control("pause").await;
        let told =
            refusal(&client, "workflow_next_step", dialect.submission(&token, output("make")));
        assert_eq!(told.await["code"], "state_conflict");
        control("resume").await;

        let mut blocked = output("make");
        blocked["blockers"] = json!(["the licence is unclear"]);
        let submission = dialect.submission(&token, blocked);
        let paused = done(&client, "workflow_next_step", submission).await;
        assert_eq!((&paused["workflow_state"], dialect.step(&paused)), (&json!("paused"), None));
        let resumed = control("resume").await;
        let gate = if resumed["workflow_state"] == "paused" { resumed } else { paused };
        assert_eq!(dialect.step(&gate), None, "the gate comes next: {gate}");
        let current = format!("midex://workflow/current_step/{}", id.as_str().unwrap());
        let waiting = read(&client, &current).await;
        assert_eq!(waiting["contract"]["human_gate_required"], true, "{waiting}");
        assert_eq!(waiting.get("continuation_token"), None);
        assert!(waiting["instructions"].as_str().unwrap().contains("Do not begin it"), "{waiting}");
        // Whoever forgot everything but the execution is told the same.
        let claim = json!({ dialect.execution(): id });
        let claimed = done(&client, "workflow_next_step", claim).await;
        let text = claimed.to_string();
        assert!(text.contains("Do not begin it"), "{text}");
        assert!(text.contains(&format!("with {} ", dialect.execution())), "{text}");

        let approved = control("approve").await;
        let (step, token) = dialect.step(&approved).unwrap();
        assert_eq!(step, "release");
        let submission = dialect.submission(&token, output("release"));
        let last = done(&client, "workflow_next_step", submission).await;
        assert_eq!(last["workflow_state"], "completed", "{last}");
    }
}

/// As the personas of the world's content tell their agents to write it (`spec/steps.md` §1.2.8).
fn persona_shaped() -> Value {
    json!({
        "summary": "Reviewed the change",
        "artifacts": [
            { "type": "markdown", "title": "Review", "content": "# Review\n", "pages": 2 },
            { "type": "code_review", "name": "Notes", "content": "fine", "metadata": { "a": [1] } },
            "design_doc_001",
        ],
        "references": ["src/a.rs", { "path": "src/b.rs", "lines": "1-9" }],
        "confidence": 0.8,
        "decisions": [{ "decision": "keep it", "rationale": "simple",
            "alternatives_rejected": ["rewrite"], "trade_offs": "none", "context": "c" }],
        "findings": [
            { "severity": "high", "category": "security", "description": "d",
              "recommendation": "r", "location": { "file": "a.rs", "line": 3 } },
            "a plain one",
        ],
        "next_steps": "ship it",
        "next_step_recommendation": "then rest",
        "blockers": ["none really"],
        "metadata": { "model": "m" },
        "mood": { "today": "good" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn personas_as_agents_really_fill_them_are_kept_whole() {
    let world = world().await;
    for (way, dialect) in WAYS.into_iter().zip(DIALECTS.into_iter().cycle()) {
        let client = world.client(way).await;
        let started = start(&client, dialect, "tiny").await;
        let (_, token) = dialect.step(&started).unwrap();
        done(&client, "workflow_next_step", dialect.submission(&token, persona_shaped())).await;
        let id = started["execution_id"].as_str().unwrap();
        let history = read(&client, &format!("midex://workflow/step_history/{id}")).await;
        let kept = history[0]["output"].to_string();
        for word in [
            "Reviewed the change",
            "src/b.rs",
            "1-9",
            "keep it",
            "alternatives_rejected",
            "c",
            "a plain one",
            "severity",
            "\"line\":3",
            "ship it",
            "then rest",
            "none really",
            "mood",
            "good",
            "design_doc_001",
        ] {
            assert!(kept.contains(word), "{word} was lost: {kept}");
        }
        let list = read(&client, &format!("midex://workflow/workflow_artifacts/{id}")).await;
        assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
        for artifact in list.as_array().unwrap() {
            let ids = history[0]["output"]["artifacts"].as_array().unwrap();
            assert!(ids.contains(&artifact["artifact_id"]), "{history}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_of_five_mebibytes_is_refused_and_the_token_stays_good() {
    let world = world().await;
    for way in WAYS {
        let client = world.client(way).await;
        let started = start(&client, Dialect::Seed003, "tiny").await;
        let token = started["new_token"].as_str().unwrap();
        let artifact = |bytes: usize| json!({ "type": "markdown", "title": "t", "content": "x".repeat(bytes) });
        let large: Vec<Value> = (0..5).map(|_| artifact(1 << 20)).collect();
        let submit = |artifacts: Value| json!({ "token": token, "output": { "summary": "s", "artifacts": artifacts } });
        let told = refusal(&client, "workflow_next_step", submit(json!(large))).await;
        assert_eq!(told["code"], "artifact_too_large", "{way:?}: {told}");
        let told =
            refusal(&client, "workflow_next_step", submit(json!([artifact((1 << 20) + 1)]))).await;
        assert_eq!(told["code"], "artifact_too_large", "{told}");
        let fits = submit(json!([artifact(1 << 20)]));
        assert_eq!(done(&client, "workflow_next_step", fits).await["step_name"], "second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_are_told_when_to_come_again_and_cost_no_token() {
    let task_rate = Rate { per_second: 0.5, burst: 1 };
    let steps = StepsConfig { task_rate, ..StepsConfig::default() };
    let world = world_with(Options { steps, ..Options::default() }).await;
    for (way, dialect) in WAYS.into_iter().zip(DIALECTS.into_iter().cycle()) {
        let client = world.client(way).await;
        let started = start(&client, dialect, "tiny").await;
        let (_, token) = dialect.step(&started).unwrap();
        let submission = dialect.submission(&token, output("first"));
        let second = done(&client, "workflow_next_step", submission).await;
        let (_, token) = dialect.step(&second).unwrap();
        let submission = dialect.submission(&token, output("second"));
        let told = refusal(&client, "workflow_next_step", submission.clone()).await;
        assert_eq!(told["code"], "rate_limited", "{way:?}: {told}");
        let wait = told["retry_after_ms"].as_u64().unwrap();
        assert!((1..=2_000).contains(&wait), "{told}");
        // Looking is never limited, and shows that the token is as good as before.
        done(&client, "workflow_next_step", json!({ dialect.token(): token })).await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let last = done(&client, "workflow_next_step", submission).await;
        assert_eq!(last["workflow_state"], "completed", "what was told was the truth");
    }
}
