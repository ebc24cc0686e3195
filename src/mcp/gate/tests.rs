//! What ends of calls are recorded as, and how a limit is told.

use rmcp::model::ContentBlock;

use super::*;
use crate::clock::Millis;

fn failed(value: Value) -> Result<CallToolResponse, ErrorData> {
    let mut result = CallToolResult::error(vec![ContentBlock::text("x")]);
    result.structured_content = Some(value);
    Ok(result.into())
}

#[test]
fn the_end_of_a_call_is_recorded_with_the_word_of_its_error() {
    let code = |code: &str| Some(code.to_owned());
    let of = |outcome| {
        let end = end(&outcome);
        (end.status, end.error_code)
    };
    let runs = |code: &str| failed(json!({ "error": { "code": code, "message": "m" } }));
    assert_eq!(of(runs("unknown_run")), (Status::Error, code("unknown_run")));
    assert_eq!(of(runs("not_allowed")), (Status::Refused, code("not_allowed")));
    assert_eq!(of(runs("disabled")), (Status::Refused, code("disabled")));
    let steps = failed(json!({ "success": false, "code": "token_expired", "error": "m" }));
    assert_eq!(of(steps), (Status::Error, code("token_expired")));
    assert_eq!(of(failed(json!({}))), (Status::Error, code("error")));
    let unknown = Err(ErrorData::invalid_params("Unknown tool", None));
    assert_eq!(of(unknown), (Status::Error, code("-32602")));
    let named = Err(ErrorData::internal_error("m", Some(json!({ "code": "database" }))));
    assert_eq!(of(named), (Status::Error, code("database")));
}

#[test]
fn the_run_is_taken_from_the_arguments_or_the_answer() {
    let object = |value: Value| value.as_object().unwrap().clone();
    assert_eq!(named_run(&object(json!({ "adw_id": "abc" }))).unwrap(), "abc");
    assert_eq!(named_run(&object(json!({ "adw_id": 7 }))).unwrap(), "7");
    assert_eq!(named_run(&object(json!({ "taskId": "abc" }))).unwrap(), "abc");
    for none in [json!({}), json!({ "adw_id": "" }), json!({ "adw_id": ["abc"] })] {
        assert_eq!(named_run(&object(none)), None);
    }
    let mut result = CallToolResult::success(vec![]);
    result.structured_content = Some(json!({ "adw_id": "abc" }));
    assert_eq!(end(&Ok(result.into())), End { adw_id: Some("abc".to_owned()), ..End::ok() });
}

#[test]
fn a_limit_is_told_with_what_is_left_and_when_it_is_there_again() {
    let key = Principal { user_id: "key:k1".to_owned(), ..Principal::loopback(false) };
    let standing = Standing {
        limit_tenths: 1_000,
        remaining_tenths: 3,
        resets_at: Millis(3_600_000),
        now: Millis(3_598_500),
    };
    let barred = Barred::Limit(standing, Cost::Write);
    let error = barred.clone().into_protocol(&key);
    assert_eq!(error.code, LIMIT_EXCEEDED);
    assert!(error.message.contains("100 calls an hour, and 0.3 are left; this one costs 1"));
    let data = error.data.unwrap();
    assert_eq!((&data["retry_after_ms"], &data["limit"]), (&json!(1_500), &json!(100)));
    assert!(data["hint"].as_str().unwrap().contains("in 2 s"), "{data}");
    assert!(barred.clone().into_answer(&key).is_err());
    let error = barred.into_answer(&Principal::unix(0)).unwrap();
    assert_eq!((error.code.as_str(), error.retry_after_ms), (RATE_LIMITED, Some(1_500)));
    // A write can never be paid for by who may ask half a call.
    let little = Standing { limit_tenths: 5, remaining_tenths: 5, ..standing };
    let never = Barred::Limit(little, Cost::Write).into_error(&key);
    assert_eq!(never.retry_after_ms, None);
    assert!(never.hint.unwrap().contains("no hour is enough"));
}

#[test]
fn only_tools_that_change_something_cost_a_whole_call() {
    let cost = |name: &'static str| {
        Asked::tool(&CallToolRequestParams::new(name), crate::mcp::tools::named(name)).cost
    };
    for read in ["get_adw_state", "list_adw_workflows", "wait_adw_workflow", "no_such_tool"] {
        assert_eq!(cost(read), Cost::Read, "{read}");
    }
    for write in ["trigger_adw_workflow", "cancel_adw_workflow", "workflow_next_step"] {
        assert_eq!(cost(write), Cost::Write, "{write}");
    }
    let request = CallToolRequestParams::new("workflow.start");
    let asked = Asked::tool(&request, crate::mcp::tools::named("workflow.start"));
    assert_eq!(asked.name, "workflow_start");
}
