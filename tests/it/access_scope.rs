//! A caller that is bound to projects: everything else is as if it did not exist.
//!
//! What it is told of a run of another project is compared, letter by letter, with what it is told of
//! an id that never was.

use adwd::auth::Tier;
use adwd::config::{BudgetConfig, Spend};
use rmcp::model::SubscriptionFilter;
use serde_json::{Value, json};

use crate::access_support::*;
use crate::mcp_support::*;

/// An id and a project that never were, as long as those that are.
const NOBODY: &str = "zzzzzzzz";
const NOWHERE: &str = "nope";

/// A run of each project, made by the owner; the foreign one has the id `ffffffff`.
async fn two_runs(world: &World) -> (String, String) {
    let owner = world.client((Road::Unix, Era::Modern)).await;
    let own = json!({ "issue_number": 1, "project": "shop" });
    let own = ok(&owner, "trigger_adw_workflow", own).await;
    let foreign = json!({ "issue_number": 1, "project": "bank", "adw_id": "ffffffff" });
    let foreign = ok(&owner, "trigger_adw_workflow", foreign).await;
    let id = |run: &Value| run["adw_id"].as_str().unwrap().to_owned();
    (id(&own), id(&foreign))
}

/// The same question about what is another's and about what never was must have the same answer.
async fn assert_alike(world: &World, who: Who, method: &str, of: impl Fn(&str, &str) -> Value) {
    let foreign = who.ask(world, method, of("ffffffff", "bank")).await.to_string();
    let nothing = who.ask(world, method, of(NOBODY, NOWHERE)).await.to_string();
    let neutral = |text: &str| {
        text.replace("ffffffff", "ID")
            .replace(NOBODY, "ID")
            .replace("bank", "P")
            .replace(NOWHERE, "P")
    };
    assert_eq!(neutral(&foreign), neutral(&nothing), "{who:?} {method}");
    assert!(foreign.contains("error") || !foreign.contains("ffffffff"), "{foreign}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_run_is_told_of_as_an_id_that_never_was() {
    let world = world().await;
    two_runs(&world).await;
    for who in [Who::bound(Tier::Free), Who::bound(Tier::Team), Who::bound(Tier::Admin)] {
        for tool in [
            "get_adw_state",
            "get_adw_logs",
            "wait_adw_workflow",
            "cancel_adw_workflow",
            "resume_adw_workflow",
        ] {
            assert_alike(
                &world,
                who,
                "tools/call",
                |id, _| json!({ "name": tool, "arguments": { "adw_id": id } }),
            )
            .await;
        }
        for path in ["", "/state", "/log/plan", "/log/nophase"] {
            assert_alike(
                &world,
                who,
                "resources/read",
                |id, _| json!({ "uri": format!("adw://runs/{id}{path}") }),
            )
            .await;
        }
        for filter in ["adw_id_filter", "project", "cursor"] {
            assert_alike(&world, who, "tools/call", |id, project| {
                let value = match filter {
                    "project" => project.to_owned(),
                    "cursor" => format!("after:{id}"),
                    _ => id.to_owned(),
                };
                json!({ "name": "list_adw_workflows", "arguments": { filter: value } })
            })
            .await;
        }
        for (prompt, arguments) in
            [("diagnose_run", "adw_id"), ("run_issue", "project"), ("summarize_runs", "project")]
        {
            assert_alike(&world, who, "prompts/get", |id, project| {
                let mut given =
                    json!({ arguments: if arguments == "project" { project } else { id } });
                match prompt {
                    "run_issue" => given["issue_number"] = json!("1"),
                    "summarize_runs" => given["since"] = json!("2026-01-01T00:00:00Z"),
                    _ => {}
                }
                json!({ "name": prompt, "arguments": given })
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_meets_no_run_of_another_project() {
    let world = world().await;
    let (own, _) = two_runs(&world).await;
    let team = Who::bound(Tier::Team);
    for tool in ["trigger_adw_workflow", "trigger_adw_phase"] {
        assert_alike(&world, team, "tools/call", |_, project| {
            let mut given = json!({ "issue_number": 1, "project": project });
            if tool == "trigger_adw_phase" {
                given["phase"] = json!("build");
            }
            json!({ "name": tool, "arguments": given })
        })
        .await;
    }
    assert_alike(&world, team, "tools/call", |id, _| {
        let given = json!({ "issue_number": 1, "phase": "build", "adw_id": id });
        json!({ "name": "trigger_adw_phase", "arguments": given })
    })
    .await;
    // Without a project its only one is meant, though the daemon serves two.
    let joined = team.call(&world, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let joined = &joined["result"]["structuredContent"];
    assert_eq!((&joined["adw_id"], &joined["already_running"]), (&json!(own), &json!(true)));
    // Ids are one space for all: that one is taken shows, and nothing else about it does.
    let given = json!({ "issue_number": 2, "adw_id": "ffffffff" });
    let taken = team.call(&world, "trigger_adw_workflow", given).await.to_string();
    assert!(taken.contains("conflict") && taken.contains("cannot be used"), "{taken}");
    assert!(!taken.contains("bank") && !taken.contains("issue 1"), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_a_project_that_is_served_no_more_stay_with_who_is_bound_to_it() {
    let world = world().await;
    let owner = world.client((Road::Unix, Era::Modern)).await;
    let root = repository(world.socket.parent().unwrap(), "old");
    ok(&owner, "add_adw_project", json!({ "path": root, "name": "old" })).await;
    let run = json!({ "issue_number": 1, "project": "old" });
    let run = ok(&owner, "trigger_adw_workflow", run).await;
    let run = json!({ "adw_id": run["adw_id"] });
    ok(&owner, "cancel_adw_workflow", run.clone()).await;
    ok(&owner, "remove_adw_project", json!({ "name": "old" })).await;
    let client = Who { tier: Tier::Team, projects: &["old"] }.client(&world, Era::Modern).await;
    assert_eq!(ok(&client, "get_adw_state", run.clone()).await["status"], "cancelled");
    assert_eq!(ok(&client, "list_adw_workflows", json!({})).await["total"], 1);
    let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": 2 })).await;
    assert_eq!(error["code"], "no_project", "what else is served does not exist for it: {error}");
    let other = Who::bound(Tier::Team).client(&world, Era::Modern).await;
    assert_eq!(refused(&other, "get_adw_state", run).await["code"], "unknown_run");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_counts_and_completions_hold_its_own_alone() {
    let world = world().await;
    let (own, _) = two_runs(&world).await;
    let owner = world.client((Road::Unix, Era::Modern)).await;
    for issue in 2..=6 {
        for project in PROJECTS {
            let given = json!({ "issue_number": issue, "project": project });
            ok(&owner, "trigger_adw_workflow", given).await;
        }
    }
    for era in [Era::Legacy, Era::Modern] {
        let client = Who::bound(Tier::Free).client(&world, era).await;
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let mut given = json!({ "limit": 2 });
            if let Some(cursor) = &cursor {
                given["cursor"] = json!(cursor);
            }
            let page = ok(&client, "list_adw_workflows", given).await;
            assert_eq!(page["total"], 6);
            found.extend(page["workflows"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert_eq!(found.len() % 2, 0, "pages are full until the last");
            cursor = Some(next.to_owned());
        }
        assert_eq!(found.len(), 6);
        assert!(found.iter().all(|run| run["project"] == "shop"), "{found:?}");
        let state = ok(&client, "get_adw_state", json!({ "adw_id": own })).await;
        assert_eq!(state["queue_position"], 1, "{state:#}");
        let last = json!({ "adw_id": found[0]["adw_id"] });
        let last = ok(&client, "get_adw_state", last).await;
        assert_eq!(last["queue_position"], 6, "counted among those it knows: {last:#}");

        let projects = ok(&client, "list_adw_projects", json!({})).await;
        let names: Vec<&str> = projects["projects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|project| project["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["shop"]);
        let listed = client.list_all_resources().await.unwrap();
        assert!(listed.iter().all(|resource| resource.uri.starts_with("adw://")), "{listed:?}");
        assert_eq!(listed.len(), 7, "the list and six runs");
        let templates = client.list_all_resource_templates().await.unwrap();
        assert!(
            templates.iter().all(|t| t.uri_template.starts_with("adw://")) && !templates.is_empty()
        );
        let prompts = client.list_all_prompts().await.unwrap();
        let names: Vec<&str> = prompts.iter().map(|prompt| prompt.name.as_str()).collect();
        assert_eq!(names, ["run_issue", "diagnose_run", "summarize_runs"]);
        let template = "adw://runs/{adw_id}";
        let ids = client.complete_resource_simple(template, "adw_id", "").await.unwrap();
        assert_eq!(ids.len(), 6);
        let names = client.complete_prompt_simple("run_issue", "project", "").await.unwrap();
        assert_eq!(names, ["shop"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_project_is_not_there_for_it() {
    let world = world().await;
    let owner = world.client((Road::Unix, Era::Modern)).await;
    let values = one_of_each(&owner).await;
    let who = Who::bound(Tier::Admin);
    let client = who.client(&world, Era::Modern).await;
    let listed = client.list_all_tools().await.unwrap();
    for tool in adwd::mcp::tools::all() {
        let ours = tool.toolset().as_str() == "adw";
        let is_listed = listed.iter().any(|listed| listed.name == tool.name);
        assert_eq!(is_listed, ours, "{}", tool.name);
        if ours {
            continue;
        }
        let result = call(&client, tool.name, json!({})).await;
        assert_eq!(word(&result).as_deref(), Some("not_allowed"), "{}", tool.name);
        let text = result.structured_content.unwrap().to_string();
        assert!(text.contains("bound to the projects shop"), "{text}");
    }
    for (there, never) in [
        ("midex://workflow/current_step/{execution_id}", "midex://workflow/current_step/NO"),
        ("workflow-status://{execution_id}", "workflow-status://NO"),
        ("midex://workflow/workflow_details/bug-fix", "midex://workflow/workflow_details/NO"),
        ("midex://project/bank", "midex://project/NO"),
        ("writing://{workflow_id}/state", "writing://4711/state"),
    ] {
        let there = fill(there, &values);
        let one = who.ask(&world, "resources/read", json!({ "uri": there })).await;
        let other = who.ask(&world, "resources/read", json!({ "uri": never })).await;
        let neutral = |value: Value, uri: &str| value.to_string().replace(uri, "URI");
        assert_eq!(neutral(one, &there), neutral(other, never));
    }
    for (name, argument) in [("bug-fix", "task"), ("writing_status", "workflow_id")] {
        let given = json!({ "name": name, "arguments": { argument: "1" } });
        let told = who.ask(&world, "prompts/get", given).await;
        assert!(told["error"]["message"].as_str().unwrap().contains("Unknown prompt"), "{told}");
        let none = client.complete_prompt_simple(name, argument, "").await.unwrap();
        assert!(none.is_empty());
    }
    let instructions = client.peer_info().unwrap().instructions.clone().unwrap();
    assert!(instructions.contains("trigger_adw_workflow"));
    assert!(!instructions.contains("workflow_start") && !instructions.contains("books"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_another_project_is_unknown() {
    let world = world().await;
    let (own, _) = two_runs(&world).await;
    for id in ["ffffffff", NOBODY] {
        let client = http_client(
            &world.url,
            Some(&Who::bound(Tier::Team).key(&world).await),
            Era::Modern,
            Ear::with_tasks(),
        )
        .await;
        let asked = [
            client.get_task(rmcp::model::GetTaskParams::new(id)).await.map(drop).unwrap_err(),
            client.cancel_task(rmcp::model::CancelTaskParams::new(id)).await.map(drop).unwrap_err(),
        ];
        for error in asked {
            assert!(error.to_string().contains(&format!("Unknown task \"{id}\"")), "{error}");
        }
        client.get_task(rmcp::model::GetTaskParams::new(own.clone())).await.unwrap();
    }
    let owner = world.client((Road::Unix, Era::Modern)).await;
    let foreign = ok(&owner, "get_adw_state", json!({ "adw_id": "ffffffff" })).await;
    assert_eq!(foreign["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_spend_is_in_no_budget_that_is_told() {
    let some = Spend { usd: 9.0, tokens: 0 };
    let budget = BudgetConfig { project_day: some, day: some, ..BudgetConfig::default() };
    let world = world_with(budget).await;
    two_runs(&world).await;
    let who = Who::bound(Tier::Team);
    let names = async |who: Who, given: Value| {
        let answer = who.call(&world, "get_usage", given).await;
        let page = &answer["result"]["structuredContent"];
        let budgets = page["budgets"].as_array().unwrap_or_else(|| panic!("{answer:#}"));
        budgets.iter().map(|b| b["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for by in ["run", "project", "user", "day"] {
        assert_eq!(names(who, json!({ "by": by })).await, [""; 0], "by {by}");
    }
    assert_eq!(names(who, json!({ "project": "shop" })).await, ["shop"]);
    assert_alike(
        &world,
        who,
        "tools/call",
        |_, project| json!({ "name": "get_usage", "arguments": { "project": project } }),
    )
    .await;
    let free = names(Who { tier: Tier::Team, projects: &[] }, json!({ "project": "bank" })).await;
    assert_eq!(free.len(), 2, "who is bound to none is told both: {free:?}");
    let shown = who.call(&world, "list_mcp_invocations", json!({})).await.to_string();
    assert!(!shown.contains("manage keys"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_come_of_its_own_runs_alone() {
    let world = world().await;
    let (own, _) = two_runs(&world).await;
    let owner = world.client((Road::Unix, Era::Modern)).await;
    let execution = ok(&owner, "workflow_start", json!({ "workflow_name": "bug-fix" })).await;
    let execution = execution["execution_id"].as_str().unwrap();
    let client = Who::bound(Tier::Free).client(&world, Era::Modern).await;
    let filter = SubscriptionFilter::builder()
        .resources_list_changed()
        .resource_subscription("adw://runs")
        .resource_subscription("adw://runs/ffffffff")
        .resource_subscription(format!("adw://runs/{own}"))
        .resource_subscription(format!("midex://workflow/workflow_status/{execution}"))
        .build();
    let idle = world.changes.listeners();
    let mut changes = client.listen(filter).await.unwrap();
    until("the stream", || world.changes.listeners() > idle).await;
    // Everything that could be told of others comes first; then one of its own.
    ok(&owner, "trigger_adw_workflow", json!({ "issue_number": 7, "project": "bank" })).await;
    ok(&owner, "cancel_adw_workflow", json!({ "adw_id": "ffffffff" })).await;
    let pause = json!({ "execution_id": execution, "action": "pause" });
    ok(&owner, "workflow_control", pause).await;
    // Longer than the distance of two notices: whatever is due would be told.
    let silence = std::time::Duration::from_millis(1_200);
    let heard = tokio::time::timeout(silence, changes.next()).await;
    assert!(heard.is_err(), "told of what does not exist for it: {heard:?}");
    ok(&owner, "cancel_adw_workflow", json!({ "adw_id": own })).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(5), changes.next()).await;
        heard.push(serde_json::to_string(&next.unwrap().unwrap().unwrap()).unwrap());
    }
    for told in &heard {
        let of_own = told.contains(&own) || told.contains("\"adw://runs\"");
        assert!(of_own && !told.contains("ffffffff"), "{heard:?}");
    }
}
