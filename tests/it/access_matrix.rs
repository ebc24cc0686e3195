//! Every tool and every resource, for every tier, on every road and in both eras, against the real
//! program with real keys.
//!
//! The tables are written by hand: a tool, a template or a resource that is added without its row
//! fails here. Calls come with an argument that no tool has, so that one that may pass is refused for
//! that, and nothing starts, ends or is removed.

use std::collections::{BTreeMap, BTreeSet};

use adwd::auth::Tier;
use adwd::mcp::tools;
use rmcp::model::{
    CancelTaskParams, GetPromptRequestParams, GetTaskParams, Prompt, ReadResourceRequestParams,
};
use serde_json::json;

use crate::access_support::*;
use crate::mcp_support::*;
use crate::world::{self, Agent, Daemon};

/// Each tool, and the least tier that may use it.
const TOOLS: &[(Tier, &[&str])] = &[
    (
        Tier::Free,
        &[
            "get_adw_state",
            "list_adw_workflows",
            "get_adw_logs",
            "get_usage",
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
    (
        Tier::Admin,
        &[
            "add_adw_project",
            "remove_adw_project",
            "create_access_key",
            "list_access_keys",
            "revoke_access_key",
            "rotate_access_key",
            "list_mcp_invocations",
        ],
    ),
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

/// What is always in the list, whether a token is in it or not being told by its name.
const FIXED: &[&str] = &["adw://runs", "adw://health"];

fn rows() -> BTreeMap<&'static str, Tier> {
    TOOLS.iter().flat_map(|(tier, names)| names.iter().map(|name| (*name, *tier))).collect()
}

/// Somebody at the end of a road.
struct Caller {
    who: String,
    tier: Tier,
    client: Client,
}

/// Everybody who can come, on every road and in both eras. Who shows no key on loopback is of
/// `loopback`'s tier.
async fn callers(daemon: &Daemon<'_>, keys: &[(Tier, String)], loopback: Tier) -> Vec<Caller> {
    let mut all = Vec::new();
    for era in [Era::Legacy, Era::Modern] {
        let mut add = |road: &str, tier: Tier, client: Client| {
            all.push(Caller { who: format!("{road} {tier:?} {era:?}"), tier, client });
        };
        for (tier, key) in keys {
            let client = http_client(&daemon.url(), Some(key), era, Ear::named("test")).await;
            add("key", *tier, client);
        }
        add("loopback", loopback, daemon.http_client(era).await);
        add("socket", Tier::Owner, daemon.unix_client(era, Ear::named("test")).await);
        add("stdio", Tier::Owner, daemon.stdio_client(era).await);
    }
    all
}

/// Every tool as this client may use it. A refusal says which tier it takes, and is told alike
/// whatever the arguments are.
async fn assert_tools(Caller { who, tier, client }: &Caller) {
    let listed = client.list_all_tools().await.unwrap();
    for (tool, least) in rows() {
        let may = *tier >= least;
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
async fn every_tool_for_every_tier_on_every_road() {
    let world = real_world().await;
    let mut daemon = world.daemon().await;
    let keys = tier_keys(&world).await;
    for caller in callers(&daemon, &keys, Tier::Free).await {
        assert_tools(&caller).await;
    }
    for (tier, key) in &keys {
        let url = format!("{}?toolsets=adw,steps,writing,admin", daemon.url());
        let client = http_client(&url, Some(key), Era::Modern, Ear::named("test")).await;
        let listed = client.list_all_tools().await.unwrap();
        let listed: BTreeSet<&str> = listed.iter().map(|tool| tool.name.as_ref()).collect();
        let may: BTreeSet<&str> =
            rows().into_iter().filter(|(_, least)| tier >= least).map(|(name, _)| name).collect();
        assert_eq!(listed, may, "{tier:?} who asks for every set");
    }
    world.set("http.trust_loopback", "true");
    daemon.restart().await;
    for caller in callers(&daemon, &keys, Tier::Team).await {
        assert_tools(&caller).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_by_who_may_only_read_is_refused_in_the_words_of_the_seed() {
    let world = real_world().await;
    let daemon = world.daemon().await;
    let keys = tier_keys(&world).await;
    for caller in callers(&daemon, &keys, Tier::Free).await {
        if caller.tier > Tier::Solo {
            continue;
        }
        for (tool, arguments) in [
            ("trigger_adw_workflow", json!({ "issue_number": 1, "project": "shop" })),
            ("trigger_adw_phase", json!({ "issue_number": 1, "phase": "plan", "project": "shop" })),
            ("resume_adw_workflow", json!({ "adw_id": "x" })),
        ] {
            let error = refused(&caller.client, tool, arguments).await;
            assert_eq!(error["message"], "Team tier required to trigger ADW workflows");
        }
        let runs = ok(&caller.client, "list_adw_workflows", json!({})).await;
        assert_eq!(runs["total"], 0, "{}: nothing was started", caller.who);
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

/// Everything that this caller can read, and whether the token of a step is in it.
async fn assert_resources(caller: &Caller, values: &BTreeMap<&'static str, String>) {
    let Caller { who, tier, client } = caller;
    let may_hand_in = *tier >= Tier::Team;
    for (token, list) in TEMPLATES {
        for template in *list {
            let uri = fill(template, values);
            let told = read(client, &uri).await;
            let text = told.unwrap_or_else(|code| panic!("{who} {uri}: error {code}"));
            assert_eq!(holds_token(&text), *token && may_hand_in, "{who}: {uri}");
        }
    }
    let listed = client.list_all_resources().await.unwrap();
    for fixed in FIXED {
        assert!(listed.iter().any(|resource| resource.uri == *fixed), "{who}: {fixed}");
    }
    for resource in listed {
        let told = read(client, &resource.uri).await;
        let text = told.unwrap_or_else(|code| panic!("{who} {}: error {code}", resource.uri));
        let token = resource.uri.contains("current_step");
        assert_eq!(holds_token(&text), token && may_hand_in, "{who}: {}", resource.uri);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resource_for_every_tier_and_tokens_only_for_who_may_hand_in() {
    let world = real_world().await;
    let mut daemon = world.daemon().await;
    let keys = tier_keys(&world).await;
    let owner = daemon.client().await;
    let values = one_of_each(&owner).await;
    world::wait_status(&owner, &values["adw_id"], "completed").await;
    let rows: BTreeSet<&str> =
        TEMPLATES.iter().flat_map(|(_, list)| list.iter().copied()).collect();
    let templates = owner.list_all_resource_templates().await.unwrap();
    let listed: BTreeSet<&str> = templates.iter().map(|t| t.uri_template.as_str()).collect();
    assert_eq!(listed, rows, "left: what there is; right: this file's table");
    for caller in callers(&daemon, &keys, Tier::Free).await {
        assert_resources(&caller, &values).await;
    }
    drop(owner);
    world.set("http.trust_loopback", "true");
    daemon.restart().await;
    for era in [Era::Legacy, Era::Modern] {
        let client = daemon.http_client(era).await;
        let who = format!("trusted loopback {era:?}");
        assert_resources(&Caller { who, tier: Tier::Team, client }, &values).await;
    }
}

/// A prompt with all that it asks for filled in.
async fn filled(
    client: &Client,
    prompt: &Prompt,
    values: &BTreeMap<&'static str, String>,
) -> String {
    let needed = prompt.arguments.iter().flatten().filter(|a| a.required == Some(true));
    let given = needed.map(|argument| {
        let value = values.get(argument.name.as_str()).cloned();
        (argument.name.clone(), json!(value.unwrap_or_else(|| "1".to_owned())))
    });
    let get = GetPromptRequestParams::new(prompt.name.clone()).with_arguments(given.collect());
    serde_json::to_string(&client.get_prompt(get).await.unwrap().messages).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_who_may_only_read_can_do_moves_work() {
    let world = world::World::new().await;
    let (repo, held) = (world.repo("shop"), Agent::good().on("planner", "gate plan"));
    world.serve(&repo, &world.agent_lines("held", &held));
    world.set("http.trust_loopback", "false");
    let daemon = world.daemon().await;
    let owner = daemon.client().await;
    let values = one_of_each(&owner).await;
    let id = values["adw_id"].as_str();
    world.at_gate("plan").await;
    let client = async |tier: &str| {
        let key = made_key(&world, &["--tier", tier]).await;
        http_client(&daemon.url(), Some(&key), Era::Modern, Ear::with_tasks()).await
    };
    for tier in ["free", "solo"] {
        let client = client(tier).await;
        client.get_task(GetTaskParams::new(id)).await.unwrap();
        let refusal = client.cancel_task(CancelTaskParams::new(id)).await.map(drop).unwrap_err();
        assert!(refusal.to_string().contains("Team tier required"), "{refusal}");
        let cancel = refused(&client, "cancel_adw_workflow", json!({ "adw_id": id })).await;
        assert_eq!(cancel["code"], "not_allowed");
        let peek = json!({ "execution_id": values["execution_id"] });
        let peeked = call(&client, "workflow_next_step", peek).await;
        assert_eq!(word(&peeked).as_deref(), Some("not_allowed"), "{peeked:?}");
        for prompt in client.list_all_prompts().await.unwrap() {
            let text = filled(&client, &prompt, &values).await;
            assert!(!text.contains("continuation_token\\\""), "{}: {text}", prompt.name);
        }
    }
    assert_eq!(world::state(&owner, id).await["status"], "running", "the run is as it was");
    // Who may work is obeyed on the same road.
    client("team").await.cancel_task(CancelTaskParams::new(id)).await.unwrap();
    world::wait_status(&owner, id, "cancelled").await;
}
