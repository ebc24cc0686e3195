//! Tools, resources, prompts and tasks as clients of both eras see them on both roads.

use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolResponse, CancelTaskParams, ErrorCode, GetPromptRequestParams, GetTaskParams,
    PaginatedRequestParams, ReadResourceRequestParams, RequestParamsMeta, TaskPayload, TaskStatus,
};
use rmcp::service::ServiceError;
use serde_json::{Value, json};

use crate::mcp_support::*;

fn code(error: ServiceError) -> ErrorCode {
    match error {
        ServiceError::McpError(error) => error.code,
        other => panic!("not a protocol error: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_can_trigger_find_read_and_cancel() {
    for way in WAYS {
        let world = World::new().await;
        let client = world.client(way).await;
        let triggered = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 42 })).await;
        assert_eq!(triggered["issue_number"], "42", "{way:?}");
        assert_eq!(triggered["already_running"], false);
        let id = triggered["adw_id"].as_str().unwrap();
        let again = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "42" })).await;
        assert_eq!((&again["adw_id"], &again["already_running"]), (&json!(id), &json!(true)));

        let run = ok(&client, "get_adw_state", json!({ "adw_id": id })).await;
        assert_eq!(run["triggered_by"], "mcp");
        let page = ok(
            &client,
            "list_adw_workflows",
            json!({ "status_filter": "pending", "issue_number": 42, "since": 0, "limit": 100 }),
        )
        .await;
        assert_eq!((&page["total"], &page["workflows"][0]["adw_id"]), (&json!(1), &json!(id)));

        let text = read(&client, &format!("adw://runs/{id}")).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["adw_id"], id);
        let ended = ok(&client, "cancel_adw_workflow", json!({ "adw_id": id })).await;
        assert!(["cancelled", "stopping"].contains(&ended["status"].as_str().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_can_mend_is_a_result_that_says_how() {
    let world = World::new().await;
    for way in WAYS {
        let client = world.client(way).await;
        let error = refused(&client, "get_adw_state", json!({ "adw_id": "nosuchrun" })).await;
        assert_eq!(error["code"], "unknown_run", "{way:?}");
        assert!(error["hint"].as_str().unwrap().contains("list_adw_workflows"));
        let error = refused(&client, "trigger_adw_workflow", json!({ "issue": 1 })).await;
        assert_eq!(error["code"], "unknown_argument");
        assert!(error["hint"].as_str().unwrap().contains("did you mean \"issue_number\""));
        let error = refused(&client, "trigger_adw_workflow", json!({})).await;
        assert!(error["message"].as_str().unwrap().contains("issue_number"), "{error}");
        let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": "x" })).await;
        assert_eq!(error["code"], "invalid_argument");
        let error = refused(&client, "list_adw_workflows", json!({ "status_filter": "x" })).await;
        assert!(error["message"].as_str().unwrap().contains("pending"), "{error}");
        for id in ["../../x", "a/b", ""] {
            let error = refused(&client, "get_adw_state", json!({ "adw_id": id })).await;
            assert_eq!(error["code"], "unknown_run", "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_caller_could_have_meant_is_a_protocol_error() {
    let world = World::new().await;
    for way in WAYS {
        let client = world.client(way).await;
        let error = client.call_tool(params("get_adw_stat", json!({}))).await.unwrap_err();
        let ServiceError::McpError(error) = error else { panic!("{error:?}") };
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
        assert!(error.message.contains("did you mean \"get_adw_state\""), "{}", error.message);
        let cursor = PaginatedRequestParams::default().with_cursor(Some("x".to_owned()));
        let error = client.list_tools(Some(cursor)).await.unwrap_err();
        assert_eq!(code(error), ErrorCode::INVALID_PARAMS);
        let expected = match way.1 {
            Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
            Era::Modern => ErrorCode::INVALID_PARAMS,
        };
        for uri in ["adw://runs/nosuch", "adw://x", "adw://runs/a/log/plan/..", "file:///etc"] {
            assert_eq!(code(read(&client, uri).await.unwrap_err()), expected, "{way:?} {uri}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_schemas_are_plain_and_answers_keep_to_them() {
    let world = World::new().await;
    for way in WAYS {
        let client = world.client(way).await;
        let tools = client.list_all_tools().await.unwrap();
        let managing = tools.iter().filter(|t| t.name.ends_with("_project")).count();
        assert_eq!(managing, 0, "what manages is shown to those alone who ask for it: {way:?}");
        for tool in &tools {
            let asked = Value::Object(tool.input_schema.as_ref().clone());
            let told = Value::Object(tool.output_schema.as_ref().unwrap().as_ref().clone());
            assert_eq!(adwd::mcp::schema::oddities(&asked), Vec::<String>::new());
            assert_eq!(adwd::mcp::schema::answer_oddities(&told), Vec::<String>::new());
        }
        let info = client.peer_info().unwrap();
        let capabilities = &info.capabilities;
        assert!(capabilities.tools.is_some() && capabilities.prompts.is_some());
        assert!(capabilities.completions.is_some() && capabilities.logging.is_none());
        assert!(capabilities.supports_tasks());
        let subscribes = capabilities.resources.as_ref().unwrap().subscribe == Some(true);
        assert_eq!(subscribes, way != (Road::Http, Era::Legacy), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_are_managed_over_the_socket_only() {
    let world = World::new().await;
    let socket = world.client((Road::Unix, Era::Modern)).await;
    let http = world.client((Road::Http, Era::Modern)).await;
    for tool in ["add_adw_project", "remove_adw_project"] {
        let error = refused(&http, tool, json!({ "path": "/", "name": "x" })).await;
        assert_eq!(error["code"], "not_allowed");
    }
    let projects = ok(&http, "list_adw_projects", json!({})).await;
    assert!(projects["projects"].is_array());
    let error = refused(&socket, "add_adw_project", json!({})).await;
    assert_eq!(error["code"], "invalid_argument");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_starts_nothing_says_so() {
    let world = World::with(Options { trigger_tools_enabled: false, ..Options::default() }).await;
    let client = world.client((Road::Http, Era::Modern)).await;
    assert!(!client.list_all_tools().await.unwrap().iter().any(|t| t.name.starts_with("trigger")));
    let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    assert_eq!(error["code"], "disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_trigger_gets_the_first_answer() {
    let world = World::new().await;
    let client = world.client((Road::Http, Era::Legacy)).await;
    let mut first = params("trigger_adw_workflow", json!({ "issue_number": 7 }));
    let mut meta = rmcp::model::RequestMetaObject::new();
    meta.insert("claudecode/toolUseId".to_owned(), json!("toolu_1"));
    first.set_meta(meta);
    let answer = |result: rmcp::model::CallToolResult| result.structured_content.unwrap();
    let one = answer(client.call_tool(first.clone()).await.unwrap());
    let id = one["adw_id"].as_str().unwrap().to_owned();
    ok(&client, "cancel_adw_workflow", json!({ "adw_id": id })).await;
    // The first run is over, so only the key can make the second call answer with it.
    let two = answer(client.call_tool(first).await.unwrap());
    assert_eq!(two["adw_id"], json!(id));
    let fresh = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 7 })).await;
    assert_ne!(fresh["adw_id"], json!(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_the_socket_may_say_who_triggered() {
    let world = World::new().await;
    let cli = world.connect((Road::Unix, Era::Modern), Ear::named("adwd-cli")).await;
    let by = async |client: &Client, issue: u32, said: Option<&str>| {
        let mut call = params("trigger_adw_workflow", json!({ "issue_number": issue }));
        if let Some(word) = said {
            let mut meta = rmcp::model::RequestMetaObject::new();
            meta.insert("adwd/triggeredBy".to_owned(), json!(word));
            call.set_meta(meta);
        }
        let run = client.call_tool(call).await.unwrap().structured_content.unwrap();
        ok(client, "get_adw_state", json!({ "adw_id": run["adw_id"] })).await["triggered_by"]
            .clone()
    };
    assert_eq!(by(&cli, 1, None).await, "cli");
    assert_eq!(by(&cli, 2, Some("webhook")).await, "webhook");
    let http = world.client((Road::Http, Era::Modern)).await;
    assert_eq!(by(&http, 3, Some("webhook")).await, "mcp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_tells_progress_and_answers_at_its_limit() {
    let world = World::new().await;
    for (issue, way) in WAYS.into_iter().enumerate() {
        let ear = Ear::named("waiter");
        let client = world.connect(way, ear.clone()).await;
        let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": issue })).await;
        let began = Instant::now();
        let args = json!({ "adw_id": run["adw_id"], "timeout_s": 1 });
        let waited = ok(&client, "wait_adw_workflow", args).await;
        assert!(began.elapsed() >= Duration::from_millis(900), "{way:?}");
        assert_eq!((&waited["ended"], &waited["adw_id"]), (&json!(false), &run["adw_id"]));
        until("progress", || ear.heard().iter().any(|heard| heard.starts_with("1 "))).await;

        ok(&client, "cancel_adw_workflow", json!({ "adw_id": run["adw_id"] })).await;
        let waited = ok(&client, "wait_adw_workflow", json!({ "adw_id": run["adw_id"] })).await;
        assert_eq!(waited["ended"], true);
        let error = refused(
            &client,
            "wait_adw_workflow",
            json!({ "adw_id": run["adw_id"], "timeout_s": 51 }),
        )
        .await;
        assert!(error["message"].as_str().unwrap().contains("1 to 50"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_client_with_tasks_a_run_is_a_task() {
    for way in [(Road::Http, Era::Modern), (Road::Unix, Era::Modern), (Road::Unix, Era::Legacy)] {
        let world = World::new().await;
        let client = world.connect(way, Ear::with_tasks()).await;
        let trigger = params("trigger_adw_workflow", json!({ "issue_number": 5 }));
        let CallToolResponse::Task(created) = client.call_tool_once(trigger).await.unwrap() else {
            panic!("{way:?}: no task");
        };
        let id = created.task.task_id.clone();
        assert_eq!(created.task.status, TaskStatus::Working);
        assert_eq!(created.task.ttl_ms, None);
        assert!(created.task.poll_interval_ms.is_some_and(|ms| (2_000..=3_000).contains(&ms)));
        assert!(created.task.status_message.is_some());
        assert_eq!(ok(&client, "get_adw_state", json!({ "adw_id": id })).await["adw_id"], id);

        let wait = params("wait_adw_workflow", json!({ "adw_id": id }));
        let waiting = client.call_tool_once(wait).await.unwrap();
        assert!(matches!(waiting, CallToolResponse::Task(task) if task.task.task_id == id));

        let got = client.get_task(GetTaskParams::new(id.clone())).await.unwrap();
        assert_eq!(got.task.status(), TaskStatus::Working);
        client.cancel_task(CancelTaskParams::new(id.clone())).await.unwrap();
        let mut status = TaskStatus::Working;
        for _ in 0..100 {
            let got = client.get_task(GetTaskParams::new(id.clone())).await.unwrap().task;
            status = got.status();
            if let TaskPayload::Cancelled = got.payload {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(status, TaskStatus::Cancelled);
        let error = client.get_task(GetTaskParams::new("nosuch")).await.unwrap_err();
        assert_eq!(code(error), ErrorCode::INVALID_PARAMS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_refused_to_a_client_that_does_not_know_them() {
    let world = World::new().await;
    let client = world.client((Road::Http, Era::Modern)).await;
    let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 5 })).await;
    let id = run["adw_id"].as_str().unwrap().to_owned();
    let error = client.get_task(GetTaskParams::new(id)).await.unwrap_err();
    assert_eq!(code(error).0, -32021);
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_and_completions_know_the_runs() {
    let world = World::new().await;
    for (issue, way) in WAYS.into_iter().enumerate() {
        let client = world.client(way).await;
        let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": issue })).await;
        let id = run["adw_id"].as_str().unwrap();
        let names: Vec<String> =
            client.list_all_prompts().await.unwrap().into_iter().map(|p| p.name).collect();
        assert_eq!(names[..3], ["run_issue", "diagnose_run", "summarize_runs"]);
        for (name, arguments) in [
            ("run_issue", json!({ "issue_number": issue.to_string() })),
            ("diagnose_run", json!({ "adw_id": id })),
            ("summarize_runs", json!({ "since": "2026-01-01T00:00:00Z" })),
        ] {
            let arguments = arguments.as_object().cloned().unwrap();
            let get = GetPromptRequestParams::new(name).with_arguments(arguments);
            let prompt = client.get_prompt(get).await.unwrap();
            let text = serde_json::to_string(&prompt.messages).unwrap();
            assert!(text.contains(id), "{name}: {text}");
        }
        let get = GetPromptRequestParams::new("diagnose_run");
        assert_eq!(code(client.get_prompt(get).await.unwrap_err()), ErrorCode::INVALID_PARAMS);

        let template = "adw://runs/{adw_id}/log/{phase}";
        let ids = client.complete_resource_simple(template, "adw_id", &id[..3]).await.unwrap();
        assert!(ids.contains(&id.to_owned()));
        let none = client.complete_prompt_simple("diagnose_run", "adw_id", "zzz").await.unwrap();
        assert!(none.is_empty());
        let listed = client.list_all_resources().await.unwrap();
        assert!(listed.iter().any(|r| r.uri == "adw://runs"));
        assert!(listed.iter().any(|r| r.uri == format!("adw://runs/{id}")));
        let templates = client.list_all_resource_templates().await.unwrap();
        let own = templates.iter().filter(|t| t.uri_template.starts_with("adw://"));
        assert_eq!(own.count(), 3);
    }
}

async fn read(client: &Client, uri: &str) -> Result<String, ServiceError> {
    let result = client.read_resource(ReadResourceRequestParams::new(uri)).await?;
    let contents = serde_json::to_value(&result.contents[0]).unwrap();
    assert_eq!(contents["mimeType"], "application/json");
    Ok(contents["text"].as_str().unwrap().to_owned())
}
