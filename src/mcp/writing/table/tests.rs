//! The table against the slice, and the kinds of arguments that this family brought.

use std::collections::BTreeSet;

use schemars::JsonSchema;

use super::*;
use crate::mcp::args::{Args, input_schema};
use crate::mcp::error::ToolError;
use crate::mcp::writing::calls::arguments;
use crate::writing::metric;
use crate::writing::{
    AdvanceToPhase, AnalyticsQuery, ApprovalStatus, ApprovalType, BookRef, CompletePass,
    CompletePhase, CoverStatus, CreateWorkflow, DailyQuery, ExecutePhase, GateType, HistoryQuery,
    ListWorkflows, MetricsQuery, PhaseRef, RecordGate, RecordMetric, ReportQuery, RequestApproval,
    SkipPass, SkipPhase, StartPass, SubmitApproval, TimeWindow, UpdateBook, UpdateDaily,
    VelocityQuery, WorkflowRef,
};

fn tool(name: &str) -> &'static ToolDef {
    tools().find(|def| def.name == name).unwrap_or_else(|| panic!("{name} is no tool"))
}

/// The tool's arguments are the fields of the slice's request, and it needs what the request needs.
fn takes<Q: JsonSchema>(name: &str) -> &str {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let schema = settings.into_generator().into_root_schema_for::<Q>().to_value();
    let set = |schema: &Value, key: &str| -> BTreeSet<String> {
        match &schema[key] {
            Value::Object(map) => map.keys().cloned().collect(),
            Value::Array(list) => {
                list.iter().filter_map(|v| v.as_str()).map(str::to_owned).collect()
            }
            _ => BTreeSet::new(),
        }
    };
    let shown = Value::Object(input_schema(tool(name).fields));
    assert_eq!(set(&shown, "properties"), set(&schema, "properties"), "{name}");
    let (shown, needed) = (set(&shown, "required"), set(&schema, "required"));
    assert!(shown.is_superset(&needed), "{name}: {needed:?} are needed, {shown:?} are asked for");
    name
}

#[test]
fn each_tool_takes_what_its_request_takes() {
    let checked = [
        takes::<CreateWorkflow>("create_workflow"),
        takes::<ListWorkflows>("list_active_workflows"),
        takes::<WorkflowRef>("get_workflow_state"),
        takes::<AdvanceToPhase>("advance_to_phase"),
        takes::<CompletePhase>("complete_current_phase"),
        takes::<ExecutePhase>("execute_phase"),
        takes::<PhaseRef>("retry_failed_phase"),
        takes::<SkipPhase>("skip_phase"),
        takes::<HistoryQuery>("get_phase_history"),
        takes::<RecordGate>("record_quality_gate"),
        takes::<PhaseRef>("check_gate_status"),
        takes::<RequestApproval>("request_approval"),
        takes::<SubmitApproval>("submit_approval"),
        takes::<WorkflowRef>("get_pending_approvals"),
        takes::<BookRef>("start_book_iteration"),
        takes::<BookRef>("complete_book_iteration"),
        takes::<WorkflowRef>("get_series_progress"),
        takes::<StartPass>("start_revision_pass"),
        takes::<CompletePass>("complete_revision_pass"),
        takes::<SkipPass>("skip_revision_pass"),
        takes::<BookRef>("get_revision_status"),
        takes::<UpdateBook>("update_book_record"),
        takes::<BookRef>("run_qa_checklist"),
        takes::<ReportQuery>("get_qa_report"),
        takes::<BookRef>("mark_ready_to_publish"),
        takes::<RecordMetric>("record_production_metric"),
        takes::<MetricsQuery>("get_workflow_metrics"),
        takes::<VelocityQuery>("get_workflow_velocity"),
        takes::<DailyQuery>("get_daily_writing_stats"),
        takes::<AnalyticsQuery>("get_phase_analytics"),
        takes::<UpdateDaily>("update_daily_stats"),
    ];
    let all: Vec<&str> = tools().map(|def| def.name).collect();
    assert_eq!(checked.to_vec(), all);
}

#[test]
fn the_words_are_the_slices() {
    assert_eq!(GATE_WORDS.to_vec(), words(GateType::ALL, GateType::as_str));
    assert_eq!(APPROVAL_WORDS.to_vec(), words(ApprovalType::ALL, ApprovalType::as_str));
    assert_eq!(WINDOW_WORDS.to_vec(), words(TimeWindow::ALL, TimeWindow::as_str));
    assert_eq!(COVER_WORDS.to_vec(), words(CoverStatus::ALL, CoverStatus::as_str));
    let decisions: Vec<&str> = words(ApprovalStatus::ALL, ApprovalStatus::as_str);
    assert_eq!(DECISION_WORDS.to_vec(), decisions[1..], "all but pending");
    let about = tool("record_production_metric").about;
    // Phases and gates record these by themselves.
    let by_itself = ["phase_duration_minutes", "gate_score"];
    for known in metric::KNOWN.iter().filter(|known| !by_itself.contains(&known.name)) {
        assert!(about.contains(known.name), "{} is not named", known.name);
    }
}

fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|one| word(*one)).collect()
}

