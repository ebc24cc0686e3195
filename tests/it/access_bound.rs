//! A real key that is bound to one of two projects, against the real program: whatever it asks about
//! the other one has the answer, letter by letter, of what never existed.

use rmcp::model::{GetTaskParams, SubscriptionFilter};
use serde_json::{Value, json};

use crate::access_support::*;
use crate::mcp_support::*;
use crate::observe_support::send;
use crate::world::{self, Agent, Daemon, World};

/// Places of an id and of a project in a question.
const ID: &str = "{id}";
const PROJECT: &str = "{project}";
/// An id and a project that never were.
const NOBODY: &str = "zzzzzzzz";
const NOWHERE: &str = "nope";

crate::in_worlds_on_both_engines!(what_is_anothers_is_told_of_as_what_never_was);

/// Every road on which something can be read, asked about one run and one project.
fn questions() -> Vec<(&'static str, Value)> {
    let tool = |name: &str, arguments: Value| {
        ("tools/call", json!({ "name": name, "arguments": arguments }))
    };
    let mut all = vec![
        tool("get_adw_state", json!({ "adw_id": ID })),
        tool("get_adw_logs", json!({ "adw_id": ID })),
        tool("get_adw_logs", json!({ "adw_id": ID, "phase": "plan", "tail": 5 })),
        tool("wait_adw_workflow", json!({ "adw_id": ID, "timeout_s": 1 })),
        tool("cancel_adw_workflow", json!({ "adw_id": ID })),
        tool("resume_adw_workflow", json!({ "adw_id": ID })),
        tool("list_adw_workflows", json!({ "adw_id_filter": ID })),
        tool("list_adw_workflows", json!({ "project": PROJECT })),
        tool("list_adw_workflows", json!({ "issue_number": 2 })),
        tool("list_adw_workflows", json!({ "project": PROJECT, "status_filter": "running" })),
        tool("trigger_adw_workflow", json!({ "issue_number": 2, "project": PROJECT })),
        tool(
            "trigger_adw_phase",
            json!({ "issue_number": 2, "phase": "plan", "project": PROJECT }),
        ),
        tool("add_adw_project", json!({ "path": "/x", "name": PROJECT })),
        tool("remove_adw_project", json!({ "name": PROJECT })),
        tool("list_mcp_invocations", json!({ "adw_id": ID })),
        tool("list_access_keys", json!({})),
        ("prompts/get", json!({ "name": "diagnose_run", "arguments": { "adw_id": ID } })),
        (
            "prompts/get",
            json!({ "name": "run_issue", "arguments": { "issue_number": "2", "project": PROJECT } }),
        ),
        ("prompts/get", json!({ "name": "summarize_runs", "arguments": { "project": PROJECT } })),
    ];
    for by in ["run", "project", "user", "day"] {
        all.push(tool("get_usage", json!({ "by": by, "adw_id": ID })));
        all.push(tool("get_usage", json!({ "by": by, "project": PROJECT })));
    }
    for path in ["", "/state", "/log/plan", "/log/nophase"] {
        all.push(("resources/read", json!({ "uri": format!("adw://runs/{ID}{path}") })));
    }
    for (reference, argument) in [
        (json!({ "type": "ref/resource", "uri": "adw://runs/{adw_id}" }), "adw_id"),
        (json!({ "type": "ref/prompt", "name": "diagnose_run" }), "adw_id"),
        (json!({ "type": "ref/prompt", "name": "run_issue" }), "project"),
    ] {
        let value = if argument == "project" { PROJECT } else { ID };
        let ask = json!({ "ref": reference, "argument": { "name": argument, "value": value } });
        all.push(("completion/complete", ask));
    }
    all
}

/// A question about that run and project.
fn about(question: &Value, id: &str, project: &str) -> Value {
    let text = question.to_string().replace(ID, id).replace(PROJECT, project);
    serde_json::from_str(&text).unwrap()
}

/// What an answer says when the names are left out.
fn neutral(answer: &Value, id: &str, project: &str) -> String {
    answer.to_string().replace(id, ID).replace(project, PROJECT)
}

/// Two projects, whose agents spend, and whose spending is limited: one of them is still at it.
async fn spending(world: &World) {
    for name in PROJECTS {
        let repo = world.repo(name);
        let used =
            r#"echo '{"usage": {"input_tokens": 70, "output_tokens": 7, "cost_usd": 0.25}}'"#;
        let agent = Agent::good().on("implementor", used).on("reviewer", used);
        let lines = world.agent_lines(name, &agent);
        world.serve(&repo, &format!("{lines}budget_day_usd = 40\n"));
    }
    world.set("http.trust_loopback", "false");
    world.set("budget.day_tokens", "5000000");
    world.set("budget.key_day_usd", "9");
    for tier in ["free", "team"] {
        world.set(&format!("rates.{tier}"), "0");
    }
}

/// A run of an issue in a project, to its end.
async fn ran(owner: &Client, issue: u32, project: &str) -> String {
    let asked = json!({ "issue_number": issue, "project": project });
    let run = ok(owner, "trigger_adw_workflow", asked).await;
    let id = run["adw_id"].as_str().unwrap().to_owned();
    world::wait_status(owner, &id, "completed").await;
    id
}

