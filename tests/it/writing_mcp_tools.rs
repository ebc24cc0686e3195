//! The tools over writing workflows, as clients of both eras see them on both roads.

use rmcp::model::{RequestMetaObject, RequestParamsMeta};
use serde_json::{Value, json};

use crate::mcp_support::*;
use crate::writing_mcp_support::*;

/// Asks every tool for something that it can answer.
async fn everything(desk: &Desk) {
    let id = desk.begin().await;
    let of = |more: Value| {
        let mut all = json!({ "workflow_id": id });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let book = || of(json!({ "book_number": 1 }));
    desk.ask("list_active_workflows", json!({ "user_id": 1, "limit": 1 })).await;
    desk.ask("get_workflow_state", of(json!({}))).await;
    desk.complete(id).await;
    desk.ask("execute_phase", of(json!({ "phase_number": 0, "input": {} }))).await;
    desk.ask("skip_phase", of(json!({ "phase_number": 0, "reason": "known" }))).await;
    desk.ask("advance_to_phase", of(json!({ "target_phase": 0 }))).await;
    desk.ask("get_phase_history", of(json!({ "phase_number": 0 }))).await;
    let gate = json!({ "gate_type": "commercial", "score": 4.5, "passed": false,
        "violations": [{ "message": "no market" }] });
    desk.ask("record_quality_gate", of(gate)).await;
    desk.ask("check_gate_status", of(json!({ "phase_number": 5 }))).await;
    desk.ask("check_gate_status", of(json!({ "phase_number": 6 }))).await;
    desk.ask("get_pending_approvals", of(json!({}))).await;
    desk.ask("get_series_progress", of(json!({}))).await;
    desk.revise(id, 1, 1).await;
    let skip = json!({ "book_number": 1, "pass_number": 2, "reason": "one hand" });
    desk.ask("skip_revision_pass", of(skip)).await;
    desk.ask("get_revision_status", book()).await;
    desk.ask("update_book_record", of(json!({ "book_number": 1, "ku": false }))).await;
    desk.ask("run_qa_checklist", book()).await;
    desk.ask("get_qa_report", book()).await;
    desk.record(id, 1, "words_written", json!(2847)).await;
    desk.ask(
        "get_workflow_metrics",
        of(json!({ "metric_types": ["words_written"],
        "date_range": { "start": "2020-01-01" } })),
    )
    .await;
    desk.ask("get_workflow_velocity", of(json!({ "time_window": "week" }))).await;
    desk.ask("get_daily_writing_stats", of(json!({ "author_id": 1 }))).await;
    desk.ask("get_phase_analytics", json!({})).await;
    let day = json!({ "date": "2026-01-05", "updates": { "words_written": 12.5 } });
    desk.ask("update_daily_stats", of(day)).await;
}

/// What needs a workflow that is further on: decisions, books, failures.
async fn decisions(world: &World, desk: &Desk) {
    let id = desk.begin().await;
    let of = |more: Value| {
        let mut all = json!({ "workflow_id": id });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let gate = |gate: &str, score: f64| {
        of(json!({ "gate_type": gate, "score": score, "passed": true, "violations": [] }))
    };
    while desk.complete(id).await != json!(4) {}
    desk.ask("record_quality_gate", gate("npe_series", 80.0)).await;
    desk.complete(id).await;
    desk.ask("record_quality_gate", gate("commercial", 7.0)).await;
    desk.complete(id).await;
    assert_eq!(desk.complete(id).await, json!(7));
    let plan = json!({ "approval_type": "series_plan", "artifacts": [] });
    let asked = desk.ask("request_approval", of(plan.clone())).await;
    let rejected = json!({ "approval_id": asked["approval_id"], "decision": "rejected" });
    desk.ask("submit_approval", rejected).await;
    let state = desk.ask("get_workflow_state", of(json!({}))).await;
    assert_eq!(state["phase_status"], "failed");
    desk.ask("retry_failed_phase", of(json!({ "phase_number": 7 }))).await;
    let asked = desk.ask("request_approval", of(plan)).await;
    let approved = json!({ "approval_id": asked["approval_id"], "decision": "approved" });
    desk.ask("submit_approval", approved).await;
    while desk.complete(id).await != json!(10) {}
    desk.ask("record_quality_gate", gate("npe_scene", 70.0)).await;
    assert_eq!(desk.complete(id).await, json!(11));
    let handed_in = desk.ask("complete_book_iteration", of(json!({ "book_number": 1 }))).await;
    let approved = json!({ "approval_id": handed_in["approval_id"], "decision": "approved" });
    desk.ask("submit_approval", approved).await;
    desk.ask("start_book_iteration", of(json!({ "book_number": 2 }))).await;
    // A book that is ready; the story tells how it comes to that.
    assert_eq!(desk.unasked(), ["mark_ready_to_publish"], "{:?}", world.url);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_answers_every_client_and_fits_its_schema() {
    for way in WAYS {
        let world = World::new().await;
        let desk = Desk::at(&world, way).await;
        everything(&desk).await;
        decisions(&world, &desk).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tools_are_listed_with_all_four_hints() {
    let world = World::new().await;
    for way in WAYS {
        let client = world.client(way).await;
        let tools = client.list_all_tools().await.unwrap();
        for name in TOOLS {
            let tool = tools.iter().find(|tool| tool.name == name);
            let tool = tool.unwrap_or_else(|| panic!("{name} is not listed to {way:?}"));
            let hints = tool.annotations.as_ref().unwrap();
            let reads =
                name.starts_with("get_") || name.starts_with("list_") || name.starts_with("check_");
            assert_eq!(hints.read_only_hint, Some(reads), "{name}");
            assert_eq!(hints.destructive_hint, Some(name == "submit_approval"), "{name}");
            assert_eq!(hints.open_world_hint, Some(false), "{name}");
            assert!(hints.idempotent_hint.is_some(), "{name}");
        }
    }
}

/// The seed's first test scenario: "start_revision_pass creates new pass" and "complete_revision_pass
/// records duration", with its one second.
#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_unit_tests_hold() {
    let world = World::new().await;
    let desk = Desk::at(&world, (Road::Http, Era::Legacy)).await;
    let workflow_id = desk.begin().await;
    let which = json!({ "workflow_id": workflow_id, "book_number": 1, "pass_number": 1 });
    let mut start = which.clone();
    start["pass_name"] = json!("structural");
    let begun = desk.ask("start_revision_pass", start).await;
    assert!(begun["pass_id"].is_number() && begun["started_at"].is_string());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let mut complete = which;
    complete["findings_summary"] = json!("Test findings");
    complete["edits_made"] = json!(true);
    complete["user_approved"] = json!(true);
    let done = desk.ask("complete_revision_pass", complete).await;
    assert!(done["duration_minutes"].as_f64().unwrap() > 0.0, "{done}");
}

/// The seed's second test scenario: "complete 6-pass revision workflow".
#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_six_pass_workflow_holds() {
    let world = World::new().await;
    let desk = Desk::at(&world, (Road::Http, Era::Modern)).await;
    let workflow_id = desk.begin().await;
    for pass in 1..=6 {
        desk.revise(workflow_id, 1, pass).await;
    }
    let book = json!({ "workflow_id": workflow_id, "book_number": 1 });
    let status = desk.ask("get_revision_status", book).await;
    assert_eq!(status["passes_completed"], 6);
    assert_eq!(status["ready_for_qa"], true);
    assert_eq!(status["progress_percentage"].as_f64(), Some(100.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_may_be_strings_of_digits_and_answers_have_numbers() {
    let world = World::new().await;
    for way in WAYS {
        let desk = Desk::at(&world, way).await;
        let made = json!({ "series_id": "3", "user_id": "1", "concept": "c" });
        let id = desk.ask("create_workflow", made).await["workflow_id"].clone();
        assert!(id.is_i64(), "{way:?}");
        let text = id.to_string();
        let state = desk.ask("get_workflow_state", json!({ "workflow_id": text })).await;
        assert_eq!((&state["workflow_id"], &state["series_id"]), (&id, &json!(3)));
        // A model may quote a figure or what is nested; a client that checks would not.
        let quoted = json!({ "workflow_id": text, "metric_type": "words_written",
            "metric_value": "2847.25", "context": "{\"book_number\": \"2\"}" });
        let recorded = ok(&desk.client, "record_production_metric", quoted).await;
        assert_eq!(recorded["metric_value"], 2847.25);
        let told = desk.ask("get_workflow_metrics", json!({ "workflow_id": id })).await;
        assert_eq!(told["by_book"][0]["book_number"], 2);
    }
}

/// The contract drifted between a server and its clients (`spec/writing.md` §6); there each of these
/// failed with a message of the database.
#[tokio::test(flavor = "multi_thread")]
async fn calls_in_the_words_of_the_old_client_are_told_the_right_ones() {
    let world = World::new().await;
    let desk = Desk::at(&world, (Road::Unix, Era::Modern)).await;
    let workflow_id = desk.begin().await;
    for (tool, arguments, right) in [
        ("advance_to_phase", json!({ "phase_number": 1 }), "target_phase"),
        ("record_production_metric", json!({ "metric_type": "m", "value": 1 }), "metric_value"),
        ("submit_approval", json!({ "approval_id": 1, "approved": true }), "decision"),
        (
            "submit_approval",
            json!({ "approval_id": 1, "decision": "approved", "notes": "n" }),
            "feedback",
        ),
        ("request_approval", json!({ "requested_by": "me" }), "leave it out"),
        ("record_quality_gate", json!({ "details": {} }), "violations"),
        ("start_book_iteration", json!({ "book_id": 2 }), "book_number"),
        ("complete_book_iteration", json!({ "iteration_id": 2 }), "book_number"),
        ("get_daily_writing_stats", json!({ "date": "2026-01-05" }), "date_range"),
        ("update_daily_stats", json!({ "words_written": 1 }), "updates"),
        ("get_workflow_state", json!({ "workflowId": 1 }), "workflow_id"),
    ] {
        let error = desk.refuse(tool, arguments).await;
        assert_eq!(error["code"], "unknown_argument", "{tool}: {error}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains(right), "{tool}: {hint} does not name {right}");
    }
    let told = desk.ask("get_workflow_metrics", json!({ "workflow_id": workflow_id })).await;
    assert_eq!(told["by_type"], json!([]), "nothing was recorded by what was refused");
}

/// Some clients send a call once more when its answer did not come; they have one id for both.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_client_repeats_by_itself_is_recorded_once() {
    let world = World::new().await;
    for way in WAYS {
        let desk = Desk::at(&world, way).await;
        let workflow_id = desk.begin().await;
        let record = async |id: &str, words: i64| {
            let arguments = json!({ "workflow_id": workflow_id, "metric_type": "words_written",
                "metric_value": words });
            let mut request = params("record_production_metric", arguments);
            let mut meta = RequestMetaObject::default();
            meta.insert("claudecode/toolUseId".to_owned(), json!(id));
            request.set_meta(meta);
            let result = desk.client.call_tool(request).await.unwrap();
            result.structured_content.unwrap()["metric_id"].clone()
        };
        let first = record("toolu_1", 100).await;
        assert_eq!(record("toolu_1", 100).await, first, "{way:?}");
        // The same id with other arguments is another call, of a client that numbers anew.
        assert_ne!(record("toolu_1", 50).await, first);
        assert_ne!(record("toolu_2", 100).await, first);
        let told = desk.ask("get_workflow_metrics", json!({ "workflow_id": workflow_id })).await;
        assert_eq!(told["metrics"]["total_words_written"], 250, "{way:?}");
    }
}