#[test]
fn every_description_says_that_it_is_about_books() {
    for def in tools() {
        let text = format!("{} {}", def.title, def.about).to_lowercase();
        assert!(text.contains("book") || text.contains("series"), "{}", def.name);
    }
    let others: Vec<&str> = crate::mcp::runs::table::TOOLS.iter().map(|def| def.name).collect();
    assert!(tools().all(|def| !others.contains(&def.name)));
}

fn refused(tool_name: &str, given: Value) -> ToolError {
    arguments(tool(tool_name), given.as_object().unwrap()).unwrap_err()
}

#[test]
fn defect_2_names_of_other_dialects_are_answered_with_the_right_ones() {
    for (name, wrong, right) in RENAMED {
        let error = refused(name, json!({ "workflow_id": 1, *wrong: 1 }));
        assert_eq!(error.code, "unknown_argument");
        assert_eq!(error.hint.unwrap(), format!("did you mean {right:?}?"), "{name}.{wrong}");
        assert!(tool(name).fields.iter().any(|field| field.name == *right), "{name}.{right}");
        assert!(tool(name).fields.iter().all(|field| field.name != *wrong), "{name}.{wrong}");
    }
    for (name, wrong, remedy) in NEEDLESS {
        assert_eq!(refused(name, json!({ *wrong: 1 })).hint.as_deref(), Some(*remedy));
        assert!(tool(name).fields.iter().all(|field| field.name != *wrong), "{name}.{wrong}");
    }
    // Likeness finds the others, and what belongs a level deeper is shown there.
    for (name, wrong, says) in [
        ("get_workflow_state", "workflowId", "did you mean \"workflow_id\""),
        ("get_workflow_state", "id", "did you mean \"workflow_id\""),
        ("get_revision_status", "book", "did you mean \"book_number\""),
        ("record_quality_gate", "gate", "did you mean \"gate_type\""),
        ("complete_revision_pass", "findings", "did you mean \"findings_summary\""),
        ("record_production_metric", "book_number", "\"context\": {\"book_number\": …}"),
        ("record_production_metric", "metadata", "\"context\": {\"metadata\": …}"),
        ("update_daily_stats", "words_written", "\"updates\": {\"words_written\": …}"),
        ("complete_current_phase", "summary", "\"output\": {\"summary\": …}"),
        ("get_workflow_metrics", "start", "\"date_range\": {\"start\": …}"),
    ] {
        let hint = refused(name, json!({ wrong: 1 })).hint.unwrap();
        assert!(hint.contains(says), "{name}.{wrong}: {hint}");
    }
}

#[test]
fn ids_are_numbers_or_their_digits_and_figures_keep_theirs() {
    let given = json!({
        "workflow_id": "7", "metric_type": "words_written", "metric_value": "2847.00",
        "context": "{\"phase_number\": 0, \"book_number\": \"2\", \"chapter_number\": null}",
    });
    let args = arguments(tool("record_production_metric"), given.as_object().unwrap()).unwrap();
    assert_eq!(
        args.to_json(),
        json!({
            "context": { "book_number": 2, "phase_number": 0 },
            "metric_type": "words_written", "metric_value": 2847.0, "workflow_id": 7,
        })
    );
    for wrong in [json!(0), json!(-1), json!(1.5), json!("x"), json!("1e3"), json!([1])] {
        let error = refused("get_workflow_state", json!({ "workflow_id": wrong }));
        assert!(error.message.contains("a whole number from 1"), "{wrong}: {error:?}");
    }
    for (name, given) in [
        ("advance_to_phase", json!({ "workflow_id": 1, "target_phase": 99 })),
        ("start_revision_pass", json!({ "workflow_id": 1, "book_number": 1, "pass_number": 9 })),
        ("get_workflow_velocity", json!({ "workflow_id": 1, "time_window": "year" })),
        ("start_book_iteration", json!({ "workflow_id": 1, "book_number": 1 })),
    ] {
        let error = refused(name, given);
        assert!(error.message.contains("expected"), "{name}: {error:?}");
    }
}

#[test]
fn what_is_nested_is_checked_and_named_like_everything_else() {
    let gate = |violations: Value| {
        json!({ "workflow_id": 1, "gate_type": "npe_scene", "score": 80, "passed": true,
            "violations": violations })
    };
    let args = arguments(
        tool("record_quality_gate"),
        gate(json!([{ "message": "m", "severity": null }])).as_object().unwrap(),
    );
    assert_eq!(args.unwrap().to_json()["violations"], json!([{ "message": "m" }]));
    let error = refused("record_quality_gate", gate(json!([{ "message": "m" }, {}])));
    assert!(
        error.message.starts_with("record_quality_gate: violations[1] needs \"message\""),
        "{error:?}"
    );
    let error = refused("record_quality_gate", gate(json!([{ "mesage": "m" }])));
    assert!(error.hint.unwrap().contains("did you mean \"message\""));
    let error = refused("record_quality_gate", gate(json!(["m"])));
    assert!(error.message.contains("a list of at most"), "{error:?}");
    let error =
        refused("complete_current_phase", json!({ "workflow_id": 1, "output": { "sumary": "s" } }));
    assert!(
        error.message.starts_with("complete_current_phase: output has no argument"),
        "{error:?}"
    );
    let empty = Args::read("t", &[RANGE], json!({ "date_range": {} }).as_object().unwrap());
    assert_eq!(empty.unwrap().to_json(), json!({ "date_range": {} }));
}