async fn what_is_anothers_is_told_of_as_what_never_was(world: World) {
    spending(&world).await;
    let daemon = world.daemon().await;
    let owner = daemon.client().await;
    let own = ran(&owner, 1, "shop").await;
    let foreign = ran(&owner, 2, "bank").await;
    let spent = ok(&owner, "get_usage", json!({ "project": "bank" })).await;
    assert!(spent["total"]["cost_usd"].as_f64().unwrap() > 0.0, "there is something to hide");
    for tier in ["free", "team", "admin"] {
        let key = made_key(&world, &["--tier", tier, "--project", "shop"]).await;
        let ask = async |method: &str, params: Value| {
            ask(&daemon.url(), Some(&key), method, params).await
        };
        for (method, question) in questions() {
            let there = ask(method, about(&question, &foreign, "bank")).await;
            let never = ask(method, about(&question, NOBODY, NOWHERE)).await;
            assert_eq!(
                neutral(&there, &foreign, "bank"),
                neutral(&never, NOBODY, NOWHERE),
                "{tier} {method} {question}"
            );
        }
        // Its own is there on the same roads, so the answers above are no general refusal.
        let told = ask("resources/read", json!({ "uri": format!("adw://runs/{own}") })).await;
        assert!(told["result"].is_object(), "{told}");
        assert_nothing_of_another(&daemon, &key, &own, &foreign).await;
    }
    let still = world::state(&owner, &foreign).await;
    assert_eq!(still["status"], "completed", "nobody touched it");
}

/// What names no run: lists, sums, health, figures.
async fn assert_nothing_of_another(daemon: &Daemon<'_>, key: &str, own: &str, foreign: &str) {
    for era in [Era::Legacy, Era::Modern] {
        let client = http_client(&daemon.url(), Some(key), era, Ear::named("test")).await;
        let mut seen = String::new();
        let lists = [
            ("list_adw_workflows", json!({})),
            ("list_adw_projects", json!({})),
            ("get_usage", json!({ "by": "run" })),
            ("get_usage", json!({ "by": "project" })),
            ("get_usage", json!({ "by": "user" })),
            ("get_usage", json!({ "by": "day" })),
            ("get_usage", json!({ "project": "shop" })),
        ];
        for (tool, arguments) in lists {
            seen += &ok(&client, tool, arguments).await.to_string();
        }
        for resource in client.list_all_resources().await.unwrap() {
            seen += &resource.uri;
            let read = rmcp::model::ReadResourceRequestParams::new(resource.uri.clone());
            seen += &serde_json::to_string(&client.read_resource(read).await.unwrap()).unwrap();
        }
        seen += &client
            .complete_resource_simple("adw://runs/{adw_id}", "adw_id", "")
            .await
            .unwrap()
            .join(" ");
        seen += &client.complete_prompt_simple("run_issue", "project", "").await.unwrap().join(" ");
        assert!(seen.contains(own) && seen.contains("shop"), "{seen}");
        for word in [foreign, "bank", "\"budget\":\"day\""] {
            assert!(!seen.contains(word), "{word}: {seen}");
        }
        let sum = ok(&client, "get_usage", json!({ "by": "day" })).await;
        let shop = ok(&client, "get_usage", json!({ "project": "shop" })).await;
        assert_eq!(sum["total"]["cost_usd"], shop["total"]["cost_usd"], "the day's own part");
        let health = rmcp::model::ReadResourceRequestParams::new("adw://health");
        let refusal = client.read_resource(health).await.unwrap_err().to_string();
        assert!(refusal.contains("bound to projects"), "{refusal}");
    }
    for path in ["/metrics", "/mcp/health"] {
        let url = daemon.url().replace("/mcp", path);
        let told = send("GET", &url, &[("authorization", &format!("Bearer {key}"))]).await;
        assert_eq!((told.status, told.body.contains("bank")), (403, false), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_and_notices_are_of_its_own_runs_alone() {
    let world = World::new().await;
    spending(&world).await;
    let daemon = world.daemon().await;
    let owner = daemon.client().await;
    let (own, foreign) = (ran(&owner, 1, "shop").await, ran(&owner, 2, "bank").await);
    let key = made_key(&world, &["--tier", "free", "--project", "shop"]).await;
    let client = http_client(&daemon.url(), Some(&key), Era::Modern, Ear::with_tasks()).await;
    client.get_task(GetTaskParams::new(own.clone())).await.unwrap();
    let mut told = Vec::new();
    for id in [foreign.as_str(), NOBODY] {
        let error = client.get_task(GetTaskParams::new(id)).await.map(drop).unwrap_err();
        told.push(error.to_string().replace(id, ID));
    }
    assert_eq!(told[0], told[1]);
    let filter = SubscriptionFilter::builder()
        .resources_list_changed()
        .resource_subscription("adw://runs")
        .resource_subscription(format!("adw://runs/{foreign}"))
        .resource_subscription(format!("adw://runs/{own}"))
        .resource_subscription("adw://health")
        .build();
    let mut changes = client.listen(filter).await.unwrap();
    ran(&owner, 3, "bank").await;
    // Longer than the distance of two notices: whatever is due would be told.
    let silence = std::time::Duration::from_millis(1_200);
    let early = tokio::time::timeout(silence, changes.next()).await;
    assert!(early.is_err(), "told of what does not exist for it: {early:?}");
    let asked = json!({ "issue_number": 3, "project": "shop" });
    let last = ok(&owner, "trigger_adw_workflow", asked).await;
    let last = last["adw_id"].as_str().unwrap();
    let soon = std::time::Duration::from_secs(world::SOON);
    let next = tokio::time::timeout(soon, changes.next()).await;
    let heard = serde_json::to_string(&next.unwrap().unwrap().unwrap()).unwrap();
    assert!(heard.contains("adw://runs") && !heard.contains(&foreign), "{heard}");
    world::wait_status(&owner, last, "completed").await;
}
