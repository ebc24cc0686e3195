//! Every tool and every resource, for every tier, on every road and in both eras.
//!
//! The tables are written by hand: a tool or a template that is added without its row fails here.
//! Calls come with an argument that no tool has, so that one that may pass is refused for that, and
//! nothing starts, ends or is removed.

use std::collections::BTreeMap;

use adwd::auth::Tier;
use adwd::mcp::tools;
use rmcp::model::ReadResourceRequestParams;
use serde_json::{Value, json};

use crate::access_support::*;
use crate::mcp_support::*;
use crate::world;

/// Each tool, and the least tier that may use it.
const TOOLS: &[(Tier, &[&str])] = &[
    (
        Tier::Free,
        &[
            "get_adw_state",
            "list_adw_workflows",
            "get_adw_logs",
            "wait_adw_workflow",
            "list_adw_projects",
            "list_active_workflows",
            "get_workflow_state",
            "get_phase_history",
            "check_gate_status",
            "get_pending_approvals",
            "get_series_progress",
            "get_revision_status",
            "get_qa_report",
            "get_workflow_metrics",
            "get_workflow_velocity",
            "get_daily_writing_stats",
            "get_phase_analytics",
        ],
    ),
    (
        Tier::Team,
        &[
            "trigger_adw_workflow",
            "trigger_adw_phase",
            "cancel_adw_workflow",
            "resume_adw_workflow",
            "workflow_start",
            "workflow_next_step",
            "workflow_control",
            "create_workflow",
            "advance_to_phase",
            "complete_current_phase",
            "execute_phase",
            "retry_failed_phase",
            "skip_phase",
            "record_quality_gate",
            "request_approval",
            "submit_approval",
            "start_book_iteration",
            "complete_book_iteration",
            "start_revision_pass",
            "complete_revision_pass",
            "skip_revision_pass",
            "update_book_record",
            "run_qa_checklist",
            "mark_ready_to_publish",
            "record_production_metric",
            "update_daily_stats",
        ],
    ),
    (Tier::Admin, &["add_adw_project", "remove_adw_project"]),
];

/// Each template, and whether what it gives to the team tier holds a token.
const TEMPLATES: &[(bool, &[&str])] = &[
    (true, &["midex://workflow/current_step/{executionId}"]),
    (
        false,
        &[
            "adw://runs/{adw_id}",
            "adw://runs/{adw_id}/state",
            "adw://runs/{adw_id}/log/{phase}",
            "midex://workflow/workflow_details/{workflowName}",
            "midex://workflow/workflow_status/{executionId}",
            "midex://workflow/step_history/{executionId}",
            "midex://workflow/workflow_artifacts/{executionId}",
            "midex://workflow/workflow_artifacts/{executionId}/{stepName}",
            "midex://workflow/artifact/{artifactId}",
            "midex://workflow/artifacts/recent{?limit}",
            "midex://workflow/artifacts/final{?limit}",
            "midex://workflow/artifacts/type/{type}{?limit}",
            "midex://workflow/executions{?state,project,workflow,open,limit}",
            "midex://workflow/telemetry{?event_type,limit}",
            "midex://workflow/telemetry/{executionId}{?event_type,limit}",
            "midex://persona/{agent}",
            "midex://guardrails/execution/{executionId}",
            "midex://project/{projectId}",
            "persona://{agent}",
            "current-step://{task_id}",
            "workflow-status://{task_id}",
            "project-context://{project_id}",
            "workflow-artifacts://{execution_id}{?final,limit}",
            "workflow-artifacts://type/{type}{?limit}",
            "writing://{workflow_id}/state",
            "writing://{workflow_id}/phases",
            "writing://{workflow_id}/approvals",
            "writing://{workflow_id}/gates",
            "writing://{workflow_id}/metrics/{view}",
            "writing://{workflow_id}/books/{book_number}",
            "writing://{workflow_id}/books/{book_number}/revision",
            "writing://{workflow_id}/books/{book_number}/qa",
            "writing://phases/{phase_number}",
        ],
    ),
];

