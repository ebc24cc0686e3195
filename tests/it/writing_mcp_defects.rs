//! The defects of the implementation that this family comes from, where they concern the wire: each
//! is a test that bears its number (`spec/writing.md` §3).

use adwd::mcp::{Hello, bridge};
use serde_json::{Value, json};

use crate::mcp_support::*;
use crate::writing_mcp_support::*;

async fn desk() -> (World, Desk) {
    let world = World::new().await;
    let desk = Desk::at(&world, (Road::Unix, Era::Modern)).await;
    (world, desk)
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_01_every_tool_answers_not_only_the_last_one() {
    let (_world, desk) = desk().await;
    let names: Vec<String> =
        desk.client.list_all_tools().await.unwrap().iter().map(|t| t.name.to_string()).collect();
    for name in TOOLS {
        assert_eq!(names.iter().filter(|listed| *listed == name).count(), 1, "{name}");
        // Nobody is left waiting: what is missing is said at once, by each.
        let result = call(&desk.client, name, json!({ "nonsense": 1 })).await;
        assert_eq!(result.is_error, Some(true), "{name}");
    }
    let unknown = desk.client.call_tool(params("create_workflo", json!({}))).await.unwrap_err();
    assert!(unknown.to_string().contains("did you mean \"create_workflow\""), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_02_the_input_schema_is_enforced() {
    let (_world, desk) = desk().await;
    let id = desk.begin().await;
    for (tool, arguments) in [
        ("create_workflow", json!({})),
        ("create_workflow", json!({ "series_id": 1, "user_id": 1 })),
        ("advance_to_phase", json!({ "workflow_id": id, "target_phase": 99 })),
        (
            "start_revision_pass",
            json!({ "workflow_id": id, "book_number": 1, "pass_number": 9, "pass_name": "x" }),
        ),
        (
            "record_quality_gate",
            json!({ "workflow_id": id, "gate_type": "bogus", "score": 1,
            "passed": true, "violations": [] }),
        ),
        ("get_workflow_metrics", json!({ "workflow_id": id, "date_range": "today" })),
        ("get_workflow_velocity", json!({ "workflow_id": id, "time_window": "year" })),
        ("submit_approval", json!({ "approval_id": 1, "decision": "maybe" })),
    ] {
        assert_eq!(
            desk.code(tool, arguments.clone()).await,
            "invalid_argument",
            "{tool} {arguments}"
        );
    }
    let state = desk.ask("get_workflow_state", json!({ "workflow_id": id })).await;
    assert_eq!(state["current_phase"], -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_05_and_06_phase_0_is_a_phase() {
    let (_world, desk) = desk().await;
    let id = desk.begin().await;
    let zero = json!({ "workflow_id": id, "metric_type": "planning_time_minutes",
        "metric_value": 30, "context": { "phase_number": 0 } });
    desk.ask("record_production_metric", zero).await;
    desk.complete(id).await;
    desk.complete(id).await;
    for (number, name) in [(0, "Premise Development"), (-1, "Not Started")] {
        let told = desk.ask("get_phase_analytics", json!({ "phase_number": number })).await;
        let phases = told["phases"].as_array().unwrap();
        assert_eq!(phases.len(), 1, "{number}: {told}");
        assert_eq!(phases[0]["phase_name"], name);
        assert_eq!(phases[0]["total_executions"], 1);
    }
    let all = desk.ask("get_phase_analytics", json!({})).await;
    assert_eq!(all["phases"].as_array().unwrap().len(), 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_17_and_27_figures_are_numbers_and_null_where_undefined() {
    let (_world, desk) = desk().await;
    let id = desk.begin().await;
    let of = || json!({ "workflow_id": id });
    let pace = desk.ask("get_workflow_velocity", of()).await;
    for figure in ["words_per_hour", "scenes_per_hour"] {
        assert_eq!(
            pace["velocity"].get(figure),
            Some(&Value::Null),
            "{figure} is told as undefined"
        );
    }
    // Words without minutes are no pace, and no division either.
    desk.record(id, 1, "words_written", json!(2847)).await;
    let told = desk.ask("get_workflow_metrics", of()).await;
    assert_eq!(told["metrics"]["total_words_written"], 2847);
    assert_eq!(told["metrics"].get("current_velocity"), Some(&Value::Null));
    assert_eq!(told["metrics"].get("avg_npe_score"), Some(&Value::Null));
    let status =
        desk.ask("get_revision_status", json!({ "workflow_id": id, "book_number": 1 })).await;
    assert!(status["progress_percentage"].is_number());
    assert_eq!(status["passes"].as_array().unwrap().len(), 6);
    let gate = desk.ask("check_gate_status", json!({ "workflow_id": id, "phase_number": 6 })).await;
    assert_eq!((&gate["has_gate"], gate.get("passed")), (&json!(false), Some(&Value::Null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_30_days_are_asked_for_by_an_id_or_by_both() {
    let (_world, desk) = desk().await;
    let (id, other) = (desk.begin().await, desk.begin().await);
    desk.record(id, 1, "words_written", json!(10)).await;
    desk.record(other, 1, "words_written", json!(20)).await;
    assert_eq!(desk.code("get_daily_writing_stats", json!({})).await, "invalid_argument");
    let words = |told: &Value| -> Vec<Value> {
        told["stats"].as_array().unwrap().iter().map(|day| day["words_written"].clone()).collect()
    };
    let both = json!({ "workflow_id": id, "author_id": 1 });
    assert_eq!(words(&desk.ask("get_daily_writing_stats", both).await), [json!(10)]);
    let stranger = json!({ "workflow_id": id, "author_id": 2 });
    assert!(words(&desk.ask("get_daily_writing_stats", stranger).await).is_empty());
    let author = json!({ "author_id": 1 });
    assert_eq!(words(&desk.ask("get_daily_writing_stats", author).await).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_31_an_unknown_workflow_is_not_found_by_any_tool() {
    let (_world, desk) = desk().await;
    let id = 4_711;
    let book = json!({ "workflow_id": id, "book_number": 1 });
    let of = |more: Value| {
        let mut all = json!({ "workflow_id": id });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for (tool, arguments) in [
        ("get_workflow_state", of(json!({}))),
        ("advance_to_phase", of(json!({ "target_phase": 1 }))),
        ("complete_current_phase", of(json!({ "output": { "summary": "s" } }))),
        ("execute_phase", of(json!({ "phase_number": 0, "input": {} }))),
        ("retry_failed_phase", of(json!({ "phase_number": 0 }))),
        ("skip_phase", of(json!({ "phase_number": 0, "reason": "r" }))),
        ("get_phase_history", of(json!({}))),
        ("check_gate_status", of(json!({ "phase_number": 4 }))),
        (
            "record_quality_gate",
            of(json!({ "gate_type": "npe_series", "score": 90, "passed": true,
            "violations": [] })),
        ),
        ("request_approval", of(json!({ "approval_type": "series_plan", "artifacts": [] }))),
        ("get_pending_approvals", of(json!({}))),
        ("start_book_iteration", of(json!({ "book_number": 2 }))),
        ("complete_book_iteration", book.clone()),
        ("get_series_progress", of(json!({}))),
        (
            "start_revision_pass",
            of(json!({ "book_number": 1, "pass_number": 1, "pass_name": "structural" })),
        ),
        ("complete_revision_pass", of(json!({ "book_number": 1, "pass_number": 1 }))),
        ("skip_revision_pass", of(json!({ "book_number": 1, "pass_number": 1, "reason": "r" }))),
        ("get_revision_status", book.clone()),
        ("update_book_record", of(json!({ "book_number": 1, "title": "t" }))),
        ("run_qa_checklist", book.clone()),
        ("get_qa_report", book.clone()),
        ("mark_ready_to_publish", book),
        (
            "record_production_metric",
            of(json!({ "metric_type": "words_written", "metric_value": 1 })),
        ),
        ("get_workflow_metrics", of(json!({}))),
        ("get_workflow_velocity", of(json!({}))),
        ("get_daily_writing_stats", of(json!({}))),
        (
            "update_daily_stats",
            of(json!({ "date": "2026-01-05", "updates": { "words_written": 1 } })),
        ),
    ] {
        let error = desk.refuse(tool, arguments).await;
        assert_eq!(error["code"], "unknown_workflow", "{tool}: {error}");
        assert!(error["hint"].as_str().unwrap().contains("list_active_workflows"), "{tool}");
    }
    let missing = json!({ "approval_id": 4_711, "decision": "approved" });
    assert_eq!(desk.code("submit_approval", missing).await, "unknown_approval");
    let id = desk.begin().await;
    let book = json!({ "workflow_id": id, "book_number": 77 });
    assert_eq!(desk.code("get_revision_status", book).await, "unknown_book");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_33_a_days_update_names_known_columns_and_at_least_one() {
    let (_world, desk) = desk().await;
    let id = desk.begin().await;
    let day =
        |updates: Value| json!({ "workflow_id": id, "date": "2026-01-05", "updates": updates });
    let error = desk.refuse("update_daily_stats", day(json!({ "words": 1 }))).await;
    assert!(error["hint"].as_str().unwrap().contains("words_written"), "{error}");
    let sly = json!({ "words_written = 0; --": 1 });
    assert_eq!(desk.code("update_daily_stats", day(sly)).await, "unknown_argument");
    assert_eq!(desk.code("update_daily_stats", day(json!({}))).await, "invalid_argument");
    let wrong = json!({ "workflow_id": id, "date": "5 Jan", "updates": { "words_written": 1 } });
    assert_eq!(desk.code("update_daily_stats", wrong).await, "invalid_argument");
    for _ in 0..2 {
        desk.ask("update_daily_stats", day(json!({ "words_written": 5 }))).await;
    }
    let told = desk.ask("get_daily_writing_stats", json!({ "workflow_id": id })).await;
    assert_eq!(told["stats"][0]["words_written"], 10, "it adds");
    assert_eq!(told["stats"][0]["stat_date"], "2026-01-05", "a plain day, whatever the zone");
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_34_a_figure_is_finite_and_negative_only_as_a_correction() {
    let (_world, desk) = desk().await;
    let id = desk.begin().await;
    let words = |value: Value| json!({ "workflow_id": id, "metric_type": "words_written", "metric_value": value });
    for value in [json!("NaN"), json!("Infinity"), json!(-5), json!(1e300), json!(true)] {
        let code = desk.code("record_production_metric", words(value.clone())).await;
        assert_eq!(code, "invalid_argument", "{value}");
    }
    desk.ask("record_production_metric", words(json!(100))).await;
    let mut back = words(json!(-40));
    back["correction"] = json!(true);
    desk.ask("record_production_metric", back).await;
    let told = desk.ask("get_workflow_metrics", json!({ "workflow_id": id })).await;
    assert_eq!(told["metrics"]["total_words_written"], 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_39_a_call_over_stdio_is_carried_out_once_and_answered_once() {
    let (world, desk) = desk().await;
    let id = desk.begin().await;
    let line = |n: u32, method: &str, params: Value| {
        let mut params = params;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "1" },
        });
        json!({ "jsonrpc": "2.0", "id": n, "method": method, "params": params }).to_string() + "\n"
    };
    let arguments =
        json!({ "workflow_id": id, "metric_type": "words_written", "metric_value": 2847 });
    let call = json!({ "name": "record_production_metric", "arguments": arguments });
    let mut output = Vec::new();
    let input = line(1, "tools/call", call);
    bridge(&world.socket, &Hello::default(), input.as_bytes(), &mut output).await.unwrap();
    let text = String::from_utf8(output).unwrap();
    let replies = text.lines().filter(|l| l.contains("\"id\":1")).count();
    assert_eq!(replies, 1, "{text}");
    let told = desk.ask("get_workflow_metrics", json!({ "workflow_id": id })).await;
    assert_eq!(told["by_type"][0]["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_40_a_second_client_does_not_take_the_firsts_place() {
    let world = World::new().await;
    let desks = futures::future::join_all(WAYS.map(|way| Desk::at(&world, way))).await;
    let id = desks[0].begin().await;
    for _ in 0..3 {
        let asked = desks.iter().map(|desk| desk.record(id, 1, "words_written", json!(1)));
        futures::future::join_all(asked).await;
    }
    for desk in &desks {
        let told = desk.ask("get_workflow_metrics", json!({ "workflow_id": id })).await;
        assert_eq!(told["metrics"]["total_words_written"], json!(3 * WAYS.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_41_the_names_that_were_counted_wrong_are_all_there() {
    let (_world, desk) = desk().await;
    let tools = desk.client.list_all_tools().await.unwrap();
    let listed = |name: &str| tools.iter().any(|tool| tool.name == name);
    let seed = [
        "start_revision_pass",
        "complete_revision_pass",
        "get_revision_status",
        "run_qa_checklist",
        "mark_ready_to_publish",
        "record_production_metric",
        "get_workflow_metrics",
        "get_workflow_velocity",
        "get_daily_writing_stats",
        "get_phase_analytics",
        "update_daily_stats",
        "skip_revision_pass",
        "get_qa_report",
    ];
    assert_eq!(seed.iter().filter(|name| listed(name)).count(), 13);
    let id = desk.begin().await;
    let book = json!({ "workflow_id": id, "book_number": 1 });
    let report = desk.ask("run_qa_checklist", book).await;
    assert!(["READY_TO_PUBLISH", "NOT_READY"].contains(&report["status"].as_str().unwrap()));
    assert!(report["date"].is_string() && report.get("report_date").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn defect_42_no_error_shows_the_database() {
    let (_world, desk) = desk().await;
    let id = desk.begin().await;
    // `refuse` looks for words of SQL in every error that these tests see; these once had them.
    for (tool, arguments) in [
        ("submit_approval", json!({ "approval_id": id, "approved": true })),
        ("record_production_metric", json!({ "workflow_id": id, "value": 1 })),
        ("advance_to_phase", json!({ "workflow_id": id, "phase_number": 1 })),
        (
            "record_quality_gate",
            json!({ "workflow_id": id, "gate_type": "npe_series",
            "score": 1000, "passed": true, "violations": [] }),
        ),
        ("get_workflow_state", json!({ "workflow_id": "1; DROP TABLE workflows" })),
        ("get_workflow_state", json!({ "workflow_id": i64::MAX })),
        (
            "record_production_metric",
            json!({ "workflow_id": id, "metric_type": "'; --",
            "metric_value": 1 }),
        ),
    ] {
        let error = desk.refuse(tool, arguments).await;
        assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
    }
}