fn rows() -> BTreeMap<&'static str, Tier> {
    TOOLS.iter().flat_map(|(tier, names)| names.iter().map(|name| (*name, *tier))).collect()
}

/// Every tool as this client may use it. A refusal says which tier it takes, and is told alike
/// whatever the arguments are.
async fn assert_tools(client: &Client, tier: Tier, who: &str) {
    let listed = client.list_all_tools().await.unwrap();
    for (tool, least) in rows() {
        let may = tier >= least;
        let result = call(client, tool, json!({ "no_such_argument": true })).await;
        let word = word(&result);
        let refused = word.as_deref() == Some("not_allowed");
        assert_eq!(refused, !may, "{who}: {tool}: {result:?}");
        assert!(word.is_some(), "{who}: {tool} took an argument that it does not have");
        let is_listed = listed.iter().any(|listed| listed.name == tool);
        assert_eq!(is_listed, may && least != Tier::Admin, "{who}: {tool} in the list");
        if refused {
            let content = result.structured_content.unwrap().to_string();
            let needed = if least == Tier::Admin { "Admin" } else { "Team" };
            assert!(content.contains(&format!("{needed} tier required to")), "{content}");
        }
    }
}

#[test]
fn every_tool_has_its_row() {
    let tools: Vec<&str> = tools::all().map(|tool| tool.name).collect();
    let rows = rows();
    for name in &tools {
        assert!(rows.contains_key(name), "{name} has no row in this file's table");
    }
    assert_eq!(rows.len(), tools.len(), "a row is of no tool, or a tool has two");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_for_every_tier_over_http() {
    let world = access_world().await;
    for tier in KEY_TIERS {
        for era in [Era::Legacy, Era::Modern] {
            let client = Who::of(tier).client(&world, era).await;
            assert_tools(&client, tier, &format!("{tier:?} {era:?}")).await;
        }
    }
}

async fn access_world() -> World {
    crate::access_support::world().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_of_the_real_daemon_on_every_road() {
    let world = world::World::new().await;
    for (trust, tier) in [("false", Tier::Free), ("true", Tier::Team)] {
        world.set("http.trust_loopback", trust);
        let mut daemon = world.daemon().await;
        for era in [Era::Legacy, Era::Modern] {
            let client = daemon.http_client(era).await;
            assert_tools(&client, tier, &format!("loopback, trusted {trust}, {era:?}")).await;
            let socket = daemon.unix_client(era, Ear::named("test")).await;
            assert_tools(&socket, Tier::Owner, &format!("socket {era:?}")).await;
            let stdio = daemon.stdio_client(era).await;
            assert_tools(&stdio, Tier::Owner, &format!("stdio {era:?}")).await;
        }
        daemon.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_by_who_may_only_read_is_refused_in_the_words_of_the_seed() {
    let world = access_world().await;
    for tier in [Tier::Free, Tier::Solo] {
        let client = Who::of(tier).client(&world, Era::Modern).await;
        for (tool, arguments) in [
            ("trigger_adw_workflow", json!({ "issue_number": 1 })),
            ("trigger_adw_phase", json!({ "issue_number": 1, "phase": "plan" })),
            ("resume_adw_workflow", json!({ "adw_id": "x" })),
        ] {
            let error = refused(&client, tool, arguments).await;
            assert_eq!(error["message"], "Team tier required to trigger ADW workflows");
        }
        let runs = ok(&client, "list_adw_workflows", json!({})).await;
        assert_eq!(runs["total"], 0, "nothing was started");
    }
}

/// What stands at an address, or the code of the error.
async fn read(client: &Client, uri: &str) -> Result<String, i32> {
    match client.read_resource(ReadResourceRequestParams::new(uri)).await {
        Ok(result) => {
            let contents = serde_json::to_value(&result.contents[0]).unwrap();
            Ok(contents["text"].as_str().unwrap().to_owned())
        }
        Err(rmcp::ServiceError::McpError(error)) => Err(error.code.0),
        Err(other) => panic!("{uri}: {other}"),
    }
}

/// Whether a token of a step stands in a text: three parts with dots, the first one readable.
fn holds_token(text: &str) -> bool {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
    words.into_iter().any(|word| {
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() >= 2 && parts.iter().all(|part| part.len() >= 20)
    }) || text.contains("continuation_token\"")
        || text.contains("new_token\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resource_for_every_tier_and_tokens_only_for_who_may_hand_in() {
    let world = access_world().await;
    let values = one_of_each(&world).await;
    let rows: Vec<(&str, bool)> = TEMPLATES
        .iter()
        .flat_map(|(token, list)| list.iter().map(|template| (*template, *token)))
        .collect();
    let owner = world.client((Road::Unix, Era::Modern)).await;
    let listed: Vec<String> = owner
        .list_all_resource_templates()
        .await
        .unwrap()
        .into_iter()
        .map(|template| template.uri_template.clone())
        .collect();
    for template in &listed {
        let known = rows.iter().any(|(row, _)| row == template);
        assert!(known, "{template} has no row in this file's table");
    }
    assert_eq!(rows.len(), listed.len(), "a row is of no template");
    for era in [Era::Legacy, Era::Modern] {
        for tier in KEY_TIERS {
            let client = Who::of(tier).client(&world, era).await;
            for (template, token) in &rows {
                let uri = fill(template, &values);
                let told = read(&client, &uri).await;
                let is_there = !template.ends_with("/state") || template.starts_with("writing");
                assert_eq!(told.is_ok(), is_there, "{tier:?} {uri}: {told:?}");
                let has = told.is_ok_and(|text| holds_token(&text));
                assert_eq!(has, *token && tier >= Tier::Team, "{tier:?} {era:?}: {uri}");
            }
            let plain = client.list_all_resources().await.unwrap();
            for resource in plain {
                let told = read(&client, &resource.uri).await.unwrap();
                let token = resource.uri.contains("current_step") && tier >= Tier::Team;
                assert_eq!(holds_token(&told), token, "{tier:?} {}", resource.uri);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_who_may_only_read_can_do_moves_work() {
    let world = access_world().await;
    let values = one_of_each(&world).await;
    let owner = world.client((Road::Unix, Era::Modern)).await;
    let run = json!({ "adw_id": values["adw_id"] });
    let before = ok(&owner, "get_adw_state", run.clone()).await;
    let task = json!({ "taskId": values["adw_id"] });
    for tier in [Tier::Free, Tier::Solo] {
        let who = Who::of(tier);
        let refused = who.ask(&world, "tasks/cancel", task.clone()).await;
        assert!(refused["error"].is_object(), "{refused}");
        for method in ["tasks/get", "tasks/update"] {
            who.ask(&world, method, task.clone()).await;
        }
        let peek = json!({ "execution_id": values["execution_id"] });
        let peeked = who.call(&world, "workflow_next_step", peek).await;
        assert_eq!(peeked["result"]["structuredContent"]["code"], "not_allowed", "{peeked}");
        let client = who.client(&world, Era::Modern).await;
        for prompt in client.list_all_prompts().await.unwrap() {
            let given: Vec<(String, Value)> = prompt
                .arguments
                .iter()
                .flatten()
                .filter(|argument| argument.required == Some(true))
                .map(|argument| {
                    let value = values.get(argument.name.as_str()).cloned();
                    (argument.name.clone(), json!(value.unwrap_or_else(|| "1".to_owned())))
                })
                .collect();
            let arguments = given.into_iter().collect();
            let get = rmcp::model::GetPromptRequestParams::new(prompt.name.clone())
                .with_arguments(arguments);
            let filled = client.get_prompt(get).await.unwrap();
            let text = serde_json::to_string(&filled.messages).unwrap();
            assert!(!text.contains("continuation_token\\\""), "{}: {text}", prompt.name);
        }
    }
    assert_eq!(ok(&owner, "get_adw_state", run).await, before, "the run is as it was");
}
